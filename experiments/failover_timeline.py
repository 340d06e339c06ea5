"""What a failure cost, from what clients saw and from what programs said: pure functions over moments in monotonic seconds."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Gap:
    """A time in which no client got an answer."""

    start: float
    end: float

    @property
    def seconds(self) -> float:
        """How long."""
        return self.end - self.start


def gaps(answers: Iterable[float]) -> list[Gap]:
    """The times between answers, whoever got them, the longest first."""
    moments = sorted(answers)
    found = [Gap(a, b) for a, b in itertools.pairwise(moments)]
    return sorted(found, key=lambda gap: -gap.seconds)


def outage(answers: Iterable[float], failure: float, end: float) -> Gap:
    """The longest time without an answer between a failure and ``end``, when clients were told to end. Raises ValueError when
    nobody got an answer after the failure: the service has not come back."""
    moments = sorted(answers)
    if not moments or moments[-1] <= failure:
        raise ValueError("no operation was answered after the failure")
    after = [Gap(max(g.start, failure), g.end) for g in gaps([*moments, max(end, moments[-1])]) if g.end > failure]
    return max(after, key=lambda gap: gap.seconds)


def usual_gap(answers: Iterable[float], failure: float) -> float:
    """The longest time without an answer before the failure, seconds; 0 when there were none."""
    before = gaps(moment for moment in answers if moment < failure)
    return before[0].seconds if before else 0.0


@dataclass(frozen=True)
class Event:
    """Something that a program or controller said."""

    at: float
    who: str
    what: str


def first(events: Iterable[Event], after: float, *words: str) -> float | None:
    """When something with all of these words was first said after a moment."""
    found = [e.at for e in events if e.at >= after and all(word in e.what for word in words)]
    return min(found, default=None)


def stages(start: float, moments: Mapping[str, float | None]) -> dict[str, float]:
    """Seconds from one moment to the next, in the order given, the first from ``start`` on. A moment that is not known is left
    out, and one that was before its predecessor took no time: each stage says what was still to wait for."""
    found: dict[str, float] = {}
    last = start
    for name, moment in moments.items():
        if moment is not None:
            found[name] = max(0.0, moment - last)
            last = max(last, moment)
    return found


def of_controller(told: Sequence[Mapping[str, object]], offset: float, who: str) -> list[Event]:
    """Events of a rack controller's log; ``offset`` is what to add to the time of day for monotonic seconds."""
    found = []
    for event in told:
        at = event["time"]
        assert isinstance(at, float)
        details = " ".join(f"{k}={v}" for k, v in event.items() if k not in ("id", "time", "event"))
        found.append(Event(at + offset, who, f"{event['event']} {details}".strip()))
    return found


def show(events: Iterable[Event], start: float) -> str:
    """A timeline for people: milliseconds since ``start``."""
    return "".join(f"{(e.at - start) * 1e3:10.1f} ms  {e.who}: {e.what}\n" for e in sorted(events, key=lambda e: e.at))
