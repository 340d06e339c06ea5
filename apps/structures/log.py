"""An append-only log with checksums. Its end is where the next record is not whole: nothing needs to be kept in step with it."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from apps.structures.memory import PAGE, Corrupt, Full, Memory, NotFormatted, check_area, checksum

_HEAD = struct.Struct("<8sQQI4x")  # magic, size of the area, epoch, checksum of these
_RECORD = struct.Struct("<IIQ")  # length, checksum of epoch, number, length and data, number
_MAGIC = b"rmemlog1"
_ALIGN = 8
_EPOCH = struct.Struct("<Q")
READ_AHEAD = 16 * PAGE  # bytes: records are small and round trips are not


class Log:
    """Records of bytes in ``size`` bytes from ``va`` on. One writer at a time."""

    def __init__(self, memory: Memory, va: int, size: int, epoch: int):
        self._memory, self._va, self._size, self._epoch = memory, va, size, epoch
        self._end = PAGE  # the first page is the head's
        self._count = 0

    @classmethod
    def create(cls, memory: Memory, va: int, size: int) -> Log:
        """An empty log, in place of whatever was there. Raises ValueError for an area that is too small."""
        check_area(va, size, 2 * PAGE)
        old = cls._read_head(memory, va)
        log = cls(memory, va, size, old[1] + 1 if old is not None else 1)
        log._write_head()
        return log

    @classmethod
    def open(cls, memory: Memory, va: int, replay: bool = True) -> Log:
        """The log at ``va`` as its last writer left it; a record that was not finished is not there. Without ``replay``
        that or :meth:`clear` has to come before anything but :meth:`first`. Raises NotFormatted."""
        head = cls._read_head(memory, va)
        if head is None:
            raise NotFormatted(f"no log at {va:#x}")
        log = cls(memory, va, head[0], head[1])
        if replay:
            for _ in log.replay():
                pass
        return log

    @staticmethod
    def _read_head(memory: Memory, va: int) -> tuple[int, int] | None:
        head = memory.read(va, _HEAD.size)
        magic, size, epoch, found = _HEAD.unpack(head)
        if magic != _MAGIC or found != checksum(head[:24]):
            return None
        return size, epoch

    def _write_head(self) -> None:
        body = _HEAD.pack(_MAGIC, self._size, self._epoch, 0)[:24]
        self._memory.write(self._va, body + struct.pack("<I4x", checksum(body)))

    def __len__(self) -> int:
        return self._count

    @property
    def free(self) -> int:
        """The largest record that can still be appended, in bytes; below 0 for none."""
        return self._size - self._end - _RECORD.size

    def append(self, data: bytes) -> int:
        """Append a record, durable when this returns. Its number, from 0. Raises Full, and then nothing was written."""
        if len(data) > self.free:
            raise Full(f"a record of {len(data)} bytes; {max(self.free, 0)} are left")
        length = struct.pack("<I", len(data))
        number = self._count
        head = _RECORD.pack(len(data), self._sum(number, length, data), number)
        self._memory.write(self._va + self._end, head + data)
        self._advance(len(data))
        return number

    def _sum(self, number: int, length: bytes, data: bytes) -> int:
        return checksum(_EPOCH.pack(self._epoch), _EPOCH.pack(number), length, data)

    def _advance(self, length: int) -> None:
        self._end += -(-(_RECORD.size + length) // _ALIGN) * _ALIGN
        self._count += 1

    def first(self) -> bytes | None:
        """The oldest record, without a look at the others; None if there is none."""
        reader = Log(self._memory, self._va, self._size, self._epoch)
        return next(reader.replay(PAGE), None)

    def replay(self, ahead: int = READ_AHEAD) -> Iterator[bytes]:
        """All whole records, oldest first; when it is exhausted the end is known. ``ahead`` bytes are read at a time."""
        self._end, self._count = PAGE, 0
        window = _Window(self._memory, self._va, self._size, ahead)
        while self._end + _RECORD.size <= self._size:
            length, found, number = _RECORD.unpack(window.read(self._end, _RECORD.size))
            if number != self._count or length > self.free:
                return
            data = window.read(self._end + _RECORD.size, length)
            if found != self._sum(number, struct.pack("<I", length), data):
                return
            self._advance(length)
            yield data

    def __iter__(self) -> Iterator[bytes]:
        """All records, oldest first. Raises Corrupt when one that was there before is not any more."""
        count = self._count
        reader = Log(self._memory, self._va, self._size, self._epoch)
        for found, record in enumerate(reader.replay()):
            if found >= count:
                return
            yield record
        if reader._count < count:
            raise Corrupt(f"record {reader._count} of the log at {self._va:#x} is damaged")

    def clear(self) -> None:
        """Forget all records, at once: those of an earlier epoch are no records."""
        self._epoch += 1
        self._write_head()
        self._end, self._count = PAGE, 0


class _Window:
    """Reads an area in large pieces."""

    def __init__(self, memory: Memory, va: int, size: int, ahead: int):
        self._memory, self._va, self._size, self._ahead = memory, va, size, ahead
        self._start, self._bytes = 0, b""

    def read(self, at: int, length: int) -> bytes:
        if not self._start <= at <= at + length <= self._start + len(self._bytes):
            self._start = at
            self._bytes = self._memory.read(self._va + at, min(max(length, self._ahead), self._size - at))
        return self._bytes[at - self._start : at - self._start + length]
