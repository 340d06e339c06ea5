"""A part of the key space in one region of rack memory: a journal, then a table. Whoever has the pages has the part.

Nothing in the region depends on where it is or whose it is, so it can be granted, stolen, or copied elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from apps.dataflow import memory as dataflow
from apps.dataflow.memory import round_up
from apps.kv.bulk import preload
from apps.kv.machine import LEAST_PAGES, Machine
from apps.kv.pages import RackPages
from apps.structures import memory as structures
from apps.structures.journal import Journal
from hosts.process import Region
from protocol.wire import PAGE_SIZE

JOURNAL = 8 * PAGE_SIZE  # room for what one change of the table touches
LEAST = JOURNAL + LEAST_PAGES * PAGE_SIZE
CACHED = 256  # pages that an instance keeps locally


class Memory(dataflow.Memory, structures.Memory, Protocol):
    """Remote memory as ``hosts.process.Process`` offers it."""


class Part:
    """The items of a part. A change is durable when it returns. One owner, one thread at a time."""

    def __init__(self, region: Region, machine: Machine):
        self.region = region
        self._machine = machine

    @classmethod
    def create(cls, memory: Memory, size: int, filled: int = 0, seed: int = 1) -> Part:
        """An empty part of so many bytes (whole pages, LEAST at least), or one with ``filled`` bytes of items of
        ``apps.kv.bulk``. Raises ValueError, Full."""
        if size < LEAST:
            raise ValueError(f"a part of {size} bytes; at least {LEAST} are needed")
        region = memory.alloc(round_up(size))
        Journal.create(memory, region.va, JOURNAL)
        pages = cls._pages(memory, region)
        machine = preload(pages, filled, seed) if filled else Machine.create(pages)
        machine.keep()
        return cls(region, machine)

    @classmethod
    def open(cls, memory: Memory, region: Region) -> Part:
        """The part in this region, as its last finished change left it. Raises NotFormatted."""
        return cls(region, Machine.open(cls._pages(memory, region)))

    @classmethod
    def _pages(cls, memory: Memory, region: Region) -> RackPages:
        journal = Journal.open(memory, region.va)
        return RackPages(memory, region.va + JOURNAL, (region.size - JOURNAL) // PAGE_SIZE, journal, CACHED)

    def get(self, key: bytes) -> bytes | None:
        """The value of a key, or None."""
        return self._machine.table.get(key)

    def put(self, key: bytes, value: bytes) -> None:
        """Add or replace. Raises Full, ValueError (too large); nothing is changed then."""
        self._machine.table.set(key, value)
        self._machine.keep()

    def delete(self, key: bytes) -> bool:
        """Remove a key; whether it was there."""
        there = self._machine.table.delete(key)
        if there:
            self._machine.keep()
        return there

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """All items, in no order."""
        return self._machine.table.items()

    @property
    def count(self) -> int:
        """How many items there are."""
        return self._machine.table.space.items
