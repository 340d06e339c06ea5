"""A task that is taken over from a worker that was hit: what is found to be lost, or wrong, without a rack."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from apps.dataflow.crew import connect
from apps.mapreduce import jobs
from apps.mapreduce.orchestrator import Group, Run
from apps.mapreduce.worker import JobWorker
from experiments import job_text
from experiments.hit_job import JOB, HitJob
from tests.apps import rack
from tests.apps.rack import FakeProcess, Here, Rack

TEXT = job_text.corpus(1 << 20)


@pytest.fixture
def job(tmp_path: Path) -> HitJob:
    """Two workers and a spare; half of the first one's task is done."""
    memory = Rack(8000)
    workers = [
        Here(JobWorker(FakeProcess(memory, number), "127.0.0.1"), number)  # type: ignore[arg-type]
        for number in (1, 2, 3)
    ]
    connect(workers, ["127.0.0.1"] * 3)
    path = tmp_path / "text"
    path.write_bytes(TEXT)
    group = Group(rack.GROUP, rack.SECRET.hex())
    work = Run(workers[:-1], jobs.describe(JOB, 2, TEXT), path, "grant", group=group)
    work.prepare()
    begun = HitJob(work, workers)  # type: ignore[arg-type]
    begun.begin(0.5)
    for worker in begun.others:
        worker.finish()
    return begun


def late(job: HitJob, **changes: Any) -> dict[str, Any]:
    """What the victim says when it was refused."""
    return {"done": job.had, "size": len(TEXT) // 2, "refused": "PermissionDenied", **changes}


def test_a_theft_loses_nothing(job: HitJob, tmp_path: Path) -> None:
    assert 0 < job.had < len(TEXT) // 2
    assert job.lost == 0, "nobody has taken it over yet"
    job.steal()
    assert (job.resumed_at, job.lost, job.theft_problem(late(job))) == (job.had, 0, "")
    job.end()
    assert job_text.found(JOB, job.work.results(tmp_path)) == job_text.expected(JOB, TEXT)


def test_a_restart_loses_what_was_done(job: HitJob, tmp_path: Path) -> None:
    job.restart()
    assert job.lost == job.had
    job.end()
    assert job_text.found(JOB, job.work.results(tmp_path)) == job_text.expected(JOB, TEXT)


def test_work_that_counted_and_was_not_found_is_lost(job: HitJob) -> None:
    job.steal()
    assert "finished work is lost" in job.theft_problem(late(job, done=job.had + 1))
    assert job.lost == 1


def test_a_victim_that_nothing_refused_has_gone_on(job: HitJob) -> None:
    job.steal()
    assert "nothing refused" in job.theft_problem(late(job, refused=""))
