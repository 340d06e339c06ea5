"""P4Info of what the recorded programs do not show: annotations of all kinds, names of keys, structs in controller headers."""

from __future__ import annotations

from pathlib import Path

import pytest
from finsy.proto import p4i

from p4switch.codegen import CodegenError, generate
from p4switch.compiler import p4info
from p4switch.compiler.driver import CompileResult, compile_source
from p4switch.p4info_diff import difference

FEATURES = Path(__file__).parent.parent / "features"
PROGRAM = """
#include <core.p4>
#include <v1model.p4>
const bit<8> SIX = 6;
@note("free, it's all here: 0xdead") @uri[kind="colour", bits=2 * 4, flag=true] type bit<8> colour_t;
struct inner_t { bit<8> x; colour_t y; }
@controller_header("packet_out") header out_t { bit<8> first; inner_t rest; }
header h_t { bit<8> a; @name("bee") bit<8> b; @name(".sea") bit<8> c; }
struct headers_t { h_t h; out_t o; }
struct metadata_t { }
extern jotter { jotter(bit<8> ink); void jot(in bit<8> x); }
parser P(packet_in packet, out headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    state start { packet.extract(hdr.h); transition accept; }
}
control MyIngress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    jotter(3) pad;
    action a(colour_t colour) { FOREIGN }
    @many[1, "two", SIX == 6, SIX + 1] @empty[]
    table t {
        key = { hdr.h.a & 0x0f: exact; hdr.h.b: exact @hidden; hdr.h.c: exact; hdr.h.isValid(): exact; }
        actions = { @mine[7] a; NoAction; }
    }
    table never { actions = { NoAction; } }
    apply {
        t.apply();
        if (false) { never.apply(); }
    }
}
"""
PACKAGE = '@pkginfo(name = "n", version = "1.2") @platform_property(multicast_group_table_size = 10) @other("x") '


def build(tmp_path: Path, foreign: str = "") -> CompileResult:
    rest = (FEATURES / "skeleton.p4").read_text().replace("V1Switch(", PACKAGE + "V1Switch(")
    (tmp_path / "prog.p4").write_text(PROGRAM.replace("FOREIGN", foreign) + rest)
    return compile_source(tmp_path / "prog.p4")


@pytest.fixture
def info(tmp_path: Path) -> p4i.P4Info:
    return p4info.build(build(tmp_path).program)


def test_package(info: p4i.P4Info) -> None:
    package = info.pkg_info
    assert (package.name, package.version, package.arch) == ("n", "1.2", "v1model")
    assert package.platform_properties.multicast_group_table_size == 10
    assert list(package.annotations) == ['@other("x")']


def test_structured_annotations(info: p4i.P4Info) -> None:
    many, empty = info.tables[0].preamble.structured_annotations
    assert [str(e).strip() for e in many.expression_list.expressions] == [
        "int64_value: 1",
        'string_value: "two"',
        "bool_value: true",
        "int64_value: 7",
    ]
    assert empty.name == "empty" and not empty.expression_list.expressions
    (mine,) = info.tables[0].action_refs[0].structured_annotations
    assert mine.expression_list.expressions[0].int64_value == 7
    new = info.type_info.new_types["colour_t"]
    assert list(new.annotations) == ['@note("free, it\'s all here: 0xdead")']
    pairs = {p.key: p.value for p in new.structured_annotations[0].kv_pair_list.kv_pairs}
    assert (pairs["kind"].string_value, pairs["bits"].int64_value, pairs["flag"].bool_value) == ("colour", 8, True)


def test_names_of_keys(info: p4i.P4Info) -> None:
    assert [f.name for f in info.tables[0].match_fields] == ["hdr.h.a & 0xf", "hdr.h.bee", "sea", "hdr.h.$valid$"]
    assert list(info.tables[0].match_fields[1].annotations) == ["@hidden"]


def test_structs_in_controller_headers(info: p4i.P4Info) -> None:
    (header,) = info.controller_packet_metadata
    assert [(m.id, m.name, m.bitwidth) for m in header.metadata] == [
        (1, "first", 8),
        (2, "rest.x", 8),
        (3, "rest.y", 8),
    ]


def test_code_that_never_runs_has_no_tables(info: p4i.P4Info) -> None:
    assert [t.preamble.name for t in info.tables] == ["MyIngress.t"]


def test_an_extern_of_the_programs_own_has_p4info_but_no_code(tmp_path: Path) -> None:
    result = build(tmp_path, "pad.jot(hdr.h.a);")
    assert [m.message for m in result.diagnostics.messages if m.kind == "foreign-extern"] == [
        "extern 'jotter' is none of v1model's: the program compiles, no switch runs it"
    ]
    assert p4info.build(result.program).tables
    with pytest.raises(CodegenError, match=r"jotter\.jot.*no implementation"):
        generate(result.program)


def test_difference_ignores_order_and_nothing_else(info: p4i.P4Info) -> None:
    other = p4i.P4Info()
    other.CopyFrom(info)
    actions = list(other.actions)
    del other.actions[:]
    other.actions.extend(reversed(actions))
    assert difference(info, other) == []
    other.tables[0].size += 1
    assert any("size: 1025" in line for line in difference(info, other))
