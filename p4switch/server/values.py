"""Byte strings of P4Runtime (specification, "Bytestrings"): any length in if the value fits, the shortest out."""

from __future__ import annotations

from p4switch.server.errors import invalid, out_of_range


def show(value: bytes) -> str:
    """A byte string in a text, which is to stay short whatever a client sends."""
    digits = value.lstrip(b"\0").hex().lstrip("0") or "0"
    return f"0x{digits}" if len(digits) <= 64 else f"0x{digits[:64]}... ({len(value)} bytes)"


def decode(value: bytes, width: int, what: str) -> int:
    """The unsigned number in a byte string; OUT_OF_RANGE when it is empty or has more than ``width`` bits."""
    if not value:
        raise out_of_range(f"{what}: an empty byte string; a value of {width} bits has at least one byte")
    number = int.from_bytes(value, "big")
    if number >> width:
        raise out_of_range(f"{what}: {show(value)} does not fit into {width} bits")
    return number


def encode(number: int) -> bytes:
    """The canonical byte string of an unsigned number; zero is one byte."""
    return number.to_bytes((number.bit_length() + 7) // 8 or 1, "big")


def decode_signed(value: bytes, width: int, what: str) -> int:
    """The bits (two's complement, ``width`` of them) of a signed number; OUT_OF_RANGE when it does not fit."""
    if not value:
        raise out_of_range(f"{what}: an empty byte string; a value of {width} bits has at least one byte")
    number = int.from_bytes(value, "big", signed=True)
    if not -(1 << (width - 1)) <= number < 1 << (width - 1):
        raise out_of_range(f"{what}: {show(value)} does not fit into {width} bits with a sign")
    return number & ((1 << width) - 1)


def encode_signed(bits: int, width: int) -> bytes:
    """The canonical byte string of a signed number, given its bits."""
    number = bits - (1 << width) if bits >> (width - 1) else bits
    magnitude = number if number >= 0 else ~number
    return number.to_bytes(magnitude.bit_length() // 8 + 1, "big", signed=True)


def prefix_mask(width: int, length: int, what: str) -> int:
    """The mask of an LPM prefix."""
    if not 0 <= length <= width:
        raise invalid(f"{what}: prefix length {length} is not in 0..{width}")
    return ((1 << length) - 1) << (width - length)
