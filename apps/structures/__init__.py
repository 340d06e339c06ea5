"""Structures in remote memory that survive their writer: whoever gets the pages, at whatever instant, finds a whole state.

What they rest on (docs/protocol.md): a write that returned has taken effect; a write within one page takes effect whole or not at
all; of one that was under way, any part of its pages may have. Nothing else is assumed: no locks, no clean shutdown.
"""
