"""A map task whose state is in remote memory, whole at every instant: whoever gets its pages goes on where it stood.

The control page says what the input is, how much of it is done, and where the output of that is. A batch is mapped, its output is
written behind what counts already, and one write of the control page makes it count. That write is within a page, so it
is there or not; what was written before it and does not count yet is written again by whoever goes on.
"""

from __future__ import annotations

import json
import struct
import zlib
from dataclasses import dataclass, field, replace
from typing import Any

from apps.dataflow.memory import Extent, Memory, round_up
from apps.mapreduce import jobs
from hosts.process import Region
from protocol.wire import PAGE_SIZE

BATCH = 256 * 1024  # bytes of text that count at once
_MAGIC = b"rmemtsk1"
_HEAD = struct.Struct("<8sII")  # magic, length and CRC-32 of the JSON behind


class TaskError(RuntimeError):
    """A control page that is none, or a task that does not fit one."""


@dataclass
class State:
    """What the control page holds. ``text``: the input; ``base``: its offset in the whole text; ``done``: bytes of it."""

    job: dict[str, Any]
    text: Extent
    base: int
    done: int = 0
    output: list[list[Extent]] = field(default_factory=list)

    def pack(self) -> bytes:
        """The page. Raises TaskError when it is too small."""
        body = json.dumps(
            {
                "job": self.job,
                "text": _place(self.text),
                "base": self.base,
                "done": self.done,
                "output": [[_place(extent) for extent in extents] for extents in self.output],
            }
        ).encode()
        if _HEAD.size + len(body) > PAGE_SIZE:
            raise TaskError(f"the state of the task takes {len(body)} bytes; a page holds {PAGE_SIZE - _HEAD.size}")
        return _HEAD.pack(_MAGIC, len(body), zlib.crc32(body)) + body

    @classmethod
    def unpack(cls, page: bytes) -> State:
        """From a page. Raises TaskError."""
        magic, length, checksum = _HEAD.unpack_from(page)
        body = page[_HEAD.size : _HEAD.size + length]
        if magic != _MAGIC or zlib.crc32(body) != checksum:
            raise TaskError("this page is not the control page of a task")
        held = json.loads(body)
        output = [[Extent(*place) for place in places] for places in held["output"]]
        return cls(held["job"], Extent(*held["text"]), held["base"], held["done"], output)


def _place(extent: Extent) -> tuple[int, int, int]:
    return extent.va, extent.capacity, extent.used


class MapTask:
    """A map task of the process whose ``memory`` it is. ``group``: of whom may steal it."""

    def __init__(self, memory: Memory, control: int, state: State, group: int):
        self.memory, self.control, self.state, self._group = memory, control, state, group
        self.job = jobs.make(state.job)

    @classmethod
    def create(cls, memory: Memory, job: dict[str, Any], text: Extent, base: int, group: int = 0) -> MapTask:
        """A new task for text that is in memory; nothing of it is done."""
        state = State(job, text, base, output=[[] for _ in range(jobs.make(job).partitions)])
        page = state.pack()
        control = memory.alloc(PAGE_SIZE, group=group).va
        memory.write(control, page)
        return cls(memory, control, state, group)

    @classmethod
    def open(cls, memory: Memory, control: int, group: int = 0) -> MapTask:
        """The task that another process left. Raises TaskError."""
        return cls(memory, control, State.unpack(memory.read(control, PAGE_SIZE)), group)

    @property
    def done(self) -> int:
        """Bytes of the text that count."""
        return self.state.done

    @property
    def size(self) -> int:
        """Bytes of the text."""
        return self.state.text.used

    @property
    def finished(self) -> bool:
        """Whether all of the text counts."""
        return self.done >= self.size

    def regions(self) -> list[Region]:
        """All memory of the task but the control page: the text, and the output that counts."""
        extents = [self.state.text, *(extent for extents in self.state.output for extent in extents)]
        return [Region(extent.va, extent.capacity) for extent in extents]

    def step(self) -> None:
        """Map a batch and make it count. What is left of the memory when this raises is a whole state, with or without it."""
        text = next_batch(self.memory, self.state.text, self.state.done)
        parts = self.job.map(text, self.state.base + self.state.done)
        output = [self._append(extents, part) for extents, part in zip(self.state.output, parts, strict=True)]
        state = replace(self.state, done=self.state.done + len(text), output=output)
        self.memory.write(self.control, state.pack())
        self.state = state

    def _append(self, extents: list[Extent], data: bytes) -> list[Extent]:
        """Write behind what is there; the extents with it. New ones are as large as it takes for the rest at this rate."""
        result = list(extents)
        at = 0
        while at < len(data):
            if not result or result[-1].used == result[-1].capacity:
                region = self.memory.alloc(self._capacity(len(data) - at), group=self._group)
                result.append(Extent(region.va, region.size))
            last = result[-1]
            part = data[at : at + last.capacity - last.used]
            self.memory.write(last.va + last.used, part)
            result[-1] = replace(last, used=last.used + len(part))
            at += len(part)
        return result

    def _capacity(self, size: int) -> int:
        """Bytes of a new extent for a batch of ``size``: for the batches left, and a quarter more, a power of two of pages."""
        left = max(1, -(-(self.state.text.used - self.state.done) // BATCH))
        pages = round_up(size * left * 5 // 4) // PAGE_SIZE
        return PAGE_SIZE << (pages - 1).bit_length()


class LocalTask:
    """The same with its output in local memory, as between servers: faster, and gone with its element."""

    def __init__(self, memory: Memory, job: dict[str, Any], text: Extent, base: int):
        self._memory, self._text, self._base = memory, text, base
        self.done = 0
        self.job = jobs.make(job)
        self.parts: list[list[bytes]] = [[] for _ in range(self.job.partitions)]

    @property
    def size(self) -> int:
        """Bytes of the text."""
        return self._text.used

    @property
    def finished(self) -> bool:
        """Whether all of the text is mapped."""
        return self.done >= self.size

    def step(self) -> None:
        """Map a batch."""
        text = next_batch(self._memory, self._text, self.done)
        for held, part in zip(self.parts, self.job.map(text, self._base + self.done), strict=True):
            held.append(part)
        self.done += len(text)


def next_batch(memory: Memory, text: Extent, done: int) -> bytes:
    """Whole lines behind what is done, or all that is left."""
    batch = b""
    while True:
        at = done + len(batch)
        batch += memory.read(text.va + at, min(BATCH, text.used - at))
        if done + len(batch) >= text.used:
            return batch
        if end := batch.rfind(b"\n") + 1:
            return batch[:end]
