"""Refusals: the code and the text, which is to name the value and what would be valid. ``errors.golden`` holds them all;
``UPDATE_GOLDEN=1`` rewrites it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from finsy.proto import p4r

from p4switch.server.errors import Code
from tests.p4switch.server.conftest import Client, Program
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
    ternary,
    update,
)

GOLDEN = Path(__file__).parent / "errors.golden"


def table_errors(program: Program) -> dict[str, p4r.Update]:
    metered, forward = action(program, "metered", b"\1"), action(program, "forward", b"\1")

    def exact_entry(*matches: p4r.FieldMatch, **rest: Any) -> p4r.TableEntry:
        return entry(program, "exact_table", *matches, **{"action": metered, **rest})

    def ternary_entry(*matches: p4r.FieldMatch, **rest: Any) -> p4r.TableEntry:
        return entry(program, "ternary_table", *matches, **{"action": forward, "priority": 1, **rest})

    one = exact(1, b"\1")
    unknown_action = p4r.TableAction()
    unknown_action.action.action_id = 0x01FFFFFF
    twice, none = action(program, "metered", b"\1"), action(program, "metered")
    twice.action.params.add(param_id=1, value=b"\1")
    insert = {
        "no such table": p4r.TableEntry(table_id=0x02FFFFFF, match=[one], action=metered),
        "no table": p4r.TableEntry(match=[one], action=metered),
        "missing exact field": exact_entry(),
        "unknown field": exact_entry(one, exact(2, b"\1")),
        "field twice": exact_entry(one, one),
        "wrong kind of match": exact_entry(lpm(1, b"\1", 8)),
        "match without a value": exact_entry(p4r.FieldMatch(field_id=1)),
        "value too large": exact_entry(exact(1, b"\1\0\0")),
        "empty value": exact_entry(exact(1, b"")),
        "priority without ternary keys": exact_entry(one, priority=5),
        "no action": entry(program, "exact_table", one),
        "unknown action": exact_entry(one, action=unknown_action),
        "action of another table": exact_entry(one, action=forward),
        "default-only action": exact_entry(one, action=action(program, "drop")),
        "missing parameter": exact_entry(one, action=none),
        "parameter twice": exact_entry(one, action=twice),
        "unknown parameter": exact_entry(one, action=action(program, "metered", b"\1", b"\1")),
        "parameter too large": exact_entry(one, action=action(program, "metered", b"\2\0")),
        "empty parameter": exact_entry(one, action=action(program, "metered", b"")),
        "member in a table without profile": exact_entry(one, action=p4r.TableAction(action_profile_member_id=1)),
        "idle timeout not supported": exact_entry(one, idle_timeout_ns=5),
        "prefix of length 0": entry(program, "lpm_table", lpm(1, b"\0", 0), action=forward),
        "prefix too long": entry(program, "lpm_table", lpm(1, b"\0", 33), action=forward),
        "negative prefix": entry(program, "lpm_table", lpm(1, b"\0", -1), action=forward),
        "bits beyond the prefix": entry(program, "lpm_table", lpm(1, b"\x0a\0\0\1", 8), action=forward),
        "no priority": ternary_entry(priority=0),
        "negative priority": ternary_entry(priority=-1),
        "mask of 0": ternary_entry(ternary(1, b"\0", b"\0")),
        "bits outside of the mask": ternary_entry(ternary(1, b"\3", b"\1")),
        "empty range": ternary_entry(in_range(2, b"\5", b"\4")),
        "full range": ternary_entry(in_range(2, b"\0", b"\xff\xff")),
        "optional too large": ternary_entry(optional(3, b"\1\0")),
        "const table": entry(program, "const_table", exact(1, b"\7"), action=forward),
        "action in a table with profile": entry(program, "profile_table", one, action=forward),
        "unknown member": entry(program, "profile_table", one, action=p4r.TableAction(action_profile_member_id=9)),
        "one-shot action set": entry(
            program,
            "selector_table",
            one,
            action=p4r.TableAction(action_profile_action_set=p4r.ActionProfileActionSet()),
        ),
    }
    return {
        **{name: update(INSERT, table_entry=value) for name, value in insert.items()},
        "no type": update(0, table_entry=exact_entry(one)),
        "modify an absent entry": update(MODIFY, table_entry=exact_entry(one)),
        "delete an absent entry": update(DELETE, table_entry=exact_entry(one)),
        "insert a default entry": update(
            INSERT, table_entry=entry(program, "lpm_table", is_default_action=True, action=forward)
        ),
        "default entry with a match": update(
            MODIFY, table_entry=entry(program, "lpm_table", lpm(1, b"\1", 32), is_default_action=True, action=forward)
        ),
        "const default": update(
            MODIFY, table_entry=entry(program, "exact_table", is_default_action=True, action=action(program, "drop"))
        ),
    }


def other_errors(program: Program) -> dict[str, p4r.Update]:
    counter, meter = program.id("counters", "op_counter"), program.id("meters", "op_meter")
    register = program.id("registers", "op_register")
    profile = program.id("action_profiles", "members")

    def index(number: int) -> p4r.Index:
        return p4r.Index(index=number)

    def replication(**kind: Any) -> p4r.PacketReplicationEngineEntry:
        return p4r.PacketReplicationEngineEntry(**kind)

    bad_port = p4r.MulticastGroupEntry(multicast_group_id=1)
    bad_port.replicas.add(egress_port=600)
    twice = p4r.MulticastGroupEntry(multicast_group_id=1)
    for _ in range(2):
        twice.replicas.add(egress_port=1, instance=1)
    crossed = p4r.MeterConfig(cir=5, cburst=1, pir=4, pburst=1)
    wide = p4r.RegisterEntry(register_id=register, index=index(0))
    wide.data.bitstring = b"\x10\0\0"
    member = p4r.ActionProfileMember(action_profile_id=profile, member_id=1)
    group = p4r.ActionProfileGroup(action_profile_id=program.id("action_profiles", "groups"), group_id=1)
    group.members.add(member_id=77, weight=1)
    full = p4r.ValueSetEntry(value_set_id=program.id("value_sets", "special_tags"))
    for n in range(5):
        full.members.add(match=[exact(1, bytes([n]))])
    no_counter = p4r.DirectCounterEntry(table_entry=entry(program, "lpm_table", lpm(1, b"\1", 32)))
    absent = p4r.DirectCounterEntry(table_entry=entry(program, "exact_table", exact(1, b"\1")))
    return {
        "no entity": p4r.Update(type=INSERT),
        "counter: insert": update(INSERT, counter_entry=p4r.CounterEntry(counter_id=counter, index=index(0))),
        "counter: no such": update(MODIFY, counter_entry=p4r.CounterEntry(counter_id=1, index=index(0))),
        "counter: no index": update(MODIFY, counter_entry=p4r.CounterEntry(counter_id=counter)),
        "counter: index too large": update(MODIFY, counter_entry=p4r.CounterEntry(counter_id=counter, index=index(8))),
        "counter: negative index": update(MODIFY, counter_entry=p4r.CounterEntry(counter_id=counter, index=index(-1))),
        "direct counter: table has none": update(MODIFY, direct_counter_entry=no_counter),
        "direct counter: no such entry": update(MODIFY, direct_counter_entry=absent),
        "meter: committed above peak": update(
            MODIFY, meter_entry=p4r.MeterEntry(meter_id=meter, index=index(0), config=crossed)
        ),
        "meter: negative": update(
            MODIFY, meter_entry=p4r.MeterEntry(meter_id=meter, index=index(0), config=p4r.MeterConfig(cir=-1))
        ),
        "register: value too large": update(MODIFY, register_entry=wide),
        "register: no data": update(MODIFY, register_entry=p4r.RegisterEntry(register_id=register, index=index(0))),
        "member: no action": update(INSERT, action_profile_member=member),
        "member: delete an absent one": update(DELETE, action_profile_member=member),
        "group: unknown member": update(INSERT, action_profile_group=group),
        "value set: too many": update(MODIFY, value_set_entry=full),
        "value set: insert": update(INSERT, value_set_entry=full),
        "digest: no such": update(INSERT, digest_entry=p4r.DigestEntry(digest_id=1)),
        "digest: modify before insert": update(
            MODIFY, digest_entry=p4r.DigestEntry(digest_id=program.id("digests", "learned_t"))
        ),
        "multicast: group 0": update(
            INSERT, packet_replication_engine_entry=replication(multicast_group_entry=p4r.MulticastGroupEntry())
        ),
        "multicast: port does not exist": update(
            INSERT, packet_replication_engine_entry=replication(multicast_group_entry=bad_port)
        ),
        "multicast: the same replica twice": update(
            INSERT, packet_replication_engine_entry=replication(multicast_group_entry=twice)
        ),
        "multicast: modify an absent one": update(
            MODIFY,
            packet_replication_engine_entry=replication(
                multicast_group_entry=p4r.MulticastGroupEntry(multicast_group_id=9)
            ),
        ),
        "clone session: delete an absent one": update(
            DELETE, packet_replication_engine_entry=replication(clone_session_entry=p4r.CloneSessionEntry(session_id=9))
        ),
        "extern entry": update(INSERT, extern_entry=p4r.ExternEntry(extern_type_id=1)),
    }


def test_every_refusal(client: Client, program: Program) -> None:
    lines = []
    for name, wrong in {**table_errors(program), **other_errors(program)}.items():
        ((code, text),) = client.failures(wrong)
        assert code not in (Code.OK, Code.UNKNOWN, Code.INTERNAL), name
        lines.append(f"{name}: {Code(code).name}: {text}")
    found = "\n".join(lines) + "\n"
    if os.environ.get("UPDATE_GOLDEN"):
        GOLDEN.write_text(found)
    assert found == GOLDEN.read_text()
    # None of it left a trace.
    held = client.read(p4r.Entity(table_entry=p4r.TableEntry()))
    assert {e.table_entry.table_id for e in held} == {program.id("tables", "const_table")}
