"""The durable store: what was saved is there, all or nothing, and nobody else writes to it."""

from __future__ import annotations

import dataclasses
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from controller.core.state import (
    KINDS,
    Allocation,
    AllocationStatus,
    Counters,
    Element,
    Liveness,
    Message,
    Notice,
    Operation,
    Override,
    OverrideKind,
    Process,
    Requester,
    Segment,
    State,
)
from controller.core.step import initial
from controller.store import LONGEST_JOURNAL, Store, StoreError
from protocol.wire import Op
from topologies.racks import small_rack

RACK = small_rack(compute=2, dram=2, nvm=0, memory_mib=1)
EMPTY = initial(RACK)
BIG = (1 << 64) - 1

numbers = st.integers(0, BIG)
small = st.integers(0, 0xFFFF)
records = {
    "processes": st.builds(Process, small, small, st.text(max_size=8), numbers),
    "messages": st.builds(
        Message, numbers, small, st.just(int(Op.PT_SET)), numbers, numbers, small, small, small, st.booleans(), small
    ),
    "operations": st.builds(
        Operation,
        numbers,
        st.sampled_from(("alloc", "fence")),
        numbers,
        st.builds(Requester, small, small, numbers, small, numbers),
        st.frozensets(numbers, max_size=3),
        numbers,
        small,
        lost=st.frozensets(small, max_size=2),
    ),
    "notices": st.builds(Notice, numbers, small, small, small, small, numbers, small),
}
change = st.sampled_from(sorted(records)).flatmap(
    lambda kind: st.tuples(st.just(kind), st.integers(1, 5), st.one_of(st.none(), records[kind]))
)


def test_every_kind_of_record_survives(tmp_path: Path) -> None:
    hole = Override(BIG - 4095, 1, 101, 4096, OverrideKind.REVOKED, 9, 3, 8)
    segment = Segment(BIG - 8191, 2, 101, 0, 9, 3, 7)
    allocation = Allocation(BIG - 8191, 2, 9, AllocationStatus.READY, (segment,))
    element = dataclasses.replace(EMPTY.elements[101], liveness=Liveness.ALIVE, fenced=True, incarnation=BIG)
    saved = [("allocations", allocation.va, allocation), ("overrides", hole.va, hole), ("elements", 101, element)]
    store = Store(tmp_path / "db")
    store.save(saved, Counters(5, BIG, 7, 8))
    store.close()
    loaded = Store(tmp_path / "db").load(EMPTY)
    assert loaded.allocations[allocation.va] == dataclasses.replace(allocation, overrides=(hole,))
    assert loaded.elements[101] == element
    assert loaded.elements[1] == EMPTY.elements[1]
    assert loaded.counters == Counters(5, BIG, 7, 8)
    assert loaded.free[101][0][0] == 2, "what is free follows from the allocations"


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(plans=st.lists(st.lists(change, max_size=4), max_size=6))
def test_what_is_loaded_is_what_was_saved(tmp_path: Path, plans: list) -> None:
    path = tmp_path / "db"
    for old in tmp_path.iterdir():
        old.unlink()
    expected: dict[str, dict[int, object]] = {kind: {} for kind in records}
    for number, plan in enumerate(plans):
        store = Store(path)  # every plan by another controller
        store.save(plan, Counters(next_id=number))
        store.close()
        for kind, key, record in plan:
            if record is None:
                expected[kind].pop(key, None)
            else:
                expected[kind][key] = record
    store = Store(path)
    loaded = store.load(EMPTY)
    store.close()
    assert {kind: dict(getattr(loaded, kind)) for kind in records} == expected
    assert set(KINDS) >= set(records)


DEADLY = """
import os, sys
from pathlib import Path
from controller.core.state import Counters, Process
from controller.store import Store

class Deadly:
    def __init__(self, db, left):
        self.db, self.left = db, left
    def execute(self, *arguments):
        return self.counted(self.db.execute, arguments)
    def executemany(self, *arguments):
        return self.counted(self.db.executemany, arguments)
    def counted(self, call, arguments):
        if self.left == 0:
            os.kill(os.getpid(), 9)
        self.left -= 1
        return call(*arguments)

store = Store(Path(sys.argv[1]))
store._db = Deadly(store._db, int(sys.argv[2]))
changes = [("processes", 1, None), ("processes", 2, Process(2, 1, "b", 0)), ("processes", 3, Process(3, 1, "c", 0))]
store.save(changes, Counters(next_pid=4))
if len(sys.argv) > 3:
    store.save([("processes", 3, None), ("processes", 4, Process(4, 1, "d", 0))], Counters(next_pid=5))
    store.fold()
os._exit(0)
"""


def killed(path: Path, statements: int, *more: str) -> bool:
    """A process saves (and with ``more`` folds), and is killed before this statement; whether that came to be."""
    before, first = Counters(next_pid=2), Process(1, 1, "first", 4096)
    store = Store(path)
    store.save([("processes", 1, first)], before)
    store.close()
    command = [sys.executable, "-c", DEADLY, str(path), str(statements), *more]
    return subprocess.run(command, timeout=400, check=False).returncode == -9


def found(path: Path) -> tuple[set[int], int]:
    """The processes and the next pid that a later controller finds."""
    store = Store(path)
    loaded = store.load(EMPTY)
    store.close()
    return set(loaded.processes), loaded.counters.next_pid


@pytest.mark.parametrize("statements", [0, 1])
def test_a_crash_while_saving_leaves_all_or_nothing(tmp_path: Path, statements: int) -> None:
    """Two processes appear, one goes, the counters move on; together or not at all."""
    dies = killed(tmp_path / "db", statements)
    assert dies == (statements == 0), "a save is one statement"
    assert found(tmp_path / "db") == (({1}, 2) if dies else ({2, 3}, 4))


def test_a_crash_at_any_statement_of_a_fold_loses_nothing(tmp_path: Path) -> None:
    for statements in range(2, 12):
        path = tmp_path / f"db{statements}"
        dies = killed(path, statements, "fold")
        assert found(path) == ({2, 4}, 5), statements
        if not dies:
            break
    assert statements > 6, "it begins, deletes, inserts, sets the counters, empties the journal and commits"
    assert not dies


def test_a_failed_fold_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path / "db")
    store.save([("processes", 1, Process(1, 1, "a", 0))], Counters(next_pid=2))
    with monkeypatch.context() as patched:
        patched.setattr(store, "_set_meta", lambda *_: (_ for _ in ()).throw(sqlite3.OperationalError("disk full")))
        with pytest.raises(sqlite3.OperationalError):
            store.fold()
    store.save([("processes", 2, Process(2, 1, "b", 0))], Counters(next_pid=3))
    store.close()
    assert found(tmp_path / "db") == ({1, 2}, 3)


def test_the_journal_is_folded_when_it_is_long_and_when_nothing_comes(tmp_path: Path) -> None:
    store = Store(tmp_path / "db")

    def rows(table: str) -> int:
        return int(store._db.execute(f"SELECT count(*) FROM {table}").fetchone()[0])

    for number in range(LONGEST_JOURNAL + 3):
        store.save([("processes", 1 + number % 7, Process(1 + number % 7, 1, str(number), 0))], Counters())
    assert (rows("journal"), rows("records")) == (3, 7)
    store.tidy()
    assert rows("journal") == 3, "more may come at once"
    store.tidy()
    assert rows("journal") == 0
    assert {p.name for p in store.load(EMPTY).processes.values()} == {str(LONGEST_JOURNAL + 3 - n) for n in range(1, 8)}
    store.close()


def test_a_failed_save_changes_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path / "db")
    store.save([("processes", 1, Process(1, 1, "a", 0))], Counters())
    with pytest.raises(TypeError):
        store.save([("processes", 2, Process(2, 1, "b", 0)), ("processes", 3, object())], Counters(next_pid=9))
    assert set(store.load(EMPTY).processes) == {1}
    assert store.load(EMPTY).counters == Counters()


def test_two_controllers_cannot_have_one_store(tmp_path: Path) -> None:
    first = Store(tmp_path / "db")
    with pytest.raises(StoreError, match=r"db is in use by another controller \(process \d+\)"):
        Store(tmp_path / "db")
    first.close()
    Store(tmp_path / "db").close()


@pytest.mark.parametrize("contents", [b"", b"not a database, but long enough to look at" * 50])
def test_files_that_are_no_store(tmp_path: Path, contents: bytes) -> None:
    path = tmp_path / "db"
    path.write_bytes(contents)
    if not contents:
        Store(path).close()  # an empty file is an empty database
        return
    with pytest.raises(StoreError, match="db"):
        Store(path)
    with pytest.raises(StoreError, match="db"):  # and the lock has been given back
        Store(path)


def test_a_store_of_another_schema_or_rack(tmp_path: Path) -> None:
    store = Store(tmp_path / "db")
    store.save([("elements", 101, dataclasses.replace(EMPTY.elements[101], pages=17))], Counters())
    with pytest.raises(StoreError, match="m1 differently"):
        store.load(EMPTY)
    with pytest.raises(StoreError, match="m1 differently"):
        store.load(State(elements=EMPTY.elements.delete(101)))
    store.close()
    db = sqlite3.connect(tmp_path / "db")
    db.execute("UPDATE meta SET value = '0' WHERE name = 'schema'")
    db.commit()
    db.close()
    with pytest.raises(StoreError, match="schema 0"):
        Store(tmp_path / "db")
    assert isinstance(EMPTY.elements[1], Element)


def test_a_directory_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="No such file"):
        Store(tmp_path / "nowhere" / "db")


def test_what_need_not_be_on_the_disk_survives_the_process_and_comes_in_order(tmp_path: Path) -> None:
    """Killed without a chance to close: all that was saved is there, whichever way."""
    code = f"""
import os, sys
from pathlib import Path
from controller.core.state import Counters, Process
from controller.store import Store
store = Store(Path({str(tmp_path / "db")!r}))
for n in range(20):
    store.save([("processes", n, Process(n, 1, str(n), 0))], Counters(next_pid=n))
    if n % 3 == 0:
        store.sync()
os.kill(os.getpid(), 9)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    store = Store(tmp_path / "db")
    loaded = store.load(EMPTY)
    assert sorted(loaded.processes) == list(range(20))
    assert loaded.counters.next_pid == 19
    store.close()
