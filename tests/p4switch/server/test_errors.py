"""Refusals: the code and the text, which is to name the value and what would be valid. ``errors.golden`` holds them all;
``UPDATE_GOLDEN=1`` rewrites it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from finsy.proto import p4i, p4r
from google.protobuf import any_pb2, struct_pb2

from p4switch.dataplane.binding import Switch
from p4switch.server.device import Device
from p4switch.server.errors import Code
from tests.p4switch.server.conftest import DEVICE, Client, Program, arbitration, connected, everything, serving
from tests.p4switch.server.entries import DELETE, INSERT, action, action_set, entry, exact, member, role_config, update
from tests.p4switch.server.refusals import (
    one_shot_errors,
    other_errors,
    prepared,
    profile_errors,
    read_errors,
    table_errors,
)

GOLDEN = Path(__file__).parent / "errors.golden"
Config = p4r.SetForwardingPipelineConfigRequest


def compare(section: str, lines: list[str]) -> None:
    """Hold one section of the golden file against what was found."""
    title = f"# {section}\n"
    parts = GOLDEN.read_text().split("\n\n") if GOLDEN.exists() else []
    sections = {part.partition("\n")[0] + "\n": part.partition("\n")[2].rstrip("\n") for part in parts if part}
    found = "\n".join(lines)
    if os.environ.get("UPDATE_GOLDEN"):
        sections[title] = found
        GOLDEN.write_text("\n\n".join(t + c for t, c in sections.items()) + "\n")
    assert found == sections.get(title)


def test_updates(client: Client, program: Program) -> None:
    client.write(*prepared(program))
    before = everything(client)
    lines = []
    for name, wrong in {**table_errors(program), **profile_errors(program), **other_errors(program)}.items():
        ((code, text),) = client.failures(wrong)
        assert code not in (Code.OK, Code.UNKNOWN, Code.INTERNAL), name
        lines.append(f"{name}: {Code(code).name}: {text}")
    compare("updates", lines)
    assert everything(client) == before


def test_one_shots(client: Client, program: Program) -> None:
    before = everything(client)
    lines = []
    for name, wrong in one_shot_errors(program).items():
        ((code, text),) = client.failures(wrong)
        lines.append(f"{name}: {Code(code).name}: {text}")
    shot = entry(program, "selector_table", exact(1, b"\1"), action=action_set(program, 1, 2))
    client.write(update(INSERT, table_entry=shot))
    full = [
        update(
            INSERT,
            table_entry=entry(program, "selector_table", exact(1, bytes([n])), action=action_set(program, *range(8))),
        )
        for n in (2, 3)
    ]
    (_, (code, text)) = client.failures(*full)
    lines.append(f"one-shot: the selector is full: {Code(code).name}: {text}")
    ((code, text),) = client.failures(update(INSERT, action_profile_member=member(program, "groups", 1, 1)))
    lines.append(f"member: beside one-shots: {Code(code).name}: {text}")
    client.write(*[update(DELETE, table_entry=u) for u in (shot, full[0].entity.table_entry)])
    compare("one-shots", lines)
    assert everything(client) == before


def one_shot_of(program: Program, members: int, weight: int) -> p4r.Update:
    """An action set of so many members of a weight."""
    chosen = action_set(program, *range(members), weight=weight)
    return update(INSERT, table_entry=entry(program, "selector_table", exact(1, b"\1"), action=chosen))


def test_other_kinds_of_meters_and_selectors(client: Client, program: Program) -> None:
    """What p4c would write for other annotations; the data plane is the same."""

    def install(change: Callable[[p4i.P4Info], object]) -> None:
        config = program.pipeline()
        change(config.p4info)
        client.set_pipeline(Config.VERIFY_AND_COMMIT, config)

    def meter(**config: int) -> p4r.Update:
        number = program.id("meters", "op_meter")
        return update(p4r.Update.MODIFY, meter_entry=p4r.MeterEntry(meter_id=number, config=p4r.MeterConfig(**config)))

    def one_shot(weight: int) -> p4r.Update:
        return one_shot_of(program, 9, weight)

    def selector(info: p4i.P4Info) -> p4i.ActionProfile:
        return next(p for p in info.action_profiles if p.with_selector)

    lines = []

    def refuse(name: str, wrong: p4r.Update) -> None:
        ((code, text),) = client.failures(wrong)
        lines.append(f"{name}: {Code(code).name}: {text}")

    install(lambda info: setattr(info.meters[0].spec, "type", 1))
    refuse("single rate, three colours: two rates", meter(cir=1, cburst=1, pir=2, pburst=1))
    refuse("single rate, three colours: eburst", meter(cir=1, cburst=1, pir=1, pburst=1, eburst=1))
    client.write(meter(cir=1, cburst=1, pir=1, pburst=1))
    install(lambda info: setattr(info.meters[0].spec, "type", 2))
    refuse("single rate, two colours: two rates", meter(cir=1, cburst=1, pir=1, pburst=2))
    install(
        lambda info: (
            selector(info).sum_of_members.SetInParent()
            or setattr(selector(info).sum_of_members, "max_member_weight", 3)
        )
    )
    refuse("sum of members: too many", one_shot(1))
    refuse("sum of members: a weight too large", one_shot(4))
    install(lambda info: selector(info).sum_of_members.SetInParent())
    refuse("sum of members: weights beyond the data plane's", one_shot_of(program, 8, 10_000))
    install(lambda info: setattr(selector(info), "weights_disallowed", True))
    refuse("no weights", one_shot(1))
    compare("other P4Info", lines)


def test_reads(client: Client, program: Program) -> None:
    lines = []
    for name, wanted in read_errors(program).items():
        ((code, text),) = client.read_failures(wanted)
        lines.append(f"{name}: {Code(code).name}: {text}")
    compare("reads", lines)


def answer(call: Callable[[], object]) -> str:
    """Code and text of a call that fails."""
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return f"{caught.value.code().name}: {caught.value.details()}"


def test_calls(client: Client, program: Program) -> None:
    """Refusals of whole requests."""

    def write(**changes: object) -> Callable[[], object]:
        request = client.write_request()
        for name, value in changes.items():
            setattr(request, name, value)
        return lambda: client.stub.Write(request)

    def pipeline(kind: int, config: p4r.ForwardingPipelineConfig | None = None) -> Callable[[], object]:
        return lambda: client.set_pipeline(kind, config or p4r.ForwardingPipelineConfig())

    def tampered(change: Callable[[p4r.ForwardingPipelineConfig], object]) -> Callable[[], object]:
        config = program.pipeline()
        change(config)
        return pipeline(Config.VERIFY, config)

    info = lambda c: c.p4info  # noqa: E731
    calls: dict[str, Callable[[], object]] = {
        "write: another device": write(device_id=99),
        "write: a role nobody announced": write(role="nobody"),
        "write: a numbered role nobody announced": write(role_id=3),
        "write: atomicity": write(atomicity=7),
        "read: another device": lambda: list(client.stub.Read(p4r.ReadRequest(device_id=99))),
        "read: a role nobody announced": lambda: list(
            client.stub.Read(p4r.ReadRequest(device_id=DEVICE, role="nobody"))
        ),
        "get: another device": lambda: client.stub.GetForwardingPipelineConfig(
            p4r.GetForwardingPipelineConfigRequest(device_id=99)
        ),
        "capabilities: another device": lambda: client.stub.Capabilities(p4r.CapabilitiesRequest(device_id=99)),
        "pipeline: no action": pipeline(0, program.pipeline()),
        "pipeline: nothing to commit": pipeline(Config.COMMIT),
        "pipeline: commit with a config": pipeline(Config.COMMIT, program.pipeline()),
        "pipeline: no config": pipeline(Config.VERIFY),
        "pipeline: no IR": tampered(lambda c: setattr(c, "p4_device_config", b"junk")),
        "pipeline: no P4Info": tampered(lambda c: c.ClearField("p4info")),
        "pipeline: a table of another program": tampered(
            lambda c: setattr(info(c).tables[0].preamble, "name", "other")
        ),
        "pipeline: fewer match fields": tampered(lambda c: info(c).tables[0].ClearField("match_fields")),
        "pipeline: fewer parameters": tampered(lambda c: [a.ClearField("params") for a in info(c).actions]),
        "pipeline: an action that is not declared": tampered(lambda c: info(c).ClearField("actions")),
        "pipeline: an action of another program": tampered(
            lambda c: setattr(info(c).actions[0].preamble, "name", "other")
        ),
        "pipeline: no action profiles": tampered(lambda c: info(c).ClearField("action_profiles")),
        "pipeline: a register of another size": tampered(
            lambda c: info(c).registers[0].type_spec.struct.CopyFrom(info(c).digests[1].type_spec.struct)
        ),
        "pipeline: a register without type": tampered(lambda c: info(c).registers[0].ClearField("type_spec")),
        "pipeline: types without type_info": tampered(lambda c: info(c).ClearField("type_info")),
        "pipeline: a digest with fewer fields": tampered(
            lambda c: info(c).digests[0].type_spec.CopyFrom(info(c).registers[0].type_spec)
        ),
        "pipeline: a header of half a byte": tampered(
            lambda c: setattr(info(c).controller_packet_metadata[0].metadata[0], "bitwidth", 5)
        ),
    }
    client.election_id = 1
    lines = [f"{name}: {answer(call)}" for name, call in calls.items()]
    client.election_id = 9
    lines.append(f"write: not the primary: {answer(write())}")
    lines.append(f"pipeline: not the primary: {answer(pipeline(Config.VERIFY, program.pipeline()))}")
    client.election_id = 1
    assert not [line for line in lines if ": INTERNAL: " in line]
    compare("calls", [line.partition(" (char ")[0] for line in lines])


def test_arbitration(client: Client, program: Program) -> None:
    """Refusals that end the stream."""
    other = any_pb2.Any(type_url="type.googleapis.com/google.protobuf.Duration")
    broken = any_pb2.Any(type_url="type.googleapis.com/google.protobuf.Struct", value=b"\xff")
    holder = client.stream()
    holder.arbitrate(4, role="holder", config=role_config(exclusive=["lpm_table"], shared=["exact_table"]))
    updates = {
        "another device": arbitration(3, device=99),
        "an election id that is taken": arbitration(1),
        "a config for the default role": arbitration(3, config=role_config()),
        "a config of another type": arbitration(3, role="r", config=other),
        "a config that cannot be read": arbitration(3, role="r", config=broken),
        "an unknown member": arbitration(3, role="r", config=role_config(tables=["lpm_table"])),
        "no list": arbitration(3, role="r", config=role_config(shared=True)),
        "an item that is no id": arbitration(3, role="r", config=role_config(shared=[1.5])),
        "an unknown name": arbitration(3, role="r", config=role_config(shared=["lpm_tables"])),
        "no flag": arbitration(3, role="r", config=role_config(receives_packet_ins="yes")),
        "an empty filter": arbitration(3, role="r", config=role_config(packet_in_filter={})),
        "a filter by text": arbitration(3, role="r", config=role_config(packet_in_filter={"reason": "x"})),
        "what another role has for itself": arbitration(3, role="r", config=role_config(shared=["lpm_table"])),
        "for itself what another role shares": arbitration(3, role="r", config=role_config(exclusive=["exact_table"])),
    }
    lines = []
    for name, wrong in updates.items():
        stream = client.stream()
        stream.send(arbitration=wrong)
        error = stream.next()
        lines.append(f"{name}: {error.code().name}: {error.details()}")
    holder.send(arbitration=arbitration(4, role="another"))
    error = holder.next()
    lines.append(f"another role: {error.code().name}: {error.details()}")
    client.streams[0].send(arbitration=arbitration(1, device=99))
    error = client.streams[0].next()
    lines.append(f"another device on a live stream: {error.code().name}: {error.details()}")
    compare("arbitration", lines)


def test_stream_messages(client: Client, program: Program) -> None:
    """Refusals that leave the stream open."""
    stream, backup, silent = client.streams[0], client.stream(), client.stream()
    backup.arbitrate(0)
    reader = client.stream()
    reader.arbitrate(1, role="reader", config=role_config(read_only=["lpm_table"]))

    def packet(*metadata: tuple[int, bytes]) -> dict[str, p4r.PacketOut]:
        made = p4r.PacketOut(payload=b"x")
        for number, value in metadata:
            made.metadata.add(metadata_id=number, value=value)
        return {"packet": made}

    cases = {
        "packet-out: no metadata": (stream, packet()),
        "packet-out: a value too large": (stream, packet((1, b"\2\0"))),
        "packet-out: an empty value": (stream, packet((1, b""))),
        "packet-out: unknown metadata": (stream, packet((1, b"\1"), (9, b"\1"))),
        "packet-out: metadata twice": (stream, packet((1, b"\1"), (1, b"\1"))),
        "packet-out: too long": (
            stream,
            {"packet": p4r.PacketOut(payload=bytes(70000), metadata=packet((1, b"\1"))["packet"].metadata)},
        ),
        "packet-out: a backup": (backup, packet((1, b"\1"))),
        "packet-out: before arbitration": (silent, packet((1, b"\1"))),
        "packet-out: not in the role": (reader, packet((1, b"\1"))),
        "digest ack: no such digest": (stream, {"digest_ack": p4r.DigestListAck(digest_id=1)}),
        "no message": (stream, {}),
        "a message of another architecture": (stream, {"other": any_pb2.Any(type_url="x")}),
    }
    lines = []
    for name, (sender, message) in cases.items():
        sender.send(**message)
        error = sender.next().error
        lines.append(f"{name}: {Code(error.canonical_code).name}: {error.message}")
        kind = {"packet": "packet_out", "digest_ack": "digest_list_ack"}.get(next(iter(message), ""), "other")
        assert error.WhichOneof("details") == kind
    compare("stream", lines)


def test_stream_messages_without(program: Program) -> None:
    """Without a pipeline, a CPU port, a packet_out header."""
    lines = []

    def refused(name: str, client: Client, **message: Any) -> None:
        client.streams[0].send(**message)
        error = client.streams[0].next().error
        lines.append(f"{name}: {Code(error.canonical_code).name}: {error.message}")

    packet = p4r.PacketOut(payload=b"x")
    packet.metadata.add(metadata_id=1, value=b"\1")
    with (
        Switch() as switch,
        serving(Device(DEVICE, switch)) as running,
        connected(running.address, program) as client,
    ):
        client.stream().arbitrate(1)
        refused("packet-out: no pipeline", client, packet=packet)
        refused("digest ack: no pipeline", client, digest_ack=p4r.DigestListAck(digest_id=1))
        client.set_pipeline(Config.VERIFY_AND_COMMIT, program.pipeline())
        refused("packet-out: no CPU port", client, packet=packet)
        config = program.pipeline()
        config.p4info.ClearField("controller_packet_metadata")
        client.set_pipeline(Config.VERIFY_AND_COMMIT, config)
        refused("packet-out: metadata without a header", client, packet=packet)
    compare("stream, without", lines)


def test_roles(client: Client, program: Program) -> None:
    """What a role may not do."""
    stream = client.stream()
    stream.arbitrate(1, role="reader", config=role_config(read_only=["lpm_table"], shared=["ternary_table"]))
    reader = client.acting(role="reader")
    lpm_entry = entry(program, "lpm_table", action=action(program, "drop"))
    exact_entry = entry(program, "exact_table", exact(1, b"\1"), action=action(program, "metered", b"\1"))
    group = p4r.PacketReplicationEngineEntry(multicast_group_entry=p4r.MulticastGroupEntry(multicast_group_id=1))
    lines = []
    for name, wrong in {
        "write what is only to be read": update(INSERT, table_entry=lpm_entry),
        "write what is not in the role": update(INSERT, table_entry=exact_entry),
        "write a multicast group": update(INSERT, packet_replication_engine_entry=group),
    }.items():
        ((code, text),) = reader.failures(wrong)
        lines.append(f"{name}: {Code(code).name}: {text}")
    ((code, text),) = reader.read_failures(p4r.Entity(table_entry=exact_entry))
    lines.append(f"read what is not in the role: {Code(code).name}: {text}")
    lines.append(f"pipeline: {answer(lambda: reader.set_pipeline(Config.VERIFY, program.pipeline()))}")
    compare("roles", lines)


def test_struct_is_what_the_documentation_says() -> None:
    """The role config's type, by its full name."""
    assert role_config().type_url == f"type.googleapis.com/{struct_pb2.Struct.DESCRIPTOR.full_name}"
