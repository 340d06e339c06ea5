"""Where things of the IR stand in the source."""

from __future__ import annotations

from collections.abc import Iterator

from p4switch.compiler import ir
from p4switch.compiler.diagnostics import UNKNOWN, Loc


def place(where: ir.Location | None) -> Loc:
    """An IR location for a diagnostic."""
    return UNKNOWN if where is None else Loc(where.file, where.line, where.column)


def located(root: object, where: ir.Location | None = None) -> Iterator[tuple[ir.Node, ir.Location | None]]:
    """All nodes below and including ``root``, each with the place of the statement, state or table that it belongs to."""
    stack: list[tuple[object, ir.Location | None]] = [(root, where)]
    while stack:
        item, here = stack.pop()
        if isinstance(item, ir.Node):
            here = getattr(item, "loc", None) or here
            yield item, here
            stack.extend((getattr(item, f), here) for f in reversed(item.__struct_fields__))
        elif isinstance(item, list | tuple):
            stack.extend((part, here) for part in reversed(item))
