"""Byte strings of P4Runtime (specification 8.3): any length in if the value fits, the shortest out (zero is one byte)."""

from __future__ import annotations

from p4switch.server.errors import invalid


def decode(value: bytes, width: int, what: str) -> int:
    """The number in a byte string; INVALID_ARGUMENT when it is empty or has more than ``width`` bits."""
    if not value:
        raise invalid(f"{what}: an empty byte string; a value of {width} bits has at least one byte")
    number = int.from_bytes(value, "big")
    if number >> width:
        raise invalid(f"{what}: {number:#x} does not fit into {width} bits")
    return number


def encode(number: int) -> bytes:
    """The canonical byte string."""
    return number.to_bytes(max(1, (number.bit_length() + 7) // 8), "big")


def prefix_mask(width: int, length: int, what: str) -> int:
    """The mask of an LPM prefix."""
    if not 0 <= length <= width:
        raise invalid(f"{what}: prefix length {length} is not in 0..{width}")
    return ((1 << length) - 1) << (width - length)
