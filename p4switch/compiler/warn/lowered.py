"""What needs types and priorities, and so the IR: entries of tables, shifts."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from p4switch.compiler import ir
from p4switch.compiler.diagnostics import Loc
from p4switch.compiler.places import located, place

MAX_ENTRIES = 1000  # each is compared with all above it
Report = Callable[[str, Loc, str], None]


def entries(program: ir.Program, muted: Mapping[Loc, list[str]], report: Report) -> None:
    """Entries of one priority, and such that stand behind one of lower priority (specification, section 14.2.1.4).

    ``muted`` are the kinds of ``@noWarn`` by the place of the table."""
    for table in program.tables:
        kinds = muted.get(place(table.loc), [])
        if any(a.name == "priority" for e in table.entries for a in e.annotations):
            continue  # bmv2's annotation gives its own order
        first: dict[int, Loc] = {}
        before = 0
        for entry in table.entries:
            if not entry.priority:
                continue
            here = place(entry.loc)
            other = first.setdefault(entry.priority, here)
            if other is not here and "duplicate-priorities" not in kinds:
                report("duplicate-priorities", here, f"this entry has the priority of the one in line {other.line}")
            if entry.priority > before > 0 and "entries-out-of-priority-order" not in kinds:
                report(
                    "entries-out-of-priority-order", here, "this entry comes before the one above it, by its priority"
                )
            before = entry.priority


def covered_entries(program: ir.Program, report: Report) -> None:
    """Entries that no packet reaches, since one of higher or the same priority takes all that they would."""
    for table in program.tables:
        if len(table.entries) > MAX_ENTRIES:
            continue
        above: list[ir.Entry] = []
        for entry in sorted(table.entries, key=lambda e: -e.priority):  # of one priority, the first is taken
            other = next((e for e in above if covers_all(e, entry)), None)
            if other is not None and entry.loc is not None and other.loc is not None:
                report(
                    "keys",
                    place(entry.loc),
                    f"no packet comes to this entry: that of line {other.loc.line} takes them all",
                )
            above.append(entry)


def covers_all(wide: ir.Entry, narrow: ir.Entry) -> bool:
    """Whether all that ``narrow`` matches is matched by ``wide``; without priorities the longer prefix is taken first."""
    if not wide.priority and not narrow.priority:
        return (wide.keys, wide.prefix_lens) == (narrow.keys, narrow.prefix_lens)
    return all(covers(w, n) for w, n in zip(wide.keys, narrow.keys, strict=True))


def covers(wide: ir.Keyset, narrow: ir.Keyset) -> bool:
    """Whether one keyset holds all values of another."""
    if isinstance(wide, ir.AnyKey) or wide == narrow:
        return True
    match wide, narrow:
        case ir.RangeKey(lo=lo, hi=hi), ir.ValueKey(value=value):
            return lo.number <= value.number <= hi.number
        case ir.RangeKey(lo=lo, hi=hi), ir.RangeKey(lo=low, hi=high):
            return lo.number <= low.number and high.number <= hi.number
        case ir.MaskKey(value=value, mask=mask), ir.ValueKey(value=other):
            return (value.number ^ other.number) & mask.number == 0
        case ir.MaskKey(value=value, mask=mask), ir.MaskKey(value=other, mask=finer):
            return mask.number & ~finer.number == 0 and (value.number ^ other.number) & mask.number == 0
    return False


def shifts(program: ir.Program, report: Report) -> None:
    """Shifts by the whole width or more."""
    for node, where in located(program):
        match node:
            case ir.Binary(op="<<" | ">>", type=ir.Bits(width=width), right=ir.Const() as amount):
                if amount.number >= width > 0:
                    report("overflow", place(where), f"a shift of {width} bits by {amount.number} leaves none of them")
