"""Malformed requests: the server answers each with a status and goes on."""

from __future__ import annotations

import copy
import json
import random
from typing import Any

import grpc
import pytest
from finsy.proto import p4r

from tests.p4switch.server.conftest import DEVICE, Client, Program, Running
from tests.p4switch.server.entries import INSERT, action, entry, exact, packet, update
from tests.p4switch.server.refusals import other_errors, table_errors

FINE = {
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.UNIMPLEMENTED,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.OUT_OF_RANGE,
}


def scramble(rng: random.Random, message: Any, depth: int = 0) -> None:
    """Change fields of a protobuf message at random: drop, repeat, replace by extremes."""
    for descriptor, value in message.ListFields():
        chance = rng.random()
        if chance < 0.15:
            message.ClearField(descriptor.name)
        elif descriptor.is_repeated:
            if descriptor.message_type is None:
                continue
            is_map = hasattr(value, "values")
            for item in value.values() if is_map else value:
                if hasattr(item, "ListFields"):
                    scramble(rng, item, depth + 1)
            if chance < 0.3 and not is_map:
                value.add().CopyFrom(value[0])
        elif descriptor.message_type is not None:
            scramble(rng, value, depth + 1)
        elif chance < 0.4 and descriptor.cpp_type == descriptor.CPPTYPE_STRING:
            setattr(
                message, descriptor.name, rng.randbytes(rng.choice([0, 1, 4, 300])) if isinstance(value, bytes) else "x"
            )
        elif chance < 0.4 and descriptor.cpp_type in (descriptor.CPPTYPE_INT32, descriptor.CPPTYPE_INT64):
            setattr(message, descriptor.name, rng.choice([-1, 0, 1, 1 << 30, -(1 << 31)]))
        elif chance < 0.4 and descriptor.cpp_type in (descriptor.CPPTYPE_UINT32, descriptor.CPPTYPE_UINT64):
            setattr(message, descriptor.name, rng.choice([0, 1, 1 << 31, (1 << 32) - 1, rng.getrandbits(32)]))


def works(client: Client, running: Running, program: Program) -> bool:
    """The switch still does what it should."""
    good = entry(program, "exact_table", exact(1, b"\x63"), action=action(program, "metered", b"\2"))
    client.write(update(INSERT, table_entry=good))
    done = [o.port for o in running.switch.process(3, packet(1, number=0x63))] == [2]
    client.write(update(p4r.Update.DELETE, table_entry=good))
    return done


@pytest.mark.parametrize("seed", range(4))
def test_scrambled_writes_and_reads(client: Client, running: Running, program: Program, seed: int) -> None:
    rng = random.Random(seed)
    templates = [*table_errors(program).values(), *other_errors(program).values()]
    for _ in range(250):
        updates = [p4r.Update() for _ in range(rng.randrange(1, 4))]
        for made in updates:
            made.CopyFrom(rng.choice(templates))
            made.type = rng.choice([made.type, 1, 2, 3])
            scramble(rng, made)
        request = client.write_request(*updates, atomicity=rng.choice([0, 0, 1, 2]))
        try:
            client.stub.Write(request)
        except grpc.RpcError as error:
            assert error.code() in FINE, (error, request)
            if error.code() is grpc.StatusCode.UNKNOWN:
                assert "fault of the server" not in str(error.details()), (error, request)
        wanted = p4r.ReadRequest(device_id=DEVICE, entities=[u.entity for u in updates])
        try:
            list(client.stub.Read(wanted))
        except grpc.RpcError as error:
            assert error.code() in FINE, (error, wanted)
    wipe = client.read(p4r.Entity(table_entry=entry(program, "exact_table")))
    client.write(*[update(p4r.Update.DELETE, table_entry=e.table_entry) for e in wipe])
    assert works(client, running, program)


def test_garbage_on_the_stream(client: Client, running: Running, program: Program) -> None:
    rng = random.Random(5)
    stream = client.streams[0]
    for _ in range(200):
        message = p4r.PacketOut(payload=rng.randbytes(rng.randrange(200)))
        for _ in range(rng.randrange(3)):
            message.metadata.add(metadata_id=rng.randrange(4), value=rng.randbytes(rng.randrange(4)))
        rng.choice(
            [
                lambda m=message: stream.send(packet=m),
                lambda: stream.send(),
                lambda: stream.send(digest_ack=p4r.DigestListAck(digest_id=rng.randrange(9), list_id=rng.randrange(9))),
                lambda: stream.send(other={"type_url": "x", "value": b"y"}),
            ]
        )()
    assert works(client, running, program)


def test_raw_bytes_as_requests(client: Client, running: Running, program: Program) -> None:
    """Bytes that are no protobuf at all."""
    rng = random.Random(6)
    with grpc.insecure_channel(running.address) as channel:
        for method in ("Write", "SetForwardingPipelineConfig", "GetForwardingPipelineConfig", "NoSuchMethod"):
            call = channel.unary_unary(f"/p4.v1.P4Runtime/{method}")
            for _ in range(20):
                with pytest.raises(grpc.RpcError):
                    call(b"\xff" + rng.randbytes(rng.randrange(100)), timeout=5)
    assert works(client, running, program)


def nodes(tree: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) of a JSON tree."""
    found = []
    todo = [tree]
    while todo:
        container = todo.pop()
        keys = list(container) if isinstance(container, dict) else range(len(container))
        for key in keys:
            found.append((container, key))
            if isinstance(container[key], dict | list):
                todo.append(container[key])
    return found


def tamper(rng: random.Random, tree: Any) -> None:
    """Change one node: remove it, copy another over it, or put in a value of its kind that is out of place."""
    everything = nodes(tree)
    container, key = rng.choice(everything)
    value = container[key]
    other, other_key = rng.choice(everything)
    choice = rng.randrange(5)
    if choice == 0:
        del container[key]
    elif choice == 1:
        container[key] = copy.deepcopy(other[other_key])
    elif isinstance(value, str):
        container[key] = rng.choice(
            ['x"; abort(); "', "*/ abort(); /*", "-1", "99999999999999999999", "", "\0", value + "x", "main"]
        )
    elif isinstance(value, bool | int):
        container[key] = rng.choice([0, 1, -1, 7, 2048, 2049, 1 << 31, 1 << 62, 1 << 64])
    elif isinstance(value, list):
        container[key] = rng.choice([[], value * 2, value[::-1]])


@pytest.mark.parametrize("seed", range(3))
def test_tampered_pipelines(client: Client, running: Running, program: Program, seed: int) -> None:
    """An IR that somebody has tampered with is refused, or is a program: it never becomes C that does not compile."""
    rng = random.Random(seed)
    for number in range(60):
        if number % 3 == 0:  # not even JSON
            config = bytearray(program.config)
            at = rng.randrange(len(config))
            config[at : at + rng.randrange(1, 5)] = rng.choice([b"", b'"', b"9", b"[]", rng.randbytes(3)])
            text = bytes(config)
        else:
            tree = json.loads(program.config)
            for _ in range(rng.randrange(1, 3)):
                tamper(rng, tree)
            text = json.dumps(tree).encode()
        pipeline = p4r.ForwardingPipelineConfig(p4info=program.info, p4_device_config=text)
        try:
            client.set_pipeline(p4r.SetForwardingPipelineConfigRequest.VERIFY, pipeline)
        except grpc.RpcError as error:
            assert error.code() in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.UNIMPLEMENTED), error
            assert "failed:" not in str(error.details()), error
    assert works(client, running, program)
