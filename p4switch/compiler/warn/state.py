"""What is known at one point of a program: which values may be unwritten, and which headers are valid."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, auto

Place = tuple[int | str, ...]  # id of the declaration, then fields and indices


class Validity(Enum):
    """Of a header. GUARDED values were learnt from ``isValid()``, not made by the program: where two paths meet they say
    nothing about the paths behind, since a later condition may depend on the same fact."""

    YES = auto()
    NO = auto()
    MAYBE = auto()
    UNKNOWN = auto()
    GUARDED_YES = auto()
    GUARDED_NO = auto()


_VALID = (Validity.YES, Validity.GUARDED_YES)
_INVALID = (Validity.NO, Validity.GUARDED_NO)
_GUARDED = (Validity.GUARDED_YES, Validity.GUARDED_NO)


def is_valid(value: Validity) -> bool:
    """Whether the header is certainly valid."""
    return value in _VALID


def is_invalid(value: Validity) -> bool:
    """Whether the header is certainly invalid."""
    return value in _INVALID


def meet(left: Validity, right: Validity) -> Validity:
    """What is known where two paths come together.

    MAYBE only where the program itself left the header invalid on one path and no guard is concerned."""
    if left is right:
        return left
    both = {left, right}
    if both <= set(_VALID):
        return Validity.YES
    if both <= set(_INVALID):
        return Validity.NO
    if Validity.GUARDED_NO in both:
        return Validity.UNKNOWN
    if Validity.MAYBE in both or Validity.NO in both:
        return Validity.MAYBE
    return Validity.UNKNOWN


@dataclass(slots=True)
class State:
    """``unwritten`` are leaves that some path has not written; headers not in ``validity`` are UNKNOWN."""

    unwritten: set[Place] = field(default_factory=set)
    validity: dict[Place, Validity] = field(default_factory=dict)

    def copy(self) -> State:
        """An independent state."""
        return State(set(self.unwritten), dict(self.validity))

    def of(self, header: Place) -> Validity:
        """What is known of a header."""
        return self.validity.get(header, Validity.UNKNOWN)


def join(left: State | None, right: State | None) -> State | None:
    """The state where two paths meet; None is a path that is never taken."""
    if left is None or right is None:
        return right if left is None else left
    unwritten = left.unwritten | right.unwritten
    if left.validity == right.validity:
        return State(unwritten, dict(left.validity))
    known = left.validity.keys() | right.validity.keys()
    return State(unwritten, {h: meet(left.of(h), right.of(h)) for h in known})


def join_outcomes(left: State | None, right: State | None) -> State | None:
    """As :func:`join`, for actions of a table: the control plane chooses, and may know what the paths behind do."""
    joined = join(left, right)
    if joined is not None and left is not None and right is not None:
        for header, validity in joined.validity.items():
            if validity is Validity.MAYBE and left.of(header) is not right.of(header):
                joined.validity[header] = Validity.UNKNOWN
    return joined


def join_branches(before: State, left: State | None, right: State | None) -> State | None:
    """As :func:`join`, for the two arms of a condition: a header that only the condition distinguished is as before."""
    joined = join(left, right)
    if joined is None or left is None or right is None:
        return joined
    for header in joined.validity:
        here, there, earlier = left.of(header), right.of(header), before.of(header)
        if here is not there and all(v in _GUARDED or v is earlier for v in (here, there)):
            joined.validity[header] = earlier
    return joined
