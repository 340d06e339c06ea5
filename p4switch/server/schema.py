"""A running pipeline as P4Runtime sees it: P4Info ids joined with the data plane's layout, by names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from finsy.proto import p4i

from p4switch.dataplane import layout as dp
from p4switch.server.errors import Code, P4RuntimeError, invalid, not_found


@dataclass(frozen=True, slots=True)
class ActionInfo:
    """An action: its data plane index, and its parameters by id."""

    id: int
    name: str
    action: dp.Action
    params: dict[int, dp.Field]


@dataclass(frozen=True, slots=True)
class FieldInfo:
    """A match field: its id and place in the key."""

    id: int
    name: str
    field: dp.Field


@dataclass(frozen=True, slots=True)
class TableInfo:
    """A table."""

    id: int
    name: str
    table: dp.Table
    fields: tuple[FieldInfo, ...]
    entry_actions: dict[int, ActionInfo]  # that entries may use
    default_actions: dict[int, ActionInfo]
    const_default: bool
    is_const: bool


@dataclass(frozen=True, slots=True)
class ExternInfo:
    """A counter, meter, register or action profile."""

    id: int
    name: str
    extern: dp.Extern


@dataclass(frozen=True, slots=True)
class HeaderInfo:
    """Packet-in or packet-out metadata: (id, name, bit width) in order."""

    fields: tuple[tuple[int, str, int], ...]

    @property
    def size(self) -> int:
        """Bytes of the header."""
        return sum(w for _, _, w in self.fields) // 8


class Schema:
    """Everything by id."""

    def __init__(self, info: p4i.P4Info, layout: dp.Layout):
        """Raises P4RuntimeError (INVALID_ARGUMENT) when P4Info and program do not belong together."""
        self.info = info
        self.layout = layout
        actions = {a.name: a for a in layout.actions}
        self.actions = {a.preamble.id: self._action(a, actions) for a in info.actions}
        self.actions_by_index = {a.action.index: a for a in self.actions.values()}
        self.tables = {t.preamble.id: self._table(t, layout) for t in info.tables}
        self.counters = self._externs(info.counters)
        self.direct_counters = {c.preamble.id: c.direct_table_id for c in info.direct_counters}
        self.meters = self._externs(info.meters)
        self.direct_meters = {m.preamble.id: m.direct_table_id for m in info.direct_meters}
        self.registers = self._externs(info.registers)
        self.profiles = self._externs(info.action_profiles)
        self.digests = {d.preamble.id: self._named(layout.digests, d.preamble.name, "digest") for d in info.digests}
        self.digest_info = {d.preamble.id: d for d in info.digests}
        self.value_sets = {
            v.preamble.id: self._named(layout.value_sets, v.preamble.name, "value set") for v in info.value_sets
        }
        headers = {m.preamble.name: self._header(m) for m in info.controller_packet_metadata}
        self.packet_in, self.packet_out = headers.get("packet_in"), headers.get("packet_out")

    @staticmethod
    def _named(container: dict[str, Any], name: str, kind: str) -> Any:
        if name not in container:
            known = ", ".join(container) or "none"
            raise invalid(f"P4Info names {kind} '{name}', which the device config does not have; it has {known}")
        return container[name]

    def _action(self, info: p4i.Action, actions: dict[str, dp.Action]) -> ActionInfo:
        name = info.preamble.name
        action = actions.get(name)
        if action is None:  # in P4Info, but used by nothing that runs
            action = dp.Action(-1, name, dp.Fields((), 0))
            return ActionInfo(info.preamble.id, name, action, {})
        fields = action.params.fields
        if len(fields) != len(info.params):
            raise invalid(
                f"P4Info gives action '{name}' {len(info.params)} parameters, the device config {len(fields)}"
            )
        return ActionInfo(info.preamble.id, name, action, {p.id: f for p, f in zip(info.params, fields, strict=True)})

    def _table(self, info: p4i.Table, layout: dp.Layout) -> TableInfo:
        name = info.preamble.name
        table: dp.Table = self._named(layout.tables, name, "table")
        keys = [f for f in table.keys.fields if f.kind is not dp.MatchKind.SELECTOR]
        if len(keys) != len(info.match_fields):
            raise invalid(
                f"P4Info gives table '{name}' {len(info.match_fields)} match fields, the device config {len(keys)}"
            )
        entry_actions, default_actions = {}, {}
        for ref in info.action_refs:
            if ref.id not in self.actions:
                raise invalid(f"P4Info's table '{name}' refers to action id {ref.id}, which P4Info does not declare")
            if ref.scope != p4i.ActionRef.DEFAULT_ONLY:
                entry_actions[ref.id] = self.actions[ref.id]
            if ref.scope != p4i.ActionRef.TABLE_ONLY:
                default_actions[ref.id] = self.actions[ref.id]
        return TableInfo(
            info.preamble.id,
            name,
            table,
            tuple(FieldInfo(m.id, m.name, k) for m, k in zip(info.match_fields, keys, strict=True)),
            entry_actions,
            default_actions,
            info.const_default_action_id != 0,
            info.is_const_table,
        )

    def _externs(self, infos: Any) -> dict[int, ExternInfo]:
        found = {}
        for info in infos:
            extern = self._named(self.layout.externs, info.preamble.name, "extern")
            found[info.preamble.id] = ExternInfo(info.preamble.id, info.preamble.name, extern)
        return found

    @staticmethod
    def _header(info: p4i.ControllerPacketMetadata) -> HeaderInfo:
        fields = tuple((m.id, m.name, m.bitwidth) for m in info.metadata)
        if sum(w for _, _, w in fields) % 8:
            raise invalid(f"controller header '{info.preamble.name}' is not a whole number of bytes")
        return HeaderInfo(fields)

    # ---------------------------------------------------------------------------------------------------------- look-ups

    def table(self, number: int) -> TableInfo:
        """A table by id."""
        info: TableInfo = self._by_id(self.tables, number, "table")
        return info

    def extern(self, kind: str, number: int) -> ExternInfo:
        """A counter, meter, register or action profile by id."""
        container: dict[int, ExternInfo] = getattr(self, kind)
        info: ExternInfo = self._by_id(container, number, kind.rstrip("s"))
        return info

    def _by_id(self, container: dict[int, Any], number: int, what: str) -> Any:
        if number not in container:
            if not number:
                raise invalid(f"no {what} id is given")
            raise not_found(f"no {what} with id {number:#x}; there are {self._names(container)}")
        return container[number]

    @staticmethod
    def _names(container: dict[int, Any]) -> str:
        return ", ".join(f"{n:#x} ({getattr(x, 'name', '?')})" for n, x in container.items()) or "none"


def no_pipeline() -> P4RuntimeError:
    """What every call answers before there is a pipeline (clients match this text)."""
    return P4RuntimeError(Code.FAILED_PRECONDITION, "No forwarding pipeline config set for this device")
