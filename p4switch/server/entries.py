"""Writing and reading table entries with all they have: direct resources, metadata, one-shot action sets."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from finsy.proto import p4r

from p4switch.dataplane import binding as dp
from p4switch.server import profiles, tables
from p4switch.server.cells import (
    counter_data,
    fill_meter,
    meter_config,
    only_modify,
    refuse_colour_counters,
)
from p4switch.server.errors import denied, invalid, not_found, unimplemented
from p4switch.server.schema import TableInfo
from p4switch.server.state import Extra, Target

INSERT, MODIFY, DELETE = p4r.Update.INSERT, p4r.Update.MODIFY, p4r.Update.DELETE
_DEFAULTS = (dp.Op.SET_DEFAULT, dp.Op.RESET_DEFAULT)


@dataclass(frozen=True, slots=True)
class Simple:
    """A write of an entry that is one update of the data plane: many of them are applied as one. :func:`settle` comes after."""

    update: dp.Update
    table: TableInfo
    metadata: bytes

    @property
    def what(self) -> str:
        """How texts name the entry."""
        return tables.describe(self.table, self.update.op in _DEFAULTS)


def simple(target: Target, kind: int, entry: p4r.TableEntry) -> Simple | None:
    """The update, or None when :func:`write` must do it. Raises P4RuntimeError."""
    schema = target.schema
    table = schema.tables.get(entry.table_id) or schema.table(entry.table_id)
    if kind != DELETE:
        if entry.HasField("meter_config") or entry.HasField("counter_data"):
            return None
        if kind == MODIFY and (table.meter or (table.profile is not None and target.state.extras)):
            return None
        refuse_colour_counters(entry, "meter_counter_data")
        if not entry.HasField("action"):
            if kind == MODIFY and not entry.is_default_action:
                return None
        elif entry.action.HasField("action_profile_action_set"):
            return None
    return Simple(tables.to_update(schema, kind, entry), table, entry.metadata)


def settle(target: Target, step: Simple, handle: int) -> None:
    """What is left to do when an update has been applied: none of it concerns packets."""
    op = step.update.op
    if step.metadata or (target.state.extras and op is not dp.Op.INSERT):
        kind = DELETE if op is dp.Op.DELETE else MODIFY
        key = (step.table.index, 0 if op in _DEFAULTS else handle)
        _settle_extra(target, step.table, key, kind, step.metadata, None, None)


def write(target: Target, kind: int, entry: p4r.TableEntry) -> None:
    """One update in full. In a transaction: a failure leaves what the journal takes back. Raises P4RuntimeError."""
    table = target.schema.table(entry.table_id)
    counter, meter = _check_resources(table, kind, entry)
    group, one_shot = None, None
    if kind != DELETE and entry.action.HasField("action_profile_action_set"):
        one_shot, members = profiles.check_one_shot(target, table, entry.action.action_profile_action_set)
        # Everything else about the entry, checked as if it named a group.
        asked = p4r.TableEntry()
        asked.CopyFrom(entry)
        asked.action.action_profile_group_id = 1
        update = tables.to_update(target.schema, kind, asked)
        old = target.state.extras.get((table.index, _handle(target, update))) if kind == MODIFY else None
        assert table.profile is not None
        group = profiles.set_one_shot(target, table.profile, old.group if old and old.group else None, members)
        handle = _apply(target, dataclasses.replace(update, action=group), table)
    elif kind == MODIFY and not entry.is_default_action and not entry.HasField("action"):
        handle = _keep_action(target, table, entry)
        kept = target.state.extras.get((table.index, handle))
        if kept is not None:
            one_shot, group = kept.one_shot, kept.group
    else:
        handle = _apply(target, tables.to_update(target.schema, kind, entry), table)
    _settle_extra(target, table, (table.index, handle), kind, entry.metadata, one_shot, group)
    if kind == DELETE or entry.is_default_action:
        return
    if counter is not None:
        set_counter(target, table, handle, counter)
    if table.meter and (kind == MODIFY or meter is not None):
        set_meter(target, table, handle, meter)


def _check_resources(
    table: TableInfo, kind: int, entry: p4r.TableEntry
) -> tuple[tuple[int, int] | None, dp.MeterConfig | None]:
    """The counter's value and the meter's configuration that an entry brings along."""
    if kind == DELETE:  # only the key counts
        return None, None
    has_counter, has_meter = entry.HasField("counter_data"), entry.HasField("meter_config")
    refuse_colour_counters(entry, "meter_counter_data")
    if has_counter and not table.counter:
        raise invalid(f"table {table.name} has no direct counter")
    if has_meter and not table.meter:
        raise invalid(f"table {table.name} has no direct meter")
    if entry.is_default_action and (has_counter or has_meter):
        raise unimplemented(f"direct resources of the default entry of table {table.name}")
    counter = counter_data(entry.counter_data) if has_counter else None
    meter = meter_config(entry.meter_config, table.meter_type, table.name) if has_meter else None
    return counter, meter


def _keep_action(target: Target, table: TableInfo, entry: p4r.TableEntry) -> int:
    """A MODIFY that names no action: changes what is beside it, in const tables direct resources only. Returns the handle."""
    found = _existing(target, table, entry)
    if found.is_const:
        if entry.metadata or entry.controller_metadata or entry.idle_timeout_ns:
            raise denied(f"{tables.describe(table)} is const: only its direct resources can be changed")
        return found.handle
    named = p4r.TableEntry()
    named.CopyFrom(entry)
    if found.kind is dp.EntryKind.GROUP:
        named.action.action_profile_group_id = found.action
    elif found.kind is dp.EntryKind.MEMBER:
        named.action.action_profile_member_id = found.action
    else:
        tables.decode_action(target.schema, found.action, found.data, named.action.action)
    return _apply(target, tables.to_update(target.schema, MODIFY, named), table)


def _handle(target: Target, update: dp.Update) -> int:
    """The handle of the entry an update concerns: 0 for the default entry, -1 when there is none."""
    if update.op in _DEFAULTS:
        return 0
    found = target.switch.find_entry(update)
    return -1 if found is None else found.handle


def _apply(target: Target, update: dp.Update, table: TableInfo) -> int:
    (result,) = target.apply([update])
    if result.code != dp.Code.OK:
        raise tables.update_failure(update, result.code, tables.describe(table, update.op in _DEFAULTS))
    return 0 if update.op in _DEFAULTS else result.handle


def _settle_extra(
    target: Target,
    table: TableInfo,
    key: tuple[int, int],
    kind: int,
    metadata: bytes,
    one_shot: p4r.ActionProfileActionSet | None,
    group: int | None,
) -> None:
    """Keep what the data plane does not; let go of a group that nothing names any more."""
    extras = target.state.extras
    old = extras.get(key)
    if old is not None and old.group and old.group != group:
        assert table.profile is not None
        profiles.drop_one_shot(target, table.profile, old.group)
    if kind != DELETE and (metadata or one_shot is not None):
        target.put(extras, key, Extra(metadata, one_shot, group or 0))
    else:
        target.drop(extras, key)


# ----------------------------------------------------------------------------------------------------- direct resources


def set_counter(target: Target, table: TableInfo, handle: int, data: tuple[int, int]) -> None:
    """Write an entry's direct counter, undoably."""
    switch, index = target.switch, table.index
    if target.journal is not None:
        old = switch.entry(index, handle)
        if old is not None:
            target.undo(lambda: switch.set_direct_counter(index, handle, old.packets, old.bytes))
    switch.set_direct_counter(index, handle, *data)


def set_meter(target: Target, table: TableInfo, handle: int, config: dp.MeterConfig | None) -> None:
    """Configure an entry's direct meter, undoably."""
    switch, index = target.switch, table.index
    old = switch.read_direct_meter(index, handle)
    if old is None and config is None:
        return
    target.undo(lambda: switch.write_direct_meter(index, handle, old))
    switch.write_direct_meter(index, handle, config)


def find(target: Target, table: TableInfo, entry: p4r.TableEntry) -> dp.Entry | None:
    """The entry with exactly this key and priority. Raises P4RuntimeError when it is no key of the table."""
    if not table.keys.fields:
        raise invalid(f"table {table.name} has no key: it has a default entry only")
    key, mask = tables.encode_key(table.keys, entry.match)
    priority = tables.check_priority(table, entry.priority)
    return target.switch.find_entry(dp.Update(dp.Op.MODIFY, table.index, key, mask, priority))


def _owner(target: Target, entry: p4r.TableEntry, what: str) -> TableInfo:
    table = target.schema.table(entry.table_id)
    if not getattr(table, what):
        raise invalid(f"table {table.name} has no direct {what}")
    if entry.is_default_action:
        raise unimplemented(f"direct resources of the default entry of table {table.name}")
    return table


def _existing(target: Target, table: TableInfo, entry: p4r.TableEntry) -> dp.Entry:
    found = find(target, table, entry)
    if found is None:
        raise not_found(f"{tables.describe(table)} does not exist")
    return found


def write_direct_counter(target: Target, kind: int, entry: p4r.DirectCounterEntry) -> None:
    """Set the counter of an entry."""
    only_modify(kind, "direct counter")
    table = _owner(target, entry.table_entry, "counter")
    found, data = _existing(target, table, entry.table_entry), counter_data(entry.data)
    if entry.HasField("data"):
        set_counter(target, table, found.handle, data)


def write_direct_meter(target: Target, kind: int, entry: p4r.DirectMeterEntry) -> None:
    """Configure the meter of an entry; without a configuration: back to the default."""
    only_modify(kind, "direct meter")
    table = _owner(target, entry.table_entry, "meter")
    refuse_colour_counters(entry)
    found = _existing(target, table, entry.table_entry)
    config = meter_config(entry.config, table.meter_type, table.name) if entry.HasField("config") else None
    set_meter(target, table, found.handle, config)


# --------------------------------------------------------------------------------------------------------------- reads


def read_entries(target: Target, wanted: p4r.TableEntry) -> Iterator[p4r.Entity]:
    """Entries by table, key, priority, action or metadata; what is not set is a wildcard."""
    refuse_colour_counters(wanted, "meter_counter_data")
    if not wanted.table_id and wanted.match:
        raise invalid("a match without a table: wildcard reads of all tables take no match")
    with_counter, with_meter = wanted.HasField("counter_data"), wanted.HasField("meter_config")
    with_idle = wanted.HasField("time_since_last_hit")
    if wanted.table_id and with_idle and not target.schema.table(wanted.table_id).idle_timeout:
        raise invalid(f"table {target.schema.table(wanted.table_id).name} does not support idle timeouts")
    for table in _tables(target, wanted):
        if wanted.is_default_action:
            yield p4r.Entity(table_entry=_default(target, table))
            continue
        for found in _matching(target, table, wanted):
            message = to_message(target, table, found)
            if not _passes(message, wanted):
                continue
            if with_counter and table.counter:
                data = message.counter_data
                data.SetInParent()
                data.packet_count, data.byte_count = found.packets, found.bytes
            if with_meter and table.meter:
                fill_meter(message, target.switch.read_direct_meter(table.index, found.handle), "meter_config")
            if with_idle and table.idle_timeout:
                message.time_since_last_hit.elapsed_ns = found.since_hit_ns
            yield p4r.Entity(table_entry=message)


def _tables(target: Target, wanted: p4r.TableEntry) -> list[TableInfo]:
    return [target.schema.table(wanted.table_id)] if wanted.table_id else list(target.schema.tables.values())


def _default(target: Target, table: TableInfo) -> p4r.TableEntry:
    message = tables.to_message(target.schema, table, target.switch.default_entry(table.index), is_default=True)
    _add_extra(target, table, 0, message)
    return message


def to_message(target: Target, table: TableInfo, found: dp.Entry) -> p4r.TableEntry:
    """An entry as it was written."""
    message = tables.to_message(target.schema, table, found)
    if target.state.extras:
        _add_extra(target, table, found.handle, message)
    return message


def _add_extra(target: Target, table: TableInfo, handle: int, message: p4r.TableEntry) -> None:
    extra = target.state.extras.get((table.index, handle))
    if extra is not None:
        message.metadata = extra.metadata
        if extra.one_shot is not None:
            message.action.action_profile_action_set.CopyFrom(extra.one_shot)


def _passes(message: p4r.TableEntry, wanted: p4r.TableEntry) -> bool:
    """The filters of a wildcard read."""
    return (
        (not wanted.priority or message.priority == wanted.priority)
        and (not wanted.controller_metadata or message.controller_metadata == wanted.controller_metadata)
        and (not wanted.metadata or message.metadata == wanted.metadata)
        and (not wanted.action.action.action_id or message.action.action.action_id == wanted.action.action.action_id)
    )


def _matching(target: Target, table: TableInfo, wanted: Any) -> Iterator[dp.Entry]:
    if not wanted.match:
        yield from target.switch.entries(table.index)
        return
    found = find(target, table, wanted)
    if found is not None:
        yield found


def _direct(target: Target, entry: p4r.TableEntry, what: str) -> Iterator[tuple[TableInfo, dp.Entry]]:
    if entry.is_default_action:
        raise unimplemented("direct resources of default entries")
    if not entry.table_id:
        if entry.match:
            raise invalid("a match without a table: wildcard reads of all tables take no match")
        for table in target.schema.tables.values():
            if getattr(table, what):
                for found in target.switch.entries(table.index):
                    yield table, found
        return
    table = _owner(target, entry, what)
    if entry.match:
        yield table, _existing(target, table, entry)
        return
    for found in target.switch.entries(table.index):
        if not entry.priority or found.priority == entry.priority:
            yield table, found


def _key_of(table: TableInfo, found: dp.Entry, message: p4r.TableEntry) -> None:
    message.table_id, message.priority = table.id, found.priority
    tables.decode_key(table.keys, found.key, found.mask, message.match)


def read_direct_counters(target: Target, wanted: p4r.DirectCounterEntry) -> Iterator[p4r.Entity]:
    """By entry, by table or all."""
    for table, found in _direct(target, wanted.table_entry, "counter"):
        entity = p4r.Entity()
        message = entity.direct_counter_entry
        _key_of(table, found, message.table_entry)
        message.data.SetInParent()
        message.data.packet_count, message.data.byte_count = found.packets, found.bytes
        yield entity


def read_direct_meters(target: Target, wanted: p4r.DirectMeterEntry) -> Iterator[p4r.Entity]:
    """By entry, by table or all."""
    refuse_colour_counters(wanted)
    for table, found in _direct(target, wanted.table_entry, "meter"):
        entity = p4r.Entity()
        message = entity.direct_meter_entry
        _key_of(table, found, message.table_entry)
        fill_meter(message, target.switch.read_direct_meter(table.index, found.handle))
        yield entity
