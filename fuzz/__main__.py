"""``python -m fuzz COMMAND``."""

from __future__ import annotations

import argparse
import sys
from typing import Any

import fuzz
from fuzz import sanitize
from fuzz.packets import run as packets
from fuzz.soak import run as soak
from fuzz.sources import run as sources


def main() -> int:
    """Run a subcommand; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=fuzz.__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    modules: tuple[tuple[str, Any, str], ...] = (
        ("packets", packets, "fuzz the packet path with libFuzzer"),
        ("sources", sources, "fuzz the front end with broken and grown programs"),
        ("soak", soak, "a day's packets, and whether memory grows"),
        ("sanitize", sanitize, "run tests of the data plane under the sanitizers"),
    )
    for name, module, text in modules:
        command = commands.add_parser(name, help=text, description=module.__doc__)
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    arguments = parser.parse_args()
    return int(arguments.run(arguments))


if __name__ == "__main__":
    sys.exit(main())
