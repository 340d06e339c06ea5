"""Boots several racks in Mininet and takes them down: each full one as ``topologies.launch`` does, joined by a core switch."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mininet.net import Mininet

from protocol import fabric as fabrics
from topologies import targets
from topologies.api import Api
from topologies.launch import TOKENS, LaunchOptions, RackLauncher
from topologies.nodes import ElementHost, RackLink, TorSwitch, connect, network
from topologies.processes import StartError
from topologies.run import Run
from topologies.site import CORE, CORE_DPID, TOR_DPID_BASE, UPLINK, FullRack, Host, Site, fabric, rack_name

FABRIC = "fabric"  # the controller of the core and of simple racks' switches


@dataclass(frozen=True)
class SiteOptions:
    """How to launch. Rack R listens at the base ports + R, the fabric's controller at the base ports; ``rack`` are further
    options of each full rack's :class:`~topologies.launch.LaunchOptions`."""

    target: targets.TargetName = "p4switch"
    out: Path = Path("out/site")
    name: str = "site"
    api_port: int = 8190
    grpc_port: int = 9660
    openflow_port: int = 6760
    rack: dict[str, Any] = field(default_factory=dict)
    progress: Callable[[str], None] = field(default=lambda text: None)


class SiteLauncher:
    """Running racks; a context manager. ``racks`` are the full ones by their number.

    Entering it raises StartError, TargetError or RackRunning, and leaves nothing behind when it does.
    """

    def __init__(self, site: Site, options: SiteOptions):
        self.site = site
        self.options = options
        self.run = Run(options.name, options.out, options.progress)
        self.out = self.run.out
        self.api = Api(options.api_port)  # of the fabric's controller
        self.racks = {r.number: self._launcher(r) for r in site.full}
        self.hosts: dict[str, ElementHost] = {}
        self._switches: list[TorSwitch] = []

    def _launcher(self, rack: FullRack) -> RackLauncher:
        options, name = self.options, rack_name(rack.number)
        return RackLauncher(
            rack.rack,
            LaunchOptions(
                target=options.target,
                out=self.out / name,
                name=f"{options.name}-{name}",
                prefix=name,
                tor_dpid=TOR_DPID_BASE + rack.number,
                uplink=UPLINK,
                api_port=options.api_port + rack.number,
                grpc_port=options.grpc_port + rack.number,
                openflow_port=options.openflow_port + rack.number,
                progress=lambda text: options.progress(f"rack {rack.number}: {text}"),
                **options.rack,
            ),
        )

    # ------------------------------------------------------------------------------------------------ life cycle

    def __enter__(self) -> SiteLauncher:
        self.run.boot(self._boot)
        return self

    def __exit__(self, *_error: object) -> None:
        self.run.end()

    def _boot(self) -> None:
        for rack in self.racks.values():
            rack.run.acquire()
            self.run.at_end(rack.run.end)
        self._prepare()
        for rack in self.racks.values():
            rack.prepare()
        self.run.progress(f"wiring {len(self.site.racks)} racks in Mininet")
        net = network(self.run)
        for rack in self.racks.values():
            self.run.at_end(rack.run.stop_children)
        self._wire(net)
        self._start_fabric()
        for rack in self.racks.values():
            rack.start()
            self.hosts |= rack.hosts
        controller = self.run.children[FABRIC]
        for switch in self._switches:
            connect(switch, controller, self.options.openflow_port)
        self.run.wait_for_status(
            controller, self.api, lambda status: all(status["switches"].values()), "every switch to be connected"
        )
        self.run.ready()

    def _prepare(self) -> None:
        state, ports = self.run.state, (*(r.number for r in self.site.racks), *(c.port for c in self.site.clients))
        state.target, state.api = self.options.target, self.api.url
        self.run.prepare(
            veths=[f"{CORE}-eth{port}" for port in ports],
            taps=[CORE, *(f"{rack_name(r.number)}tor" for r in self.site.simple), "ovs-netdev"],
            parts=[rack.options.name for rack in self.racks.values()],
        )

    # ---------------------------------------------------------------------------------------------------- wiring

    def _wire(self, net: Mininet) -> None:
        core = net.addSwitch(CORE, cls=TorSwitch, dpid=f"{CORE_DPID:x}")
        self._switches = [core]
        for host in self.site.clients:
            self._add_host(net, host, core)
        for rack in self.site.racks:
            if isinstance(rack, FullRack):
                tor = self.racks[rack.number].wire(net)
            else:
                tor = net.addSwitch(
                    f"{rack_name(rack.number)}tor", cls=TorSwitch, dpid=f"{TOR_DPID_BASE + rack.number:x}"
                )
                self._switches.append(tor)
                for server in rack.servers:
                    self._add_host(net, server, tor)
            net.addLink(tor, core, cls=RackLink, port1=UPLINK, port2=rack.number)
        net.build()
        self.run.remember_namespaces({name: host.pid for name, host in self.hosts.items()})

    def _add_host(self, net: Mininet, host: Host, switch: TorSwitch) -> None:
        node = self.hosts[host.name] = net.addHost(host.name, cls=ElementHost, ip=None)
        interface = f"{host.name}-tor"
        net.addLink(node, switch, cls=RackLink, intfName1=interface, port2=host.port, addr1=host.mac)
        node.setIP(host.ip, 16, intf=interface)

    def _start_fabric(self) -> None:
        description, places, tokens = self.out / "fabric.json", self.out / "addresses.json", self.out / TOKENS
        description.write_bytes(fabrics.dumps(fabric(self.site)))
        for old in (places, tokens):
            old.unlink(missing_ok=True)
        self.run.admit(self.api, tokens)
        command = [sys.executable, "-m", "controller.fabric", "--fabric", str(description), "--state", str(places)]
        command += ["--tokens", str(tokens), "--api", f"127.0.0.1:{self.options.api_port}"]
        self.run.spawn(FABRIC, [*command, "--openflow", f"127.0.0.1:{self.options.openflow_port}"])
        for switch in self._switches:
            switch.start([])

    # ---------------------------------------------------------------------------------------- for tests and runs

    def namespace(self, host: str) -> tuple[str, ...]:
        """The command prefix that runs a program inside an element's, server's or client's network namespace."""
        return ("mnexec", "-a", str(self.hosts[host].pid))

    def rack_of(self, element: str) -> RackLauncher:
        """The full rack that an element is in; raises StartError."""
        for rack in self.racks.values():
            if element in rack.hosts:
                return rack
        raise StartError(
            f"{element} is in no full rack; there are {', '.join(e for r in self.racks.values() for e in r.hosts)}"
        )

    def steer(self, address: str, place: str) -> None:
        """Send a service address to another place, at the core and in simple racks; raises HTTPError on a refusal."""
        self.api.post("/v1/steer", {"address": address, "to": place})

    def flows(self, switch: str) -> list[str]:
        """The flows of a switch (core, r1tor, ...) with their counters, as ovs-ofctl prints them."""
        command = ["ovs-ofctl", "-O", "OpenFlow13", "dump-flows", switch]
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
        return [line.strip() for line in done.stdout.splitlines() if "actions=" in line]
