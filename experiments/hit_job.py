"""A job whose first worker is hit when part of its task is done, and a spare that takes the task over: what ``straggler`` and
``relaunch`` have in common."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from apps.mapreduce import jobs
from apps.mapreduce.orchestrator import Group, Run
from experiments import job_text
from experiments.framework.model import ScenarioFailed
from experiments.job_team import team
from experiments.workers import Worker
from topologies.launch import RackLauncher

MIB = 1 << 20
JOB = "inverted index"
WRONG = "the result is not that of an independent computation"


class HitJob:
    """The job, once. ``had``: bytes of the hit task's text that counted when the job last heard of it."""

    def __init__(self, work: Run, workers: Sequence[Worker]):
        self.work, self.task = work, work.tasks[0]
        self.victim, self.spare, self.others = workers[0], workers[-1], workers[1:-1]
        self.had = 0
        self.resumed_at: int | None = None  # bytes of the text that the spare did not have to map; None: not taken over

    def begin(self, part: float) -> None:
        """All tasks; the one that is to be hit up to this part of it."""
        for worker in self.others:
            worker.start("map", name=worker.name)
        self.had = self.victim.call("map", name=self.task.name, part=part)["done"]

    def restart(self) -> None:
        """Have the spare do the task from the start to its end. Raises ScenarioFailed."""
        self.work.restart(self.task, self.spare)
        self.resumed_at = 0
        self._await_spare()

    def steal(self) -> float:
        """Have the spare steal the task and go on from where it stood to its end; milliseconds of the theft. Raises
        ScenarioFailed."""
        stolen = self.work.resume(self.task, self.spare)
        self.resumed_at = stolen["done"]
        self._await_spare()
        return float(stolen["ms"])

    def _await_spare(self) -> None:
        answer = self.spare.finish()
        if answer["done"] != answer["size"]:
            raise ScenarioFailed(f"the task ended at {answer['done']} of {answer['size']} bytes: {answer['refused']}")

    def end(self) -> None:
        """All that comes after the tasks."""
        self.work.shuffle()
        self.work.fetch()
        self.work.reduce()

    @property
    def lost(self) -> int:
        """Bytes of text whose mapping counted, and that were mapped again by who took the task over."""
        return 0 if self.resumed_at is None else max(0, self.had - self.resumed_at)

    def theft_problem(self, late: dict[str, Any]) -> str:
        """What is wrong with the theft; empty if nothing is. ``late``: what a victim that lives said of its task afterwards."""
        assert self.resumed_at is not None
        self.had = max(self.had, late.get("done", 0))  # it may have got on before its memory was stolen
        if self.lost:
            return f"finished work is lost: {self.had} bytes counted, the thief found {self.resumed_at}"
        if late and not late["refused"] and self.resumed_at < late["size"]:
            return f"nothing refused what the victim did after the theft: {late}, the thief found {self.resumed_at}"
        return ""


class Subject:
    """What the job works on, and what it must find by an independent computation. Files go to ``out``."""

    def __init__(self, out: Path, mib: int, workers: int):
        """``mib`` of text for ``workers`` tasks."""
        self._out, self._path = out, out / "text"
        text = job_text.corpus(mib * MIB)
        self._path.write_bytes(text)
        self._wanted = job_text.expected(JOB, text)
        self._description = jobs.describe(JOB, workers, text)

    @contextlib.contextmanager
    def job(self, rack: RackLauncher, group: Group, names: Sequence[str]) -> Iterator[HitJob]:
        """A job that is ready to begin, by workers on these elements: the first will be hit, the last is the spare."""
        with team(rack, names) as workers:
            work = Run(workers[:-1], self._description, self._path, "grant", group=group)
            work.prepare()
            yield HitJob(work, workers)

    def is_right(self, job: HitJob) -> bool:
        """Whether a job that has ended found what it must."""
        return job_text.found(JOB, job.work.results(self._out)) == self._wanted

    def clean(self) -> None:
        """Remove the files."""
        for file in (self._path, *self._out.glob("result-*")):
            file.unlink()


def job_group(rack: RackLauncher) -> Group:
    """A new group of the rack, whose processes may steal each other's tasks."""
    made = rack.post("/v1/groups", {"name": "job"})
    return Group(made["id"], made["secret"])
