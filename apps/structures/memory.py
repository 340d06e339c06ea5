"""What the structures need of remote memory, and how they put numbers into it."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from typing import Protocol

PAGE = 4096
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
