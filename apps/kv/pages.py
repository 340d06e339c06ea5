"""Numbered pages that a state machine changes: in rack memory behind a local cache, or in local memory only.

A machine reads and changes pages in steps. What it changed stays local until :meth:`Pages.keep` writes all of it at once; who
opens the memory after a crash finds the pages as the last finished ``keep`` left them.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Protocol

from apps.structures.journal import Journal
from apps.structures.memory import PAGE, Memory


class Pages(Protocol):
    """What a state machine needs of its pages."""

    count: int

    def read(self, number: int) -> bytes | bytearray | memoryview:
        """A page, not to be changed."""

    def read_many(self, numbers: list[int]) -> list[tuple[int, bytes]]:
        """Copies of pages as (number, contents), in order of the numbers, that are not to be read again soon."""

    def change(self, number: int) -> bytearray | memoryview:
        """A page, to be changed in place before the next call."""

    def dirty(self) -> int:
        """Pages that were changed since they were last kept."""

    def keep(self) -> None:
        """Make all changes durable, all or none."""

    def load(self, number: int, data: bytes) -> None:
        """Write consecutive pages from this one on, at once and without care for the others."""

    def discard(self) -> None:
        """Forget changes that were not kept, and what is cached."""

    def watch(self, callback: Callable[[int], None] | None) -> None:
        """Call this for each page that is changed; None ends it."""


class LocalPages:
    """Pages in local memory: gone with the process."""

    def __init__(self, count: int):
        self.count = count
        self._bytes = memoryview(bytearray(count * PAGE))
        self._watcher: Callable[[int], None] | None = None

    def read(self, number: int) -> memoryview:
        """A page, not to be changed."""
        return self._bytes[number * PAGE : (number + 1) * PAGE]

    def read_many(self, numbers: list[int]) -> list[tuple[int, bytes]]:
        """Copies of pages."""
        return [(n, bytes(self.read(n))) for n in sorted(numbers)]

    def change(self, number: int) -> memoryview:
        """A page, to be changed in place."""
        if self._watcher is not None:
            self._watcher(number)
        return self._bytes[number * PAGE : (number + 1) * PAGE]

    def dirty(self) -> int:
        """Always 0: there is nothing to write back."""
        return 0

    def keep(self) -> None:
        """Nothing: local memory is never durable."""

    def load(self, number: int, data: bytes) -> None:
        """Write consecutive pages."""
        self._bytes[number * PAGE : number * PAGE + len(data)] = data

    def discard(self) -> None:
        """Nothing: changes are made in place."""

    def watch(self, callback: Callable[[int], None] | None) -> None:
        """Call this for each page that is changed."""
        self._watcher = callback


class RackPages:
    """Pages in rack memory, from ``va`` on. At most ``cache`` unchanged ones are kept locally."""

    def __init__(self, memory: Memory, va: int, count: int, journal: Journal, cache: int = 4096):
        self.count = count
        self._memory, self._va, self._journal, self._cache = memory, va, journal, cache
        self._clean: OrderedDict[int, bytes] = OrderedDict()  # the least recently used first
        self._dirty: dict[int, bytearray] = {}
        self._watcher: Callable[[int], None] | None = None

    def read(self, number: int) -> bytes | bytearray:
        """A page, not to be changed."""
        changed = self._dirty.get(number)
        if changed is not None:
            return changed
        page = self._clean.get(number)
        if page is not None:
            self._clean.move_to_end(number)
            return page
        page = self._memory.read(self._va + number * PAGE, PAGE)
        self._clean[number] = page
        if len(self._clean) > self._cache:
            self._clean.popitem(last=False)
        return page

    def read_many(self, numbers: list[int]) -> list[tuple[int, bytes]]:
        """Copies of pages; consecutive ones are read at once, and not cached."""
        result: list[tuple[int, bytes]] = []
        for first, count in _runs(numbers):
            data = self._memory.read(self._va + first * PAGE, count * PAGE)
            result += [(first + i, data[i * PAGE : (i + 1) * PAGE]) for i in range(count)]
        return [(n, bytes(self._dirty[n]) if n in self._dirty else page) for n, page in result]

    def change(self, number: int) -> bytearray:
        """A page, to be changed in place."""
        if self._watcher is not None:
            self._watcher(number)
        page = self._dirty.get(number)
        if page is None:
            page = self._dirty[number] = bytearray(self.read(number))
            self._clean.pop(number, None)
        return page

    def dirty(self) -> int:
        """Pages that were changed since they were last kept."""
        return len(self._dirty)

    def keep(self) -> None:
        """Make all changes durable, all or none."""
        with self._journal.transaction() as transaction:
            for number in sorted(self._dirty):
                transaction.write(self._va + number * PAGE, bytes(self._dirty[number]))
        for number, page in self._dirty.items():
            self._clean[number] = bytes(page)
        self._dirty.clear()
        while len(self._clean) > self._cache:
            self._clean.popitem(last=False)

    def load(self, number: int, data: bytes) -> None:
        """Write consecutive pages from this one on."""
        self._memory.write(self._va + number * PAGE, data)
        for n in range(number, number + len(data) // PAGE):
            self._clean.pop(n, None)
            self._dirty.pop(n, None)

    def discard(self) -> None:
        """Forget changes that were not kept, and what is cached."""
        self._clean.clear()
        self._dirty.clear()

    def watch(self, callback: Callable[[int], None] | None) -> None:
        """Call this for each page that is changed."""
        self._watcher = callback


def _runs(numbers: Iterable[int]) -> list[tuple[int, int]]:
    """Numbers in order as (first, how many) of consecutive ones."""
    result: list[tuple[int, int]] = []
    for number in sorted(numbers):
        if result and sum(result[-1]) == number:
            result[-1] = (result[-1][0], result[-1][1] + 1)
        else:
            result.append((number, 1))
    return result
