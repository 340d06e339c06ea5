"""The pure core: state, events, and plans of ordered effects. No I/O, no clock, no randomness."""
