"""What callers pass to the process API, before any of it is sent.

What no request can say, because a field of it has too few bits or a range is none, is refused here with a typed error that
names the value and what would be valid. What can be said is for the switch, the elements and the controller to judge.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

from hosts.errors import BadArgument
from protocol.wire import NAME_BYTES, PAGE_SIZE, Op

ADDRESSES = 1 << 64
_BITS = {"Q": 64, "I": 32, "H": 16, "B": 8}


@dataclass(frozen=True)
class Region:
    """Allocated memory: ``size`` bytes from ``va`` on."""

    va: int
    size: int


def packed(form: struct.Struct, op: Op, va: int, pid: int, /, **values: int | bytes) -> bytes:
    """The arguments of an operation at an address. Raises BadArgument when a number does not fit its field."""
    for (name, value), kind in zip(values.items(), re.findall(r"[QIHB]|\d+s", form.format), strict=True):
        if isinstance(value, int) and not 0 <= value < 1 << _BITS[kind]:
            raise BadArgument(op, va, pid, 0, _HERE, f"{name} is {value}; it must be from 0 to 2^{_BITS[kind]} - 1")
    return form.pack(*values.values())


def whole_pages(region: Region, op: Op, pid: int) -> int:
    """Whole pages of a region; its size must be a multiple of theirs, as the controller checks of its address. Raises
    BadArgument."""
    if region.size <= 0 or region.size % PAGE_SIZE:
        raise BadArgument(op, region.va, pid, 0, _HERE, f"{region.size} bytes are not whole pages of {PAGE_SIZE}")
    return region.size // PAGE_SIZE


def freed(va: int, size: int, pid: int) -> int:
    """Bytes to free; on the wire 0 is a whole allocation, which nobody means who says 0. Raises BadArgument."""
    if not size:
        raise BadArgument(
            Op.FREE, va, pid, 0, _HERE, "0 bytes are nothing to free; a whole allocation is freed without a size"
        )
    return size


def name_of(element: str, op: Op, pid: int) -> bytes:
    """The name of an element as it is sent. Raises BadArgument."""
    name = element.encode()
    if len(name) > NAME_BYTES:
        text = f"{element!r} is no name of an element: it has more than {NAME_BYTES} bytes"
        raise BadArgument(op, 0, pid, 0, _HERE, text)
    return name


def pages_touched(va: int, length: int, op: Op, pid: int) -> list[tuple[int, int]]:
    """A range of addresses cut at page boundaries: (address, bytes). Raises BadArgument when it is none."""
    if length < 0 or not 0 <= va <= va + length <= ADDRESSES:
        text = f"{length} bytes from {va:#x} on are no range of addresses, which are from 0 to 2^64 - 1"
        raise BadArgument(op, va, pid, 0, _HERE, text)
    return pieces(va, length)


def pieces(va: int, length: int) -> list[tuple[int, int]]:
    """A range of addresses cut at page boundaries: (address, bytes)."""
    result = []
    end = va + length
    while va < end:
        size = min(PAGE_SIZE - va % PAGE_SIZE, end - va)
        result.append((va, size))
        va += size
    return result


_HERE = "the process itself"
