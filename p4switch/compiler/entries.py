"""The entries that a program comes with, as a P4Runtime WriteRequest (specification, "P4Runtime Entries files"), as p4c does it.

One INSERT for each ``const`` or initial entry, in the order of the source; values have all bytes of their type. As in p4c's files
the priorities of tables with ``largest_priority_wins = false`` are the source's, which P4Runtime would read the other way round.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from finsy.proto import p4i, p4r
from google.protobuf import text_format

from p4switch.compiler import ir

_HEADER = "# proto-file: p4/v1/p4runtime.proto\n# proto-message: p4.v1.WriteRequest\n\n"


def build(program: ir.Program, info: p4i.P4Info) -> p4r.WriteRequest:
    """The entries of all tables that P4Info has."""
    tables = {t.preamble.name: t for t in info.tables}
    actions = {a.preamble.name: a for a in info.actions}
    request = p4r.WriteRequest()
    for table in program.tables:
        if table.name in tables:
            for entry in table.entries:
                update = request.updates.add(type=p4r.Update.INSERT)
                _fill(update.entity.table_entry, table, entry, tables[table.name], actions)
    return request


def to_text(request: p4r.WriteRequest) -> str:
    """As protobuf text, with p4c's heading."""
    return _HEADER + str(text_format.MessageToString(request))


def _fill(
    message: p4r.TableEntry, table: ir.Table, entry: ir.Entry, info: p4i.Table, actions: dict[str, p4i.Action]
) -> None:
    message.table_id = info.preamble.id
    fields = [f for f in table.keys if f.kind != "selector"]
    for field, declared, key in zip(fields, info.match_fields, _keys(table, entry), strict=True):
        _match(message, field, declared.id, key)
    action = actions[entry.action.action]
    message.action.action.action_id = action.preamble.id
    for param, value in zip(action.params, entry.action.args, strict=True):
        message.action.action.params.add(param_id=param.id, value=_bytes(value.number, _width(value.type)))
    message.priority = entry.priority if entry.listed_priority is None else entry.listed_priority
    message.is_const = entry.is_const


def _keys(table: ir.Table, entry: ir.Entry) -> Iterator[ir.Keyset]:
    """The keys of an entry for fields that match; selector fields may or may not be among those written."""
    if len(entry.keys) == len(table.keys):
        return (key for key, field in zip(entry.keys, table.keys, strict=True) if field.kind != "selector")
    return iter(entry.keys)


def _match(message: p4r.TableEntry, field: ir.KeyField, number: int, key: ir.Keyset) -> None:
    """One match field; what matches everything is left out."""
    width = _width(field.type)
    ones = (1 << width) - 1
    low, high = _bounds(key, ones)
    if field.kind == "exact":
        message.match.add(field_id=number).exact.value = _bytes(low, width)
    elif field.kind == "range":
        if isinstance(key, ir.ValueKey):
            high = low
        if (low, high) != (0, ones):
            limits = message.match.add(field_id=number).range
            limits.low, limits.high = _bytes(low, width), _bytes(high, width)
    elif isinstance(key, ir.AnyKey) or (isinstance(key, ir.MaskKey) and high == 0):
        return
    elif field.kind == "optional":
        message.match.add(field_id=number).optional.value = _bytes(low, width)
    elif field.kind == "lpm":
        prefix = message.match.add(field_id=number).lpm
        prefix.value, prefix.prefix_len = _bytes(low & high, width), high.bit_count()
    else:
        ternary = message.match.add(field_id=number).ternary
        ternary.value, ternary.mask = _bytes(low & high, width), _bytes(high, width)


def _bounds(key: ir.Keyset, ones: int) -> tuple[int, int]:
    """Value and mask, or the ends of a range."""
    match key:
        case ir.ValueKey(value=value):
            return value.number & ones, ones
        case ir.MaskKey(value=value, mask=mask):
            return value.number & ones, mask.number & ones
        case ir.RangeKey(lo=low, hi=high):
            return low.number & ones, high.number & ones
    return 0, ones


def _width(type_: Any) -> int:
    if isinstance(type_, ir.Bits):
        return type_.width
    return 1 if isinstance(type_, ir.Bool) else 32


def _bytes(number: int, width: int) -> bytes:
    return (number & ((1 << width) - 1)).to_bytes(max(1, (width + 7) // 8), "big")
