"""A worker: map tasks, the exchange of what they made, and the reduction of one partition. Its methods ``do_X`` are its commands.

Commands and answers are JSON; whoever runs it reads them from somewhere and calls the methods (``experiments.job_worker`` does).
"""

from __future__ import annotations

import io
import queue
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from apps.dataflow.exchange import Parcel, Way
from apps.dataflow.memory import Extent, chunks, round_up, store
from apps.dataflow.peer import Peer
from apps.mapreduce import jobs
from apps.mapreduce.task import LocalTask, MapTask
from hosts.errors import RemoteMemoryError
from hosts.process import Process, Region
from protocol import capability
from protocol.wire import PAGE_SIZE

PATIENCE = 300.0  # seconds for parcels to come


class JobWorker(Peer):
    """The commands."""

    def __init__(self, process: Process, address: str):
        super().__init__(process, address)
        self._tasks: dict[str, MapTask | LocalTask] = {}
        self._kept: dict[str, Parcel] = {}  # of its own tasks, for itself
        self._fetched: list[bytes] = []  # of the partition that it reduces
        self._result: Extent | None = None
        self._told: queue.Queue[int] = queue.Queue()

    def do_load(self, path: str, start: int, end: int, group: int = 0) -> dict[str, Any]:
        """Part of a file to remote memory, as from storage."""
        region = self.memory.alloc(round_up(max(end - start, 1)), group=group)
        with Path(path).open("rb") as file:
            file.seek(start)
            extent = store(self.memory, region, end - start, file.read)
        return {"text": _place(extent)}

    # ---------------------------------------------------------------------------------------------------------------- map

    def do_task(
        self, name: str, job: dict[str, Any], text: tuple[int, int, int], base: int, local: bool, group: int = 0
    ) -> dict[str, Any]:
        """A new map task of this name; the address of its control page (0: none, its output is local)."""
        if local:
            self._tasks[name] = LocalTask(self.memory, job, Extent(*text), base)
            return {"control": 0}
        task = MapTask.create(self.memory, job, Extent(*text), base, group)
        self._tasks[name] = task
        return {"control": task.control}

    def do_map(self, name: str, part: float = 1.0) -> dict[str, Any]:
        """Do this part of a task at least, from wherever it stands. A refusal ends it (its memory is somebody else's
        now). How many bytes of the text count then."""
        task, batches, refused = self._tasks[name], 0, ""
        try:
            while not task.finished and task.done < part * task.size:
                task.step()
                batches += 1
        except RemoteMemoryError as error:
            refused = type(error).__name__
        return {"batches": batches, "refused": refused, "done": task.done, "size": task.size}

    def do_adopt(self, name: str, control: int, source: int, group: int, secret: str) -> dict[str, Any]:
        """Steal a task of another process by the secret of their group (hex); bytes of it that are done, milliseconds it took."""
        start = time.perf_counter()
        self._steal(Region(control, PAGE_SIZE), source, group, secret)
        task = MapTask.open(self.memory, control, group)
        regions = task.regions()
        with ThreadPoolExecutor(max(len(regions), 1)) as pool:
            list(pool.map(lambda region: self._steal(region, source, group, secret), regions))
        self._tasks[name] = task
        return {"done": task.state.done, "ms": (time.perf_counter() - start) * 1e3}

    def do_watch(self, source: int, group: int, secret: str) -> dict[str, Any]:
        """Stand by for another process of the group."""
        token = capability.mint(bytes.fromhex(secret), group, self.process.pid, int(time.time()) + 60)
        self.process.on_takeover(lambda takeover: self._told.put(takeover.source))
        self.process.watch(group, token, source)
        return {}

    def do_await_failure(self, timeout: float) -> dict[str, Any]:
        """Wait until the rack says that a process that this one stands by for is cut off; its number, 0 when the time is up."""
        try:
            return {"source": self._told.get(timeout=timeout)}
        except queue.Empty:
            return {"source": 0}

    def _steal(self, region: Region, source: int, group: int, secret: str) -> None:
        token = capability.mint(bytes.fromhex(secret), group, self.process.pid, int(time.time()) + 60)
        self.memory.round_trips += 1
        self.process.steal(region, source, token, group)

    # ------------------------------------------------------------------------------------------------------------ shuffle

    def do_sizes(self, name: str) -> dict[str, Any]:
        """Bytes that a finished task made for each partition."""
        return {"sizes": [parcel.size for parcel in self._parcels(name)]}

    def _parcels(self, name: str) -> list[Parcel]:
        task = self._tasks[name]
        if isinstance(task, LocalTask):
            return [Parcel(f"{name}/{r}", data=b"".join(parts)) for r, parts in enumerate(task.parts)]
        return [Parcel(f"{name}/{r}", extents) for r, extents in enumerate(task.state.output)]

    def do_shuffle(self, names: list[str], way: Way, owners: list[str], me: str, incoming: int) -> dict[str, Any]:
        """Give the partitions of these tasks to their owners, all at once, and prepare for ``incoming`` bytes; how many
        this one has given."""
        if way == "transparent" and incoming:
            self.inbox.arena.reserve(incoming)
        sending: dict[str, list[Parcel]] = {}
        for name in names:
            for parcel, owner in zip(self._parcels(name), owners, strict=True):
                if owner == me:
                    self._kept[parcel.name] = parcel
                else:
                    sending.setdefault(owner, []).append(parcel)
        return {"moved": self.send_all(sending, way)}

    # ------------------------------------------------------------------------------------------------------------- reduce

    def do_fetch(self, partition: int, tasks: list[str]) -> dict[str, Any]:
        """A partition of all these tasks, when it is there, from wherever it is; bytes of it."""
        wanted = [f"{name}/{partition}" for name in tasks]
        parcels = [*self.inbox.wait([n for n in wanted if n not in self._kept], PATIENCE)]
        parcels += [self._kept[name] for name in wanted if name in self._kept]
        self._fetched = [self._whole(parcel) for parcel in parcels]
        return {"bytes": sum(map(len, self._fetched))}

    def do_reduce(self, job: dict[str, Any]) -> dict[str, Any]:
        """Reduce what was fetched; the result is in remote memory."""
        result = jobs.make(job).reduce(self._fetched)
        self._fetched = []
        region = self.memory.alloc(round_up(max(len(result), 1)))
        self._result = store(self.memory, region, len(result), io.BytesIO(result).read)
        return {}

    def _whole(self, parcel: Parcel) -> bytes:
        return parcel.data if parcel.data is not None else b"".join(chunks(self.memory, parcel.extents))

    def do_result(self, path: str) -> dict[str, Any]:
        """The result to a file."""
        assert self._result is not None
        with Path(path).open("wb") as file:
            file.writelines(chunks(self.memory, [self._result]))
        return {}


def _place(extent: Extent) -> tuple[int, int, int]:
    return extent.va, extent.capacity, extent.used
