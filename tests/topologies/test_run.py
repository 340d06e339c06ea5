"""The life cycle of a launcher: what is undone in which order, what a crash leaves, and who may have a name."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from topologies import processes, state
from topologies.processes import StartError
from topologies.run import Run
from topologies.state import NoRack, RackRunning, RackState, RunDirectory, remove_crashed

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, as launching does")

# A launcher that starts a child, says who that is, and is killed: it has no time to clean up.
DIES = """
import os, signal, sys
from pathlib import Path
from topologies import run, state
state.RunDirectory.__init__.__defaults__ = (*state.RunDirectory.__init__.__defaults__[:-1], Path(sys.argv[1]))
held = [run.Run(name, Path(sys.argv[1]) / "out", print) for name in sys.argv[2:]]
for one in held:
    one.acquire()
for one in held:
    one.prepare([], [], parts=sys.argv[3:] if one is held[0] else [])
    one.spawn("sleeper", ["sleep", "60"])
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """In place of /run/rack-mmu."""
    defaults = RunDirectory.__init__.__defaults__
    assert defaults is not None
    monkeypatch.setattr(RunDirectory.__init__, "__defaults__", (*defaults[:-1], tmp_path))
    return tmp_path


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def run(root: Path, told: list[str]) -> Iterator[Run]:
    made = Run("one", root / "out", told.append)
    yield made
    made.end()


def die(root: Path, *names: str) -> list[processes.ProcessRecord]:
    """Launch under these names (the first one has the others as parts) and crash; the processes that are left."""
    subprocess.run(
        [sys.executable, "-c", textwrap.dedent(DIES), str(root), *names], cwd=ROOT, check=False, capture_output=True
    )
    left = [p for name in names for p in RunDirectory(name).load().processes]
    assert len(left) == len(names)
    assert all(map(processes.is_alive, left))
    return left


def test_the_end_comes_in_reverse_order_and_once(run: Run, root: Path) -> None:
    order: list[str] = []

    def boot() -> None:
        run.prepare([], [])
        run.at_end(lambda: order.append("first begun"))
        run.spawn("sleeper", ["sleep", "60"])
        run.at_end(run.stop_children)
        run.at_end(lambda: order.append(f"last begun, {len(run.children)} child"))

    run.boot(boot)
    child = run.children["sleeper"].record
    assert RunDirectory("one").load().processes == [child]
    run.end()
    run.end()
    assert order == ["last begun, 1 child", "first begun"]
    assert not processes.is_alive(child)
    assert not (root / "one").exists()


def test_what_fails_to_boot_leaves_nothing(run: Run, root: Path) -> None:
    started: list[processes.ProcessRecord] = []

    def boot() -> None:
        run.prepare([], [])
        run.at_end(lambda: 1 / 0)  # an ending that fails keeps no other from being done
        started.append(run.spawn("sleeper", ["sleep", "60"]).record)
        raise StartError("no")

    with pytest.raises(ZeroDivisionError) as caught:
        run.boot(boot)
    assert isinstance(caught.value.__context__, StartError)
    assert not processes.is_alive(started[0])
    assert not (root / "one").exists()


def test_a_name_is_held_by_one(run: Run, root: Path) -> None:
    run.boot(lambda: run.prepare([], []))
    other = Run("one", root / "other", print)
    with pytest.raises(RackRunning, match="one is running already"):
        other.boot(lambda: pytest.fail("booted"))
    other.end()
    assert RunDirectory("one").load().launcher.pid == os.getpid(), "who was refused has removed nothing"


def test_what_a_killed_launcher_left_is_removed_by_the_next(run: Run, root: Path, told: list[str]) -> None:
    (left,) = die(root, "one")
    run.boot(lambda: run.prepare([], []))
    assert told == [f"removed what a crash left: process sleeper ({left.pid})"]
    assert not processes.is_alive(left)


def test_parts_that_are_no_longer_parts_are_removed_too(run: Run, root: Path) -> None:
    left = die(root, "one", "one-r1", "one-r2")
    part = Run("one-r1", root / "part", print)
    part.acquire()
    try:
        run.boot(lambda: run.prepare([], [], parts=["one-r1"]))
        assert [processes.is_alive(p) for p in left] == [False, True, False]
        assert not (root / "one-r2").exists()
        part.prepare([], [])
        assert not processes.is_alive(left[1])
    finally:
        part.end()


def test_an_interface_of_somebody_else_is_not_touched(run: Run) -> None:
    with pytest.raises(StartError, match="an interface lo already: another rack"):
        run.boot(lambda: run.prepare(["lo"], []))
    with pytest.raises(NoRack):
        RunDirectory("one").load()


def test_an_interface_that_is_left_is_removed(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[list[str]] = []
    monkeypatch.setattr(state.subprocess, "run", lambda command, **_: commands.append(command))
    directory = RunDirectory("one")
    directory.acquire()
    dead = processes.ProcessRecord(name="launcher", pid=os.getpid(), started=1)
    directory.save(RackState(name="one", launcher=dead, processes=[dead], interfaces=["lo", "never-was"]))
    assert remove_crashed(directory) == ["interface lo"], "a process of the same pid that began later is another"
    assert commands == [["ip", "link", "delete", "lo"]]
    directory.release()


def test_a_child_that_ends_is_named_with_its_last_words(run: Run) -> None:
    run.boot(lambda: run.prepare([], []))
    child = run.spawn("broken", ["sh", "-c", "echo no such thing; exit 3"], ready=True)
    with pytest.raises(StartError, match=r"broken ended with status 3: no such thing \(log: "):
        child.wait_ready(10)
    deadline = time.monotonic() + 60
    while not run.has_died("broken"):
        assert time.monotonic() < deadline
    assert run.children == {}
