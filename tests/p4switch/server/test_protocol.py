"""Arbitration, pipeline configs, packets: what clients of simple_switch_grpc rely on."""

from __future__ import annotations

import grpc
import pytest
from finsy.proto import p4r

from tests.p4switch.server.conftest import DEVICE, Client, Program, Running, arbitration, refused
from tests.p4switch.server.entries import DELETE, INSERT, MODIFY, action, entry, exact, packet, update

Config = p4r.SetForwardingPipelineConfigRequest
Get = p4r.GetForwardingPipelineConfigRequest
ALREADY_EXISTS = 6


def test_capabilities(bare: Client) -> None:
    assert bare.stub.Capabilities(p4r.CapabilitiesRequest()).p4runtime_api_version.startswith("1.")


def test_highest_election_id_is_primary(bare: Client) -> None:
    first, second = bare.stream(), bare.stream()
    answer = first.arbitrate(5).arbitration
    assert (answer.device_id, answer.status.code, answer.status.message) == (DEVICE, 0, "Is primary")
    answer = second.arbitrate(3).arbitration
    assert (answer.status.code, answer.status.message) == (ALREADY_EXISTS, "Is backup")
    assert answer.election_id.low == 5
    # The backup overtakes; both are told.
    assert second.arbitrate(1 << 64 | 9).arbitration.status.code == 0
    answer = first.next().arbitration
    assert (answer.status.code, answer.election_id.high, answer.election_id.low) == (ALREADY_EXISTS, 1, 9)
    # The primary leaves; the other is promoted.
    second.close()
    answer = first.next().arbitration
    assert (answer.status.code, answer.election_id.low) == (0, 5)


def test_arbitration_is_refused(bare: Client) -> None:
    holder, other, stranger = bare.stream(), bare.stream(), bare.stream()
    holder.arbitrate(5)
    assert other.arbitrate(5).code() is grpc.StatusCode.INVALID_ARGUMENT
    stranger.send(arbitration=arbitration(1, device=99))
    assert stranger.next().code() is grpc.StatusCode.NOT_FOUND


def test_only_the_primary_writes(bare: Client, program: Program) -> None:
    config = program.pipeline()
    assert refused(grpc.StatusCode.PERMISSION_DENIED, lambda: bare.write()) == "Not primary"
    bare.stream().arbitrate(5)
    bare.election_id = 4
    set_pipeline = lambda: bare.set_pipeline(Config.VERIFY_AND_COMMIT, config)  # noqa: E731
    assert refused(grpc.StatusCode.PERMISSION_DENIED, set_pipeline) == "Not primary"
    bare.election_id = 5
    bare.set_pipeline(Config.VERIFY_AND_COMMIT, config)
    bare.election_id = 6
    assert refused(grpc.StatusCode.PERMISSION_DENIED, lambda: bare.write()) == "Not primary"


def test_without_a_pipeline(bare: Client) -> None:
    text = "No forwarding pipeline config set for this device"
    stream = bare.stream()
    stream.arbitrate(1)
    failing = (
        lambda: bare.write(update(INSERT, table_entry=p4r.TableEntry(table_id=1))),
        lambda: bare.read(p4r.Entity(table_entry=p4r.TableEntry())),
        lambda: bare.stub.GetForwardingPipelineConfig(Get(device_id=DEVICE)),
    )
    for call in failing:
        assert text in refused(grpc.StatusCode.FAILED_PRECONDITION, call)
    stream.send(packet=p4r.PacketOut(payload=b"x"))
    assert text in stream.next().error.message


def test_pipeline_actions(bare: Client, program: Program, running: Running) -> None:
    bare.stream().arbitrate(1)
    get = lambda: bare.stub.GetForwardingPipelineConfig(Get(device_id=DEVICE)).config  # noqa: E731
    bare.set_pipeline(Config.VERIFY, program.pipeline())
    refused(grpc.StatusCode.FAILED_PRECONDITION, get)
    commit = lambda: bare.set_pipeline(Config.COMMIT, p4r.ForwardingPipelineConfig())  # noqa: E731
    refused(grpc.StatusCode.NOT_FOUND, commit)
    bare.set_pipeline(Config.VERIFY_AND_SAVE, program.pipeline(cookie=77))
    refused(grpc.StatusCode.FAILED_PRECONDITION, get)
    commit()
    config = get()
    assert (config.cookie.cookie, config.p4info, config.p4_device_config) == (77, program.info, program.config)
    only = bare.stub.GetForwardingPipelineConfig(Get(device_id=DEVICE, response_type=Get.COOKIE_ONLY)).config
    assert (only.cookie.cookie, only.p4_device_config, len(only.p4info.tables)) == (77, b"", 0)
    # Committing anew empties the tables; reconciling with the same program keeps them.
    insert = update(
        INSERT, table_entry=entry(program, "exact_table", exact(1, b"\1"), action=action(program, "metered", b"\1"))
    )
    bare.write(insert)
    bare.set_pipeline(Config.RECONCILE_AND_COMMIT, program.pipeline(cookie=78))
    assert len(running.switch.process(3, packet(1, number=1))) == 1
    assert get().cookie.cookie == 78
    bare.set_pipeline(Config.VERIFY_AND_COMMIT, program.pipeline(cookie=79))
    assert running.switch.process(3, packet(1, number=1)) == []


@pytest.mark.parametrize(
    ("change", "code", "text"),
    [
        (lambda c: c.ClearField("p4_device_config"), grpc.StatusCode.INVALID_ARGUMENT, "no p4_device_config"),
        (lambda c: setattr(c, "p4_device_config", b"{}"), grpc.StatusCode.INVALID_ARGUMENT, "no valid IR"),
        (lambda c: setattr(c, "p4_device_config", b"\xff\0junk"), grpc.StatusCode.INVALID_ARGUMENT, "no valid IR"),
        (lambda c: c.p4info.ClearField("actions"), grpc.StatusCode.INVALID_ARGUMENT, ""),
    ],
)
def test_bad_pipeline_leaves_the_old_one(client: Client, change: object, code: grpc.StatusCode, text: str) -> None:
    config = client.program.pipeline(cookie=5)
    change(config)  # type: ignore[operator]
    found = refused(code, lambda: client.set_pipeline(Config.VERIFY_AND_COMMIT, config))
    assert text in found
    now = client.stub.GetForwardingPipelineConfig(Get(device_id=DEVICE)).config
    assert now.cookie.cookie == 1


def test_packet_out_and_in(client: Client, running: Running) -> None:
    stream = client.streams[0]
    message = p4r.PacketOut(payload=b"payload")
    message.metadata.add(metadata_id=1, value=b"\5")
    stream.send(packet=message)
    while not (outputs := running.switch.outputs()):
        pass
    assert [(o.port, o.data) for o in outputs] == [(5, b"payload")]
    running.switch.inject(3, packet(14, number=0x1234) + b"rest")
    received = stream.next().packet
    assert received.payload == packet(14, number=0x1234) + b"rest"
    assert {m.metadata_id: m.value for m in received.metadata if m.metadata_id != 2} == {1: b"\3", 3: b"\x12\x34"}


def test_packet_out_is_refused(client: Client) -> None:
    stream = client.streams[0]
    for metadata, text in (
        ([], "needs metadata 1 (egress_port)"),
        ([(1, b"\2\0")], "0x200 does not fit into 9 bits"),
        ([(1, b"\1"), (9, b"\1")], "no metadata 9"),
    ):
        message = p4r.PacketOut(payload=b"x")
        for number, value in metadata:
            message.metadata.add(metadata_id=number, value=value)
        stream.send(packet=message)
        error = stream.next().error
        assert text in error.message
        assert error.packet_out.packet_out == message
    backup = client.stream()
    backup.arbitrate(0)
    message.metadata[1].metadata_id = 2
    backup.send(packet=message)
    assert "Not primary" in backup.next().error.message


def test_wrong_device(client: Client) -> None:
    request = client.write_request()
    request.device_id = 99
    refused(grpc.StatusCode.NOT_FOUND, lambda: client.stub.Write(request))
    refused(grpc.StatusCode.NOT_FOUND, lambda: list(client.stub.Read(p4r.ReadRequest(device_id=99))))


def test_atomic_batches(client: Client, running: Running, program: Program) -> None:
    """All or none, with the codes of the failing update and ABORTED for the others; the default goes on after a failure."""
    good = update(
        INSERT, table_entry=entry(program, "exact_table", exact(1, b"\1"), action=action(program, "metered", b"\1"))
    )
    other = update(
        INSERT, table_entry=entry(program, "exact_table", exact(1, b"\2"), action=action(program, "metered", b"\1"))
    )
    missing = update(DELETE, table_entry=entry(program, "exact_table", exact(1, b"\7")))
    for atomicity in (p4r.WriteRequest.ROLLBACK_ON_ERROR, p4r.WriteRequest.DATAPLANE_ATOMIC):
        codes = [code for code, _ in client.failures(good, missing, other, atomicity=atomicity)]
        assert codes == [10, 5, 10]
        assert running.switch.entry_count(running.switch.layout.tables["EntitiesIngress.exact_table"].index) == 0
    codes = [code for code, _ in client.failures(good, missing, other)]
    assert codes == [0, 5, 0]
    change = update(
        MODIFY, table_entry=entry(program, "exact_table", exact(1, b"\1"), action=action(program, "metered", b"\4"))
    )
    client.write(change, atomicity=p4r.WriteRequest.DATAPLANE_ATOMIC)
    assert [o.port for o in running.switch.process(0, packet(1, number=1))] == [4]
