"""A graph in Graphviz's language, deterministic for equal graphs."""

from __future__ import annotations

import html
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import graphviz

from p4switch.graph.model import ActionNote, Edge, Graph, Node, NodeKind, Part
from p4switch.graph.text import relative

FONT = "DejaVu Sans,Verdana,Arial,sans-serif"
MONO = "DejaVu Sans Mono,Menlo,Consolas,monospace"
_LINE = 56  # characters of a line in a drawing; tooltips have all
_LINES = 12  # lines of a section
_LABELS = 8  # of the alternatives on an edge

INK, PAPER, FRAME, MUTED, ERROR = "#24292f", "#ffffff", "#8c959f", "#57606a", "#cf222e"
CLUSTER, SUB_CLUSTER = "#f6f8fa", "#eceff3"


@dataclass(frozen=True, slots=True)
class _Look:
    """How a kind of node looks; ``meaning`` is for the legend."""

    shape: str  # "box" is a table of sections, the others are Graphviz's shapes
    fill: str = ""
    meaning: str = ""


LOOKS: dict[NodeKind, _Look] = {
    "start": _Look("circle", INK),
    "end": _Look("doublecircle", INK),
    "empty": _Look("plain"),
    "state": _Look("box", "#ddf4ff", "parser state: what it extracts, what it selects on"),
    "accept": _Look("ellipse", "#dafbe1", "accept: the packet is parsed"),
    "reject": _Look("ellipse", "#ffebe9", "reject: ingress runs all the same"),
    "table": _Look("box", "#fff8c5", "table: keys, actions, default action, size"),
    "condition": _Look("hexagon", "#fbefff", "condition or switch"),
    "switch": _Look("hexagon", "#fbefff"),
    "statements": _Look("box", PAPER, "assignments and calls"),
    "exit": _Look("octagon", "#ffebe9", "exit: ends the whole control"),
}
_NAMED = ("start", "state", "table", "condition", "switch")
_LEGEND: tuple[NodeKind, ...] = ("state", "accept", "reject", "table", "condition", "statements", "exit")


def to_dot(graph: Graph) -> str:
    """The graph as DOT text, with a cluster for each part and for each sub-parser and sub-control, and a legend."""
    out = graphviz.Digraph(
        comment=" ".join(printable(graph.program).split()) + ": made by p4switch graph",
        graph_attr={
            "fontname": FONT,
            "fontsize": "11",
            "fontcolor": INK,
            "bgcolor": "transparent",
            "nodesep": "0.35",
            "ranksep": "0.4",
            "compound": "true",
            "label": legend({node.kind for part in graph.parts for node in part.nodes}),
            "labelloc": "b",
        },
        node_attr={"fontname": FONT, "fontsize": "11", "fontcolor": INK, "color": FRAME, "margin": "0.08,0.04"},
        edge_attr={"fontname": MONO, "fontsize": "9", "fontcolor": MUTED, "color": MUTED, "arrowsize": "0.7"},
    )
    for part in graph.parts:
        _add_part(out, part)
    seen: set[tuple[str, str]] = set()
    for (
        link
    ) in graph.links:  # one for each way between two parts, from border to border: it crosses neither titles nor nodes
        tail, head = (node.split(".")[0] for node in (link.source, link.target))
        if (tail, link.kind) not in seen:
            seen.add((tail, link.kind))
            _add_edge(out, link, {"penwidth": "2.2", "ltail": f"cluster_{tail}", "lhead": f"cluster_{head}"})
    return str(out.source)


def tooltip(node: Node, actions: Sequence[ActionNote] = ()) -> str:
    """All that is known of a node, as text; for a table also what its actions do."""
    what = f"{node.kind} {node.name or node.title}" if node.kind in _NAMED else node.title or node.kind
    lines = [what + (f" ({node.source})" if node.source else "")]
    for section in node.sections:
        lines += [f"{section.name}:"] if section.name else []
        lines += [f"  {line}" for line in section.lines]
    for action in actions:
        lines += ["", f"action {action.signature}" + (f" ({action.source})" if action.source else "")]
        lines += [f"  {line}" for line in action.body]
    return printable("\n".join(lines))


def edge_id(edge: Edge) -> str:
    """The id of an edge in drawings."""
    return f"{edge.source}--{edge.target}" + (f"--{edge.kind}" if edge.kind != "flow" else "")


def edge_text(edge: Edge) -> str:
    """All the alternatives of an edge."""
    return printable("\n".join(edge.labels))


def legend(kinds: set[NodeKind]) -> str:
    """The meaning of the kinds of nodes that are drawn, as a label."""
    cells = [
        f'<TD BGCOLOR="{LOOKS[kind].fill}" WIDTH="26" BORDER="1" COLOR="{FRAME}"></TD>'
        f'<TD ALIGN="LEFT">{_text(LOOKS[kind].meaning)}</TD>'
        for kind in _LEGEND
        if kind in kinds
    ]
    pairs = ["".join(cells[i : i + 2]) for i in range(0, len(cells), 2)]
    return (
        f'<<TABLE BORDER="0" CELLSPACING="4">{"".join(f"<TR>{pair}</TR>" for pair in pairs)}</TABLE>>' if cells else ""
    )


def _add_part(out: graphviz.Digraph, part: Part) -> None:
    actions = {action.name: action for action in part.actions}
    with out.subgraph(name=f"cluster_{part.name}") as cluster:
        title = f"<<B>{_text(part.name.replace('_', ' '))}</B>&#160;&#160;{_text(part.title)}>"
        cluster.attr(label=title, style="filled,rounded", fillcolor=CLUSTER, color=FRAME, labeljust="l", labelloc="t")
        _add_nodes(cluster, part, part.nodes, 0, actions)
        for edge in part.edges:
            _add_edge(cluster, edge, {})


def _add_nodes(
    out: graphviz.Digraph, part: Part, nodes: Sequence[Node], depth: int, actions: dict[str, ActionNote]
) -> None:
    """Nodes at this depth of sub-blocks; those further inside come in clusters of their own."""
    for path, group in groupby(nodes, key=lambda n: n.inside[depth] if len(n.inside) > depth else None):
        members = list(group)
        if path is None:
            for node in members:
                _add_node(out, node, actions)
            continue
        with out.subgraph(name=f"cluster_{members[0].id}_{depth}") as cluster:
            cluster.attr(
                label=f"<{_text(relative(path, [part.title, *members[0].inside[:depth]]))}>",
                style="filled,rounded",
                fillcolor=SUB_CLUSTER if depth % 2 == 0 else CLUSTER,
                color=FRAME,
            )
            _add_nodes(cluster, part, members, depth + 1, actions)


def _add_node(out: graphviz.Digraph, node: Node, actions: dict[str, ActionNote]) -> None:
    look = LOOKS[node.kind]
    called = [actions[name] for name in node.actions if name in actions]
    common = {"id": node.id, "tooltip": graphviz.escape(tooltip(node, called))}
    if node.kind in ("start", "end"):
        out.node(
            node.id, "", shape=look.shape, style="filled", fillcolor=look.fill, width="0.14", fixedsize="true", **common
        )
    elif look.shape == "box":
        out.node(node.id, _box(node, look), shape="plain", **common)
    else:
        label = f"<{_breaks(_wrapped(node.title))}>"
        style = {"style": "filled", "fillcolor": look.fill} if look.fill else {}
        out.node(node.id, label, shape=look.shape, **style, **common)


def _box(node: Node, look: _Look) -> str:
    """A node with sections, as an HTML-like label."""
    blocks = [f'<TD ALIGN="CENTER"><B>{_text(_cut(node.title))}</B></TD>'] if node.title else []
    for section in node.sections:
        if not section.lines:
            continue
        shown = [_text(_cut(line)) for line in section.lines[:_LINES]]
        hidden = len(section.lines) - len(shown)
        if hidden:
            shown.append(f"... {hidden} more")
        head = (
            f'<FONT COLOR="{MUTED}" POINT-SIZE="9">{_text(section.name)}</FONT><BR ALIGN="LEFT"/>'
            if section.name
            else ""
        )
        lines = "".join(f'{line}&#160;<BR ALIGN="LEFT"/>' for line in shown)
        blocks.append(f'<TD ALIGN="LEFT" BALIGN="LEFT">{head}<FONT FACE="{MONO}" POINT-SIZE="9">{lines}</FONT></TD>')
    rows = "<HR/>".join(f"<TR>{block}</TR>" for block in blocks)
    return (
        f'<<TABLE BORDER="1" CELLBORDER="0" CELLSPACING="0" CELLPADDING="4" COLOR="{FRAME}" BGCOLOR="{look.fill}"'
        f' STYLE="ROUNDED">{rows}</TABLE>>'
    )


def _add_edge(out: graphviz.Digraph, edge: Edge, attributes: dict[str, str]) -> None:
    attributes = {**attributes, "id": edge_id(edge)}
    if edge.kind != "flow":
        attributes |= {"color": ERROR, "style": "dashed"}
    shown = edge.labels[:_LABELS]
    if len(shown) < len(edge.labels):
        shown.append(f"... {len(edge.labels) - len(shown)} more")
    if shown:
        attributes["label"] = f"<{_breaks(shown)}>"
        attributes["tooltip"] = attributes["labeltooltip"] = graphviz.escape(edge_text(edge))
    out.edge(edge.source, edge.target, **attributes)


def _breaks(lines: Iterable[str]) -> str:
    return "<BR/>".join(f"&#160;{_text(_cut(line))}&#160;" for line in lines)


def _wrapped(text: str) -> Iterator[str]:
    """A condition over several lines, broken at its operators."""
    line = ""
    for word in text.split(" "):
        if line and len(line) + len(word) > _LINE // 2 and word not in ("", ")"):
            yield line
            line = ""
        line = f"{line} {word}".strip()
    yield line


def _cut(line: str) -> str:
    return line if len(line) <= _LINE else line[: _LINE - 3] + "..."


def _text(text: str) -> str:
    """Text inside an HTML-like label: escaped, and without characters that XML cannot hold."""
    kept = printable(text).replace("\n", " ")
    # Graphviz folds leading blanks; the indentation of nested statements is worth keeping
    indent = len(kept) - len(kept.lstrip(" "))
    return "&#160;" * indent + str(graphviz.escape(html.escape(kept[indent:])))


def printable(text: str) -> str:
    """Text without characters that XML or Graphviz cannot hold; line ends stay."""
    return "".join(c if c.isprintable() or c == "\n" else "?" for c in text)
