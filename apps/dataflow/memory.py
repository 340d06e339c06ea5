"""What tasks need of remote memory, extents of it as byte streams, and a count of the round trips that they wait for."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from hosts.process import Region
from hosts.requester import WINDOW
from protocol.wire import PAGE_SIZE, Perm

CHUNK = WINDOW * PAGE_SIZE  # bytes of one call: as much as is pipelined at a time


class Memory(Protocol):
    """Remote memory as ``hosts.process.Process`` offers it."""

    pid: int

    def read(self, va: int, length: int) -> bytes:
        """Bytes."""

    def write(self, va: int, data: bytes | memoryview) -> None:
        """Write bytes; when it returns they are there."""

    def alloc(self, size: int, *, group: int = 0) -> Region:
        """Zeroed pages."""

    def free(self, region: Region | int, size: int | None = None) -> None:
        """Give pages back."""

    def grant(self, region: Region, to: int, permissions: Perm = Perm.RW) -> None:
        """Give pages to another process."""


@dataclass(frozen=True)
class Extent:
    """``used`` bytes from ``va`` on, in ``capacity`` bytes of whole pages."""

    va: int
    capacity: int
    used: int = 0

    @property
    def pages(self) -> Region:
        """The whole pages that the used bytes touch."""
        return Region(self.va, round_up(self.used))


class Counted:
    """Passes everything on, and counts the exchanges that its caller waits for: the pipelined requests of a window are one."""

    def __init__(self, memory: Memory):
        self._memory = memory
        self.pid = memory.pid
        self.round_trips = 0
        self._lock = threading.Lock()

    def _wait(self, length: int) -> None:
        with self._lock:
            self.round_trips += max(1, -(-length // CHUNK))

    def read(self, va: int, length: int) -> bytes:
        """Bytes."""
        self._wait(length)
        return self._memory.read(va, length)

    def write(self, va: int, data: bytes | memoryview) -> None:
        """Write bytes."""
        self._wait(len(data))
        self._memory.write(va, data)

    def alloc(self, size: int, *, group: int = 0) -> Region:
        """Zeroed pages."""
        self._wait(0)
        return self._memory.alloc(size, group=group)

    def free(self, region: Region | int, size: int | None = None) -> None:
        """Give pages back."""
        self._wait(0)
        self._memory.free(region, size)

    def grant(self, region: Region, to: int, permissions: Perm = Perm.RW) -> None:
        """Give pages to another process."""
        self._wait(0)
        self._memory.grant(region, to, permissions)


def round_up(size: int) -> int:
    """To whole pages."""
    return -(-size // PAGE_SIZE) * PAGE_SIZE


def chunks(memory: Memory, extents: Sequence[Extent]) -> Iterator[bytes]:
    """What the extents hold, a chunk at a time."""
    for extent in extents:
        for offset in range(0, extent.used, CHUNK):
            yield memory.read(extent.va + offset, min(CHUNK, extent.used - offset))


def store(memory: Memory, region: Region, size: int, receive: Callable[[int], bytes]) -> Extent:
    """Write ``size`` bytes that ``receive`` gives to memory, a chunk at a time."""
    for offset in range(0, size, CHUNK):
        memory.write(region.va + offset, receive(min(CHUNK, size - offset)))
    return Extent(region.va, region.size, size)


class Arena:
    """Memory for what comes: from regions allocated beforehand as long as they last, then region by region."""

    def __init__(self, memory: Memory):
        self._memory = memory
        self._left = Region(0, 0)
        self._regions: list[Region] = []
        self._spare: list[Region] = []

    def reserve(self, size: int) -> None:
        """Allocate so many bytes (whole pages) now."""
        region = self._memory.alloc(size)
        self._regions.append(region)
        self._spare.append(region)

    def take(self, size: int) -> Region:
        """Whole pages for ``size`` bytes."""
        wanted = round_up(max(size, 1))
        if wanted > self._left.size:
            if not any(region.size >= wanted for region in self._spare):
                self.reserve(wanted)
            self._left = next(region for region in self._spare if region.size >= wanted)
            self._spare.remove(self._left)
        taken = Region(self._left.va, wanted)
        self._left = Region(taken.va + wanted, self._left.size - wanted)
        return taken

    def rewind(self) -> None:
        """All that was taken may be taken again."""
        self._spare, self._left = list(self._regions), Region(0, 0)

    def free(self) -> None:
        """Give everything back."""
        for region in self._regions:
            self._memory.free(region.va)
        self._regions.clear()
        self.rewind()
