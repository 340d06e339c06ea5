"""The packet replication engine's multicast groups and clone sessions, and parser value sets (specification,
"PacketReplicationEngineEntry", "ValueSetEntry")."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeVar

from finsy.proto import p4r

from p4switch.dataplane import binding as dp
from p4switch.server import tables, values
from p4switch.server.cells import only_modify
from p4switch.server.errors import exhausted, exists, invalid, unimplemented
from p4switch.server.schema import by_id
from p4switch.server.state import Target, check_presence

PORTS = 512  # bit<9> in v1model
INSTANCES = 1 << 16  # egress_rid is bit<16>
GROUPS = 1 << 16  # mcast_grp is bit<16>
SESSIONS = 1 << 16
MAX_REPLICAS = 1024  # passes that one packet may cause
T = TypeVar("T", p4r.MulticastGroupEntry, p4r.CloneSessionEntry)
INSERT, MODIFY, DELETE = p4r.Update.INSERT, p4r.Update.MODIFY, p4r.Update.DELETE


def write_replication(target: Target, kind: int, entry: p4r.PacketReplicationEngineEntry) -> None:
    """A multicast group or a clone session."""
    what = entry.WhichOneof("type")
    if what == "multicast_group_entry":
        _write_multicast(target, kind, entry.multicast_group_entry)
    elif what == "clone_session_entry":
        _write_session(target, kind, entry.clone_session_entry)
    else:
        raise invalid("the replication entry is neither a multicast group nor a clone session")


def _replicas(target: Target, replicas: Any) -> list[dp.Replica]:
    """What the data plane makes now: of a replica with backups the first whose port is up, if none is the replica itself."""
    if len(replicas) > MAX_REPLICAS:
        raise exhausted(f"{len(replicas)} replicas: a packet is replicated {MAX_REPLICAS} times at most")
    result = []
    everything: list[dp.Replica] = []
    for replica in replicas:
        port = replica.egress_port
        if replica.WhichOneof("port_kind") == "port":
            port = values.decode(replica.port, 32, "replica port")
        own = [_replica(port, replica.instance)]
        for backup in replica.backup_replicas:
            own.append(_replica(values.decode(backup.port, 32, "backup replica port"), backup.instance))
            if own[-1].port == port:
                raise invalid(f"replica port {port} cannot be its own backup")
        result.append(next((r for r in own if _up(target, r.port)), own[0]))
        everything += own
    if len(set(everything)) != len(everything):
        raise invalid("two replicas have the same port and instance")
    return result


def _replica(port: int, instance: int) -> dp.Replica:
    if port >= PORTS:
        raise invalid(f"replica port {port} is not in 0..{PORTS - 1}")
    if instance >= INSTANCES:
        raise invalid(f"replica instance {instance} is not in 0..{INSTANCES - 1}")
    return dp.Replica(port, instance)


def _up(target: Target, port: int) -> bool:
    """Ports without an interface (the CPU port) cannot go down."""
    return not target.links.exists(port) or target.links.is_up(port)


def follow_links(target: Target) -> None:
    """A port has gone up or down: groups and sessions whose replicas have backups choose anew."""
    for group, entry in target.state.multicast.items():
        if any(r.backup_replicas for r in entry.replicas):
            target.switch.set_multicast_group(group, _replicas(target, entry.replicas), must_exist=True)
    for session in target.state.sessions.values():
        if any(r.backup_replicas for r in session.replicas):
            _set_session(target, session, must_exist=True)


def _write_multicast(target: Target, kind: int, entry: p4r.MulticastGroupEntry) -> None:
    group, container, switch = entry.multicast_group_id, target.state.multicast, target.switch
    if group == 0:
        raise invalid("multicast group 0 means: no multicast")
    if group >= GROUPS:
        raise invalid(f"multicast group {group} is not in 1..{GROUPS - 1}")
    old = container.get(group)
    check_presence(old is not None, kind, f"multicast group {group}")
    if kind == DELETE:
        assert old is not None
        switch.delete_multicast_group(group)
        target.undo(lambda: switch.set_multicast_group(group, _replicas(target, old.replicas)))
        target.drop(container, group)
        return
    switch.set_multicast_group(group, _replicas(target, entry.replicas), must_exist=kind == MODIFY)
    if old is None:
        target.undo(lambda: switch.delete_multicast_group(group))
    else:
        target.undo(lambda: switch.set_multicast_group(group, _replicas(target, old.replicas), must_exist=True))
    target.put(container, group, _canonical(entry))


def _set_session(target: Target, entry: p4r.CloneSessionEntry, must_exist: bool) -> None:
    replicas, length = _replicas(target, entry.replicas), entry.packet_length_bytes
    target.switch.set_clone_session(entry.session_id, replicas, truncate_length=length, must_exist=must_exist)


def _write_session(target: Target, kind: int, entry: p4r.CloneSessionEntry) -> None:
    session, container, switch = entry.session_id, target.state.sessions, target.switch
    if not 0 < session < SESSIONS:
        raise invalid(f"clone session {session} is not in 1..{SESSIONS - 1}")
    old = container.get(session)
    check_presence(old is not None, kind, f"clone session {session}")
    if kind == DELETE:
        assert old is not None
        switch.delete_clone_session(session)
        target.undo(lambda: _set_session(target, old, must_exist=False))
        target.drop(container, session)
        return
    if entry.packet_length_bytes < 0:
        raise invalid(f"clone session {session}: packet_length_bytes is negative: {entry.packet_length_bytes}")
    if entry.class_of_service:
        raise unimplemented(f"clone session {session}: a class of service other than 0")
    _set_session(target, entry, must_exist=kind == MODIFY)
    if old is None:
        target.undo(lambda: switch.delete_clone_session(session))
    else:
        target.undo(lambda: _set_session(target, old, must_exist=True))
    target.put(container, session, _canonical(entry))


def _canonical(entry: T) -> T:
    """A copy to keep, with ports as the shortest byte strings."""
    copy = type(entry)()
    copy.CopyFrom(entry)
    for replica in copy.replicas:
        if replica.WhichOneof("port_kind") == "port":
            replica.port = values.encode(int.from_bytes(replica.port, "big"))
        for backup in replica.backup_replicas:
            backup.port = values.encode(int.from_bytes(backup.port, "big"))
    return copy


def clear(target: Target) -> None:
    """Forget all groups and sessions."""
    for group in target.state.multicast:
        target.switch.delete_multicast_group(group)
    for session in target.state.sessions:
        target.switch.delete_clone_session(session)


def install(target: Target) -> None:
    """Bring the groups and sessions of a state to its data plane, which has none."""
    for group, entry in target.state.multicast.items():
        target.switch.set_multicast_group(group, _replicas(target, entry.replicas))
    for session in target.state.sessions.values():
        _set_session(target, session, must_exist=False)


def read_replication(target: Target, wanted: p4r.PacketReplicationEngineEntry) -> Iterator[p4r.Entity]:
    """Groups or sessions as they were written; id 0 is a wildcard, no type gives both."""
    what = wanted.WhichOneof("type")
    if what in (None, "multicast_group_entry"):
        for number, group in target.state.multicast.items():
            if wanted.multicast_group_entry.multicast_group_id in (0, number):
                entry = p4r.PacketReplicationEngineEntry(multicast_group_entry=group)
                yield p4r.Entity(packet_replication_engine_entry=entry)
    if what in (None, "clone_session_entry"):
        for number, session in target.state.sessions.items():
            if wanted.clone_session_entry.session_id in (0, number):
                entry = p4r.PacketReplicationEngineEntry(clone_session_entry=session)
                yield p4r.Entity(packet_replication_engine_entry=entry)


# ---------------------------------------------------------------------------------------------------------- value sets


def write_value_set(target: Target, kind: int, entry: p4r.ValueSetEntry) -> None:
    """Replace the members of a parser value set."""
    only_modify(kind, "value set")
    info = by_id(target.schema.value_sets, entry.value_set_id, "value set")
    if len(entry.members) > info.size:
        raise exhausted(f"{info.name} holds {info.size} members, not {len(entry.members)}")
    members = [tables.encode_key(info.keys, member.match) for member in entry.members]
    if len(set(members)) != len(members):
        raise exists(f"a member of {info.name}")
    container = target.state.value_sets
    old = container.get(info.id)
    before = [] if old is None else [tables.encode_key(info.keys, member.match) for member in old.members]
    target.switch.write_value_set(info.index, members)
    target.undo(lambda: target.switch.write_value_set(info.index, before))
    canonical = p4r.ValueSetEntry(value_set_id=info.id)
    for key, mask in members:
        tables.decode_key(info.keys, key, mask, canonical.members.add().match)
    target.put(container, info.id, canonical)


def read_value_sets(target: Target, wanted: p4r.ValueSetEntry) -> Iterator[p4r.Entity]:
    """One value set or all."""
    infos = target.schema.value_sets
    chosen = [by_id(infos, wanted.value_set_id, "value set")] if wanted.value_set_id else list(infos.values())
    for info in chosen:
        empty = p4r.ValueSetEntry(value_set_id=info.id)
        yield p4r.Entity(value_set_entry=target.state.value_sets.get(info.id, empty))
