"""The P4_16 compiler: source text to typed IR and P4Info."""
