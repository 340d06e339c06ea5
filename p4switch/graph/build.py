"""The graph of a program from its IR."""

from __future__ import annotations

from itertools import pairwise

from p4switch.compiler import ir
from p4switch.graph.controls import control_part
from p4switch.graph.model import Edge, EdgeKind, Graph, Part
from p4switch.graph.states import parser_part

PARTS = ("parser", "verify_checksum", "ingress", "egress", "compute_checksum", "deparser")
_BETWEEN = {("ingress", "egress"): ["traffic manager"]}


def build(program: ir.Program, parts: tuple[str, ...] = PARTS) -> Graph:
    """The graph of these parts of a program, in the order in which a packet passes them."""
    drawn = [_part(program, name) for name in PARTS if name in parts]
    links = []
    for before, after in pairwise(drawn):
        labels = _BETWEEN.get((before.name, after.name), [])
        for leaving in before.exits:
            kind: EdgeKind = "error" if leaving.endswith(".reject") else "flow"
            links.append(Edge(source=leaving, target=after.entry, labels=labels, kind=kind))
    return Graph(program=program.name, parts=drawn, links=links)


def _part(program: ir.Program, name: str) -> Part:
    return parser_part(program) if name == "parser" else control_part(program, name, getattr(program, name))
