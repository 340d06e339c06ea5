"""The history checker: histories of a real atomic word pass, however they overlap; histories with one wrong thing do not."""

from __future__ import annotations

import dataclasses
import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.history import MASK, Operation, check


def op(
    kind: str, arguments: tuple[int, ...], result: int | None, called: float, returned: float = math.inf
) -> Operation:
    return Operation("p", kind, 0, arguments, result, called, returned)  # type: ignore[arg-type]


def simulate(seed: int, processes: int, steps: int, lost: float) -> list[Operation]:
    """Operations of several processes on an atomic word; each takes effect at one instant between its call and its return."""
    rng = random.Random(seed)
    value, now = 0, 0.0
    running: dict[int, tuple[str, tuple[int, ...], float, int | None, bool]] = {}
    history = []
    for _ in range(steps):
        now += 1
        process = rng.randrange(processes)
        if process not in running:
            kind = rng.choice(("read", "write", "cas", "fetch_add"))
            count = {"read": 0, "write": 1, "cas": 2, "fetch_add": 1}[kind]
            running[process] = (kind, tuple(rng.randrange(4) for _ in range(count)), now, None, False)
            continue
        kind, arguments, called, result, done = running[process]
        if not done:
            result = None if kind == "write" else value
            if kind == "write":
                value = arguments[0]
            elif kind == "cas":
                value = arguments[1] if value == arguments[0] else value
            elif kind == "fetch_add":
                value = (value + arguments[0]) & MASK
            running[process] = (kind, arguments, called, result, True)
        elif rng.random() < lost:
            history.append(Operation(str(process), kind, 0, arguments, None, called))
            del running[process]
        else:
            history.append(Operation(str(process), kind, 0, arguments, result, called, now))
            del running[process]
    history += [Operation(str(p), r[0], 0, r[1], None, r[2]) for p, r in running.items()]
    return history


@settings(deadline=None)
@given(st.integers(), st.integers(1, 6), st.sampled_from([0.0, 0.2]))
def test_an_atomic_word_is_linearizable(seed: int, processes: int, lost: float) -> None:
    assert check(simulate(seed, processes, 150, lost)) == []


@settings(deadline=None)
@given(st.integers(), st.data())
def test_a_result_that_never_was_is_found(seed: int, data: st.DataObject) -> None:
    history = simulate(seed, 3, 100, 0.0)
    positions = [i for i, o in enumerate(history) if not o.is_open and o.kind != "write"]
    if not positions:
        return
    i = data.draw(st.sampled_from(positions))
    history[i] = dataclasses.replace(history[i], result=1 << 40)
    (violation,) = check(history)
    assert history[i] in (*violation.stuck, *violation.longest) or violation.stuck
    assert "none of these fits" in str(violation)


@pytest.mark.parametrize(
    "history",
    [
        pytest.param([op("write", (1,), None, 0, 1), op("read", (), 0, 2, 3)], id="stale read"),
        pytest.param(
            [op("write", (1,), None, 0, 1), op("read", (), 1, 2, 3), op("read", (), 0, 4, 5)], id="lost write"
        ),
        pytest.param(
            [op("write", (1,), None, 0, 9), op("read", (), 1, 1, 2), op("read", (), 0, 3, 4)], id="read back and forth"
        ),
        pytest.param([op("fetch_add", (1,), 0, 0, 1), op("read", (), 2, 2, 3)], id="double effect"),
        pytest.param([op("fetch_add", (1,), 0, 0, 5), op("fetch_add", (1,), 0, 1, 6)], id="lost update"),
        pytest.param([op("cas", (0, 1), 0, 0, 5), op("cas", (0, 2), 0, 1, 6)], id="two winners"),
        pytest.param(
            [op("write", (1,), None, 0), op("read", (), 1, 1, 2), op("read", (), 0, 3, 4)], id="open write undone"
        ),
        pytest.param(
            [op("write", (1,), None, 0, 1), op("write", (2,), None, 2, 3), op("read", (), 1, 4, 5)], id="late write"
        ),
    ],
)
def test_bad_histories(history: list[Operation]) -> None:
    assert len(check(history)) == 1


@pytest.mark.parametrize(
    "history",
    [
        pytest.param([op("write", (1,), None, 0), op("read", (), 0, 1, 2)], id="open write, not seen"),
        pytest.param([op("write", (1,), None, 0), op("read", (), 1, 1, 2)], id="open write, seen"),
        pytest.param([op("write", (1,), None, 0, 9), op("read", (), 0, 1, 2), op("read", (), 1, 3, 4)], id="overlap"),
        pytest.param([op("fetch_add", (1,), None, 0), op("read", (), 1, 1, 2), op("read", (), 1, 3, 4)], id="open add"),
        pytest.param([], id="nothing"),
    ],
)
def test_good_histories(history: list[Operation]) -> None:
    assert check(history) == []


def test_words_are_checked_apart() -> None:
    good = op("write", (1,), None, 0, 1)
    bad = dataclasses.replace(op("read", (), 7, 2, 3), word=8)
    assert [v.word for v in check([good, bad, op("read", (), 1, 2, 3)])] == [8]


def test_long_histories_take_no_long_time() -> None:
    history = simulate(5, 8, 20000, 0.0)
    assert len(history) > 5000
    assert check(history) == []
