"""Subcommands of ``python -m p4switch``, one module each with ``add_arguments(parser)`` and ``run(arguments) -> int``."""
