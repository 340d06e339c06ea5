"""A graph as SVG: laid out by Graphviz's ``dot``, then given hover titles and colours that follow the reader's theme."""

from __future__ import annotations

import subprocess
import xml.etree.ElementTree as ET

from p4switch.graph import dot
from p4switch.graph.model import Graph

_SVG = "http://www.w3.org/2000/svg"
_DARK = {  # colours of dot.py where the reader prefers a dark page
    dot.INK: "#e6edf3",
    dot.PAPER: "#161b22",
    dot.FRAME: "#6e7681",
    dot.MUTED: "#9da7b1",
    dot.ERROR: "#ff7b72",
    dot.CLUSTER: "#0d1117",
    dot.SUB_CLUSTER: "#1c2128",
    "#ddf4ff": "#10304f",
    "#dafbe1": "#12361f",
    "#ffebe9": "#4c1a1d",
    "#fff8c5": "#3d3109",
    "#fbefff": "#33214a",
}


class GraphError(Exception):
    """Graphviz is missing or fails."""


def to_svg(graph: Graph) -> str:
    """The graph as an SVG document. Raises GraphError when ``dot`` is missing or fails."""
    try:
        done = subprocess.run(
            ["dot", "-Tsvg"], input=dot.to_dot(graph), capture_output=True, encoding="utf-8", check=True
        )
    except FileNotFoundError:
        raise GraphError(
            "Graphviz's 'dot' is not installed (Debian: apt-get install graphviz);"
            " --format dot and --format json work without it"
        ) from None
    except subprocess.CalledProcessError as error:
        raise GraphError(f"Graphviz's 'dot' failed: {str(error.stderr).strip()}") from None
    return _finish(done.stdout, graph)


def _finish(drawn: str, graph: Graph) -> str:
    """Replace node names by what hovering should show, and add the style sheet."""
    ET.register_namespace("", _SVG)
    root = ET.fromstring(drawn)
    texts = titles(graph)
    for group in root.iter(f"{{{_SVG}}}g"):
        _unwrap_links(group)
        title = group.find(f"{{{_SVG}}}title")
        if title is None:
            continue
        text = texts.get(group.get("id", ""))
        if text:
            title.text = text
        else:
            group.remove(title)
    for line in root.iter(f"{{{_SVG}}}text"):  # indentation and the space around labels are blanks
        line.set("{http://www.w3.org/XML/1998/namespace}space", "preserve")
    style = ET.Element(f"{{{_SVG}}}style")
    style.text = _style()
    heading = ET.Element(f"{{{_SVG}}}title")
    heading.text = f"{dot.printable(graph.program)}: parser and control flow"
    root[:0] = [heading, style]
    return ET.tostring(root, encoding="unicode") + "\n"


def titles(graph: Graph) -> dict[str, str]:
    """What hovering shows, by the id of the node or edge in the drawing."""
    texts: dict[str, str] = {}
    for part in graph.parts:
        actions = {a.name: a for a in part.actions}
        for node in part.nodes:
            texts[node.id] = dot.tooltip(node, [actions[name] for name in node.actions if name in actions])
        for edge in part.edges:
            texts[dot.edge_id(edge)] = dot.edge_text(edge)
    return texts


def _unwrap_links(group: ET.Element) -> None:
    """Graphviz makes tooltips links that lead nowhere."""
    for at, child in reversed(list(enumerate(group))):
        if child.tag == f"{{{_SVG}}}g" and [inner.tag for inner in child] == [f"{{{_SVG}}}a"]:
            group[at : at + 1] = list(child[0])


def _style() -> str:
    rules = "".join(
        f'[fill="{light}"]{{fill:{dark}}}[stroke="{light}"]{{stroke:{dark}}}' for light, dark in _DARK.items()
    )
    return f"@media (prefers-color-scheme: dark){{{rules}}}"
