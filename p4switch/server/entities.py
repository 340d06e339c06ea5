"""Everything but table entries that Write and Read can name: counters, meters, registers, profiles, value sets, replication."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from finsy.proto import p4r

from p4switch.dataplane import binding as dp
from p4switch.server import tables, values
from p4switch.server.errors import Code, P4RuntimeError, invalid, not_found, unimplemented
from p4switch.server.schema import ExternInfo, Schema, TableInfo

PORTS = 512  # bit<9> in v1model
INSERT, MODIFY, DELETE = p4r.Update.INSERT, p4r.Update.MODIFY, p4r.Update.DELETE


@dataclass
class Mirror:
    """What the data plane cannot tell back: kept as the client wrote it."""

    multicast: dict[int, p4r.MulticastGroupEntry] = field(default_factory=dict)
    sessions: dict[int, p4r.CloneSessionEntry] = field(default_factory=dict)
    members: dict[tuple[int, int], p4r.ActionProfileMember] = field(default_factory=dict)
    groups: dict[tuple[int, int], p4r.ActionProfileGroup] = field(default_factory=dict)
    value_sets: dict[int, p4r.ValueSetEntry] = field(default_factory=dict)
    digests: dict[int, p4r.DigestEntry] = field(default_factory=dict)

    def forget_program(self) -> None:
        """A new program starts with empty profiles, value sets and digests; replication stays."""
        self.members.clear()
        self.groups.clear()
        self.value_sets.clear()
        self.digests.clear()


class Entities:
    """Writes and reads of one device with one pipeline."""

    def __init__(self, switch: dp.Switch, schema: Schema, mirror: Mirror):
        self.switch = switch
        self.schema = schema
        self.mirror = mirror

    # ------------------------------------------------------------------------------------------------------------ write

    def write(self, kind: int, entity: p4r.Entity) -> None:
        """One update of anything but a table entry. Raises P4RuntimeError."""
        name = entity.WhichOneof("entity")
        if name is None:
            raise invalid("the update has no entity")
        if kind not in (INSERT, MODIFY, DELETE):
            raise invalid("the update has no type; it must be INSERT, MODIFY or DELETE")
        handler = getattr(self, f"_write_{name}", None)
        if handler is None:
            raise unimplemented(f"writing {name}")
        try:
            handler(kind, getattr(entity, name))
        except dp.DataplaneError as error:
            raise tables.failure(error.code, name.replace("_", " ")) from None

    @staticmethod
    def _only_modify(kind: int, what: str) -> None:
        if kind != MODIFY:
            raise invalid(f"a {what} always exists: it can only be MODIFIED")

    def _cell(self, info: ExternInfo, entry: Any) -> int:
        if not entry.HasField("index"):
            raise invalid(f"{info.name} needs an index")
        index = int(entry.index.index)
        if not 0 <= index < info.extern.size:
            raise P4RuntimeError(Code.OUT_OF_RANGE, f"{info.name} has cells 0..{info.extern.size - 1}, not {index}")
        return index

    def _write_counter_entry(self, kind: int, entry: p4r.CounterEntry) -> None:
        self._only_modify(kind, "counter cell")
        info = self.schema.extern("counters", entry.counter_id)
        data = entry.data
        self.switch.write_counter(info.extern.index, self._cell(info, entry), data.packet_count, data.byte_count)

    def _direct_entry(self, entry: Any, owners: dict[int, int], what: str) -> tuple[TableInfo, dp.Entry]:
        table = self.schema.table(entry.table_entry.table_id)
        if table.id not in owners.values():
            raise invalid(f"table {table.name} has no direct {what}")
        key, mask = tables.encode_key(table, entry.table_entry)
        update = dp.Update(dp.Op.MODIFY, table.table.index, key, mask, entry.table_entry.priority)
        found = self.switch.find_entry(update)
        if found is None:
            raise not_found(f"the entry of {table.name} does not exist")
        return table, found

    def _write_direct_counter_entry(self, kind: int, entry: p4r.DirectCounterEntry) -> None:
        self._only_modify(kind, "direct counter")
        table, found = self._direct_entry(entry, self.schema.direct_counters, "counter")
        data = entry.data
        self.switch.set_direct_counter(table.table.index, found.handle, data.packet_count, data.byte_count)

    @staticmethod
    def _meter_config(entry: Any) -> dp.MeterConfig | None:
        if not entry.HasField("config"):
            return None
        config = entry.config
        for name in ("cir", "cburst", "pir", "pburst"):
            if getattr(config, name) < 0:
                raise invalid(f"meter {name} is negative: {getattr(config, name)}")
        if config.cir > config.pir:
            raise invalid(f"meter cir {config.cir} is larger than its pir {config.pir}")
        return dp.MeterConfig(config.cir, config.cburst, config.pir, config.pburst)

    def _write_meter_entry(self, kind: int, entry: p4r.MeterEntry) -> None:
        self._only_modify(kind, "meter cell")
        info = self.schema.extern("meters", entry.meter_id)
        self.switch.write_meter(info.extern.index, self._cell(info, entry), self._meter_config(entry))

    def _write_direct_meter_entry(self, kind: int, entry: p4r.DirectMeterEntry) -> None:
        self._only_modify(kind, "direct meter")
        table, found = self._direct_entry(entry, self.schema.direct_meters, "meter")
        self.switch.write_direct_meter(table.table.index, found.handle, self._meter_config(entry))

    def _write_register_entry(self, kind: int, entry: p4r.RegisterEntry) -> None:
        self._only_modify(kind, "register cell")
        info = self.schema.extern("registers", entry.register_id)
        if entry.data.WhichOneof("data") != "bitstring":
            raise unimplemented(f"register {info.name} with data other than a bitstring")
        value = values.decode(entry.data.bitstring, info.extern.width, info.name)
        self.switch.write_register(info.extern.index, self._cell(info, entry), value)

    def _write_action_profile_member(self, kind: int, entry: p4r.ActionProfileMember) -> None:
        info = self.schema.extern("profiles", entry.action_profile_id)
        key = (entry.action_profile_id, entry.member_id)
        if kind != INSERT and key not in self.mirror.members:
            raise tables.failure(dp.Code.NOT_FOUND, f"member {entry.member_id} of {info.name}")
        if kind == DELETE:
            self.switch.delete_member(info.extern.index, entry.member_id)
            self.mirror.members.pop(key, None)
            return
        action = self.schema.actions.get(entry.action.action_id)
        if action is None:
            raise invalid(f"member {entry.member_id}: there is no action {entry.action.action_id:#x}")
        data = tables.encode_params(action, entry.action)
        if kind == INSERT and key in self.mirror.members:
            raise tables.failure(dp.Code.EXISTS, f"member {entry.member_id} of {info.name}")
        index = action.action.index
        self.switch.set_member(info.extern.index, entry.member_id, index, data, must_exist=kind == MODIFY)
        self.mirror.members[key] = entry

    def _write_action_profile_group(self, kind: int, entry: p4r.ActionProfileGroup) -> None:
        info = self.schema.extern("profiles", entry.action_profile_id)
        key = (entry.action_profile_id, entry.group_id)
        if kind != INSERT and key not in self.mirror.groups:
            raise tables.failure(dp.Code.NOT_FOUND, f"group {entry.group_id} of {info.name}")
        if kind == DELETE:
            self.switch.delete_group(info.extern.index, entry.group_id)
            self.mirror.groups.pop(key, None)
            return
        if kind == INSERT and key in self.mirror.groups:
            raise tables.failure(dp.Code.EXISTS, f"group {entry.group_id} of {info.name}")
        for member in entry.members:
            if (entry.action_profile_id, member.member_id) not in self.mirror.members:
                raise not_found(f"group {entry.group_id}: {info.name} has no member {member.member_id}")
        members = [(m.member_id, m.weight or 1) for m in entry.members]
        self.switch.set_group(info.extern.index, entry.group_id, members, must_exist=kind == MODIFY)
        self.mirror.groups[key] = entry

    def _write_value_set_entry(self, kind: int, entry: p4r.ValueSetEntry) -> None:
        self._only_modify(kind, "value set")
        value_set = self.schema.value_sets.get(entry.value_set_id)
        if value_set is None:
            raise not_found(f"no value set with id {entry.value_set_id:#x}")
        if len(entry.members) > value_set.size:
            raise P4RuntimeError(Code.RESOURCE_EXHAUSTED, f"{value_set.name} holds {value_set.size} members")
        members = []
        for member in entry.members:
            fields = value_set.keys.fields
            key, mask = bytearray(value_set.keys.size), bytearray(value_set.keys.size)
            given = {m.field_id: m for m in member.match}
            for number, field_ in enumerate(fields, 1):
                value, bits = tables.encode_field(value_set.name, field_.name or str(number), field_, given.get(number))
                key[field_.offset : field_.offset + field_.size] = value.to_bytes(field_.size, "big")
                mask[field_.offset : field_.offset + field_.size] = bits.to_bytes(field_.size, "big")
            members.append((bytes(key), bytes(mask)))
        self.switch.write_value_set(value_set.index, members)
        self.mirror.value_sets[entry.value_set_id] = entry

    def _write_digest_entry(self, kind: int, entry: p4r.DigestEntry) -> None:
        if entry.digest_id not in self.schema.digests:
            raise not_found(f"no digest with id {entry.digest_id:#x}")
        known = entry.digest_id in self.mirror.digests
        if kind == INSERT and known:
            raise tables.failure(dp.Code.EXISTS, "the digest's configuration")
        if kind != INSERT and not known:
            raise tables.failure(dp.Code.NOT_FOUND, "the digest's configuration")
        if kind == DELETE:
            del self.mirror.digests[entry.digest_id]
        else:
            self.mirror.digests[entry.digest_id] = entry

    def _write_packet_replication_engine_entry(self, kind: int, entry: p4r.PacketReplicationEngineEntry) -> None:
        what = entry.WhichOneof("type")
        if what == "multicast_group_entry":
            self._write_multicast(kind, entry.multicast_group_entry)
        elif what == "clone_session_entry":
            self._write_session(kind, entry.clone_session_entry)
        else:
            raise invalid("the replication entry is neither a multicast group nor a clone session")

    @staticmethod
    def _replicas(replicas: Any) -> list[dp.Replica]:
        result = []
        for replica in replicas:
            port = replica.egress_port
            if replica.WhichOneof("port_kind") == "port":
                port = values.decode(replica.port, 32, "replica port")
            if port >= PORTS:
                raise invalid(f"replica port {port} is not in 0..{PORTS - 1}")
            result.append(dp.Replica(port, replica.instance))
        if len({(r.port, r.instance) for r in result}) != len(result):
            raise invalid("two replicas have the same port and instance")
        return result

    def _write_multicast(self, kind: int, entry: p4r.MulticastGroupEntry) -> None:
        group = entry.multicast_group_id
        if group == 0:
            raise invalid("multicast group 0 means: no multicast")
        if kind != INSERT and group not in self.mirror.multicast:
            raise tables.failure(dp.Code.NOT_FOUND, f"multicast group {group}")
        if kind == DELETE:
            self.switch.delete_multicast_group(group)
            self.mirror.multicast.pop(group, None)
            return
        if kind == INSERT and group in self.mirror.multicast:
            raise tables.failure(dp.Code.EXISTS, f"multicast group {group}")
        self.switch.set_multicast_group(group, self._replicas(entry.replicas), must_exist=kind == MODIFY)
        self.mirror.multicast[group] = entry

    def _write_session(self, kind: int, entry: p4r.CloneSessionEntry) -> None:
        session = entry.session_id
        if kind != INSERT and session not in self.mirror.sessions:
            raise tables.failure(dp.Code.NOT_FOUND, f"clone session {session}")
        if kind == DELETE:
            self.switch.delete_clone_session(session)
            self.mirror.sessions.pop(session, None)
            return
        if kind == INSERT and session in self.mirror.sessions:
            raise tables.failure(dp.Code.EXISTS, f"clone session {session}")
        length = max(0, entry.packet_length_bytes)
        replicas = self._replicas(entry.replicas)
        self.switch.set_clone_session(session, replicas, truncate_length=length, must_exist=kind == MODIFY)
        self.mirror.sessions[session] = entry

    # ------------------------------------------------------------------------------------------------------------- read

    def read(self, entity: p4r.Entity) -> Iterator[p4r.Entity]:
        """What matches; 0 is a wildcard for ids. Raises P4RuntimeError."""
        name = entity.WhichOneof("entity")
        if name is None:
            raise invalid("the read has no entity")
        handler = getattr(self, f"_read_{name}", None)
        if handler is None:
            raise unimplemented(f"reading {name}")
        yield from handler(getattr(entity, name))

    def _read_table_entry(self, wanted: p4r.TableEntry) -> Iterator[p4r.Entity]:
        chosen = [self.schema.table(wanted.table_id)] if wanted.table_id else list(self.schema.tables.values())
        for table in chosen:
            if wanted.is_default_action:
                entry = self.switch.default_entry(table.table.index)
                yield p4r.Entity(table_entry=tables.to_message(self.schema, table, entry, is_default=True))
                continue
            for entry in self._matching(table, wanted):
                message = tables.to_message(self.schema, table, entry)
                if wanted.HasField("counter_data") and table.table.counter is not None:
                    message.counter_data.packet_count, message.counter_data.byte_count = entry.packets, entry.bytes
                if wanted.HasField("meter_config") and table.table.meter is not None:
                    self._read_meter_into(message, self.switch.read_direct_meter(table.table.index, entry.handle))
                if wanted.HasField("time_since_last_hit") and table.table.idle_timeout:
                    message.time_since_last_hit.elapsed_ns = entry.since_hit_ns
                yield p4r.Entity(table_entry=message)

    def _matching(self, table: TableInfo, wanted: p4r.TableEntry) -> Iterator[dp.Entry]:
        if not wanted.match:
            for entry in self.switch.entries(table.table.index):
                if not wanted.priority or entry.priority == wanted.priority:
                    yield entry
            return
        key, mask = tables.encode_key(table, wanted)
        found = self.switch.find_entry(
            dp.Update(dp.Op.MODIFY, table.table.index, key, mask, tables.check_priority(table, wanted.priority))
        )
        if found is not None:
            yield found

    @staticmethod
    def _read_meter_into(message: Any, config: dp.MeterConfig | None, name: str = "meter_config") -> None:
        if config is not None:
            target = getattr(message, name)
            target.cir, target.cburst, target.pir, target.pburst = config.cir, config.cburst, config.pir, config.pburst

    def _cells(self, kind: str, number: int, wanted: Any) -> Iterator[tuple[ExternInfo, int]]:
        container: dict[int, ExternInfo] = getattr(self.schema, kind)
        for info in [self.schema.extern(kind, number)] if number else container.values():
            if wanted.HasField("index"):
                yield info, self._cell(info, wanted)
            else:
                for cell in range(info.extern.size):
                    yield info, cell

    def _read_counter_entry(self, wanted: p4r.CounterEntry) -> Iterator[p4r.Entity]:
        for info, cell in self._cells("counters", wanted.counter_id, wanted):
            packets, size = self.switch.read_counter(info.extern.index, cell)
            entity = p4r.Entity()
            entry = entity.counter_entry
            entry.counter_id, entry.index.index = info.id, cell
            entry.data.packet_count, entry.data.byte_count = packets, size
            yield entity

    def _read_meter_entry(self, wanted: p4r.MeterEntry) -> Iterator[p4r.Entity]:
        for info, cell in self._cells("meters", wanted.meter_id, wanted):
            entity = p4r.Entity()
            entry = entity.meter_entry
            entry.meter_id, entry.index.index = info.id, cell
            self._read_meter_into(entry, self.switch.read_meter(info.extern.index, cell), "config")
            yield entity

    def _read_register_entry(self, wanted: p4r.RegisterEntry) -> Iterator[p4r.Entity]:
        for info, cell in self._cells("registers", wanted.register_id, wanted):
            entity = p4r.Entity()
            entry = entity.register_entry
            entry.register_id, entry.index.index = info.id, cell
            entry.data.bitstring = values.encode(self.switch.read_register(info.extern.index, cell))
            yield entity

    def _read_direct_counter_entry(self, wanted: p4r.DirectCounterEntry) -> Iterator[p4r.Entity]:
        for table_id in self._direct_tables(wanted.table_entry, self.schema.direct_counters, "counter"):
            table = self.schema.table(table_id)
            for entry in self._matching(table, wanted.table_entry):
                entity = p4r.Entity()
                message = entity.direct_counter_entry
                message.table_entry.CopyFrom(tables.to_message(self.schema, table, entry))
                message.table_entry.ClearField("action")
                message.data.packet_count, message.data.byte_count = entry.packets, entry.bytes
                yield entity

    def _read_direct_meter_entry(self, wanted: p4r.DirectMeterEntry) -> Iterator[p4r.Entity]:
        for table_id in self._direct_tables(wanted.table_entry, self.schema.direct_meters, "meter"):
            table = self.schema.table(table_id)
            for entry in self._matching(table, wanted.table_entry):
                entity = p4r.Entity()
                message = entity.direct_meter_entry
                message.table_entry.CopyFrom(tables.to_message(self.schema, table, entry))
                message.table_entry.ClearField("action")
                self._read_meter_into(message, self.switch.read_direct_meter(table.table.index, entry.handle), "config")
                yield entity

    def _direct_tables(self, entry: p4r.TableEntry, owners: dict[int, int], what: str) -> list[int]:
        if not entry.table_id:
            return list(owners.values())
        if entry.table_id not in owners.values():
            raise invalid(f"table {self.schema.table(entry.table_id).name} has no direct {what}")
        return [entry.table_id]

    def _read_action_profile_member(self, wanted: p4r.ActionProfileMember) -> Iterator[p4r.Entity]:
        for (profile, member), entry in self.mirror.members.items():
            if wanted.action_profile_id in (0, profile) and wanted.member_id in (0, member):
                yield p4r.Entity(action_profile_member=entry)

    def _read_action_profile_group(self, wanted: p4r.ActionProfileGroup) -> Iterator[p4r.Entity]:
        for (profile, group), entry in self.mirror.groups.items():
            if wanted.action_profile_id in (0, profile) and wanted.group_id in (0, group):
                yield p4r.Entity(action_profile_group=entry)

    def _read_value_set_entry(self, wanted: p4r.ValueSetEntry) -> Iterator[p4r.Entity]:
        for number in [wanted.value_set_id] if wanted.value_set_id else list(self.schema.value_sets):
            if number not in self.schema.value_sets:
                raise not_found(f"no value set with id {number:#x}")
            empty = p4r.ValueSetEntry(value_set_id=number)
            yield p4r.Entity(value_set_entry=self.mirror.value_sets.get(number, empty))

    def _read_digest_entry(self, wanted: p4r.DigestEntry) -> Iterator[p4r.Entity]:
        for number, entry in self.mirror.digests.items():
            if wanted.digest_id in (0, number):
                yield p4r.Entity(digest_entry=entry)

    def _read_packet_replication_engine_entry(self, wanted: p4r.PacketReplicationEngineEntry) -> Iterator[p4r.Entity]:
        what = wanted.WhichOneof("type")
        if what in (None, "multicast_group_entry"):
            for number, group in self.mirror.multicast.items():
                if wanted.multicast_group_entry.multicast_group_id in (0, number):
                    yield p4r.Entity(
                        packet_replication_engine_entry=p4r.PacketReplicationEngineEntry(multicast_group_entry=group)
                    )
        if what in (None, "clone_session_entry"):
            for number, session in self.mirror.sessions.items():
                if wanted.clone_session_entry.session_id in (0, number):
                    yield p4r.Entity(
                        packet_replication_engine_entry=p4r.PacketReplicationEngineEntry(clone_session_entry=session)
                    )
