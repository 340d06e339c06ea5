"""One worker of a job gets slow, or dies, in the middle of its task: waiting, restarting the task, and stealing what is done."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from experiments.framework.measure import Meter, rack_ports, since
from experiments.framework.model import Case, Chart, Claim, Context, Experiment, Finding, Row, Traffic
from experiments.framework.summary import select, value
from experiments.hit_job import WRONG, HitJob, Subject, job_group
from experiments.job_team import OPTIONS, first
from topologies.launch import RackLauncher
from topologies.racks import small_rack

MIB = 1 << 20
PERIOD = 0.1  # seconds in which a slowed element runs once
WEIGHT = 6  # seconds or so that a job takes, with its preparation
SCENARIOS = ("slow", "dead")
ALL = (("slow", "wait"), ("slow", "restart"), ("slow", "steal"), ("dead", "restart"), ("dead", "steal"))


@dataclass(frozen=True)
class Options:
    """``mib`` of text for ``workers`` tasks; one of them is hit when ``parts`` of it are done; a slowed element runs
    for ``share``."""

    mib: int
    workers: int
    parts: tuple[float, ...]
    ways: tuple[tuple[str, str], ...] = ALL  # (scenario, what is done)
    share: float = 0.05


def cases(options: Options) -> list[tuple[str, float, str]]:
    """(scenario, part done, way)."""
    return [(scenario, part, way) for part in options.parts for scenario, way in options.ways]


def steps(options: Options, repetitions: int) -> float:
    """Of the progress bar."""
    return 1 + repetitions * len(cases(options)) * WEIGHT


@contextlib.contextmanager
def slowed(processes: Sequence[int], share: float) -> Iterator[None]:
    """These Unix processes run for this share of the time, as on an element with too much to do."""
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            _signal(processes, signal.SIGSTOP)
            stop.wait(PERIOD * (1 - share))
            _signal(processes, signal.SIGCONT)
            stop.wait(PERIOD * share)

    thread = threading.Thread(target=work, name="slows an element")
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        _signal(processes, signal.SIGCONT)


def _signal(processes: Sequence[int], number: int) -> None:
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, number)


def run(context: Context[Options]) -> Iterator[Row]:
    """All ways of a scenario take turns within a repetition."""
    options = context.options
    context.step("booting a rack")
    subject = Subject(context.out, options.mib, options.workers)
    rack = small_rack(options.workers + 1, dram=2, nvm=0, memory_mib=max(32, 4 * options.mib), name="straggler")
    with context.rack(rack, "rack", controller_options=OPTIONS) as launched:
        group = job_group(launched)
        for repetition in range(context.repetitions):
            for scenario, part, way in cases(options):
                context.step(f"{scenario} at {part:.0%}, {way}", WEIGHT)
                case: dict[str, Case] = {"scenario": scenario, "done, %": round(100 * part), "way": way}

                def measure(case: dict[str, Case] = case, part: float = part, number: int = repetition) -> Row:
                    with subject.job(launched, group, first(rack, options.workers + 1)) as job:
                        row = _hit(launched, job, case, part, options.share, number)
                        right = subject.is_right(job)
                    return row if right or row.problem else replace(row, problem=WRONG)

                yield context.row(case, repetition, measure)
    subject.clean()


def _hit(rack: RackLauncher, job: HitJob, case: dict[str, Case], part: float, share: float, repetition: int) -> Row:
    """The job: its first worker is hit; when all others have ended, something is done about it."""
    scenario, way = case["scenario"], case["way"]
    meter = Meter(rack_ports(rack.rack))
    start = time.perf_counter()
    job.begin(part)
    with contextlib.ExitStack() as stack:
        if scenario == "dead":
            job.victim.kill()
        else:
            agent = rack.children[job.victim.element].popen.pid
            stack.enter_context(slowed([job.victim.unix_pid, agent], share))
            job.victim.start("map", name=job.task.name)
        for worker in job.others:
            worker.finish()
        decided, before = time.perf_counter(), meter.read()
        job.spare.call("round_trips")
        if scenario == "dead":
            _await_end(rack, job.victim.pid)
        theft = 0.0
        if way == "wait":
            job.victim.finish()
        elif way == "steal":
            theft = job.steal()
        else:
            job.restart()
        ended, counted = time.perf_counter(), since(before, meter.read())
        trips = job.spare.call("round_trips")
    # It runs as fast as ever now, and must have noticed.
    late = job.victim.finish() if scenario == "slow" and way != "wait" else {}
    job.end()
    whole = time.perf_counter() - start
    problem = job.theft_problem(late) if way == "steal" else ""
    values = {
        "job, s": whole,
        "from the decision to the end of the task, s": ended - decided,
        "finished work lost, MiB": job.lost / MIB,
        "interconnect for it, MiB": counted["interconnect"].size / MIB,
    }
    if way == "steal":
        values["steal, ms"] = theft
    traffic = {n: Traffic(0, t.messages, t.size) for n, t in counted.items()}
    traffic["interconnect"] += Traffic(trips["interconnect"])
    return Row(case, values, traffic, repetition, problem)


def _await_end(rack: RackLauncher, pid: int) -> None:
    """Until the rack knows that a process has died."""

    def gone() -> bool:
        return all(process["pid"] != pid for process in rack.get("/v1/processes")["processes"])

    rack.wait_for(gone, f"the end of process {pid}", 90)


def judge(rows: Sequence[Row]) -> list[Finding]:
    """Times by the part that was done; lost work in every row."""
    parts = sorted({int(row.case["done, %"]) for row in rows})
    what = "from the decision to the end of the task, s"
    took: dict[tuple[Case, Case, Case], float] = {}
    for row in rows:
        case = row.case
        took[case["scenario"], case["way"], case["done, %"]] = value(rows, what, **case) or 0.0

    def gains(scenario: str, way: str) -> list[float]:
        """How many times sooner a theft ended than another way, by part; none where only one was measured."""
        pairs = [(took.get((scenario, way, part)), took.get((scenario, "steal", part))) for part in parts]
        return [other / own for other, own in pairs if other is not None and own is not None]

    def finding(claim: str, scenario: str, way: str, text: str) -> Finding:
        found = gains(scenario, way)
        if not found:
            return Finding(claim, None, "this run cannot tell")
        told = ", ".join(f"{gain:.2f}" for gain in found)
        return Finding(claim, min(found) > 1, f"{text} at {', '.join(map(str, parts))} % done: {told} times sooner")

    stolen, restarted = (select(rows, {"way": way}) for way in ("steal", "restart"))
    if not stolen:
        return []
    lost, again = (max((r.values["finished work lost, MiB"] for r in own), default=0.0) for own in (stolen, restarted))
    return [
        Finding(
            "nothing is lost",
            lost == 0,
            f"lost by theft {lost:g} MiB, by restart up to {again:.3g} MiB",
            essential=True,
        ),
        finding("stragglers resume", "slow", "restart", "resumed against restarted"),
        finding("better than waiting", "slow", "wait", "resumed against waited for"),
        finding("dead elements", "dead", "restart", "resumed against restarted"),
    ]


def _charts() -> Iterator[Chart]:
    for scenario, text in zip(SCENARIOS, ("slowed", "killed"), strict=True):
        y, where = "from the decision to the end of the task, s", {"scenario": scenario}
        title = f"Element {text}: time to finish its task"
        yield Chart(
            f"{scenario}-time", title, "done, %", y, "way", where, "bar", (False, scenario == "slow"), ylabel="s"
        )
    title, y = "Element slowed: finished work that is done again", "finished work lost, MiB"
    yield Chart("lost", title, "done, %", y, "way", {"scenario": "slow"}, "bar")
    title, y = "Element killed: bytes on the interconnect until the task is finished", "interconnect for it, MiB"
    yield Chart("bytes", title, "done, %", y, "way", {"scenario": "dead"}, "bar")


EXPERIMENT = Experiment(
    name="straggler",
    title="A straggler's half-done work, stolen",
    about="An inverted index; when part of one worker's map task is done, its element becomes slow (its processes are stopped "
    "for most of the time) or the worker is killed. When all other tasks have ended the orchestrator acts: it waits, has a spare "
    "element fetch the text and do the task from the start, or has the spare steal the task's memory (text, output and the "
    "control page that says how much of it counts) and go on. Lost is text whose mapping counted and was mapped again. The "
    "result of every job is compared with an independent computation, and the slow element runs on at full speed afterwards.",
    claims=(
        Claim("nothing is lost", "5", "Half-completed computation is resumed rather than started from scratch."),
        Claim(
            "stragglers resume",
            "5",
            "Stealing the memory of a straggler's task mitigates it better than a restart does.",
        ),
        Claim("better than waiting", "5", "It is better than to wait for the straggler."),
        Claim(
            "dead elements",
            "5",
            "If only the compute element failed, the relaunched task resumes where it had stalled.",
        ),
    ),
    scales={
        "quick": Options(2, 2, (0.5,), (("slow", "restart"), ("slow", "steal"), ("dead", "steal"))),
        "full": Options(8, 3, (0.25, 0.5, 0.75)),
    },
    run=run,
    steps=steps,
    judge=judge,
    charts=tuple(_charts()),
    repetitions={"quick": 1, "full": 3},
)
