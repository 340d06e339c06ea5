"""Packet I/O on veth pairs in a network namespace of the test's own: frames, tags, checksums, links that come and go, no loss.

``testprog.c`` reads the first bytes of a frame, its destination address, as op, arg and word: 28:00:00:01:... goes to port 1.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from p4switch.dataplane.binding import Code, DataplaneError, EventKind, Op, Switch
from tests.p4switch.dataplane.conftest import CPU_PORT, Bench

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root"),
]

CLONE_NEWNET = 0x40000000
TO_PORT_1 = bytes.fromhex("280000010000" + "020000000001" + "88b5")
TO_CPU = bytes([0x28, 0, 0, CPU_PORT]) + TO_PORT_1[4:]


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


def make_link(number: int, mtu: int = 9000) -> None:
    """swN is the switch's end, ehN the host's."""
    ip("link", "add", f"sw{number}", "type", "veth", "peer", "name", f"eh{number}")
    for name in (f"sw{number}", f"eh{number}"):
        subprocess.run(["sysctl", "-qw", f"net.ipv6.conf.{name}.disable_ipv6=1"], check=True, capture_output=True)
        ip("link", "set", name, "mtu", str(mtu), "up")


def host(number: int) -> socket.socket:
    """A raw socket on a host's end."""
    made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    made.setsockopt(socket.SOL_SOCKET, 33, 64 << 20)  # SO_RCVBUFFORCE
    made.setsockopt(263, 23, 1)  # SOL_PACKET, PACKET_IGNORE_OUTGOING
    made.bind((f"eh{number}", 3))
    made.settimeout(60)
    return made


@pytest.fixture
def namespace() -> Iterator[None]:
    """This thread, and all it starts, in a fresh namespace with two links; it vanishes with its last user."""
    libc = ctypes.CDLL(None, use_errno=True)
    original = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    if libc.unshare(CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    try:
        for number in range(2):
            make_link(number)
        yield
    finally:
        assert libc.setns(original, CLONE_NEWNET) == 0
        os.close(original)


def start(bench: Bench, xdp: bool) -> Bench:
    for number in range(2):
        assert bench.switch.add_port(number, f"sw{number}", xdp=xdp) is None
    bench.switch.start()
    return bench


@pytest.fixture(params=["packet", "xdp"])
def running(namespace: None, bench: Bench, request: pytest.FixtureRequest) -> Bench:
    return start(bench, xdp=request.param == "xdp")


@pytest.fixture
def running_packet(namespace: None, bench: Bench) -> Bench:
    return start(bench, xdp=False)


def eventually(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def silent(receiver: socket.socket) -> bool:
    receiver.settimeout(0.1)
    try:
        receiver.recv(65536)
    except TimeoutError:
        return True
    finally:
        receiver.settimeout(60)
    return False


def test_frames_pass(running: Bench) -> None:
    with host(0) as sender, host(1) as receiver:
        for size in (14, 60, 1514, 9014):
            frame = TO_PORT_1 + os.urandom(size - 14)
            sender.send(frame)
            assert receiver.recv(65536) == frame
        stats = running.switch.port_stats(1)
        assert (stats.tx_packets, stats.tx_bytes) == (4, 14 + 60 + 1514 + 9014)
        # What the switch sends is not received by it again.
        assert stats.rx_packets == 0
        assert silent(sender)


def test_vlan_tags_survive(running: Bench) -> None:
    with host(0) as sender, host(1) as receiver:
        # The receiving socket of the test is told tags apart from the frame, so look at the switch's captures of them:
        # send two tags, the inner of which is part of the frame for everybody.
        for tags in ("8100002a", "88a80064810000c8", "8100e007"):
            frame = TO_PORT_1[:12] + bytes.fromhex(tags) + b"\x88\xb5" + bytes(60)
            before = running.switch.port_stats(1).tx_bytes
            sender.send(frame)
            assert receiver.recv(65536)[:12] == frame[:12]
            assert running.switch.port_stats(1).tx_bytes - before == len(frame)


def test_vlan_tag_in_the_capture(running: Bench, tmp_path: Path) -> None:
    running.switch.pcap(tmp_path)
    with host(0) as sender, host(1) as receiver:
        frame = TO_PORT_1[:12] + bytes.fromhex("8100002a") + b"\x88\xb5" + bytes(range(50))
        sender.send(frame)
        receiver.recv(65536)
    running.switch.pcap(None)
    from scapy.utils import rdpcap  # type: ignore[attr-defined]

    for port in (0, 1):
        (captured,) = rdpcap(str(tmp_path / f"port{port}.pcapng"))
        assert bytes(captured) == frame


def test_partial_checksums_are_completed(running_packet: Bench) -> None:
    """The kernel's UDP leaves checksums to veth, which never makes them; behind the switch they are right."""
    ip("address", "add", "10.9.8.1/24", "dev", "eh0")
    ip("neighbour", "add", "10.9.8.2", "lladdr", "28:00:00:01:00:00", "dev", "eh0")
    from scapy.layers.inet import IP, UDP
    from scapy.layers.l2 import Ether

    with host(1) as receiver, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        for length in (1, 10, 1001):
            udp.sendto(os.urandom(length), ("10.9.8.2", 4242))
            frame = receiver.recv(65536)
            packet = Ether(frame)
            checksum = packet[UDP].chksum
            del packet[UDP].chksum
            assert Ether(bytes(packet))[UDP].chksum == checksum
            assert packet[IP].len == len(frame) - 14 == length + 28


def test_frames_that_are_too_long(running: Bench) -> None:
    for name in ("sw0", "eh0"):
        ip("link", "set", name, "mtu", "9500")
    with host(0) as sender, host(1) as receiver:
        sender.send(TO_PORT_1 + bytes(9400))
        sender.send(TO_PORT_1 + bytes(9100))  # fits the switch, but not the other link
        sender.send(TO_PORT_1 + b"small")
        assert receiver.recv(65536)[14:19] == b"small"
    assert running.switch.port_stats(0).rx_oversized == 1
    assert running.switch.port_stats(1).tx_drops == 1


def test_packet_in_and_out(running: Bench) -> None:
    with host(0) as sender, host(1) as receiver:
        got: list[bytes] = []

        def wait() -> None:
            while (event := running.switch.event(timeout=400)) is not None:
                assert event.kind == EventKind.PACKET_IN
                got.append(event.data)

        thread = threading.Thread(target=wait)
        thread.start()
        for number in range(5):
            sender.send(TO_CPU + bytes([number]))
        eventually(lambda: len(got) == 5)
        running.switch.wake()
        thread.join(60)
        assert not thread.is_alive()
        assert got == [TO_CPU + bytes([n]) for n in range(5)]
        running.switch.packet_out(TO_PORT_1 + b"out")
        assert receiver.recv(65536) == TO_PORT_1 + b"out"


def test_link_down_and_up(running: Bench) -> None:
    with host(0) as sender, host(1) as receiver:
        ip("link", "set", "sw1", "down")
        sender.send(TO_PORT_1 + b"lost")
        eventually(lambda: running.switch.port_stats(1).tx_drops == 1)
        ip("link", "set", "sw1", "up")
        sender.send(TO_PORT_1 + b"found")
        assert receiver.recv(65536) == TO_PORT_1 + b"found"


@pytest.mark.parametrize("down_first", [False, True])
def test_interface_vanishes_and_returns(running: Bench, down_first: bool) -> None:
    if down_first:  # the kernel then reports nothing more when the interface goes
        ip("link", "set", "sw0", "down")
        time.sleep(0.1)
    ip("link", "delete", "sw0")
    started = sum(os.times()[:2])
    time.sleep(0.5)
    assert sum(os.times()[:2]) - started < 0.25, "the data plane is busy with an interface that is gone"
    make_link(0)

    def passes() -> bool:
        with host(0) as sender, host(1) as receiver:
            sender.send(TO_PORT_1 + b"back")
            return not silent(receiver)

    eventually(passes)


def test_ports_come_and_go(running: Bench) -> None:
    switch = running.switch
    for call in (
        lambda: switch.add_port(0, "sw0"),
        lambda: switch.add_port(2, "none"),
        lambda: switch.add_port(2, "x" * 16),
    ):
        with pytest.raises(DataplaneError) as caught:
            call()
        assert caught.value.code in (Code.EXISTS, Code.IO)
    with pytest.raises(DataplaneError, match="valid are 0 to 511 without 511"):
        switch.add_port(511, "sw0")
    with host(0) as sender, host(1) as receiver:
        for _ in range(20):
            switch.remove_port(0)
            switch.add_port(0, "sw0")
            sender.send(TO_PORT_1)
            assert receiver.recv(65536) == TO_PORT_1
        switch.stop()
        sender.send(TO_PORT_1)
        assert silent(receiver)
        switch.inject(5, TO_PORT_1 + b"injected")  # goes out on the interface without the thread, too
        assert receiver.recv(65536) == TO_PORT_1 + b"injected"
        switch.start()
        assert receiver.recv(65536) == TO_PORT_1  # what came meanwhile waited in the ring
        with pytest.raises(DataplaneError):
            switch.start()


# Numbered frames, 32 at a time with pauses, so that only a switch that stops for long can lose one. A process of its own: two
# threads that hand the interpreter's lock to each other for every frame take minutes on a busy machine.
BLAST = """
import socket, sys, time
head, count = bytes.fromhex(sys.argv[1]), int(sys.argv[2])
with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sender:
    sender.bind(("eh0", 0))
    for number in range(count):
        sender.send(head + number.to_bytes(4, "big"))
        if number % 32 == 31:
            time.sleep(0.0015)
"""


@contextlib.contextmanager
def blasting(count: int) -> Iterator[subprocess.Popen[bytes]]:
    """A process that sends ``count`` frames from host 0 to port 1."""
    with subprocess.Popen([sys.executable, "-c", BLAST, TO_PORT_1.hex(), str(count)]) as process:
        try:
            yield process
        finally:
            process.kill()


def receive_numbers(receiver: socket.socket, count: int) -> list[int]:
    return [int.from_bytes(receiver.recv(65536)[14:18], "big") for _ in range(count)]


def test_no_loss_while_updating(running: Bench, program_file: Path) -> None:
    """Frames in flight while 10,000 entries go in and out again, one Write of 100 at a time: all arrive, in order."""
    count = 30_000
    with host(1) as receiver, blasting(count) as process:
        applied = 0
        while process.poll() is None or applied < 20_000:
            op = Op.INSERT if applied // 10_000 % 2 == 0 else Op.DELETE
            first = applied % 10_000
            batch = [running.update(op, "exact", (n,), None, n) for n in range(first, first + 100)]
            assert {r.code for r in running.switch.apply(batch, all_or_none=bool(applied // 100 % 2))} == {Code.OK}
            applied += 100
        assert process.returncode == 0
        eventually(lambda: running.switch.stats().rx_packets + running.switch.stats().rx_missed >= count)
        stats = running.switch.stats()
        assert (stats.rx_missed, stats.tx_drops, stats.dropped) == (0, 0, 0)
        assert receive_numbers(receiver, count) == list(range(count))
    assert applied >= 20_000


def test_no_loss_during_large_batches(running: Bench) -> None:
    """30,000 updates in one call give way to frames: all arrive."""
    count = 6000
    batches = [
        [running.update(op, "exact", (n,), None, n) for n in range(30_000)] for op in (Op.INSERT, Op.MODIFY, Op.DELETE)
    ]
    with host(1) as receiver, blasting(count) as process:
        applied = 0
        while process.poll() is None or applied < len(batches):
            assert {r.code for r in running.switch.apply(batches[applied % len(batches)])} == {Code.OK}
            applied += 1
        assert process.returncode == 0
        eventually(lambda: running.switch.stats().rx_packets + running.switch.stats().rx_missed >= count)
        assert running.switch.stats().rx_missed == 0
        assert receive_numbers(receiver, count) == list(range(count))


def test_no_loss_while_loading(running: Bench, program_file: Path) -> None:
    with host(1) as receiver, blasting(4000) as process:
        while process.poll() is None:
            running.switch.load(program_file)
        assert process.returncode == 0
        assert receive_numbers(receiver, 4000) == list(range(4000))


def test_busy_poll(running: Bench) -> None:
    running.switch.busy_poll(200)
    with host(0) as sender, host(1) as receiver:
        for number in range(200):
            sender.send(TO_PORT_1 + bytes([number]))
            assert receiver.recv(65536) == TO_PORT_1 + bytes([number])
    time.sleep(0.05)
    started = sum(os.times()[:2])
    time.sleep(0.3)
    assert sum(os.times()[:2]) - started < 0.15, "polling must end when nothing arrives"


def test_busy_poll_is_given_up_when_it_does_not_pay(running: Bench) -> None:
    """Frames that come more rarely than it would wait for them: it sleeps in between."""
    running.switch.busy_poll(20_000)
    with host(0) as sender, host(1) as receiver:
        for _ in range(20):  # learns
            sender.send(TO_PORT_1)
            receiver.recv(65536)
            time.sleep(0.02)
        started = sum(os.times()[:2])
        for _ in range(20):  # polls of 20 ms after each would take 0.4 s
            sender.send(TO_PORT_1)
            receiver.recv(65536)
            time.sleep(0.02)
        assert sum(os.times()[:2]) - started < 0.2


def test_queues_empty_by_themselves(running: Bench) -> None:
    """With a rate, frames wait and leave without anything else happening; the order holds and a full queue drops."""
    running.switch.queues.set_rate(500, port=1)
    running.switch.queues.set_depth(10, port=1)
    with host(0) as sender, host(1) as receiver:
        for number in range(30):
            sender.send(TO_PORT_1 + bytes([number] * 46))
        eventually(lambda: running.switch.stats().rx_packets == 30)
        eventually(lambda: (queue := running.switch.queues.get(1)) is not None and queue.length == 0)
        queue = running.switch.queues.get(1)
        assert queue is not None
        assert queue.enqueued + queue.dropped == 30
        assert queue.dropped >= 1
        got = [receiver.recv(65536)[-1] for _ in range(queue.enqueued)]
        assert got == sorted(got)
        assert silent(receiver)


def test_xdp_falls_back(namespace: None, bench: Bench) -> None:
    """To AF_PACKET, saying why: on interfaces with several queues or with an XDP program; afterwards no program is left."""
    ip("link", "add", "many", "numrxqueues", "2", "numtxqueues", "2", "type", "veth", "peer", "name", "manypeer")
    why = bench.switch.add_port(4, "many", xdp=True)
    assert why is not None
    assert why.startswith(
        "many: AF_XDP is not possible, AF_PACKET is used: the interface has more than one receive queue"
    )
    assert bench.switch.add_port(0, "sw0", xdp=True) is None
    with Switch() as other:
        why = other.add_port(0, "sw0", xdp=True)
        assert why is not None
        assert "AF_PACKET is used: " in why
    bench.switch.remove_port(0)
    links = subprocess.run(["ip", "-d", "link", "show", "sw0"], check=True, capture_output=True, text=True).stdout
    assert "xdp" not in links
    assert bench.switch.add_port(0, "sw0", xdp=True) is None


def test_xdp_and_packet_ports_in_one_switch(namespace: None, bench: Bench) -> None:
    for number in range(2):
        assert bench.switch.add_port(number, f"sw{number}", xdp=number == 0) is None
    bench.switch.start()
    back = bytes.fromhex("280000000000") + TO_PORT_1[6:]
    with host(0) as left, host(1) as right:
        for size in (14, 4000, 4096, 4097, 9014):
            for frame, sender, receiver in ((TO_PORT_1, left, right), (back, right, left)):
                whole = frame + os.urandom(size - 14)
                sender.send(whole)
                assert receiver.recv(65536) == whole
