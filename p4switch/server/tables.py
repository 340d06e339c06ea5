"""Table entries: P4Runtime messages to updates of the data plane, and entries back to messages."""

from __future__ import annotations

from typing import Any

from finsy.proto import p4r

from p4switch.dataplane import binding as dp
from p4switch.dataplane.layout import Field, MatchKind
from p4switch.server import values
from p4switch.server.errors import Code, P4RuntimeError, invalid, unimplemented
from p4switch.server.schema import ActionInfo, FieldInfo, Schema, TableInfo

_OPS: dict[int, dp.Op] = {
    p4r.Update.INSERT: dp.Op.INSERT,
    p4r.Update.MODIFY: dp.Op.MODIFY,
    p4r.Update.DELETE: dp.Op.DELETE,
}
_OP_NAMES: dict[int, str] = {p4r.Update.INSERT: "INSERT", p4r.Update.MODIFY: "MODIFY", p4r.Update.DELETE: "DELETE"}
_MATCH_NAMES = {
    MatchKind.EXACT: "exact",
    MatchKind.LPM: "lpm",
    MatchKind.TERNARY: "ternary",
    MatchKind.RANGE: "range",
    MatchKind.OPTIONAL: "optional",
}
_FAILURES = {
    dp.Code.EXISTS: Code.ALREADY_EXISTS,
    dp.Code.NOT_FOUND: Code.NOT_FOUND,
    dp.Code.FULL: Code.RESOURCE_EXHAUSTED,
    dp.Code.NO_MEMORY: Code.RESOURCE_EXHAUSTED,
    dp.Code.CONST: Code.PERMISSION_DENIED,
    dp.Code.IN_USE: Code.FAILED_PRECONDITION,
    dp.Code.INVALID: Code.INVALID_ARGUMENT,
    dp.Code.STATE: Code.ABORTED,
}


def failure(code: dp.Code, what: str) -> P4RuntimeError:
    """A data plane's refusal as P4Runtime error."""
    texts = {
        dp.Code.EXISTS: f"{what} exists already",
        dp.Code.NOT_FOUND: f"{what} does not exist",
        dp.Code.FULL: f"{what}: the table is full",
        dp.Code.CONST: f"{what} is const",
        dp.Code.STATE: f"{what}: not done, because another update of the batch failed",
    }
    return P4RuntimeError(_FAILURES.get(code, Code.INTERNAL), texts.get(code, f"{what}: {code.name.lower()}"))


def update_failure(update: dp.Update, code: dp.Code, what: str) -> P4RuntimeError:
    """Why the data plane refused an update of a table: a missing member or group is not a missing entry."""
    if code is dp.Code.NOT_FOUND and update.op is dp.Op.INSERT:
        missing = f"{update.kind.name.lower()} {update.action}"
        return P4RuntimeError(Code.NOT_FOUND, f"{what}: its action profile has no {missing} with an action for it")
    return failure(code, what)


def to_update(schema: Schema, kind: int, entry: p4r.TableEntry) -> dp.Update:
    """The data plane's update. Raises P4RuntimeError."""
    if kind not in _OPS:
        raise invalid("the update has no type; it must be INSERT, MODIFY or DELETE")
    table = schema.table(entry.table_id)
    if entry.is_default_action:
        return _default_update(schema, table, kind, entry)
    if table.is_const:
        raise P4RuntimeError(Code.PERMISSION_DENIED, f"the entries of table {table.name} are const")
    key, mask = encode_key(table, entry)
    priority = check_priority(table, entry.priority)
    if kind == p4r.Update.DELETE:
        return dp.Update(dp.Op.DELETE, table.table.index, key, mask, priority)
    target, action, data = encode_action(schema, table, entry)
    if entry.idle_timeout_ns and not table.table.idle_timeout:
        raise invalid(f"table {table.name} does not support idle timeouts")
    return dp.Update(
        _OPS[kind], table.table.index, key, mask, priority, target, action, data, max(0, entry.idle_timeout_ns)
    )


def _default_update(schema: Schema, table: TableInfo, kind: int, entry: p4r.TableEntry) -> dp.Update:
    if kind != p4r.Update.MODIFY:
        raise invalid(f"the default action of {table.name} can only be MODIFIED, not {_OP_NAMES[kind]}ED")
    if entry.match or entry.priority:
        raise invalid(f"the default entry of {table.name} has no match fields and no priority")
    if table.const_default:
        raise P4RuntimeError(Code.PERMISSION_DENIED, f"the default action of table {table.name} is const")
    if not entry.HasField("action"):
        return dp.Update(dp.Op.RESET_DEFAULT, table.table.index)
    if entry.action.WhichOneof("type") != "action":
        raise unimplemented(f"the default entry of {table.name} with a member or group of an action profile")
    action, data = _encode_direct(table, entry.action.action, table.default_actions, "default action")
    return dp.Update(dp.Op.SET_DEFAULT, table.table.index, action=action.action.index, data=data)


def check_priority(table: TableInfo, priority: int) -> int:
    """Larger than 0 exactly if the table has ternary, range or optional keys."""
    if table.table.has_priority:
        if priority <= 0:
            raise invalid(f"an entry of {table.name} needs a priority greater than 0, found {priority}")
    elif priority:
        raise invalid(
            f"an entry of {table.name} has no priority, found {priority}: it has no ternary, range or optional key"
        )
    return priority


def encode_key(table: TableInfo, entry: p4r.TableEntry) -> tuple[bytes, bytes]:
    """Key and mask in the data plane's layout."""
    given: dict[int, p4r.FieldMatch] = {}
    for match in entry.match:
        if match.field_id in given:
            raise invalid(f"match field {match.field_id} of {table.name} is given twice")
        given[match.field_id] = match
    unknown = given.keys() - {f.id for f in table.fields}
    if unknown:
        fields = ", ".join(f"{f.id} ({f.name})" for f in table.fields) or "none"
        raise invalid(f"table {table.name} has no match field {min(unknown)}; it has {fields}")
    key = bytearray(table.table.keys.size)
    mask = bytearray(table.table.keys.size)
    for field in table.fields:
        value, bits = encode_field(table.name, field.name, field.field, given.get(field.id))
        start, end = field.field.offset, field.field.offset + field.field.size
        key[start:end] = value.to_bytes(field.field.size, "big")
        mask[start:end] = bits.to_bytes(field.field.size, "big")
    return bytes(key), bytes(mask)


def encode_field(owner: str, name: str, field: Field, match: p4r.FieldMatch | None) -> tuple[int, int]:
    """Value and mask (range: low and high) of one field of a table or value set."""
    kind, width = field.kind, field.width
    what = f"{owner}, match field {name}"
    if match is None:
        if kind is MatchKind.EXACT:
            raise invalid(f"{what}: an exact field needs a value")
        return (0, field.maximum) if kind is MatchKind.RANGE else (0, 0)
    found = match.WhichOneof("field_match_type")
    if found != _MATCH_NAMES[kind]:
        raise invalid(f"{what} is {_MATCH_NAMES[kind]}, the entry has {found or 'no value'}")
    if kind is MatchKind.EXACT:
        return values.decode(match.exact.value, width, what), field.maximum
    if kind is MatchKind.OPTIONAL:
        return values.decode(match.optional.value, width, what), field.maximum
    if kind is MatchKind.LPM:
        value = values.decode(match.lpm.value, width, what)
        bits = values.prefix_mask(width, match.lpm.prefix_len, what)
        if not match.lpm.prefix_len:
            raise invalid(f"{what}: a prefix of length 0 matches anything: leave the field out")
        if value & ~bits:
            raise invalid(f"{what}: {value:#x} has bits beyond its prefix of {match.lpm.prefix_len}")
        return value, bits
    if kind is MatchKind.TERNARY:
        value = values.decode(match.ternary.value, width, what)
        bits = values.decode(match.ternary.mask, width, f"{what}, mask")
        if not bits:
            raise invalid(f"{what}: a mask of 0 matches anything: leave the field out")
        if value & ~bits:
            raise invalid(f"{what}: {value:#x} has bits outside of its mask {bits:#x}")
        return value, bits
    low = values.decode(match.range.low, width, f"{what}, low")
    high = values.decode(match.range.high, width, f"{what}, high")
    if low > high:
        raise invalid(f"{what}: the range {low:#x}..{high:#x} is empty")
    if low == 0 and high == field.maximum:
        raise invalid(f"{what}: the full range matches anything: leave the field out")
    return low, high


def encode_action(schema: Schema, table: TableInfo, entry: p4r.TableEntry) -> tuple[dp.EntryKind, int, bytes]:
    """What an entry does: an action with data, or a member or group of the table's action profile."""
    kind = entry.action.WhichOneof("type") if entry.HasField("action") else None
    if kind is None:
        raise invalid(f"an entry of {table.name} needs an action")
    if table.table.implementation is not None:
        if kind == "action_profile_member_id":
            return dp.EntryKind.MEMBER, entry.action.action_profile_member_id, b""
        if kind == "action_profile_group_id":
            return dp.EntryKind.GROUP, entry.action.action_profile_group_id, b""
        if kind == "action_profile_action_set":
            raise unimplemented(f"one-shot action sets (table {table.name}): create members and a group")
        raise invalid(f"table {table.name} has an action profile: its entries name a member or group")
    if kind != "action":
        raise invalid(f"table {table.name} has no action profile: its entries name an action")
    action, data = _encode_direct(table, entry.action.action, table.entry_actions, "action")
    return dp.EntryKind.ACTION, action.action.index, data


def _encode_direct(
    table: TableInfo, message: p4r.Action, allowed: dict[int, ActionInfo], what: str
) -> tuple[ActionInfo, bytes]:
    info = allowed.get(message.action_id)
    if info is None:
        valid = ", ".join(f"{n:#x} ({a.name})" for n, a in allowed.items()) or "none"
        raise invalid(f"{what} {message.action_id:#x} is not possible in {table.name}; possible are {valid}")
    return info, encode_params(info, message)


def encode_params(info: ActionInfo, message: p4r.Action) -> bytes:
    """Action data in the data plane's layout."""
    data = bytearray(info.action.params.size)
    missing = dict(info.params)
    for param in message.params:
        field = missing.pop(param.param_id, None)
        if field is None:
            problem = "is given twice" if param.param_id in info.params else "does not exist"
            raise invalid(f"parameter {param.param_id} of action {info.name} {problem}")
        value = values.decode(param.value, field.width, f"{info.name}, parameter {field.name}")
        data[field.offset : field.offset + field.size] = value.to_bytes(field.size, "big")
    if missing:
        number, field = next(iter(missing.items()))
        raise invalid(f"action {info.name} needs parameter {number} ({field.name})")
    return bytes(data)


def to_message(schema: Schema, table: TableInfo, entry: dp.Entry, is_default: bool = False) -> p4r.TableEntry:
    """An entry as P4Runtime message, without counters and meters."""
    message = p4r.TableEntry(table_id=table.id, is_default_action=is_default)
    if not is_default:
        for info in table.fields:
            _decode_field(message, info, entry)
        if table.table.has_priority:
            message.priority = entry.priority
        if entry.idle_timeout_ns:
            message.idle_timeout_ns = entry.idle_timeout_ns
        message.is_const = entry.is_const
    if entry.kind is dp.EntryKind.MEMBER:
        message.action.action_profile_member_id = entry.action
    elif entry.kind is dp.EntryKind.GROUP:
        message.action.action_profile_group_id = entry.action
    else:
        decode_action(schema, entry.action, entry.data, message.action.action)
    return message


def decode_action(schema: Schema, index: int, data: bytes, message: Any) -> None:
    """Fill in an action and its parameters."""
    info = schema.actions_by_index.get(index)
    if info is None:
        return
    message.action_id = info.id
    for number, field in info.params.items():
        value = int.from_bytes(data[field.offset : field.offset + field.size], "big")
        message.params.add(param_id=number, value=values.encode(value))


def _decode_field(message: p4r.TableEntry, info: FieldInfo, entry: dp.Entry) -> None:
    start, end = info.field.offset, info.field.offset + info.field.size
    value = int.from_bytes(entry.key[start:end], "big")
    bits = int.from_bytes(entry.mask[start:end], "big") if entry.mask else info.field.maximum
    kind = info.field.kind
    if kind is MatchKind.EXACT:
        message.match.add(field_id=info.id).exact.value = values.encode(value)
    elif kind is MatchKind.RANGE:
        if (value, bits) != (0, info.field.maximum):
            limits = message.match.add(field_id=info.id).range
            limits.low, limits.high = values.encode(value), values.encode(bits)
    elif bits:
        match = message.match.add(field_id=info.id)
        if kind is MatchKind.LPM:
            match.lpm.value, match.lpm.prefix_len = values.encode(value), bits.bit_count()
        elif kind is MatchKind.TERNARY:
            match.ternary.value, match.ternary.mask = values.encode(value), values.encode(bits)
        else:
            match.optional.value = values.encode(value)
