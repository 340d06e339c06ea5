"""Batches that are all or nothing, of every kind of entity; the oracle is a read of everything before and after."""

from __future__ import annotations

import itertools

import pytest
from finsy.proto import p4d, p4r
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.p4switch.server.conftest import Client, Program, Running, everything
from tests.p4switch.server.entries import (
    DELETE,
    INSERT,
    MODIFY,
    action,
    action_set,
    entry,
    exact,
    lpm,
    member,
    packet,
    replication,
    ternary,
    update,
)

ALL_OR_NONE = (p4r.WriteRequest.ROLLBACK_ON_ERROR, p4r.WriteRequest.DATAPLANE_ATOMIC)
ABORTED = 10


def cells(program: Program) -> list[p4r.Update]:
    """Changes of cells, one and all of them."""
    found = []
    for index in (p4r.Index(index=1), None):
        data = p4r.CounterData(packet_count=7, byte_count=8)
        counter = p4r.CounterEntry(counter_id=program.id("counters", "op_counter"), index=index, data=data)
        config = p4r.MeterConfig(cir=1, cburst=2, pir=3, pburst=4)
        meter = p4r.MeterEntry(meter_id=program.id("meters", "op_meter"), index=index, config=config)
        for name, value in (
            ("op_register", p4d.P4Data(bitstring=b"\x05")),
            ("signed_register", p4d.P4Data(bitstring=b"\xfb")),
            ("bool_register", p4d.P4Data(bool=True)),
            ("level_register", p4d.P4Data(enum_value=b"\xc8")),
        ):
            register = p4r.RegisterEntry(register_id=program.id("registers", name), index=index, data=value)
            found.append(update(MODIFY, register_entry=register))
        found += [update(MODIFY, counter_entry=counter), update(MODIFY, meter_entry=meter)]
    return found


def changes(program: Program) -> list[p4r.Update]:
    """Updates of every kind; many of them depend on others and so succeed or fail by what comes before."""
    metered = action(program, "metered", b"\2")
    resources = {"counter_data": p4r.CounterData(packet_count=9), "meter_config": p4r.MeterConfig(cir=1, pir=1)}
    key = exact(1, b"\1")
    tables = [
        entry(program, "exact_table", key, action=metered, **resources),
        entry(program, "exact_table", key, action=metered, metadata=b"note"),
        entry(program, "exact_table", exact(1, b"\2"), action=metered),
        entry(program, "lpm_table", lpm(1, b"\x0a\0\0\0", 8), action=action(program, "forward", b"\4")),
        entry(program, "ternary_table", ternary(1, b"\1", b"\3"), priority=3, action=action(program, "drop")),
        entry(program, "initial_table", exact(1, b"\2"), action=action(program, "forward", b"\5")),
        entry(program, "profile_table", key, action=p4r.TableAction(action_profile_member_id=1)),
        entry(program, "selector_table", key, action=p4r.TableAction(action_profile_group_id=1)),
        entry(program, "selector_table", key, action=action_set(program, 1, 2)),
        entry(program, "selector_table", key, action=action_set(program, 3)),
    ]
    group = p4r.ActionProfileGroup(action_profile_id=program.id("action_profiles", "groups"), group_id=1, max_size=4)
    group.members.add(member_id=1, weight=2)
    multicast, session = p4r.MulticastGroupEntry(multicast_group_id=3), p4r.CloneSessionEntry(session_id=4)
    multicast.replicas.add(egress_port=5)
    session.replicas.add(egress_port=6)
    value_set = p4r.ValueSetEntry(value_set_id=program.id("value_sets", "special_tags"))
    value_set.members.add(match=[exact(1, b"\7")])
    digest = p4r.DigestEntry(
        digest_id=program.id("digests", "learned_t"), config=p4r.DigestEntry.Config(max_list_size=3)
    )
    found = [update(kind, table_entry=table) for table in tables for kind in (INSERT, MODIFY, DELETE)]
    default = entry(program, "lpm_table", is_default_action=True, action=action(program, "forward", b"\6"))
    default_member = entry(
        program, "profile_table", is_default_action=True, action=p4r.TableAction(action_profile_member_id=1)
    )
    found += [
        update(MODIFY, table_entry=default),
        update(MODIFY, table_entry=entry(program, "lpm_table", is_default_action=True)),
        update(MODIFY, table_entry=default_member),
        update(MODIFY, table_entry=entry(program, "exact_table", key, **resources)),
    ]
    for kind in (INSERT, MODIFY, DELETE):
        for profile, port in itertools.product(("members", "groups"), (1, 2)):
            found.append(update(kind, action_profile_member=member(program, profile, 1, port)))
        found += [
            update(kind, action_profile_group=group),
            update(kind, digest_entry=digest),
            update(kind, **replication(multicast_group_entry=multicast)),
            update(kind, **replication(clone_session_entry=session)),
        ]
    counted = p4r.DirectCounterEntry(table_entry=entry(program, "exact_table", key), data=p4r.CounterData(byte_count=4))
    direct = p4r.DirectMeterEntry(table_entry=entry(program, "exact_table", key), config=p4r.MeterConfig(pir=5))
    found += [
        update(MODIFY, value_set_entry=value_set),
        update(MODIFY, value_set_entry=p4r.ValueSetEntry(value_set_id=value_set.value_set_id)),
        update(MODIFY, direct_counter_entry=counted),
        update(MODIFY, direct_meter_entry=direct),
    ]
    return found + cells(program)


def test_what_fails_leaves_nothing(client: Client, program: Program) -> None:
    """Any batch, after any history: either all of it is there or none. What a batch does is what its updates do one by one."""
    every = changes(program)
    pick = st.integers(0, len(every) - 1)
    broken = update(DELETE, table_entry=entry(program, "exact_table", exact(1, b"\x63")))

    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(pick, max_size=8), st.lists(pick, min_size=1, max_size=10), st.sampled_from(ALL_OR_NONE))
    def run(history: list[int], batch: list[int], atomicity: int) -> None:
        client.set_pipeline(p4r.SetForwardingPipelineConfigRequest.VERIFY_AND_COMMIT, program.pipeline())
        for number in history:
            client.try_write(every[number])
        before = everything(client)
        updates = [every[n] for n in batch]
        codes = client.codes(*updates, broken, atomicity=atomicity)
        assert 0 not in codes
        assert sum(code != ABORTED for code in codes) == 1
        assert everything(client) == before
        # The same without what fails.
        failed = client.codes(*updates, atomicity=atomicity)
        if any(failed):
            assert everything(client) == before
            return
        after = everything(client)
        client.set_pipeline(p4r.SetForwardingPipelineConfigRequest.VERIFY_AND_COMMIT, program.pipeline())
        for number in history:
            client.try_write(every[number])
        assert client.codes(*updates) == [0] * len(updates)
        assert everything(client) == after

    run()


def test_packets_see_all_or_nothing(client: Client, running: Running, program: Program) -> None:
    """What a failed batch would have changed has not changed for packets either."""
    shot = entry(program, "selector_table", exact(1, b"\1"), action=action_set(program, 2, 3))
    client.write(update(INSERT, table_entry=shot), *cells(program))
    changed = entry(program, "selector_table", exact(1, b"\1"), action=action_set(program, 8))
    gone = update(DELETE, table_entry=entry(program, "exact_table", exact(1, b"\x63")))
    for atomicity in ALL_OR_NONE:
        codes = client.codes(update(MODIFY, table_entry=changed), gone, atomicity=atomicity)
        assert codes == [ABORTED, 5]
        seen = {running.switch.process(1, packet(6, number=1, address=n * 0x01010101))[0].port for n in range(40)}
        assert seen == {2, 3}
    assert client.codes(update(MODIFY, table_entry=changed), atomicity=ALL_OR_NONE[1]) == [0]
    assert running.switch.process(1, packet(6, number=1))[0].port == 8


@pytest.mark.parametrize("atomicity", ALL_OR_NONE)
def test_a_large_batch(client: Client, running: Running, program: Program, atomicity: int) -> None:
    table = running.switch.layout.tables["EntitiesIngress.lpm_table"].index
    updates = [
        update(
            INSERT,
            table_entry=entry(
                program,
                "lpm_table",
                lpm(1, (n << 8 | 1 << 24).to_bytes(4, "big"), 24),
                action=action(program, "forward", b"\1"),
            ),
        )
        for n in range(4000)
    ]
    request = client.write_request(*updates, updates[0], atomicity=atomicity)
    assert not client.accepts(request)
    assert running.switch.entry_count(table) == 0
    client.write(*updates, atomicity=atomicity)
    assert running.switch.entry_count(table) == 4000
