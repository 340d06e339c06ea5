"""SetForwardingPipelineConfig: what each action does to programs and to the state they hold."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from finsy.proto import p4d, p4r

from p4switch.compiler import ir, p4info
from p4switch.compiler.driver import compile_source
from tests.p4switch.server.conftest import DEVICE, HERE, Client, Program, Running, everything, refused
from tests.p4switch.server.entries import (
    DELETE,
    INSERT,
    MODIFY,
    action,
    action_set,
    entry,
    exact,
    lpm,
    packet,
    replication,
    update,
)

Config = p4r.SetForwardingPipelineConfigRequest
Get = p4r.GetForwardingPipelineConfigRequest


def changed(directory: Path, name: str, *changes: tuple[str, str]) -> Program:
    """``entities.p4`` with some of its text replaced."""
    source = (HERE / "entities.p4").read_text()
    for old, new in changes:
        assert old in source
        source = source.replace(old, new)
    file = directory / f"{name}.p4"
    file.write_text(source)
    compiled = compile_source(file).program
    return Program(p4info.build(compiled), ir.dumps(compiled))


@pytest.fixture(scope="module")
def larger(tmp_path_factory: pytest.TempPathFactory) -> Program:
    """The same with a larger table, one more action of it, another initial entry, and wider fields nowhere."""
    return changed(
        tmp_path_factory.mktemp("larger"),
        "larger",
        (
            "        default_action = drop();\n        size = 4096;",
            "        default_action = forward(7);\n        size = 8192;",
        ),
        (
            "            2: forward(2);\n        }\n        size = 8;",
            "            2: forward(2);\n            5: forward(5);\n        }\n        size = 8;",
        ),
        (
            "        if (hdr.packet_out.isValid()) {",
            "        meta.colour = 0;\n        if (hdr.packet_out.isValid()) {",
        ),
    )


@pytest.fixture(scope="module")
def without_lpm(tmp_path_factory: pytest.TempPathFactory) -> Program:
    """The same without the LPM table."""
    return changed(
        tmp_path_factory.mktemp("without"),
        "without",
        ("            lpm_table.apply();", "            idle_table.apply();"),
        ("        } else if (hdr.op.op == 7) {\n            idle_table.apply();\n", ""),
    )


def fill(client: Client, program: Program) -> None:
    """Something of every kind."""
    multicast, session = p4r.MulticastGroupEntry(multicast_group_id=4), p4r.CloneSessionEntry(session_id=9)
    multicast.replicas.add(egress_port=5)
    session.replicas.add(egress_port=7)
    value_set = p4r.ValueSetEntry(value_set_id=program.id("value_sets", "special_tags"))
    value_set.members.add(match=[exact(1, b"\5")])
    register = p4r.RegisterEntry(
        register_id=program.id("registers", "op_register"), index=p4r.Index(index=1), data=p4d.P4Data(bitstring=b"\x0f")
    )
    exact_entry = entry(
        program,
        "exact_table",
        exact(1, b"\1"),
        action=action(program, "metered", b"\2"),
        counter_data=p4r.CounterData(packet_count=5, byte_count=50),
        meter_config=p4r.MeterConfig(cir=1, cburst=2, pir=3, pburst=4),
        metadata=b"cookie",
        controller_metadata=1 << 63,
    )
    ternary_default = entry(program, "ternary_table", is_default_action=True, action=action(program, "forward", b"\4"))
    client.write(
        update(INSERT, digest_entry=p4r.DigestEntry(digest_id=program.id("digests", "learned_t"))),
        update(INSERT, **replication(multicast_group_entry=multicast)),
        update(INSERT, **replication(clone_session_entry=session)),
        update(INSERT, table_entry=exact_entry),
        update(
            INSERT,
            table_entry=entry(program, "lpm_table", lpm(1, b"\x0a\0\0\0", 8), action=action(program, "forward", b"\3")),
        ),
        update(INSERT, table_entry=entry(program, "selector_table", exact(1, b"\1"), action=action_set(program, 1, 2))),
        update(MODIFY, table_entry=ternary_default),
        update(
            MODIFY,
            table_entry=entry(program, "initial_table", exact(1, b"\2"), action=action(program, "forward", b"\6")),
        ),
        update(MODIFY, value_set_entry=value_set),
        update(MODIFY, register_entry=register),
    )


def test_commit_empties_everything(client: Client, program: Program) -> None:
    empty = everything(client)
    fill(client, program)
    assert everything(client) != empty
    client.set_pipeline(Config.VERIFY_AND_COMMIT, program.pipeline())
    assert everything(client) == empty


def test_saved_config_takes_writes_until_it_is_committed(
    client: Client, running: Running, program: Program, larger: Program
) -> None:
    """Writes and reads after VERIFY_AND_SAVE are about the saved config; packets see it from COMMIT on."""
    fill(client, program)
    before = running.switch.process(3, packet(2, address=0x0A000001))
    client.set_pipeline(Config.VERIFY_AND_SAVE, larger.pipeline(cookie=5))
    assert client.stub.GetForwardingPipelineConfig(Get(device_id=DEVICE)).config.cookie.cookie == 1
    assert client.read(p4r.Entity(table_entry=entry(program, "lpm_table"))) == []
    staged = entry(larger, "lpm_table", lpm(1, b"\x0a\0\0\0", 8), action=action(larger, "forward", b"\6"))
    multicast = p4r.MulticastGroupEntry(multicast_group_id=4)
    multicast.replicas.add(egress_port=9)
    client.write(update(INSERT, table_entry=staged), update(INSERT, **replication(multicast_group_entry=multicast)))
    assert [p.port for p in before] == [3]
    assert running.switch.process(3, packet(2, address=0x0A000001)) == before
    assert [p.port for p in running.switch.process(3, packet(12, number=4))] == [5]
    client.set_pipeline(Config.COMMIT, p4r.ForwardingPipelineConfig())
    assert client.stub.GetForwardingPipelineConfig(Get(device_id=DEVICE)).config.cookie.cookie == 5
    assert [p.port for p in running.switch.process(3, packet(2, address=0x0A000001))] == [6]
    assert [p.port for p in running.switch.process(3, packet(12, number=4))] == [9]
    assert running.switch.process(3, packet(13, number=9))[0].port == 1  # the clone session is gone
    assert client.read(p4r.Entity(table_entry=entry(larger, "lpm_table"))) == [p4r.Entity(table_entry=staged)]
    commit = lambda: client.set_pipeline(Config.COMMIT, p4r.ForwardingPipelineConfig())  # noqa: E731
    refused(grpc.StatusCode.NOT_FOUND, commit)


def test_a_commit_discards_a_saved_config(client: Client, program: Program, larger: Program) -> None:
    client.set_pipeline(Config.VERIFY_AND_SAVE, larger.pipeline())
    client.set_pipeline(Config.VERIFY_AND_SAVE, larger.pipeline())
    client.set_pipeline(Config.VERIFY_AND_COMMIT, program.pipeline())
    commit = lambda: client.set_pipeline(Config.COMMIT, p4r.ForwardingPipelineConfig())  # noqa: E731
    refused(grpc.StatusCode.NOT_FOUND, commit)


@pytest.mark.parametrize("same", [True, False])
def test_reconcile_keeps_everything(
    client: Client, running: Running, program: Program, larger: Program, same: bool
) -> None:
    fill(client, program)
    new = program if same else larger
    before = everything(client)
    client.set_pipeline(Config.RECONCILE_AND_COMMIT, new.pipeline(cookie=6))
    after = everything(client)
    if same:
        assert after == before
        assert client.stub.GetForwardingPipelineConfig(Get(device_id=DEVICE)).config.cookie.cookie == 6
    else:  # only the default that nobody had changed is the new program's
        assert [e for e in before if e not in after] == [e for e in before if is_default_of(e, program, "lpm_table")]
        assert running.switch.process(3, packet(2, address=1))[0].port == 7
        assert running.switch.layout.tables["EntitiesIngress.lpm_table"].size == 8192
    for number, port in ((1, 1), (2, 6)):
        assert [o.port for o in running.switch.process(3, packet(16, number=number))] == [port]
    assert running.switch.process(3, packet(16, number=5)) == []  # the old entries, not the new program's initial ones
    assert [o.port for o in running.switch.process(3, packet(2, address=0x0A000001))] == [3]
    assert [o.port for o in running.switch.process(3, packet(12, number=4))] == [5]
    assert {o.port for o in running.switch.process(3, packet(6, number=1))} <= {1, 2}
    # The handles behind metadata and one-shots have moved along.
    client.write(update(DELETE, table_entry=entry(new, "selector_table", exact(1, b"\1"))))
    client.write(
        update(INSERT, table_entry=entry(new, "selector_table", exact(1, b"\1"), action=action_set(new, *range(8))))
    )


def is_default_of(entity: p4r.Entity, program: Program, table: str) -> bool:
    found = entity.table_entry
    return bool(found.is_default_action and found.table_id == program.id("tables", table))


def test_reconcile_refuses_what_has_no_place(
    client: Client, running: Running, program: Program, without_lpm: Program
) -> None:
    fill(client, program)
    before = everything(client)
    text = refused(
        grpc.StatusCode.INVALID_ARGUMENT,
        lambda: client.set_pipeline(Config.RECONCILE_AND_COMMIT, without_lpm.pipeline()),
    )
    assert "cannot be preserved: no table with id 0x23f1b4f" in text
    assert everything(client) == before
    assert [o.port for o in running.switch.process(3, packet(2, address=0x0A000001))] == [3]
    client.write(update(DELETE, table_entry=entry(program, "lpm_table", lpm(1, b"\x0a\0\0\0", 8))))
    client.set_pipeline(Config.RECONCILE_AND_COMMIT, without_lpm.pipeline())


def test_reconcile_without_an_old_program(bare: Client, program: Program) -> None:
    bare.stream().arbitrate(1)
    bare.set_pipeline(Config.RECONCILE_AND_COMMIT, program.pipeline())
    assert bare.stub.GetForwardingPipelineConfig(Get(device_id=DEVICE)).config.p4info == program.info


def test_cookie_is_there_or_not(client: Client, program: Program) -> None:
    config = program.pipeline()
    config.ClearField("cookie")
    client.set_pipeline(Config.VERIFY_AND_COMMIT, config)
    found = client.stub.GetForwardingPipelineConfig(Get(device_id=DEVICE, response_type=Get.COOKIE_ONLY)).config
    assert not found.HasField("cookie")
    client.set_pipeline(Config.VERIFY_AND_COMMIT, program.pipeline(cookie=0))
    assert client.stub.GetForwardingPipelineConfig(Get(device_id=DEVICE)).config.HasField("cookie")


def test_nothing_is_left_of_programs(client: Client, running: Running, program: Program, larger: Program) -> None:
    """Changing programs over and over frees what they took: open files stay the same."""
    files = lambda: len(list(Path("/proc/self/fd").iterdir()))  # noqa: E731

    def rounds() -> Iterator[None]:
        for number in range(6):
            client.set_pipeline(Config.VERIFY_AND_SAVE, (program, larger)[number % 2].pipeline())
            client.set_pipeline(Config.COMMIT, p4r.ForwardingPipelineConfig())
            client.set_pipeline(Config.VERIFY, program.pipeline())
            yield

    steps = rounds()
    next(steps)
    before = files()
    list(steps)
    assert files() == before
