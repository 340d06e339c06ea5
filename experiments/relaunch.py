"""The element of a worker falls silent in the middle of a job: the rack's monitor tells the job, or a timeout of its own does."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from apps.mapreduce import jobs
from apps.mapreduce.orchestrator import Group, Run
from experiments import job_text
from experiments.framework.model import Case, Chart, Claim, Context, Experiment, Finding, Row, ScenarioFailed
from experiments.framework.summary import value
from experiments.job_team import team
from experiments.workers import Worker
from topologies.launch import RackLauncher
from topologies.racks import small_rack

MIB = 1 << 20
JOB = "inverted index"
WAYS = ("timeout, restart", "monitor, restart", "monitor, steal")
PATIENCE = 30.0  # seconds for the monitor


@dataclass(frozen=True)
class Options:
    """``mib`` of text for ``workers`` tasks; ``timeout`` of the job in seconds, after which a worker that says nothing
    is given up."""

    mib: int
    workers: int
    timeout: float
    ways: tuple[str, ...] = WAYS


def steps(options: Options, repetitions: int) -> int:
    """Of the progress bar."""
    return 1 + repetitions * len(options.ways)


def run(context: Context[Options]) -> Iterator[Row]:
    """The ways take turns within a repetition."""
    options = context.options
    context.step("booting a rack")
    text = job_text.corpus(options.mib * MIB)
    path = context.out / "text"
    path.write_bytes(text)
    wanted = job_text.expected(JOB, text)
    # An element that was silent stays fenced: each way has its own.
    rack = small_rack(options.workers + len(WAYS), dram=2, nvm=0, memory_mib=max(32, 6 * options.mib), name="relaunch")
    names = [element.name for element in rack.compute]
    for repetition in range(context.repetitions):
        with context.rack(rack, f"rack-{repetition}", controller_options=("--placement", "balance")) as launched:
            made = launched.post("/v1/groups", {"name": "job"})
            group = Group(made["id"], made["secret"])
            for number, way in enumerate(options.ways):
                context.step(way)
                with team(launched, [names[number], *names[len(WAYS) :]]) as workers:
                    work = Run(workers[:-1], jobs.describe(JOB, options.workers, text), path, "grant", group=group)
                    yield _silent(launched, work, workers, way, options.timeout, repetition, context.out, wanted)
    for file in (path, *context.out.glob("result-*")):
        file.unlink()


def _silent(
    rack: RackLauncher,
    work: Run,
    workers: Sequence[Worker],
    way: str,
    timeout: float,
    repetition: int,
    out: Path,
    wanted: object,
) -> Row:
    victim, spare, others = workers[0], workers[-1], workers[1:-1]
    work.prepare()
    task = work.tasks[0]
    if way != WAYS[0]:
        spare.call("watch", source=victim.pid, group=work.group.number, secret=work.group.secret)
    start = time.perf_counter()
    for worker in others:
        worker.start("map", name=worker.name)
    had = victim.call("map", name=task.name, part=0.5)["done"]
    processes = (rack.children[victim.element].popen.pid, victim.unix_pid)
    _signal(processes, signal.SIGSTOP)
    try:
        silent = time.perf_counter()
        victim.start("map", name=task.name)
        for worker in others:
            worker.finish()
        if way == WAYS[0]:
            time.sleep(max(0.0, timeout - (time.perf_counter() - silent)))
        elif spare.call("await_failure", timeout=PATIENCE)["source"] != victim.pid:
            raise ScenarioFailed(f"the monitor did not tell within {PATIENCE:.0f} s that {victim.element} is silent")
        decided = time.perf_counter()
        found = had
        if way == WAYS[2]:
            found = work.resume(task, spare)["done"]
        else:
            work.restart(task, spare)
        spare.finish()
        ended = time.perf_counter()
    finally:
        _signal(processes, signal.SIGCONT)
    late = victim.finish()  # it was only slow: what it goes on to do must be refused, if its memory is somebody else's
    work.shuffle()
    work.reduce()
    values = {
        "job, s": time.perf_counter() - start,
        "from silence to the decision, s": decided - silent,
        "from silence to the end of the task, s": ended - silent,
    }
    problem = ""
    if job_text.found(JOB, work.results(out)) != wanted:
        problem = "the result is not that of an independent computation"
    elif found < had:
        problem = f"finished work is lost: {had} bytes counted, the thief found {found}"
    elif way == WAYS[2] and not late["refused"] and late["done"] > found:
        problem = f"the silent worker went on after the theft: {late}, the thief found {found}"
    case: dict[str, Case] = {"way": way, "timeout of the job, s": timeout}
    return Row(case, values, {}, repetition, problem)


def _signal(processes: Sequence[int], number: int) -> None:
    for process in processes:
        os.kill(process, number)


def judge(rows: Sequence[Row]) -> list[Finding]:
    """Times against those with the job's own timeout."""
    told, done = (
        {way: found for way in WAYS if (found := value(rows, what, way=way)) is not None}
        for what in ("from silence to the decision, s", "from silence to the end of the task, s")
    )
    timeout, _, steal = WAYS
    took = [done[way] for way in WAYS if way in done]
    texts = ", ".join(f"{seconds:.2f} s ({way})" for way, seconds in done.items())
    return [
        Finding(
            "monitor tells",
            told[steal] < told[timeout],
            f"decided {told[steal]:.2f} s after the silence began, by the job's own timeout after {told[timeout]:.2f} s",
        ),
        Finding("relaunched sooner", took == sorted(took, reverse=True), f"task finished after {texts}"),
    ]


EXPERIMENT = Experiment(
    name="relaunch",
    title="A silent element: the monitor tells the job",
    about="In the middle of a map task the element (its local OS and the worker) stands still. Either the job waits for a "
    "timeout of its own and restarts the task on a spare element, or the spare stands by: the rack's monitor misses "
    "heartbeats, has the element fenced and tells it. Then it restarts the task, or steals the memory and goes on. The element "
    "comes back later; the result is compared with an independent computation. How long a job's own timeout is, is a choice: "
    "frameworks have minutes.",
    claims=(
        Claim("monitor tells", "3.3, 5", "A rack-level monitor can set more aggressive timeouts than the application."),
        Claim("relaunched sooner", "5", "Told by the monitor, the orchestrator relaunches sooner; it resumes, too."),
    ),
    scales={"quick": Options(1, 2, 2.0, (WAYS[0], WAYS[2])), "full": Options(12, 3, 10.0)},
    run=run,
    steps=steps,
    judge=judge,
    charts=(
        Chart(
            "relaunch",
            "From silence to the end of the task",
            "timeout of the job, s",
            "from silence to the end of the task, s",
            "way",
            kind="bar",
            ylabel="s",
        ),
    ),
    repetitions={"quick": 1, "full": 3},
)
