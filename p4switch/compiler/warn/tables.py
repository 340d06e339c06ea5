"""Tables: keys that never change, entries with bits that no packet can match."""

from __future__ import annotations

from collections.abc import Callable

from p4switch.compiler import ast
from p4switch.compiler.diagnostics import Loc
from p4switch.compiler.source_text import text_of
from p4switch.compiler.warn.names import children, silenced
from p4switch.compiler.warn.shapes import Shapes
from p4switch.compiler.warn.values import span

Report = Callable[[str, Loc, str], None]


def tables(node: ast.Node, shapes: Shapes, report: Report) -> None:
    """All tables below a node."""
    if isinstance(node, ast.TableDecl):
        table(node, shapes, report)
    else:
        for part in children(node):
            tables(part, shapes, report)


def muted_entries(node: ast.Node) -> dict[Loc, list[str]]:
    """The kinds of ``@noWarn`` at tables below a node and at their entries, by the first character of the table's name."""
    if isinstance(node, ast.TableDecl):
        kinds = silenced(node.annotations)
        for prop in node.properties:
            kinds += silenced(prop.annotations)
        return {Loc(node.loc.file, node.loc.line, node.loc.column): kinds}
    found: dict[Loc, list[str]] = {}
    for part in children(node):
        found |= muted_entries(part)
    return found


def table(declaration: ast.TableDecl, shapes: Shapes, report: Report) -> None:
    """The keys and entries of one table."""
    for prop in declaration.properties:
        for key in prop.keys:
            if shapes.constant(key.expr) is not None:
                text = text_of(key.expr)
                report(
                    "mismatch",
                    span(key.expr),
                    f"key '{text}' of table '{declaration.name}' is the same for every packet",
                )
        for entry in prop.entries:
            for keyset in entry.keys:
                if isinstance(keyset, ast.Mask):
                    mask(keyset, shapes, report)


def mask(keyset: ast.Mask, shapes: Shapes, report: Report) -> None:
    """``value &&& mask``: bits of the value outside the mask count for nothing, and P4Runtime wants them to be zero."""
    value, bits = shapes.constant(keyset.value), shapes.constant(keyset.mask)
    if isinstance(value, int) and isinstance(bits, int) and value >= 0 and bits >= 0 and value & ~bits:
        report("mismatch", keyset.value.loc, f"{value:#x} has bits outside its mask {bits:#x}; they are taken as zero")
