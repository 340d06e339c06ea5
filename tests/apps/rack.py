"""A rack for workers without a rack: memory with owners, and workers that take commands in a thread of this process."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from hosts.process import Region
from protocol.capability import Token, token_is_genuine
from protocol.wire import PAGE_SIZE, Perm
from tests.apps.fake import FakeMemory

GROUP, SECRET = 7, bytes(16)


class Rack(FakeMemory):
    """One rack's memory; ``process`` gives a process's view of it: what it does not own it may not touch."""

    def __init__(self, pages: int):
        super().__init__(pages)
        self.next = self.base
        self.owner: dict[int, int] = {}
        self.lock = threading.Lock()


class FakeProcess:
    def __init__(self, rack: Rack, pid: int):
        self.rack, self.pid = rack, pid

    def _mine(self, va: int, length: int) -> None:
        for page in range(va // PAGE_SIZE, (va + max(length, 1) - 1) // PAGE_SIZE + 1):
            assert self.rack.owner.get(page) == self.pid, f"process {self.pid} has no page {page:#x}"

    def read(self, va: int, length: int) -> bytes:
        self._mine(va, length)
        return self.rack.read(va, length)

    def write(self, va: int, data: bytes | memoryview) -> None:
        self._mine(va, len(data))
        self.rack.write(va, bytes(data))

    def write_all(self, writes: Sequence[tuple[int, bytes]]) -> None:
        for va, data in writes:
            self.write(va, data)

    def checksums(self, va: int, length: int) -> list[int]:
        self._mine(va, length)
        return self.rack.checksums(va, length)

    def alloc(self, size: int, *, group: int = 0) -> Region:
        with self.rack.lock:
            region = Region(self.rack.next, -(-size // PAGE_SIZE) * PAGE_SIZE)
            self.rack.next += region.size
        self._give(region, self.pid)
        return region

    def free(self, region: Region | int, size: int | None = None) -> None:
        pass

    def grant(self, region: Region, to: int, permissions: Perm = Perm.RW) -> None:
        self._mine(region.va, region.size)
        self._give(region, to)

    def statistics(self) -> dict[str, int]:
        return {"retries": 0}

    def steal(self, region: Region, source: int, token: Token, group: int) -> None:
        assert token_is_genuine(token, SECRET, GROUP, self.pid)
        assert group == GROUP
        assert {self.rack.owner[region.va // PAGE_SIZE + i] for i in range(region.size // PAGE_SIZE)} == {source}
        self._give(region, self.pid)

    def _give(self, region: Region, to: int) -> None:
        for page in range(region.va // PAGE_SIZE, (region.va + region.size) // PAGE_SIZE):
            self.rack.owner[page] = to


class Here:
    """A worker in this process: commands run in a thread."""

    def __init__(self, worker: object, number: int):
        self.name, self.pid = f"w{number}", number
        self.worker = worker
        self._pool = ThreadPoolExecutor(1)
        self._answer: Future[dict[str, Any]] | None = None

    def start(self, do: str, **arguments: Any) -> None:
        assert self._answer is None, "one command at a time"
        wire = json.loads(json.dumps(arguments))
        self._answer = self._pool.submit(lambda: getattr(self.worker, f"do_{do}")(**wire))

    def finish(self) -> dict[str, Any]:
        assert self._answer is not None
        answer, self._answer = self._answer.result(20), None
        return json.loads(json.dumps(answer))  # type: ignore[no-any-return]

    def call(self, do: str, **arguments: Any) -> dict[str, Any]:
        self.start(do, **arguments)
        return self.finish()
