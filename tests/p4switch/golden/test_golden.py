"""Outputs of the real p4c 1.2.5.16 and bmv2 1.15.5 for programs of this project: an oracle that shares nothing with p4switch."""

from __future__ import annotations

from pathlib import Path

import pytest

from p4switch import native
from p4switch.compiler import p4info
from p4switch.compiler.driver import compile_source
from p4switch.dataplane.binding import Switch
from p4switch.stf import run_script

HERE = Path(__file__).parent
PROGRAMS = sorted(HERE.glob("*.p4"))


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda p: p.stem)
def test_packets_are_bmv2s(path: Path) -> None:
    program = compile_source(path).program
    with Switch() as switch:
        switch.load(native.build(program, optimise=False))
        failures = run_script(switch, path.with_suffix(".stf").read_text())
    assert not failures, "\n".join(map(str, failures))


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda p: p.stem)
def test_p4info_is_p4cs(path: Path) -> None:
    assert p4info.to_text(p4info.build(compile_source(path).program)) == path.with_suffix(".p4info.txtpb").read_text()
