"""What a leader keeps in mind: who promised what in phase 1, and which slots of phase 2 wait for answers."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from apps.paxos.messages import (
    NO_BALLOT,
    NO_OP,
    Ballot,
    Batch,
    Configuration,
    Entry,
    Membership,
    Promise,
    Reconfigure,
)

NEARLY = 100  # slots; a member that is so far behind has what matters
MAX_BATCH = 64  # commands in a slot
MAX_BATCH_BYTES = 32 * 1024


@dataclass
class Recovery:
    """Phase 1 of a ballot."""

    ballot: Ballot
    repeat_at: float
    promises: set[int] = field(default_factory=set)
    committed: dict[int, int] = field(default_factory=dict)  # of those that promised
    found: dict[int, tuple[Ballot, Entry]] = field(default_factory=dict)  # by slot, of the largest ballot

    def add(self, sender: int, promise: Promise) -> None:
        """Take in a promise."""
        self.promises.add(sender)
        self.committed[sender] = promise.committed
        for report in promise.accepted:
            if report.ballot > self.found.get(report.slot, (NO_BALLOT, NO_OP))[0]:
                self.found[report.slot] = (report.ballot, report.entry)

    def has_majority(self, configuration: Configuration) -> bool:
        """Whether a majority of these members has promised."""
        return configuration.has_majority(self.promises)

    def most_advanced(self) -> int:
        """Who knows most slots to be chosen."""
        return max(self.committed, key=lambda r: (self.committed[r], -r))


@dataclass
class _Proposal:
    entry: Entry
    sent: float
    voters: set[int]


class Leadership:
    """The time in office of one ballot, from the end of phase 1 on."""

    def __init__(self, recovered: Recovery, next_slot: int, now: float, members: Iterable[int]):
        self.ballot = recovered.ballot
        self.recovered = recovered
        self.next_slot = next_slot
        self.in_flight: dict[int, _Proposal] = {}
        self.up_to_date: set[int] = set()  # who has had nearly all that is chosen, with the state
        self.heartbeat_at = self.prepare_at = now
        self._heard = dict.fromkeys(members, now)
        self._silent: set[int] = set()

    def heard(self, member: int, now: float) -> float:
        """When a member answered last; a new one has time from now on."""
        return self._heard.setdefault(member, now)

    def hear(self, member: int, now: float) -> None:
        """A member has answered."""
        self._heard[member] = now

    def caught_up(self, member: int, committed: int, mine: int) -> bool:
        """A member has said how far it is (0: it has no state); whether it has caught up with that."""
        if not committed:
            self.up_to_date.discard(member)
        elif member not in self.up_to_date and committed + NEARLY >= mine:
            self.up_to_date.add(member)
            return True
        return False

    def newly_silent(self, members: set[int]) -> set[int]:
        """Those of the silent members that were not when this was asked last."""
        news, self._silent = members - self._silent, members
        return news

    def has_majority(self, configuration: Configuration) -> bool:
        """Whether phase 1 holds for the slots of this configuration."""
        return self.recovered.has_majority(configuration)

    def is_changing(self) -> bool:
        """Whether a change of the membership is under way."""
        return any(isinstance(p.entry, Reconfigure) for p in self.in_flight.values())

    def next_entry(self, queue: deque[bytes], changes: deque[Reconfigure], fill: bool) -> Entry | None:
        """What to propose in the next slot, None for nothing. ``fill``: rather a no-op, so that a change comes into force."""
        last_found = max(self.recovered.found, default=0)
        entry: Entry | None
        if self.next_slot <= last_found:
            entry = self.recovered.found.get(self.next_slot, (NO_BALLOT, NO_OP))[1]
        elif changes:
            entry = changes.popleft()
        elif queue:
            entry = _batch(queue)
        else:
            entry = NO_OP if fill else None
        if entry is not None:
            self.next_slot += 1
        return entry

    def proposed(self, slot: int, entry: Entry, me: int, now: float) -> None:
        """Phase 2 of a slot has begun, with this replica's own vote."""
        self.in_flight[slot] = _Proposal(entry, now, {me})

    def acknowledged(self, slot: int, voter: int) -> None:
        """A replica has accepted a slot."""
        if slot in self.in_flight:
            self.in_flight[slot].voters.add(voter)

    def is_chosen(self, slot: int, membership: Membership) -> bool:
        """Whether a majority of those who decide the slot has accepted."""
        proposal = self.in_flight.get(slot)
        return proposal is not None and membership.of(slot).has_majority(proposal.voters)

    def done(self, slot: int) -> None:
        """The slot is chosen."""
        self.in_flight.pop(slot, None)

    def unanswered(
        self, now: float, after: float, membership: Membership
    ) -> Iterator[tuple[int, tuple[Entry, ...], frozenset[int]]]:
        """Slots to be proposed again: (slot, entries, whose answer is missing)."""
        for slot, proposal in self.in_flight.items():
            if now - proposal.sent >= after:
                proposal.sent = now
                yield slot, (proposal.entry,), membership.of(slot).ids - proposal.voters


def _batch(queue: deque[bytes]) -> Batch:
    commands: list[bytes] = []
    size = 0
    while queue and len(commands) < MAX_BATCH and (not commands or size + len(queue[0]) <= MAX_BATCH_BYTES):
        command = queue.popleft()
        commands.append(command)
        size += len(command)
    return Batch(tuple(commands))
