"""``python -m p4switch graph``: a drawing of a program's parser and control flow."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from p4switch.cli.compile import REFUSED, add_source_arguments, compile_or_explain
from p4switch.graph import PARTS, GraphError, build
from p4switch.graph.dot import to_dot
from p4switch.graph.model import Graph, to_json
from p4switch.graph.svg import to_svg

FAILED = 1
_FORMATS = {"svg": to_svg, "dot": to_dot, "json": to_json}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the subcommand."""
    add_source_arguments(parser)
    parser.add_argument("-o", dest="output", type=Path, metavar="FILE", help="default: standard output")
    parser.add_argument("--format", choices=_FORMATS, help="default: FILE's ending, or svg")
    parser.add_argument(
        "--part", choices=PARTS, action="append", help="draw only this part of the program (repeat it for several)"
    )


def _format(arguments: argparse.Namespace) -> str:
    ending = arguments.output.suffix.removeprefix(".") if arguments.output else ""
    return str(arguments.format or (ending if ending in _FORMATS else "svg"))


def run(arguments: argparse.Namespace) -> int:
    """Exit status 0, 1 when it cannot be drawn or written, 2 when the program is refused."""
    result = compile_or_explain(arguments)
    if result is None:
        return REFUSED
    graph: Graph = build(result.program, tuple(arguments.part or PARTS))
    try:
        text = _FORMATS[_format(arguments)](graph)
        if arguments.output:
            arguments.output.write_text(text, encoding="utf-8")
        else:
            sys.stdout.write(text)
    except GraphError as error:
        print(f"p4switch graph: {error}", file=sys.stderr)
        return FAILED
    return 0
