"""The embedded P4 switch: P4_16 source in, native code, P4Runtime out. Imports nothing else of the project."""
