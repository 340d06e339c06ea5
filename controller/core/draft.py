"""A step in the making: changes to the state, and the plan that follows from them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from controller.core import entries
from controller.core.events import Answer, Effect, Notify, Persist, Publish, Send, SendReply, WriteSwitch
from controller.core.layout import overridden, overrides_in, rules
from controller.core.records import replaced
from controller.core.state import Allocation, Override, State


@dataclass(frozen=True)
class Step:
    """A new state, and what to do, in order."""

    state: State
    plan: tuple[Effect, ...]


class Draft:
    """Collects changes to records and effects. The plan is: persist, switch, messages, replies, events, answers, notices.

    Whoever asked waits, and whoever is told of it does not: notices come last. They are stored, so none is lost on the way.

    The switch's updates are never written by hand: they are the difference between what the touched records wanted before and
    what they want now (``controller.core.entries``).
    """

    def __init__(self, state: State, now: float = 0.0):
        self.now = now
        self.before = state
        self.state = state
        self.effects: list[Effect] = []
        self._touched: dict[tuple[str, Any], None] = {}
        self._changed: dict[int, tuple[int, int]] = {}  # allocations of which only overrides changed: where

    def _change(self, **changes: Any) -> None:
        self.state = replaced(self.state, **changes)

    def put(self, kind: str, key: Any, record: Any) -> None:
        """Add or replace a record."""
        if kind == "allocations":
            self._changed[key] = _EVERYWHERE
            self._count(key, rules(record))
        self._change(**{kind: getattr(self.state, kind).set(key, record)})
        self._touched[kind, key] = None

    def override(self, allocation: Allocation, pieces: Iterable[Override]) -> Allocation:
        """Make pieces of an allocation what they are now; the allocation. Costs as much as there are pieces, not overrides."""
        allocation, start, end = overridden(allocation, pieces)
        known = self._changed.get(allocation.va, (start, end))
        self.put("allocations", allocation.va, allocation)
        self._changed[allocation.va] = min(start, known[0]), max(end, known[1])
        return allocation

    def remove(self, kind: str, key: Any) -> None:
        """Remove a record."""
        if kind == "allocations":
            self._changed[key] = _EVERYWHERE
            self._count(key, 0)
        self._change(**{kind: getattr(self.state, kind).delete(key)})
        self._touched[kind, key] = None

    def _count(self, va: int, now: int) -> None:
        """An allocation is about to need so many rules."""
        known = self.state.allocations.get(va)
        more = now - (0 if known is None else rules(known))
        if more:
            self._change(rules=self.state.rules + more)

    def set_free(self, element: int, extents: tuple[tuple[int, int], ...]) -> None:
        """Physical pages that nobody has; not stored."""
        self._change(free=self.state.free.set(element, extents))

    def see(self, element: int, now: float) -> None:
        """Note a sign of life; not stored. Signs may be learnt of in another order than they were given."""
        now = max(now, self.state.last_seen.get(element, now))
        self._change(last_seen=self.state.last_seen.set(element, now))

    def hear(self, element: int, interval: float) -> None:
        """Note how often an element gives signs of life; not stored."""
        if self.state.intervals.get(element) != interval:
            self.state = replaced(self.state, intervals=self.state.intervals.set(element, interval))

    def suspect(self, element: int, since: float | None) -> None:
        """Note that an element is suspected, or (None) no longer; not stored."""
        suspected = self.state.suspected
        changed = suspected.delete(element) if since is None else suspected.set(element, since)
        self.state = replaced(self.state, suspected=changed)

    def new_id(self) -> int:
        """A number for a message or operation."""
        counters = self.state.counters
        self._change(counters=replaced(counters, next_id=counters.next_id + 1))
        return counters.next_id

    def new_generation(self) -> int:
        """A mapping generation, larger than all before."""
        counters = self.state.counters
        self._change(counters=replaced(counters, next_generation=counters.next_generation + 1))
        return counters.next_generation

    def set_next_pid(self, pid: int) -> None:
        """Where the search for a free pid goes on."""
        self._change(counters=replaced(self.state.counters, next_pid=pid))

    def do(self, effect: Effect) -> None:
        """Add an effect, after the switch has been changed."""
        self.effects.append(effect)

    def publish(self, kind: str, **data: Any) -> None:
        """Tell people."""
        self.effects.append(Publish(kind, data))

    def finish(self) -> Step:
        """The step."""
        plan: list[Effect] = []
        changes = [change for kind, key in self._touched for change in self._changes(kind, key)]
        if changes:
            plan.append(Persist(tuple(changes), self.state.counters))
        old, new = self._entries(self.before), self._entries(self.state)
        writes = entries.difference(old, new)
        if writes:
            plan.append(WriteSwitch(tuple(writes)))
        return Step(self.state, (*plan, *sorted(self.effects, key=_rank)))

    def _changes(self, kind: str, key: Any) -> Iterator[tuple[str, Any, Any]]:
        """What is to be stored of a record. The overrides of an allocation are records of their own."""
        record = getattr(self.state, kind).get(key)
        if kind == "allocations":
            old, new = (
                {o.va: o for o in overrides_in(a, *self._changed[key])} if a else {}
                for a in (self.before.allocations.get(key), record)
            )
            yield from (("overrides", va, None) for va in old if va not in new)
            yield from (("overrides", va, o) for va, o in new.items() if old.get(va) != o)
            record = record and replaced(record, overrides=())
        yield kind, key, record

    def _entries(self, state: State) -> Iterator[entries.Entry]:
        """What the records that were touched want in the switch."""
        for kind, key in self._touched:
            record = getattr(state, kind).get(key) if kind in _ENTRIES else None
            if record is not None and getattr(self.before, kind).get(key) is not getattr(self.state, kind).get(key):
                yield from _ENTRIES[kind](record, *(self._changed[key] if kind == "allocations" else ()))


_EVERYWHERE = (0, 1 << 64)
_ORDER = {Send: 0, SendReply: 1, Publish: 2, Answer: 3, Notify: 4}


def _rank(effect: Effect) -> int:
    return _ORDER[type(effect)]


_ENTRIES: dict[str, Any] = {
    "elements": entries.element_entries,
    "processes": entries.process_entries,
    "allocations": entries.allocation_entries,
}
