"""Drawings of a program: its parser's states and its controls' flow, from the IR.

:mod:`~p4switch.graph.model` is the graph as data, :func:`build` makes it, :mod:`~p4switch.graph.dot` writes it in Graphviz's
language and :mod:`~p4switch.graph.svg` draws it.
"""

from p4switch.graph.build import PARTS, build
from p4switch.graph.model import Graph
from p4switch.graph.svg import GraphError

__all__ = ["PARTS", "Graph", "GraphError", "build"]
