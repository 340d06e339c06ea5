"""Robustness: fuzzing of the packet path and the front end, sanitized test runs, the soak. ``python -m fuzz --help``.

Nothing of the product imports this package.
"""
