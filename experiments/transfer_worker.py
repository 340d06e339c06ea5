"""A process that gives and takes data in the ways of ``apps.dataflow.exchange``. Driven like ``experiments.worker``."""

from __future__ import annotations

import io
import random
import sys
import time
import zlib
from typing import Any

from apps.dataflow.exchange import Inbox, Outbox, Parcel, Way
from apps.dataflow.memory import CHUNK, Counted, Extent, chunks, round_up, store
from experiments.job_worker import main
from hosts.process import Process
from protocol.wire import PAGE_SIZE

NEAR = "computed where it is"


class TransferWorker:
    """The commands."""

    def __init__(self, process: Process, address: str):
        self._process = process
        self.memory = Counted(process)
        self.inbox = Inbox(self.memory, address)
        self._outbox: Outbox | None = None
        self._parcel = Parcel("")

    def do_address(self) -> dict[str, Any]:
        """Where this process receives."""
        return {"port": self.inbox.port}

    def do_connect(self, address: str, port: int, pid: int) -> dict[str, Any]:
        """Choose to whom to send."""
        self._outbox = Outbox(self.memory, address, port, pid)
        return {}

    def do_make(self, name: str, size: int, way: Way, seed: int) -> dict[str, Any]:
        """Data of this size where this way needs it; its checksum."""
        data = random.Random(seed).randbytes(size)
        if way == "direct":
            self._parcel = Parcel(name, data=data)
        else:
            region = self.memory.alloc(round_up(size))
            self._parcel = Parcel(name, (store(self.memory, region, size, io.BytesIO(data).read),))
        return {"checksum": zlib.crc32(data)}

    def do_reserve(self, size: int) -> dict[str, Any]:
        """Memory for what will be copied here."""
        self.inbox.arena.reserve(round_up(size))
        return {}

    def do_send(self, way: Way) -> dict[str, Any]:
        """Move it; milliseconds until the other had it, and round trips waited for here."""
        assert self._outbox is not None
        before, in_network = self.memory.round_trips, self._outbox.round_trips
        start = time.perf_counter()
        self._outbox.send(self._parcel, way)
        took = (time.perf_counter() - start) * 1e3
        waited = {
            "interconnect": self.memory.round_trips - before,
            "network": self._outbox.round_trips - in_network,
        }
        return {"ms": took, **waited}

    def do_drop(self) -> dict[str, Any]:
        """Give back what was sent and is still this process's."""
        for extent in self._parcel.extents:
            self.memory.free(extent.va)
        return {}

    def do_round_trips(self) -> dict[str, Any]:
        """That this process has waited for so far."""
        return {"interconnect": self.memory.round_trips}

    def do_verify(self, name: str, how: str) -> dict[str, Any]:
        """Checksums of the pages of what arrived: computed by the memory, or here, of what is read; milliseconds, and round trips
        waited for."""
        extents = self.inbox.arrived[name].extents
        before = self.memory.round_trips
        start = time.perf_counter()
        found: list[int] = []
        for extent in extents:
            if how == NEAR:
                self.memory.round_trips += -(-extent.pages.size // CHUNK)
                found += self._process.checksums(extent.va, extent.pages.size)
            else:
                for chunk in chunks(self.memory, [Extent(extent.va, extent.capacity, extent.pages.size)]):
                    found += [zlib.crc32(chunk[at : at + PAGE_SIZE]) for at in range(0, len(chunk), PAGE_SIZE)]
        took = (time.perf_counter() - start) * 1e3
        return {"ms": took, "checksums": found, "interconnect": self.memory.round_trips - before}

    def do_take(self, name: str, free: bool) -> dict[str, Any]:
        """The checksum of what arrived; its memory is given back, also what was granted (``free``)."""
        parcel = self.inbox.arrived.pop(name)
        held = [parcel.data] if parcel.data is not None else chunks(self.memory, parcel.extents)
        checksum = 0
        for chunk in held:
            checksum = zlib.crc32(chunk, checksum)
        for extent in parcel.extents if free else ():
            self.memory.free(extent.va, extent.pages.size)
        self.inbox.arena.free()
        return {"checksum": checksum}


if __name__ == "__main__":
    sys.exit(main(__doc__, TransferWorker))
