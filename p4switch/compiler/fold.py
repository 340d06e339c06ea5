"""Arithmetic on compile-time constants, exactly as P4_16 defines it (specification, sections 8.5 to 8.9)."""

from __future__ import annotations

from p4switch.compiler.types import BitsT

MAX_BITS = 8192  # of a number without a width; widths themselves are bounded


class FoldError(ValueError):
    """The operation has no value, such as a division by zero."""


def wrap(value: int, type_: BitsT) -> int:
    """The value modulo 2^width, as a two's complement number when signed."""
    value &= (1 << type_.width) - 1
    if type_.signed and type_.width and value >> (type_.width - 1):
        value -= 1 << type_.width
    return value


def saturate(value: int, type_: BitsT) -> int:
    """The nearest value that the type has."""
    if type_.signed:
        return max(-(1 << (type_.width - 1)), min(value, (1 << (type_.width - 1)) - 1))
    return max(0, min(value, (1 << type_.width) - 1))


def arithmetic(op: str, left: int, right: int, type_: BitsT | None) -> int:
    """``left op right`` for integers; ``type_`` is the type of both sides and the result, None for arbitrary precision.

    Raises FoldError.
    """
    if op in ("|+|", "|-|"):
        if type_ is None:
            raise FoldError("saturating arithmetic needs operands of a width")
        return saturate(left + right if op == "|+|" else left - right, type_)
    if op in ("/", "%"):
        if right == 0:
            raise FoldError("division by zero")
        if left < 0 or right < 0:
            raise FoldError(f"'{op}' is not defined for negative values")
        return left // right if op == "/" else left % right
    results = {
        "+": left + right,
        "-": left - right,
        "*": left * right,
        "&": left & right,
        "|": left | right,
        "^": left ^ right,
    }
    return _bounded(results[op]) if type_ is None else wrap(results[op], type_)


def _bounded(value: int) -> int:
    if value.bit_length() > MAX_BITS:
        raise FoldError(f"a number of {value.bit_length()} bits; at most {MAX_BITS} are supported")
    return value


def shift(op: str, left: int, amount: int, type_: BitsT | None) -> int:
    """``left << amount`` or ``left >> amount``; arithmetic for signed. Raises FoldError."""
    if amount < 0:
        raise FoldError("a shift by a negative amount")
    if type_ is None:
        if op == ">>":
            return left >> min(amount, MAX_BITS)
        if amount > MAX_BITS:
            raise FoldError(f"a shift by {amount} bits")
        return _bounded(left << amount)
    if amount >= type_.width:
        return -1 if op == ">>" and left < 0 else 0
    return wrap(left << amount if op == "<<" else left >> amount, type_)


def compare(op: str, left: int, right: int) -> bool:
    """A comparison."""
    return {
        "==": left == right,
        "!=": left != right,
        "<": left < right,
        "<=": left <= right,
        ">": left > right,
        ">=": left >= right,
    }[op]
