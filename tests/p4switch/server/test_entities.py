"""Every kind of entity written, read back and seen to act on packets."""

from __future__ import annotations

import time
from typing import Any

import grpc
import pytest
from finsy.proto import p4r

from tests.p4switch.server.conftest import Client, Program, Running
from tests.p4switch.server.entries import (
    DELETE,
    INSERT,
    MODIFY,
    action,
    entry,
    exact,
    in_range,
    lpm,
    optional,
    packet,
    ternary,
    update,
)


def ports(running: Running, data: bytes) -> list[int]:
    return [o.port for o in running.switch.process(3, data)]


def one(client: Client, **entity: Any) -> Any:
    """The one entity that a read gives."""
    (found,) = client.read(p4r.Entity(**entity))
    (name,) = entity
    return getattr(found, name)


def member_action(program: Program, port: int) -> p4r.Action:
    return action(program, "forward", bytes([port])).action


def test_table_entries_are_canonical(client: Client, running: Running, program: Program) -> None:
    written = entry(program, "lpm_table", lpm(1, b"\0\0\x0a\0\0\0", 8), action=action(program, "forward", b"\0\0\0\2"))
    client.write(update(INSERT, table_entry=written))
    found = one(client, table_entry=entry(program, "lpm_table"))
    assert found.match[0].lpm.value == b"\x0a\0\0\0"
    assert found.action.action.params[0].value == b"\2"
    assert ports(running, packet(2, address=0x0A010203)) == [2]
    client.write(
        update(
            MODIFY, table_entry=entry(program, "lpm_table", lpm(1, b"\x0a\0\0\0", 8), action=action(program, "drop"))
        )
    )
    assert ports(running, packet(2, address=0x0A010203)) == []
    client.write(update(DELETE, table_entry=entry(program, "lpm_table", lpm(1, b"\x0a\0\0\0", 8))))
    assert client.read(p4r.Entity(table_entry=entry(program, "lpm_table"))) == []


def test_dont_care_is_left_out(client: Client, running: Running, program: Program) -> None:
    everything = entry(program, "ternary_table", priority=1, action=action(program, "forward", b"\1"))
    some = entry(
        program,
        "ternary_table",
        ternary(1, b"\x0a\0\0\0", b"\xff\0\0\0"),
        in_range(2, b"\5", b"\x0a"),
        optional(3, b"\0"),
        priority=7,
        action=action(program, "forward_and_tag", b"\2", b"\x77"),
    )
    client.write(update(INSERT, table_entry=everything), update(INSERT, table_entry=some))
    found = client.read(p4r.Entity(table_entry=entry(program, "ternary_table")))
    by_priority = {e.table_entry.priority: e.table_entry for e in found}
    assert len(by_priority[1].match) == 0
    assert by_priority[7] == some
    assert running.switch.process(3, packet(3, 0, 7, 0x0A000001))[0].data[1] == 0x77
    assert ports(running, packet(3, 0, 11, 0x0A000001)) == [1]
    assert one(client, table_entry=some) == some


def test_default_entry(client: Client, running: Running, program: Program) -> None:
    default = entry(program, "ternary_table", is_default_action=True)
    assert one(client, table_entry=default).action.action.params[0].value == b"\x09"
    changed = entry(program, "ternary_table", is_default_action=True, action=action(program, "forward", b"\4"))
    client.write(update(MODIFY, table_entry=changed))
    assert ports(running, packet(3)) == [4]
    client.write(update(MODIFY, table_entry=default))  # without an action: back to the program's
    assert ports(running, packet(3)) == [9]


def test_wildcard_read(client: Client, program: Program) -> None:
    client.write(
        *[
            update(
                INSERT,
                table_entry=entry(
                    program, "exact_table", exact(1, bytes([n])), action=action(program, "metered", b"\1")
                ),
            )
            for n in range(1, 4)
        ],
        update(INSERT, table_entry=entry(program, "lpm_table", action=action(program, "forward", b"\1"))),
    )
    found = client.read(p4r.Entity(table_entry=p4r.TableEntry()))
    tables = [e.table_entry.table_id for e in found]
    assert tables.count(program.id("tables", "exact_table")) == 3
    assert tables.count(program.id("tables", "lpm_table")) == 1
    assert tables.count(program.id("tables", "const_table")) == 2
    assert not any(e.table_entry.HasField("counter_data") for e in found)


def test_direct_counter_and_meter(client: Client, running: Running, program: Program) -> None:
    match = entry(program, "exact_table", exact(1, b"\5"))
    client.write(
        update(
            INSERT, table_entry=entry(program, "exact_table", exact(1, b"\5"), action=action(program, "metered", b"\1"))
        )
    )
    for _ in range(3):
        ports(running, packet(1, number=5))
    counter = p4r.DirectCounterEntry(table_entry=match)
    data = one(client, direct_counter_entry=counter).data
    assert (data.packet_count, data.byte_count) == (3, 24)
    wanted = p4r.TableEntry(table_id=match.table_id, counter_data=p4r.CounterData(), meter_config=p4r.MeterConfig())
    found = one(client, table_entry=wanted)
    assert found.counter_data.packet_count == 3
    assert not found.HasField("meter_config")
    counter.data.packet_count = 100
    client.write(update(MODIFY, direct_counter_entry=counter))
    assert one(client, direct_counter_entry=p4r.DirectCounterEntry(table_entry=match)).data.packet_count == 100

    config = p4r.MeterConfig(cir=0, cburst=1, pir=0, pburst=2)
    client.write(update(MODIFY, direct_meter_entry=p4r.DirectMeterEntry(table_entry=match, config=config)))
    colours = [running.switch.process(3, packet(1, number=5))[0].data[1] for _ in range(3)]
    assert colours == [0, 1, 2]
    assert one(client, direct_meter_entry=p4r.DirectMeterEntry(table_entry=match)).config == config
    assert one(client, table_entry=wanted).meter_config == config


def test_indirect_counter(client: Client, running: Running, program: Program) -> None:
    number = program.id("counters", "op_counter")
    for _ in range(2):
        ports(running, packet(8, number=3))
    cell = p4r.CounterEntry(counter_id=number, index=p4r.Index(index=3))
    assert one(client, counter_entry=cell).data == p4r.CounterData(packet_count=2, byte_count=16)
    assert len(client.read(p4r.Entity(counter_entry=p4r.CounterEntry(counter_id=number)))) == 8
    cell.data.packet_count = 40
    client.write(update(MODIFY, counter_entry=cell))
    assert one(client, counter_entry=cell).data.packet_count == 40


def test_indirect_meter(client: Client, running: Running, program: Program) -> None:
    cell = p4r.MeterEntry(meter_id=program.id("meters", "op_meter"), index=p4r.Index(index=2))
    assert not one(client, meter_entry=cell).HasField("config")
    cell.config.CopyFrom(p4r.MeterConfig(cir=0, cburst=2, pir=0, pburst=3))
    client.write(update(MODIFY, meter_entry=cell))
    assert [running.switch.process(3, packet(9, number=2))[0].data[1] for _ in range(5)] == [0, 0, 1, 2, 2]
    assert one(client, meter_entry=p4r.MeterEntry(meter_id=cell.meter_id, index=cell.index)) == cell
    cell.ClearField("config")
    client.write(update(MODIFY, meter_entry=cell))
    assert running.switch.process(3, packet(9, number=2))[0].data[1] == 0


def test_register(client: Client, running: Running, program: Program) -> None:
    cell = p4r.RegisterEntry(register_id=program.id("registers", "op_register"), index=p4r.Index(index=1))
    cell.data.bitstring = b"\x0f\xff\xfe"
    client.write(update(MODIFY, register_entry=cell))
    ports(running, packet(10, number=1))
    assert one(client, register_entry=cell).data.bitstring == b"\x0f\xff\xff"
    ports(running, packet(10, number=1))
    assert one(client, register_entry=cell).data.bitstring == b"\0"


def test_profile_and_selector(client: Client, running: Running, program: Program) -> None:
    profile, selector = program.id("action_profiles", "members"), program.id("action_profiles", "groups")

    def member(owner: int, number: int, port: int) -> p4r.ActionProfileMember:
        return p4r.ActionProfileMember(action_profile_id=owner, member_id=number, action=member_action(program, port))

    client.write(update(INSERT, action_profile_member=member(profile, 1, 6)))
    by_member = entry(program, "profile_table", exact(1, b"\1"), action=p4r.TableAction(action_profile_member_id=1))
    client.write(update(INSERT, table_entry=by_member))
    assert ports(running, packet(5, number=1)) == [6]
    client.write(update(MODIFY, action_profile_member=member(profile, 1, 7)))
    assert ports(running, packet(5, number=1)) == [7]
    assert one(client, table_entry=entry(program, "profile_table")) == by_member

    for number in (1, 2):
        client.write(update(INSERT, action_profile_member=member(selector, number, 10 + number)))
    group = p4r.ActionProfileGroup(action_profile_id=selector, group_id=5, max_size=8)
    for number in (1, 2):
        group.members.add(member_id=number, weight=1)
    client.write(update(INSERT, action_profile_group=group))
    by_group = entry(program, "selector_table", exact(1, b"\1"), action=p4r.TableAction(action_profile_group_id=5))
    client.write(update(INSERT, table_entry=by_group))
    chosen = [ports(running, packet(6, number=1, address=n * 0x01010101))[0] for n in range(40)]
    assert set(chosen) == {11, 12}
    assert one(client, action_profile_group=p4r.ActionProfileGroup(action_profile_id=selector)) == group
    used = p4r.ActionProfileGroup(action_profile_id=selector, group_id=5)
    ((code, _),) = client.failures(update(DELETE, action_profile_group=used))
    assert code == 9
    client.write(update(DELETE, table_entry=entry(program, "selector_table", exact(1, b"\1"))))
    client.write(update(DELETE, action_profile_group=used))
    assert client.read(p4r.Entity(action_profile_group=p4r.ActionProfileGroup())) == []


def test_value_set(client: Client, running: Running, program: Program) -> None:
    number = program.id("value_sets", "special_tags")
    tag = lambda value: running.switch.process(3, packet(15, tag=value))[0].data[1]  # noqa: E731
    assert tag(5) == 0
    value_set = p4r.ValueSetEntry(value_set_id=number)
    value_set.members.add(match=[exact(1, b"\5")])
    client.write(update(MODIFY, value_set_entry=value_set))
    assert (tag(5), tag(6)) == (1, 0)
    assert one(client, value_set_entry=p4r.ValueSetEntry(value_set_id=number)) == value_set
    client.write(update(MODIFY, value_set_entry=p4r.ValueSetEntry(value_set_id=number)))
    assert tag(5) == 0


def replication(**kind: Any) -> dict[str, Any]:
    return {"packet_replication_engine_entry": p4r.PacketReplicationEngineEntry(**kind)}


def test_multicast_and_clones(client: Client, running: Running) -> None:
    group = p4r.MulticastGroupEntry(multicast_group_id=4)
    for port in (5, 6):
        group.replicas.add(egress_port=port, instance=1)
    session = p4r.CloneSessionEntry(session_id=9, packet_length_bytes=4)
    session.replicas.add(egress_port=7, instance=1)
    client.write(
        update(INSERT, **replication(multicast_group_entry=group)),
        update(INSERT, **replication(clone_session_entry=session)),
    )
    assert ports(running, packet(12, number=4)) == [5, 6]
    outputs = running.switch.process(3, packet(13, number=9))
    assert [(o.port, len(o.data)) for o in outputs] == [(7, 4), (1, 8)]
    read = one(client, **replication(multicast_group_entry=p4r.MulticastGroupEntry(multicast_group_id=4)))
    assert read.multicast_group_entry == group
    read = one(client, **replication(clone_session_entry=p4r.CloneSessionEntry(session_id=9)))
    assert read.clone_session_entry == session
    group.replicas[0].port = b"\0\0\5"
    group.metadata = b"note"
    client.write(update(MODIFY, **replication(multicast_group_entry=group)))
    group.replicas[0].port = b"\5"  # the shortest comes back
    read = one(client, **replication(multicast_group_entry=p4r.MulticastGroupEntry(multicast_group_id=4)))
    assert read.multicast_group_entry == group
    client.write(update(DELETE, **replication(multicast_group_entry=p4r.MulticastGroupEntry(multicast_group_id=4))))
    assert ports(running, packet(12, number=4)) == []


def test_digest_lists(client: Client, running: Running, program: Program) -> None:
    number = program.id("digests", "learned_t")
    stream = client.streams[0]
    ports(running, packet(11, address=1))  # nobody asked yet
    running.switch.inject(3, packet(14, number=1))
    assert stream.next().packet.payload  # what came before it has been dealt with
    config = p4r.DigestEntry.Config(max_timeout_ns=0, max_list_size=1, ack_timeout_ns=10**10)
    client.write(update(INSERT, digest_entry=p4r.DigestEntry(digest_id=number, config=config)))
    ports(running, packet(11, address=0x01020304))
    digest = stream.next().digest
    (data,) = digest.data
    members = data.struct.members
    assert (members[0].bitstring, members[1].bitstring, members[2].bool) == (b"\3", b"\1\2\3\4", True)
    # The same again is held back until it is acknowledged.
    ports(running, packet(11, address=0x01020304))
    ports(running, packet(11, address=9))
    assert stream.next().digest.data[0].struct.members[1].bitstring == b"\x09"
    stream.send(digest_ack=p4r.DigestListAck(digest_id=number, list_id=digest.list_id))
    message = p4r.PacketOut(payload=b"behind it")
    message.metadata.add(metadata_id=1, value=b"\5")
    stream.send(packet=message)
    while not running.switch.outputs():
        time.sleep(0.01)
    ports(running, packet(11, address=0x01020304))
    assert stream.next().digest.data[0].struct.members[1].bitstring == b"\1\2\3\4"


def test_idle_timeout(client: Client, running: Running, program: Program) -> None:
    written = entry(
        program, "idle_table", exact(1, b"\1"), action=action(program, "forward", b"\1"), idle_timeout_ns=100_000_000
    )
    client.write(update(INSERT, table_entry=written))
    notice = client.streams[0].next().idle_timeout_notification
    assert notice.table_entry[0].match == written.match
    wanted = p4r.TableEntry(table_id=written.table_id, time_since_last_hit=p4r.TableEntry.IdleTimeout())
    assert one(client, table_entry=wanted).time_since_last_hit.elapsed_ns >= 100_000_000


def test_table_is_full(client: Client, program: Program) -> None:
    entries = [
        update(
            INSERT,
            table_entry=entry(
                program, "exact_table", exact(1, bytes([n + 1])), action=action(program, "metered", b"\1")
            ),
        )
        for n in range(9)
    ]
    codes = [code for code, _ in client.failures(*entries)]
    assert codes == [0] * 8 + [8]


def many(program: Program, numbers: range) -> list[p4r.Update]:
    forward = action(program, "forward", b"\1")
    keys = [lpm(1, (n << 8 | 1 << 24).to_bytes(4, "big"), 24) for n in numbers]
    return [update(INSERT, table_entry=entry(program, "lpm_table", key, action=forward)) for key in keys]


def test_many_entries_in_one_write(client: Client, running: Running, program: Program) -> None:
    """4,096 fit and come back in one read, however many responses that takes."""
    client.write(*many(program, range(4096)))
    assert len(client.read(p4r.Entity(table_entry=entry(program, "lpm_table")))) == 4096
    assert ports(running, packet(2, address=1 << 24 | 4095 << 8 | 7)) == [1]
    assert ports(running, packet(2, address=1 << 24 | 4096 << 8)) == []


@pytest.mark.parametrize(("count", "texts"), [(20, True), (80, False)])
def test_details_of_a_large_batch(client: Client, program: Program, count: int, texts: bool) -> None:
    """gRPC limits the size of a status: first the texts go, the codes stay."""
    client.write(*many(program, range(4090)))
    failures = client.failures(*many(program, range(4090, 4090 + count)))
    assert [code for code, _ in failures] == [0] * 6 + [8] * (count - 6)
    assert ("table is full" in failures[6][1]) is texts


def test_details_of_a_very_large_batch(client: Client, program: Program) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        client.write(*many(program, range(4100)))
    assert caught.value.code() is grpc.StatusCode.UNKNOWN
    assert "4 of 4100 updates failed; the first, number 4096: " in caught.value.details()
    assert "failed: 4096, 4097, 4098, 4099;" in caught.value.details()
