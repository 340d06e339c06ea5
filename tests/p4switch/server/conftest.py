"""A P4Runtime server in this process on a free port, running ``entities.p4``; no interfaces, packets go in by hand."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest
from finsy.proto import p4i, p4r, p4r_grpc, rpc_status

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

    def next(self, timeout: float = 5) -> Any:
        return self.answers.get(timeout=timeout)

    def arbitrate(self, election_id: int) -> Any:
        self.send(arbitration=arbitration(election_id))
        return self.next()

    def close(self) -> None:
        self._requests.put(None)
        self._call.cancel()
        self._thread.join(5)


def arbitration(election_id: int, device: int = DEVICE) -> p4r.MasterArbitrationUpdate:
    update = p4r.MasterArbitrationUpdate(device_id=device)
    update.election_id.high, update.election_id.low = election_id >> 64, election_id & ((1 << 64) - 1)
    return update


@dataclass
class Client:
    """A plain gRPC client."""

    stub: Any
    program: Program
    streams: list[Stream] = field(default_factory=list)
    election_id: int = 1

    def stream(self) -> Stream:
        self.streams.append(Stream(self.stub))
        return self.streams[-1]

    def write_request(self, *updates: p4r.Update, atomicity: int = 0) -> p4r.WriteRequest:
        request = p4r.WriteRequest(device_id=DEVICE, updates=updates, atomicity=atomicity)
        request.election_id.low = self.election_id
        return request

    def write(self, *updates: p4r.Update, atomicity: int = 0) -> None:
        self.stub.Write(self.write_request(*updates, atomicity=atomicity))

    def failures(self, *updates: p4r.Update, atomicity: int = 0) -> list[tuple[int, str]]:
        """Code and text of each update of a Write that must fail."""
        with pytest.raises(grpc.RpcError) as caught:
            self.write(*updates, atomicity=atomicity)
        assert caught.value.code() is grpc.StatusCode.UNKNOWN
        details = dict(caught.value.trailing_metadata())["grpc-status-details-bin"]
        status = rpc_status.Status.FromString(details)
        errors = []
        for packed in status.details:
            error = p4r.Error()
            assert packed.Unpack(error)
            errors.append((error.canonical_code, error.message))
        return errors

    def set_pipeline(self, action: int, config: p4r.ForwardingPipelineConfig) -> None:
        request = p4r.SetForwardingPipelineConfigRequest(device_id=DEVICE, action=action, config=config)
        request.election_id.low = self.election_id
        self.stub.SetForwardingPipelineConfig(request)

    def read(self, *wanted: p4r.Entity) -> list[p4r.Entity]:
        request = p4r.ReadRequest(device_id=DEVICE, entities=wanted)
        return [entity for response in self.stub.Read(request) for entity in response.entities]


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


@pytest.fixture
def running() -> Iterator[Running]:
    with Switch(cpu_port=CPU_PORT) as switch:
        device = Device(DEVICE, switch)
        server, port = serve(device, "127.0.0.1:0")
        device.start()
        try:
            yield Running(device, switch, f"127.0.0.1:{port}")
        finally:
            server.stop(0.1).wait()
            device.stop()


@pytest.fixture
def bare(running: Running, program: Program) -> Iterator[Client]:
    """A client that has not said anything yet."""
    with grpc.insecure_channel(running.address) as channel:
        client = Client(p4r_grpc.P4RuntimeStub(channel), program)
        yield client
        for stream in client.streams:
            stream.close()


@pytest.fixture
def client(bare: Client, program: Program) -> Client:
    """A primary with the program installed."""
    assert bare.stream().arbitrate(1).arbitration.status.code == 0
    bare.set_pipeline(p4r.SetForwardingPipelineConfigRequest.VERIFY_AND_COMMIT, program.pipeline())
    return bare
