"""Tables: combinations of keys, constant entries, selectors and direct meters."""

from __future__ import annotations

from p4switch.compiler import ast, ir
from p4switch.compiler.places import place
from p4switch.compiler.strict.refusals import Refusals


def check_tables(program: ir.Program, refusals: Refusals) -> None:
    """All of a program."""
    selected: dict[str, tuple[str, list[ir.Expression | None]]] = {}
    for table in program.tables:
        check_keys(table, refusals)
        check_entries(table, refusals)
        inputs = [k.expr for k in table.keys if k.kind == "selector"]
        if table.implementation is not None and inputs:
            first, others = selected.setdefault(table.implementation, (table.name, inputs))
            if others != inputs:
                refusals.refuse(
                    place(table.loc),
                    f"tables '{first}' and '{table.name}' share selector '{table.implementation}' and select on different"
                    " keys; bmv2 keeps the keys with the selector",
                    "select on the same keys in the same order, or use a selector for each table",
                )
    check_direct_meters(program, refusals)


def check_keys(table: ir.Table, refusals: Refusals) -> None:
    """One lpm key at most; numbers, bool and error only."""
    if sum(k.kind == "lpm" for k in table.keys) > 1:
        refusals.refuse(
            place(table.loc),
            f"table '{table.name}' has several lpm keys; bmv2 takes one",
            "make all but one of them ternary",
        )
    for key in table.keys:
        if not isinstance(key.type, ir.Bits | ir.Bool | ir.Error | ir.Enum):
            refusals.refuse(
                place(table.loc),
                f"key '{key.name}' of table '{table.name}' is no number, bool or error; bmv2 matches on nothing else",
                "match on the fields one by one",
            )


def check_entries(table: ir.Table, refusals: Refusals) -> None:
    """Entries of the program itself cannot name errors, nor bools in optional keys."""
    for entry in table.entries:
        for key, value in zip(table.keys, entry.keys, strict=False):
            if isinstance(value, ir.AnyKey):
                continue
            is_error = isinstance(key.type, ir.Error)
            if is_error or (isinstance(key.type, ir.Bool) and key.kind in ("optional", "range")):
                what = "an error" if is_error else f"a bool in an {key.kind} key"
                refusals.refuse(
                    place(entry.loc or table.loc),
                    f"an entry of table '{table.name}' gives {what} for key '{key.name}'; bmv2 takes only numbers there",
                    "compare with the error in the program and match on the result" if is_error else "use bit<1>",
                )


def check_direct_meters(program: ir.Program, refusals: Refusals) -> None:
    """A direct meter is attached to a table, read by its actions, and always into the same place."""
    meters = {e.name: e for e in program.externs if e.kind == "direct_meter"}
    reads: dict[str, list[ir.CallExtern]] = {}
    for node in ir.walk(program):
        if isinstance(node, ir.CallExtern) and node.instance in meters and node.name == "read":
            reads.setdefault(node.instance, []).append(node)
    for name, meter in meters.items():
        calls = reads.get(name, [])
        if calls and meter.table is None:
            refusals.refuse(
                refusals.declaration(ast.Instantiation, name),
                f"direct meter '{name}' is read but attached to no table; bmv2 would have nothing to meter",
                "name it in the property 'meters' of the table whose actions read it",
            )
        if meter.table is not None and not calls:
            table = next(t for t in program.tables if t.name == meter.table)
            refusals.refuse(
                place(table.loc),
                f"no action of table '{table.name}' reads its direct meter '{name}'; bmv2 wants the place of the result",
                f"call read() of '{name}' in the table's actions, or remove the property 'meters'",
            )
        for call in calls[1:]:
            if call.args != calls[0].args:
                refusals.refuse(
                    place(call.loc),
                    f"direct meter '{name}' is read into different places; bmv2 has one for all actions",
                    "read it into the same field of the metadata everywhere",
                )
