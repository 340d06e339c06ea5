"""Fuzzing of the front end: mutated and grown P4 sources, which end in diagnostics or in valid IR, P4Info and C."""
