"""A running pipeline as P4Runtime sees it: P4Info ids joined with the data plane's layout, by names.

Everything that a request needs is looked up and laid out here once, so that a Write only copies.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, TypeVar

from finsy.proto import p4i

from p4switch.dataplane import layout as dp
from p4switch.server import p4data
from p4switch.server.errors import Code, P4RuntimeError, invalid, not_found

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class FieldInfo:
    """A match field or action parameter: its id, place and width. ``what`` names it in texts."""

    id: int
    name: str
    what: str
    kind: dp.MatchKind
    width: int
    start: int
    end: int
    size: int
    maximum: int

    @staticmethod
    def of(number: int, name: str, what: str, field: dp.Field) -> FieldInfo:
        """From the data plane's description."""
        end = field.offset + field.size
        return FieldInfo(number, name, what, field.kind, field.width, field.offset, end, field.size, field.maximum)


@dataclass(frozen=True, slots=True)
class ActionInfo:
    """An action: its data plane index, and its parameters by id."""

    id: int
    name: str
    index: int
    size: int
    params: dict[int, FieldInfo]


@dataclass(frozen=True, slots=True)
class KeyInfo:
    """The match fields of a table or value set. ``any_key`` and ``any_mask`` match everything; ``exact`` ids must be given."""

    owner: str
    fields: dict[int, FieldInfo]
    any_key: bytes
    any_mask: bytes
    exact: frozenset[int]

    @staticmethod
    def of(owner: str, infos: Any, keys: dp.Fields) -> KeyInfo:
        """Raises P4RuntimeError when P4Info has other fields than the data plane."""
        fields = [f for f in keys.fields if f.kind is not dp.MatchKind.SELECTOR]
        if len(fields) != len(infos):
            raise invalid(f"P4Info gives '{owner}' {len(infos)} match fields, the device config {len(fields)}")
        mask = bytearray(keys.size)
        found = {}
        for info, f in zip(infos, fields, strict=True):
            name = info.name or str(info.id)
            found[info.id] = FieldInfo.of(info.id, name, f"{owner}, match field {name}", f)
            if f.kind is dp.MatchKind.RANGE:
                mask[f.offset : f.offset + f.size] = f.maximum.to_bytes(f.size, "big")
        exact = frozenset(n for n, f in found.items() if f.kind is dp.MatchKind.EXACT)
        return KeyInfo(owner, found, bytes(keys.size), bytes(mask), exact)


@dataclass(frozen=True, slots=True)
class ProfileInfo:
    """An action profile or selector. ``actions`` are those of its tables; ``max_group_size`` 0: not limited by the program."""

    id: int
    name: str
    index: int
    size: int
    with_selector: bool
    max_group_size: int
    sum_of_members: bool
    max_member_weight: int
    weights_disallowed: bool
    actions: dict[int, ActionInfo] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TableInfo:
    """A table. ``size`` 0: without key, so without entries."""

    id: int
    name: str
    index: int
    keys: KeyInfo
    has_priority: bool
    entry_actions: dict[int, ActionInfo]
    default_actions: dict[int, ActionInfo]
    const_default: bool
    is_const: bool
    idle_timeout: bool
    counter: bool
    meter: bool
    meter_type: int
    profile: ProfileInfo | None


@dataclass(frozen=True, slots=True)
class CellsInfo:
    """A counter, meter or register. ``codec`` is a register's, ``meter_type`` a meter's (p4.config.v1.MeterSpec.Type)."""

    id: int
    name: str
    index: int
    size: int
    codec: p4data.Codec | None = None
    meter_type: int = 0


@dataclass(frozen=True, slots=True)
class DigestInfo:
    """A digest: how its messages look on both sides."""

    id: int
    name: str
    index: int
    fields: dp.Fields
    codec: p4data.Codec


@dataclass(frozen=True, slots=True)
class ValueSetInfo:
    """A parser value set."""

    id: int
    name: str
    index: int
    size: int
    keys: KeyInfo


@dataclass(frozen=True, slots=True)
class HeaderInfo:
    """Packet-in or packet-out metadata: (id, name, bit width) in order."""

    fields: tuple[tuple[int, str, int], ...]
    size: int  # bytes

    @staticmethod
    def of(info: p4i.ControllerPacketMetadata) -> HeaderInfo:
        """Raises P4RuntimeError when it is not a whole number of bytes."""
        fields = tuple((m.id, m.name, m.bitwidth) for m in info.metadata)
        bits = sum(w for _, _, w in fields)
        if bits % 8 or any(w <= 0 for _, _, w in fields):
            raise invalid(f"controller header '{info.preamble.name}' is not a whole number of bytes")
        return HeaderInfo(fields, bits // 8)


class Schema:
    """Everything by id."""

    def __init__(self, info: p4i.P4Info, layout: dp.Layout):
        """Raises P4RuntimeError (INVALID_ARGUMENT) when P4Info and program do not belong together."""
        self.info = info
        self.layout = layout
        actions = {a.name: a for a in layout.actions}
        self.actions = {a.preamble.id: _action(a, actions) for a in info.actions}
        self.actions_by_index = {a.index: a for a in self.actions.values()}
        self.profiles = {p.preamble.id: self._profile(p) for p in info.action_profiles}
        self.direct_counters = {c.preamble.id: c.direct_table_id for c in info.direct_counters}
        self.direct_meters = {m.preamble.id: m.direct_table_id for m in info.direct_meters}
        self.direct = {table: n for kind in (self.direct_counters, self.direct_meters) for n, table in kind.items()}
        types = {m.direct_table_id: m.spec.type for m in info.direct_meters}
        self.tables = {t.preamble.id: self._table(t, types.get(t.preamble.id, 0)) for t in info.tables}
        self.tables_by_index = {t.index: t for t in self.tables.values()}
        self.counters = {c.preamble.id: self._cells(c) for c in info.counters}
        self.meters = {m.preamble.id: self._cells(m, meter_type=m.spec.type) for m in info.meters}
        self.registers = {r.preamble.id: self._register(r) for r in info.registers}
        self.digests = {d.preamble.id: self._digest(d) for d in info.digests}
        self.digests_by_index = {d.index: d for d in self.digests.values()}
        self.value_sets = {v.preamble.id: self._value_set(v) for v in info.value_sets}
        headers = {m.preamble.name: HeaderInfo.of(m) for m in info.controller_packet_metadata}
        self.packet_in, self.packet_out = headers.get("packet_in"), headers.get("packet_out")

    def _table(self, info: p4i.Table, meter_type: int) -> TableInfo:
        name = info.preamble.name
        table: dp.Table = _named(self.layout.tables, name, "table")
        entry_actions, default_actions = {}, {}
        for ref in info.action_refs:
            if ref.id not in self.actions:
                raise invalid(f"P4Info's table '{name}' refers to action id {ref.id}, which P4Info does not declare")
            if self.actions[ref.id].index < 0:
                raise invalid(f"P4Info's action '{self.actions[ref.id].name}' is none of the device config")
            if ref.scope != p4i.ActionRef.DEFAULT_ONLY:
                entry_actions[ref.id] = self.actions[ref.id]
            if ref.scope != p4i.ActionRef.TABLE_ONLY:
                default_actions[ref.id] = self.actions[ref.id]
        profile = None
        if table.implementation is not None:
            if info.implementation_id not in self.profiles:
                raise invalid(f"P4Info's table '{name}' lacks its action profile '{table.implementation.name}'")
            profile = self.profiles[info.implementation_id]
            profile.actions.update(entry_actions)
        return TableInfo(
            id=info.preamble.id,
            name=name,
            index=table.index,
            keys=KeyInfo.of(name, info.match_fields, table.keys),
            has_priority=table.has_priority,
            entry_actions=entry_actions,
            default_actions=default_actions,
            const_default=info.const_default_action_id != 0,
            is_const=info.is_const_table,
            idle_timeout=table.idle_timeout,
            counter=table.counter is not None,
            meter=table.meter is not None,
            meter_type=meter_type,
            profile=profile,
        )

    def _extern(self, info: Any) -> dp.Extern:
        extern: dp.Extern = _named(self.layout.externs, info.preamble.name, "extern")
        return extern

    def _profile(self, info: p4i.ActionProfile) -> ProfileInfo:
        return ProfileInfo(
            info.preamble.id,
            info.preamble.name,
            self._extern(info).index,
            info.size,
            info.with_selector,
            info.max_group_size,
            info.HasField("sum_of_members"),
            info.sum_of_members.max_member_weight if info.HasField("sum_of_members") else 0,
            info.weights_disallowed,
        )

    def _cells(self, info: Any, codec: p4data.Codec | None = None, meter_type: int = 0) -> CellsInfo:
        extern = self._extern(info)
        return CellsInfo(info.preamble.id, info.preamble.name, extern.index, extern.size, codec, meter_type)

    def _register(self, info: p4i.Register) -> CellsInfo:
        codec = p4data.codec(info.type_spec, self.info.type_info, f"register '{info.preamble.name}'")
        width = self._extern(info).width
        if isinstance(codec, p4data.Number):
            codec = dataclasses.replace(codec, width=width)  # of a translated type P4Info gives the controller's width
        if sum(codec.widths) != width:
            raise invalid(
                f"P4Info gives register '{info.preamble.name}' {sum(codec.widths)} bits, the device config {width}"
            )
        return self._cells(info, codec)

    def _digest(self, info: p4i.Digest) -> DigestInfo:
        name = info.preamble.name
        digest: dp.Digest = _named(self.layout.digests, name, "digest")
        codec = p4data.codec(info.type_spec, self.info.type_info, f"digest '{name}'")
        if len(codec.widths) != len(digest.fields.fields):
            raise invalid(
                f"P4Info gives digest '{name}' {len(codec.widths)} fields, the device config {len(digest.fields.fields)}"
            )
        return DigestInfo(info.preamble.id, name, digest.index, digest.fields, codec)

    def _value_set(self, info: p4i.ValueSet) -> ValueSetInfo:
        name = info.preamble.name
        found: dp.ValueSet = _named(self.layout.value_sets, name, "value set")
        return ValueSetInfo(info.preamble.id, name, found.index, found.size, KeyInfo.of(name, info.match, found.keys))

    # ---------------------------------------------------------------------------------------------------------- look-ups

    def table(self, number: int) -> TableInfo:
        """A table by id."""
        table = self.tables.get(number)
        return table if table is not None else by_id(self.tables, number, "table")


def by_id(container: dict[int, T], number: int, what: str) -> T:
    """An object by id: INVALID_ARGUMENT when there is none given, NOT_FOUND when it does not exist."""
    if number not in container:
        if not number:
            raise invalid(f"no {what} id is given")
        known = ", ".join(f"{n:#x} ({getattr(x, 'name', '?')})" for n, x in container.items()) or "none"
        raise not_found(f"no {what} with id {number:#x}; there are {known}")
    return container[number]


def _named(container: dict[str, Any], name: str, kind: str) -> Any:
    if name not in container:
        known = ", ".join(container) or "none"
        raise invalid(f"P4Info names {kind} '{name}', which the device config does not have; it has {known}")
    return container[name]


def _action(info: p4i.Action, actions: dict[str, dp.Action]) -> ActionInfo:
    name = info.preamble.name
    action = actions.get(name)
    if action is None:  # in P4Info, but used by nothing that runs
        return ActionInfo(info.preamble.id, name, -1, 0, {})
    fields = action.params.fields
    if len(fields) != len(info.params):
        raise invalid(f"P4Info gives action '{name}' {len(info.params)} parameters, the device config {len(fields)}")
    params = {}
    for param, f in zip(info.params, fields, strict=True):
        params[param.id] = FieldInfo.of(param.id, f.name, f"{name}, parameter {f.name}", f)
    return ActionInfo(info.preamble.id, name, action.index, action.params.size, params)


def no_pipeline() -> P4RuntimeError:
    """What every call answers before there is a pipeline (clients match this text)."""
    return P4RuntimeError(Code.FAILED_PRECONDITION, "No forwarding pipeline config set for this device")
