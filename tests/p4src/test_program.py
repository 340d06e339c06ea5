"""The P4 program itself: its P4Info is current, its names are those the controller uses."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterable
from typing import Any

from finsy.proto import p4i

from p4switch.compiler import p4info
from p4switch.compiler.driver import compile_source
from p4switch.graph import build as build_graph
from p4switch.graph.svg import titles as graph_titles
from tests.p4src.harness import PROGRAM, program

DRAWING = PROGRAM.parents[1] / "docs" / "rack_mmu_graph.svg"
SVG = "{http://www.w3.org/2000/svg}"
GOLDEN = PROGRAM.with_suffix(".p4info.txtpb")


def test_committed_p4info_is_current() -> None:
    assert GOLDEN.read_text() == p4info.to_text(p4info.build(program())), (
        "run: python -m p4switch compile p4src/rack_mmu.p4 --p4info p4src/rack_mmu.p4info.txtpb"
    )


def test_committed_drawing_is_current() -> None:
    """What it shows when hovered over holds all of the graph, and does not depend on fonts and versions."""
    root = ET.parse(DRAWING).getroot()
    shown = {g.get("id"): g.findtext(f"{SVG}title") for g in root.iter(f"{SVG}g")}
    wanted = graph_titles(build_graph(program()))
    assert {key: text for key, text in shown.items() if text} == {key: text for key, text in wanted.items() if text}, (
        "run: make graph"
    )


def aliases(items: Iterable[Any]) -> set[str]:
    return {item.preamble.alias for item in items}


def test_aliases_are_those_of_the_protocol() -> None:
    info = p4info.build(program())
    assert aliases(info.tables) == {"element", "binding", "translation", "protection", "liveness", "reply_route"}
    assert aliases(info.counters) == {"process_traffic", "element_traffic", "verdicts"}
    assert aliases(info.direct_counters) == {"protection_traffic"}
    assert aliases(info.digests) == {"failed_access_t"}
    assert aliases(info.controller_packet_metadata) == {"packet_in", "packet_out"}


KEYS = {
    "element": ["port"],
    "binding": ["element", "pid"],
    "translation": ["va"],
    "protection": ["pid", "va"],
    "liveness": ["element"],
    "reply_route": ["element"],
}
ACTIONS = {
    "element": {"attach": ["element", "kind"], "fence": ["element", "kind"]},
    "binding": {"bind": []},
    "translation": {"map_page": ["element", "offset"], "unmapped": [], "lost": []},
    "protection": {"allow": ["permissions", "generation"], "deny": []},
    "liveness": {"alive": ["port"], "failed": []},
    "reply_route": {"route": ["port"]},
}


def test_keys_and_actions_are_those_of_the_protocol() -> None:
    """docs/protocol.md, Tables: what an entry may say."""
    info = p4info.build(program())
    names = {a.preamble.id: (a.preamble.alias, [p.name for p in a.params]) for a in info.actions}
    for table in info.tables:
        alias = table.preamble.alias
        assert [m.name for m in table.match_fields] == KEYS[alias]
        refs = [r for r in table.action_refs if r.scope != p4i.ActionRef.DEFAULT_ONLY]
        assert dict(names[r.id] for r in refs) == ACTIONS[alias]
        assert table.const_default_action_id, f"the default action of {alias} can be changed"


def test_no_warnings() -> None:
    assert compile_source(PROGRAM).diagnostics.messages == []
