"""Compile, run, test, draw and measure P4_16 programs for v1model."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from typing import NoReturn

from p4switch.cli.options import explain

_COMMANDS = {
    "compile": "compile a program: IR, P4Info",
    "run": "run a switch: packets on interfaces, P4Runtime on gRPC",
    "stf": "run a program against an .stf test",
    "graph": "draw a program: parser states and control flow",
    "bench": "measure a program's pipeline without packet I/O",
    "conformance": "run p4c's v1model tests from a copy of p4c",
}


# gRPC reads it when it is imported: calls and streams are polled by the threads that wait for them, not by a pool of threads of
# the library's that hands over to those; a call takes a quarter less time and CPU time.
GRPC_POLLING = "-event_engine_client,-event_engine_listener"


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line; the usage of some commands fills a screen."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (--help lists the options)\n")


def main() -> int:
    """Entry point; returns the exit status: 0 done, 1 failed, 2 refused (see README.md)."""
    os.environ.setdefault("GRPC_EXPERIMENTS", GRPC_POLLING)
    parser = _Parser(prog="python -m p4switch", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    wanted = sys.argv[1] if len(sys.argv) > 1 else None
    for name, text in _COMMANDS.items():
        sub = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        if name == wanted:  # a subcommand's imports cost only those who call it
            module = importlib.import_module(f"p4switch.cli.{name}")
            module.add_arguments(sub)
    arguments = parser.parse_args()
    try:
        result: int = importlib.import_module(f"p4switch.cli.{arguments.command}").run(arguments)
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        print(f"p4switch {arguments.command}: {explain(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return result


if __name__ == "__main__":
    sys.exit(main())
