"""Short ways to write P4Runtime messages for ``entities.p4``."""

from __future__ import annotations

from typing import Any

from finsy.proto import p4r
from google.protobuf import any_pb2, struct_pb2

from tests.p4switch.server.conftest import Program

INSERT, MODIFY, DELETE = p4r.Update.INSERT, p4r.Update.MODIFY, p4r.Update.DELETE


def update(kind: int, **entity: Any) -> p4r.Update:
    return p4r.Update(type=kind, entity=p4r.Entity(**entity))


def action(program: Program, name: str, *values: bytes) -> p4r.TableAction:
    made = p4r.TableAction()
    made.action.action_id = program.id("actions", name)
    for number, value in enumerate(values, 1):
        made.action.params.add(param_id=number, value=value)
    return made


def exact(field_id: int, value: bytes) -> p4r.FieldMatch:
    match = p4r.FieldMatch(field_id=field_id)
    match.exact.value = value
    return match


def lpm(field_id: int, value: bytes, length: int) -> p4r.FieldMatch:
    match = p4r.FieldMatch(field_id=field_id)
    match.lpm.value, match.lpm.prefix_len = value, length
    return match


def ternary(field_id: int, value: bytes, mask: bytes) -> p4r.FieldMatch:
    match = p4r.FieldMatch(field_id=field_id)
    match.ternary.value, match.ternary.mask = value, mask
    return match


def in_range(field_id: int, low: bytes, high: bytes) -> p4r.FieldMatch:
    match = p4r.FieldMatch(field_id=field_id)
    match.range.low, match.range.high = low, high
    return match


def optional(field_id: int, value: bytes) -> p4r.FieldMatch:
    match = p4r.FieldMatch(field_id=field_id)
    match.optional.value = value
    return match


def entry(program: Program, table: str, *matches: p4r.FieldMatch, **rest: Any) -> p4r.TableEntry:
    return p4r.TableEntry(table_id=program.id("tables", table), match=matches, **rest)


def packet(op: int, tag: int = 0, number: int = 0, address: int = 0) -> bytes:
    return bytes([op, tag]) + number.to_bytes(2, "big") + address.to_bytes(4, "big")


def role_config(**members: Any) -> any_pb2.Any:
    """A role config of these members."""
    content = struct_pb2.Struct()
    content.update(members)
    packed = any_pb2.Any()
    packed.Pack(content)
    return packed


def replication(**kind: Any) -> dict[str, Any]:
    """A replication entry as the only member of an entity."""
    return {"packet_replication_engine_entry": p4r.PacketReplicationEngineEntry(**kind)}


def member(program: Program, profile: str, number: int, port: int) -> p4r.ActionProfileMember:
    """A member that forwards to a port."""
    owner = program.id("action_profiles", profile)
    chosen = action(program, "forward", bytes([port])).action
    return p4r.ActionProfileMember(action_profile_id=owner, member_id=number, action=chosen)


def action_set(program: Program, *ports: int, weight: int = 1) -> p4r.TableAction:
    """A one-shot that forwards to one of these ports."""
    made = p4r.TableAction()
    made.action_profile_action_set.SetInParent()
    for port in ports:
        one = made.action_profile_action_set.action_profile_actions.add(weight=weight)
        one.action.CopyFrom(action(program, "forward", bytes([port])).action)
    return made
