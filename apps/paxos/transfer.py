"""Moves the state of a replica that goes on working: all pages, then those that were changed meanwhile, until none is left."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import islice

from apps.kv.machine import Machine
from apps.kv.pages import Pages
from apps.paxos.messages import Membership, StatePart, StateRequest, encode
from apps.structures.memory import PAGE

PART_PAGES = 64
WINDOW = 16  # parts asked for at a time
REPEAT = 0.5  # seconds without a part until those that are missing are asked for again
SILENT = 2 * REPEAT  # then whoever copied has all, or is gone
PATIENCE = 10.0  # seconds without a part until the transfer is given up
REPLACED_PATIENCE = 2.0  # the same where another than the source leads
KEPT = 2 * WINDOW  # parts that can be given again


class StateMismatch(RuntimeError):
    """The state of another replica does not fit the pages here."""


class Source:
    """One transfer to a peer."""

    def __init__(self, machine: Machine, transfer: int, number: int, now: float):
        """``number`` is never used again."""
        self.transfer, self.number, self.asked = transfer, number, now
        self._parts: dict[int, StatePart] = {}
        self._made = 0
        self._done = False
        self._machine = machine
        self._next, self._end = 1, machine.used_pages  # of the pages as they were in the beginning
        self._again: dict[int, None] = {}  # pages that were changed after they were sent, or not in use before

    def changed(self, number: int) -> None:
        """A page was changed: it has to be sent (again)."""
        if number and not self._next <= number < self._end:
            self._again[number] = None

    def part(self, position: int, membership: Membership | None, now: float) -> StatePart | None:
        """A part; None when it is too old or there is none. Each is made once, in order."""
        self.asked = now
        while self._made <= position and not self._done:
            self._parts[self._made] = self._make(self._made, membership)
            self._parts.pop(self._made - KEPT, None)
            self._made += 1
        return self._parts.get(position)

    def _make(self, position: int, membership: Membership | None) -> StatePart:
        """Some of the pages left. The last part has page 0, which makes the state whole."""
        machine = self._machine
        numbers = list(range(self._next, min(self._next + PART_PAGES, self._end)))
        self._next += len(numbers)
        more = list(islice(self._again, PART_PAGES - len(numbers)))
        for number in more:
            del self._again[number]
        pages = machine.pages.read_many(numbers + more)
        last = self._done = self._next == self._end and not self._again
        if last:
            machine.extra = encode(membership)
            pages.append((0, machine.meta()))
        return StatePart(
            self.transfer, self.number, position, tuple(pages), last, machine.applied, membership if last else None
        )


@dataclass
class Sink:
    """One transfer from ``source``."""

    source: int
    transfer: int
    heard: float  # when the last part came
    asked: int = 0
    taken: int = 0
    repeat_at: float = 0.0
    number: int | None = None  # of the source's parts
    _held: dict[int, StatePart] = field(default_factory=dict)

    def requests(self, now: float) -> list[StateRequest]:
        """What to ask for now, and again if it does not come."""
        result = []
        if now >= self.repeat_at:
            missing = [n for n in range(self.taken, self.asked) if n not in self._held]
            result = [StateRequest(self.transfer, n) for n in missing]
            self.repeat_at = now + REPEAT
        while self.asked < self.taken + WINDOW:
            result.append(StateRequest(self.transfer, self.asked))
            self.asked += 1
        return result

    def take(self, part: StatePart, pages: Pages, now: float) -> StatePart | None:
        """Load what has come, in order of the parts; the last one when all is loaded but page 0. Raises StateMismatch."""
        # Also what is of no use any more says that the link is being emptied: to ask again would only fill it.
        self.heard = now
        self.repeat_at = now + REPEAT
        if part.transfer != self.transfer or part.position < self.taken:
            return None
        if self.number is None:
            self.number = part.source
        elif self.number != part.source:  # another process goes on as the source, and cannot go on with this
            self.heard = -math.inf
            return None
        self._held[part.position] = part
        while (ready := self._held.pop(self.taken, None)) is not None:
            self.taken += 1
            self._load(ready, pages)
            if ready.last:
                return ready
        return None

    def _load(self, part: StatePart, pages: Pages) -> None:
        run: list[bytes] = []
        first = 0
        for number, data in part.pages:
            if number >= pages.count or len(data) != PAGE:
                raise StateMismatch(f"page {number} of the state that is transferred; {pages.count} are here")
            if not number:
                continue
            if run and number != first + len(run):
                pages.load(first, b"".join(run))
                run = []
            if not run:
                first = number
            run.append(data)
        if run:
            pages.load(first, b"".join(run))
