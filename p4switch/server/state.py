"""What is written to: a data plane with its schema, and the state that the data plane cannot tell back."""

from __future__ import annotations

from collections.abc import Callable, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from finsy.proto import p4r

from p4switch.dataplane import binding as dp
from p4switch.server.errors import exists, failure
from p4switch.server.links import Links
from p4switch.server.schema import Schema

K = TypeVar("K")
V = TypeVar("V")
FIRST_OWN_ID = 1 << 31  # members and groups that one-shots make; clients' ids stay below


@dataclass(frozen=True, slots=True)
class Extra:
    """What a table entry has besides what the data plane keeps. ``group`` is the one that a one-shot made."""

    metadata: bytes = b""
    one_shot: p4r.ActionProfileActionSet | None = None
    group: int = 0


@dataclass(frozen=True, slots=True)
class Weighted:
    """A member of a group: its id, weight, and the port that must be up (None: always chosen)."""

    member: int
    weight: int
    watch: int | None


@dataclass(frozen=True, slots=True)
class OwnMember:
    """A member that a one-shot made."""

    weighted: Weighted
    action: int
    data: bytes


@dataclass
class State:
    """Entities as the client wrote them, by id."""

    multicast: dict[int, p4r.MulticastGroupEntry] = field(default_factory=dict)
    sessions: dict[int, p4r.CloneSessionEntry] = field(default_factory=dict)
    members: dict[tuple[int, int], p4r.ActionProfileMember] = field(default_factory=dict)  # (profile, member)
    groups: dict[tuple[int, int], p4r.ActionProfileGroup] = field(default_factory=dict)  # (profile, group)
    one_shots: dict[tuple[int, int], tuple[OwnMember, ...]] = field(default_factory=dict)  # (profile, own group)
    value_sets: dict[int, p4r.ValueSetEntry] = field(default_factory=dict)
    digests: dict[int, p4r.DigestEntry] = field(default_factory=dict)
    extras: dict[tuple[int, int], Extra] = field(default_factory=dict)  # (table index, handle); handle 0: default
    own_ids: int = 0

    def own_id(self) -> int:
        """A new id for a member or group behind a one-shot."""
        self.own_ids = (self.own_ids + 1) % FIRST_OWN_ID
        return FIRST_OWN_ID + self.own_ids


@dataclass
class Target:
    """Where writes go. ``journal``, in a transaction, takes what puts things back, in order."""

    switch: dp.Switch
    schema: Schema
    state: State
    links: Links
    journal: list[Callable[[], None]] | None = None
    mark: Callable[[], Callable[[], None]] | None = None  # of the data plane's transaction

    def apply(self, updates: Sequence[dp.Update], *, all_or_none: bool = False) -> list[dp.Result]:
        """Change tables, undoably."""
        if self.journal is not None and self.mark is not None:
            self.journal.append(self.mark())
        return self.switch.apply(updates, all_or_none=all_or_none)

    def undo(self, call: Callable[[], None]) -> None:
        """Remember how to take back what is about to be, or has been, done."""
        if self.journal is not None:
            self.journal.append(call)

    def put(self, container: MutableMapping[K, V], key: K, value: V) -> None:
        """Set an item, undoably."""
        if self.journal is not None:
            if key in container:
                old = container[key]
                self.journal.append(lambda: container.__setitem__(key, old))
            else:
                self.journal.append(lambda: container.__delitem__(key))
        container[key] = value

    def drop(self, container: MutableMapping[K, V], key: K) -> V | None:
        """Remove an item, if there is one, undoably; returns it."""
        if key not in container:
            return None
        old = container.pop(key)
        self.undo(lambda: container.__setitem__(key, old))
        return old


def check_presence(present: bool, kind: int, what: str) -> None:
    """Only what is absent can be inserted, only what is there changed or deleted. Raises ALREADY_EXISTS or NOT_FOUND."""
    if kind == p4r.Update.INSERT and present:
        raise exists(what)
    if kind != p4r.Update.INSERT and not present:
        raise failure(dp.Code.NOT_FOUND, what)
