"""What a replica keeps: state and log in rack memory, or the state in local memory only.

In rack memory lie, by name: two logs, of which the one with the larger generation counts; the journal by which pages of the state
change all or nothing; and the pages. The state is that after some slot; the log has the promise, what was accepted above, and
some of what was chosen below, for peers that missed it.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Protocol

from apps.kv.machine import Machine
from apps.kv.pages import LocalPages, Pages, RackPages
from apps.paxos.messages import (
    CHOSEN,
    NO_BALLOT,
    AcceptedRun,
    Ballot,
    Committed,
    Membership,
    Promised,
    Record,
    decode_membership,
    decode_records,
    encode,
)
from apps.paxos.voter import Durable
from apps.structures.journal import Journal
from apps.structures.log import Log
from apps.structures.memory import PAGE, Memory, NotFormatted
from apps.structures.namespace import Entry as Place
from apps.structures.namespace import Namespace

NAMES_BYTES = 16 * PAGE
LOG_BYTES = 2 << 20
JOURNAL_BYTES = 320 * PAGE
OVERHEAD = NAMES_BYTES + 2 * LOG_BYTES + JOURNAL_BYTES  # bytes of rack memory beside the state
KEEP_DIRTY = 128  # pages: then the state is kept
KEEP_LOG = LOG_BYTES // 4  # bytes of log: then the state is kept and the log begins anew
_FIRST = struct.Struct("<QQ")  # generation of the log and whose it is, before the first record
Make = Callable[[Pages], Machine]


class Store(Protocol):
    """State and log. Every method may raise RemoteMemoryError: the memory is lost or another's."""

    machine: Machine | None  # None: there is no state yet, or not a whole one
    pages: Pages

    def recover(self) -> Durable:
        """What was kept."""

    def append(self, records: Sequence[Record]) -> None:
        """Make records durable."""

    def due(self) -> bool:
        """Whether the state should be kept soon."""

    def keep(
        self, promised: Ballot, membership: Membership | None, records: Sequence[Record], full: bool = False
    ) -> None:
        """Make the state as it is now durable; of the log only the promise and ``records`` are needed then. ``full``: there is no
        more room in the log. Raises Full if that is not enough."""

    def begin_install(self) -> None:
        """Another state is going to be loaded into the pages."""

    def finish_install(self, meta: bytes) -> None:
        """It is loaded; ``meta`` is its page 0."""


class LocalStore:
    """The ordinary way: nothing outlives the process."""

    def __init__(self, state_bytes: int, make: Make | None):
        """``make`` gives the first state; None for a replica that will get one from a peer."""
        self.pages: Pages = LocalPages(state_bytes // PAGE)
        self.machine = make(self.pages) if make is not None else None

    def recover(self) -> Durable:
        """Only what the process was started with."""
        if self.machine is None:
            return Durable()
        applied = self.machine.applied
        return Durable(applied=applied, state=True, membership=decode_membership(self.machine.extra), committed=applied)

    def append(self, records: Sequence[Record]) -> None:
        """Nothing is kept."""

    def due(self) -> bool:
        """Never."""
        return False

    def keep(
        self, promised: Ballot, membership: Membership | None, records: Sequence[Record], full: bool = False
    ) -> None:
        """Nothing is kept."""

    def begin_install(self) -> None:
        """The state is not whole from here on."""
        self.machine = None

    def finish_install(self, meta: bytes) -> None:
        """The state is whole."""
        self.pages.load(0, meta)
        self.machine = Machine.open(self.pages)


class RackStore:
    """State and log in one region of rack memory; ``me`` is whose they are."""

    def __init__(self, memory: Memory, names: Namespace, cache: int):
        self._logs = []
        for name in ("/log/0", "/log/1"):
            self._logs.append(Log.open(memory, names.lookup(name).va, replay=False))
        self._journal = Journal.open(memory, names.lookup("/journal").va)
        place = names.lookup("/pages")
        self.pages: Pages = RackPages(memory, place.va, place.size // PAGE, self._journal, cache)
        self._memory = memory
        try:
            self.machine: Machine | None = Machine.open(self.pages)
        except NotFormatted:
            self.machine = None
        firsts = [log.first() for log in self._logs]
        self._room = LOG_BYTES  # in the log when it was begun
        heads = [_FIRST.unpack_from(f) if f is not None else (0, 0) for f in firsts]
        self._generation, self.me = max(heads)
        self._current = heads.index(max(heads))

    @classmethod
    def create(
        cls,
        memory: Memory,
        va: int,
        size: int,
        me: int,
        make: Make | None,
        membership: Membership | None,
        cache: int = 4096,
    ) -> RackStore:
        """A new store of replica ``me`` in zeroed memory. ``make`` gives the first state, after slot 1; None: it will come from a
        peer."""
        names = Namespace.create(memory, va, NAMES_BYTES)
        at = va + NAMES_BYTES
        logs = []
        for _ in range(2):
            logs.append(Place(at, LOG_BYTES, "log"))
            Log.create(memory, at, LOG_BYTES)
            at += LOG_BYTES
        journal = Place(at, JOURNAL_BYTES, "journal")
        kept = Journal.create(memory, at, JOURNAL_BYTES)
        at += JOURNAL_BYTES
        place = Place(at, va + size - at, "pages")
        if make is not None:
            pages = RackPages(memory, place.va, place.size // PAGE, kept, cache)
            machine = make(pages)
            machine.extra = encode(membership)
            machine.keep()
        Log.open(memory, logs[0].va).append(_FIRST.pack(1, me) + encode([]))
        names.bind("/log/0", logs[0])
        names.bind("/log/1", logs[1])
        names.bind("/journal", journal)
        names.bind("/pages", place)
        return cls(memory, names, cache)

    @classmethod
    def open(cls, memory: Memory, va: int, cache: int = 4096) -> RackStore:
        """The store at ``va`` as its last writer left it. Raises NotFormatted or PathError when there is none."""
        return cls(memory, Namespace.open(memory, va), cache)

    def recover(self) -> Durable:
        """The state's slot and membership, and what the log has."""
        machine = self.machine
        durable = Durable()
        if machine is not None:
            durable.state = True
            durable.applied = durable.committed = machine.applied
            durable.membership = decode_membership(machine.extra)
        for number, data in enumerate(self._logs[self._current].replay()):
            for record in decode_records(data[_FIRST.size :] if number == 0 else data):
                _replay(durable, record)
        if machine is None:
            durable.applied = durable.committed
        return durable

    def append(self, records: Sequence[Record]) -> None:
        """Make records durable, in one write."""
        if records:
            self._logs[self._current].append(encode(records))

    def due(self) -> bool:
        """Whether many pages are dirty or the log is long."""
        return self.pages.dirty() >= KEEP_DIRTY or self._log_is_long()

    def _log_is_long(self) -> bool:
        return self._logs[self._current].free <= self._room - KEEP_LOG

    def keep(
        self, promised: Ballot, membership: Membership | None, records: Sequence[Record], full: bool = False
    ) -> None:
        """The pages first, then, if the log is long, a new one: the old one, too, is good for the new state."""
        if self.machine is not None:
            self.machine.extra = encode(membership)
            self.machine.keep()
        if self._log_is_long() or full:
            self._begin_log([Promised(promised), *records])

    def _begin_log(self, records: Sequence[Record]) -> None:
        other = self._logs[1 - self._current]
        other.clear()
        other.append(_FIRST.pack(self._generation + 1, self.me) + encode(records))
        self._generation += 1
        self._current = 1 - self._current
        self._room = other.free

    def begin_install(self) -> None:
        """The state is not whole from here on, also for whoever opens it."""
        self.machine = None
        self.pages.discard()
        self.pages.load(0, bytes(PAGE))

    def finish_install(self, meta: bytes) -> None:
        """The state is whole."""
        self.pages.load(0, meta)
        self.machine = Machine.open(self.pages)


def _replay(durable: Durable, record: Record) -> None:
    match record:
        case Promised(ballot):
            durable.promised = max(durable.promised, ballot)
        case AcceptedRun(ballot, first, entries):
            if ballot != CHOSEN:
                durable.promised = max(durable.promised, ballot)
            for slot, entry in enumerate(entries, first):
                old = durable.accepted.get(slot, (NO_BALLOT, None))[0]
                if old != CHOSEN:
                    durable.accepted[slot] = (ballot, entry)
        case Committed(slot, first):
            # Not those before ``first``: when a state was transferred, slots that it has may have other entries here.
            for known in [s for s in range(first, slot + 1) if s in durable.accepted]:
                durable.accepted[known] = (CHOSEN, durable.accepted[known][1])
            durable.committed = max(durable.committed, slot)
