"""MapReduce over rack memory, shuffled in three ways: job time, shuffle time, what crosses the interconnect."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from apps.dataflow.exchange import WAYS, Way
from apps.mapreduce import jobs
from apps.mapreduce.orchestrator import Run
from experiments import job_text
from experiments.framework.model import Case, Chart, Claim, Context, Experiment, Finding, Row
from experiments.framework.summary import number, value
from experiments.job_team import OPTIONS, Measured, first, team
from experiments.workers import Worker
from topologies.launch import RackLauncher
from topologies.racks import small_rack

MIB = 1 << 20
JOBS = ("sort", "inverted index", "word count")
PARCEL = "a mapper's parcel for a reducer, KiB"
IN_SHUFFLE = "interconnect in the shuffle, MiB"
UNTIL_READ = "interconnect until reducers have read it, MiB"
IN_JOB = "interconnect in the job, MiB"
BY_WORKERS = (4, 16)  # MiB that are sorted by different numbers of workers


@dataclass(frozen=True)
class Options:
    """Cases are (job, MiB of text, workers); ``large`` ones are measured once."""

    cases: tuple[tuple[str, float, int], ...]
    memory_mib: int  # of each of two memory elements
    large: tuple[tuple[str, float, int], ...] = ()

    def of(self, repetition: int) -> tuple[tuple[str, float, int], ...]:
        """The cases of a repetition."""
        return self.cases + (self.large if repetition == 0 else ())


def steps(options: Options, repetitions: int) -> float:
    """Of the progress bar."""
    return 1 + len(WAYS) * sum(_weight(size) for number in range(repetitions) for _, size, _ in options.of(number))


def _weight(size: float) -> float:
    """Seconds or so that a job on so many MiB takes, with its preparation."""
    return 1 + size / 2


def run(context: Context[Options]) -> Iterator[Row]:
    """All ways of a case take turns within a repetition."""
    context.step("booting a rack")
    cases = context.options.of(0)
    workers = max(count for _, _, count in cases)
    rack = small_rack(workers, dram=2, nvm=0, memory_mib=context.options.memory_mib, name="shuffle")
    context.note(f"There are {job_text.available() / MIB:.1f} MiB of text; what is larger repeats it.")
    texts: dict[float, Path] = {}
    wanted: dict[tuple[str, float], object] = {}
    for job, size, _ in cases:
        texts[size] = context.out / f"text-{size:g}"
        text = job_text.corpus(int(size * MIB))
        texts[size].write_bytes(text)
        wanted[job, size] = job_text.expected(job, text)
    with context.rack(rack, "rack", controller_options=OPTIONS) as launched:
        for repetition in range(context.repetitions):
            for job, size, count in context.options.of(repetition):
                for way in WAYS:
                    context.step(f"{job}, {size:g} MiB, {count} workers, {way}", _weight(size))

                    def measure(
                        job: str = job, size: float = size, count: int = count, way: Way = way, number: int = repetition
                    ) -> Row:
                        with team(launched, first(rack, count)) as workers:
                            row, results = _job(launched, workers, job, texts[size], size, way, number, context.out)
                        right = job_text.found(job, results) == wanted[job, size]
                        return row if right else replace(row, problem=_wrong(row))

                    yield context.row(_case(job, size, count, way), repetition, measure)
    for path in (*texts.values(), *context.out.glob("result-*")):
        path.unlink()


def _case(job: str, size: float, workers: int, way: Way) -> dict[str, Case]:
    return {"job": job, "MiB": size, "workers": workers, "way": way}


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
    fetched = work.fetch()
    work.reduce()
    traffic, seconds = measured.traffic, measured.seconds
    interconnect = {name: t["interconnect"].size / MIB for name, t in traffic.items()}
    moved = sum(answer["moved"] for answer in shuffled.answers)
    values = {
        "job, s": sum(seconds.values()),
        "map, s": seconds["map"],
        "shuffle, s": seconds["shuffle"],
        "fetch, s": seconds["fetch"],
        "reduce, s": seconds["reduce"],
        "intermediate data, MiB": sum(answer["bytes"] for answer in fetched.answers) / MIB,
        "shuffled, MiB": moved / MIB,
        PARCEL: moved / len(workers) / (len(workers) - 1) / 1024,
        IN_SHUFFLE: interconnect["shuffle"],
        UNTIL_READ: interconnect["shuffle"] + interconnect["fetch"],
        "network in the shuffle, MiB": traffic["shuffle"]["rack"].size / MIB,
        IN_JOB: sum(interconnect.values()),
        "repeated requests": measured.retries,
    }
    return Row(_case(job, size, len(workers), way), values, traffic["shuffle"], repetition), work.results(out)


@dataclass(frozen=True)
class _Compared:
    """A case: how many times less and sooner by grant than by the transparent copy. ``parcel`` in KiB."""

    text: str
    parcel: float
    gains: dict[str, float]  # by value

    def gain(self, what: str) -> str:
        """With the case, for people."""
        return f"{self.text}: {number(self.gains[what])}"


def _compared(rows: Sequence[Row]) -> list[_Compared]:
    """All cases that were measured in both ways, by growing parcels."""
    found = []
    for job, size, workers in dict.fromkeys((row.case["job"], row.case["MiB"], row.case["workers"]) for row in rows):
        of = {"job": job, "MiB": size, "workers": workers}
        if any(value(rows, PARCEL, **of, way=way) is None for way in ("transparent", "grant")):
            continue
        gains = {}
        for what in (IN_SHUFFLE, UNTIL_READ, IN_JOB, "shuffle, s", "job, s"):
            copied, granted = (value(rows, what, **of, way=way) or 0.0 for way in ("transparent", "grant"))
            gains[what] = copied / max(granted, 1e-9)
        parcel = value(rows, PARCEL, **of, way="grant") or 0.0
        found.append(_Compared(f"{job} of {size:g} MiB on {workers} (parcels of {number(parcel)} KiB)", parcel, gains))
    return sorted(found, key=lambda case: case.parcel)


def judge(rows: Sequence[Row]) -> list[Finding]:
    """Bytes and times of all cases, grant against transparent copy."""
    cases = _compared(rows)
    if not cases:
        return []
    slower = [case for case in cases if case.gains["shuffle, s"] <= 1]
    return [
        _at_least("less data in the shuffle", cases, IN_SHUFFLE, 3),
        _at_least("less data until it is read", cases, UNTIL_READ, 3),
        _at_least("less data in the job", cases, IN_JOB, 3),
        _from_crossover("faster from the crossover on", cases, "shuffle, s"),
        Finding("faster at any size", not slower, f"not faster: {_several(slower, 'shuffle, s')}"),
        _from_crossover("faster jobs from a crossover on", cases, "job, s"),
    ]


def _at_least(claim: str, cases: Sequence[_Compared], what: str, bound: float) -> Finding:
    least, most = (chosen(cases, key=lambda case: case.gains[what]) for chosen in (min, max))
    text = f"transparent to grant, times: from {least.gain(what)} to {most.gain(what)}"
    return Finding(claim, least.gains[what] >= bound, text)


def _from_crossover(claim: str, cases: Sequence[_Compared], what: str) -> Finding:
    """The cases whose parcels are larger than those of any in which a grant is not faster."""
    beyond: list[_Compared] = []
    for case in reversed(cases):
        if case.gains[what] <= 1:
            break
        beyond.insert(0, case)
    if not beyond:
        return Finding(claim, False, f"not with the largest parcels: {cases[-1].gain(what)} times")
    return Finding(claim, True, f"parcels of {number(beyond[0].parcel)} KiB and more, times: {_several(beyond, what)}")


def _several(cases: Sequence[_Compared], what: str) -> str:
    return "; ".join(case.gain(what) for case in cases) or "none"


def _charts() -> Iterator[Chart]:
    for job in JOBS:
        name = job.replace(" ", "-")
        title = f"{job.capitalize()}, 4 workers: time of the shuffle"
        where: dict[str, Case] = {"job": job, "workers": 4}
        yield Chart(f"{name}-time", title, "MiB", "shuffle, s", "way", where, log=(True, True))
        title = f"{job.capitalize()}, 4 workers: time of the job"
        yield Chart(f"{name}-job", title, "MiB", "job, s", "way", where, log=(True, True))
    sort: dict[str, Case] = {"job": "sort", "workers": 4}
    title = "Sort, 4 workers: the shuffle on InfiniBand EDR"
    yield Chart("sort-edr", title, "MiB", "", "way", sort, log=(True, True), link="InfiniBand EDR")
    title = "Sort, 4 workers: bytes on the interconnect in the shuffle"
    yield Chart("sort-bytes", title, "MiB", IN_SHUFFLE, "way", sort, log=(True, True))
    title = "Sort, 4 workers: bytes on the interconnect in the job"
    yield Chart("sort-bytes-job", title, "MiB", IN_JOB, "way", sort, log=(True, True))
    for size in BY_WORKERS:
        title = f"Sort of {size} MiB: time of the shuffle by workers"
        yield Chart(f"workers-{size}", title, "workers", "shuffle, s", "way", {"job": "sort", "MiB": size}, "bar")


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
        Claim(
            "less data until it is read", "5", "The same until the reducers have read it to their local memory, too."
        ),
        Claim("less data in the job", "5", "The same over the whole job: input, output of mappers, results included."),
        Claim("faster from the crossover on", "5", "Grants make shuffles faster than the transparent copy."),
        Claim("faster at any size", "5", "The same for every job and size measured."),
        Claim("faster jobs from a crossover on", "5", "The same for whole jobs."),
    ),
    scales={
        "quick": Options((("sort", 2, 4),), 64),
        "full": Options(
            (
                *(("sort", size, 4) for size in (0.25, 1, 4, 16)),
                *((job, 16, 4) for job in JOBS[1:]),
                *(("sort", 4, workers) for workers in (2, 8)),
            ),
            512,
            (("sort", 64, 4), *(("sort", 16, workers) for workers in (2, 8))),
        ),
    },
    run=run,
    steps=steps,
    judge=judge,
    charts=tuple(_charts()),
    repetitions={"quick": 1, "full": 3},
)
