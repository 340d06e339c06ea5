"""Errors with a canonical gRPC code (google.rpc.Code) and a text that names the value and what would be valid."""

from __future__ import annotations

from enum import IntEnum

from p4switch.dataplane import binding as dp


class Code(IntEnum):
    """google.rpc.Code."""

    OK = 0
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13


LONGEST = 1500  # characters of a text: names come from clients, and statuses travel in metadata of 8 KiB


class P4RuntimeError(Exception):
    """A request, or one update of it, is refused."""

    def __init__(self, code: Code, message: str):
        self.code = code
        super().__init__(message if len(message) <= LONGEST else f"{message[:LONGEST]}...")


def invalid(message: str) -> P4RuntimeError:
    """INVALID_ARGUMENT."""
    return P4RuntimeError(Code.INVALID_ARGUMENT, message)


def not_found(message: str) -> P4RuntimeError:
    """NOT_FOUND."""
    return P4RuntimeError(Code.NOT_FOUND, message)


def exists(what: str) -> P4RuntimeError:
    """ALREADY_EXISTS."""
    return P4RuntimeError(Code.ALREADY_EXISTS, f"{what} exists already")


def denied(message: str) -> P4RuntimeError:
    """PERMISSION_DENIED."""
    return P4RuntimeError(Code.PERMISSION_DENIED, message)


def exhausted(message: str) -> P4RuntimeError:
    """RESOURCE_EXHAUSTED."""
    return P4RuntimeError(Code.RESOURCE_EXHAUSTED, message)


def out_of_range(message: str) -> P4RuntimeError:
    """OUT_OF_RANGE."""
    return P4RuntimeError(Code.OUT_OF_RANGE, message)


def unimplemented(message: str) -> P4RuntimeError:
    """UNIMPLEMENTED."""
    return P4RuntimeError(Code.UNIMPLEMENTED, message)


def aborted() -> P4RuntimeError:
    """ABORTED: what the other updates of a failed atomic batch get."""
    return P4RuntimeError(Code.ABORTED, "not done, because another update of the batch failed")


_FAILURES = {
    dp.Code.EXISTS: Code.ALREADY_EXISTS,
    dp.Code.NOT_FOUND: Code.NOT_FOUND,
    dp.Code.FULL: Code.RESOURCE_EXHAUSTED,
    dp.Code.NO_MEMORY: Code.RESOURCE_EXHAUSTED,
    dp.Code.CONST: Code.PERMISSION_DENIED,
    dp.Code.IN_USE: Code.FAILED_PRECONDITION,
    dp.Code.INVALID: Code.INVALID_ARGUMENT,
    dp.Code.STATE: Code.ABORTED,
}
_TEXTS = {
    dp.Code.EXISTS: "exists already",
    dp.Code.NOT_FOUND: "does not exist",
    dp.Code.CONST: "is const",
    dp.Code.IN_USE: "is in use: an entry or a group refers to it",
}


def failure(code: dp.Code, what: str) -> P4RuntimeError:
    """A data plane's refusal as P4Runtime error."""
    if code is dp.Code.STATE:
        return aborted()
    if code is dp.Code.FULL:
        return exhausted(f"{what}: the table is full")
    text = _TEXTS.get(code)
    detail = f"{what} {text}" if text else f"{what}: {code.name.lower().replace('_', ' ')}"
    return P4RuntimeError(_FAILURES.get(code, Code.INTERNAL), detail)
