"""MapReduce without a rack: what jobs compute, what a robbed task leaves, what the ways of moving data deliver."""

from __future__ import annotations

import contextlib
import itertools
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.dataflow.crew import connect
from apps.dataflow.exchange import WAYS, ExchangeError, Inbox, Outbox, Parcel, Way
from apps.dataflow.memory import Arena, Counted, Extent, Memory, chunks, store
from apps.mapreduce import jobs
from apps.mapreduce.orchestrator import Group, Phase, Run
from apps.mapreduce.task import BATCH, LocalTask, MapTask, State, TaskError
from apps.mapreduce.worker import JobWorker
from experiments import job_text
from protocol.wire import PAGE_SIZE
from tests.apps import rack
from tests.apps.fake import Stolen
from tests.apps.rack import FakeProcess, Here, Rack

LINES = st.lists(
    st.binary(max_size=30).map(lambda line: line.translate(None, b"\n\r\v\f\x1c\x1d\x1e\x85") + b"\n"), max_size=60
)


GROUP = Group(rack.GROUP, rack.SECRET.hex())


def team(count: int) -> list[Here]:
    memory = Rack(8000)
    workers = [
        Here(JobWorker(FakeProcess(memory, number), "127.0.0.1"), number)  # type: ignore[arg-type]
        for number in range(1, count + 1)
    ]
    connect(workers, ["127.0.0.1"] * count)
    return workers


def whole(memory: Memory, extents: list[Extent]) -> bytes:
    return b"".join(chunks(memory, extents))


def loaded(memory: Memory, text: bytes) -> Extent:
    data = iter([text[i : i + (128 << 10)] for i in range(0, len(text), 128 << 10)])
    return store(memory, memory.alloc(max(len(text), 1)), len(text), lambda length: next(data))


def sample(size: int, seed: int = 1) -> bytes:
    rng = random.Random(seed)
    words = [b"alpha", b"beta_x", b"Gamma", b"42", b"delta", b"of", b"the"]
    lines = []
    while sum(map(len, lines)) < size:
        lines.append(b" ".join(rng.choice(words) for _ in range(rng.randrange(200))) + b"\n")
    return b"".join(lines)


@given(LINES, st.integers(1, 5), st.sampled_from(["sort", "word count", "inverted index"]), st.integers(1, 4))
def test_jobs_find_what_an_independent_computation_finds(
    lines: list[bytes], partitions: int, name: str, mappers: int
) -> None:
    text = b"".join(lines)
    description = jobs.describe(name, partitions, text) if text else {"name": name, "partitions": 1}
    job = jobs.make(description)
    mapped = [job.map(text[start:end], start) for start, end in jobs.splits(text, mappers)]
    results = [job.reduce([parts[r] for parts in mapped]) for r in range(job.partitions)]
    assert job_text.found(name, results) == job_text.expected(name, text)


@pytest.mark.parametrize(
    ("description", "said"),
    [
        ({"name": "guess", "partitions": 2}, "there are word count"),
        ({"name": "sort", "partitions": 3, "splitters": ["x"]}, "2 splitters, not 1"),
        ({"name": "word count"}, "at least one partition"),
    ],
)
def test_jobs_that_are_none_are_refused(description: dict[str, Any], said: str) -> None:
    with pytest.raises(jobs.JobError, match=said):
        jobs.make(description)


@given(st.binary(max_size=400), st.integers(1, 9))
def test_splits_are_the_text_in_whole_lines(text: bytes, count: int) -> None:
    ranges = jobs.splits(text, count)
    assert len(ranges) == count
    assert b"".join(text[start:end] for start, end in ranges) == text
    assert all(end == len(text) or end == start or text[end - 1 : end] == b"\n" for start, end in ranges)


def test_the_corpus_is_as_large_as_was_asked_for() -> None:
    text = job_text.corpus(300_000)
    assert 299_000 < len(text) <= 300_000
    assert text.endswith(b"\n")


def mapped_whole(job: dict[str, Any], text: bytes) -> list[bytes]:
    """What a task must make of a text: batches as it cuts them, one after the other."""
    memory = FakeProcess(Rack(4000), 1)
    local = LocalTask(memory, job, loaded(memory, text), 0)
    while not local.finished:
        local.step()
    return [b"".join(parts) for parts in local.parts]


def test_a_task_writes_what_a_local_one_keeps() -> None:
    text = sample(3 * BATCH)
    job = jobs.describe("inverted index", 3, text)
    memory = FakeProcess(Rack(4000), 1)
    task = MapTask.create(memory, job, loaded(memory, text), 0)
    while not task.finished:
        task.step()
    assert [whole(memory, extents) for extents in task.state.output] == mapped_whole(job, text)
    assert State.unpack(memory.read(task.control, PAGE_SIZE)) == task.state


TEXT = sample(5 * BATCH // 2)
SORT = jobs.describe("sort", 3, TEXT)
SORTED = mapped_whole(SORT, TEXT)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.integers(1, 900), st.integers()), min_size=1, max_size=4))
def test_whoever_steals_a_task_at_any_request_goes_on_where_it_stood(robberies: list[tuple[int, int]]) -> None:
    shared = Rack(4000)
    memory = FakeProcess(shared, 1)
    task = MapTask.create(memory, SORT, loaded(memory, TEXT), 0)
    acknowledged = 0
    for requests, seed in robberies:
        shared.rob_after(requests, seed)
        try:
            while not task.finished:
                task.step()
                acknowledged = task.state.done
        except Stolen:
            pass
        shared.give_to_the_next()
        task = MapTask.open(memory, task.control)
        assert task.state.done >= acknowledged, "finished work is lost"
    while not task.finished:
        task.step()
    assert [whole(memory, extents) for extents in task.state.output] == SORTED


def test_a_long_line_is_one_batch() -> None:
    text = b"x" * (2 * BATCH + 5) + b"\n" + b"y\n"
    memory = FakeProcess(Rack(4000), 1)
    task = MapTask.create(memory, jobs.describe("sort", 1, text), loaded(memory, text), 0)
    while not task.finished:
        task.step()
    assert sorted(whole(memory, task.state.output[0]).splitlines(keepends=True)) == text.splitlines(keepends=True)


def test_a_page_that_is_no_task_is_refused() -> None:
    memory = FakeProcess(Rack(10), 1)
    va = memory.alloc(PAGE_SIZE).va
    with pytest.raises(TaskError, match="not the control page"):
        MapTask.open(memory, va)


def test_a_task_with_too_much_to_remember_is_refused_before_anything_is_written() -> None:
    memory = FakeProcess(Rack(10), 1)
    with pytest.raises(TaskError, match="a page holds"):
        MapTask.create(memory, {"name": "word count", "partitions": 2000}, loaded(memory, b"a\n"), 0)


@contextlib.contextmanager
def pair(shared: Rack) -> Iterator[tuple[Counted, Outbox, Counted, Inbox]]:
    source, target = Counted(FakeProcess(shared, 1)), Counted(FakeProcess(shared, 2))
    inbox = Inbox(target, "127.0.0.1")
    outbox = Outbox(source, "127.0.0.1", inbox.port, 2)
    try:
        yield source, outbox, target, inbox
    finally:
        outbox.close()
        inbox.close()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("size", [0, 1, PAGE_SIZE, 300_001])
def test_parcels_arrive_whole(way: Way, size: int) -> None:
    shared, data = Rack(4000), random.Random(size).randbytes(size)
    with pair(shared) as (source, outbox, target, inbox):
        for number in range(2):
            name = f"t/{number}"
            outbox.send(Parcel(name, data=data) if way == "direct" else Parcel(name, (loaded(source, data),)), way)
        for parcel in inbox.wait(["t/1", "t/0"], 60):
            arrived = parcel.data if parcel.data is not None else whole(target, list(parcel.extents))
            assert arrived == data
            assert parcel.size == size
    assert outbox.round_trips == 2


def test_one_page_takes_three_round_trips_to_copy_and_two_to_grant() -> None:
    for way, wanted in (("transparent", (1, 1, 1)), ("grant", (1, 1, 0))):
        with pair(Rack(100)) as (source, outbox, target, inbox):
            parcel = Parcel("t", (loaded(source, bytes(PAGE_SIZE)),))
            inbox.arena.reserve(PAGE_SIZE)
            source.round_trips = target.round_trips = 0
            outbox.send(parcel, way)  # type: ignore[arg-type]
            assert (source.round_trips, outbox.round_trips, target.round_trips) == wanted


def test_a_parcel_that_does_not_fit_its_way_is_refused() -> None:
    with pair(Rack(10)) as (source, outbox, _, _):
        with pytest.raises(ValueError, match="needs local memory"):
            outbox.send(Parcel("t", (loaded(source, b"x"),)), "direct")
        with pytest.raises(ValueError, match="needs remote memory"):
            outbox.send(Parcel("t", data=b"x"), "grant")


def test_what_does_not_come_is_named() -> None:
    with pair(Rack(10)) as (_, outbox, _, inbox):
        with pytest.raises(ExchangeError, match="t/7"):
            inbox.wait(["t/7"], 0.01)
        outbox._connection.sendall(b'{"name": "t/8", "way": "direct", "size": 10, "extents": []}\nshort')
        outbox.close()
        with pytest.raises(ExchangeError, match="5 bytes early"):
            inbox.wait(["t/8"], 60)


def test_an_arena_gives_from_what_is_reserved_first() -> None:
    memory = Counted(FakeProcess(Rack(100), 1))
    arena = Arena(memory)
    arena.reserve(3 * PAGE_SIZE)
    regions = [arena.take(size) for size in (1, PAGE_SIZE + 1, 1)]
    assert memory.round_trips == 2, "the third does not fit"
    spans = sorted((region.va, region.va + region.size) for region in regions)
    assert all(end <= start for (_, end), (start, _) in itertools.pairwise(spans))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ["sort", "word count", "inverted index"])
def test_a_job_finds_the_same_in_every_way(way: Way, name: str, tmp_path: Path) -> None:
    workers = team(3)
    path = tmp_path / "text"
    path.write_bytes(TEXT)
    phases: list[Phase] = []
    work = Run(workers, jobs.describe(name, 3, TEXT), path, way, phases.append)
    work.prepare()
    work.map()
    shuffled = work.shuffle()
    work.fetch()
    work.reduce()
    assert job_text.found(name, work.results(tmp_path)) == job_text.expected(name, TEXT)
    assert [phase.name for phase in phases] == ["map", "shuffle", "fetch", "reduce"]
    assert sum(answer["moved"] for answer in shuffled.answers) > 0
    assert all(worker.call("round_trips")["interconnect"] > 0 for worker in workers)


@pytest.mark.parametrize("way", ["resume", "restart"])
def test_a_job_finds_the_same_when_a_task_changes_hands(way: str, tmp_path: Path) -> None:
    *workers, spare = team(4)
    text = sample(6 * BATCH)
    path = tmp_path / "text"
    path.write_bytes(text)
    work = Run(workers, jobs.describe("inverted index", 3, text), path, "grant", group=GROUP)
    work.prepare()
    batches = [worker.call("map", name=worker.name)["batches"] for worker in workers[1:]]
    had = workers[0].call("map", name="w1", part=0.1)
    assert 0 < had["done"] < had["size"]
    assert had["batches"] == 1
    if way == "resume":
        assert work.resume(work.tasks[0], spare)["done"] == had["done"]
    else:
        work.restart(work.tasks[0], spare)
    answer = spare.finish()
    assert answer["done"] == answer["size"]
    assert answer["batches"] == max(batches) - (way == "resume"), "tasks are of the same size"
    work.shuffle()
    work.fetch()
    work.reduce()
    assert job_text.found("inverted index", work.results(tmp_path)) == job_text.expected("inverted index", text)
