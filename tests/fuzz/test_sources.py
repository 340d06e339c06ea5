"""The front end under broken and grown programs: a few hundred sources without a fault, and faults that would be seen."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fuzz.sources import worker
from fuzz.sources.grow import grow
from fuzz.sources.mutate import mutate, nested
from fuzz.sources.run import OWN, ROOT, Worker, fuzz, kind_of, sources_of

FEATURES = ROOT / "tests" / "p4switch" / "features"
SHIFTS = (FEATURES / "shifts.p4").read_text()


@pytest.fixture(scope="module")
def judge() -> Iterator[Worker]:
    with Worker([FEATURES]) as made:
        yield made


def test_own_sources_mutated_and_programs_grown(tmp_path: Path) -> None:
    files = sources_of([ROOT / place for place in OWN])
    tally = fuzz(files, tmp_path, seed=11, count=80, seconds=60)
    assert not tally.faults, {name: path.read_text() for name, path in tally.faults.items()}
    assert tally.counts["accepted"] >= 10, tally
    assert tally.counts["refused"] >= 20, tally
    assert len(tally.diagnostics) >= 10, tally


@pytest.mark.parametrize("number", range(len(nested(1, ""))))
def test_deep_nesting_is_answered(judge: Worker, tmp_path: Path, number: int) -> None:
    """In the place of an expression where it is one, and in front of everything."""
    path = tmp_path / "deep.p4"
    few, many = (nested(depth, "hdr.h.a")[number] for depth in (400, 15_000))
    for source in (*(SHIFTS.replace("hdr.h.a >> 3 << 1", text) for text in (few, many)), f"{SHIFTS}\n{few}"):
        path.write_text(source)
        verdict = judge.judge(path)
        assert verdict.status in ("accepted", "refused"), verdict.messages[-1][-2000:]


def test_the_exit_status_is_0_or_2(tmp_path: Path) -> None:
    rng = random.Random(5)
    seen = set()
    for number in range(4):
        path = tmp_path / "some.p4"
        path.write_text(grow(rng) if number == 0 else mutate(SHIFTS, rng, [SHIFTS]))
        command = [sys.executable, "-m", "p4switch", "compile", str(path), f"-I{FEATURES}"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=400, check=False, cwd=ROOT)
        assert done.returncode in (0, 2), done
        assert "Traceback" not in done.stderr
        assert done.returncode == 0 or "error" in done.stderr
        seen.add(done.returncode)
    assert seen == {0, 2}


def test_faults_are_seen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "good.p4"
    path.write_text(SHIFTS)
    assert worker.attempt(path, [FEATURES])["status"] == "accepted"
    monkeypatch.setattr(worker, "generate", lambda program: "int unfinished(void) {")
    (message,) = worker.attempt(path, [FEATURES])["messages"]
    assert "does not compile" in message

    def overflow(*_: object) -> None:
        raise RecursionError("maximum recursion depth exceeded")

    monkeypatch.setattr(worker, "compile_source", overflow)
    answer = worker.attempt(path, [FEATURES])
    assert answer["status"] == "fault"
    assert kind_of(answer["messages"][-1]).endswith("RecursionError: maximum recursion depth exceeded")


@pytest.mark.parametrize(
    ("code", "what"), [("import os; os.abort()", "status -6"), ("import time; time.sleep(60)", "no answer")]
)
def test_a_compiler_that_dies_or_hangs_is_a_fault(tmp_path: Path, code: str, what: str) -> None:
    with Worker(limit=1.0, command=[sys.executable, "-c", f"input(); {code}"]) as made:
        for _ in range(2):  # the second time in a new process
            verdict = made.judge(tmp_path / "any.p4")
            assert verdict.status == "fault"
            assert what in verdict.messages[0]
