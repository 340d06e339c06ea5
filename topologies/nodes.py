"""Mininet nodes of a rack: elements (network namespaces), the Rack MMU switch, and for the ToR a private Open vSwitch."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mininet.link import Link
from mininet.log import setLogLevel
from mininet.net import Mininet
from mininet.node import Host, OVSSwitch, Switch

from topologies.processes import Child, StartError, wait_for
from topologies.run import START_TIMEOUT, Run

OVS_SCHEMA = Path("/usr/share/openvswitch/vswitch.ovsschema")
JUMBO = 9000  # bytes of payload, on every link: what is copied over the network shall not suffer from small frames
OFFLOADS = ("rx", "tx", "tso", "gso", "gro", "rxvlan", "txvlan")


class ElementHost(Host):  # type: ignore[misc]
    """A compute or memory element: a network namespace. IPv6 is off, so that only the rack's own frames are on its links."""

    def config(self, **params: Any) -> dict[str, Any]:
        """Configure the namespace (called by Mininet)."""
        result: dict[str, Any] = super().config(**params)
        self.cmd("sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1")
        # Service addresses are on the loopback interface: ARP neither tells nor asks for them.
        self.cmd("sysctl -qw net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2")
        self.cmd("ip link set lo up")
        return result


class RackLink(Link):  # type: ignore[misc]
    """A veth pair for jumbo frames without offloads (a segment that the kernel would cut later must not reach a switch)."""

    def __init__(self, *args: Any, mtu: int = JUMBO, **kwargs: Any):
        super().__init__(*args, **kwargs)
        for interface in (self.intf1, self.intf2):
            interface.cmd(f"sysctl -qw net.ipv6.conf.{interface.name}.disable_ipv6=1")
            if isinstance(interface.node, Switch):
                # What goes through a switch is not for this machine: should it have an address of theirs, it does not say so.
                interface.cmd(f"sysctl -qw net.ipv4.conf.{interface.name}.arp_ignore=8")
            interface.cmd(f"ip link set {interface.name} mtu {mtu} txqueuelen 10000")
            interface.cmd(f"ethtool -K {interface.name} {' '.join(f'{o} off' for o in OFFLOADS)}")


class MmuSwitch(Switch):  # type: ignore[misc]
    """The Rack MMU as Mininet sees it: its interfaces. The switch process itself is started by the launcher."""

    def start(self, controllers: list[Any]) -> None:
        """Bring the interfaces up."""
        for interface in self.intfList():
            if interface.name != "lo":
                self.cmd(f"ip link set {interface.name} up")

    def stop(self, deleteIntfs: bool = True) -> None:
        """Remove the interfaces."""
        super().stop(deleteIntfs)


class TorSwitch(OVSSwitch):  # type: ignore[misc]
    """The top-of-rack switch: Open vSwitch in user space, OpenFlow 1.3."""

    def __init__(self, name: str, **params: Any):
        super().__init__(name, datapath="user", protocols="OpenFlow13", failMode="secure", **params)

    def connect(self, port: int) -> None:
        """Tell it that its controller listens at this port of 127.0.0.1; StartError. Not earlier, and again when the controller
        has been started again: Open vSwitch waits for 1, 2, 4 and then 8 s after each attempt, whatever ``max_backoff`` says
        (seen with 3.1). A controller that it is told anew it dials at once."""
        self._vsctl("clear", "Bridge", self.name, "controller")
        target = f'target="tcp:127.0.0.1:{port}"'
        made = ("--id=@c", "create", "Controller", target)
        self._vsctl(*made, "--", "set", "Bridge", self.name, "controller=@c")

    def _vsctl(self, *command: str) -> None:
        done = subprocess.run(["ovs-vsctl", "--timeout=10", "--", *command], capture_output=True, text=True)
        if done.returncode:
            raise StartError(f"{self.name} does not take its controller: {done.stderr.strip()}")


class PrivateOvs:
    """An Open vSwitch of the rack's own: its database and sockets in the run directory, apart from any on the system."""

    def __init__(self, run: Path, logs: Path, remember: Callable[[Child], object] = lambda child: None):
        """``remember`` is told of each daemon as soon as it runs."""
        self.run = run / "ovs"
        self.logs = logs
        self._remember = remember
        self.children: list[Child] = []

    def start(self) -> None:
        """Start the daemons and make ovs-vsctl (which Mininet calls) talk to them; StartError when they do not come up."""
        for tool in ("ovsdb-tool", "ovsdb-server", "ovs-vswitchd", "ovs-vsctl"):
            if shutil.which(tool) is None:
                raise StartError(f"{tool} is not in PATH: install Debian's openvswitch-switch (`make setup` does)")
        self.run.mkdir(parents=True, exist_ok=True)
        database = self.run / "conf.db"
        subprocess.run(["ovsdb-tool", "create", str(database), str(OVS_SCHEMA)], check=True, capture_output=True)
        # Mininet's nodes call the OVS tools without arguments for this: the environment tells them where to look.
        os.environ["OVS_RUNDIR"] = str(self.run)
        os.environ["OVS_DBDIR"] = str(self.run)
        os.environ["OVS_LOGDIR"] = str(self.logs)
        socket = self.run / "db.sock"
        self._spawn(
            ["ovsdb-server", str(database), f"--remote=punix:{socket}", f"--pidfile={self.run}/ovsdb-server.pid"],
            socket,
        )
        # No cached flows: the thread that answers OpenFlow looks every frame up itself, so that what it says of its flows holds
        # for every frame (docs/decisions/0024-fences-hold-at-the-tor.md).
        settings = ("set", "Open_vSwitch", ".", "other_config:flow-limit=0")
        for command in (("init",), settings):
            subprocess.run(["ovs-vsctl", "--no-wait", *command], check=True, timeout=10, capture_output=True)
        self._spawn(
            ["ovs-vswitchd", f"unix:{socket}", f"--pidfile={self.run}/ovs-vswitchd.pid"], self.run / "ovs-vswitchd.pid"
        )

    def _spawn(self, command: list[str], ready: Path) -> None:
        child = Child(command[0], command, self.logs / f"{command[0]}.log", ready_file=ready)
        self.children.append(child)
        self._remember(child)
        child.wait_ready(10)

    def stop(self) -> None:
        """End the daemons."""
        for child in reversed(self.children):
            child.stop()
        self.children.clear()


def network(run: Run) -> Mininet:
    """An empty network, not built yet, with an Open vSwitch of its own. At the end of the run, its children end first."""
    ovs = PrivateOvs(run.path, run.logs, run.remember)
    run.at_end(ovs.stop)
    ovs.start()
    setLogLevel("error")
    net = Mininet(topo=None, build=False, autoSetMacs=False, autoStaticArp=False)
    run.at_end(net.stop)
    run.at_end(run.stop_children)
    return net


def connect(switch: TorSwitch, controller: Child, port: int) -> None:
    """Let a switch connect to its controller, as soon as that listens at the port; StartError."""

    def listens() -> bool:
        controller.check()
        with contextlib.suppress(ConnectionError), socket.create_connection(("127.0.0.1", port), timeout=5):
            return True
        return False

    wait_for(listens, f"{controller.name} to listen at port {port} (log: {controller.log})", START_TIMEOUT)
    switch.connect(port)
