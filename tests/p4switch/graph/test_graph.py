"""Drawings: everything of the IR is in them, they are well-formed, readable and reproducible, and failures are explained."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from functools import cache
from pathlib import Path

import pytest

from p4switch import __main__ as p4switch
from p4switch.compiler import ir
from p4switch.compiler.driver import compile_source
from p4switch.graph import PARTS, Graph, build
from p4switch.graph.dot import to_dot
from p4switch.graph.model import Node, Part
from p4switch.graph.svg import titles, to_svg

HERE = Path(__file__).parent
SMALL = HERE / "small.p4"
FEATURES = sorted(p for p in (HERE.parent / "features").glob("*.p4") if p.stem != "skeleton")
SVG = "{http://www.w3.org/2000/svg}"


@cache
def compiled(path: Path) -> ir.Program:
    return compile_source(path).program


def graph_of(name: str) -> Graph:
    return build(compiled(HERE.parent / "features" / f"{name}.p4"))


def part(graph: Graph, name: str) -> Part:
    return next(p for p in graph.parts if p.name == name)


def ways(part: Part) -> set[tuple[str, str, str]]:
    """Edges as (title of the source, title of the target, labels)."""
    names = {n.id: n.title or " ; ".join(line for s in n.sections for line in s.lines) for n in part.nodes}
    return {(names[e.source], names[e.target], ", ".join(e.labels)) for e in part.edges}


@pytest.mark.parametrize("path", [SMALL, *FEATURES], ids=lambda p: p.stem)
def test_everything_of_the_program_is_drawn(path: Path) -> None:
    program = compiled(path)
    graph = build(program)
    nodes = [node for p in graph.parts for node in p.nodes]
    named = {(node.kind, node.name) for node in nodes}
    assert [p.name for p in graph.parts] == list(PARTS)
    assert {("state", s.name) for s in program.parser.states} <= named
    controls = {name: getattr(program, name) for name in PARTS[1:]}
    inside = {name: [*ir.walk(c.body)] for name, c in controls.items()}
    applied = [n.table for statements in inside.values() for n in statements if isinstance(n, ir.ApplyTable)]
    drawn = [node for node in nodes if node.kind == "table"]
    assert sorted(n.name or "" for n in drawn) == sorted(applied)
    for table in program.tables:
        for node in (n for n in drawn if n.name == table.name):
            assert node.actions == [a.name for a in table.actions]
            assert len(next(s for s in node.sections if s.name == "key").lines) == max(len(table.keys), 1)
    for name, control in controls.items():
        of_part = part(graph, name)
        called = {n.action for n in inside[name] if isinstance(n, ir.CallAction)}
        assert called <= {a for n in of_part.nodes for a in n.actions}
        assert {a.name for a in of_part.actions} == {a.name for a in program.actions if a.control == name}
        exits = sum(isinstance(n, ir.Exit) for n in inside[name])
        assert sum(n.kind == "exit" for n in of_part.nodes) >= exits
        assert of_part.title == control.name
    ids = [node.id for node in nodes]
    assert len(ids) == len(set(ids))
    ends = {end for p in graph.parts for e in [*p.edges, *graph.links] for end in (e.source, e.target)}
    assert ends <= set(ids)


@pytest.mark.parametrize("path", FEATURES, ids=lambda p: p.stem)
def test_every_node_can_be_reached(path: Path) -> None:
    """None of the feature programs has statements that are never reached."""
    for of_part in build(compiled(path)).parts:
        reached, todo = set(), [of_part.entry]
        while todo:
            node = todo.pop()
            if node not in reached:
                reached.add(node)
                todo += [e.target for e in of_part.edges if e.source == node]
        assert {n.id for n in of_part.nodes} == reached


def test_select_keys_and_values() -> None:
    parser = part(build(compiled(SMALL)), "parser")
    assert ways(parser) == {
        ("start", "tag", "0x1234, 1, 0x2000 &&& 0xff00, _"),
        ("start", "reject", "1 .. 9, _, no match"),
        ("start", "accept", "0x800, _"),
        ("tag", "tag", "7"),
        ("tag", "accept", "default"),
    }
    (start,) = [n for n in parser.nodes if n.title == "start"]
    assert [s.lines for s in start.sections] == [["extract(hdr.ethernet)"], ["hdr.ethernet.type", "sm.ingress_port"]]
    assert start.source == "small.p4:11"
    assert {e.kind for e in parser.edges if e.target == "parser.reject"} == {"error"}


def test_control_flow() -> None:
    ingress = part(build(compiled(SMALL)), "ingress")
    assert ways(ingress) == {
        ("SmallIngress", "!hdr.ethernet.isValid()", ""),
        ("!hdr.ethernet.isValid()", "mark_to_drop(sm)", "true"),
        ("mark_to_drop(sm)", "exit", ""),
        ("!hdr.ethernet.isValid()", "kind = hdr.tag.kind", "false"),
        ("kind = hdr.tag.kind", "kind == 0", ""),
        ("kind == 0", "forward", "true"),
        ("kind == 0", "meta.mark = kind", "false"),
        ("meta.mark = kind", "forward", ""),
        ("forward", "exit", "stop"),
        ("forward", "seen.count((bit<32>) sm.egress_spec)", "to_port"),
        ("forward", "hdr.ethernet.src = 0", "default"),
        ("seen.count((bit<32>) sm.egress_spec)", "end", ""),
        ("hdr.ethernet.src = 0", "end", ""),
    }
    assert {n.title for n in ingress.nodes if n.inside == ["SmallIngress.mark"]} == {"kind == 0", ""}
    (table,) = [n for n in ingress.nodes if n.kind == "table"]
    assert {s.name: s.lines for s in table.sections} == {
        "key": ["dst: exact", "hdr.ethernet.type: ternary"],
        "actions": ["to_port(port)", "stop()", "NoAction() @default only"],
        "const default": ["NoAction()"],
        "": ["size 256"],
    }


def test_loops_come_back() -> None:
    ingress = part(graph_of("loops"), "ingress")
    assert {("i <= tmp", "hdr.h.sum = hdr.h.sum + i", "true"), ("i = i + 1", "i <= tmp", "")} <= ways(ingress)


def test_sub_parsers_have_a_frame_for_each_time_they_are_applied() -> None:
    graph = graph_of("sub_blocks")
    frames = [n.inside for n in part(graph, "parser").nodes]
    assert [] in frames and ["P.pair"] in frames
    assert to_dot(graph).count("label=<pair>") == 2


def test_hits_are_named_after_their_table() -> None:
    titles_ = {n.title for n in part(graph_of("hit_and_miss"), "ingress").nodes}
    assert {"t.hit", "!u.hit"} <= titles_


def test_links_follow_the_packet() -> None:
    graph = build(compiled(SMALL), ("egress", "ingress"))
    assert [p.name for p in graph.parts] == ["ingress", "egress"]
    assert {(e.source, e.target) for e in graph.links} == {(x, graph.parts[1].entry) for x in graph.parts[0].exits}


def test_the_dot_of_a_small_program_is_as_committed() -> None:
    text = to_dot(build(compiled(SMALL)))
    assert text == (HERE / "small.dot").read_text(), "python -m p4switch graph small.p4 -o small.dot, and look at it"


def run(*args: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "p4switch", "graph", *map(str, args)], capture_output=True, text=True, timeout=400
    )


def test_output_does_not_depend_on_the_run() -> None:
    for form in ("dot", "json", "svg"):
        first, second = (run(SMALL, "--format", form).stdout for _ in range(2))
        assert first and first == second


def boxes(root: ET.Element) -> list[tuple[float, float, float, float, str]]:
    """Where each text stands, by a cautious guess of its width."""
    found = []
    for text in root.iter(f"{SVG}text"):
        size, content = float(text.get("font-size", "0")), (text.text or "").strip()
        width = 0.5 * size * len(content)
        x, y = float(text.get("x", "0")), float(text.get("y", "0"))
        left = x - width / 2 if text.get("text-anchor") == "middle" else x
        found.append((left, left + width, y - 0.7 * size, y, content))
    return found


@pytest.mark.parametrize("name", ["header_stack", "action_run", "switch_value", "value_set", "parser_errors"])
def test_svg(name: str) -> None:
    graph = graph_of(name)
    root = ET.fromstring(to_svg(graph))
    assert root.tag == f"{SVG}svg"
    hover = {g.get("id"): g.findtext(f"{SVG}title") for g in root.iter(f"{SVG}g")}
    assert {key: text for key, text in titles(graph).items() if text}.items() <= hover.items()
    shown = " ".join(text for *_, text in boxes(root))
    for node in (n for p in graph.parts for n in p.nodes if n.kind in ("state", "table")):
        assert node.title in shown
    assert "parser state: what it extracts" in shown  # the legend
    assert not list(root.iter(f"{SVG}a")) and "prefers-color-scheme: dark" in (root.findtext(f"{SVG}style") or "")


def test_no_text_lies_on_another() -> None:
    for name in ("switch_value", "const_entries", "parser_errors"):
        placed = boxes(ET.fromstring(to_svg(graph_of(name))))
        clashes = [
            (a[4], b[4])
            for i, a in enumerate(placed)
            for b in placed[:i]
            if a[0] < b[1] and b[0] < a[1] and a[2] < b[3] and b[2] < a[3]
        ]
        assert not clashes


def test_hostile_text_stays_well_formed() -> None:
    program = compile_source(SMALL).program
    nasty = '<b>&amp;"\\N\\l]]>\x00\n%s{|}'
    program.name = nasty
    program.tables[0].name = nasty
    next(n for n in ir.walk(program.ingress.body) if isinstance(n, ir.ApplyTable)).table = nasty
    graph = build(program)
    root = ET.fromstring(to_svg(graph))
    assert '<b>&amp;"\\N\\l]]>? %s{|}' in [t.text for t in root.iter(f"{SVG}text")]


def test_long_text_is_cut_in_drawings_only() -> None:
    program = compile_source(SMALL).program
    program.parser.states[0].transition.cases *= 10
    program.ingress.body[0] = ir.Block(
        body=[ir.CallExtern(name=f"log_{'x' * 100}{i}") for i in range(40)],
    )
    graph = build(program)
    dot, data = to_dot(graph), json.dumps([[s.lines for n in p.nodes for s in n.sections] for p in graph.parts])
    assert "... 29 more" in dot and "x" * 49 + "..." in dot
    assert all(f"{'x' * 100}{i}()" in data for i in range(40))


def test_formats(tmp_path: Path) -> None:
    for name in ("a.dot", "a.json", "a.svg", "a.other"):
        assert run(SMALL, "-o", tmp_path / name).returncode == 0
    assert (tmp_path / "a.dot").read_text() == (HERE / "small.dot").read_text()
    assert [p["name"] for p in json.loads((tmp_path / "a.json").read_text())["parts"]] == list(PARTS)
    assert (tmp_path / "a.svg").read_text() == (tmp_path / "a.other").read_text()
    only = run(SMALL, "--part", "egress", "--format", "json")
    assert [p["name"] for p in json.loads(only.stdout)["parts"]] == ["egress"]


def in_process(monkeypatch: pytest.MonkeyPatch, *args: str | Path) -> int:
    monkeypatch.setattr(sys, "argv", ["p4switch", "graph", *map(str, args)])
    return p4switch.main()


def test_without_graphviz(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The compiler needs cc on the path, so only dot is missing from it."""
    for tool in ("cc", "gcc"):
        (tmp_path / tool).symlink_to(shutil.which(tool) or "")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert in_process(monkeypatch, SMALL, "-o", tmp_path / "x.svg") == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "apt-get install graphviz" in error
    assert not (tmp_path / "x.svg").exists()
    assert in_process(monkeypatch, SMALL, "-o", tmp_path / "x.dot") == 0


def test_failing_graphviz(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken = tmp_path / "dot"
    broken.write_text("#!/bin/sh\necho out of paper >&2\nexit 3\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert in_process(monkeypatch, SMALL, "-o", tmp_path / "x.svg") == 1
    assert capsys.readouterr().err == "p4switch graph: Graphviz's 'dot' failed: out of paper\n"


def test_bad_input(tmp_path: Path) -> None:
    bad = tmp_path / "bad.p4"
    bad.write_text("control C( { }")
    refused = run(bad)
    assert refused.returncode == 2 and "bad.p4:1:12: error:" in refused.stderr and not refused.stdout
    unwritable = run(SMALL, "-o", tmp_path / "no" / "x.dot")
    assert (
        unwritable.returncode == 1
        and unwritable.stderr.startswith("p4switch graph: ")
        and "Traceback" not in unwritable.stderr
    )
    unknown = run(SMALL, "--part", "middle")
    assert unknown.returncode == 2 and "invalid choice: 'middle'" in unknown.stderr


def test_titles_of_nodes_say_where_they_come_from() -> None:
    texts = titles(build(compiled(SMALL)))
    table: Node = next(n for n in part(build(compiled(SMALL)), "ingress").nodes if n.kind == "table")
    assert texts[table.id].startswith("table SmallIngress.forward (small.p4:58)\nkey:\n  dst: exact\n")
    assert "action to_port(bit<9> port) (small.p4:" in texts[table.id] and "  sm.egress_spec = port" in texts[table.id]
