"""``python -m fuzz COMMAND``."""

from __future__ import annotations

import argparse
import sys

import fuzz
from fuzz.packets import run as packets


def main() -> int:
    """Run a subcommand; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=fuzz.__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, module, text in (("packets", packets, "fuzz the packet path with libFuzzer"),):
        command = commands.add_parser(name, help=text, description=module.__doc__)
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    arguments = parser.parse_args()
    return int(arguments.run(arguments))


if __name__ == "__main__":
    sys.exit(main())
