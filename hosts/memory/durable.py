"""What an NVM element keeps besides its pages, so that it is the same after a restart: outcomes of requests, and bad pages.

A request that took effect just before the element died is repeated by its requester and must not take effect twice; one that
had only begun must not be half done. So each effect is written down before it is carried out (one slot is enough: requests
are dealt with one after the other) and carried out again at the next start if its end was not noted. The file is mapped: it
survives the death of the process at any instruction, not that of the machine, which would need more than a mapping.
"""

from __future__ import annotations

import mmap
import os
import struct
from pathlib import Path

from hosts.memory.dedup import WINDOW, Outcomes
from protocol.wire import MAX_PID, PAGE_SIZE

_HEAD = struct.Struct("<8sQ")  # what the file is, pages of the element
_MAGIC = b"rmemnvm1"
_SLOT = struct.Struct(
    "<QQQQIB8s"
)  # under way (0/1), pid, request id, pa >> 3, pa & 7 | length << 3, reply's length, reply
_SLOT_AT = 64
_DATA_AT = PAGE_SIZE
_BAD_AT = 2 * PAGE_SIZE
_RING = struct.Struct("<QQ")  # outcomes ever remembered, ids below this one are forgotten
_OUTCOME = struct.Struct("<QQB")  # request id, reply, the reply's length
_RING_SIZE = -(-(_RING.size + WINDOW * _OUTCOME.size) // PAGE_SIZE) * PAGE_SIZE
_UNDER_WAY = struct.Struct("<Q")


class DurableError(ValueError):
    """The file belongs to another element."""


class Durable:
    """The file of one element; sparse: a process that never wrote takes no room."""

    def __init__(self, path: Path, pages: int):
        """Raises OSError, DurableError."""
        self._rings_at = _BAD_AT + -(-pages // PAGE_SIZE) * PAGE_SIZE
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            head = os.pread(descriptor, _HEAD.size, 0)
            if head and head != _HEAD.pack(_MAGIC, pages):
                raise DurableError(f"{path} is not of an element of {pages} pages")
            os.ftruncate(descriptor, self._rings_at + (MAX_PID + 1) * _RING_SIZE)
            self._file = mmap.mmap(descriptor, 0)
        finally:
            os.close(descriptor)
        _HEAD.pack_into(self._file, 0, _MAGIC, pages)
        self.bad = memoryview(self._file)[_BAD_AT : _BAD_AT + pages]

    def close(self) -> None:
        """Unmap the file."""
        self.bad.release()
        self._file.close()

    def intend(self, pid: int, request_id: int, pa: int, data: bytes, reply: bytes) -> None:
        """Note what is about to be done: these bytes at ``pa``, and this outcome."""
        self._file[_DATA_AT : _DATA_AT + len(data)] = data
        where = pa >> 3, pa & 7 | len(data) << 3
        _SLOT.pack_into(self._file, _SLOT_AT, 0, pid, request_id, *where, len(reply), reply)
        _UNDER_WAY.pack_into(self._file, _SLOT_AT, 1)

    def done(self) -> None:
        """It has been done."""
        _UNDER_WAY.pack_into(self._file, _SLOT_AT, 0)

    def redo(self, memory: memoryview) -> bool:
        """At the start: do what was under way at the end, again or at last. Whether there was anything."""
        under_way, pid, request_id, high, low, size, reply = _SLOT.unpack_from(self._file, _SLOT_AT)
        if not under_way:
            return False
        pa, length = high << 3 | low & 7, low >> 3
        memory[pa : pa + length] = self._file[_DATA_AT : _DATA_AT + length]
        outcomes = self.outcomes(pid)
        if outcomes.recall(request_id) is None:
            outcomes.remember(request_id, reply[:size])
        self.done()
        return True

    def outcomes(self, pid: int) -> Outcomes:
        """Those of one process, as they were."""
        return _DurableOutcomes(self._file, self._rings_at + pid * _RING_SIZE)


class _DurableOutcomes(Outcomes):
    """Outcomes with a ring in the file."""

    __slots__ = ("_at", "_count", "_file")

    def __init__(self, file: mmap.mmap, at: int):
        super().__init__()
        self._file, self._at = file, at
        self._count, forgotten = _RING.unpack_from(file, at)
        self._floor = forgotten - 1
        for number in range(max(0, self._count - WINDOW), self._count):
            request_id, reply, size = _OUTCOME.unpack_from(file, self._place(number))
            self._replies[request_id] = reply.to_bytes(8, "big")[:size]

    def _place(self, number: int) -> int:
        return self._at + _RING.size + number % WINDOW * _OUTCOME.size

    def remember(self, request_id: int, reply: bytes) -> None:
        """Note that this request took effect. The oldest is forgotten before its place is taken."""
        super().remember(request_id, reply)
        _RING.pack_into(self._file, self._at, self._count, self._floor + 1)
        value = int.from_bytes(reply.ljust(8, b"\0"), "big")
        _OUTCOME.pack_into(self._file, self._place(self._count), request_id, value, len(reply))
        self._count += 1
        _RING.pack_into(self._file, self._at, self._count, self._floor + 1)

    def retire(self, below: int) -> None:
        """Requests with ids below this one must not take effect any more, also after a restart."""
        floor = self._floor
        super().retire(below)
        if self._floor != floor:
            _RING.pack_into(self._file, self._at, self._count, self._floor + 1)
