"""What data-parallel jobs share: extents of rack memory, and ways to move what one worker made for another."""
