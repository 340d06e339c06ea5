"""Frames on the links of a rack, captured, and what follows from them: how many, how large, and how many round trips.

tcpdump writes down the headers of everything that passes the two switches' ports; each frame is counted where it enters a
switch, and the controller's where they leave it.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import socket
import struct
import subprocess
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from protocol import wire
from protocol.rack import Rack
from protocol.wire import Op
from topologies.launch import MMU_NAME, TOR_NAME
from topologies.processes import StartError

Network = Literal["interconnect", "IP network"]
SNAP = 128  # bytes of a frame: all headers
BUFFER = 64 << 10  # KiB in the kernel
SETTLED = 1.5  # seconds after which what has passed has been written down: the kernel hands over blocks at least once a second
# Cooked frames of all interfaces, as libpcap's LINKTYPE_LINUX_SLL2: protocol, interface, ..., packet type, ..., address.
_COOKED = struct.Struct(">HHIHBB8s")
_RECORD = struct.Struct("<IIII")
_FILE_HEADER = 24
_NANOSECONDS = 0xA1B23C4D
_OUTGOING = 4
_ETHERNET = 14


@dataclass(frozen=True)
class Seen:
    """A frame that entered a switch (or left it, the controller's). ``at`` is in seconds since 1970; ``size`` includes the
    Ethernet header; ``payload`` is that of TCP."""

    at: float
    network: Network
    port: str
    size: int
    op: int = 0  # rmem's
    source: int = 0  # IPv4 address
    payload: int = 0


@dataclass(frozen=True)
class Counts:
    """Of one network: frames, their bytes, and round trips: requests that were answered."""

    frames: int
    size: int
    round_trips: int


class Capture:
    """What tcpdump has written down."""

    def __init__(self, rack: Rack, path: Path):
        self.path = path
        self._memory = {f"{MMU_NAME}-eth{e.port}" for e in rack.memory}
        ports: dict[str, Network] = {f"{MMU_NAME}-eth{e.port}": "interconnect" for e in rack.elements}
        ports |= {f"{TOR_NAME}-eth{e.tor_port}": "IP network" for e in rack.compute}
        self._ports: dict[int, tuple[str, Network]] = {
            socket.if_nametoindex(name): (name, network) for name, network in ports.items()
        }
        self.frames: list[Seen] = []

    def load(self) -> None:
        """Read the file."""
        self.frames = list(self._read(self.path.read_bytes()))

    def _read(self, data: bytes) -> Iterator[Seen]:
        fraction = 1e-9 if struct.unpack_from("<I", data)[0] == _NANOSECONDS else 1e-6
        at = _FILE_HEADER
        while at + _RECORD.size <= len(data):
            seconds, rest, kept, size = _RECORD.unpack_from(data, at)
            at += _RECORD.size
            frame = memoryview(data)[at : at + kept]
            at += kept
            protocol, _, interface, _, kind, _, _ = _COOKED.unpack_from(frame)
            if interface not in self._ports:
                continue
            name, network = self._ports[interface]
            seen = _seen(seconds + rest * fraction, network, name, size, protocol, kind, frame[_COOKED.size :])
            if seen is not None:
                yield seen

    def between(self, start: float, end: float) -> dict[Network, Counts]:
        """What passed in a span of time (seconds since 1970), by network. Signs of life do not count."""
        inside = [f for f in self.frames if start <= f.at <= end and f.op & ~wire.REPLY != Op.HEARTBEAT]
        interconnect = [f for f in inside if f.network == "interconnect"]
        ip = [f for f in inside if f.network == "IP network"]
        answered = sum(f.port in self._memory and bool(f.op & wire.REPLY) for f in interconnect)
        return {
            "interconnect": Counts(len(interconnect), sum(f.size for f in interconnect), answered),
            "IP network": Counts(len(ip), sum(f.size for f in ip), turnarounds(ip)),
        }


def _seen(at: float, network: Network, port: str, size: int, protocol: int, kind: int, data: memoryview) -> Seen | None:
    """A frame, or None for one that is counted elsewhere."""
    size += _ETHERNET - _COOKED.size
    if protocol == wire.ETHERTYPE and len(data) >= wire.HEADER_SIZE:
        _, op, _, _, source, *_ = wire.HEADER.unpack_from(data)
        if kind != _OUTGOING or source == wire.CONTROLLER_ELEMENT:  # the switch stamps all others
            return Seen(at, network, port, size, op)
    elif protocol == 0x0800 and kind != _OUTGOING and len(data) >= 20:
        header, total = (data[0] & 0xF) * 4, int.from_bytes(data[2:4], "big")
        offset = data[header + 12] >> 4 if data[9] == 6 and len(data) > header + 12 else 0
        payload = total - header - 4 * offset if offset else 0
        return Seen(at, network, port, size, 0, int.from_bytes(data[12:16], "big"), payload)
    return None


def turnarounds(frames: Iterable[Seen]) -> int:
    """How often somebody answered whoever had sent data before: changes of direction among frames with data, there and back."""
    first = last = None
    found = 0
    for frame in frames:
        if frame.payload > 0:
            first = frame.source if first is None else first
            found += frame.source != last and frame.source != first
            last = frame.source
    return found


@contextlib.contextmanager
def capturing(rack: Rack, path: Path) -> Iterator[Capture]:
    """Capture while the block runs; ``load`` it then. Raises StartError when there is no tcpdump, or when it missed frames."""
    tcpdump = shutil.which("tcpdump")
    if tcpdump is None:
        raise StartError("tcpdump is not installed: frames cannot be counted (scripts/setup.sh installs it)")
    path.parent.mkdir(parents=True, exist_ok=True)
    capture = Capture(rack, path)
    command = [tcpdump, "-i", "any", "-y", "LINUX_SLL2", "-n", "-s", str(SNAP), "-B", str(BUFFER), "-Z", "root"]
    command += ["-w", str(path), f"ether proto {wire.ETHERTYPE:#x} or net {_network(rack)}"]
    log = path.with_suffix(".log")
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        deadline = time.monotonic() + 5
        while b"listening" not in log.read_bytes():
            if process.poll() is not None or time.monotonic() > deadline:
                raise StartError(f"tcpdump does not capture: {log.read_text(errors='replace').strip()}")
            time.sleep(0.01)
        yield capture
        time.sleep(SETTLED)
    finally:
        process.terminate()
        process.wait()
    missed = re.search(r"(\d+) packets? dropped by kernel", log.read_text(errors="replace"))
    if missed is None or int(missed[1]):
        raise StartError(f"tcpdump missed frames: {log.read_text(errors='replace').strip()}")


def _network(rack: Rack) -> str:
    """All addresses of the elements."""
    return " or net ".join(sorted({e.ip.split("/")[0] for e in rack.compute}))


def total(counts: Sequence[Counts]) -> Counts:
    """Of several networks together."""
    return Counts(*(sum(getattr(c, name) for c in counts) for name in ("frames", "size", "round_trips")))
