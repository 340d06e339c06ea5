"""The state machine of a parser as a part of the graph."""

from __future__ import annotations

from p4switch.compiler import ir
from p4switch.graph.model import Edge, EdgeKind, Node, Part, Section
from p4switch.graph.text import Words, place

_ENDS = ("accept", "reject")


def parser_part(program: ir.Program) -> Part:
    """States with what they extract and do, transitions with the keys that select them, accept and reject.

    A state that applies a sub-parser is drawn in two: before it and, as "continued", after it.
    A select without a default has an edge to reject for what no case matches (error.NoMatch, P4_16 section 13.6).
    """
    parser, words = program.parser, Words(program, program.parser.name)
    nodes = []
    begun: set[tuple[str, ...]] = set()
    for state in parser.states:
        place_ = (*state.inside, state.source_name or state.name)
        nodes.append(_state(state, words, continued=place_ in begun and "_after_" in state.name))
        begun.add(place_)
    edges = [edge for state in parser.states for edge in _transitions(state, words)]
    reached = {edge.target for edge in edges}
    nodes += [Node(id=f"parser.{end}", kind=end, title=end) for end in _ENDS if f"parser.{end}" in reached]  # type: ignore[arg-type]
    return Part(
        name="parser",
        title=parser.name,
        nodes=nodes,
        edges=edges,
        entry=_id(parser.states[0].name),
        exits=[_id(end) for end in _ENDS if _id(end) in reached],
    )


def _id(state: str) -> str:
    return f"parser.{state}"


def _state(state: ir.State, words: Words, continued: bool) -> Node:
    words.scopes[1:] = state.inside
    lines = list(words.lines(state.body))
    sections = [Section(lines=lines)] if lines else []
    if state.transition.exprs:
        sections.append(Section(name="select", lines=[words.expression(e) for e in state.transition.exprs]))
    return Node(
        id=_id(state.name),
        kind="state",
        title=(state.source_name or state.name) + (" (continued)" if continued else ""),
        name=state.name,
        sections=sections,
        inside=state.inside,
        source=place(state.loc),
    )


def _transitions(state: ir.State, words: Words) -> list[Edge]:
    """One edge for each next state, in the order of the cases; its labels are the cases."""
    labels: dict[str, list[str]] = {}
    for case in state.transition.cases:
        known = labels.setdefault(case.state, [])
        if case.keys:
            known.append(words.keys(case.keys))
    complete = any(all(isinstance(k, ir.AnyKey) for k in case.keys) for case in state.transition.cases)
    if not complete:
        labels.setdefault("reject", []).append("no match")
    return [_edge(state.name, target, cases) for target, cases in labels.items()]


def _edge(source: str, target: str, labels: list[str]) -> Edge:
    kind: EdgeKind = "error" if target == "reject" else "flow"
    return Edge(source=_id(source), target=_id(target), labels=labels, kind=kind)
