"""The soak: a day's worth of packets, faster, with everything else that happens in a day, and a look at the memory (run.py)."""
