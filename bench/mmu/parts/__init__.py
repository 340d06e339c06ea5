"""The parts of the benchmark; each has PART, ROOT (does it need a rack), ``steps`` and ``run``."""
