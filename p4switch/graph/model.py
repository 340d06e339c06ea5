"""A program's graph as plain data: what the drawings and ``--format json`` show. Complete: only drawings shorten."""

from __future__ import annotations

from typing import Literal

import msgspec

NodeKind = Literal[
    "start", "end", "empty", "state", "accept", "reject", "table", "condition", "switch", "statements", "exit"
]
EdgeKind = Literal["flow", "error", "exit"]


class Section(msgspec.Struct, kw_only=True):
    """Lines of a node under a heading; the heading may be empty."""

    name: str = ""
    lines: list[str]


class Node(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A node. ``id`` is unique in the graph; ``name`` is the IR's name of a state or table.

    ``actions`` are the IR's names of a table's actions, or of those that statements call.
    ``inside`` are the paths of the sub-parsers or sub-controls around it, outermost first. ``source`` is ``file:line``.
    """

    id: str
    kind: NodeKind
    title: str
    name: str | None = None
    sections: list[Section] = []
    actions: list[str] = []
    inside: list[str] = []
    source: str | None = None


class Edge(msgspec.Struct, kw_only=True, omit_defaults=True):
    """An edge between nodes. ``labels`` are alternatives: the edge is taken when one of them holds."""

    source: str
    target: str
    labels: list[str] = []
    kind: EdgeKind = "flow"


class ActionNote(msgspec.Struct, kw_only=True, omit_defaults=True):
    """An action of a part: its signature and what it does, as lines of P4."""

    name: str
    signature: str
    body: list[str]
    source: str | None = None


class Part(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One block of the architecture (``parser``, ``ingress``, ...); ``title`` is what the program calls it.

    ``entry`` and ``exits`` are the ids of the nodes where a packet comes in and leaves.
    """

    name: str
    title: str
    nodes: list[Node]
    edges: list[Edge]
    entry: str
    exits: list[str]
    actions: list[ActionNote] = []


class Graph(msgspec.Struct, kw_only=True):
    """A program. ``links`` are the ways of a packet from part to part."""

    program: str
    parts: list[Part]
    links: list[Edge]


def to_json(graph: Graph) -> str:
    """The graph as JSON text."""
    return msgspec.json.format(msgspec.json.encode(graph), indent=2).decode() + "\n"
