"""What the structures need of remote memory, and how they put numbers into it."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from typing import Protocol

PAGE = 4096
PIPELINED = 32 * PAGE  # bytes that ``hosts.process`` has under way at a time
WORD = struct.Struct("<Q")


class Memory(Protocol):
    """Remote memory as ``hosts.process.Process`` offers it."""

    def read(self, va: int, length: int) -> bytes:
        """Bytes."""

    def write(self, va: int, data: bytes) -> None:
        """Write bytes; when it returns they are there."""

    def write_all(self, writes: Sequence[tuple[int, bytes]]) -> None:
        """Write bytes at several addresses; when it returns they are there, before that any part may be."""

    def checksums(self, va: int, length: int) -> list[int]:
        """CRC-32 of the bytes, one for each page that the range touches, computed where they are."""


class Counted:
    """Passes everything on, and counts the exchanges that its caller waits for: the pipelined requests of a window are one."""

    def __init__(self, memory: Memory):
        self._memory = memory
        self.round_trips = 0

    def wait(self, length: int = 0) -> None:
        """Count what takes so many bytes there or back."""
        self.round_trips += max(1, -(-length // PIPELINED))

    def read(self, va: int, length: int) -> bytes:
        """Bytes."""
        self.wait(length)
        return self._memory.read(va, length)

    def write(self, va: int, data: bytes) -> None:
        """Write bytes."""
        self.wait(len(data))
        self._memory.write(va, data)

    def write_all(self, writes: Sequence[tuple[int, bytes]]) -> None:
        """Write bytes at several addresses."""
        self.wait(sum(len(data) for _, data in writes))
        self._memory.write_all(writes)

    def checksums(self, va: int, length: int) -> list[int]:
        """CRC-32 of each page."""
        self.wait()
        return self._memory.checksums(va, length)


class StructureError(RuntimeError):
    """Base of what can be wrong with a structure."""


class NotFormatted(StructureError):
    """There is no such structure at this address."""


class Full(StructureError):
    """The structure's memory is used up."""


class Corrupt(StructureError):
    """Contents that no writer can have left, crashed or not."""


def checksum(*parts: bytes) -> int:
    """CRC-32 over the parts, in order."""
    value = 0
    for part in parts:
        value = zlib.crc32(part, value)
    return value


def check_area(va: int, size: int, least: int) -> None:
    """Whole pages, enough of them; raises ValueError."""
    if va % PAGE or size % PAGE or size < least:
        raise ValueError(f"{size} bytes at {va:#x}: whole pages are needed, at least {least} bytes")
