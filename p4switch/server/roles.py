"""What a role may do (P4Runtime specification, "Role Config", which leaves the format to the implementation).

A role config is a ``google.protobuf.Any`` that holds a ``google.protobuf.Struct`` with these members, all optional:

=======================  ==========================================================================================
``exclusive``            what this role alone of all configured roles may write (and read)
``shared``               what it may write, as other roles may
``read_only``            what it may only read
``receives_packet_ins``  true: its primary gets packet-ins
``packet_in_filter``     a struct of metadata names (or ids) and numbers: only packet-ins that carry all of these
``sends_packet_outs``    true: its primary may send packet-outs
``can_push_pipeline``    true: its primary may set the pipeline config
=======================  ==========================================================================================

The first three are lists of P4Info ids, names or aliases, of ``multicast_groups`` and of ``clone_sessions``. A table brings its
direct counter and meter along. Without a config a role has full access, like the default role.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from finsy.proto import p4r
from google.protobuf import any_pb2, struct_pb2
from google.protobuf.message import DecodeError

from p4switch.server.errors import denied, invalid

MULTICAST_GROUPS, CLONE_SESSIONS = "multicast_groups", "clone_sessions"
_LISTS = ("exclusive", "shared", "read_only")
_FLAGS = ("receives_packet_ins", "sends_packet_outs", "can_push_pipeline")
_FILTER = "packet_in_filter"
Item = int | str


@dataclass(frozen=True)
class RoleConfig:
    """A role's scope; the default is full access."""

    restricted: bool = False
    exclusive: frozenset[Item] = frozenset()
    shared: frozenset[Item] = frozenset()
    read_only: frozenset[Item] = frozenset()
    receives_packet_ins: bool = True
    sends_packet_outs: bool = True
    can_push_pipeline: bool = True
    packet_in_filter: Mapping[Item, int] = field(default_factory=dict)

    @property
    def named(self) -> frozenset[Item]:
        """All it mentions that others could want for themselves."""
        return self.exclusive | self.shared | self.read_only


def parse(message: any_pb2.Any, info: Any) -> RoleConfig:
    """The role config of a MasterArbitrationUpdate; names become ids by P4Info ``info`` (None while there is no pipeline).

    Raises P4RuntimeError (INVALID_ARGUMENT).
    """
    content = struct_pb2.Struct()
    try:
        if not message.Unpack(content):
            raise invalid(f"role config: expected a google.protobuf.Struct, found {message.type_url or 'no type'}")
    except DecodeError:
        raise invalid("role config: its value is no google.protobuf.Struct") from None
    known = (*_LISTS, *_FLAGS, _FILTER)
    for name in content.fields:
        if name not in known:
            raise invalid(f"role config: there is no member {name!r}; there are {', '.join(known)}")
    ids = _ids_by_name(info)
    fields = content.fields

    def items(name: str) -> frozenset[Item]:
        return _items(name, fields[name], ids) if name in fields else frozenset()

    def flag(name: str) -> bool:
        return name in fields and _flag(name, fields[name])

    return RoleConfig(
        restricted=True,
        exclusive=items("exclusive"),
        shared=items("shared"),
        read_only=items("read_only"),
        receives_packet_ins=flag("receives_packet_ins"),
        sends_packet_outs=flag("sends_packet_outs"),
        can_push_pipeline=flag("can_push_pipeline"),
        packet_in_filter=_filter(fields[_FILTER]) if _FILTER in fields else {},
    )


def _ids_by_name(info: Any) -> dict[Item, int] | None:
    if info is None:
        return None
    found: dict[Item, int] = {}
    for descriptor, objects in info.ListFields():
        if not descriptor.is_repeated or not hasattr(descriptor.message_type, "fields_by_name"):
            continue
        for item in objects if "preamble" in descriptor.message_type.fields_by_name else ():
            for name in (item.preamble.alias, item.preamble.name, item.preamble.id):
                found[name] = item.preamble.id
    return found


def _items(name: str, value: struct_pb2.Value, ids: dict[Item, int] | None) -> frozenset[Item]:
    if value.WhichOneof("kind") != "list_value":
        raise invalid(f"role config: {name} is a list of P4Info ids and names")
    items: set[Item] = set()
    for entry in value.list_value.values:
        kind = entry.WhichOneof("kind")
        item: Item
        if kind == "string_value":
            item = entry.string_value
        elif kind == "number_value" and entry.number_value.is_integer():
            item = int(entry.number_value)
        else:
            raise invalid(f"role config: {name} holds a {kind or 'nothing'}: only P4Info ids and names are possible")
        if ids is not None and item not in (MULTICAST_GROUPS, CLONE_SESSIONS):
            if item not in ids:
                raise invalid(f"role config: {name}: P4Info has no object {item!r}")
            item = ids[item]
        items.add(item)
    return frozenset(items)


def _flag(name: str, value: struct_pb2.Value) -> bool:
    if value.WhichOneof("kind") != "bool_value":
        raise invalid(f"role config: {name} is true or false")
    return bool(value.bool_value)


def _filter(value: struct_pb2.Value) -> dict[Item, int]:
    found: dict[Item, int] = {}
    fields = value.struct_value.fields
    for name in fields:
        number = fields[name]
        if number.WhichOneof("kind") != "number_value" or not number.number_value.is_integer():
            raise invalid(f"role config: {_FILTER}: the value of {name!r} is no whole number")
        found[int(name) if name.isdecimal() and len(name) < 11 else name] = int(number.number_value)
    if not found:
        raise invalid(f"role config: {_FILTER} is a struct of metadata names and numbers")
    return found


# -------------------------------------------------------------------------------------------------------------- access


def subjects(entity: p4r.Entity, direct: Mapping[int, int]) -> tuple[Item, ...]:
    """What an entity concerns; any one of it in a role's lists gives access. ``direct``: direct resources by table id."""
    kind = entity.WhichOneof("entity")
    if kind == "table_entry":
        return (entity.table_entry.table_id,)
    if kind in ("direct_counter_entry", "direct_meter_entry"):
        table = getattr(entity, kind).table_entry.table_id
        return (table, direct.get(table, 0))
    if kind == "packet_replication_engine_entry":
        what = entity.packet_replication_engine_entry.WhichOneof("type")
        return (CLONE_SESSIONS if what == "clone_session_entry" else MULTICAST_GROUPS,)
    names = {
        "action_profile_member": "action_profile_id",
        "action_profile_group": "action_profile_id",
        "meter_entry": "meter_id",
        "counter_entry": "counter_id",
        "value_set_entry": "value_set_id",
        "register_entry": "register_id",
        "digest_entry": "digest_id",
        "extern_entry": "extern_id",
    }
    return (getattr(getattr(entity, kind), names[kind]),) if kind in names else ()


def may_write(config: RoleConfig, about: tuple[Item, ...]) -> bool:
    """Whether a role may change this."""
    return not config.restricted or any(a in config.exclusive or a in config.shared for a in about)


def may_read(config: RoleConfig, about: tuple[Item, ...]) -> bool:
    """Whether a role may see this."""
    return not config.restricted or any(a in config.named for a in about)


def check_write(role: str, config: RoleConfig, about: tuple[Item, ...]) -> None:
    """PERMISSION_DENIED for what a role may not change."""
    if not may_write(config, about):
        raise denied(f"role {role!r} may not write {_show(about)}")


def check_read(role: str, config: RoleConfig, about: tuple[Item, ...]) -> None:
    """PERMISSION_DENIED for what a role may not see; wildcards (id 0) are filtered instead."""
    if about and about[0] != 0 and not may_read(config, about):
        raise denied(f"role {role!r} may not read {_show(about)}")


def _show(about: tuple[Item, ...]) -> str:
    return ", ".join(f"{a:#x}" if isinstance(a, int) else a for a in about[:1]) or "this"


def wants_packet(config: RoleConfig, metadata: Mapping[Item, int]) -> bool:
    """Whether a packet-in with this metadata (by id and by name) is for a role."""
    return config.receives_packet_ins and all(metadata.get(k) == v for k, v in config.packet_in_filter.items())
