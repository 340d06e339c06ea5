"""Runs a job on workers, phase by phase: map, shuffle, reduce. Each worker maps a split of the text and reduces one partition."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from apps.mapreduce import jobs
from apps.mapreduce.exchange import Way


class Caller(Protocol):
    """A worker's process, elsewhere."""

    name: str
    pid: int

    def start(self, do: str, **arguments: Any) -> None:
        """Give a command."""

    def finish(self) -> dict[str, Any]:
        """Wait for its answer."""

    def call(self, do: str, **arguments: Any) -> dict[str, Any]:
        """Both."""


@dataclass(frozen=True)
class Phase:
    """One phase: ``seconds``, and the answers of the workers, in order."""

    name: str
    seconds: float
    answers: Sequence[dict[str, Any]]


def connect(workers: Sequence[Caller], addresses: Sequence[str]) -> None:
    """Every worker to every other."""
    places = {
        worker.name: (address, worker.call("address")["port"], worker.pid)
        for worker, address in zip(workers, addresses, strict=True)
    }
    for worker in workers:
        worker.call("connect", peers={name: place for name, place in places.items() if name != worker.name})


class Run:
    """A job on a text, shuffled in one way. Task names are the workers' names."""

    def __init__(
        self,
        workers: Sequence[Caller],
        job: dict[str, Any],
        text: Path,
        way: Way,
        after: Callable[[Phase], None] = lambda phase: None,
    ):
        """``after`` is called behind each phase, while nothing runs."""
        self.workers, self.job, self.path, self.way, self._after = workers, job, text, way, after
        self.names = [worker.name for worker in workers]

    def prepare(self, group: int = 0) -> list[dict[str, Any]]:
        """Bring the splits of the text to the workers' memory and make their tasks; what they answered to the latter."""
        ranges = jobs.splits(self.path.read_bytes(), len(self.workers))
        for worker, (start, end) in zip(self.workers, ranges, strict=True):
            worker.start("load", path=str(self.path), start=start, end=end, group=group)
        texts = [worker.finish()["text"] for worker in self.workers]
        local = self.way == "direct"
        return [
            worker.call("task", name=worker.name, job=self.job, text=text, base=start, local=local, group=group)
            for worker, text, (start, _) in zip(self.workers, texts, ranges, strict=True)
        ]

    def map(self) -> Phase:
        """All tasks to their end."""
        return self._phase("map", "map", [{"name": name} for name in self.names])

    def shuffle(self) -> Phase:
        """All partitions to the workers that reduce them."""
        sizes = [worker.call("sizes", name=worker.name)["sizes"] for worker in self.workers]
        pages = [[-(-size // 4096) * 4096 for size in of_task] for of_task in sizes]
        incoming = [sum(of_task[r] for i, of_task in enumerate(pages) if i != r) for r in range(len(self.workers))]
        arguments = [
            {"names": [name], "way": self.way, "owners": self.names, "me": name, "incoming": size}
            for name, size in zip(self.names, incoming, strict=True)
        ]
        return self._phase("shuffle", "shuffle", arguments)

    def reduce(self) -> Phase:
        """All results."""
        arguments = [{"job": self.job, "partition": r, "tasks": self.names} for r in range(len(self.workers))]
        return self._phase("reduce", "reduce", arguments)

    def results(self, directory: Path) -> list[bytes]:
        """The result of each partition, by way of files."""
        paths = [directory / f"result-{name}" for name in self.names]
        for worker, path in zip(self.workers, paths, strict=True):
            worker.start("result", path=str(path))
        for worker in self.workers:
            worker.finish()
        return [path.read_bytes() for path in paths]

    def _phase(self, name: str, do: str, arguments: Sequence[dict[str, Any]]) -> Phase:
        start = time.perf_counter()
        for worker, own in zip(self.workers, arguments, strict=True):
            worker.start(do, **own)
        answers = [worker.finish() for worker in self.workers]
        phase = Phase(name, time.perf_counter() - start, answers)
        self._after(phase)
        return phase
