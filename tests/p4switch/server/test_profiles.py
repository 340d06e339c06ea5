"""One-shot action sets, defaults that name members, capacity, and groups that watch ports."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator

import pytest
from finsy.proto import p4r

from p4switch.dataplane.binding import Switch
from p4switch.server.device import Device
from p4switch.server.links import Links
from tests.p4switch.server.conftest import CPU_PORT, DEVICE, Client, Program, Running, everything, serving
from tests.p4switch.server.entries import (
    DELETE,
    INSERT,
    MODIFY,
    action,
    action_set,
    entry,
    exact,
    member,
    packet,
    replication,
    update,
)


def seen(running: Running, number: int = 1) -> set[int]:
    """The ports that 60 packets with different selector fields go to."""
    outputs = [running.switch.process(3, packet(6, number=number, address=n * 0x01010101)) for n in range(60)]
    return {o.port for found in outputs for o in found}


def shot(program: Program, *ports: int, key: bytes = b"\1", weight: int = 1) -> p4r.TableEntry:
    return entry(program, "selector_table", exact(1, key), action=action_set(program, *ports, weight=weight))


def test_one_shot(client: Client, running: Running, program: Program) -> None:
    before = everything(client)
    client.write(update(INSERT, table_entry=shot(program, 1, 2, 3)))
    assert seen(running) == {1, 2, 3}
    (found,) = client.read(p4r.Entity(table_entry=entry(program, "selector_table")))
    assert found.table_entry == shot(program, 1, 2, 3)
    assert (
        client.read(
            p4r.Entity(action_profile_member=p4r.ActionProfileMember()),
            p4r.Entity(action_profile_group=p4r.ActionProfileGroup()),
        )
        == []
    )
    client.write(update(MODIFY, table_entry=shot(program, 4)))
    assert seen(running) == {4}
    client.write(update(MODIFY, table_entry=shot(program)))  # an empty group: the default entry
    assert seen(running) == {0}  # NoAction
    client.write(update(MODIFY, table_entry=shot(program, 4, 4, 5)))  # the same action twice is not folded
    (found,) = client.read(p4r.Entity(table_entry=entry(program, "selector_table")))
    assert found.table_entry == shot(program, 4, 4, 5)
    client.write(update(DELETE, table_entry=entry(program, "selector_table", exact(1, b"\1"))))
    assert everything(client) == before


def test_one_shot_is_canonical(client: Client, program: Program) -> None:
    written = shot(program, 5)
    written.action.action_profile_action_set.action_profile_actions[0].action.params[0].value = b"\0\0\5"
    client.write(update(INSERT, table_entry=written))
    (found,) = client.read(p4r.Entity(table_entry=entry(program, "selector_table")))
    assert found.table_entry == shot(program, 5)


def test_one_shots_use_all_members_there_are(client: Client, running: Running, program: Program) -> None:
    """Sixteen members: they can be exchanged when all are in use, and come back when entries go."""
    client.write(*[update(INSERT, table_entry=shot(program, *range(8), key=bytes([n]))) for n in (1, 2)])
    assert client.codes(update(INSERT, table_entry=shot(program, 1, key=b"\3"))) == [8]
    client.write(update(MODIFY, table_entry=shot(program, *range(10, 18))))
    assert seen(running) <= set(range(10, 18))
    assert seen(running, number=2) <= set(range(8))
    for _ in range(5):
        client.write(update(DELETE, table_entry=entry(program, "selector_table", exact(1, b"\2"))))
        client.write(update(INSERT, table_entry=shot(program, *range(8), key=b"\2")))


def test_weights(client: Client, running: Running, program: Program) -> None:
    chosen = shot(program, 1, 2)
    chosen.action.action_profile_action_set.action_profile_actions[0].weight = 7
    client.write(update(INSERT, table_entry=chosen))
    ports = [running.switch.process(3, packet(6, number=1, address=n * 0x01010101))[0].port for n in range(200)]
    assert ports.count(1) > 3 * ports.count(2) > 0


def test_one_shot_or_members(client: Client, program: Program) -> None:
    """A selector takes the one or the other, and changes sides when it is empty."""
    client.write(update(INSERT, table_entry=shot(program, 1)))
    assert client.codes(update(INSERT, action_profile_member=member(program, "groups", 1, 1))) == [3]
    client.write(update(DELETE, table_entry=entry(program, "selector_table", exact(1, b"\1"))))
    client.write(update(INSERT, action_profile_member=member(program, "groups", 1, 1)))
    assert client.codes(update(INSERT, table_entry=shot(program, 1))) == [3]
    by_member = entry(program, "selector_table", exact(1, b"\1"), action=p4r.TableAction(action_profile_member_id=1))
    client.write(update(INSERT, table_entry=by_member))


def test_default_entry_names_a_member(client: Client, running: Running, program: Program) -> None:
    default = entry(
        program, "profile_table", is_default_action=True, action=p4r.TableAction(action_profile_member_id=1)
    )
    assert client.codes(update(MODIFY, table_entry=default)) == [5]
    client.write(update(INSERT, action_profile_member=member(program, "members", 1, 6)))
    client.write(update(MODIFY, table_entry=default))
    assert [o.port for o in running.switch.process(3, packet(5, number=77))] == [6]
    (found,) = client.read(p4r.Entity(table_entry=entry(program, "profile_table", is_default_action=True)))
    assert found.table_entry == default
    assert client.codes(update(DELETE, action_profile_member=member(program, "members", 1, 6))) == [9]
    client.write(update(MODIFY, table_entry=entry(program, "profile_table", is_default_action=True)))
    client.write(update(DELETE, action_profile_member=member(program, "members", 1, 6)))


def test_default_entry_is_a_one_shot(client: Client, running: Running, program: Program) -> None:
    before = everything(client)
    default = entry(program, "selector_table", is_default_action=True, action=action_set(program, 4, 5))
    client.write(update(MODIFY, table_entry=default))
    assert seen(running, number=99) == {4, 5}
    assert client.read(p4r.Entity(table_entry=entry(program, "selector_table", is_default_action=True))) == [
        p4r.Entity(table_entry=default)
    ]
    client.write(update(MODIFY, table_entry=entry(program, "selector_table", is_default_action=True)))
    assert everything(client) == before


def test_modify_without_an_action_keeps_it(client: Client, running: Running, program: Program) -> None:
    """Also where it is a member, a group or a one-shot; metadata changes."""
    client.write(update(INSERT, action_profile_member=member(program, "members", 1, 6)))
    by_member = entry(program, "profile_table", exact(1, b"\1"), action=p4r.TableAction(action_profile_member_id=1))
    for written in (by_member, shot(program, 4, 5)):
        client.write(update(INSERT, table_entry=written))
        renamed = p4r.TableEntry(table_id=written.table_id, match=written.match, metadata=b"new name")
        client.write(update(MODIFY, table_entry=renamed))
        written.metadata = b"new name"
        assert client.read(p4r.Entity(table_entry=p4r.TableEntry(table_id=written.table_id))) == [
            p4r.Entity(table_entry=written)
        ]
    assert seen(running) == {4, 5}
    assert [o.port for o in running.switch.process(3, packet(5, number=1))] == [6]
    client.write(update(DELETE, table_entry=shot(program)))
    client.write(*[update(INSERT, action_profile_member=member(program, "groups", n, n)) for n in (1, 2)])
    group = p4r.ActionProfileGroup(action_profile_id=program.id("action_profiles", "groups"), group_id=1)
    group.members.add(member_id=2, weight=1)
    by_group = entry(program, "selector_table", exact(1, b"\1"), action=p4r.TableAction(action_profile_group_id=1))
    client.write(update(INSERT, action_profile_group=group), update(INSERT, table_entry=by_group))
    client.write(update(MODIFY, table_entry=entry(program, "selector_table", exact(1, b"\1"), metadata=b"x")))
    assert seen(running) == {2}


def test_member_values_are_canonical(client: Client, program: Program) -> None:
    written = member(program, "members", 1, 6)
    written.action.params[0].value = b"\0\6"
    client.write(update(INSERT, action_profile_member=written))
    (found,) = client.read(p4r.Entity(action_profile_member=p4r.ActionProfileMember()))
    assert found.action_profile_member == member(program, "members", 1, 6)


# ---------------------------------------------------------------------------------------------------------- watch ports


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, timeout=10)


@pytest.fixture
def watched(program: Program) -> Iterator[tuple[Running, str]]:
    """A server whose device has ports 11 and 12: the ends of a veth pair's two pairs. Gives the far end of 11."""
    names = [f"wp{os.getpid()}{letter}" for letter in "abcd"]
    ip("link", "add", names[0], "type", "veth", "peer", "name", names[1])
    ip("link", "add", names[2], "type", "veth", "peer", "name", names[3])
    try:
        for name in names:
            ip("link", "set", name, "up")
        with Switch(cpu_port=CPU_PORT) as switch:
            device = Device(DEVICE, switch, links=Links({11: names[0], 12: names[2]}))
            with serving(device) as running:
                yield running, names[1]
    finally:
        ip("link", "del", names[0])
        ip("link", "del", names[2])


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="interfaces need root")
def test_watch_ports(watched: tuple[Running, str], program: Program) -> None:
    """Members whose port is down are not chosen, and are again when it comes back; reads give back what was written."""
    running, far_end = watched
    with running.client(program) as client:
        selected = action_set(program, 1, 2)
        for one, port in zip(selected.action_profile_action_set.action_profile_actions, (11, 12), strict=True):
            one.watch_port = bytes([port])
        written = entry(program, "selector_table", exact(1, b"\1"), action=selected)
        written.action.action_profile_action_set.action_profile_actions[0].watch_port = b"\0\x0b"
        client.write(update(INSERT, table_entry=written))
        written.action.action_profile_action_set.action_profile_actions[0].watch_port = b"\x0b"
        wanted = p4r.Entity(table_entry=entry(program, "selector_table"))
        assert client.read(wanted) == [p4r.Entity(table_entry=written)]
        client.write(update(DELETE, table_entry=written))
        until(lambda: running.device.links.is_up(11) and running.device.links.is_up(12))
        client.write(update(INSERT, table_entry=written))
        assert seen(running) == {1, 2}
        ip("link", "set", far_end, "down")
        until(lambda: seen(running) == {2})
        assert client.read(p4r.Entity(table_entry=entry(program, "selector_table"))) == [
            p4r.Entity(table_entry=written)
        ]
        ip("link", "set", far_end, "up")
        until(lambda: seen(running) == {1, 2})
        client.write(update(DELETE, table_entry=entry(program, "selector_table", exact(1, b"\1"))))

        client.write(*[update(INSERT, action_profile_member=member(program, "groups", n, n)) for n in (1, 2)])
        group = p4r.ActionProfileGroup(action_profile_id=program.id("action_profiles", "groups"), group_id=1)
        group.members.add(member_id=1, weight=1, watch_port=b"\x0b")
        group.members.add(member_id=2, weight=1, watch=12)
        ip("link", "set", far_end, "down")
        until(lambda: not running.device.links.is_up(11))
        client.write(update(INSERT, action_profile_group=group))
        chosen = p4r.TableAction(action_profile_group_id=1)
        client.write(update(INSERT, table_entry=entry(program, "selector_table", exact(1, b"\1"), action=chosen)))
        assert seen(running) == {2}
        assert client.codes(update(DELETE, action_profile_member=member(program, "groups", 1, 1))) == [9]
        ip("link", "set", far_end, "up")
        until(lambda: seen(running) == {1, 2})


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="interfaces need root")
def test_backup_replicas(watched: tuple[Running, str], program: Program) -> None:
    """A replica goes to the first of its ports that is up, and to its own when none is."""
    running, far_end = watched

    def ports(op: int, number: int) -> list[int]:
        return [o.port for o in running.switch.process(3, packet(op, number=number))]

    with running.client(program) as client:
        until(lambda: running.device.links.is_up(11) and running.device.links.is_up(12))
        group = p4r.MulticastGroupEntry(multicast_group_id=4)
        group.replicas.add(port=b"\x0b", instance=1).backup_replicas.add(port=b"\x0c", instance=2)
        group.replicas.add(port=b"\5", instance=3)
        client.write(update(INSERT, **replication(multicast_group_entry=group)))
        session = p4r.CloneSessionEntry(session_id=9)
        session.replicas.add(port=b"\x0b", instance=1).backup_replicas.add(port=b"\6", instance=2)
        client.write(update(INSERT, **replication(clone_session_entry=session)))
        assert (ports(12, 4), ports(13, 9)) == ([11, 5], [11, 1])
        ip("link", "set", far_end, "down")
        until(lambda: ports(12, 4) == [12, 5])
        until(lambda: ports(13, 9) == [6, 1])
        found = client.read(p4r.Entity(packet_replication_engine_entry=p4r.PacketReplicationEngineEntry()))
        assert [f.packet_replication_engine_entry.WhichOneof("type") for f in found] == [
            "multicast_group_entry",
            "clone_session_entry",
        ]
        assert found[0].packet_replication_engine_entry.multicast_group_entry == group
        ip("link", "set", far_end, "up")
        until(lambda: ports(12, 4) == [11, 5])


def until(condition: object, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_group_of_other_actions(client: Client, running: Running, program: Program) -> None:
    """Members of a group may run different actions, also one that drops."""
    owner = program.id("action_profiles", "groups")
    drop = p4r.ActionProfileMember(action_profile_id=owner, member_id=2, action=action(program, "drop").action)
    client.write(update(INSERT, action_profile_member=member(program, "groups", 1, 1)))
    client.write(update(INSERT, action_profile_member=drop))
    group = p4r.ActionProfileGroup(action_profile_id=owner, group_id=1)
    for number in (1, 2):
        group.members.add(member_id=number, weight=1)
    client.write(update(INSERT, action_profile_group=group))
    chosen = p4r.TableAction(action_profile_group_id=1)
    client.write(update(INSERT, table_entry=entry(program, "selector_table", exact(1, b"\1"), action=chosen)))
    assert seen(running) == {1}
