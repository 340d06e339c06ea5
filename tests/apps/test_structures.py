"""The structures: what they do undisturbed, and what is found when their writer was robbed at any request."""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.structures.journal import Journal
from apps.structures.log import Log
from apps.structures.memory import Corrupt, Counted, Full, NotFormatted
from apps.structures.namespace import Entry, Namespace, PathError
from apps.structures.tree import LARGEST_ITEM, Tree
from tests.apps.fake import PAGE, FakeMemory, Stolen

KEYS = st.binary(min_size=0, max_size=8)
VALUES = st.one_of(st.binary(max_size=20), st.integers(300, 900).map(bytes))
CHANGES = st.lists(st.tuples(KEYS, st.one_of(st.none(), VALUES)), min_size=1, max_size=40)


def robbed(memory: FakeMemory, requests: int, seed: int, work: Callable[[], None]) -> bool:
    """Whether the work was cut short."""
    memory.rob_after(requests, seed)
    try:
        work()
    except Stolen:
        return True
    finally:
        memory.give_to_the_next()
    return False


# ------------------------------------------------------------------------------------------------------------------- log


@given(st.lists(st.binary(max_size=300), max_size=30))
def test_a_log_keeps_its_records_in_order(records: list[bytes]) -> None:
    memory = FakeMemory(8)
    log = Log.create(memory, memory.base, 8 * PAGE)
    assert [log.append(r) for r in records] == list(range(len(records)))
    again = Log.open(memory, memory.base)
    assert list(again) == list(log) == records
    assert len(again) == len(records)
    again.clear()
    assert list(Log.open(memory, memory.base)) == []


@settings(deadline=None)
@given(st.lists(st.integers(0, 9000).map(bytes), max_size=8), st.integers(0, 20), st.integers())
def test_a_robbed_log_has_all_finished_records(records: list[bytes], requests: int, seed: int) -> None:
    memory = FakeMemory(20)
    log = Log.create(memory, memory.base, 20 * PAGE)
    finished: list[bytes] = []

    def work() -> None:
        for number, record in enumerate(records):
            record = bytes([number]) + record
            log.append(record)
            finished.append(record)

    records = records[:8]
    cut = robbed(memory, requests, seed, work)
    taken = Log.open(memory, memory.base)
    found = list(taken)
    assert found[: len(finished)] == finished
    assert len(found) <= len(finished) + cut, "at most the record that was under way"
    taken.append(b"of the new owner")
    assert list(Log.open(memory, memory.base)) == [*found, b"of the new owner"]


def test_a_full_log_stays_as_it_is() -> None:
    memory = FakeMemory(2)
    log = Log.create(memory, memory.base, 2 * PAGE)
    log.append(bytes(log.free))
    assert log.free <= 0
    before = bytes(memory.bytes)
    with pytest.raises(Full):
        log.append(b"x")
    assert bytes(memory.bytes) == before


def test_records_of_an_earlier_log_are_none_of_the_new_one() -> None:
    memory = FakeMemory(4)
    first = Log.create(memory, memory.base, 4 * PAGE)
    for n in range(5):
        first.append(bytes([n]) * 8)
    second = Log.create(memory, memory.base, 4 * PAGE)
    second.append(bytes([9]) * 8)
    assert list(Log.open(memory, memory.base)) == [bytes([9]) * 8]


def test_damage_is_noticed() -> None:
    memory = FakeMemory(4)
    log = Log.create(memory, memory.base, 4 * PAGE)
    log.append(b"first")
    log.append(b"second")
    memory.bytes[PAGE + 16] ^= 1
    with pytest.raises(Corrupt, match="record 0"):
        list(log)


# --------------------------------------------------------------------------------------------------------------- journal


def test_a_transaction_happens_whole_or_not() -> None:
    memory = FakeMemory(12)
    rng = random.Random(1)
    journal_at, data_at = memory.base, memory.base + 8 * PAGE
    for requests in range(40):
        journal = Journal.create(memory, journal_at, 8 * PAGE)
        memory.write(data_at, b"\0" * 4 * PAGE)
        states = [bytes(4 * PAGE)]

        def work(journal: Journal = journal, states: list[bytes] = states) -> None:
            for _ in range(4):
                after = bytearray(states[-1])
                with journal.transaction() as t:
                    writes = []
                    for _ in range(3):
                        at, data = rng.randrange(4 * PAGE - 3000), rng.randbytes(rng.randrange(3000))
                        t.write(data_at + at, data)
                        after[at : at + len(data)] = data
                        writes.append(data)
                    states.append(bytes(after))

        robbed(memory, requests, requests, work)
        Journal.open(memory, journal_at)
        assert memory.read(data_at, 4 * PAGE) in states[-2:]
        Journal.open(memory, journal_at)  # a second recovery changes nothing
        assert memory.read(data_at, 4 * PAGE) in states[-2:]


def test_recovery_may_be_robbed_too() -> None:
    memory = FakeMemory(12)
    data_at = memory.base + 8 * PAGE
    for cut in range(12):
        journal = Journal.create(memory, memory.base, 8 * PAGE)
        memory.write(data_at, bytes(4 * PAGE))

        def work(journal: Journal = journal) -> None:
            with journal.transaction() as t:
                t.write(data_at, b"a" * 2 * PAGE)
                t.write(data_at + 3 * PAGE, b"b" * PAGE)

        robbed(memory, 6, cut, work)  # the body takes 4 requests, the commit 1: it has happened
        robbed(memory, cut, cut, lambda: Journal.open(memory, memory.base) and None)
        Journal.open(memory, memory.base)
        assert memory.read(data_at, 4 * PAGE) == b"a" * 2 * PAGE + bytes(PAGE) + b"b" * PAGE


def test_an_exception_discards_the_transaction() -> None:
    memory = FakeMemory(4)
    journal = Journal.create(memory, memory.base, 2 * PAGE)
    with pytest.raises(RuntimeError), journal.transaction() as t:
        t.write(memory.base + 3 * PAGE, b"x")
        raise RuntimeError
    with pytest.raises(Full), journal.transaction() as t:
        t.write(memory.base + 3 * PAGE, bytes(PAGE))
    assert memory.read(memory.base + 3 * PAGE, PAGE) == bytes(PAGE)


# ------------------------------------------------------------------------------------------------------------------ tree


def apply(state: dict[bytes, bytes], key: bytes, value: bytes | None) -> dict[bytes, bytes]:
    after = dict(state)
    after.pop(key, None)
    return after if value is None else {**after, key: value}


def change(tree: Tree, key: bytes, value: bytes | None) -> None:
    if value is None:
        tree.delete(key)
    else:
        tree.set(key, value)


@settings(deadline=None)
@given(CHANGES)
def test_a_tree_is_a_map(changes: list[tuple[bytes, bytes | None]]) -> None:
    memory = FakeMemory(64)
    tree = Tree.create(memory, memory.base, 64 * PAGE)
    model: dict[bytes, bytes] = {}
    for key, value in changes:
        change(tree, key, value)
        model = apply(model, key, value)
        assert tree.get(key) == value
    for found in (tree, Tree.open(memory, memory.base)):
        assert dict(found.items()) == model and len(found) == len(model)
        assert [k for k, _ in found.items()] == sorted(model)
        assert [k for k, _ in found.items(b"a")] == sorted(k for k in model if k.startswith(b"a"))


@settings(deadline=None)
@given(CHANGES, st.integers(0, 120), st.integers())
def test_a_robbed_tree_is_as_before_or_after_the_change(
    changes: list[tuple[bytes, bytes | None]], requests: int, seed: int
) -> None:
    memory = FakeMemory(64)
    tree = Tree.create(memory, memory.base, 64 * PAGE)
    states: list[dict[bytes, bytes]] = [{}]

    def work() -> None:
        for key, value in changes:
            states.append(apply(states[-1], key, value))
            change(tree, key, value)
            del states[:-1]

    robbed(memory, requests, seed, work)
    taken = Tree.open(memory, memory.base)
    found = dict(taken.items())
    assert found in states
    taken.set(b"new owner", b"1")
    assert dict(Tree.open(memory, memory.base).items()) == {**found, b"new owner": b"1"}


def test_many_items_and_all_of_them_removed() -> None:
    memory = FakeMemory(200)
    tree = Tree.create(memory, memory.base, 200 * PAGE)
    rng = random.Random(3)
    keys = [b"key %05d" % n for n in range(3000)]
    rng.shuffle(keys)
    for key in keys:
        tree.set(key, key * 5)
    free = len(Tree.open(memory, memory.base)._free)
    assert len(tree) == 3000 and len(tree._free) == free
    for key in keys:
        assert tree.delete(key)
    assert not tree.delete(keys[0])
    assert dict(tree.items()) == {}
    assert len(Tree.open(memory, memory.base)._free) == 198, "all but the head and an empty leaf are free again"


def test_a_full_tree_stays_as_it_is() -> None:
    memory = FakeMemory(8)
    tree = Tree.create(memory, memory.base, 8 * PAGE)
    model = {}
    with pytest.raises(Full):
        for n in range(100):
            key = b"%d" % n
            tree.set(key, bytes(900))
            model[key] = bytes(900)
    assert dict(tree.items()) == dict(Tree.open(memory, memory.base).items()) == model
    assert len(tree._free) == len(Tree.open(memory, memory.base)._free)
    with pytest.raises(ValueError, match="at most"):
        tree.set(b"k", bytes(LARGEST_ITEM))


def test_a_damaged_page_is_noticed() -> None:
    memory = FakeMemory(8)
    tree = Tree.create(memory, memory.base, 8 * PAGE)
    tree.set(b"key", b"value")
    memory.bytes[tree._root * PAGE + 14] ^= 1
    with pytest.raises(Corrupt):
        Tree.open(memory, memory.base)


@pytest.mark.parametrize("seed", [None, *range(10)])
def test_nothing_is_made_of_other_bytes(seed: int | None) -> None:
    memory = FakeMemory(8)
    memory.bytes[:] = bytes(8 * PAGE) if seed is None else random.Random(seed).randbytes(8 * PAGE)
    for kind in (Log, Journal, Tree, Namespace):
        with pytest.raises(NotFormatted):
            kind.open(memory, memory.base)


@pytest.mark.parametrize("kind", [Log, Journal, Tree])
@pytest.mark.parametrize(("offset", "size"), [(1, 8 * PAGE), (0, PAGE), (0, 8 * PAGE - 1)])
def test_areas_are_whole_pages(kind: type, offset: int, size: int) -> None:
    memory = FakeMemory(16)
    with pytest.raises(ValueError, match="whole pages"):
        kind.create(memory, memory.base + offset, size)


# ------------------------------------------------------------------------------------------------------------- namespace


def test_names() -> None:
    memory = FakeMemory(32)
    names = Namespace.create(memory, memory.base, 32 * PAGE)
    log, tree = Entry(5 << 48, 4096, "log"), Entry(6 << 48, 8192, "tree")
    names.bind("/kv/log", log)
    names.bind("/kv/tree", tree)
    names.bind("/kvx", tree)
    with pytest.raises(PathError, match="taken"):
        names.bind("/kv/log", tree)
    names.bind("/kvx", log, replace=True)
    again = Namespace.open(memory, memory.base)
    assert again.lookup("/kv/log") == log
    assert list(again.list("/kv")) == [("/kv/log", log), ("/kv/tree", tree)]
    assert [path for path, _ in again.list()] == ["/kv/log", "/kv/tree", "/kvx"]
    again.unbind("/kv/log")
    for missing in ("/kv/log", "/kv"):
        with pytest.raises(PathError, match="nothing is called"):
            again.lookup(missing)
    with pytest.raises(PathError, match="nothing is called"):
        again.unbind("/kv/log")


@pytest.mark.parametrize("path", ["", "a", "/", "//a", "/a/", "/a/../b", "/./a", "/a\0b", "/" + "x" * 600])
def test_paths_that_cannot_be(path: str) -> None:
    memory = FakeMemory(8)
    with pytest.raises(PathError):
        Namespace.create(memory, memory.base, 8 * PAGE).bind(path, Entry(0, 0, "log"))


def test_checksums_are_the_elements() -> None:
    memory = FakeMemory(2)
    memory.write(memory.base + 4090, b"123456789012")
    assert memory.checksums(memory.base + 4090, 12) == [zlib.crc32(b"123456"), zlib.crc32(b"789012")]


def test_round_trips_are_counted_by_windows_of_what_is_pipelined() -> None:
    memory = FakeMemory(100)
    counted = Counted(memory)
    counted.write(memory.base, bytes(33 * PAGE))
    assert counted.read(memory.base, 32 * PAGE) == bytes(32 * PAGE)
    counted.write_all([(memory.base, b"one"), (memory.base + PAGE, b"two")])
    assert memory.read(memory.base + PAGE, 3) == b"two"
    assert len(counted.checksums(memory.base, PAGE)) == 1
    counted.wait()
    assert counted.round_trips == 2 + 1 + 1 + 1 + 1
