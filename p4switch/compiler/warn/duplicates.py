"""Names for the control plane that are given twice: an error where they are of one kind of object, a warning for keys."""

from __future__ import annotations

from collections.abc import Callable

from p4switch.compiler import ast, notes
from p4switch.compiler.diagnostics import Diagnostics, Loc
from p4switch.compiler.source_text import text_of
from p4switch.compiler.warn.names import Names, is_system
from p4switch.compiler.warn.values import span

Report = Callable[[str, Loc, str], None]


def duplicates(names: Names, diagnostics: Diagnostics, report: Report) -> None:
    """The actions, tables and instances of each block, and the keys of each table. What nothing uses has no name."""
    seen: dict[tuple[int, str, str], ast.Declaration] = {}
    for item, owner in names.declared:
        kind = kind_of(names, item)  # actions of one name are compared when they are lowered: copies of one are fine
        if kind is None or is_system(item.loc) or not names.is_used(item):
            continue
        if isinstance(item, ast.TableDecl):
            keys(item, report)
        given = notes.name_of(item.annotations) or item.name
        scope = 0 if owner is None or given.startswith(".") else id(owner)
        name = given.removeprefix(".")
        first = seen.setdefault((scope, kind, name), item)
        if first is not item and owner_of(names, first) is owner:
            diagnostics.error(
                item.loc,
                f"{kind} '{item.name}' is '{name}' to the control plane, and so is '{first.name}' of line {first.loc.line}",
                "give each a name of its own with @name",
            )


def kind_of(names: Names, item: ast.Declaration) -> str | None:
    """What the control plane would call it; None for what it does not see."""
    match item:
        case ast.TableDecl():
            return "table"
        case ast.Instantiation(type=ast.NamedType() as ref):
            type_ = names.of(ref)
            return type_.name if isinstance(type_, ast.ExternDecl) else None
    return None


def owner_of(names: Names, item: ast.Declaration) -> ast.Declaration | None:
    """The declaration that holds it."""
    return next((owner for found, owner in names.declared if found is item), None)


def keys(table: ast.TableDecl, report: Report) -> None:
    """Two keys of one name: a client cannot tell them apart by it."""
    seen: set[str] = set()
    for prop in table.properties:
        for key in prop.keys:
            name = notes.name_of(key.annotations) or text_of(key.expr)
            if name in seen:
                report(
                    "duplicate-name",
                    span(key.expr),
                    f"another key of table '{table.name}' has the name '{name}' as well",
                )
            seen.add(name)
