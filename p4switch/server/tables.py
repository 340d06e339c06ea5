"""Table entries (specification, "TableEntry"): P4Runtime messages to updates of the data plane, and entries back to messages.

Plain functions of schema and message. What else a write of an entry does is in :mod:`p4switch.server.writes`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from finsy.proto import p4r

from p4switch.dataplane import binding as dp
from p4switch.dataplane.layout import MatchKind
from p4switch.server import values
from p4switch.server.errors import P4RuntimeError, denied, failure, invalid, not_found
from p4switch.server.schema import ActionInfo, FieldInfo, KeyInfo, Schema, TableInfo

_OPS: dict[int, dp.Op] = {
    p4r.Update.INSERT: dp.Op.INSERT,
    p4r.Update.MODIFY: dp.Op.MODIFY,
    p4r.Update.DELETE: dp.Op.DELETE,
}
_OP_NAMES: dict[int, str] = {p4r.Update.INSERT: "INSERTED", p4r.Update.DELETE: "DELETED"}


def describe(table: TableInfo, is_default: bool = False) -> str:
    """How texts name an entry."""
    return f"the {'default entry' if is_default else 'entry'} of table {table.name}"


def update_failure(update: dp.Update, code: dp.Code, what: str) -> P4RuntimeError:
    """Why the data plane refused an update of a table: a missing member or group is not a missing entry."""
    if code is dp.Code.NOT_FOUND and update.kind is not dp.EntryKind.ACTION and update.op is not dp.Op.DELETE:
        missing = f"{update.kind.name.lower()} {update.action}"
        return not_found(f"{what} does not exist, or its action profile has no {missing} with an action for it")
    return failure(code, what)


def to_update(schema: Schema, kind: int, entry: p4r.TableEntry) -> dp.Update:
    """The data plane's update of an entry that names an action, member or group. Raises P4RuntimeError.

    MODIFY without an action is :func:`which` for the caller, as are one-shot action sets.
    """
    op = _OPS[kind]
    table = schema.tables.get(entry.table_id) or schema.table(entry.table_id)
    if entry.is_const:
        raise invalid(f"{describe(table)}: is_const cannot be written, only read")
    if entry.is_default_action:
        return _default_update(table, kind, entry)
    if table.is_const and (op is not dp.Op.MODIFY or entry.HasField("action")):
        raise denied(f"the entries of table {table.name} are const")
    if not table.keys.any_key and not table.keys.fields:
        raise invalid(f"table {table.name} has no key: it has a default entry only")
    key, mask = encode_key(table.keys, entry.match)
    priority = check_priority(table, entry.priority)
    if op is dp.Op.DELETE:
        return dp.Update(op, table.index, key, mask, priority)
    timeout = entry.idle_timeout_ns
    if (timeout or entry.HasField("time_since_last_hit")) and not _timeout_possible(table, entry):
        raise invalid(f"table {table.name} does not support idle timeouts")
    target, action, data = encode_action(table, entry)
    return dp.Update(op, table.index, key, mask, priority, target, action, data, timeout, entry.controller_metadata)


def _timeout_possible(table: TableInfo, entry: p4r.TableEntry) -> bool:
    if entry.idle_timeout_ns < 0:
        raise invalid(f"{describe(table)}: the idle timeout is negative: {entry.idle_timeout_ns}")
    if table.idle_timeout and entry.HasField("time_since_last_hit"):
        raise invalid(f"{describe(table)}: time_since_last_hit cannot be written, only read")
    return table.idle_timeout


def _default_update(table: TableInfo, kind: int, entry: p4r.TableEntry) -> dp.Update:
    if kind != p4r.Update.MODIFY:
        raise invalid(f"the default entry of {table.name} can only be MODIFIED, not {_OP_NAMES[kind]}")
    if entry.match or entry.priority:
        raise invalid(f"the default entry of {table.name} has no match fields and no priority")
    if entry.idle_timeout_ns or entry.HasField("time_since_last_hit"):
        raise invalid(f"the default entry of {table.name} has no idle timeout")
    if table.const_default:
        raise denied(f"the default action of table {table.name} is const")
    if not entry.HasField("action"):
        return dp.Update(dp.Op.RESET_DEFAULT, table.index)
    target, action, data = encode_action(table, entry, is_default=True)
    cookie = entry.controller_metadata
    return dp.Update(dp.Op.SET_DEFAULT, table.index, kind=target, action=action, data=data, cookie=cookie)


def check_priority(table: TableInfo, priority: int) -> int:
    """Larger than 0 exactly if the table has ternary, range or optional keys."""
    if table.has_priority:
        if priority <= 0:
            raise invalid(f"an entry of {table.name} needs a priority greater than 0, found {priority}")
    elif priority:
        raise invalid(
            f"an entry of {table.name} has no priority, found {priority}: it has no ternary, range or optional key"
        )
    return priority


# ---------------------------------------------------------------------------------------------------------------- keys


def encode_key(keys: KeyInfo, matches: Any) -> tuple[bytes, bytes]:
    """Key and mask in the data plane's layout, of a table or value set. Raises P4RuntimeError."""
    key, mask = bytearray(keys.any_key), bytearray(keys.any_mask)
    fields = keys.fields
    given = set()
    for match in matches:
        number = match.field_id
        field = fields.get(number)
        if field is None:
            known = ", ".join(f"{f.id} ({f.name})" for f in fields.values()) or "none"
            raise invalid(f"{keys.owner} has no match field {number}; it has {known}")
        if number in given:
            raise invalid(f"match field {number} of {keys.owner} is given twice")
        given.add(number)
        kind, encode = _MATCHES[field.kind]
        found = match.WhichOneof("field_match_type")
        if found != kind:
            raise invalid(f"{field.what} is {kind}, the entry has {found or 'no value'}")
        value, bits = encode(field, getattr(match, kind))
        key[field.start : field.end] = value.to_bytes(field.size, "big")
        mask[field.start : field.end] = bits.to_bytes(field.size, "big")
    if not keys.exact <= given:
        field = fields[min(keys.exact - given)]
        raise invalid(f"{field.what}: an exact field needs a value")
    return bytes(key), bytes(mask)


def _single(field: FieldInfo, match: Any) -> tuple[int, int]:
    value = int.from_bytes(match.value, "big")
    if value > field.maximum or not match.value:
        values.decode(match.value, field.width, field.what)
    return value, field.maximum


def _lpm(field: FieldInfo, match: Any) -> tuple[int, int]:
    value, length = values.decode(match.value, field.width, field.what), match.prefix_len
    bits = values.prefix_mask(field.width, length, field.what)
    if not length:
        raise invalid(f"{field.what}: a prefix of length 0 matches anything: leave the field out")
    if value & ~bits:
        raise invalid(f"{field.what}: {value:#x} has bits beyond its prefix of {length}")
    return value, bits


def _ternary(field: FieldInfo, match: Any) -> tuple[int, int]:
    value = values.decode(match.value, field.width, field.what)
    bits = values.decode(match.mask, field.width, field.what)
    if not bits:
        raise invalid(f"{field.what}: a mask of 0 matches anything: leave the field out")
    if value & ~bits:
        raise invalid(f"{field.what}: {value:#x} has bits outside of its mask {bits:#x}")
    return value, bits


def _range(field: FieldInfo, match: Any) -> tuple[int, int]:
    low = values.decode(match.low, field.width, field.what)
    high = values.decode(match.high, field.width, field.what)
    if low > high:
        raise invalid(f"{field.what}: the range {low:#x}..{high:#x} is empty")
    if low == 0 and high == field.maximum:
        raise invalid(f"{field.what}: the full range matches anything: leave the field out")
    return low, high


_MATCHES: dict[MatchKind, tuple[str, Callable[[FieldInfo, Any], tuple[int, int]]]] = {
    MatchKind.EXACT: ("exact", _single),
    MatchKind.LPM: ("lpm", _lpm),
    MatchKind.TERNARY: ("ternary", _ternary),
    MatchKind.RANGE: ("range", _range),
    MatchKind.OPTIONAL: ("optional", _single),
}


def decode_key(keys: KeyInfo, key: bytes, mask: bytes, matches: Any) -> None:
    """Append the match fields of a key; those that match everything are left out."""
    for number, field in keys.fields.items():
        value = int.from_bytes(key[field.start : field.end], "big")
        bits = int.from_bytes(mask[field.start : field.end], "big") if mask else field.maximum
        kind = field.kind
        if kind is MatchKind.EXACT:
            matches.add(field_id=number).exact.value = values.encode(value)
        elif kind is MatchKind.RANGE:
            if (value, bits) != (0, field.maximum):
                limits = matches.add(field_id=number).range
                limits.low, limits.high = values.encode(value), values.encode(bits)
        elif bits:
            match = matches.add(field_id=number)
            if kind is MatchKind.LPM:
                match.lpm.value, match.lpm.prefix_len = values.encode(value), bits.bit_count()
            elif kind is MatchKind.TERNARY:
                match.ternary.value, match.ternary.mask = values.encode(value), values.encode(bits)
            else:
                match.optional.value = values.encode(value)


# ------------------------------------------------------------------------------------------------------------- actions


def encode_action(table: TableInfo, entry: p4r.TableEntry, is_default: bool = False) -> tuple[dp.EntryKind, int, bytes]:
    """What an entry does: an action with data, or a member or group of the table's action profile."""
    kind = entry.action.WhichOneof("type") if entry.HasField("action") else None
    if kind is None:
        raise invalid(f"{describe(table, is_default)} needs an action")
    if table.profile is None:
        if kind != "action":
            raise invalid(f"table {table.name} has no action profile: its entries name an action")
        allowed = table.default_actions if is_default else table.entry_actions
        info = find_action(table, entry.action.action.action_id, allowed)
        return dp.EntryKind.ACTION, info.index, encode_params(info, entry.action.action)
    if kind == "action_profile_member_id":
        return dp.EntryKind.MEMBER, entry.action.action_profile_member_id, b""
    if kind == "action_profile_group_id":
        if not table.profile.with_selector:
            raise invalid(f"table {table.name} has an action profile without selector: its entries name a member")
        return dp.EntryKind.GROUP, entry.action.action_profile_group_id, b""
    choices = "a member, a group or an action set" if table.profile.with_selector else "a member"
    raise invalid(f"table {table.name} has an action profile: its entries name {choices}")


def find_action(table: TableInfo, action_id: int, allowed: dict[int, ActionInfo]) -> ActionInfo:
    """INVALID_ARGUMENT for an action that the table does not have, PERMISSION_DENIED for one of the other scope."""
    info = allowed.get(action_id)
    if info is not None:
        return info
    possible = ", ".join(f"{n:#x} ({a.name})" for n, a in allowed.items()) or "none"
    if action_id in table.default_actions:
        raise denied(
            f"{table.default_actions[action_id].name} is for default entries of {table.name} only; possible are {possible}"
        )
    if action_id in table.entry_actions:
        raise denied(
            f"{table.entry_actions[action_id].name} is not for default entries of {table.name}; possible are {possible}"
        )
    raise invalid(f"action {action_id:#x} is not possible in {table.name}; possible are {possible}")


def encode_params(info: ActionInfo, message: p4r.Action) -> bytes:
    """Action data in the data plane's layout."""
    data = bytearray(info.size)
    params = info.params
    given = set()
    for param in message.params:
        number, text = param.param_id, param.value
        field = params.get(number)
        if field is None or number in given:
            problem = "is given twice" if field is not None else "does not exist"
            raise invalid(f"parameter {number} of action {info.name} {problem}")
        given.add(number)
        value = int.from_bytes(text, "big")
        if value > field.maximum or not text:
            values.decode(text, field.width, field.what)
        data[field.start : field.end] = value.to_bytes(field.size, "big")
    if len(given) != len(params):
        missing = params[min(params.keys() - given)]
        raise invalid(f"action {info.name} needs parameter {missing.id} ({missing.name})")
    return bytes(data)


def decode_action(schema: Schema, index: int, data: bytes, message: p4r.Action) -> None:
    """Fill in an action and its parameters."""
    info = schema.actions_by_index.get(index)
    if info is None:
        return
    message.action_id = info.id
    for number, field in info.params.items():
        value = int.from_bytes(data[field.start : field.end], "big")
        message.params.add(param_id=number, value=values.encode(value))


def to_message(schema: Schema, table: TableInfo, entry: dp.Entry, is_default: bool = False) -> p4r.TableEntry:
    """An entry as P4Runtime message, without its direct resources and what the data plane does not know."""
    message = p4r.TableEntry(table_id=table.id, is_default_action=is_default, controller_metadata=entry.cookie)
    if not is_default:
        decode_key(table.keys, entry.key, entry.mask, message.match)
        if table.has_priority:
            message.priority = entry.priority
        message.idle_timeout_ns = entry.idle_timeout_ns
    message.is_const = entry.is_const
    if entry.kind is dp.EntryKind.MEMBER:
        message.action.action_profile_member_id = entry.action
    elif entry.kind is dp.EntryKind.GROUP:
        message.action.action_profile_group_id = entry.action
    else:
        decode_action(schema, entry.action, entry.data, message.action.action)
    return message
