"""MapReduce over rack memory, shuffled in three ways: job time, shuffle time, what crosses the interconnect."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from apps.dataflow.exchange import WAYS, Way
from apps.mapreduce import jobs
from apps.mapreduce.orchestrator import Run
from experiments import job_text
from experiments.framework.model import Case, Chart, Claim, Context, Experiment, Finding, Row
from experiments.framework.summary import value
from experiments.job_team import QUIET, Measured, first, team
from experiments.workers import Worker
from topologies.launch import RackLauncher
from topologies.racks import small_rack

MIB = 1 << 20
JOBS = ("sort", "inverted index", "word count")


@dataclass(frozen=True)
class Options:
    """Cases are (job, MiB of text, workers)."""

    cases: tuple[tuple[str, float, int], ...]
    memory_mib: int  # of each of two memory elements


def steps(options: Options, repetitions: int) -> int:
    """Of the progress bar."""
    return 1 + repetitions * len(options.cases) * len(WAYS)


def run(context: Context[Options]) -> Iterator[Row]:
    """All ways of a case take turns within a repetition."""
    context.step("booting a rack")
    workers = max(count for _, _, count in context.options.cases)
    rack = small_rack(workers, dram=2, nvm=0, memory_mib=context.options.memory_mib, name="shuffle")
    texts: dict[float, Path] = {}
    wanted: dict[tuple[str, float], object] = {}
    for job, size, _ in context.options.cases:
        texts[size] = context.out / f"text-{size:g}"
        text = job_text.corpus(int(size * MIB))
        texts[size].write_bytes(text)
        wanted[job, size] = job_text.expected(job, text)
    with context.rack(rack, "rack", controller_options=QUIET) as launched:
        for repetition in range(context.repetitions):
            for job, size, count in context.options.cases:
                for way in WAYS:
                    context.step(f"{job}, {size:g} MiB, {count} workers, {way}")
                    with team(launched, first(rack, count)) as workers_of_job:
                        row, results = _job(
                            launched, workers_of_job, job, texts[size], size, way, repetition, context.out
                        )
                    right = job_text.found(job, results) == wanted[job, size]
                    yield row if right else Row(row.case, row.values, row.counts, repetition, _wrong(row))
    for path in (*texts.values(), *context.out.glob("result-*")):
        path.unlink()


def _wrong(row: Row) -> str:
    return f"the result is not that of an independent computation: {dict(row.case)}"


def _job(
    rack: RackLauncher, workers: list[Worker], job: str, text: Path, size: float, way: Way, repetition: int, out: Path
) -> tuple[Row, list[bytes]]:
    measured = Measured(rack.rack, workers)
    description = jobs.describe(job, len(workers), text.read_bytes())
    work = Run(workers, description, text, way, measured.after)
    work.prepare()
    measured.begin()
    work.map()
    shuffled = work.shuffle()
    reduced = work.reduce()
    traffic, seconds = measured.traffic, measured.seconds
    moved = sum(answer["moved"] for answer in shuffled.answers)
    values = {
        "job, s": sum(seconds.values()),
        "map, s": seconds["map"],
        "shuffle, s": seconds["shuffle"],
        "reduce, s": seconds["reduce"],
        "intermediate data, MiB": sum(answer["input"] for answer in reduced.answers) / MIB,
        "shuffled, MiB": moved / MIB,
        "interconnect in the shuffle, MiB": traffic["shuffle"]["interconnect"].size / MIB,
        "network in the shuffle, MiB": traffic["shuffle"]["rack"].size / MIB,
        "interconnect in the job, MiB": sum(t["interconnect"].size for t in traffic.values()) / MIB,
        "repeated requests": measured.retries,
    }
    case: dict[str, Case] = {"job": job, "MiB": size, "workers": len(workers), "way": way}
    return Row(case, values, traffic["shuffle"], repetition), work.results(out)


def judge(rows: Sequence[Row]) -> list[Finding]:
    """Bytes and time, case by case."""
    cases = list(dict.fromkeys((row.case["job"], row.case["MiB"], row.case["workers"]) for row in rows))
    ratio: dict[str, list[tuple[float, str]]] = {"shuffle": [], "job": []}
    slower: list[str] = []
    faster: list[str] = []
    for job, size, workers in cases:
        of = {
            what: {way: value(rows, what, job=job, MiB=size, workers=workers, way=way) or 0.0 for way in WAYS}
            for what in ("interconnect in the shuffle, MiB", "interconnect in the job, MiB", "shuffle, s")
        }
        text = f"{job} of {size} MiB on {workers}"
        for name in ratio:
            moved = of[f"interconnect in the {name}, MiB"]
            ratio[name].append((moved["transparent"] / max(moved["grant"], 1e-9), text))
        took = of["shuffle, s"]
        gain = f"{text}: {took['transparent'] / took['grant']:.2f} times"
        (faster if took["grant"] < took["transparent"] else slower).append(gain)
    return [
        Finding("less data in the shuffle", *_at_least(ratio["shuffle"], 3)),
        Finding("less data in the job", *_at_least(ratio["job"], 3)),
        Finding("faster", bool(faster), f"grant against transparent copy: {_several(faster)}"),
        Finding("faster at any size", not slower, f"not faster: {_several(slower)}"),
    ]


def _at_least(ratios: Sequence[tuple[float, str]], bound: float) -> tuple[bool, str]:
    least, most = min(ratios), max(ratios)
    return least[
        0
    ] >= bound, f"transparent to grant: {least[0]:.3g} times ({least[1]}) to {most[0]:.3g} times ({most[1]})"


def _several(texts: Sequence[str]) -> str:
    return "; ".join(texts) or "none"


def _charts() -> Iterator[Chart]:
    for job in JOBS:
        name = job.replace(" ", "-")
        title = f"{job.capitalize()}, 4 workers: time of the shuffle"
        where: dict[str, Case] = {"job": job, "workers": 4}
        yield Chart(f"{name}-time", title, "MiB", "shuffle, s", "way", where, log=(True, True))
        title = f"{job.capitalize()}, 4 workers: time of the job"
        yield Chart(f"{name}-job", title, "MiB", "job, s", "way", where, log=(True, True))
    title = "Sort, 4 workers: the shuffle on InfiniBand EDR"
    where = {"job": "sort", "workers": 4}
    yield Chart("sort-edr", title, "MiB", "", "way", where, log=(True, True), link="InfiniBand EDR")
    what = "interconnect in the shuffle, MiB"
    title = "Sort, 4 workers: bytes on the interconnect in the shuffle"
    yield Chart("sort-bytes", title, "MiB", what, "way", {"job": "sort", "workers": 4}, log=(True, True))
    what = "interconnect in the job, MiB"
    title = "Sort, 4 workers: bytes on the interconnect in the job"
    yield Chart("sort-bytes-job", title, "MiB", what, "way", {"job": "sort", "workers": 4}, kind="bar")
    title = "Sort of 4 MiB: time of the shuffle by workers"
    yield Chart("workers", title, "workers", "shuffle, s", "way", {"job": "sort", "MiB": 4}, kind="bar")


EXPERIMENT = Experiment(
    name="shuffle",
    title="MapReduce: the shuffle in three ways",
    about="Word count, sort and inverted index on licences and the sources of Python's library. Each worker, on a compute "
    "element of its own, maps a split of the text and reduces one partition; input and result are in rack memory. "
    "Transparent: mappers write their output to rack memory; for the shuffle it is read, sent through the rack's network and "
    "written to the reducer's memory. Grant: the pages with the output change hands. Direct: the output stays in local memory "
    "and goes through the network to the reducer's local memory, as between servers that have enough of it. What a worker "
    "makes for itself moves in no way. Counted and projected is the shuffle; results are compared with a computation in plain "
    "Python without any of this.",
    claims=(
        Claim(
            "less data in the shuffle", "5", "Grants eliminate unnecessary data transfer in shuffles (3 times less)."
        ),
        Claim("less data in the job", "5", "The same over the whole job: input, output of mappers, results included."),
        Claim("faster", "5", "Grants make shuffles faster than the transparent copy."),
        Claim("faster at any size", "5", "The same for every job and size measured."),
    ),
    scales={
        "quick": Options((("sort", 2, 2), ("word count", 1, 2)), 64),
        "full": Options(
            (
                *(("sort", size, 4) for size in (0.25, 1, 4, 16)),
                *((job, size, 4) for job in JOBS[1:] for size in (1, 4, 16)),
                ("sort", 64, 4),
                *(("sort", 4, workers) for workers in (2, 8)),
            ),
            512,
        ),
    },
    run=run,
    steps=steps,
    judge=judge,
    charts=tuple(_charts()),
    repetitions={"quick": 1, "full": 3},
)
