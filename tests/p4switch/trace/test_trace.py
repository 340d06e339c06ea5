"""Traces: every line of a program that does a bit of everything, for people and as JSON, against golden files.

After a change that is meant, ``python -m tests.p4switch.trace.test_trace`` writes the golden files anew.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pytest

from p4switch import native
from p4switch.compiler.driver import compile_source
from p4switch.dataplane.binding import Switch
from p4switch.stf import run_script

HERE = Path(__file__).resolve().parent


def traced(as_json: bool, scratch: Path) -> str:
    """The trace of the script, with the program's directory left out of positions."""
    program = compile_source(HERE / "everything.p4").program
    with Switch(seed=1) as switch:
        switch.load(native.build(program, optimise=False))
        switch.trace(scratch / "trace", json=as_json)
        failures = run_script(switch, (HERE / "everything.stf").read_text())
        switch.trace(None)
    assert not failures, failures
    return (scratch / "trace").read_text().replace(f"{HERE}/", "")


@pytest.mark.parametrize("suffix", ["txt", "jsonl"])
def test_golden(suffix: str, tmp_path: Path) -> None:
    assert traced(suffix == "jsonl", tmp_path) == (HERE / f"everything.{suffix}").read_text()


def test_both_forms_tell_the_same_story(tmp_path: Path) -> None:
    """Each line of JSON is an object of the same event, with the same numbers, as the line for people."""
    lines = traced(False, tmp_path).splitlines()
    objects = [json.loads(line) for line in traced(True, tmp_path).splitlines()]
    assert len(objects) == len(lines)
    for line, found in zip(lines, objects, strict=True):
        time, packet, rest = line.split(" ", 2)
        assert time == f"{found['time_us'] // 1_000_000}.{found['time_us'] % 1_000_000:06d}"
        assert packet == f"#{found['packet']}"
        assert rest.startswith(found["event"].replace("_", " "))
        if found["event"] == "table":
            assert f"{found['table']}: {'hit' if found['hit'] else 'miss'}" in rest
            for name, value in [*found["key"].items(), *found["args"].items()]:
                assert f"{name}={value}" in rest
            assert found["action"] in rest
    verdicts = [o for o in objects if o["event"] == "verdict"]
    assert {o["packet"] for o in verdicts} == {o["packet"] for o in objects}


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as directory:
        for name in ("txt", "jsonl"):
            (HERE / f"everything.{name}").write_text(traced(name == "jsonl", Path(directory)))
