"""Applications and libraries on top of remote memory."""
