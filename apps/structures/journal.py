"""A redo journal: several writes anywhere in remote memory that take effect all or not at all."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise

from apps.structures.memory import PAGE, Full, Memory, NotFormatted, check_area, checksum

_HEAD = struct.Struct("<8sQ")  # magic, size of the area
_COMMIT = struct.Struct("<QII")  # number, bytes of the body, checksum of both and of the body
_WRITE = struct.Struct("<QI")  # address, length
_MAGIC = b"rmemjrn1"
_COMMIT_AT = 64  # in the first page; both are written whole


class Transaction:
    """Writes to be made together."""

    def __init__(self) -> None:
        self.writes: list[tuple[int, bytes]] = []

    def write(self, va: int, data: bytes) -> None:
        """Add a write. Later ones win where they overlap."""
        self.writes.append((va, bytes(data)))


class Journal:
    """``size`` bytes from ``va`` on; the body of the transaction under way lies behind the first page. One writer at a time."""

    def __init__(self, memory: Memory, va: int, size: int, number: int):
        self._memory, self._va, self._size, self._number = memory, va, size, number

    @classmethod
    def create(cls, memory: Memory, va: int, size: int) -> Journal:
        """An empty journal, in place of whatever was there. Raises ValueError for an area that is too small."""
        check_area(va, size, 2 * PAGE)
        memory.write(va, _HEAD.pack(_MAGIC, size).ljust(_COMMIT_AT + _COMMIT.size, b"\0"))
        return cls(memory, va, size, 0)

    @classmethod
    def open(cls, memory: Memory, va: int) -> Journal:
        """The journal at ``va``; a transaction that was committed and perhaps not carried out is carried out now. Raises
        NotFormatted."""
        magic, size = _HEAD.unpack(memory.read(va, _HEAD.size))
        if magic != _MAGIC:
            raise NotFormatted(f"no journal at {va:#x}")
        number, length, found = _COMMIT.unpack(memory.read(va + _COMMIT_AT, _COMMIT.size))
        journal = cls(memory, va, size, number)
        if 0 < length <= size - PAGE:
            body = memory.read(va + PAGE, length)
            if found == journal._sum(number, body):
                journal._carry_out(body)
        return journal

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """Collect writes; at the end of the block they take effect together. An exception in the block discards them. Raises Full
        when they do not fit the journal; nothing was written then."""
        transaction = Transaction()
        yield transaction
        body = b"".join(_WRITE.pack(va, len(data)) + data for va, data in transaction.writes)
        if len(body) > self._size - PAGE:
            raise Full(f"a transaction of {len(body)} bytes; the journal has room for {self._size - PAGE}")
        if not body:
            return
        self._number += 1
        self._memory.write(self._va + PAGE, body)
        commit = _COMMIT.pack(self._number, len(body), self._sum(self._number, body))
        self._memory.write(self._va + _COMMIT_AT, commit)  # from here on it has happened
        self._carry_out(body)

    @staticmethod
    def _sum(number: int, body: bytes) -> int:
        return checksum(struct.pack("<QI", number, len(body)), body)

    def _carry_out(self, body: bytes) -> None:
        """Make the writes, again if need be, then forget them."""
        at, writes = 0, list[tuple[int, bytes]]()
        while at < len(body):
            va, length = _WRITE.unpack_from(body, at)
            at += _WRITE.size
            writes.append((va, body[at : at + length]))
            at += length
        if _overlap(writes):  # the later ones win
            for va, data in writes:
                self._memory.write(va, data)
        else:
            self._memory.write_all(writes)
        self._memory.write(self._va + _COMMIT_AT, _COMMIT.pack(self._number, 0, 0))


def _overlap(writes: list[tuple[int, bytes]]) -> bool:
    ordered = sorted((va, va + len(data)) for va, data in writes)
    return any(end > start for (_, end), (start, _) in pairwise(ordered))
