"""Where a frame differs from what a test expected: field by field, by the headers that the deparser emitted.

Which headers a frame consists of is known from the trace of a second run of the same test; what follows them is payload.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from p4switch.compiler import ir

_EMITTED = re.compile(r"(?P<path>\S+) \((?P<type>.+)\)$")


@dataclass(frozen=True)
class Mismatch:
    """The ``index``-th frame that came to a port, and what was expected: hexadecimal digits, ``*`` for any."""

    port: int
    index: int
    seen: bytes
    expected: str


@dataclass(frozen=True)
class _Part:
    """A field or the payload: bits from ``start`` to ``end`` of a frame."""

    name: str
    start: int
    end: int


def emitted(trace: Iterable[str]) -> dict[int, list[list[tuple[str, str]]]]:
    """For each port the (path, type) of the headers of each frame that left there, from a JSON trace."""
    frames: dict[int, list[list[tuple[str, str]]]] = defaultdict(list)
    headers: list[tuple[str, str]] = []
    for line in trace:
        event = json.loads(line)
        if event["event"] == "emit" and (match := _EMITTED.match(event["detail"])):
            headers.append((match["path"], match["type"]))
        elif event["event"] in ("egress", "output"):
            if event["event"] == "output":
                frames[event["port"]].append(headers)
            headers = []
    return frames


def explain(program: ir.Program, mismatch: Mismatch, headers: Iterable[tuple[str, str]]) -> list[str]:
    """One line a field that is not as expected, and one for the payload."""
    digits = mismatch.expected
    value = int(digits.replace("*", "0") or "0", 16)
    mask = int("".join("0" if d == "*" else "f" for d in digits) or "0", 16)
    length, seen = 4 * len(digits), int.from_bytes(mismatch.seen, "big")
    size = 8 * len(mismatch.seen)
    lines = []
    for part in _parts(program, headers, max(size, length)):
        width = part.end - part.start
        if part.start >= length:  # nothing is expected there; that the frame ends is said beside it
            continue
        shown = min(part.end, length) - part.start
        want = value >> (length - part.start - shown) & (1 << shown) - 1
        care = mask >> (length - part.start - shown) & (1 << shown) - 1
        if part.end > size:
            lines.append(f"{part.name}: expected {_number(want, care, shown)}, the frame ends before")
            continue
        found = seen >> (size - part.end) & (1 << width) - 1
        if (found >> (width - shown) ^ want) & care:
            lines.append(f"{part.name}: expected {_number(want, care, shown)}, seen {_number(found, -1, width)}")
    return lines


def _parts(program: ir.Program, headers: Iterable[tuple[str, str]], size: int) -> Iterator[_Part]:
    types = {h.name: h for h in program.headers}
    at = 0
    for path, name in headers:
        for field in types[name].fields if name in types else ():
            width = _width(field.type)
            if width is None:  # a varbit: where the rest begins is not known
                yield _Part(f"{path}.{field.name} and what follows", at, size)
                return
            yield _Part(f"{path}.{field.name}", at, at + width)
            at += width
    if at < size:
        yield _Part(f"payload from byte {at // 8}", at, size)


def _width(type_: ir.Type) -> int | None:
    if isinstance(type_, ir.Bits):
        return type_.width
    return 1 if isinstance(type_, ir.Bool) else None


def _number(value: int, care: int, width: int) -> str:
    """In hexadecimal, ``*`` for digits of which nothing matters; long ones as they are on the wire."""
    count = -(-width // 4)
    digits = (f"{value >> 4 * i & 15:x}" if care >> 4 * i & 15 else "*" for i in reversed(range(count)))
    return f"0x{''.join(digits)} ({width} bits)" if width <= 128 else "".join(digits)
