"""What no well-behaved client does: the server answers with a status, changes nothing, keeps no thread, and goes on."""

from __future__ import annotations

import random
import socket
import threading
import time
from collections.abc import Callable

import grpc
import pytest
from finsy.proto import p4r
from google.protobuf import any_pb2
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from p4switch.dataplane.binding import Switch
from p4switch.server import service
from p4switch.server.device import Device
from tests.p4switch.server.conftest import CPU_PORT, DEVICE, Client, Program, Running, arbitration, everything, serving
from tests.p4switch.server.entries import INSERT, packet, role_config, update
from tests.p4switch.server.refusals import one_shot_errors, other_errors, prepared, profile_errors, table_errors
from tests.p4switch.server.test_atomic import changes
from tests.p4switch.server.test_fuzz import FINE, scramble, works

Config = p4r.SetForwardingPipelineConfigRequest
BAD = (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
CALM = settings(deadline=None, suppress_health_check=list(HealthCheck))


def status(call: Callable[[], object]) -> grpc.StatusCode:
    """How a call ends; never by a fault of the server."""
    try:
        call()
    except grpc.RpcError as error:
        assert error.code() not in BAD, error
        assert "fault of the server" not in str(error.details()), error
        return error.code()
    return grpc.StatusCode.OK


def test_a_refused_update_changes_nothing(client: Client, running: Running, program: Program) -> None:
    client.write(*prepared(program))
    templates = [
        *table_errors(program).values(),
        *profile_errors(program).values(),
        *one_shot_errors(program).values(),
        *other_errors(program).values(),
        *changes(program),
    ]

    @settings(CALM, max_examples=250)
    @given(st.sampled_from(templates), st.randoms(use_true_random=False), st.sampled_from([0, 1, 2]))
    def run(template: p4r.Update, rng: random.Random, atomicity: int) -> None:
        changed = p4r.Update()
        changed.CopyFrom(template)
        scramble(rng, changed)
        before = everything(client)
        code = status(lambda: client.write(changed, atomicity=atomicity))
        assert code in {*FINE, grpc.StatusCode.OK}
        if code is not grpc.StatusCode.OK:
            assert everything(client) == before
        status(lambda: client.read(changed.entity))

    run()
    client.set_pipeline(Config.VERIFY_AND_COMMIT, program.pipeline())
    assert works(client, running, program)


def test_pipelines_with_another_p4info(client: Client, running: Running, program: Program) -> None:
    """P4Info that is not the program's is refused, or it serves: whatever is then written and read is answered."""
    updates = changes(program)

    @settings(CALM, max_examples=60)
    @given(st.randoms(use_true_random=False), st.sampled_from([Config.VERIFY_AND_COMMIT, Config.RECONCILE_AND_COMMIT]))
    def run(rng: random.Random, how: int) -> None:
        config = program.pipeline()
        for _ in range(rng.randrange(1, 4)):
            descriptor, items = rng.choice(config.p4info.ListFields())
            if descriptor.is_repeated:
                scramble(rng, rng.choice(items))
            else:
                scramble(rng, items)
        if status(lambda: client.set_pipeline(how, config)) is grpc.StatusCode.OK:
            for changed in rng.sample(updates, 6):
                status(lambda changed=changed: client.write(changed))  # type: ignore[misc]
                status(lambda changed=changed: client.read(changed.entity))  # type: ignore[misc]
            status(lambda: everything(client))
            for op in range(20):
                running.switch.process(3, packet(op, number=1))

    run()
    client.set_pipeline(Config.VERIFY_AND_COMMIT, program.pipeline())
    assert works(client, running, program)


def test_scrambled_arbitration(client: Client, running: Running, program: Program) -> None:
    """Streams end with a status or are answered; the primary stays."""
    configs: list[any_pb2.Any | None] = [
        None,
        role_config(exclusive=["lpm_table"], receives_packet_ins=True, packet_in_filter={"reason": 3}),
        any_pb2.Any(type_url="type.googleapis.com/google.protobuf.Struct", value=b"\x0a\xff"),
    ]

    @settings(CALM, max_examples=80)
    @given(st.randoms(use_true_random=False), st.sampled_from(configs), st.sampled_from(["", "role"]))
    def run(rng: random.Random, config: any_pb2.Any | None, role: str) -> None:
        message = arbitration(rng.choice([None, 0, 5, 1 << 100]), role=role or "other", config=config)
        scramble(rng, message)
        if not (message.role.name or message.role.id):
            message.role.name = "other"  # the default role's primary is to stay
        stream = client.stream()
        stream.send(arbitration=message)
        stream.send(packet=p4r.PacketOut(payload=b"x"))
        answer = stream.next()
        if isinstance(answer, grpc.RpcError):
            assert answer.code() not in BAD
        stream.close()
        client.streams.remove(stream)

    run()
    assert works(client, running, program)


def threads() -> int:
    """Threads besides the pool's, which stay for the next calls."""
    return sum(not thread.name.startswith("grpc") for thread in threading.enumerate())


def settled(condition: Callable[[], bool], seconds: float = 60) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def test_a_hundred_streams(client: Client, running: Running, program: Program) -> None:
    """Each is told where it stands; when they end nothing is left of them, and calls were served all the time."""
    before = threads()
    many = [client.stream() for _ in range(100)]
    for number, stream in enumerate(many[:99]):
        stream.send(arbitration=arbitration(None if number % 2 else number + 100, role=f"role-{number % 7}"))
    for stream in many[:99]:
        assert not isinstance(stream.next(), grpc.RpcError)
    assert works(client, running, program)
    for stream in many:
        stream.close()
        client.streams.remove(stream)
    assert settled(lambda: threads() <= before)
    assert works(client, running, program)


def test_too_many_streams(running: Running, client: Client, program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "STREAMS", 5)
    accepted = [client.stream() for _ in range(4)]
    for stream in accepted:
        stream.arbitrate(None)
    refused = client.stream()
    refused.send(arbitration=arbitration(9))
    assert refused.next().code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    accepted[0].close()
    assert settled(lambda: not isinstance(client.stream().arbitrate(None), grpc.RpcError))
    assert works(client, running, program)


def test_too_many_streams_of_a_role(client: Client) -> None:
    answers = []
    for number in range(101):
        answers.append(client.stream().arbitrate(number + 10, role="crowd"))
    assert isinstance(answers.pop(), grpc.RpcError)
    assert not [a for a in answers if isinstance(a, grpc.RpcError)]


def test_a_flood_on_a_stream(client: Client, running: Running, program: Program) -> None:
    """Thousands of messages that nobody waits for: all are dealt with, in order, and others are served meanwhile."""
    flooder = client.stream()
    flooder.arbitrate(None, role="flood")
    for number in range(3000):
        if number % 2:
            flooder.send(packet=p4r.PacketOut(payload=bytes(100)))
        else:
            flooder.send(arbitration=arbitration(None, role="flood"))
    assert works(client, running, program)
    for number in range(3000):
        answer = flooder.next(30)
        assert answer.WhichOneof("update") == ("error" if number % 2 else "arbitration")


def test_a_controller_that_does_not_read(running: Running, client: Client, program: Program) -> None:
    """Its notifications are dropped, not gathered without end, and the switch goes on."""
    with grpc.insecure_channel(running.address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        call = channel.stream_stream(
            "/p4.v1.P4Runtime/StreamChannel",
            request_serializer=p4r.StreamMessageRequest.SerializeToString,
            response_deserializer=p4r.StreamMessageResponse.FromString,
        )
        release = threading.Event()

        def requests():  # type: ignore[no-untyped-def]
            yield p4r.StreamMessageRequest(arbitration=arbitration(7, role="deaf"))
            release.wait(60)

        answers = call(requests())
        next(answers)
        for _ in range(2 * service.BACKLOG):
            running.switch.inject(3, packet(14, number=1) + bytes(2000))
        assert works(client, running, program)
        release.set()
        answers.cancel()


def test_half_open_connections(running: Running, client: Client, program: Program) -> None:
    """Connections that say nothing, half of something, or something that is no HTTP/2."""
    host, _, port = running.address.partition(":")
    before = threads()
    held = []
    for text in (
        b"",
        b"PRI * HTTP/2.0\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00",
        bytes(range(256)) * 40,
    ):
        for _ in range(10):
            held.append(socket.create_connection((host, int(port)), timeout=400))
            try:
                held[-1].sendall(text)
            except OSError:  # refused already
                continue
    assert works(client, running, program)
    for one in held:
        one.close()
    assert works(client, running, program)
    assert settled(lambda: threads() <= before)


def test_streams_that_say_nothing(running: Running, client: Client, program: Program) -> None:
    """Opened, never used, cut: by the client's end of its side, by cancelling, by closing the connection."""
    before = threads()
    for how in range(3):
        with grpc.insecure_channel(running.address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
            call = channel.stream_stream("/p4.v1.P4Runtime/StreamChannel")
            release = threading.Event()
            streams = [call(iter(release.wait, True)) for _ in range(10)]
            assert works(client, running, program)
            if how == 0:
                release.set()
            elif how == 1:
                for stream in streams:
                    stream.cancel()
        release.set()
    assert settled(lambda: threads() <= before)


def test_huge_messages(running: Running, client: Client, program: Program) -> None:
    """A Write of many updates, or with a value of tens of megabytes, is dealt with."""
    wrong = update(INSERT, counter_entry=p4r.CounterEntry(counter_id=1))
    request = client.write_request(*[wrong] * 5_000)
    assert status(lambda: client.stub.Write(request, timeout=400)) is grpc.StatusCode.UNKNOWN
    value = p4r.RegisterEntry(register_id=program.id("registers", "op_register"))
    value.data.bitstring = bytes(40 << 20)
    assert client.codes(update(p4r.Update.MODIFY, register_entry=value)) == [0]  # zeros fit, however many
    value.data.bitstring = b"\1" * (40 << 20)
    assert status(lambda: client.write(update(p4r.Update.MODIFY, register_entry=value))) is grpc.StatusCode.UNKNOWN
    assert works(client, running, program)


def test_messages_above_the_limit(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are refused by their size."""
    monkeypatch.setattr(service, "MAX_MESSAGE", 4 << 20)
    with (
        Switch(cpu_port=CPU_PORT) as switch,
        serving(Device(DEVICE, switch)) as running,
        running.client(program) as client,
        grpc.insecure_channel(running.address, options=[("grpc.max_send_message_length", -1)]) as channel,
    ):
        call = channel.unary_unary("/p4.v1.P4Runtime/Write")
        with pytest.raises(grpc.RpcError) as caught:
            call(bytes(service.MAX_MESSAGE + 1000), timeout=400)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert works(client, running, program)


def test_long_names(client: Client, running: Running, program: Program) -> None:
    """Whatever a client puts into names and values, the status stays within what gRPC transports."""
    name = "x" * 100_000
    request = client.write_request()
    request.role = name
    assert status(lambda: client.stub.Write(request)) is grpc.StatusCode.NOT_FOUND
    for config in (role_config(shared=[name]), role_config(**{name: True}), any_pb2.Any(type_url=name)):
        stream = client.stream()
        stream.send(arbitration=arbitration(3, role="r", config=config))
        assert stream.next().code() is grpc.StatusCode.INVALID_ARGUMENT
    for register in ("op_register", "signed_register"):
        cell = p4r.RegisterEntry(register_id=program.id("registers", register))
        cell.data.bitstring = b"\1" * 10_000
        ((code, text),) = client.failures(update(p4r.Update.MODIFY, register_entry=cell))
        assert code == 11
        assert "... (10000 bytes) does not fit" in text
    watching = p4r.ActionProfileGroup(action_profile_id=program.id("action_profiles", "groups"), group_id=1)
    watching.members.add(member_id=1, weight=1, watch_port=b"\1" * 10_000)
    assert client.codes(update(INSERT, action_profile_group=watching)) == [11]
    filtered = client.stream()
    filtered.arbitrate(1, role="digits", config=role_config(packet_in_filter={"9" * 5000: 1}, receives_packet_ins=True))
    config = program.pipeline()
    config.p4info.tables[0].preamble.name = name
    assert status(lambda: client.set_pipeline(Config.VERIFY, config)) is grpc.StatusCode.INVALID_ARGUMENT
    assert works(client, running, program)


def test_no_thread_is_left_when_a_server_ends(program: Program) -> None:
    before = threading.active_count()
    for _ in range(3):
        with (
            Switch(cpu_port=CPU_PORT) as switch,
            serving(Device(DEVICE, switch)) as running,
            running.client(program) as client,
        ):
            assert works(client, running, program)
    assert settled(lambda: threading.active_count() <= before)
