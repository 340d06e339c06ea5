"""Updates and reads that the server must refuse, by name. ``prepared`` is what must be there for some of them."""

from __future__ import annotations

from typing import Any

from finsy.proto import p4d, p4r

from tests.p4switch.server.conftest import Program
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


def prepared(program: Program) -> list[p4r.Update]:
    """Members and groups in one selector, a one-shot cannot be there too."""
    selector, profile = program.id("action_profiles", "groups"), program.id("action_profiles", "members")
    forward = action(program, "forward", b"\1").action
    group = p4r.ActionProfileGroup(action_profile_id=selector, group_id=5, max_size=4)
    group.members.add(member_id=5, weight=1)
    return [
        update(
            INSERT,
            action_profile_member=p4r.ActionProfileMember(action_profile_id=selector, member_id=5, action=forward),
        ),
        update(
            INSERT,
            action_profile_member=p4r.ActionProfileMember(action_profile_id=profile, member_id=5, action=forward),
        ),
        update(INSERT, action_profile_group=group),
        update(
            INSERT,
            table_entry=entry(
                program, "selector_table", exact(1, b"\5"), action=p4r.TableAction(action_profile_group_id=5)
            ),
        ),
        update(INSERT, digest_entry=p4r.DigestEntry(digest_id=program.id("digests", "learned_t"))),
    ]


def table_errors(program: Program) -> dict[str, p4r.Update]:
    metered, forward = action(program, "metered", b"\1"), action(program, "forward", b"\1")

    def exact_entry(*matches: p4r.FieldMatch, **rest: Any) -> p4r.TableEntry:
        return entry(program, "exact_table", *matches, **{"action": metered, **rest})

    def ternary_entry(*matches: p4r.FieldMatch, **rest: Any) -> p4r.TableEntry:
        return entry(program, "ternary_table", *matches, **{"action": forward, "priority": 1, **rest})

    def idle_entry(**rest: Any) -> p4r.TableEntry:
        return entry(program, "idle_table", exact(1, b"\1"), action=forward, **rest)

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
        "unknown group": entry(program, "selector_table", one, action=p4r.TableAction(action_profile_group_id=9)),
        "group without selector": entry(
            program, "profile_table", one, action=p4r.TableAction(action_profile_group_id=9)
        ),
        "is_const": exact_entry(one, is_const=True),
        "negative idle timeout": idle_entry(idle_timeout_ns=-1),
        "time since the last hit": idle_entry(time_since_last_hit=p4r.TableEntry.IdleTimeout()),
        "time since the last hit without timeouts": exact_entry(one, time_since_last_hit=p4r.TableEntry.IdleTimeout()),
        "keyless table": entry(program, "keyless_table", action=forward),
        "no direct counter": entry(program, "idle_table", one, action=forward, counter_data=p4r.CounterData()),
        "no direct meter": entry(program, "idle_table", one, action=forward, meter_config=p4r.MeterConfig()),
        "negative counter data": exact_entry(one, counter_data=p4r.CounterData(packet_count=-1)),
        "counters of colours": exact_entry(one, meter_counter_data=p4r.MeterCounterData()),
        "eburst": exact_entry(one, meter_config=p4r.MeterConfig(eburst=5)),
    }
    default = {"is_default_action": True, "action": forward}
    modify = {
        "default entry with a match": entry(program, "lpm_table", lpm(1, b"\1", 32), **default),
        "default entry with a priority": entry(program, "ternary_table", priority=1, **default),
        "default entry with a timeout": entry(program, "idle_table", idle_timeout_ns=5, **default),
        "const default": entry(program, "exact_table", is_default_action=True, action=action(program, "drop")),
        "table-only action as default": entry(program, "initial_table", **default),
        "default entry with a counter": entry(program, "const_table", counter_data=p4r.CounterData(), **default),
        "const entry": entry(program, "initial_table", one, action=forward),
        "const table, with an action": entry(
            program, "const_table", one, action=forward, counter_data=p4r.CounterData()
        ),
        "const entry, its metadata": entry(program, "initial_table", one, metadata=b"x"),
        "absent, without an action": entry(program, "exact_table", exact(1, b"\x63")),
    }
    return {
        **{name: update(INSERT, table_entry=value) for name, value in insert.items()},
        "no type": update(0, table_entry=exact_entry(one)),
        **{name: update(MODIFY, table_entry=value) for name, value in modify.items()},
        "delete a const entry": update(DELETE, table_entry=entry(program, "initial_table", one)),
        "delete a const table's entry": update(DELETE, table_entry=entry(program, "const_table", one)),
        "modify an absent entry": update(MODIFY, table_entry=exact_entry(one)),
        "delete an absent entry": update(DELETE, table_entry=exact_entry(one)),
        "insert a default entry": update(
            INSERT, table_entry=entry(program, "lpm_table", is_default_action=True, action=forward)
        ),
        "delete a default entry": update(
            DELETE, table_entry=entry(program, "lpm_table", is_default_action=True, action=forward)
        ),
    }


def profile_errors(program: Program) -> dict[str, p4r.Update]:
    """Members, groups and one-shot action sets."""
    selector, profile = program.id("action_profiles", "groups"), program.id("action_profiles", "members")

    def made(owner: int, number: int, name: str = "", *values: bytes) -> p4r.ActionProfileMember:
        chosen = action(program, name, *values).action if name else None
        return p4r.ActionProfileMember(action_profile_id=owner, member_id=number, action=chosen)

    def group(
        number: int, *members: tuple[int, int], owner: int = selector, max_size: int = 0, **watch: Any
    ) -> p4r.ActionProfileGroup:
        message = p4r.ActionProfileGroup(action_profile_id=owner, group_id=number, max_size=max_size)
        for member_id, weight in members:
            message.members.add(member_id=member_id, weight=weight, **watch)
        return message

    def one_shot(table: str, **changes: Any) -> p4r.TableEntry:
        chosen = p4r.TableAction()
        chosen.action_profile_action_set.SetInParent()
        for name, value in changes.items():
            setattr(chosen.action_profile_action_set, name, value)
        return entry(program, table, exact(1, b"\1"), action=chosen)

    insert_members = {
        "member: no profile": made(0, 1, "drop"),
        "member: no such profile": made(1, 1, "drop"),
        "member: id 0": made(profile, 0, "drop"),
        "member: an id above the clients'": made(profile, 1 << 31, "drop"),
        "member: twice": made(profile, 5, "drop"),
        "member: no action": made(profile, 1),
        "member: an action of another table": made(profile, 1, "metered", b"\1"),
        "member: a parameter too large": made(profile, 1, "forward", b"\2\0"),
    }
    insert_groups = {
        "group: no selector": group(1, owner=profile),
        "group: id 0": group(0),
        "group: twice": group(5),
        "group: unknown member": group(1, (77, 1)),
        "group: weight 0": group(1, (5, 0)),
        "group: negative weight": group(1, (5, -1)),
        "group: a member twice": group(1, (5, 1), (5, 1)),
        "group: larger than its max_size": group(1, (5, 3), max_size=2),
        "group: larger than the selector's groups": group(1, (5, 9)),
        "group: max_size above the selector's": group(1, max_size=9),
        "group: no such watch port": group(1, (5, 1), watch_port=b"\7"),
        "group: no such watch port, as a number": group(1, (5, 1), watch=7),
    }
    return {
        **{name: update(INSERT, action_profile_member=value) for name, value in insert_members.items()},
        **{name: update(INSERT, action_profile_group=value) for name, value in insert_groups.items()},
        "member: modify an absent one": update(MODIFY, action_profile_member=made(profile, 9, "drop")),
        "member: delete an absent one": update(DELETE, action_profile_member=made(profile, 9)),
        "member: delete one in a group": update(DELETE, action_profile_member=made(selector, 5)),
        "group: modify an absent one": update(MODIFY, action_profile_group=group(9)),
        "group: delete an absent one": update(DELETE, action_profile_group=group(9)),
        "group: delete one in use": update(DELETE, action_profile_group=group(5)),
        "group: another max_size": update(MODIFY, action_profile_group=group(5, (5, 1), max_size=5)),
        "one-shot: no selector": update(INSERT, table_entry=one_shot("profile_table")),
        "one-shot: no profile": update(INSERT, table_entry=one_shot("idle_table")),
        "one-shot: beside members and groups": update(INSERT, table_entry=one_shot("selector_table")),
    }


def one_shot_errors(program: Program) -> dict[str, p4r.Update]:
    """One-shot action sets in a selector that has no members and groups."""
    modes = p4r.ActionProfileActionSet
    sets = {
        "one-shot: at random": {"action_selection_mode": modes.RANDOM},
        "one-shot: other sizes": {"size_semantics": modes.SUM_OF_MEMBERS},
        "one-shot: weight 0": {"weight": 0},
        "one-shot: larger than the selector's groups": {"weight": 5},
        "one-shot: an action of another table": {"name": "metered"},
        "one-shot: no such watch port": {"watch_port": b"\7"},
    }
    found = {}
    for name, changes in sets.items():
        chosen = p4r.TableAction()
        actions = chosen.action_profile_action_set
        for port in (b"\1", b"\2"):
            one = actions.action_profile_actions.add(weight=changes.get("weight", 1))
            one.action.CopyFrom(action(program, changes.get("name", "forward"), port).action)
            if "watch_port" in changes:
                one.watch_port = changes["watch_port"]
        actions.action_selection_mode = changes.get("action_selection_mode", 0)
        actions.size_semantics = changes.get("size_semantics", 0)
        found[name] = update(INSERT, table_entry=entry(program, "selector_table", exact(1, b"\1"), action=chosen))
    return found


def other_errors(program: Program) -> dict[str, p4r.Update]:
    counter, meter = program.id("counters", "op_counter"), program.id("meters", "op_meter")
    register = program.id("registers", "op_register")

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
    signed = p4r.RegisterEntry(register_id=program.id("registers", "signed_register"), index=index(0))
    signed.data.bitstring = b"\x08\0"
    empty = p4r.RegisterEntry(register_id=signed.register_id, index=index(0), data=p4d.P4Data(bitstring=b""))
    learned = program.id("digests", "learned_t")
    negative = p4r.DigestEntry(digest_id=learned, config=p4r.DigestEntry.Config(max_list_size=-1))
    same_member = p4r.ValueSetEntry(value_set_id=program.id("value_sets", "special_tags"))
    for _ in range(2):
        same_member.members.add(match=[exact(1, b"\1")])
    many = p4r.MulticastGroupEntry(multicast_group_id=1)
    for n in range(1025):
        many.replicas.add(egress_port=1, instance=n)
    backups = p4r.MulticastGroupEntry(multicast_group_id=1)
    backups.replicas.add(egress_port=1).backup_replicas.add(port=b"\1", instance=2)
    shared_backup = p4r.MulticastGroupEntry(multicast_group_id=1)
    for n in (1, 2):
        shared_backup.replicas.add(egress_port=n).backup_replicas.add(port=b"\3")
    far = p4r.MulticastGroupEntry(multicast_group_id=1)
    far.replicas.add(egress_port=1, instance=1 << 16)
    coloured = p4r.MeterEntry(meter_id=meter, index=index(0), counter_data=p4r.MeterCounterData())
    single = p4r.MeterConfig(cir=5, cburst=1, pir=5, pburst=1, eburst=2)
    no_meter = p4r.DirectMeterEntry(table_entry=entry(program, "lpm_table", lpm(1, b"\1", 32)))
    default_counter = p4r.DirectCounterEntry(table_entry=entry(program, "const_table", is_default_action=True))
    full = p4r.ValueSetEntry(value_set_id=program.id("value_sets", "special_tags"))
    for n in range(5):
        full.members.add(match=[exact(1, bytes([n]))])
    no_counter = p4r.DirectCounterEntry(table_entry=entry(program, "lpm_table", lpm(1, b"\1", 32)))
    absent = p4r.DirectCounterEntry(table_entry=entry(program, "exact_table", exact(1, b"\1")))
    return {
        "no entity": p4r.Update(type=INSERT),
        "counter: insert": update(INSERT, counter_entry=p4r.CounterEntry(counter_id=counter, index=index(0))),
        "counter: no such": update(MODIFY, counter_entry=p4r.CounterEntry(counter_id=1, index=index(0))),
        "counter: no id": update(MODIFY, counter_entry=p4r.CounterEntry(index=index(0))),
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
        "register: signed value too large": update(MODIFY, register_entry=signed),
        "register: empty value": update(MODIFY, register_entry=empty),
        "register: index too large": update(
            MODIFY, register_entry=p4r.RegisterEntry(register_id=register, index=index(4), data=wide.data)
        ),
        "counter: negative data": update(
            MODIFY,
            counter_entry=p4r.CounterEntry(counter_id=counter, index=index(0), data=p4r.CounterData(byte_count=-1)),
        ),
        "direct counter: default entry": update(MODIFY, direct_counter_entry=default_counter),
        "direct counter: insert": update(INSERT, direct_counter_entry=absent),
        "direct meter: table has none": update(MODIFY, direct_meter_entry=no_meter),
        "meter: insert": update(INSERT, meter_entry=p4r.MeterEntry(meter_id=meter, index=index(0))),
        "meter: counters of colours": update(MODIFY, meter_entry=coloured),
        "meter: eburst": update(MODIFY, meter_entry=p4r.MeterEntry(meter_id=meter, index=index(0), config=single)),
        "value set: too many": update(MODIFY, value_set_entry=full),
        "value set: insert": update(INSERT, value_set_entry=full),
        "value set: a member twice": update(MODIFY, value_set_entry=same_member),
        "value set: no such": update(MODIFY, value_set_entry=p4r.ValueSetEntry(value_set_id=1)),
        "value set: wrong match": update(
            MODIFY,
            value_set_entry=p4r.ValueSetEntry(
                value_set_id=full.value_set_id, members=[p4r.ValueSetMember(match=[lpm(1, b"\1", 8)])]
            ),
        ),
        "digest: no such": update(INSERT, digest_entry=p4r.DigestEntry(digest_id=1)),
        "digest: insert twice": update(INSERT, digest_entry=p4r.DigestEntry(digest_id=learned)),
        "digest: modify before insert": update(
            MODIFY, digest_entry=p4r.DigestEntry(digest_id=program.id("digests", "nested_t"))
        ),
        "digest: negative list size": update(MODIFY, digest_entry=negative),
        **{
            f"multicast: {name}": update(kind, packet_replication_engine_entry=replication(multicast_group_entry=group))
            for name, kind, group in (
                ("group 0", INSERT, p4r.MulticastGroupEntry()),
                ("group too large", INSERT, p4r.MulticastGroupEntry(multicast_group_id=1 << 16)),
                ("port does not exist", INSERT, bad_port),
                ("the same replica twice", INSERT, twice),
                ("instance too large", INSERT, far),
                ("too many replicas", INSERT, many),
                ("its own backup", INSERT, backups),
                ("the same backup twice", INSERT, shared_backup),
                ("modify an absent one", MODIFY, p4r.MulticastGroupEntry(multicast_group_id=9)),
                ("delete an absent one", DELETE, p4r.MulticastGroupEntry(multicast_group_id=9)),
            )
        },
        **{
            f"clone session: {name}": update(
                kind, packet_replication_engine_entry=replication(clone_session_entry=session)
            )
            for name, kind, session in (
                ("id 0", INSERT, p4r.CloneSessionEntry()),
                ("id too large", INSERT, p4r.CloneSessionEntry(session_id=1 << 16)),
                ("negative length", INSERT, p4r.CloneSessionEntry(session_id=1, packet_length_bytes=-1)),
                ("class of service", INSERT, p4r.CloneSessionEntry(session_id=1, class_of_service=1)),
                ("delete an absent one", DELETE, p4r.CloneSessionEntry(session_id=9)),
            )
        },
        "replication: neither": update(INSERT, packet_replication_engine_entry=replication()),
        "extern entry": update(INSERT, extern_entry=p4r.ExternEntry(extern_type_id=1)),
    }


def read_errors(program: Program) -> dict[str, p4r.Entity]:
    """Read requests that make no sense."""
    one = exact(1, b"\1")
    return {
        "no entity": p4r.Entity(),
        "no such table": p4r.Entity(table_entry=p4r.TableEntry(table_id=1)),
        "a match without a table": p4r.Entity(table_entry=p4r.TableEntry(match=[one])),
        "no key of the table": p4r.Entity(table_entry=entry(program, "exact_table", lpm(1, b"\1", 8))),
        "a match in a keyless table": p4r.Entity(table_entry=entry(program, "keyless_table", one)),
        "time since the last hit": p4r.Entity(
            table_entry=entry(program, "exact_table", time_since_last_hit=p4r.TableEntry.IdleTimeout())
        ),
        "counters of colours": p4r.Entity(
            table_entry=entry(program, "exact_table", meter_counter_data=p4r.MeterCounterData())
        ),
        "no such counter": p4r.Entity(counter_entry=p4r.CounterEntry(counter_id=1)),
        "no such cell": p4r.Entity(
            register_entry=p4r.RegisterEntry(
                register_id=program.id("registers", "op_register"), index=p4r.Index(index=4)
            )
        ),
        "direct counter: the entry is absent": p4r.Entity(
            direct_counter_entry=p4r.DirectCounterEntry(table_entry=entry(program, "exact_table", exact(1, b"\x63")))
        ),
        "direct counter: default entries": p4r.Entity(
            direct_counter_entry=p4r.DirectCounterEntry(table_entry=p4r.TableEntry(is_default_action=True))
        ),
        "direct meter: a match without a table": p4r.Entity(
            direct_meter_entry=p4r.DirectMeterEntry(table_entry=p4r.TableEntry(match=[one]))
        ),
        "no such profile": p4r.Entity(action_profile_member=p4r.ActionProfileMember(action_profile_id=1)),
        "no such profile of groups": p4r.Entity(action_profile_group=p4r.ActionProfileGroup(action_profile_id=1)),
        "no such value set": p4r.Entity(value_set_entry=p4r.ValueSetEntry(value_set_id=1)),
        "no such digest": p4r.Entity(digest_entry=p4r.DigestEntry(digest_id=1)),
        "an extern of another architecture": p4r.Entity(extern_entry=p4r.ExternEntry(extern_type_id=0x81)),
    }
