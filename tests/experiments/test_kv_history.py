"""The checker of key-value histories: what is right passes, each way to be wrong is found, and long histories end soon."""

from __future__ import annotations

import json
import math
import random
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.kv_history import HistoryError, KvOperation, check, load

ROOT = Path(__file__).resolve().parents[2]


def op(kind, called, returned, *arguments, result=None, process="p", key="k") -> KvOperation:
    return KvOperation(process, kind, key, arguments, result, called, returned)


def put(called, returned, value, **rest):
    return op("put", called, returned, value, **rest)


def get(called, returned, result, **rest):
    return op("get", called, returned, result=result, **rest)


def cas(called, returned, expected, new, result, **rest):
    return op("cas", called, returned, expected, new, result=result, **rest)


def delete(called, returned, result, **rest):
    return op("delete", called, returned, result=result, **rest)


GOOD = {
    "one after the other": [put(0, 1, "a"), get(2, 3, "a"), delete(4, 5, True), get(6, 7, None), delete(8, 9, False)],
    "overlapping, either order": [put(0, 10, "a"), put(0, 10, "b"), get(11, 12, "a"), get(13, 14, "a")],
    "seen before it returned": [put(0, 10, "a"), get(1, 2, "a")],
    "not yet seen": [put(0, 10, "a"), get(1, 2, None), get(3, 4, "a")],
    "swapped from nothing": [cas(0, 1, None, "a", True), cas(2, 3, None, "b", False), get(4, 5, "a")],
    "swapped to nothing": [put(0, 1, "a"), cas(2, 3, "a", None, True), get(4, 5, None)],
    "an open put that took effect late": [put(0, math.inf, "a"), get(1, 2, None), get(5, 6, "a")],
    "an open put that never did": [put(0, math.inf, "a"), get(1, 2, None), get(5, 6, None)],
    "an open cas that took effect": [put(0, 1, "a"), cas(2, math.inf, "a", "b", None), get(3, 4, "b")],
    "an open delete": [put(0, 1, "a"), delete(2, math.inf, None), get(3, 4, "a"), get(5, 6, None)],
    "other keys do not matter": [put(0, 1, "a"), get(2, 3, None, key="other")],
}
BAD = {
    "a lost write": [put(0, 1, "a"), get(2, 3, None)],
    "an old value": [put(0, 1, "a"), put(2, 3, "b"), get(4, 5, "a")],
    "a value from nowhere": [put(0, 1, "a"), get(2, 3, "c")],
    "back and forth": [put(0, 10, "a"), get(1, 2, "a"), get(3, 4, None)],
    "a deleted value": [put(0, 1, "a"), delete(2, 3, True), get(4, 5, "a")],
    "deleted twice": [put(0, 1, "a"), delete(2, 3, True), delete(4, 5, True)],
    "both swapped": [put(0, 1, "a"), cas(2, 9, "a", "b", True), cas(2, 9, "a", "c", True)],
    "swapped and not": [cas(0, 1, None, "a", True), get(2, 3, None)],
    "refused although it was so": [put(0, 1, "a"), cas(2, 3, "a", "b", False)],
    "carried out twice": [cas(0, 1, None, "a", True), delete(2, 3, True), get(4, 5, "a")],
    "an open put before its call": [get(0, 1, "a"), put(2, math.inf, "a")],
    "seen, then not by a later one": [put(0, math.inf, "a"), get(1, 2, "a", process="q"), get(3, 4, None)],
}


@pytest.mark.parametrize("name", GOOD)
def test_good_histories(name: str) -> None:
    assert check(GOOD[name]) == []


@pytest.mark.parametrize("name", BAD)
def test_bad_histories(name: str) -> None:
    (violation,) = check(BAD[name])
    assert violation.key == "k"
    assert violation.stuck
    assert "none of these fits" in str(violation)


def test_keys_may_have_values_before() -> None:
    assert check([get(0, 1, "old")]) != []
    assert check([get(0, 1, "old")], {"k": "old"}) == []


def simulated(seed: int, count: int, clients: int = 5, lost: float = 0.01) -> list[KvOperation]:
    """A history of a store that is right: each operation takes effect at some time between its call and return."""
    rng = random.Random(seed)
    state: dict[str, str] = {}
    events = []
    for client in range(clients):
        now = rng.random()
        for number in range(count // clients):
            called = now + rng.random()
            effect = called + rng.random() * 3
            now = effect + rng.random() * 3
            events.append((effect, client, number, called, now))
    history = []
    for _, client, number, called, returned in sorted(events):
        key = f"key {rng.randrange(3)}"
        kind = rng.choice(("get", "put", "delete", "cas"))
        value, expected = f"{client}/{number}", rng.choice((state.get(key), None, "wrong"))
        arguments = {"put": (value,), "cas": (expected, value)}.get(kind, ())
        result = {"get": state.get(key), "put": None, "delete": key in state, "cas": state.get(key) == expected}[kind]
        if kind == "put" or (kind == "cas" and result):
            state[key] = value
        elif kind == "delete":
            state.pop(key, None)
        open_ = rng.random() < lost
        history.append(
            KvOperation(
                str(client), kind, key, arguments, None if open_ else result, called, math.inf if open_ else returned
            )
        )
    return history


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1 << 30))
def test_what_a_right_store_does_is_linearizable(seed: int) -> None:
    assert check(simulated(seed, 200)) == []


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1 << 30))
def test_a_read_of_what_was_overwritten_long_ago_is_found(seed: int) -> None:
    history = simulated(seed, 200, lost=0)
    late = max(o.returned for o in history) + 1
    key = next(o.key for o in history if o.kind == "put")
    stale = [put(late, late + 1, "last", key=key), get(late + 2, late + 3, "0/0", key=key)]
    (violation,) = check([*history, *stale])
    assert violation.key == key
    assert violation.stuck[-1] == stale[-1]


def test_thousands_of_operations_on_a_key() -> None:
    history = [
        KvOperation(o.process, o.kind, "k", o.arguments, o.result, o.called, o.returned) for o in one_key(7, 2000)
    ]
    assert check(history) == []
    end = max(o.returned for o in history)
    assert len(check([*history, put(end + 1, end + 2, "x"), get(end + 3, end + 4, "y")])) == 1


def one_key(seed: int, count: int) -> list[KvOperation]:
    """All on the same key."""
    rng = random.Random(seed)
    value: str | None = None
    history, now = [], [0.0] * 6
    for number in range(count):
        client = rng.randrange(6)
        called = now[client]
        effect = max(called, max(now) - 2 * rng.random())
        now[client] = effect + rng.random()
        if rng.random() < 0.5:
            history.append((effect, KvOperation(str(client), "put", "k", (str(number),), None, called, now[client])))
        else:
            history.append((effect, KvOperation(str(client), "get", "k", (), None, called, now[client])))
    done = []
    for _, o in sorted(history, key=lambda pair: pair[0]):
        if o.kind == "put":
            value = o.arguments[0]
            done.append(o)
        else:
            done.append(KvOperation(o.process, "get", "k", (), value, o.called, o.returned))
    return done


def test_files(tmp_path: Path) -> None:
    file = tmp_path / "history.jsonl"
    lines = [
        {"process": "p", "kind": "put", "key": "k", "arguments": ["a"], "result": None, "called": 0, "returned": 1},
        {"process": "p", "kind": "get", "key": "k", "arguments": [], "result": None, "called": 2, "returned": None},
        {"process": "p", "kind": "get", "key": "k", "arguments": [], "result": "a", "called": 3, "returned": 4},
    ]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert check(load(file)) == []
    command = [sys.executable, "-m", "experiments.kv_history", str(file)]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=400, check=False)
    assert (found.returncode, found.stdout) == (0, "3 operations on 1 keys: ok\n")
    file.write_text(file.read_text().replace('"result": "a"', '"result": "b"'))
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=400, check=False)
    assert found.returncode == 1
    assert "key 'k': after" in found.stdout


@pytest.mark.parametrize(
    "line", ["{", "[]", '{"kind": "put"}', '{"process": "p", "kind": "jump", "key": "k", "arguments": []}']
)
def test_lines_that_are_no_operations(tmp_path: Path, line: str) -> None:
    file = tmp_path / "history.jsonl"
    file.write_text(line + "\n")
    with pytest.raises(HistoryError, match=r"history\.jsonl:1"):
        load(file)
