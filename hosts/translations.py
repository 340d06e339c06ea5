"""Translations that a compute element caches: which memory element holds an address, where, and in which generation.

They are learnt from replies and from TRANSLATE, and dropped when a notice says that pages changed hands or place, or when an
access by one of them is refused as stale. Nothing rests on them being right: the switch and the memory elements check each
access that goes by one (docs/decisions/0016-cached-translations.md).
"""

from __future__ import annotations

import threading
from bisect import bisect_right
from dataclasses import dataclass

from protocol.wire import MAX_GENERATION, PAGE_SIZE, Flag, Header

CAPACITY = 4096  # ranges


@dataclass(frozen=True, slots=True)
class Translation:
    """``size`` bytes (whole pages) from ``va`` on are in this element from ``pa`` on."""

    va: int
    size: int
    element: int
    pa: int
    generation: int

    @property
    def end(self) -> int:
        """The address behind the last byte."""
        return self.va + self.size

    def continues(self, other: Translation) -> bool:
        """Whether this one goes on where the other ends, in both address spaces and otherwise alike."""
        return (
            self.va == other.end
            and self.pa == other.pa + other.size
            and (self.element, self.generation) == (other.element, other.generation)
        )


@dataclass(slots=True)
class Use:
    """What became of lookups. ``stale``: hits that were refused as stale; ``invalidated``: ranges dropped for a notice or a
    change that the process made itself; ``asked``: TRANSLATE requests."""

    hits: int = 0
    misses: int = 0
    stale: int = 0
    invalidated: int = 0
    asked: int = 0


class Translations:
    """The cache of one process. Thread-safe. When it is full the range that was learnt first goes."""

    def __init__(self, capacity: int = CAPACITY):
        if capacity < 1:
            raise ValueError(f"a cache of {capacity} translations holds nothing; at least 1 is needed")
        self.capacity = capacity
        self.use = Use()
        self._starts: list[int] = []  # of the ranges, sorted; they do not overlap
        self._ranges: dict[int, Translation] = {}  # by start, in the order of their arrival
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._starts)

    def ranges(self) -> list[Translation]:
        """All that is known, in the order of addresses."""
        with self._lock:
            return [self._ranges[start] for start in self._starts]

    def find(self, va: int) -> Translation | None:
        """The range that holds an address."""
        with self._lock:
            return self._find(va)

    def _find(self, va: int) -> Translation | None:
        at = bisect_right(self._starts, va)
        if not at:
            return None
        found = self._ranges[self._starts[at - 1]]
        return found if va < found.end else None

    def apply(self, header: Header) -> Header:
        """A data request with its translation, if that is known. Counted as hit or miss."""
        with self._lock:
            found = self._find(header.va)
            if found is None:
                self.use.misses += 1
                return header
            self.use.hits += 1
        return marked(header, found)

    def learn(self, new: Translation) -> None:
        """Note a range, unless a newer generation of a part of it is known: replies overtake one another."""
        if not 0 <= new.generation <= MAX_GENERATION or new.va % PAGE_SIZE or new.size % PAGE_SIZE or new.size <= 0:
            raise ValueError(f"{new} is no range of whole pages")
        with self._lock:
            old = self._overlapping(new.va, new.end)
            if any(o.generation > new.generation for o in old) or (len(old) == 1 and _covers(old[0], new)):
                return
            for o in old:
                self._cut_out(o, new.va, new.end)
            at = bisect_right(self._starts, new.va)
            before = self._ranges[self._starts[at - 1]] if at else None
            if before is not None and new.continues(before):
                self._remove(before)
                new = Translation(before.va, before.size + new.size, new.element, before.pa, new.generation)
            at = bisect_right(self._starts, new.va)
            behind = self._ranges[self._starts[at]] if at < len(self._starts) else None
            if behind is not None and behind.continues(new):
                self._remove(behind)
                new = Translation(new.va, new.size + behind.size, new.element, new.pa, new.generation)
            self._insert(new)
            while len(self._starts) > self.capacity:
                self._remove(next(iter(self._ranges.values())))

    def invalidate(self, va: int, size: int) -> None:
        """Forget a range: it has changed hands, place or generation."""
        with self._lock:
            self.use.invalidated += self._forget(va, size)

    def refuse(self, va: int) -> None:
        """An access by the translation of this address was refused as stale: what was learnt with it has changed with it."""
        with self._lock:
            self.use.stale += 1
            found = self._find(va)
            if found is not None:
                self._remove(found)

    def _forget(self, va: int, size: int) -> int:
        old = self._overlapping(va, va + size)
        for o in old:
            self._cut_out(o, va, va + size)
        return len(old)

    def _overlapping(self, start: int, end: int) -> list[Translation]:
        first = max(0, bisect_right(self._starts, start) - 1)
        found = []
        for key in self._starts[first:]:
            if key >= end:
                break
            if self._ranges[key].end > start:
                found.append(self._ranges[key])
        return found

    def _cut_out(self, old: Translation, start: int, end: int) -> None:
        self._remove(old)
        if old.va < start:
            self._insert(Translation(old.va, start - old.va, old.element, old.pa, old.generation))
        if end < old.end:
            self._insert(Translation(end, old.end - end, old.element, old.pa + end - old.va, old.generation))

    def _insert(self, new: Translation) -> None:
        self._starts.insert(bisect_right(self._starts, new.va), new.va)
        self._ranges[new.va] = new

    def _remove(self, old: Translation) -> None:
        del self._starts[bisect_right(self._starts, old.va) - 1]
        del self._ranges[old.va]


def _covers(old: Translation, new: Translation) -> bool:
    """Whether what is new was known."""
    return (
        old.va <= new.va
        and new.end <= old.end
        and (old.element, old.pa - old.va, old.generation) == (new.element, new.pa - new.va, new.generation)
    )


def marked(header: Header, translation: Translation) -> Header:
    """A data request that carries its translation."""
    return header._replace(
        flags=header.flags | Flag.CACHED,
        dst=translation.element,
        pa=translation.pa + header.va - translation.va,
        generation=translation.generation,
    )


def unmarked(header: Header) -> Header:
    """A data request that leaves translating to the switch."""
    return header._replace(flags=header.flags & ~Flag.CACHED, dst=0, pa=0, generation=0)


def of_page(reply: Header) -> Translation | None:
    """What the reply of a memory element tells of the page it is about; None when it makes no sense."""
    offset = reply.va % PAGE_SIZE
    if reply.pa % PAGE_SIZE != offset:
        return None
    return Translation(reply.va - offset, PAGE_SIZE, reply.src, reply.pa - offset, reply.generation)
