"""The P4Runtime client against the embedded switch's server: the Rack MMU's program, no interfaces."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import text_format

from controller.core import entries
from controller.core.entries import Entry, Write, WriteOp
from controller.core.step import initial
from controller.p4rt import SwitchClient
from controller.switch import Deposed, SwitchError
from p4switch.compiler import ir, p4info
from p4switch.compiler.driver import compile_source
from p4switch.dataplane.binding import Switch
from p4switch.server.device import Device
from p4switch.server.service import serve
from protocol import wire
from protocol.wire import Header, Op
from topologies.racks import small_rack

ROOT = Path(__file__).resolve().parents[2]
RACK = small_rack(compute=2, dram=2, nvm=0, memory_mib=1)
CPU_PORT = 510
VA = 5 << 48


@dataclass
class Target:
    """The switch's process: it can end and begin again at the same address."""

    address: str = "127.0.0.1:0"
    switch: Any = None
    stop: Callable[[], None] = field(default=lambda: None)

    def start(self) -> None:
        switch = Switch(cpu_port=CPU_PORT)
        switch.__enter__()
        device = Device(1, switch)
        server, port = serve(device, self.address)
        device.start()
        self.address, self.switch = f"127.0.0.1:{port}", switch

        def stop() -> None:
            server.stop(0.05).wait()
            device.stop()
            switch.__exit__(None, None, None)

        self.stop = stop


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    compiled = compile_source(ROOT / "p4src" / "rack_mmu.p4").program
    out = tmp_path_factory.mktemp("pipeline")
    (out / "info").write_text(text_format.MessageToString(p4info.build(compiled)))
    (out / "config").write_bytes(ir.dumps(compiled))
    return out / "info", out / "config"


@pytest.fixture
def target() -> Iterator[Target]:
    made = Target()
    made.start()
    yield made
    made.stop()


@dataclass
class Heard:
    packets: list[tuple[int, bytes]] = field(default_factory=list)
    digests: list[tuple[int, ...]] = field(default_factory=list)


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
def client(target: Target, pipeline: tuple[Path, Path], heard: Heard) -> Iterator[SwitchClient]:
    made = make_client(target, pipeline, heard)
    made.connect(10)
    made.push_pipeline()
    yield made
    made.close()


def make_client(target: Target, pipeline: tuple[Path, Path], heard: Heard) -> SwitchClient:
    return SwitchClient(
        target.address, 1, *pipeline, lambda e, f: heard.packets.append((e, f)), lambda m: heard.digests.append(m)
    )


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


WANTED = [
    *entries.all_entries(initial(RACK)),
    Entry("binding", (("element", 1), ("pid", 5)), "bind"),
    Entry("translation", (("va", (VA, 50)),), "map_page", (("element", 101), ("offset", (1 << 64) - VA))),
    Entry("translation", (("va", (VA, 52)),), "unmapped"),
    Entry("protection", (("pid", 5), ("va", (VA, 50))), "allow", (("permissions", 3), ("generation", (1 << 32) - 1))),
    Entry("protection", (("pid", 5), ("va", (VA, 52))), "deny"),
]


def test_what_was_written_is_read_back(client: SwitchClient) -> None:
    client.write(entries.difference((), WANTED))
    assert {e.key: e for e in client.read_entries()} == {e.key: e for e in WANTED}
    assert not entries.difference(client.read_entries(), WANTED)
    client.write(entries.difference(client.read_entries(), WANTED[:3]))
    assert {e.key: e for e in client.read_entries()} == {e.key: e for e in WANTED[:3]}
    assert client.table_size("translation", "protection") == 65536
    assert client.table_size("element", "protection") == 512


def test_a_refused_write_names_the_entry(client: SwitchClient) -> None:
    client.write([Write(WriteOp.INSERT, WANTED[0])])
    with pytest.raises(SwitchError, match=r"refuses a write: .*for "):
        client.write([Write(WriteOp.INSERT, WANTED[0])])
    with pytest.raises(SwitchError):
        client.write([Write(WriteOp.DELETE, WANTED[-1])])
    assert len(client.read_entries()) == 1


def test_many_writes_are_carried_out_in_order(client: SwitchClient) -> None:
    def page(n: int, op: WriteOp, action: str) -> Write:
        return Write(op, Entry("protection", (("pid", 5), ("va", (VA + n * 4096, 52))), action))

    writes = [page(n, WriteOp.INSERT, "deny") for n in range(1200)]
    writes += [page(n, WriteOp.DELETE, "deny") for n in range(0, 1200, 2)]
    client.write(writes)
    assert len(client.read_entries()) == 600


def test_packets(client: SwitchClient, target: Target, heard: Heard) -> None:
    client.write(entries.difference((), WANTED))
    hello = wire.element_mac(0) + wire.element_mac(1) + b"\x88\xb5" + Header(Op.HELLO, request_id=9).pack() + bytes(24)
    target.switch.inject(RACK.by_id(1).port, hello)
    wait_for(lambda: len(heard.packets) == 1)
    element, frame = heard.packets[0]
    assert element == 1
    assert Header.unpack(frame, 14).request_id == 9
    counted = {1: (1, len(hello))}
    assert client.read_counter("element_traffic") == client.read_counter("element_traffic", [1, 101]) == counted
    assert client.read_counter("element_traffic", [101]) == client.read_counter("element_traffic", []) == {}
    with pytest.raises(SwitchError, match="refuses a read"):
        client.read_counter("element_traffic", [1 << 20])


def test_the_same_program_is_not_installed_twice(
    client: SwitchClient, target: Target, pipeline: tuple[Path, Path], heard: Heard, tmp_path: Path
) -> None:
    assert client.has_pipeline()
    other = tmp_path / "config"
    other.write_bytes(pipeline[1].read_bytes() + b"\n")
    changed = make_client(target, (pipeline[0], other), heard)
    changed.connect(5)
    assert not changed.has_pipeline()
    changed.close()


def test_a_switch_that_died_is_connected_to_again(client: SwitchClient, target: Target) -> None:
    client.write(entries.difference((), WANTED))
    target.stop()
    wait_for(lambda: not client.is_connected)
    with pytest.raises(SwitchError):
        client.read_entries()
    with pytest.raises(SwitchError, match=r"127\.0\.0\.1:\d+: no P4Runtime server within"):
        client.connect(0.3)
    assert not client.is_connected
    client.packet_out(1, bytes(60))  # is lost
    target.start()
    client.connect(10)
    assert client.is_connected
    assert not client.has_pipeline()
    client.push_pipeline()
    assert client.read_entries() == []
    client.subscribe_digest("failed_access_t")
    client.subscribe_digest("failed_access_t")  # also when it is there already


def test_a_later_controller_takes_over_and_the_earlier_one_does_not_come_back(
    client: SwitchClient, target: Target, pipeline: tuple[Path, Path], heard: Heard
) -> None:
    later = make_client(target, pipeline, heard)
    later.connect(5)
    wait_for(lambda: not client.is_connected)
    with pytest.raises(SwitchError, match="refuses a write"):
        client.write([Write(WriteOp.INSERT, WANTED[0])])
    with pytest.raises(Deposed, match="another controller"):
        client.connect(5)
    assert later.is_connected
    later.write([Write(WriteOp.INSERT, WANTED[0])])
    later.close()


def test_an_earlier_controller_that_was_away_learns_that_it_was_outbid(
    client: SwitchClient, target: Target, pipeline: tuple[Path, Path], heard: Heard
) -> None:
    client.close()
    later = make_client(target, pipeline, heard)
    later.connect(5)
    with pytest.raises(Deposed, match="not primary"):
        client.connect(5)
    assert later.is_connected
    later.close()


def test_nobody_there(pipeline: tuple[Path, Path], heard: Heard) -> None:
    client = make_client(Target("127.0.0.1:1"), pipeline, heard)
    with pytest.raises(SwitchError, match="not connected"):
        client.read_entries()
    with pytest.raises(SwitchError, match="no P4Runtime server"):
        client.connect(0.2)


def test_reading_while_the_connection_is_closed_is_a_typed_error(client: SwitchClient) -> None:
    client.write(entries.difference((), WANTED))
    outcomes: list[object] = []

    def read() -> None:
        try:
            while True:
                client.read_entries()
        except SwitchError as error:
            outcomes.append(error)
        except Exception as error:
            outcomes.append(AssertionError(repr(error)))

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    time.sleep(0.05)
    client.close()
    thread.join(60)
    assert isinstance(outcomes[0], SwitchError), outcomes
