"""Every feature program of this directory against its .stf: front end, generator and runtime together."""

from __future__ import annotations

from pathlib import Path

import pytest

from p4switch import native
from p4switch.compiler.driver import compile_source
from p4switch.dataplane.binding import Switch
from p4switch.stf import run_script

HERE = Path(__file__).parent
PROGRAMS = sorted(path for path in HERE.glob("*.p4") if path.stem != "skeleton")
CPU_PORT = 64


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda p: p.stem)
def test_feature(path: Path) -> None:
    program = compile_source(path).program
    with Switch(cpu_port=CPU_PORT, seed=1) as switch:
        switch.load(native.build(program, optimise=False))
        failures = run_script(switch, path.with_suffix(".stf").read_text())
    assert not failures, "\n".join(map(str, failures))


def test_every_test_has_a_program() -> None:
    assert {p.stem for p in HERE.glob("*.stf")} == {p.stem for p in PROGRAMS}
