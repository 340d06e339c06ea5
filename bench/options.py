"""Command-line arguments that the benchmarks share."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Collection


def part_names(parts: Collection[str]) -> Callable[[str], list[str]]:
    """The type of an argument that names some of these parts, separated by commas; they come in the order of ``parts``."""

    def parse(text: str) -> list[str]:
        names = [name.strip() for name in text.split(",") if name.strip()]
        unknown = [name for name in names if name not in parts]
        if unknown or not names:
            raise argparse.ArgumentTypeError(f"no part {', '.join(unknown) or text!r}; there are {', '.join(parts)}")
        return [name for name in parts if name in names]

    return parse


def positive(text: str) -> int:
    """A number of repetitions."""
    if not text.isdigit() or not int(text):
        raise argparse.ArgumentTypeError(f"expected a number above 0, found {text!r}")
    return int(text)


def add_arguments(parser: argparse.ArgumentParser, parts: Collection[str], repetitions: int) -> None:
    """``--only`` and ``--repetitions``."""
    parser.add_argument(
        "--only", type=part_names(parts), default=list(parts), metavar="PART,...", help=f"of {', '.join(parts)}"
    )
    parser.add_argument(
        "--repetitions", type=positive, metavar="N", help=f"of everything (default {repetitions}, with --quick 1)"
    )
