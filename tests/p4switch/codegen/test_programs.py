"""Names that are hostile to C, descriptors, and the parts of the IR that no P4 source leads to."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from p4switch import codegen, native
from p4switch.codegen.names import c_comment, c_string, format_text
from p4switch.compiler import ir
from p4switch.dataplane.binding import Switch
from p4switch.dataplane.build import INCLUDE
from tests.p4switch.codegen import programs
from tests.p4switch.codegen.programs import bits, const, go, header_var, to_port

HOSTILE = [
    'x"; abort(); //',
    "*/ abort(); /*",
    "%n%s%n",
    "\\",
    "??/",
    "int",
    "struct",
    "é\u2028\n#define X",
    "a" * 500,
    "\0",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_names_are_only_ever_text(name: str) -> None:
    header = ir.Header(name=name)
    field = programs.member(header_var(name, header), name, bits(8))
    action = ir.Action(
        name=name,
        control="ingress",
        params=[ir.Param(name=name, type=bits(8), direction="data")],
        body=[ir.Assign(left=field, right=ir.Var(type=bits(8), name=name))],
    )
    table = ir.Table(
        name=name,
        control="ingress",
        keys=[ir.KeyField(name=name, type=bits(8), kind="exact", expr=field)],
        actions=[ir.ActionRef(name=name)],
        default_action=ir.ActionCallConst(action=name, args=[const(0x42, bits(8))]),
    )
    log = ir.CallExtern(name="log_msg", args=[ir.StringConst(value=name + "{}"), field])
    program = programs.program(
        headers=[ir.Composite(name=name, fields=programs.fields((name, bits(8))))],
        members=[(name, header)],
        states=[ir.State(name="start", body=[ir.Extract(header=header_var(name, header))], transition=go("accept"))],
        ingress=[ir.ApplyTable(table=name), log, to_port(1)],
        emit=[header_var(name, header)],
        actions=[action],
        tables=[table],
    )
    program.name = name
    with programs.running(program) as switch:
        assert programs.one(switch, b"\x01\xff") == b"\x42\xff"
        (found,) = switch.layout.tables
        assert found == name.replace("\0", "?")


def test_text_in_c() -> None:
    assert c_string('a"\\?\n') == '"a\\042\\134\\077\\012"'
    assert c_comment("a*/b\nc") == "a..b.c"
    assert format_text("100%") == "100%%"


def test_equal_programs_give_equal_text_and_one_shared_object(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tmp_path / "cache"
    monkeypatch.setenv("P4SWITCH_CACHE", str(cache))
    programs_made = [minimal() for _ in range(2)]
    assert codegen.generate(programs_made[0]) == codegen.generate(programs_made[1])
    paths = {native.build(p, optimise=False) for p in programs_made}
    assert len(paths) == 1
    assert [p.name for p in cache.iterdir()] == [paths.pop().name]


def test_a_cache_that_others_can_write_to_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tmp_path.chmod(0o777)
    monkeypatch.setenv("P4SWITCH_CACHE", str(tmp_path))
    with pytest.raises(native.BuildError, match="only uid"):
        native.build(minimal(), optimise=False)


def minimal() -> ir.Program:
    header = ir.Header(name="t")
    start = ir.State(name="start", body=[ir.Extract(header=header_var("t", header))], transition=go("accept"))
    return programs.program(
        headers=[ir.Composite(name="t", fields=programs.fields(("a", bits(8)), ("b", bits(12)), ("c", bits(4))))],
        members=[("t", header)],
        states=[start],
        ingress=[to_port(1)],
        emit=[header_var("t", header)],
    )


def test_generated_c_has_no_warnings(tmp_path: Path) -> None:
    source = tmp_path / "program.c"
    source.write_text(codegen.generate(minimal()))
    flags = ["-std=gnu11", "-fsyntax-only", "-Wall", "-Wextra", "-Werror", "-Wno-unused"]
    command = ["gcc", *flags, "-Wno-unused-parameter", f"-I{codegen.INCLUDE_DIR}", f"-I{INCLUDE}", str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def entries_program() -> ir.Program:
    """A table with every kind of key but selectors, and entries of every form."""
    header = ir.Header(name="t")
    a, b, c = (programs.member(header_var("t", header), n, bits(w)) for n, w in (("a", 8), ("b", 12), ("c", 4)))
    action = ir.Action(
        name="set",
        control="ingress",
        params=[ir.Param(name="v", type=bits(12), direction="data")],
        body=[ir.Assign(left=b, right=ir.Var(type=bits(12), name="v"))],
    )
    keys = [
        ir.KeyField(name="a", type=bits(8), kind="range", expr=a),
        ir.KeyField(name="b", type=bits(12), kind="ternary", expr=b),
        ir.KeyField(name="c", type=bits(4), kind="optional", expr=c),
    ]

    def entry(value: int, priority: int, *parts: ir.Keyset) -> ir.Entry:
        call = ir.ActionCallConst(action="set", args=[const(value, bits(12))])
        return ir.Entry(keys=list(parts), action=call, priority=priority)

    entries = [
        entry(
            0x111,
            3,
            ir.RangeKey(lo=const(1, bits(8)), hi=const(9, bits(8))),
            ir.MaskKey(value=const(0xABC, bits(12)), mask=const(0xF00, bits(12))),
            ir.AnyKey(),
        ),
        entry(0x222, 2, ir.AnyKey(), ir.ValueKey(value=const(5, bits(12))), ir.ValueKey(value=const(7, bits(4)))),
        entry(0x333, 1, ir.ValueKey(value=const(200, bits(8))), ir.AnyKey(), ir.AnyKey()),
    ]
    program = minimal()
    program.actions = [action, ir.Action(name="none", control="ingress", params=[], body=[])]
    program.tables = [
        ir.Table(
            name="t",
            control="ingress",
            keys=keys,
            actions=[ir.ActionRef(name="set"), ir.ActionRef(name="none")],
            default_action=ir.ActionCallConst(action="none"),
            entries=entries,
            const_entries=True,
            size=64,
        )
    ]
    program.ingress.body.insert(0, ir.ApplyTable(table="t"))
    return program


@pytest.mark.parametrize(
    ("packet", "expected"),
    [
        ("05a120", "051110"),
        ("00a120", "00a120"),
        ("0a0057", "0a2227"),
        ("c80013", "c83333"),
        ("c90013", "c90013"),
    ],
)
def test_entries_of_the_program_match_as_written(packet: str, expected: str) -> None:
    with programs.running(entries_program()) as switch:
        assert programs.one(switch, bytes.fromhex(packet)).hex() == expected


def test_the_descriptor_tells_names_widths_and_entries() -> None:
    with programs.running(entries_program()) as switch:
        table = switch.layout.tables["t"]
        assert [(f.name, f.width, f.offset, f.kind.name) for f in table.keys.fields] == [
            ("a", 8, 0, "RANGE"),
            ("b", 12, 1, "TERNARY"),
            ("c", 4, 3, "OPTIONAL"),
        ]
        assert [(a.name, a.params.size) for a in table.actions] == [("set", 2), ("none", 0)]
        assert table.const_entries and table.size == 64
        found = [(e.priority, e.key.hex(), e.mask.hex(), e.data.hex(), e.is_const) for e in switch.entries(table.index)]
        assert sorted(found, reverse=True) == [
            (3, "010a0000", "090f0000", "0111", True),
            (2, "00000507", "ff0fff0f", "0222", True),
            (1, "c8000000", "c8000000", "0333", True),
        ]


def test_a_loop_without_end_is_cut() -> None:
    program = minimal()
    program.ingress.body.insert(0, ir.Loop(cond=const(1, programs.BOOL), body=[]))
    with programs.running(program) as switch:
        assert programs.one(switch, b"\x01\x02\x03") == b"\x01\x02\x03"


def test_signed_saturation_at_the_width_of_the_machine() -> None:
    """Sixty-four bits have no room above for the sum."""
    header = ir.Header(name="w")
    type_ = bits(64, True)
    x, y = (programs.member(header_var("w", header), n, type_) for n in ("x", "y"))
    program = programs.program(
        headers=[ir.Composite(name="w", fields=programs.fields(("x", type_), ("y", type_)))],
        members=[("w", header)],
        states=[ir.State(name="start", body=[ir.Extract(header=header_var("w", header))], transition=go("accept"))],
        ingress=[ir.Assign(left=x, right=ir.Binary(type=type_, op="|+|", left=x, right=y)), to_port(1)],
        emit=[header_var("w", header)],
    )
    with programs.running(program) as switch:
        low, high = (1 << 63).to_bytes(8, "big"), ((1 << 63) - 1).to_bytes(8, "big")
        one, minus_one = (1).to_bytes(8, "big"), b"\xff" * 8
        assert programs.one(switch, high + one) == high + one
        assert programs.one(switch, low + minus_one) == low + minus_one
        assert programs.one(switch, low + high) == minus_one + high


def test_a_switch_takes_a_new_program() -> None:
    with Switch(seed=1) as switch:
        switch.load(native.build(minimal(), optimise=False))
        assert programs.one(switch, b"\x05\xa1\x20") == b"\x05\xa1\x20"
        switch.load(native.build(entries_program(), optimise=False))
        assert programs.one(switch, b"\x05\xa1\x20") == b"\x05\x11\x10"
