"""What a loaded program looks like from the control side: tables, actions, externs, digests, in plain Python values.

Key fields and action parameters are numbers here; :class:`Fields` turns them into the bytes that ``p4prog.h`` prescribes (each in
``(width + 7) // 8`` bytes, network byte order, one after the other) and back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum


class MatchKind(IntEnum):
    """``p4prog_match_kind``."""

    EXACT = 0
    LPM = 1
    TERNARY = 2
    RANGE = 3
    OPTIONAL = 4
    SELECTOR = 5


class ExternKind(IntEnum):
    """``p4prog_extern_kind``."""

    COUNTER = 0
    DIRECT_COUNTER = 1
    METER = 2
    DIRECT_METER = 3
    REGISTER = 4
    ACTION_PROFILE = 5
    ACTION_SELECTOR = 6


class Unit(IntEnum):
    """``p4prog_unit``: what a counter or meter counts."""

    PACKETS = 0
    BYTES = 1
    PACKETS_AND_BYTES = 2


@dataclass(frozen=True, slots=True)
class Field:
    """A number of ``width`` bits at ``offset`` bytes. ``kind`` is set for key fields."""

    name: str
    width: int
    offset: int
    kind: MatchKind = MatchKind.EXACT

    @property
    def size(self) -> int:
        """Bytes."""
        return (self.width + 7) // 8

    @property
    def maximum(self) -> int:
        """The largest value, which is also the mask of all bits."""
        return (1 << self.width) - 1


class FieldError(ValueError):
    """A value does not fit its field, or there are too many or too few values."""


@dataclass(frozen=True, slots=True)
class Fields:
    """Fields that are stored one after the other."""

    fields: tuple[Field, ...]
    size: int

    def pack(self, values: Sequence[int]) -> bytes:
        """The bytes of these values, one a field. Raises :class:`FieldError`."""
        if len(values) != len(self.fields):
            names = ", ".join(f.name for f in self.fields) or "none"
            raise FieldError(f"{len(values)} values for {len(self.fields)} fields ({names})")
        for field, value in zip(self.fields, values, strict=True):
            if not 0 <= value <= field.maximum:
                raise FieldError(f"{field.name}: {value:#x} is not a number of {field.width} bits")
        return b"".join(v.to_bytes(f.size, "big") for f, v in zip(self.fields, values, strict=True))

    def unpack(self, data: bytes) -> tuple[int, ...]:
        """The values in these bytes."""
        return tuple(int.from_bytes(data[f.offset : f.offset + f.size], "big") for f in self.fields)

    def full_mask(self) -> bytes:
        """The mask of an entry that matches exactly."""
        return self.pack([f.maximum for f in self.fields])


@dataclass(frozen=True, slots=True)
class Action:
    """An action; ``params`` describes its data."""

    index: int
    name: str
    params: Fields


@dataclass(frozen=True, slots=True)
class Extern:
    """An extern instance; ``width`` is of a register's cells in bits, ``size`` their number."""

    index: int
    name: str
    kind: ExternKind
    size: int
    unit: Unit
    width: int


@dataclass(frozen=True, slots=True)
class Table:
    """A table. ``actions`` are those its entries may use."""

    index: int
    name: str
    keys: Fields
    actions: tuple[Action, ...]
    size: int
    default_action: Action
    const_default: bool
    const_entries: bool
    implementation: Extern | None
    counter: Extern | None
    meter: Extern | None
    idle_timeout: bool

    @property
    def has_priority(self) -> bool:
        """Whether entries have a priority: some key is ternary, range or optional."""
        return any(f.kind in (MatchKind.TERNARY, MatchKind.RANGE, MatchKind.OPTIONAL) for f in self.keys.fields)

    def action(self, name: str) -> Action:
        """One of the table's actions by name."""
        for action in self.actions:
            if action.name == name:
                return action
        raise KeyError(f"table {self.name} has no action {name!r}: {', '.join(a.name for a in self.actions)}")


@dataclass(frozen=True, slots=True)
class Digest:
    """A digest and the fields of one message."""

    index: int
    name: str
    fields: Fields


@dataclass(frozen=True, slots=True)
class ValueSet:
    """A parser value set."""

    index: int
    name: str
    keys: Fields
    size: int


@dataclass(frozen=True, slots=True)
class Layout:
    """A program, by names. The dictionaries keep the order of the descriptor."""

    name: str
    tables: dict[str, Table]
    actions: tuple[Action, ...]
    externs: dict[str, Extern]
    digests: dict[str, Digest]
    value_sets: dict[str, ValueSet]
    errors: tuple[str, ...]
