"""A P4Runtime server in this process on a free port, running ``entities.p4``; no interfaces, packets go in by hand."""

from __future__ import annotations

import dataclasses
import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest
from finsy.proto import p4i, p4r, p4r_grpc, rpc_status
from google.protobuf import any_pb2

from p4switch.compiler import ir, p4info
from p4switch.compiler.driver import compile_source
from p4switch.dataplane.binding import Switch
from p4switch.server.device import Device
from p4switch.server.service import serve

HERE = Path(__file__).parent
DEVICE = 7
CPU_PORT = 64


@dataclass(frozen=True)
class Program:
    """A compiled program: what a client sends, and ids by name."""

    info: p4i.P4Info
    config: bytes

    def id(self, kind: str, name: str) -> int:
        """The P4Info id of ``tables``, ``actions``, ... by alias."""
        for item in getattr(self.info, kind):
            if item.preamble.alias == name:
                return int(item.preamble.id)
        raise KeyError(name)

    def pipeline(self, cookie: int = 1) -> p4r.ForwardingPipelineConfig:
        config = p4r.ForwardingPipelineConfig(p4info=self.info, p4_device_config=self.config)
        config.cookie.cookie = cookie
        return config


@dataclass
class Running:
    """The server's side."""

    device: Device
    switch: Switch
    address: str

    @contextmanager
    def client(self, program: Program) -> Iterator[Client]:
        """A primary with a program installed."""
        with connected(self.address, program) as client:
            client.take_over()
            yield client


class Stream:
    """A StreamChannel whose answers can be waited for."""

    def __init__(self, stub: Any):
        self._requests: queue.SimpleQueue[p4r.StreamMessageRequest | None] = queue.SimpleQueue()
        self.answers: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._call = stub.StreamChannel(iter(self._requests.get, None))
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        try:
            for answer in self._call:
                self.answers.put(answer)
        except grpc.RpcError as error:
            self.answers.put(error)

    def send(self, **message: Any) -> None:
        self._requests.put(p4r.StreamMessageRequest(**message))

    def next(self, timeout: float = 60) -> Any:
        return self.answers.get(timeout=timeout)

    def arbitrate(self, election_id: int | None, **role: Any) -> Any:
        self.send(arbitration=arbitration(election_id, **role))
        return self.next()

    def close(self) -> None:
        self._requests.put(None)
        self._call.cancel()
        self._thread.join(60)


def arbitration(
    election_id: int | None, device: int = DEVICE, role: str = "", role_id: int = 0, config: any_pb2.Any | None = None
) -> p4r.MasterArbitrationUpdate:
    update = p4r.MasterArbitrationUpdate(device_id=device)
    if election_id is not None:
        update.election_id.SetInParent()
        update.election_id.high, update.election_id.low = election_id >> 64, election_id & ((1 << 64) - 1)
    if role or role_id or config is not None:
        update.role.name, update.role.id = role, role_id
        if config is not None:
            update.role.config.CopyFrom(config)
    return update


@dataclass
class Client:
    """A plain gRPC client."""

    stub: Any
    program: Program
    streams: list[Stream] = field(default_factory=list)
    election_id: int = 1
    role: str = ""

    def stream(self) -> Stream:
        self.streams.append(Stream(self.stub))
        return self.streams[-1]

    def take_over(self) -> None:
        """Become primary and install the program."""
        assert self.stream().arbitrate(1).arbitration.status.code == 0
        self.set_pipeline(p4r.SetForwardingPipelineConfigRequest.VERIFY_AND_COMMIT, self.program.pipeline())

    def acting(self, role: str, election_id: int = 1) -> Client:
        """The same client in a role that one of its streams has announced."""
        return dataclasses.replace(self, role=role, election_id=election_id)

    def write_request(self, *updates: p4r.Update, atomicity: int = 0) -> p4r.WriteRequest:
        request = p4r.WriteRequest(device_id=DEVICE, role=self.role, updates=updates, atomicity=atomicity)
        request.election_id.low = self.election_id
        return request

    def write(self, *updates: p4r.Update, atomicity: int = 0) -> None:
        self.stub.Write(self.write_request(*updates, atomicity=atomicity))

    def failures(self, *updates: p4r.Update, atomicity: int = 0) -> list[tuple[int, str]]:
        """Code and text of each update of a Write that must fail."""
        return details(lambda: self.write(*updates, atomicity=atomicity))

    def codes(self, *updates: p4r.Update, atomicity: int = 0) -> list[int]:
        """The code of each update of a Write, whether it fails or not."""
        request = self.write_request(*updates, atomicity=atomicity)
        try:
            self.stub.Write(request)
        except grpc.RpcError as error:
            return [code for code, _ in details_of(error)]
        return [0] * len(updates)

    def try_write(self, *updates: p4r.Update) -> None:
        """A Write that may fail."""
        self.codes(*updates)

    def try_write_all(self, *updates: p4r.Update, atomicity: int = 0) -> None:
        """A Write of which any part may be refused, but not the whole."""
        try:
            self.write(*updates, atomicity=atomicity)
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.UNKNOWN:
                raise

    def accepts(self, request: p4r.WriteRequest) -> bool:
        """Whether a Write succeeds."""
        try:
            self.stub.Write(request)
        except grpc.RpcError as error:
            assert error.code() is grpc.StatusCode.UNKNOWN, error
            return False
        return True

    def read_failures(self, *wanted: p4r.Entity) -> list[tuple[int, str]]:
        """Code and text of each request of a Read that must fail."""
        return details(lambda: self.read(*wanted))

    def set_pipeline(self, action: int, config: p4r.ForwardingPipelineConfig) -> None:
        request = p4r.SetForwardingPipelineConfigRequest(device_id=DEVICE, role=self.role, action=action, config=config)
        request.election_id.low = self.election_id
        self.stub.SetForwardingPipelineConfig(request)

    def read(self, *wanted: p4r.Entity) -> list[p4r.Entity]:
        request = p4r.ReadRequest(device_id=DEVICE, role=self.role, entities=wanted)
        return [entity for response in self.stub.Read(request) for entity in response.entities]


@contextmanager
def connected(address: str, program: Program) -> Iterator[Client]:
    """A client of a server."""
    with grpc.insecure_channel(address) as channel:
        client = Client(p4r_grpc.P4RuntimeStub(channel), program)
        try:
            yield client
        finally:
            for stream in client.streams:
                stream.close()


def details(call: Callable[[], object]) -> list[tuple[int, str]]:
    """Code and text for each part of a request that must fail."""
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return details_of(caught.value)


def details_of(refusal: Any) -> list[tuple[int, str]]:
    """Code and text for each part of a refused request."""
    assert refusal.code() is grpc.StatusCode.UNKNOWN, refusal
    packed_status = dict(refusal.trailing_metadata())["grpc-status-details-bin"]
    status = rpc_status.Status.FromString(packed_status)
    assert (status.code, status.message) == (2, refusal.details())
    errors = []
    for packed in status.details:
        error = p4r.Error()
        assert packed.Unpack(error)
        errors.append((error.canonical_code, error.message))
    return errors


def everything(client: Client) -> list[p4r.Entity]:
    """All state of the switch, in no particular order of entries."""
    resources = {"counter_data": p4r.CounterData(), "meter_config": p4r.MeterConfig()}
    found = client.read(
        p4r.Entity(table_entry=p4r.TableEntry(**resources)),
        p4r.Entity(table_entry=p4r.TableEntry(is_default_action=True)),
        p4r.Entity(action_profile_member=p4r.ActionProfileMember()),
        p4r.Entity(action_profile_group=p4r.ActionProfileGroup()),
        p4r.Entity(counter_entry=p4r.CounterEntry()),
        p4r.Entity(direct_counter_entry=p4r.DirectCounterEntry()),
        p4r.Entity(meter_entry=p4r.MeterEntry()),
        p4r.Entity(direct_meter_entry=p4r.DirectMeterEntry()),
        p4r.Entity(register_entry=p4r.RegisterEntry()),
        p4r.Entity(value_set_entry=p4r.ValueSetEntry()),
        p4r.Entity(digest_entry=p4r.DigestEntry()),
        p4r.Entity(packet_replication_engine_entry=p4r.PacketReplicationEngineEntry()),
    )
    return sorted(found, key=lambda entity: entity.SerializeToString(deterministic=True))


def refused(code: grpc.StatusCode, call: Callable[[], object]) -> str:
    """The text of a call that fails with this code."""
    with pytest.raises(grpc.RpcError) as caught:
        call()
    assert caught.value.code() is code, caught.value
    return str(caught.value.details())


@pytest.fixture(scope="session")
def program() -> Program:
    compiled = compile_source(HERE / "entities.p4").program
    return Program(p4info.build(compiled), ir.dumps(compiled))


@contextmanager
def serving(device: Device, **options: Any) -> Iterator[Running]:
    """A device served on a free port."""
    server, port = serve(device, "127.0.0.1:0", **options)
    device.start()
    try:
        yield Running(device, device.switch, f"127.0.0.1:{port}")
    finally:
        server.stop(0.1).wait()
        device.stop()


@pytest.fixture
def running() -> Iterator[Running]:
    with Switch(cpu_port=CPU_PORT) as switch, serving(Device(DEVICE, switch)) as found:
        yield found


@pytest.fixture
def bare(running: Running, program: Program) -> Iterator[Client]:
    """A client that has not said anything yet."""
    with connected(running.address, program) as client:
        yield client


@pytest.fixture
def client(bare: Client) -> Client:
    """A primary with the program installed."""
    bare.take_over()
    return bare
