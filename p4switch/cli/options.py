"""Types of options that several subcommands share, and how failures of the system are said.

Every type raises ``argparse.ArgumentTypeError`` that names what was found and what would be valid.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable

PORTS = 1 << 9  # v1model's ports have nine bits


def number(least: int, most: int | None = None) -> Callable[[str], int]:
    """A whole number in a range, bounds included."""

    def parse(text: str) -> int:
        if not text.isascii() or not text.isdigit() or int(text) < least or (most is not None and int(text) > most):
            valid = f"from {least} to {most}" if most is not None else f"of at least {least}"
            raise argparse.ArgumentTypeError(f"expected a whole number {valid}, found {text!r}")
        return int(text)

    return parse


port = number(0, PORTS - 1)


def seconds(text: str) -> float:
    """A time that is more than nothing and ends."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"expected seconds, more than 0, found {text!r}")
    return value


def address(text: str) -> str:
    """HOST:PORT, where an IPv6 address stands in brackets; ``unix:`` and a path is gRPC's other way."""
    host, colon, tcp_port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if text.startswith("unix:"):
        return text
    if not colon or not host or not tcp_port.isdigit() or int(tcp_port) > 0xFFFF or (":" in host and not bracketed):
        raise argparse.ArgumentTypeError(f"expected HOST:PORT with a port up to 65535, found {text!r}")
    return text


def explain(error: OSError) -> str:
    """What went wrong with which file, without the error's number."""
    if error.strerror is None:
        return str(error)
    return f"{error.filename}: {error.strerror}" if error.filename is not None else error.strerror
