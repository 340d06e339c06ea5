"""PageRank without a rack: parts give what the whole gives, in every way of exchanging."""

from __future__ import annotations

import itertools
import json
import random
from array import array
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.dataflow.crew import connect
from apps.dataflow.exchange import WAYS, Way
from apps.graph.pagerank import Part, bounds, gather, scatter
from apps.graph.worker import GraphWorker, load_part, save_part
from experiments import graph_data
from tests.apps.rack import FakeProcess, Here, Rack

EDGES = st.integers(1, 12).flatmap(
    lambda n: st.tuples(
        st.just(n), st.lists(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)), unique=True, max_size=40)
    )
)


def by_parts(nodes: int, edges: graph_data.Edges, count: int, rounds: int) -> list[float]:
    limits = bounds(nodes, count)
    parts = [Part.of(edges, low, high) for low, high in itertools.pairwise(limits)]
    ranks = [array("d", [1 / nodes] * (high - low)) for low, high in itertools.pairwise(limits)]
    for _ in range(rounds):
        sent = [scatter(part, own, nodes, limits) for part, own in zip(parts, ranks, strict=True)]
        ranks = [gather([parcels[i] for parcels in sent], nodes) for i in range(count)]
    return [rank for own in ranks for rank in own]


@given(EDGES, st.integers(1, 4), st.integers(0, 4))
def test_parts_give_what_the_whole_gives(graph: tuple[int, graph_data.Edges], count: int, rounds: int) -> None:
    nodes, edges = graph
    wanted = graph_data.expected(nodes, edges, rounds)
    assert by_parts(nodes, edges, count, rounds) == pytest.approx(wanted, abs=1e-12)
    assert sum(wanted) == pytest.approx(1)


def test_the_graph_is_the_text_s() -> None:
    nodes, edges = graph_data.graph(60_000)
    assert nodes > 1000
    assert len(set(edges)) == len(edges) > nodes / 2
    assert {node for edge in edges for node in edge} == set(range(nodes))


def test_parts_are_kept_in_files(tmp_path: Path) -> None:
    part = Part.of([(0, 5), (2, 1), (2, 0), (9, 9)], 2, 4)
    save_part(part, tmp_path / "part")
    assert load_part(tmp_path / "part") == part
    assert part.degrees.tolist() == [2, 0]


@pytest.mark.parametrize("way", WAYS)
def test_workers_find_the_same_in_every_way(way: Way, tmp_path: Path) -> None:
    rng = random.Random(1)
    nodes, rounds, count = 2000, 4, 3
    edges = sorted({(rng.randrange(nodes), int(rng.random() ** 3 * nodes)) for _ in range(6000)})
    limits = bounds(nodes, count)
    rack = Rack(2000)
    workers = [Here(GraphWorker(FakeProcess(rack, i + 1), "127.0.0.1"), i + 1) for i in range(count)]  # type: ignore[arg-type]
    connect(workers, ["127.0.0.1"] * count)
    names = [worker.name for worker in workers]
    for number, worker in enumerate(workers):
        path = tmp_path / f"part{number}"
        save_part(Part.of(edges, limits[number], limits[number + 1]), path)
        worker.call("setup", path=str(path), nodes=nodes, limits=limits, names=names, me=number, way=way)
    allocated = rack.next
    for _ in range(rounds):
        for do in ("scatter", "exchange", "gather"):
            for worker in workers:
                worker.start(do)
            answers: list[dict[str, Any]] = [worker.finish() for worker in workers]
            assert json.dumps(answers)
    found = array("d")
    for worker in workers:
        worker.call("result", path=str(tmp_path / "ranks"))
        found.frombytes((tmp_path / "ranks").read_bytes())
    assert found.tolist() == pytest.approx(graph_data.expected(nodes, edges, rounds), abs=1e-12)
    assert rack.next == allocated, "rounds use the same pages again"
