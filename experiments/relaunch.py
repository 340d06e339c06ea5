"""The element of a worker falls silent in the middle of a job: the rack's monitor tells the job, or a timeout of its own does."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from apps.mapreduce.orchestrator import Group
from experiments.framework.model import Case, Chart, Claim, Context, Experiment, Finding, Row, ScenarioFailed
from experiments.framework.summary import value
from experiments.hit_job import WRONG, HitJob, Subject, job_group
from topologies.launch import RackLauncher
from topologies.racks import small_rack

WAYS = ("timeout, restart", "monitor, restart", "monitor, steal")
PATIENCE = 30.0  # seconds for the monitor
WEIGHT = 12  # seconds or so that a job takes, with its preparation


@dataclass(frozen=True)
class Options:
    """``mib`` of text for ``workers`` tasks; ``timeout`` of the job in seconds, after which a worker that says nothing
    is given up."""

    mib: int
    workers: int
    timeout: float
    ways: tuple[str, ...] = WAYS


def steps(options: Options, repetitions: int) -> float:
    """Of the progress bar."""
    return 1 + repetitions * len(options.ways) * WEIGHT


def run(context: Context[Options]) -> Iterator[Row]:
    """The ways take turns within a repetition."""
    options = context.options
    context.step("booting a rack")
    subject = Subject(context.out, options.mib, options.workers)
    # An element that was silent stays fenced: each way has its own.
    rack = small_rack(options.workers + len(WAYS), dram=2, nvm=0, memory_mib=max(32, 6 * options.mib), name="relaunch")
    names = [element.name for element in rack.compute]
    for repetition in range(context.repetitions):
        with context.rack(rack, f"rack-{repetition}", controller_options=("--placement", "balance")) as launched:
            group = job_group(launched)
            for number, way in enumerate(options.ways):
                context.step(way, WEIGHT)

                def measure(
                    way: str = way, number: int = repetition, name: str = names[number], group: Group = group
                ) -> Row:
                    with subject.job(launched, group, [name, *names[len(WAYS) :]]) as job:
                        row = _silent(launched, job, group, way, options.timeout, number)
                        right = subject.is_right(job)
                    return row if right or row.problem else replace(row, problem=WRONG)

                yield context.row(_case(way, options.timeout), repetition, measure)
    subject.clean()


def _case(way: str, timeout: float) -> dict[str, Case]:
    return {"way": way, "timeout of the job, s": timeout}


def _silent(rack: RackLauncher, job: HitJob, group: Group, way: str, timeout: float, repetition: int) -> Row:
    """The job: the element of its first worker stands still for a while."""
    victim, spare = job.victim, job.spare
    if way != WAYS[0]:
        spare.call("watch", source=victim.pid, group=group.number, secret=group.secret)
    start = time.perf_counter()
    job.begin(0.5)
    processes = (rack.children[victim.element].popen.pid, victim.unix_pid)
    _signal(processes, signal.SIGSTOP)
    try:
        silent = time.perf_counter()
        victim.start("map", name=job.task.name)
        if way == WAYS[0]:
            time.sleep(max(0.0, timeout - (time.perf_counter() - silent)))
        elif spare.call("await_failure", timeout=PATIENCE)["source"] != victim.pid:
            raise ScenarioFailed(f"the monitor did not tell within {PATIENCE:.0f} s that {victim.element} is silent")
        decided = time.perf_counter()
        if way == WAYS[2]:
            job.steal()
        else:
            job.restart()
        ended = time.perf_counter()
        for worker in job.others:
            worker.finish()
    finally:
        _signal(processes, signal.SIGCONT)
    late = victim.finish()  # it was only slow: what it goes on to do must be refused, if its memory is somebody else's
    job.end()
    values = {
        "job, s": time.perf_counter() - start,
        "from silence to the decision, s": decided - silent,
        "from silence to the end of the task, s": ended - silent,
    }
    problem = job.theft_problem(late) if way == WAYS[2] else ""
    return Row(_case(way, timeout), values, {}, repetition, problem)


def _signal(processes: Sequence[int], number: int) -> None:
    for process in processes:
        os.kill(process, number)


def judge(rows: Sequence[Row]) -> list[Finding]:
    """Times against those with the job's own timeout."""
    told, done = (
        {way: found for way in WAYS if (found := value(rows, what, way=way)) is not None}
        for what in ("from silence to the decision, s", "from silence to the end of the task, s")
    )
    timeout, restart, steal = WAYS
    if timeout not in done or steal not in done:
        return []
    texts = ", ".join(f"{seconds:.2f} s ({way})" for way, seconds in done.items())
    monitored = [seconds for way, seconds in done.items() if way != timeout]
    findings = [
        Finding(
            "monitor tells",
            told[steal] < told[timeout],
            f"decided {told[steal]:.2f} s after the silence began, by the job's own timeout after {told[timeout]:.2f} s",
        ),
        Finding("relaunched sooner", max(monitored) < done[timeout], f"task finished after {texts}"),
    ]
    if restart in done:
        findings.append(Finding("resumed sooner", done[steal] < done[restart], f"task finished after {texts}"))
    return findings


EXPERIMENT = Experiment(
    name="relaunch",
    title="A silent element: the monitor tells the job",
    about="In the middle of a map task the element (its local OS and the worker) stands still. Either the job waits for a "
    "timeout of its own and restarts the task on a spare element, or the spare stands by: the rack's monitor misses "
    "heartbeats, has the element fenced and tells it. Then, while the other tasks go on, the spare restarts the task, or steals "
    "its memory and goes on. The element comes back later; the result is compared with an independent computation. How long a "
    "job's own timeout is, is a choice: frameworks have minutes.",
    claims=(
        Claim("monitor tells", "3.3, 5", "A rack-level monitor can set more aggressive timeouts than the application."),
        Claim("relaunched sooner", "5", "Told by the monitor, the orchestrator relaunches sooner."),
        Claim("resumed sooner", "5", "The relaunched task ends sooner when it resumes than when it is restarted."),
    ),
    scales={"quick": Options(1, 2, 2.0, (WAYS[0], WAYS[2])), "full": Options(8, 3, 10.0)},
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
