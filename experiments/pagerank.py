"""PageRank in rounds over rack memory; after each round all parts exchange contributions, in three ways."""

from __future__ import annotations

import itertools
import time
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from apps.dataflow.exchange import WAYS, Way
from apps.graph.pagerank import Part, bounds
from apps.graph.worker import save_part
from apps.mapreduce.orchestrator import Phase
from experiments import graph_data
from experiments.framework.model import Case, Chart, Claim, Context, Experiment, Finding, Row, Traffic
from experiments.framework.summary import value
from experiments.job_team import OPTIONS, Measured, first, team
from experiments.workers import Worker
from topologies.launch import RackLauncher
from topologies.racks import small_rack

MIB = 1 << 20
TOLERANCE = 1e-12  # of a rank; they add up to 1


@dataclass(frozen=True)
class Options:
    """Cases are (KiB of text that the graph is made of, workers)."""

    cases: tuple[tuple[int, int], ...]
    rounds: int


@dataclass(frozen=True)
class Graph:
    """A graph made of ``size`` KiB of text, and its ranks after the rounds."""

    size: int
    nodes: int
    edges: graph_data.Edges
    ranks: Sequence[float]


def steps(options: Options, repetitions: int) -> float:
    """Of the progress bar."""
    return 1 + repetitions * len(WAYS) * sum(_weight(*case) for case in options.cases)


def _weight(size: int, workers: int) -> float:
    """Seconds or so that ranks of a graph take, with their preparation."""
    return 1 + size / 1024 + workers / 4


def run(context: Context[Options]) -> Iterator[Row]:
    """All ways of a case take turns within a repetition."""
    options = context.options
    context.step("booting a rack")
    graphs: dict[int, Graph] = {}
    for size in {size for size, _ in options.cases}:
        nodes, edges = graph_data.graph(size << 10)
        graphs[size] = Graph(size, nodes, edges, graph_data.expected(nodes, edges, options.rounds))
        context.note(f"{size} KiB of text: {nodes:,} pairs of words, {len(edges):,} edges between them")
    for size, count in options.cases:
        _save_parts(graphs[size], count, context.out)
    rack = small_rack(max(count for _, count in options.cases), dram=2, nvm=0, memory_mib=128, name="pagerank")
    with context.rack(rack, "rack", controller_options=OPTIONS) as launched:
        for repetition in range(context.repetitions):
            for size, count in options.cases:
                for way in WAYS:
                    context.step(f"{graphs[size].nodes} nodes, {count} workers, {way}", _weight(size, count))

                    def measure(size: int = size, count: int = count, way: Way = way, number: int = repetition) -> Row:
                        with team(launched, first(rack, count), "experiments.graph_worker") as workers:
                            return _ranks(launched, workers, graphs[size], way, options.rounds, number, context.out)

                    yield context.row(_case(graphs[size], count, way), repetition, measure)
    for path in (*context.out.glob("part-*"), *context.out.glob("ranks-*")):
        path.unlink()


def _case(graph: Graph, workers: int, way: Way) -> dict[str, Case]:
    return {"KiB of text": graph.size, "nodes": graph.nodes, "workers": workers, "way": way}


def _part(graph: Graph, number: int, workers: int, out: Path) -> Path:
    return out / f"part-{graph.nodes}-{number}-of-{workers}"


def _save_parts(graph: Graph, workers: int, out: Path) -> None:
    """As from storage: a file for each worker."""
    for number, (low, high) in enumerate(itertools.pairwise(bounds(graph.nodes, workers))):
        save_part(Part.of(graph.edges, low, high), _part(graph, number, workers, out))


def _ranks(
    rack: RackLauncher, workers: list[Worker], graph: Graph, way: Way, rounds: int, repetition: int, out: Path
) -> Row:
    limits = bounds(graph.nodes, len(workers))
    names = [worker.name for worker in workers]
    for number, worker in enumerate(workers):
        path = str(_part(graph, number, len(workers), out))
        worker.call("setup", path=path, nodes=graph.nodes, limits=limits, names=names, me=number, way=way)
    measured = Measured(rack.rack, workers)
    seconds = dict.fromkeys(("scatter", "exchange", "gather"), 0.0)
    exchanged: dict[str, Traffic] = {"interconnect": Traffic(), "rack": Traffic()}
    whole = 0.0
    moved = 0
    for _ in range(rounds):
        for do in seconds:
            phase = _phase(workers, do)
            measured.after(phase)
            seconds[do] += phase.seconds
            whole += measured.traffic[do]["interconnect"].size
            moved += sum(answer.get("moved", 0) for answer in phase.answers)
        for network, traffic in measured.traffic["exchange"].items():
            exchanged[network] += traffic
    found = _result(workers, out)
    right = len(found) == graph.nodes and all(abs(a - b) < TOLERANCE for a, b in zip(found, graph.ranks, strict=True))
    case = _case(graph, len(workers), way)
    values = {
        "job, s": sum(seconds.values()),
        "exchange, s": seconds["exchange"],
        "a worker's parcel, KiB": moved / rounds / len(workers) / max(len(workers) - 1, 1) / 1024,
        "exchanged, MiB": moved / MIB,
        "interconnect in exchanges, MiB": exchanged["interconnect"].size / MIB,
        "network in exchanges, MiB": exchanged["rack"].size / MIB,
        "interconnect in the job, MiB": whole / MIB,
        "repeated requests": measured.retries,
    }
    problem = "" if right else f"the ranks are not those of an independent computation: {case}"
    return Row(
        case, values, {"interconnect": exchanged["interconnect"], "rack": exchanged["rack"]}, repetition, problem
    )


def _phase(workers: Sequence[Worker], do: str) -> Phase:
    start = time.perf_counter()
    for worker in workers:
        worker.start(do)
    answers = [worker.finish() for worker in workers]
    return Phase(do, time.perf_counter() - start, answers)


def _result(workers: Sequence[Worker], out: Path) -> array[float]:
    ranks = array("d")
    for worker in workers:
        path = out / f"ranks-{worker.name}"
        worker.call("result", path=str(path))
        ranks.frombytes(path.read_bytes())
    return ranks


def judge(rows: Sequence[Row]) -> list[Finding]:
    """Bytes and time of the exchanges, case by case."""
    cases = list(dict.fromkeys((row.case["nodes"], row.case["workers"]) for row in rows))
    less: list[float] = []
    gains: list[tuple[float, float, str]] = []  # by parcel in KiB
    for nodes, workers in cases:
        moved, took = (
            {way: value(rows, what, nodes=nodes, workers=workers, way=way) for way in ("transparent", "grant")}
            for what in ("interconnect in exchanges, MiB", "exchange, s")
        )
        if took["transparent"] is None or took["grant"] is None:
            continue
        parcel = value(rows, "a worker's parcel, KiB", nodes=nodes, workers=workers) or 0.0
        less.append((moved["transparent"] or 0.0) / max(moved["grant"] or 0.0, 1e-9))
        gain = took["transparent"] / took["grant"]
        gains.append((parcel, gain, f"{parcel:.0f} KiB ({workers} workers) {gain:.2f}"))
    if not gains:
        return []
    gains.sort()
    texts = ", ".join(text for _, _, text in gains)
    return [
        Finding("less data", min(less) >= 3, f"transparent to grant: {min(less):.3g} to {max(less):.3g} times"),
        Finding("faster", gains[-1][1] > 1, f"grant against transparent copy, times, by parcel: {texts}"),
        Finding(
            "faster at any size",
            all(gain > 1 for _, gain, _ in gains),
            f"at least {min(g for _, g, _ in gains):.2f} times",
        ),
    ]


EXPERIMENT = Experiment(
    name="pagerank",
    title="PageRank: exchanges between nodes of the data flow graph",
    about="Nodes of the graph are pairs of words of real text, edges lead to the pair that comes next. Each worker has a range "
    "of the nodes; edges and ranks are in rack memory and read in every round. Then each gives each the contributions to its "
    "nodes: read, sent and written (transparent), sent from local to local memory (direct), or by grant; buffers that were "
    "granted are used for the next round, so that pages go round. Ranks are compared with an independent computation.",
    claims=(
        Claim("less data", "5", "Grants eliminate unnecessary data transfer between nodes in the data flow graph."),
        Claim("faster", "5", "Grants make these transfers faster (judged by the largest parcels)."),
        Claim("faster at any size", "5", "The same for every graph and number of workers measured."),
    ),
    scales={
        "quick": Options(((1024, 2),), 2),
        "full": Options(((256, 4), (1024, 4), (4096, 2), (4096, 4), (4096, 8), (11264, 4)), 5),
    },
    run=run,
    steps=steps,
    judge=judge,
    charts=(
        Chart("exchange", "4 workers: time of all exchanges", "nodes", "exchange, s", "way", {"workers": 4}, "bar"),
        Chart("job", "4 workers: time of the job", "nodes", "job, s", "way", {"workers": 4}, "bar"),
        Chart(
            "workers",
            "Graph of 4 MiB of text: time of all exchanges",
            "workers",
            "exchange, s",
            "way",
            {"KiB of text": 4096},
            "bar",
        ),
        Chart(
            "edr",
            "4 workers: exchanges on InfiniBand EDR",
            "nodes",
            "",
            "way",
            {"workers": 4},
            "bar",
            (False, True),
            link="InfiniBand EDR",
        ),
    ),
    repetitions={"quick": 1, "full": 3},
)
