"""The key-value state: against a dict, against the memory it lies in, and against robbery at every request."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.kv import bulk
from apps.kv.commands import Answer, Command, Kind, Status, encode
from apps.kv.machine import LEAST_PAGES, MAX_SESSIONS, Machine
from apps.kv.pages import LocalPages, Pages, RackPages
from apps.kv.table import LARGEST_ITEM, Space, Table, bucket_of
from apps.structures.journal import Journal
from apps.structures.memory import PAGE, Corrupt, Full, NotFormatted
from tests.apps.fake import FakeMemory, Stolen

JOURNAL_PAGES = 40
KEYS = st.integers(0, 30).map(lambda n: b"key %d" % n)
VALUES = st.one_of(st.binary(max_size=40), st.integers(0, 1800).map(lambda n: bytes(n)))


def rack_pages(memory: FakeMemory, new: bool = False, cache: int = 4) -> RackPages:
    make = Journal.create if new else lambda m, va, size: Journal.open(m, va)
    journal = make(memory, memory.base, JOURNAL_PAGES * PAGE)
    count = len(memory.bytes) // PAGE - JOURNAL_PAGES
    return RackPages(memory, memory.base + JOURNAL_PAGES * PAGE, count, journal, cache)


# --------------------------------------------------------------------------------------------------------------------- table


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(KEYS, st.one_of(st.none(), VALUES)), max_size=80), st.booleans())
def test_a_table_is_a_map(changes: list[tuple[bytes, bytes | None]], rack: bool) -> None:
    pages: Pages = rack_pages(FakeMemory(JOURNAL_PAGES + 24), new=True) if rack else LocalPages(24)
    table, model = Table(pages, Space.over(0, 24)), dict[bytes, bytes]()
    for key, value in changes:
        if value is None:
            assert table.delete(key) == (model.pop(key, None) is not None)
        else:
            before = dict(table.items())
            try:
                table.set(key, value)
            except Full:
                assert dict(table.items()) == before, "a refused change has changed something"
                continue
            model[key] = value
        assert table.get(key) == model.get(key)
    assert dict(table.items()) == model
    assert table.space.items == len(model)


def test_pages_that_continue_buckets_are_used_again() -> None:
    table = Table(LocalPages(40), Space.over(0, 40))
    for number in range(60):
        keys = [b"%d/%d" % (number, n) for n in range(60)]
        for key in keys:
            table.set(key, bytes(1300))
        for key in keys:
            assert table.delete(key)
    assert table.space.items == 0
    assert table.space.unused > table.space.buckets, "buckets were continued"


def test_a_full_table_says_so_and_replaces_what_is_there() -> None:
    table = Table(LocalPages(8), Space.over(0, 8))
    keys = []
    with pytest.raises(Full):
        for n in range(100):
            table.set(b"%d" % n, bytes(3000))
            keys.append(b"%d" % n)
    assert len(keys) >= 3
    table.set(keys[0], bytes(4000))
    assert table.get(keys[0]) == bytes(4000)
    assert [table.get(k) for k in keys[1:]] == [bytes(3000)] * (len(keys) - 1)


def test_an_item_is_as_large_as_a_page_or_is_refused() -> None:
    table = Table(LocalPages(8), Space.over(0, 8))
    table.set(b"k", bytes(LARGEST_ITEM - 1))
    assert table.get(b"k") == bytes(LARGEST_ITEM - 1)
    with pytest.raises(ValueError, match=f"at most {LARGEST_ITEM}"):
        table.set(b"k", bytes(LARGEST_ITEM))


def test_a_bucket_that_is_continued_nowhere_is_corrupt() -> None:
    pages = LocalPages(8)
    table = Table(pages, Space.over(0, 8))
    table.set(b"k", b"v")
    pages.change(bucket_of(b"k", table.space))[0:4] = (5000).to_bytes(4, "little")
    with pytest.raises(Corrupt, match="5000"):
        table.get(_in_bucket(table))


def _in_bucket(table: Table) -> bytes:
    """A key that is not there, of the same bucket as ``k``."""
    return next(
        key for key in (b"x%d" % n for n in range(1000)) if bucket_of(key, table.space) == bucket_of(b"k", table.space)
    )


# ------------------------------------------------------------------------------------------------------------------- machine


class Driver:
    """Gives a machine one command a slot."""

    def __init__(self, machine: Machine):
        self.machine = machine

    def do(self, command: Command) -> Answer:
        (answer,) = self.machine.apply(self.machine.applied + 1, [encode(command)])
        return answer

    def open(self) -> int:
        return self.do(Command(0, 7, Kind.OPEN)).opened


@pytest.fixture
def driver() -> Driver:
    return Driver(Machine.create(LocalPages(64)))


def test_operations_and_their_answers(driver: Driver) -> None:
    s = driver.open()
    answers = [
        driver.do(Command(s, n, *rest))
        for n, rest in enumerate(
            [
                (Kind.GET, b"k"),
                (Kind.PUT, b"k", b"1"),
                (Kind.GET, b"k"),
                (Kind.CAS, b"k", b"2", b"0"),
                (Kind.CAS, b"k", b"2", b"1"),
                (Kind.CAS, b"new", b"x", None),
                (Kind.CAS, b"new", b"y", None),
                (Kind.CAS, b"new", None, b"x"),
                (Kind.GET, b"new"),
                (Kind.DELETE, b"k"),
                (Kind.DELETE, b"k"),
                (Kind.PUT, b"k", bytes(PAGE)),
            ],
            start=1,
        )
    ]
    D, M, A = Status.DONE, Status.MISMATCH, Status.ABSENT
    assert [a.status for a in answers] == [A, D, D, M, D, D, M, D, A, D, A, Status.TOO_LARGE]
    assert [a.value for a in answers[:3]] == [None, None, b"1"]


def test_an_operation_again_changes_nothing_and_has_its_result(driver: Driver) -> None:
    s, other = driver.open(), driver.open()
    swap = Command(s, 1, Kind.CAS, b"k", b"mine", None)
    assert driver.do(swap).status == Status.DONE
    driver.do(Command(other, 1, Kind.DELETE, b"k"))
    assert driver.do(swap).status == Status.DONE
    assert driver.do(Command(other, 2, Kind.GET, b"k")).status == Status.ABSENT
    failed = Command(s, 2, Kind.CAS, b"k", b"x", b"nonsense")
    assert driver.do(failed).status == driver.do(failed).status == Status.MISMATCH
    assert driver.do(swap).status == Status.STALE


def test_sessions_that_are_not_known_are_refused(driver: Driver) -> None:
    s = driver.open()
    for unknown in (0, s + 1, s + MAX_SESSIONS, -1):
        assert driver.do(Command(unknown, 1, Kind.PUT, b"k", b"v")).status == Status.EXPIRED
    for _ in range(MAX_SESSIONS - 1):
        last = driver.open()
    assert driver.do(Command(s, 1, Kind.PUT, b"k", b"v")).status == Status.DONE
    driver.open()
    assert driver.do(Command(s, 2, Kind.PUT, b"k", b"v")).status == Status.EXPIRED, "the oldest has made room"
    assert driver.do(Command(last, 1, Kind.GET, b"k")).value == b"v"


def test_bytes_that_are_no_command_are_passed_over(driver: Driver) -> None:
    assert driver.machine.apply(1, [b"\xc1", b"", encode([1, 2, "x"])]) == []
    assert driver.machine.applied == 1
    with pytest.raises(ValueError, match="slot 3"):
        driver.machine.apply(3, [])


def test_a_machine_needs_some_pages() -> None:
    with pytest.raises(ValueError, match=str(LEAST_PAGES)):
        Machine.create(LocalPages(LEAST_PAGES - 1))


def test_what_is_not_a_state_is_not_opened() -> None:
    pages = LocalPages(64)
    with pytest.raises(NotFormatted):
        Machine.open(pages)
    machine = Machine.create(pages)
    machine.extra = b"members"
    pages.change(0)[:] = machine.meta()
    assert Machine.open(pages).extra == b"members"
    pages.change(0)[20] ^= 1
    with pytest.raises(NotFormatted):
        Machine.open(pages)


def commands(seed: int, count: int) -> list[Command]:
    rng = random.Random(seed)
    made = [Command(0, n, Kind.OPEN) for n in range(3)]
    for n in range(count):
        key, value = b"key %d" % rng.randrange(20), b"%d" % n + bytes(rng.randrange(900))
        kind = rng.choice((Kind.PUT, Kind.PUT, Kind.DELETE, Kind.CAS))
        made.append(Command(1 + n % 3, n + 1, kind, key, value, None))
    return made


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1 << 30), st.integers(0, 400))
def test_a_robbed_state_is_that_after_some_keep(seed: int, requests: int) -> None:
    """Whoever opens it finds all commands up to a slot and none after it, whenever its writer was robbed."""
    memory = FakeMemory(JOURNAL_PAGES + 64)
    driver = Driver(Machine.create(rack_pages(memory, new=True)))
    driver.machine.keep()
    memory.rob_after(requests, seed)
    kept = [(0, {})]
    try:
        for n, command in enumerate(commands(seed, 60)):
            driver.do(command)
            if n % 7 == 6:
                kept.append((driver.machine.applied, dict(driver.machine.table.items())))
                driver.machine.keep()
    except Stolen:
        pass
    for _ in range(2):  # the second time, opening is robbed as well
        memory.give_to_the_next()
        memory.rob_after(requests % 5, seed + 1)
        try:
            rack_pages(memory)
        except Stolen:
            continue
    memory.give_to_the_next()
    found = Machine.open(rack_pages(memory))
    state = (found.applied, dict(found.table.items()))
    assert state in kept[-2:]


def test_opening_reads_one_page_whatever_the_size() -> None:
    counts = []
    for size in (64, 1024):
        memory = FakeMemory(JOURNAL_PAGES + size)
        pages = rack_pages(memory, new=True)
        bulk.preload(pages, size * PAGE // 3).keep()
        reads: list[int] = []
        read = memory.read
        memory.read = lambda va, n, read=read, reads=reads: (reads.append(n), read(va, n))[1]  # type: ignore[method-assign]
        machine = Machine.open(rack_pages(memory))
        assert machine.table.get(bulk.key_of(3)) is not None
        counts.append(sum(reads))
    assert counts[0] == counts[1]


def test_the_cache_is_bounded_and_forgets_the_oldest() -> None:
    memory = FakeMemory(JOURNAL_PAGES + 64)
    pages = rack_pages(memory, new=True, cache=4)
    for number in range(20):
        pages.read(number)
    assert len(pages._clean) == 4
    for number in range(20):
        pages.change(number)[0] = number + 1
    pages.keep()
    assert (len(pages._clean), pages.dirty()) == (4, 0)
    assert [n for n, page in pages.read_many(list(range(20))) if page[0] != n + 1] == []


# ---------------------------------------------------------------------------------------------------------------- bulk loader


@pytest.mark.parametrize("rack", [False, True])
def test_bulk_loading_is_as_good_as_commands(rack: bool) -> None:
    count = 256
    pages: Pages = rack_pages(FakeMemory(JOURNAL_PAGES + count), new=True) if rack else LocalPages(count)
    machine = bulk.preload(pages, count * PAGE // 2)
    expected = dict(bulk.items(count * PAGE // 2))
    assert dict(machine.table.items()) == expected
    assert machine.table.space.items == len(expected) > 400
    for number, key in enumerate(expected):
        assert machine.table.get(key) == expected[key]
        if number % 2:
            machine.table.delete(key)
        else:
            machine.table.set(key, b"new" * 100)
    assert machine.table.space.items == (len(expected) + 1) // 2


def test_too_much_is_not_loaded() -> None:
    with pytest.raises(Full, match="do not fit"):
        bulk.preload(LocalPages(64), 64 * PAGE)


@pytest.mark.parametrize("rack", [False, True])
def test_an_image_is_what_bulk_loading_gives(rack: bool, tmp_path: Path) -> None:
    count = 512
    bulk.write_image(tmp_path / "image", count, count * PAGE // 2)
    pages: Pages = rack_pages(FakeMemory(JOURNAL_PAGES + count), new=True) if rack else LocalPages(count)
    machine = bulk.load_image(pages, tmp_path / "image")
    made = bulk.preload(LocalPages(count), count * PAGE // 2)
    assert machine.table.space == made.table.space
    assert dict(machine.table.items()) == dict(bulk.items(count * PAGE // 2))


def test_an_image_of_another_state_is_refused(tmp_path: Path) -> None:
    bulk.write_image(tmp_path / "image", 256, 256 * PAGE // 2)
    with pytest.raises(NotFormatted):
        bulk.load_image(LocalPages(300), tmp_path / "image")
    with pytest.raises(Full, match="more than 64 pages"):
        bulk.load_image(LocalPages(64), tmp_path / "image")
    (tmp_path / "image").write_bytes(bytes(PAGE))
    with pytest.raises(NotFormatted):
        bulk.load_image(LocalPages(300), tmp_path / "image")
