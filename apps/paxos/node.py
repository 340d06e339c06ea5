"""A replica without sockets, clocks and threads: the protocol, what is kept, the state machine and who waits for answers.

The caller hands in messages, requests and the time and then calls :meth:`Node.flush`, which keeps what has to be kept before it
gives back what may be sent: many inputs, one write to memory.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field

from apps.kv.commands import Answer, Status, decode_command
from apps.paxos.core import Core
from apps.paxos.messages import (
    CHOSEN,
    Accepted,
    AcceptedRun,
    Batch,
    Committed,
    Entry,
    Member,
    Message,
    Promise,
    Reconfigure,
    Record,
    Resign,
    StatePart,
    StateRequest,
)
from apps.paxos.store import Store
from apps.paxos.transfer import PATIENCE, REPLACED_PATIENCE, SILENT, Sink, Source
from apps.paxos.voter import Effects, Timing
from apps.structures.memory import PAGE, Full

KEEP_SLOTS = 2000  # slots whose entries are remembered for peers that missed them
KEEP_TAIL = 256  # of these, slots that go into a new log, for whoever is resumed from it
KEEP_TAIL_BYTES = 128 * 1024  # of their commands


@dataclass
class Output:
    """What to send: messages to replicas, answers to clients."""

    messages: list[tuple[int, Message]] = field(default_factory=list)
    answers: list[tuple[Hashable, Answer]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    excluded: bool = False


class Node:
    """One replica. Not thread-safe. What its memory raises comes out of every method: the replica is at an end then."""

    def __init__(
        self,
        me: int,
        store: Store,
        timing: Timing,
        rng: random.Random,
        now: float,
        spares: Iterable[Member] = (),
        eager: bool = False,
    ):
        self.me, self.store, self._rng = me, store, rng
        self.core = Core(me, store.recover(), timing, rng, now, spares, eager)
        self.counts: Counter[str] = Counter()
        self._waiting: defaultdict[tuple[int, int], list[Hashable]] = defaultdict(list)
        self._losses = 0
        self._sources: dict[int, Source] = {}
        self._sink: Sink | None = None
        self._no_room_at: tuple[int, int] | None = None  # where what it has to keep did not fit a new log
        self._messages: list[tuple[int, Message]] = []
        self._answers: list[tuple[Hashable, Answer]] = []

    @property
    def applied(self) -> int:
        """The last slot whose commands the state has."""
        return self.store.machine.applied if self.store.machine is not None else 0

    def request(self, client: Hashable, data: bytes, now: float) -> None:
        """A client's command. Raises msgspec.DecodeError for bytes that are none."""
        command = decode_command(data)
        if not self.core.is_leader:
            self._answers.append((client, self._not_leader(command.session, command.number)))
            return
        waiting = self._waiting[command.session, command.number]
        waiting.append(client)
        if len(waiting) == 1:
            self.core.submit([data], now)

    def reconfigure(self, remove: int, add: Member, now: float) -> None:
        """Put one replica in the place of another; only the leader can."""
        self.core.reconfigure(Reconfigure(remove, add), now)

    def receive(self, sender: int, message: Message, now: float) -> None:
        """A message of another replica."""
        match message:
            case StateRequest():
                self._on_state_request(sender, message, now)
            case StatePart():
                self._on_state_part(sender, message, now)
            case _:
                self.core.receive(sender, message, now)
                if isinstance(message, Resign) and self._sink is not None and self._sink.source == sender:
                    self._fail_transfer()

    def tick(self, now: float) -> None:
        """Let time pass."""
        self.core.tick(now)
        sink = self._sink
        if sink is not None:
            patience = PATIENCE if self.core.leader in (None, sink.source) else REPLACED_PATIENCE
            if now - sink.heard > patience:
                self._fail_transfer()
            else:
                self._messages += [(sink.source, r) for r in sink.requests(now)]
        for peer in [p for p, s in self._sources.items() if now - s.asked > 2 * PATIENCE]:
            self._end_source(peer)

    def flush(self, now: float) -> Output:
        """Keep, apply, and say what to send."""
        excluded, notes = False, list[str]()
        while True:
            effects = self.core.take()
            if not self._append(effects.records):  # no room: so it has not voted
                effects.messages = [m for m in effects.messages if not isinstance(m[1], Promise | Accepted)]
            self._messages += effects.messages
            excluded |= effects.excluded
            notes += effects.notes
            for slot, entry in effects.decided:
                if self.store.machine is not None:  # or the state that is being transferred will have it
                    self._apply(slot, entry)
                self._keep_if_due()
            if effects.needs_state_from is not None:
                self._begin_transfer(effects.needs_state_from, now)
            if not _any(effects):
                break
        self._keep_if_due()
        if self._losses != self.core.losses:
            self._losses = self.core.losses
            for (session, number), clients in self._waiting.items():
                self._answers += [(c, self._not_leader(session, number)) for c in clients]
            self._waiting.clear()
        output = Output(self._messages, self._answers, notes, excluded)
        self._messages, self._answers = [], []
        return output

    def _keep_if_due(self) -> None:
        """Not again where it failed: the state is kept then, but the log goes on as it is until fewer votes have to be kept."""
        where = self.core.committed, self.applied
        if not self.store.due() or self._no_room_at == where:
            return
        try:
            self.keep()
            self._no_room_at = None
        except Full:
            self.counts["logs without room"] += 1
            self._no_room_at = where

    def keep(self, full: bool = False) -> None:
        """Make the state durable as it is, so that nothing has to be replayed. ``full``: to make room in the log."""
        core = self.core
        last = core.committed if self.store.machine is None else self.applied
        tail: list[Entry] = []
        if self.store.machine is not None and not full:
            tail = core.newest(last, KEEP_TAIL, KEEP_TAIL_BYTES)
        above: list[Record] = [
            AcceptedRun(ballot, slot, (entry,))
            for slot, (ballot, entry) in sorted(core.accepted.items())
            if slot > last
        ]
        records = [AcceptedRun(CHOSEN, last + 1 - len(tail), tuple(tail)), *above, Committed(core.committed, last + 1)]
        self.store.keep(core.promised, core.membership, records, full)
        self.counts["kept"] += 1
        core.forget(self.applied - KEEP_SLOTS)

    def _append(self, records: list[Record]) -> bool:
        """Keep records; False when they do not fit a new log either, as may be while a long transfer of the state is awaited."""
        try:
            self.store.append(records)
        except Full:
            try:
                self.keep(full=True)
                self.store.append(records)
            except Full:
                self.counts["votes without room"] += 1
                return False
        return True

    def _not_leader(self, session: int, number: int) -> Answer:
        leader: tuple[str, ...] = ()
        if self.core.membership is not None and self.core.leader not in (None, self.me):
            member = self.core.membership.members.get(self.core.leader or 0)
            leader = member.addresses if member is not None else ()
        return Answer(session, number, Status.NOT_LEADER, leader=leader)

    def _apply(self, slot: int, entry: Entry) -> None:
        machine = self.store.machine
        assert machine is not None
        answers = machine.apply(slot, entry.commands if isinstance(entry, Batch) else ())
        self.counts["commands"] += len(answers)
        for answer in answers:
            for client in self._waiting.pop((answer.session, answer.number), ()):
                self._answers.append((client, answer))

    # -------------------------------------------------------------------------------------------------------------- transfer

    def _begin_transfer(self, source: int, now: float) -> None:
        self._sink = Sink(source, self._rng.getrandbits(48), now)
        self._messages += [(source, r) for r in self._sink.requests(now)]

    def _fail_transfer(self) -> None:
        """Its source is gone, or behind; the next that turns out to have more is asked."""
        self._sink = None
        self.core.transfer_failed()

    def _on_state_request(self, sender: int, message: StateRequest, now: float) -> None:
        machine = self.store.machine
        source = self._sources.get(sender)
        if source is None or source.transfer != message.transfer:
            if machine is None or self._gives_to_another(sender, now):
                return
            source = self._sources[sender] = Source(machine, message.transfer, self._rng.getrandbits(48), now)
            self.store.pages.watch(self._page_changed)
        part = source.part(message.position, self.core.membership, now)
        if part is not None:
            self.counts["state bytes sent"] += len(part.pages) * PAGE
            self._messages.append((sender, part))

    def _gives_to_another(self, sender: int, now: float) -> bool:
        """One copies at a time: it discards its own state first, and the next had better keep its own until there are two."""
        return any(peer != sender and now - source.asked < SILENT for peer, source in self._sources.items())

    def _end_source(self, peer: int) -> None:
        del self._sources[peer]
        if not self._sources:
            self.store.pages.watch(None)

    def _page_changed(self, number: int) -> None:
        for source in self._sources.values():
            source.changed(number)

    def _on_state_part(self, sender: int, message: StatePart, now: float) -> None:
        sink = self._sink
        if sink is None or sender != sink.source:
            return
        if message.transfer == sink.transfer and self.store.machine is not None:
            self.core.installing()
            self._sources.clear()
            self.store.begin_install()
        last = sink.take(message, self.store.pages, now)
        self.counts["state bytes received"] += len(message.pages) * PAGE
        if last is None:
            self._messages += [(sender, r) for r in sink.requests(now)]
            return
        assert last.membership is not None
        if last.slot < self.core.committed:  # chosen slots, which may be forgotten here, would be missing for ever
            self._fail_transfer()
            return
        self._sink = None
        self.store.finish_install(next(data for number, data in last.pages if number == 0))
        self.core.installed(last.slot, last.membership, now)
        if self.counts["votes without room"]:
            self.keep(full=True)  # or what is chosen from here on would be marked so in a log that has older entries


def _any(effects: Effects) -> bool:
    return bool(effects.records or effects.messages or effects.decided or effects.needs_state_from)
