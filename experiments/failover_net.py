"""What failover experiments need of several racks' networks: control of programs from inside their namespaces, links to measure,
fences to count."""

from __future__ import annotations

import ctypes
import json
import os
import re
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from experiments.framework.measure import Ports, rack_ports
from experiments.framework.model import Network
from topologies.site import CORE, FullRack, rack_name
from topologies.site_launch import SiteLauncher

CLONE_NEWNET = 0x40000000
T = TypeVar("T")


class ControlError(RuntimeError):
    """A program does not answer its control port, or refuses."""


def inside(pid: int, action: Callable[[], T]) -> T:
    """Do something in the network namespace of a process; sockets made there stay there. Raises what the action does, OSError."""
    outcome: list[T] = []
    failed: list[BaseException] = []

    def run() -> None:  # a thread has a namespace of its own, and ends with it
        try:
            libc = ctypes.CDLL(None, use_errno=True)
            with Path(f"/proc/{pid}/ns/net").open() as namespace:
                if libc.setns(namespace.fileno(), CLONE_NEWNET):
                    number = ctypes.get_errno()
                    raise OSError(number, os.strerror(number))
            outcome.append(action())
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run, name="namespace")
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return outcome[0]


def ask(pid: int, port: int, message: dict[str, Any], timeout: float = 5.0) -> dict[str, Any]:
    """One request to a control port on the host that this process is on: over its loopback interface, so that nothing of it is
    on the links that are measured. Raises ControlError."""

    def connect() -> socket.socket:
        return socket.create_connection(("127.0.0.1", port), timeout)

    try:
        with inside(pid, connect) as connection:
            connection.sendall(json.dumps(message).encode() + b"\n")
            line = connection.makefile("rb").readline()
        answer = json.loads(line)
    except (OSError, ValueError) as error:
        raise ControlError(f"control port {port}, {message.get('do')}: {error}") from None
    if not isinstance(answer, dict) or "error" in answer:
        raise ControlError(f"control port {port}, {message.get('do')}: {answer}")
    return answer


def ports_of(site: SiteLauncher) -> Ports:
    """The switches' ports by network: those of Rack MMUs, those of hosts at top-of-rack switches, and the core's to the racks.
    Clients' are none of them."""
    found: dict[Network, list[str]] = {"interconnect": [], "rack": [], "cross_rack": []}
    for rack in site.site.racks:
        prefix = rack_name(rack.number)
        if isinstance(rack, FullRack):
            for network, names in rack_ports(rack.rack, prefix).items():
                found[network] += names
        else:
            found["rack"] += [f"{prefix}tor-eth{s.port}" for s in rack.servers]
        found["cross_rack"].append(f"{CORE}-eth{rack.number}")
    return found


def stopped_by_fence(flows: list[str], port: int) -> int:
    """Frames that the fence of a port has dropped, from a switch's flows as ovs-ofctl prints them."""
    total = 0
    for flow in flows:
        if flow.endswith("actions=drop") and re.search(rf"\bin_port={port}\b", flow):
            counted = re.search(r"n_packets=(\d+)", flow)
            total += int(counted[1]) if counted else 0
    return total
