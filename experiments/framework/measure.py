"""What crosses the links of a rack: counted at its switches' ports, and captured there in case something goes wrong."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from experiments.framework.model import Network, Traffic
from protocol.rack import Rack
from topologies.launch import MMU_NAME, TOR_NAME

Ports = Mapping[Network, Sequence[str]]
SNAP = 192  # bytes of a frame that are captured: all headers, and the start of the data
# Options of a controller: signs of life are packets, too; hardly any, while packets are counted.
QUIET = ("--heartbeat-interval", "20000", "--heartbeat-timeout", "100000")
RING = ("-C", "32", "-W", "2")  # the last 32 to 64 MB of each port


def rack_ports(rack: Rack, prefix: str = "") -> Ports:
    """The switches' ports of a rack, by network. ``prefix`` is that of its switches' names."""
    return {
        "interconnect": [f"{prefix}{MMU_NAME}-eth{element.port}" for element in rack.elements],
        "rack": [f"{prefix}{TOR_NAME}-eth{element.tor_port}" for element in rack.elements if element.tor_port],
    }


class Meter:
    """Frames and bytes in both directions of ports, as the kernel counts them (heartbeats and notices, too)."""

    def __init__(self, ports: Ports):
        self._ports = ports

    def read(self) -> dict[Network, Traffic]:
        """Since the ports were made."""
        return {network: sum(map(_port, names), Traffic()) for network, names in self._ports.items()}


def since(before: Mapping[Network, Traffic], after: Mapping[Network, Traffic]) -> dict[Network, Traffic]:
    """What came between two readings."""
    return {
        network: Traffic(0.0, now.messages - before[network].messages, now.size - before[network].size)
        for network, now in after.items()
    }


def _port(name: str) -> Traffic:
    counters = Path("/sys/class/net") / name / "statistics"
    read = {what: int((counters / what).read_text()) for what in ("rx_packets", "tx_packets", "rx_bytes", "tx_bytes")}
    return Traffic(0.0, read["rx_packets"] + read["tx_packets"], read["rx_bytes"] + read["tx_bytes"])


@contextlib.contextmanager
def captured(ports: Ports, directory: Path) -> Iterator[None]:
    """The last frames of every port are in ``directory`` afterwards (pcap). Does nothing where tcpdump is not installed."""
    tcpdump = shutil.which("tcpdump")
    if tcpdump is None:
        yield
        return
    directory.mkdir(parents=True, exist_ok=True)
    running: list[subprocess.Popen[bytes]] = []
    try:
        for name in (name for names in ports.values() for name in names):
            # Immediate: frames that wait in a block of the kernel's when the end comes would be lost.
            command = [tcpdump, "--immediate-mode", "-i", name, "-n", "-s", str(SNAP), "-Z", "root", *RING]
            log = directory / f"{name}.log"
            with log.open("wb") as output:
                running.append(
                    subprocess.Popen([*command, "-w", str(directory / f"{name}.pcap")], stdout=output, stderr=output)
                )
            _await_listening(running[-1], log)
        yield
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.wait()


def _await_listening(process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 5
    while process.poll() is None and time.monotonic() < deadline and b"listening" not in log.read_bytes():
        time.sleep(0.01)
