"""The part of every replica in multi-Paxos: it promises, accepts and learns what is chosen. No input or output.

Who decides a slot follows from the slots up to ``WINDOW`` before it (Lamport, Malkhi and Zhou, Reconfiguring a State Machine).
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from apps.paxos.leader import Leadership, Recovery
from apps.paxos.messages import (
    CHOSEN,
    NO_BALLOT,
    Accept,
    Accepted,
    AcceptedRun,
    Ballot,
    Batch,
    Committed,
    Compacted,
    Configuration,
    Entry,
    Excluded,
    Fetch,
    Heartbeat,
    HeartbeatAck,
    Learn,
    Member,
    Membership,
    Message,
    Prepare,
    Promise,
    Promised,
    Reconfigure,
    Record,
    Reject,
    Report,
    Resign,
)

WINDOW = 16  # slots that may be proposed beyond the last one that is known to be chosen
MAX_LEARN = 64  # slots of one Learn
MAX_LEARN_BYTES = 256 * 1024


@dataclass(frozen=True)
class Timing:
    """Seconds. An election begins after ``election`` to twice that without a leader; ``replace``: after how much silence a member
    is replaced by a spare, 0 for never."""

    heartbeat: float = 0.1
    election: float = 1.0
    retransmit: float = 0.2
    replace: float = 0.0


@dataclass
class Durable:
    """What a replica has kept: the state after slot ``applied`` with its membership, the log above it, and what is left of the
    log below it. Without a ``state`` all up to ``applied`` is known to be chosen, but not what."""

    promised: Ballot = NO_BALLOT
    applied: int = 0
    state: bool = False
    membership: Membership | None = None
    committed: int = 0
    accepted: dict[int, tuple[Ballot, Entry]] = field(default_factory=dict)


@dataclass
class Effects:
    """What to do, in this order: keep the records, then send, then carry out what was decided."""

    records: list[Record] = field(default_factory=list)
    messages: list[tuple[int, Message]] = field(default_factory=list)
    decided: list[tuple[int, Entry]] = field(default_factory=list)
    needs_state_from: int | None = None  # its log cannot be had any more: transfer the state, then ``install``
    excluded: bool = False  # no member any more: stop
    notes: list[str] = field(default_factory=list)  # what happened, for people


class Voter:
    """A replica without the part of the leader."""

    def __init__(
        self,
        me: int,
        durable: Durable,
        timing: Timing,
        rng: random.Random,
        now: float,
        spares: Iterable[Member] = (),
        eager: bool = False,
    ):
        """``eager``: stand for election at once."""
        self.me, self.timing, self.rng = me, timing, rng
        self.promised = durable.promised
        self.membership = durable.membership
        self.committed = durable.applied
        self.floor = durable.applied  # entries up to here are not kept
        while durable.accepted.get(self.floor, (NO_BALLOT, None))[0] == CHOSEN:
            self.floor -= 1  # the state has these, but peers may ask for them
        self.accepted = {s: a for s, a in durable.accepted.items() if s > self.floor}
        self.spares = tuple(spares)
        self.leader: int | None = None  # the last one heard of
        self.leading: Leadership | None = None
        self.recovery: Recovery | None = None  # phase 1 under way
        self.queue: deque[bytes] = deque()  # commands of clients that have no slot yet
        self._reconfigure: deque[Reconfigure] = deque()
        self._lost: set[int] = set()  # who has said that its memory is gone
        self._leader_heard = float("-inf")
        self._election_at = now
        self._highest_round = durable.promised.round
        self._next_fetch = float("-inf")
        self._stateless = not durable.state  # only an acceptor until a state has been transferred
        self._transferring = False
        self.losses = 0  # how often it has lost the leadership
        self._effects = Effects()
        if durable.promised.replica != me and not eager:  # who was leading or about to goes on at once
            self._postpone_election(now)
        for slot in range(self.committed + 1, durable.committed + 1):
            self._choose(slot)

    def take(self) -> Effects:
        """All effects since the last call."""
        if self._effects.decided:
            self._effects.records.append(Committed(self.committed, self._effects.decided[0][0]))
        effects, self._effects = self._effects, Effects()
        return effects

    def installing(self) -> None:
        """The state is being replaced by one that is transferred; it is not whole from here on."""
        self._stateless = True

    def installed(self, slot: int, membership: Membership, now: float) -> None:
        """The state after ``slot`` has been transferred and kept."""
        self._transferring = self._stateless = False
        self._effects.notes.append(f"transfer of the state ended: slot {slot}")
        if slot > self.committed:
            self.committed = self.floor = slot
            self.accepted = {s: a for s, a in self.accepted.items() if s > slot}
            self.membership = membership
            self._know_chosen()
        self._postpone_election(now)

    def transfer_failed(self) -> None:
        """The state could not be had from that replica; ask again."""
        self._transferring = False
        self._effects.notes.append("transfer of the state failed")

    def forget(self, slot: int) -> None:
        """Keep no entries up to ``slot`` any more; they must have been applied durably."""
        for old in range(self.floor + 1, min(slot, self.committed) + 1):
            self.accepted.pop(old, None)
        self.floor = max(self.floor, min(slot, self.committed))

    def newest(self, last: int, slots: int, size: int) -> list[Entry]:
        """The chosen entries up to slot ``last``, as many of the newest as there are, at most ``slots`` with ``size`` bytes."""
        entries: list[Entry] = []
        for slot in range(last, max(self.floor, last - slots), -1):
            entry = self.accepted[slot][1]
            size -= _size(entry)
            if size < 0:
                break
            entries.append(entry)
        return entries[::-1]

    # ------------------------------------------------------------------------------------------------------------- helpers

    def _send(self, to: int, message: Message) -> None:
        self._effects.messages.append((to, message))

    def _broadcast(self, message: Message) -> None:
        if self.membership is not None:
            for member in self.membership.members:
                if member != self.me:
                    self._send(member, message)

    def _postpone_election(self, now: float) -> None:
        self._election_at = now + self.timing.election * (1 + self.rng.random())

    def _promise(self, ballot: Ballot) -> None:
        if ballot > self.promised:
            self.promised = ballot
            self._highest_round = max(self._highest_round, ballot.round)
            self._effects.records.append(Promised(ballot))

    def _step_down(self) -> None:
        self.losses += self.leading is not None
        self.leading = self.recovery = None
        self.queue.clear()
        self._reconfigure.clear()

    def _follow(self, leader: int, ballot: Ballot, now: float) -> None:
        """A leader of this ballot exists; it is at least what was promised."""
        if ballot.replica != self.me:
            self._step_down()
        self._promise(ballot)
        self.leader, self._leader_heard = leader, now
        self._postpone_election(now)

    def _fetch(self, source: int, now: float) -> None:
        if self._stateless and not self._transferring:
            self._need_state(source)
        elif not self._transferring and now >= self._next_fetch:
            self._next_fetch = now + self.timing.retransmit
            self._send(source, Fetch(self.committed + 1))

    def _need_state(self, source: int) -> None:
        self.recovery = None
        self._transferring = True
        self._effects.notes.append(f"transfer of the state from replica {source} begins")
        self._effects.needs_state_from = source

    # ------------------------------------------------------------------------------------------------------ what is chosen

    def _choose(self, slot: int) -> None:
        """The entry accepted in the next slot is chosen."""
        _, entry = self.accepted[slot]
        self.accepted[slot] = (CHOSEN, entry)
        self.committed = slot
        self._effects.decided.append((slot, entry))
        membership = self.membership
        if membership is None:
            return
        if isinstance(entry, Reconfigure):
            membership = _changed(membership, entry, slot)
        if membership.pending is not None and slot + 1 >= membership.pending.since:
            gone = membership.current.ids - membership.pending.ids
            membership = Membership(membership.pending, None, (*membership.retired, *sorted(gone)))
            for member in gone - {self.me}:
                self._send(member, Excluded(membership.current.since))  # it may not hear of it otherwise
            if self.me in gone:
                self._leave()
        self.membership = membership

    def _leave(self) -> None:
        """This replica has been replaced: the others need not wait to notice."""
        if self.leading is not None:
            self._broadcast(Heartbeat(self.leading.ballot, self.committed))
            self._broadcast(Resign(False))
        self._effects.excluded = True

    def _know_chosen(self) -> None:
        """Go on over slots that are known to be chosen."""
        while (found := self.accepted.get(self.committed + 1)) is not None and found[0] == CHOSEN:
            self._choose(self.committed + 1)

    def _commit_to(self, ballot: Ballot, slot: int, sender: int, now: float) -> None:
        """The leader of ``ballot`` knows all up to ``slot``: so what was accepted from it there is chosen."""
        if self._stateless:
            self._fetch(sender, now)
            return
        while self.committed < slot:
            found = self.accepted.get(self.committed + 1)
            if found is None or found[0] not in (ballot, CHOSEN):
                self._fetch(sender, now)
                return
            self._choose(self.committed + 1)

    # ------------------------------------------------------------------------------------------------------------ acceptor

    def _on_prepare(self, sender: int, message: Prepare, now: float) -> None:
        membership = self.membership
        if membership is not None and sender not in membership.members:
            if sender in membership.retired:
                self._send(sender, Excluded(membership.current.since))
            elif message.committed > self.committed:
                self._fetch(sender, now)  # it knows of a membership that is news here
            return
        if sender != self.leader and now < self._leader_heard + self.timing.election and message.ballot > self.promised:
            return  # a leader lives: whoever does not hear it shall not depose it
        if message.ballot < self.promised:
            self._send(sender, Reject(self.promised))
            return
        if message.ballot > self.promised:
            self._step_down()
            self._promise(message.ballot)
            self.leader = None
        self._postpone_election(now)
        reports = (Report(s, b, e) for s, (b, e) in sorted(self.accepted.items()) if s > self.committed)
        self._send(sender, Promise(message.ballot, self.committed, tuple(reports)))

    def _on_accept(self, sender: int, message: Accept, now: float) -> None:
        if message.ballot < self.promised:
            self._send(sender, Reject(self.promised))
            return
        self._follow(sender, message.ballot, now)
        for slot, entry in enumerate(message.entries, message.first):
            if slot > self.committed and self.accepted.get(slot, (NO_BALLOT, None))[0] != CHOSEN:
                self.accepted[slot] = (message.ballot, entry)
        self._effects.records.append(AcceptedRun(message.ballot, message.first, message.entries))
        self._send(sender, Accepted(message.ballot, message.first, len(message.entries)))
        self._commit_to(message.ballot, message.committed, sender, now)

    def _on_heartbeat(self, sender: int, message: Heartbeat, now: float) -> None:
        if message.ballot < self.promised:
            self._send(sender, Reject(self.promised))
            return
        self._follow(sender, message.ballot, now)
        self._commit_to(message.ballot, message.committed, sender, now)
        self._send(sender, HeartbeatAck(message.ballot, 0 if self._stateless else self.committed))

    # ------------------------------------------------------------------------------------------------------------- learner

    def _on_fetch(self, sender: int, message: Fetch) -> None:
        membership = self.membership
        if membership is not None and sender in membership.retired:
            self._send(sender, Excluded(membership.current.since))
        elif message.first <= self.floor:
            self._send(sender, Compacted(self.floor))
        elif message.first <= self.committed:
            entries: list[Entry] = []
            size = 0
            for slot in range(message.first, min(self.committed, message.first + MAX_LEARN - 1) + 1):
                entry = self.accepted[slot][1]
                entries.append(entry)
                size += _size(entry)
                if size > MAX_LEARN_BYTES:
                    break
            self._send(sender, Learn(message.first, tuple(entries), self.committed))

    def _on_compacted(self, sender: int, message: Compacted) -> None:
        if message.floor > self.committed and self.leading is None and not self._transferring:
            self._need_state(sender)

    def _on_excluded(self, message: Excluded) -> None:
        if self.membership is not None and message.since >= self.membership.current.since:
            if self.membership.pending is None or self.me not in self.membership.pending.ids:
                self._effects.excluded = True


def _size(entry: Entry) -> int:
    """Of its commands, in bytes."""
    return sum(map(len, entry.commands)) if isinstance(entry, Batch) else 0


def _changed(membership: Membership, change: Reconfigure, slot: int) -> Membership:
    """The membership after this change was decided in a slot."""
    taken = {*membership.members, *membership.retired}
    if membership.pending is not None or change.remove not in membership.current.ids or change.add.id in taken:
        return membership
    kept = tuple(m for m in membership.current.members if m.id != change.remove)
    pending = Configuration(slot + WINDOW, (*kept, change.add))
    return Membership(membership.current, pending, membership.retired)
