"""Stock p4c and bmv2 can take the program: what their backend refuses is not in it, and where p4c is installed, it compiles it.

The restrictions are those of p4c's bmv2 backend and of simple_switch; this project's own compiler takes more.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from p4switch.compiler import ir
from p4switch.compiler.driver import compile_source
from p4switch.compiler.preprocess import INCLUDE_DIR
from tests.p4src.harness import PROGRAM, VERDICTS, program

SOURCES = sorted(PROGRAM.parent.glob("*.p4"))


def nodes(kind: type[ir.Node], root: object = None) -> list[ir.Node]:
    return [n for n in ir.walk(program() if root is None else root) if isinstance(n, kind)]


def test_the_compiler_finds_nothing_that_stock_p4c_would_refuse_or_warn_of() -> None:
    assert compile_source(PROGRAM, strict_bmv2=True).diagnostics.messages == []


def test_each_table_is_applied_once_and_not_in_an_action() -> None:
    applied = Counter(
        n.table for control in (program().ingress, program().egress) for n in nodes(ir.ApplyTable, control)
    )
    assert applied == {t.name: 1 for t in program().tables}
    assert not nodes(ir.ApplyTable, program().actions)


def test_keys() -> None:
    """One lpm key a table, none beside ternary or range ones, and of a type that bmv2 matches on."""
    for table in program().tables:
        kinds = Counter(k.kind for k in table.keys)
        assert kinds["lpm"] <= 1 and set(kinds) <= {"exact", "lpm"}, table.name
        assert all(isinstance(k.type, ir.Bits | ir.Bool) for k in table.keys), table.name
        assert table.size > 0 and table.const_default, table.name


def test_actions_are_straight_line_code() -> None:
    """bmv2 has no branches in actions; p4c can turn only some into conditional assignments."""
    for action in program().actions:
        assert all(isinstance(s, ir.Assign | ir.CallExtern) for s in action.body), action.name
        assert all(isinstance(p.type, ir.Bits) for p in action.params), action.name


def test_the_deparser_only_emits() -> None:
    assert all(isinstance(s, ir.Emit) and isinstance(s.value.type, ir.Header) for s in program().deparser.body)
    assert not program().verify_checksum.body and not program().compute_checksum.body


def test_headers_are_whole_bytes_of_fixed_size() -> None:
    for header in program().headers:
        widths = [f.type.width for f in header.fields if isinstance(f.type, ir.Bits)]
        assert len(widths) == len(header.fields) and sum(widths) % 8 == 0, header.name
    assert not program().unions


def test_no_local_is_a_header() -> None:
    """A header handed to a control by value would be copied for every packet."""
    for control in (program().ingress, program().egress):
        assert all(isinstance(d.type, ir.Bits | ir.Bool) for d in control.locals), control.name


def test_operators() -> None:
    """No division, multiplication or shift: not every target has them, and bmv2 limits shifts."""
    operators = {n.op for n in nodes(ir.Binary)}
    assert operators and not operators & {"/", "%", "*", "<<", ">>"}, operators


def test_externs() -> None:
    """Only what simple_switch has: digests and truncate in ingress, counters whose cells the program cannot leave."""
    assert {n.name for n in nodes(ir.CallExtern)} == {"count", "digest", "truncate", "mark_to_drop"}
    assert not nodes(ir.CallExtern, program().egress)
    sizes = {e.name.rpartition(".")[2]: e.size for e in program().externs if e.kind == "counter"}
    assert sizes == {"process_traffic": 1 << 16, "element_traffic": 1024, "verdicts": VERDICTS}
    (verdicts,) = (e for e in program().enums if e.name == "Verdict")
    assert max(int(v, 0) for v in verdicts.values) < VERDICTS


def test_no_reserved_port_is_named() -> None:
    """511 drops in bmv2; the CPU port is an option of simple_switch_grpc with this value."""
    text = (PROGRAM.parent / "constants.p4").read_text()
    assert re.search(r"CPU_PORT = 510;", text)
    assert not any(re.search(r"\b511\b", s.read_text()) for s in SOURCES)


def test_every_file_is_included_once() -> None:
    included = Counter(name for s in SOURCES for name in re.findall(r'#include "([^"]+)"', s.read_text()))
    assert set(included) == {s.name for s in SOURCES} - {PROGRAM.name}
    assert all(count == 1 for count in included.values()), included


def test_p4cs_way_of_preprocessing_gives_the_same_program(tmp_path: Path) -> None:
    """p4c runs `cpp -C -undef -nostdinc -x assembler-with-cpp`: comments and apostrophes must survive that."""
    command = ["cpp", "-C", "-undef", "-nostdinc", "-x", "assembler-with-cpp", f"-I{INCLUDE_DIR}", str(PROGRAM)]
    text = subprocess.run(command, capture_output=True, text=True, check=True)
    assert not text.stderr
    expanded = tmp_path / "rack_mmu.p4"
    expanded.write_text(re.sub(r"^#.*$", "", text.stdout, flags=re.M))
    again = compile_source(expanded).program
    assert shape(again) == shape(program())


def shape(made: ir.Program) -> str:
    """A program without its source locations."""
    return re.sub(rb'"loc":\{[^}]*\},?', b"", ir.dumps(made)).decode()


def test_p4c_compiles_it(tmp_path: Path) -> None:
    compiler = shutil.which("p4c-bm2-ss") or shutil.which("p4c")
    if compiler is None:
        pytest.skip("neither p4c-bm2-ss nor p4c is in PATH: cannot compile with stock p4c")
    target = [] if "bm2" in Path(compiler).name else ["--target", "bmv2", "--arch", "v1model"]
    info = tmp_path / "info.txtpb"
    output = tmp_path / ("out.json" if not target else "out")
    command = [compiler, *target, "--p4runtime-files", str(info), "-o", str(output), str(PROGRAM)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert parsed(info) == parsed(PROGRAM.with_suffix(".p4info.txtpb"))


def parsed(path: Path) -> object:
    from finsy.proto import p4i
    from google.protobuf import text_format

    return text_format.Parse(path.read_text(), p4i.P4Info())
