"""A private Open vSwitch and the top-of-rack application: one of two hosts is fenced off while both send as fast as they can.

Prints JSON: for each direction, how many of the fences a frame of the flood passed after they had been acknowledged, and how many
frames; how many flows the switch had cached. Frames are counted and timed by the kernel where they leave the switch. Runs in a
network namespace of its own.
"""

from __future__ import annotations

import json
import os
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from controller import tor
from topologies.nodes import PrivateOvs

SO_TIMESTAMPNS, SO_RCVBUFFORCE, ETH_P_ALL, PACKET_OUTGOING = 35, 33, 3, 4
ETHER_TYPE = 0x88B7  # IEEE local experimental
PORT = 6653
FLOOD = """
import socket, sys, time
link = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
link.bind((sys.argv[1], 0))
frame = bytes.fromhex(sys.argv[2]) + bytes(60)
while True:
    for _ in range(20):
        link.send(frame)
    time.sleep(0.001)
"""


def run(*command: str) -> str:
    """The output of a command that must not fail."""
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout


def header(source: int, to: int) -> bytes:
    """Of a frame between two hosts."""
    return bytes((2, 0, 0, 0, 9, to, 2, 0, 0, 0, 9, source)) + ETHER_TYPE.to_bytes(2, "big")


class Tap:
    """Times (ns since the epoch) at which frames of the flood leave the switch at one of its ports."""

    def __init__(self, interface: str):
        self.times: list[int] = []
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        self._socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 8 << 20)
        self._socket.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        self._socket.bind((interface, ETH_P_ALL))
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        while True:
            data, ancillary, _, address = self._socket.recvmsg(64, 64)
            if address[2] == PACKET_OUTGOING and data[12:14] == ETHER_TYPE.to_bytes(2, "big"):
                seconds, nanoseconds = struct.unpack("ll", ancillary[0][2])
                self.times.append(seconds * 10**9 + nanoseconds)


def wait_for(condition: Callable[[], bool], what: str) -> None:
    """Poll for a minute at most."""
    deadline = time.monotonic() + 60
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(what)
        time.sleep(0.01)


def change(number: int, ports: frozenset[int]) -> int:
    """Fence off these ports; when that was acknowledged (ns since the epoch)."""
    at: list[int] = []
    tor.fences.set(ports)
    tor.fences.when_done(number, lambda: at.append(time.time_ns()))
    wait_for(lambda: bool(at), f"the acknowledgement of {ports}")
    return at[0]


def main() -> int:
    """The number of fences and a directory are the arguments."""
    fences, directory = int(sys.argv[1]), Path(sys.argv[2])
    ovs = PrivateOvs(directory, directory)
    ovs.start()
    floods: list[subprocess.Popen[bytes]] = []
    try:
        for host in ("1", "2"):
            run("ip", "link", "add", f"tor-eth{host}", "type", "veth", "peer", "name", f"host{host}")
            for name in (f"tor-eth{host}", f"host{host}"):
                run("sysctl", "-qw", f"net.ipv6.conf.{name}.disable_ipv6=1")
                run("ip", "link", "set", name, "up")
        threading.Thread(target=tor.serve, args=("127.0.0.1", PORT), daemon=True).start()
        wait_for(lambda: not socket.socket().connect_ex(("127.0.0.1", PORT)), "the controller")
        bridge = "protocols=OpenFlow13 datapath_type=netdev fail_mode=secure other-config:datapath-id=0000000000000002"
        target = f'target="tcp:127.0.0.1:{PORT}"'
        made = (
            "ovs-vsctl",
            "--id=@c",
            "create",
            "Controller",
            target,
            "--",
            "add-br",
            "tor",
            "--",
            "set",
            "bridge",
            "tor",
        )
        ports = ("--", "add-port", "tor", "tor-eth1", "--", "add-port", "tor", "tor-eth2")
        run(*made, *bridge.split(), "controller=[@c]", *ports)
        wait_for(lambda: bool(tor.fences.settled()), "the switch")
        taps = {"in": Tap("tor-eth2"), "out": Tap("tor-eth1")}  # of the host that is fenced, number 1
        for host, to in ((1, 2), (2, 1)):
            command = [sys.executable, "-c", FLOOD, f"host{host}", header(host, to).hex()]
            floods.append(subprocess.Popen(command))
        passed: dict[str, list[int]] = {"in": [], "out": []}
        for number in range(fences):
            for tap in taps.values():
                tap.times.clear()
            wait_for(lambda: all(len(tap.times) > 100 for tap in taps.values()), "frames to pass")
            acknowledged = change(2 * number, frozenset({1}))
            time.sleep(0.08)
            for direction, tap in taps.items():
                passed[direction].append(sum(at > acknowledged for at in tap.times))
            change(2 * number + 1, frozenset())
        cached = run("ovs-appctl", "dpctl/dump-flows").count("in_port")
        found = {d: {"fences": sum(map(bool, n)), "frames": sum(n)} for d, n in passed.items()}
        print(json.dumps({**found, "cached": cached}))
    finally:
        for flood in floods:
            flood.kill()
            flood.wait()
        ovs.stop()
    return 0


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    os._exit(status)  # os-ken's threads do not end
