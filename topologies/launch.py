"""Boots a rack in Mininet and takes it down: switches, controller, memory and compute elements."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.client import HTTPResponse
from pathlib import Path
from types import TracebackType
from typing import Any

from mininet.log import setLogLevel
from mininet.net import Mininet

from protocol import rack as racks
from protocol.rack import Element, Rack
from topologies import access, processes, targets
from topologies.nodes import ElementHost, MmuSwitch, PrivateOvs, RackLink, TorSwitch
from topologies.processes import Child, StartError
from topologies.state import RackState, RunDirectory, remove_leftovers

MMU_NAME = "mmu"  # of the switches, behind the rack's prefix
TOR_NAME = "tor"
TOKENS = "tokens.json"
CONTROLLER_NICENESS = 5  # the slow path gives way (docs/decisions/0021-one-session-for-a-rack.md)
START_TIMEOUT = 30.0  # seconds, for each process


@dataclass(frozen=True)
class LaunchOptions:
    """How to launch. Addresses are on the loopback interface of the machine; ``out`` receives logs, pcaps and the store."""

    target: targets.TargetName = "p4switch"
    out: Path = Path("out/rack")
    name: str = "rack"
    prefix: str = ""  # of the names of its switches, and so of their interfaces on this machine
    tor_dpid: int = 2  # datapath id of the top-of-rack switch
    uplink: int = 0  # its port to other racks; 0: there are none
    api_port: int = 8090
    grpc_port: int = 9559
    openflow_port: int = 6653
    pcap: bool = False
    fresh: bool = True  # forget the store of an earlier run
    controller_options: tuple[str, ...] = ()
    element_options: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # of agents, by name of the element
    progress: Callable[[str], None] = field(default=lambda text: None)


class RackLauncher:
    """A running rack; a context manager. ``rack`` is the data it was made from."""

    def __init__(self, rack: Rack, options: LaunchOptions):
        self.rack = rack.check()
        self.options = options
        self.out = options.out.resolve()
        self.run = RunDirectory(options.name)
        self.api = f"http://127.0.0.1:{options.api_port}"
        self.token = ""  # the operator's, when the rack is being booted
        self.grpc = f"127.0.0.1:{options.grpc_port}"
        self.children: dict[str, Child] = {}
        self.hosts: dict[str, ElementHost] = {}
        self.pipeline: targets.Pipeline | None = None
        self.mmu_name = options.prefix + MMU_NAME
        self.tor_name = options.prefix + TOR_NAME
        self._mmu: MmuSwitch | None = None
        self._tor: TorSwitch | None = None
        self._net: Mininet | None = None
        self._ovs: PrivateOvs | None = None
        self._state = RackState(name=options.name, launcher=processes.record("launcher", os.getpid()))

    # ------------------------------------------------------------------------------------------------ life cycle

    def __enter__(self) -> RackLauncher:
        self.up()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.down()

    def up(self) -> None:
        """Boot everything; raises StartError, TargetError or RackRunning and leaves nothing behind when it fails."""
        if os.geteuid() != 0:
            raise StartError("a rack needs root (network namespaces, raw sockets): run it with sudo")
        self.run.acquire()
        try:
            self.prepare()
            self._boot()
        except BaseException:
            self.down()
            raise

    def stop_children(self) -> None:
        """End the switch, the controller and the agents, in reverse order."""
        for child in reversed(list(self.children.values())):
            child.stop()
        self.children.clear()

    def down(self) -> None:
        """Take everything down, in reverse order; safe to call again."""
        self.stop_children()
        if self._net is not None:
            self._net.stop()
            self._net = None
        if self._ovs is not None:
            self._ovs.stop()
            self._ovs = None
        remove_leftovers(self._state)
        self.run.release()

    def prepare(self) -> None:
        """The first part of booting: remove what a crashed rack left, make directories and compile. The run directory is held."""
        targets.check(self.options.target)
        self._remove_crashed()
        self._prepare_files()
        self._state.target = self.options.target
        self._state.api, self._state.grpc, self._state.out = self.api, self.grpc, str(self.out)
        self._state.interfaces = [f"{self.mmu_name}-eth{e.port}" for e in self.rack.elements]
        self._state.interfaces += [f"{self.tor_name}-eth{e.tor_port}" for e in self.rack.compute]
        self._state.interfaces += absent_interfaces(self.tor_name, "ovs-netdev")
        self.run.save(self._state)
        self.options.progress(f"compiling {targets.P4_PROGRAM.name} for {self.options.target}")
        self.pipeline = targets.compile_program(self.options.target, self.out / "pipeline")

    def _remove_crashed(self) -> None:
        """The lock is ours, so a state file found here is of a launcher that died."""
        try:
            crashed = self.run.load()
        except RuntimeError:
            return
        for thing in remove_leftovers(crashed):
            self.options.progress(f"removed from a crashed rack: {thing}")

    def _prepare_files(self) -> None:
        logs = self.out / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        for old in logs.glob("*.log"):
            old.unlink()
        self.rack_file = self.out / "rack.json"
        self.rack_file.write_bytes(racks.dumps(self.rack))
        if self.options.fresh:
            (self.out / TOKENS).unlink(missing_ok=True)
            for old in self.out.glob("controller.db*"):
                old.unlink()
            for element in self.rack.memory:
                for path in (self._nvm_file(element), self._nvm_file(element).with_suffix(".state")):
                    path.unlink(missing_ok=True)
        self.token = access.make(self.out / TOKENS, self.run.path)

    def _boot(self) -> None:
        compute, memory = len(self.rack.compute), len(self.rack.memory)
        self.options.progress(f"wiring {compute} compute and {memory} memory elements in Mininet")
        self._ovs = PrivateOvs(self.run.path, self.out / "logs")
        self._ovs.start()
        for child in self._ovs.children:
            self._remember(child)
        setLogLevel("error")
        self._net = Mininet(topo=None, build=False, autoSetMacs=False, autoStaticArp=False)
        self.wire(self._net)
        self._net.build()
        self.start()

    def start(self) -> None:
        """The last part of booting: everything is wired and built, and now begins to work."""
        assert self._mmu is not None and self._tor is not None
        self._mmu.start([])
        self._tor.start([])
        for host in self.hosts.values():
            self._state.processes.append(processes.record(f"namespace of {host.name}", host.pid))
        self.run.save(self._state)
        self.options.progress(f"starting the Rack MMU switch ({self.options.target}) and the controller")
        self._start_switch()
        self.start_controller()
        self._connect_tor(self.children["controller"])
        self.options.progress("starting the elements")
        for element in self.rack.elements:
            self._spawn_element(element)
        for element in self.rack.elements:
            self._await_ready(self.children[element.name])
        self.wait_for(self._all_alive, "every element to be known to the controller", START_TIMEOUT)
        what = f"{self.tor_name} to be connected to the controller (log: {self.children['controller'].log})"
        self.wait_for(self._tor_connected, what, START_TIMEOUT)
        self._state.ready = True
        self.run.save(self._state)

    # ---------------------------------------------------------------------------------------------------- wiring

    def wire(self, net: Mininet) -> TorSwitch:
        """Add the rack to a network that is not built yet; its top-of-rack switch, to which more may be linked."""
        mmu = self._mmu = net.addSwitch(self.mmu_name, cls=MmuSwitch, dpid=f"{self.rack.device_id:x}")
        tor: TorSwitch = net.addSwitch(self.tor_name, cls=TorSwitch, dpid=f"{self.options.tor_dpid:x}")
        self._tor = tor
        for element in self.rack.elements:
            host = net.addHost(element.name, cls=ElementHost, ip=None)
            self.hosts[element.name] = host
            net.addLink(
                host,
                mmu,
                cls=RackLink,
                intfName1=f"{element.name}-rack",
                port2=element.port,
                addr1=element.mac,
                mtu=self.rack.mtu,
            )
            if element.tor_port:
                net.addLink(
                    host,
                    tor,
                    cls=RackLink,
                    intfName1=f"{element.name}-tor",
                    port2=element.tor_port,
                    addr1=element.tor_mac,
                )
                address, length = element.ip.split("/")
                host.setIP(address, int(length), intf=f"{element.name}-tor")
        return tor

    # ------------------------------------------------------------------------------------------------- processes

    def _spawn(self, name: str, command: list[str], prefix: tuple[str, ...] = (), ready: bool = True) -> Child:
        ready_file = self.run.path / f"{name}.ready" if ready else None
        child = Child(
            name,
            command,
            self.out / "logs" / f"{name}.log",
            prefix=prefix,
            env={"PYTHONPATH": str(targets.ROOT), "PYTHONUNBUFFERED": "1"},
            ready_file=ready_file,
        )
        self.children[name] = child
        self._remember(child)
        return child

    def _remember(self, child: Child) -> None:
        self._state.processes.append(child.record)
        self.run.save(self._state)

    def _await_ready(self, child: Child) -> None:
        child.wait_ready(START_TIMEOUT)

    def _start_switch(self) -> None:
        pcap = self.out / "pcap" if self.options.pcap else None
        if pcap is not None:
            pcap.mkdir(parents=True, exist_ok=True)
            for old in pcap.glob("*.pcap*"):
                old.unlink()
        ready = self.run.path / "switch.ready" if self.options.target == "p4switch" else None
        command = targets.switch_command(
            self.options.target,
            self.rack.device_id,
            {e.port: f"{self.mmu_name}-eth{e.port}" for e in self.rack.elements},
            self.grpc,
            self.rack.cpu_port,
            pcap,
            ready,
        )
        child = self._spawn("switch", command, ready=ready is not None)
        if ready is not None:
            self._await_ready(child)

    def start_controller(self, *more: str) -> None:
        """Start (or, after ``kill``, start again) the controller, with ``more`` options, and wait until it serves."""
        assert self.pipeline is not None
        options = self.options
        command = [sys.executable, "-m", "controller", "run", "--rack", str(self.rack_file)]
        command += ["--p4info", str(self.pipeline.p4info), "--pipeline", str(self.pipeline.device_config)]
        command += ["--switch", self.grpc, "--db", str(self.out / "controller.db")]
        command += ["--tokens", str(self.out / TOKENS)]
        command += ["--api", f"127.0.0.1:{options.api_port}", "--tor", f"127.0.0.1:{options.openflow_port}"]
        command += ["--tor-dpid", str(options.tor_dpid)]
        command += ["--tor-uplink", str(options.uplink)] if options.uplink else []
        child = self._spawn("controller", [*command, *options.controller_options, *more], ready=False)
        os.setpriority(os.PRIO_PROCESS, child.popen.pid, CONTROLLER_NICENESS)  # before it has threads: those inherit it

        def serving() -> bool:
            if child.popen.poll() is not None:
                raise StartError(f"controller ended with status {child.popen.returncode}: {child.last_words()}")
            try:
                return bool(self.get("/v1/status").get("ready"))
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                return False

        self.wait_for(serving, f"the controller to serve (log: {child.log})", START_TIMEOUT)
        if self._state.ready:  # it has been started again
            self._connect_tor(child)
            self.wait_for(
                lambda: serving() and self._tor_connected(), f"{self.tor_name} to be connected", START_TIMEOUT
            )

    def _connect_tor(self, controller: Child) -> None:
        assert self._tor is not None
        connect(self._tor, controller, self.options.openflow_port)

    def _tor_connected(self) -> bool:
        return bool(self.get("/v1/status")["tor"]["connected"])

    def _nvm_file(self, element: Element) -> Path:
        return self.out / f"{element.name}.nvm"

    def _spawn_element(self, element: Element, more: tuple[str, ...] = ()) -> Child:
        command = [sys.executable, "-m", f"hosts.{element.kind}", "--interface", f"{element.name}-rack"]
        command += ["--rack", str(self.rack_file), "--name", element.name]
        command += ["--ready-file", str(self.run.path / f"{element.name}.ready")]
        if element.kind == "compute":
            command += ["--run-dir", str(self.element_run_dir(element.name))]
        elif element.media == "nvm":
            command += ["--nvm-file", str(self._nvm_file(element))]
        command += (*self.options.element_options.get(element.name, ()), *more)
        return self._spawn(element.name, command, prefix=self.namespace(element.name))

    # ---------------------------------------------------------------------------------------- for tests and runs

    def namespace(self, element: str) -> tuple[str, ...]:
        """The command prefix that runs a program inside an element's network namespace."""
        return ("mnexec", "-a", str(self.hosts[element].pid))

    def element_run_dir(self, element: str) -> Path:
        """Where the local OS of a compute element has its Unix socket."""
        path = self.run.path / element
        path.mkdir(parents=True, exist_ok=True)
        return path

    def kill(self, name: str) -> None:
        """SIGKILL a part of the rack (an element, ``switch`` or ``controller``), as a crash would."""
        self.children.pop(name).kill()

    def start_element(self, name: str, *more: str) -> None:
        """Start an element again after ``kill``, with ``more`` options."""
        self._await_ready(self._spawn_element(self.rack.element(name), more))

    def has_died(self, name: str) -> bool:
        """Whether a part of the rack has ended by itself; then it can be started again."""
        if self.children[name].popen.poll() is None:
            return False
        self.kill(name)
        return True

    def get(self, path: str) -> Any:
        """GET from the controller's API, decoded."""
        with self.open(path) as reply:
            return json.load(reply)

    def open(self, path: str, timeout: float = 5) -> HTTPResponse:
        """GET from the controller's API as the operator; the response."""
        request = urllib.request.Request(self.api + path, headers=self.headers)
        response = urllib.request.urlopen(request, timeout=timeout)
        assert isinstance(response, HTTPResponse)
        return response

    @property
    def headers(self) -> dict[str, str]:
        """What a request to the controller's API bears, as the operator's."""
        return {"Authorization": f"Bearer {self.token}"}

    def post(self, path: str, body: dict[str, Any]) -> Any:
        """POST to the controller's API, decoded; raises urllib.error.HTTPError on a refusal."""
        request = urllib.request.Request(
            self.api + path,
            json.dumps(body).encode(),
            {"Content-Type": "application/json", **self.headers},
            method="POST",
        )
        with urllib.request.urlopen(request, timeout=30) as reply:
            return json.load(reply)

    def delete(self, path: str) -> Any:
        """DELETE at the controller's API, decoded; raises urllib.error.HTTPError on a refusal."""
        request = urllib.request.Request(self.api + path, headers=self.headers, method="DELETE")
        with urllib.request.urlopen(request, timeout=30) as reply:
            return json.load(reply)

    def wait_for(self, condition: Callable[[], bool], what: str, timeout: float) -> None:
        """Poll until the condition holds; StartError when the time is up."""
        wait_for(condition, what, timeout)

    def _all_alive(self) -> bool:
        return all(e["state"] == "alive" for e in self.get("/v1/elements")["elements"])


def wait_for(condition: Callable[[], bool], what: str, timeout: float) -> None:
    """Poll until the condition holds; StartError when the time (seconds) is up."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise StartError(f"waited {timeout:.0f} s in vain for {what}")
        time.sleep(0.02)


def connect(switch: TorSwitch, controller: Child, port: int) -> None:
    """Let a switch connect to its controller, as soon as that listens at the port; StartError."""

    def listens() -> bool:
        if controller.popen.poll() is not None:
            raise StartError(f"{controller.name} ended: {controller.last_words()}")
        with contextlib.suppress(ConnectionError), socket.create_connection(("127.0.0.1", port), timeout=5):
            return True
        return False

    wait_for(listens, f"{controller.name} to listen at port {port} (log: {controller.log})", START_TIMEOUT)
    switch.connect(port)


def absent_interfaces(*names: str) -> list[str]:
    """Those of the names that this machine does not have yet. Taps of Open vSwitch's user-space datapath outlive a daemon that is
    killed; they are ours to remove unless they were there before."""
    return [n for n in names if not Path(f"/sys/class/net/{n}").exists()]
