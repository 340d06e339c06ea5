"""The P4 program itself: its P4Info is current, its names are those the controller uses, and stock targets can take it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from p4switch.compiler import ir, p4info
from p4switch.compiler.driver import compile_source
from tests.p4src.harness import PROGRAM

GOLDEN = PROGRAM.with_suffix(".p4info.txtpb")


@pytest.fixture(scope="module")
def program() -> ir.Program:
    return compile_source(PROGRAM).program


def test_committed_p4info_is_current(program: ir.Program) -> None:
    assert GOLDEN.read_text() == p4info.to_text(p4info.build(program)), (
        "run: python -m p4switch compile p4src/rack_mmu.p4 --p4info p4src/rack_mmu.p4info.txtpb"
    )


def test_aliases_are_those_of_the_protocol(program: ir.Program) -> None:
    info = p4info.build(program)
    assert {t.preamble.alias for t in info.tables} == {
        "element",
        "binding",
        "translation",
        "protection",
        "liveness",
        "reply_route",
    }
    assert {c.preamble.alias for c in info.counters} == {"process_traffic", "element_traffic", "verdicts"}
    keys = {t.preamble.alias: [m.name for m in t.match_fields] for t in info.tables}
    assert keys["protection"] == ["pid", "va"]
    assert keys["element"] == ["port"]


def test_no_warnings() -> None:
    assert compile_source(PROGRAM).diagnostics.messages == []


def test_stock_p4c_restrictions(program: ir.Program) -> None:
    """What p4c's bmv2 backend refuses: a table applied twice, two lpm keys, a deparser that does more than emit."""
    applied: list[str] = []

    def visit(statements: list[ir.Statement]) -> None:
        for s in statements:
            if isinstance(s, ir.ApplyTable):
                applied.append(s.table)
            for name in ("body", "then", "otherwise", "step"):
                visit(getattr(s, name, []))

    visit(program.ingress.body)
    visit(program.egress.body)
    assert sorted(applied) == sorted({t.name for t in program.tables})
    for table in program.tables:
        assert sum(k.kind == "lpm" for k in table.keys) <= 1, table.name
        assert table.const_default and table.size > 0
    assert all(isinstance(s, ir.Emit) for s in program.deparser.body)


def test_p4c_accepts_it(tmp_path: Path) -> None:
    compiler = shutil.which("p4c-bm2-ss") or shutil.which("p4c")
    if compiler is None:
        pytest.skip("neither p4c-bm2-ss nor p4c is in PATH")
    target = ["--target", "bmv2", "--arch", "v1model"] if compiler.endswith("p4c") else []
    result = subprocess.run(
        [
            compiler,
            *target,
            "--p4runtime-files",
            str(tmp_path / "info.txtpb"),
            "-o",
            str(tmp_path / "out.json"),
            str(PROGRAM),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
