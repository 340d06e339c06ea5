"""Runs a job on workers, phase by phase: map, shuffle, fetch, reduce.

Each worker maps a split of the text and reduces one partition.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from apps.dataflow.crew import Caller
from apps.dataflow.exchange import Way
from apps.dataflow.memory import round_up
from apps.mapreduce import jobs


@dataclass(frozen=True)
class Phase:
    """One phase: ``seconds``, and the answers of the workers, in order."""

    name: str
    seconds: float
    answers: Sequence[dict[str, Any]]


@dataclass
class Task:
    """A map task: bytes ``start`` to ``end`` of the text, who has it, and where its control page is (0: it has none)."""

    name: str
    start: int
    end: int
    worker: Caller
    control: int = 0


@dataclass(frozen=True)
class Group:
    """Of processes that may steal the tasks of each other; ``secret`` is hex."""

    number: int = 0
    secret: str = ""


class Run:
    """A job on a text, shuffled in one way. At first each worker has the task and the partition of its number."""

    def __init__(
        self,
        workers: Sequence[Caller],
        job: dict[str, Any],
        text: Path,
        way: Way,
        after: Callable[[Phase], None] = lambda phase: None,
        group: Group | None = None,
    ):
        """``after`` is called behind each phase, while nothing runs."""
        self.job, self.path, self.way, self._after = job, text, way, after
        self.group = group or Group()
        ranges = jobs.splits(text.read_bytes(), len(workers))
        self.tasks = [Task(w.name, start, end, w) for w, (start, end) in zip(workers, ranges, strict=True)]
        self.reducers = list(workers)

    def prepare(self) -> None:
        """Bring the splits of the text to the workers' memory and make their tasks."""
        for task in self.tasks:
            self._load(task)
        for task in self.tasks:
            self._make(task, task.worker.finish()["text"])

    def _load(self, task: Task) -> None:
        group = self.group.number
        task.worker.start("load", path=str(self.path), start=task.start, end=task.end, group=group)

    def _make(self, task: Task, text: Any) -> None:
        made = {"job": self.job, "text": text, "base": task.start, "local": self.way == "direct"}
        task.control = task.worker.call("task", name=task.name, group=self.group.number, **made)["control"]

    def map(self) -> Phase:
        """All tasks to their end."""
        return self._phase("map", [(task.worker, "map", {"name": task.name}) for task in self.tasks])

    def restart(self, task: Task, spare: Caller) -> None:
        """Have another worker fetch the text of a task and begin anew; ``spare.finish`` for its end."""
        self._replace(task, spare)
        self._load(task)
        self._make(task, task.worker.finish()["text"])
        spare.start("map", name=task.name)

    def resume(self, task: Task, spare: Caller) -> dict[str, Any]:
        """Have another worker steal a task and go on where it stood; what it found. ``spare.finish`` for its end."""
        source = task.worker
        self._replace(task, spare)
        theft = {"control": task.control, "source": source.pid, "group": self.group.number, "secret": self.group.secret}
        answer = spare.call("adopt", name=task.name, **theft)
        spare.start("map", name=task.name)
        return answer

    def _replace(self, task: Task, spare: Caller) -> None:
        """Whoever had the task reduces nothing, either."""
        self.reducers = [spare if reducer is task.worker else reducer for reducer in self.reducers]
        task.worker = spare

    def shuffle(self) -> Phase:
        """All partitions to the workers that reduce them."""
        sizes = {task.name: task.worker.call("sizes", name=task.name)["sizes"] for task in self.tasks}
        owners = [reducer.name for reducer in self.reducers]
        commands = []
        for worker in self._everybody():
            incoming = sum(
                round_up(sizes[task.name][r])
                for task in self.tasks
                for r, reducer in enumerate(self.reducers)
                if reducer is worker and task.worker is not worker
            )
            names = [task.name for task in self.tasks if task.worker is worker]
            arguments = {"names": names, "way": self.way, "owners": owners, "me": worker.name, "incoming": incoming}
            commands.append((worker, "shuffle", arguments))
        return self._phase("shuffle", commands)

    def _everybody(self) -> list[Caller]:
        """Who has a task or reduces, once."""
        return list({w.name: w for w in (*(task.worker for task in self.tasks), *self.reducers)}.values())

    def fetch(self) -> Phase:
        """Partitions from wherever the shuffle left them to the reducers' local memory."""
        names = [task.name for task in self.tasks]
        commands = [(worker, "fetch", {"partition": r, "tasks": names}) for r, worker in enumerate(self.reducers)]
        return self._phase("fetch", commands)

    def reduce(self) -> Phase:
        """All results."""
        return self._phase("reduce", [(worker, "reduce", {"job": self.job}) for worker in self.reducers])

    def results(self, directory: Path) -> list[bytes]:
        """The result of each partition, by way of files."""
        paths = [directory / f"result-{worker.name}" for worker in self.reducers]
        for worker, path in zip(self.reducers, paths, strict=True):
            worker.start("result", path=str(path))
        for worker in self.reducers:
            worker.finish()
        return [path.read_bytes() for path in paths]

    def _phase(self, name: str, commands: Sequence[tuple[Caller, str, dict[str, Any]]]) -> Phase:
        start = time.perf_counter()
        for worker, do, arguments in commands:
            worker.start(do, **arguments)
        answers = [worker.finish() for worker, _, _ in commands]
        phase = Phase(name, time.perf_counter() - start, answers)
        self._after(phase)
        return phase
