"""Table entries and packets of the core as P4Runtime messages and back, by the names of a P4Info. Pure functions of it.

Written out instead of left to finsy's general objects: a change of memory is a few entries, and somebody waits for it.
"""

from __future__ import annotations

from dataclasses import dataclass

from finsy.proto import p4i, p4r

from controller.core.entries import Entry, Write, WriteOp

_TYPES = {WriteOp.INSERT: p4r.Update.INSERT, WriteOp.MODIFY: p4r.Update.MODIFY, WriteOp.DELETE: p4r.Update.DELETE}


def number(value: int) -> bytes:
    """The canonical form of a number: as few bytes as it needs, at least one (P4Runtime specification, "Bytestrings")."""
    return value.to_bytes(max(1, (value.bit_length() + 7) // 8), "big")


@dataclass(frozen=True)
class _Table:
    name: str
    id: int
    size: int
    keys: dict[str, tuple[int, int]]  # name to (field id, width in bits)


@dataclass(frozen=True)
class _Action:
    name: str
    id: int
    params: dict[str, int]


class Codec:
    """Messages of one program. Names are the P4Info's aliases; KeyError for those that it does not have."""

    def __init__(self, info: p4i.P4Info):
        tables = [
            _Table(t.preamble.alias, t.preamble.id, t.size, {f.name: (f.id, f.bitwidth) for f in t.match_fields})
            for t in info.tables
        ]
        actions = [_Action(a.preamble.alias, a.preamble.id, {p.name: p.id for p in a.params}) for a in info.actions]
        self._tables, self._tables_by_id = {t.name: t for t in tables}, {t.id: t for t in tables}
        self._actions, self._actions_by_id = {a.name: a for a in actions}, {a.id: a for a in actions}
        self._counters = {c.preamble.alias: c.preamble.id for c in info.counters}
        self._digests = {d.preamble.alias: d.preamble.id for d in info.digests}
        packets = {m.preamble.name: {f.name: f.id for f in m.metadata} for m in info.controller_packet_metadata}
        self._element, self._packet_out = packets["packet_in"]["element"], packets["packet_out"]
        self._ports: dict[int, list[p4r.PacketMetadata]] = {}  # metadata of packets for them

    def size(self, table: str) -> int:
        """Entries that fit into a table."""
        return self._tables[table].size

    def digest(self, name: str) -> int:
        """The id of a digest."""
        return self._digests[name]

    def counter(self, name: str, index: int | None) -> p4r.Entity:
        """A cell of a counter, for a read; None: all of them."""
        entity = p4r.Entity(counter_entry=p4r.CounterEntry(counter_id=self._counters[name]))
        if index is not None:
            entity.counter_entry.index.index = index
        return entity

    # ----------------------------------------------------------------------------------------------------------- entries

    def update(self, write: Write) -> p4r.Update:
        """A write."""
        update = p4r.Update(type=_TYPES[write.op])
        self._fill(update.entity.table_entry, write.entry)
        return update

    def _fill(self, message: p4r.TableEntry, entry: Entry) -> None:
        table = self._tables[entry.table]
        message.table_id = table.id
        for name, value in entry.match:
            field = message.match.add()
            field.field_id, width = table.keys[name]
            if isinstance(value, tuple):
                value, length = value
                field.lpm.prefix_len = length
                field.lpm.value = number(value >> (width - length) << (width - length))
            else:
                field.exact.value = number(value)
        action = self._actions[entry.action]
        made = message.action.action
        made.action_id = action.id
        for name, value in entry.params:
            made.params.add(param_id=action.params[name], value=number(value))

    def wildcard(self, table: str, counters: bool = False) -> p4r.Entity:
        """All entries of a table, for a read; with what they count."""
        entity = p4r.Entity(table_entry=p4r.TableEntry(table_id=self._tables[table].id))
        if counters:
            entity.table_entry.counter_data.SetInParent()
        return entity

    def entry(self, message: p4r.TableEntry) -> Entry | None:
        """What was read; None for what the controller does not write: default entries and const ones."""
        if message.is_default_action or message.is_const:
            return None
        table = self._tables_by_id[message.table_id]
        found: dict[int, int | tuple[int, int]] = {}
        for field in message.match:
            if field.WhichOneof("field_match_type") == "lpm":
                found[field.field_id] = int.from_bytes(field.lpm.value, "big"), field.lpm.prefix_len
            else:
                found[field.field_id] = int.from_bytes(field.exact.value, "big")
        match = tuple((name, found.get(number_, (0, 0))) for name, (number_, _) in table.keys.items())
        action = self._actions_by_id[message.action.action.action_id]
        values = {p.param_id: int.from_bytes(p.value, "big") for p in message.action.action.params}
        return Entry(table.name, match, action.name, tuple((name, values[n]) for name, n in action.params.items()))

    # ----------------------------------------------------------------------------------------------------------- packets

    def packet_out(self, port: int, frame: bytes) -> p4r.StreamMessageRequest:
        """A frame for a port."""
        metadata = self._ports.get(port)
        if metadata is None:
            values = {"egress_port": port}
            metadata = [
                p4r.PacketMetadata(metadata_id=n, value=number(values.get(name, 0)))
                for name, n in self._packet_out.items()
            ]
            self._ports[port] = metadata
        return p4r.StreamMessageRequest(packet=p4r.PacketOut(payload=frame, metadata=metadata))

    def element_of(self, packet: p4r.PacketIn) -> int:
        """The element that a frame came from, as the switch has stamped it."""
        return next(int.from_bytes(m.value, "big") for m in packet.metadata if m.metadata_id == self._element)
