"""Did a campaign keep the safety rules? Judges what was recorded; no I/O. (S1, S2, S3, S5: docs/architecture.md)

Times are of one monotonic clock for all processes of a machine, in seconds.
"""

from __future__ import annotations

import bisect
import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from experiments import history
from experiments.history import Operation
from protocol.wire import PAGE_SIZE

WITHDRAWN = ("PermissionDenied", "Unmapped", "StaleGeneration", "NotFound")  # how a process hears that pages are gone
FENCED = "Fenced"
LOST = "MemoryLost"
AWAY = ("ElementFailed", "RequestTimeout")  # what may be heard while a part of the rack is dead


def add(into: dict[str, int], more: Mapping[str, int]) -> None:
    """Count on."""
    for name, number in more.items():
        into[name] = into.get(name, 0) + number


def persist(attempt: Callable[[int], Mapping[str, int]], count: int, what: str, longest: float = 120.0) -> None:
    """Attempt until ``count`` attempts have been answered: what is not answered proves nothing. ``attempt`` is told how many are
    missing and says how many were ``answered``. Raises TimeoutError after ``longest`` seconds."""
    ends = time.monotonic() + longest
    missing = count
    while missing > 0:
        if time.monotonic() >= ends:
            raise TimeoutError(f"{missing} of {count} {what} were not answered in {longest:.0f} s")
        missing -= attempt(missing)["answered"]


@dataclass(frozen=True)
class Record:
    """One operation of a process. ``error`` is the name of the exception that it ended with, empty when it was carried out."""

    pid: int
    operation: Operation
    ended: float
    error: str = ""

    @property
    def page(self) -> int:
        """The page it was about."""
        return self.operation.word // PAGE_SIZE


@dataclass(frozen=True)
class Loss:
    """Process ``pid`` was to lose pages from ``va`` on: when that was asked for, acknowledged, and (if ever) to be undone."""

    why: str
    pid: int
    va: int
    pages: int
    asked: float
    acknowledged: float
    until: float = math.inf


@dataclass(frozen=True)
class Fence:
    """The element of these processes was fenced; ``lifted``: its return was asked for; ``open``: acknowledged."""

    pids: frozenset[int]
    asked: float
    acknowledged: float
    lifted: float
    open: float


@dataclass(frozen=True)
class Outage:
    """A part of the rack was killed, and in order again. ``emptied``: a memory element that came back without contents."""

    began: float
    ended: float
    emptied: bool = False


@dataclass(frozen=True)
class Verdict:
    """What was found: a text for each violation of a rule."""

    not_linearizable: tuple[str, ...]
    late_effects: tuple[str, ...]
    false_refusals: tuple[str, ...]
    unexpected: tuple[str, ...]

    @property
    def held(self) -> bool:
        """Whether every rule held."""
        return not (self.not_linearizable or self.late_effects or self.false_refusals or self.unexpected)


def judge(
    records: Sequence[Record], losses: Iterable[Loss], fences: Iterable[Fence], outages: Sequence[Outage] = ()
) -> Verdict:
    """All rules."""
    by_page: dict[tuple[int, int], list[Loss]] = defaultdict(list)
    for loss in losses:
        for page in range(loss.va // PAGE_SIZE, loss.va // PAGE_SIZE + loss.pages):
            by_page[loss.pid, page].append(loss)
    closed: dict[int, list[Fence]] = defaultdict(list)
    for fence in sorted(fences, key=lambda f: f.asked):
        for pid in fence.pids:
            closed[pid].append(fence)
    late, refused, unexpected = [], [], []
    for record in records:
        own = by_page.get((record.pid, record.page), [])
        if not record.error:
            late += _late(record, own, _around(closed[record.pid], record))
        elif record.error in WITHDRAWN:
            if not any(loss.asked <= record.ended for loss in own):
                refused.append(f"{_text(record)}, though nothing had been taken from it")
        elif record.error == FENCED:
            if not any(f.asked <= record.ended and record.operation.called <= f.open for f in closed[record.pid]):
                refused.append(f"{_text(record)}, though its element was not fenced")
        elif record.error == LOST:
            if not any(o.emptied and o.began <= record.ended for o in outages):
                refused.append(f"{_text(record)}, though no element had lost its contents")
        elif record.error not in AWAY or not any(
            o.began <= record.ended and record.operation.called <= o.ended for o in outages
        ):
            unexpected.append(_text(record))
    wrong = history.check(r.operation for r in records if not (r.error and r.operation.kind == "read"))
    return Verdict(tuple(map(str, wrong)), tuple(late), tuple(refused), tuple(unexpected))


def _around(fences: Sequence[Fence], record: Record) -> Sequence[Fence]:
    """The fences that can concern an operation."""
    last = bisect.bisect_right(fences, record.operation.called, key=lambda f: f.acknowledged)
    return fences[max(0, last - 1) : last]


def _late(record: Record, losses: Iterable[Loss], fences: Iterable[Fence]) -> list[str]:
    """Why this operation, which was carried out, must not have been: it began after the loss was acknowledged (S2)."""
    began, ended = record.operation.called, record.ended
    found = [
        f"{_text(record)}: {began - loss.acknowledged:.6f} s after {loss.why} was acknowledged"
        for loss in losses
        if loss.acknowledged <= began and ended <= loss.until
    ]
    return found + [
        f"{_text(record)}: {began - f.acknowledged:.6f} s after the fence was acknowledged"
        for f in fences
        if f.acknowledged <= began and ended <= f.lifted
    ]


def _text(record: Record) -> str:
    o = record.operation
    return f"process {record.pid}: {o.kind} at {o.word:#x} {record.error or 'took effect'} [{o.called:.6f}, {record.ended:.6f}]"
