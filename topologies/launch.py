"""Boots a rack in Mininet and takes it down: switches, controller, memory and compute elements."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mininet.net import Mininet

from protocol import rack as racks
from protocol.rack import Element, Rack
from topologies import processes, targets
from topologies.api import Api
from topologies.nodes import ElementHost, MmuSwitch, RackLink, TorSwitch, connect, network
from topologies.processes import Child
from topologies.run import START_TIMEOUT, Run

MMU_NAME = "mmu"  # of the switches, behind the rack's prefix
TOR_NAME = "tor"
TOKENS = "tokens.json"


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
    """A running rack; a context manager. ``rack`` is the data it was made from.

    Entering it raises StartError, TargetError or RackRunning, and leaves nothing behind when it does.
    """

    def __init__(self, rack: Rack, options: LaunchOptions):
        self.rack = rack.check()
        self.options = options
        self.run = Run(options.name, options.out, options.progress)
        self.out = self.run.out
        self.children = self.run.children
        self.api = Api(options.api_port)
        # What is done with a rack more than anything else.
        self.open, self.get, self.post, self.delete = self.api.open, self.api.get, self.api.post, self.api.delete
        self.grpc = f"127.0.0.1:{options.grpc_port}"
        self.hosts: dict[str, ElementHost] = {}
        self.pipeline: targets.Pipeline | None = None
        self.mmu_name = options.prefix + MMU_NAME
        self.tor_name = options.prefix + TOR_NAME
        self.rack_file = self.out / "rack.json"
        self._mmu: MmuSwitch | None = None
        self._tor: TorSwitch | None = None

    # ------------------------------------------------------------------------------------------------ life cycle

    def __enter__(self) -> RackLauncher:
        self.run.boot(self._boot)
        return self

    def __exit__(self, *_error: object) -> None:
        self.run.end()

    def _boot(self) -> None:
        self.prepare()
        compute, memory = len(self.rack.compute), len(self.rack.memory)
        self.run.progress(f"wiring {compute} compute and {memory} memory elements in Mininet")
        net = network(self.run)
        self.wire(net)
        net.build()
        self.start()

    def prepare(self) -> None:
        """The first part of booting: remove what a crashed rack left, make files and compile. The run is held."""
        targets.check(self.options.target)
        state = self.run.state
        state.target, state.api, state.grpc = self.options.target, self.api.url, self.grpc
        self.run.prepare(
            veths=[
                *(f"{self.mmu_name}-eth{e.port}" for e in self.rack.elements),
                *(f"{self.tor_name}-eth{e.tor_port}" for e in self.rack.compute),
            ],
            taps=[self.tor_name, "ovs-netdev"],
        )
        self._prepare_files()
        self.run.progress(f"compiling {targets.P4_PROGRAM.name} for {self.options.target}")
        self.pipeline = targets.compile_program(self.options.target, self.out / "pipeline")

    def _prepare_files(self) -> None:
        self.rack_file.write_bytes(racks.dumps(self.rack))
        if self.options.fresh:
            (self.out / TOKENS).unlink(missing_ok=True)
            for old in self.out.glob("controller.db*"):
                old.unlink()
            for element in self.rack.memory:
                for path in (self._nvm_file(element), self._nvm_file(element).with_suffix(".state")):
                    path.unlink(missing_ok=True)
        self.run.admit(self.api, self.out / TOKENS)

    def start(self) -> None:
        """The last part of booting: everything is wired and built, and now begins to work."""
        assert self._mmu is not None and self._tor is not None
        self._mmu.start([])
        self._tor.start([])
        self.run.remember_namespaces({name: host.pid for name, host in self.hosts.items()})
        self.run.progress(f"starting the Rack MMU switch ({self.options.target}) and the controller")
        self.start_switch()
        self.start_controller()
        self._connect_tor()
        self.run.progress("starting the elements")
        for element in self.rack.elements:
            self._spawn_element(element)
        for element in self.rack.elements:
            self.children[element.name].wait_ready(START_TIMEOUT)
        self.wait_for(self._all_alive, "every element to be known to the controller", START_TIMEOUT)
        self._wait_for_tor()
        self.run.ready()

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

    def start_switch(self) -> None:
        """Start (or, after ``kill``, start again) the switch, and wait until it serves. Its controller gives it its tables."""
        pcap = self.out / "pcap" if self.options.pcap else None
        if pcap is not None:
            pcap.mkdir(parents=True, exist_ok=True)
            for old in pcap.glob("*.pcap*"):
                old.unlink()
        ready = self.options.target == "p4switch"
        command = targets.switch_command(
            self.options.target,
            self.rack.device_id,
            {e.port: f"{self.mmu_name}-eth{e.port}" for e in self.rack.elements},
            self.grpc,
            self.rack.cpu_port,
            pcap,
            self.run.ready_file("switch") if ready else None,
        )
        child = self.run.spawn("switch", command, ready=ready)
        if ready:
            child.wait_ready(START_TIMEOUT)

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
        self.run.spawn("controller", [*command, *options.controller_options, *more])
        self._wait_for_status(lambda status: bool(status["ready"]), "the controller to serve")
        if self.run.state.ready:  # it has been started again
            self._connect_tor()
            self._wait_for_tor()

    def _connect_tor(self) -> None:
        assert self._tor is not None
        connect(self._tor, self.children["controller"], self.options.openflow_port)

    def _wait_for_tor(self) -> None:
        what = f"{self.tor_name} to be connected to the controller"
        self._wait_for_status(lambda status: bool(status["ready"] and status["tor"]["connected"]), what)

    def _wait_for_status(self, condition: Callable[[dict[str, Any]], bool], what: str) -> None:
        self.run.wait_for_status(self.children["controller"], self.api, condition, what)

    def _nvm_file(self, element: Element) -> Path:
        return self.out / f"{element.name}.nvm"

    def _spawn_element(self, element: Element, more: tuple[str, ...] = ()) -> Child:
        command = [sys.executable, "-m", f"hosts.{element.kind}", "--interface", f"{element.name}-rack"]
        command += ["--rack", str(self.rack_file), "--name", element.name]
        command += ["--ready-file", str(self.run.ready_file(element.name))]
        if element.kind == "compute":
            command += ["--run-dir", str(self.element_run_dir(element.name))]
        elif element.media == "nvm":
            command += ["--nvm-file", str(self._nvm_file(element))]
        command += (*self.options.element_options.get(element.name, ()), *more)
        return self.run.spawn(element.name, command, prefix=self.namespace(element.name), ready=True)

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
        self.run.kill(name)

    def start_element(self, name: str, *more: str) -> None:
        """Start an element again after ``kill``, with ``more`` options."""
        self._spawn_element(self.rack.element(name), more).wait_ready(START_TIMEOUT)

    def has_died(self, name: str) -> bool:
        """Whether a part of the rack has ended by itself; then it can be started again."""
        return self.run.has_died(name)

    def wait_for(self, condition: Callable[[], bool], what: str, timeout: float) -> None:
        """Poll until the condition holds; StartError when the time (seconds) is up."""
        processes.wait_for(condition, what, timeout)

    def _all_alive(self) -> bool:
        return all(e["state"] == "alive" for e in self.get("/v1/elements")["elements"])
