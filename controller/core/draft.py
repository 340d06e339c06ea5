"""A step in the making: changes to the state, and the plan that follows from them."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from controller.core import entries
from controller.core.events import Answer, Effect, Notify, Persist, Publish, Send, SendReply, WriteSwitch
from controller.core.state import State


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

    def _change(self, **changes: Any) -> None:
        """What ``dataclasses.replace`` does, without looking at every field: a step does this a dozen times."""
        changed = object.__new__(State)
        changed.__dict__.update(self.state.__dict__, **changes)
        self.state = changed

    def put(self, kind: str, key: Any, record: Any) -> None:
        """Add or replace a record."""
        self._change(**{kind: getattr(self.state, kind).set(key, record)})
        self._touched[kind, key] = None

    def remove(self, kind: str, key: Any) -> None:
        """Remove a record."""
        self._change(**{kind: getattr(self.state, kind).delete(key)})
        self._touched[kind, key] = None

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
            self.state = dataclasses.replace(self.state, intervals=self.state.intervals.set(element, interval))

    def suspect(self, element: int, since: float | None) -> None:
        """Note that an element is suspected, or (None) no longer; not stored."""
        suspected = self.state.suspected
        changed = suspected.delete(element) if since is None else suspected.set(element, since)
        self.state = dataclasses.replace(self.state, suspected=changed)

    def new_id(self) -> int:
        """A number for a message or operation."""
        counters = self.state.counters
        self._change(counters=dataclasses.replace(counters, next_id=counters.next_id + 1))
        return counters.next_id

    def new_generation(self) -> int:
        """A mapping generation, larger than all before."""
        counters = self.state.counters
        self._change(counters=dataclasses.replace(counters, next_generation=counters.next_generation + 1))
        return counters.next_generation

    def set_next_pid(self, pid: int) -> None:
        """Where the search for a free pid goes on."""
        self._change(counters=dataclasses.replace(self.state.counters, next_pid=pid))

    def do(self, effect: Effect) -> None:
        """Add an effect, after the switch has been changed."""
        self.effects.append(effect)

    def publish(self, kind: str, **data: Any) -> None:
        """Tell people."""
        self.effects.append(Publish(kind, data))

    def finish(self) -> Step:
        """The step."""
        plan: list[Effect] = []
        changes = tuple((kind, key, getattr(self.state, kind).get(key)) for kind, key in self._touched)
        if changes:
            plan.append(Persist(changes, self.state.counters))
        writes: list[entries.Write] = []
        for kind, key in self._touched:
            wanted = _ENTRIES.get(kind)
            if wanted is not None:
                old, new = getattr(self.before, kind).get(key), getattr(self.state, kind).get(key)
                if old is not new:
                    writes += entries.difference(wanted(old) if old else (), wanted(new) if new else ())
        if writes:
            plan.append(WriteSwitch(tuple(entries.safe_order(writes))))
        return Step(self.state, (*plan, *sorted(self.effects, key=_rank)))


_ORDER = {Send: 0, SendReply: 1, Publish: 2, Answer: 3, Notify: 4}


def _rank(effect: Effect) -> int:
    return _ORDER[type(effect)]


_ENTRIES: dict[str, Any] = {
    "elements": entries.element_entries,
    "processes": entries.process_entries,
    "allocations": entries.allocation_entries,
}
