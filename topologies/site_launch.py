"""Boots several racks in Mininet and takes them down: each full one as ``topologies.launch`` does, joined by a core switch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from mininet.log import setLogLevel
from mininet.net import Mininet

from protocol import fabric as fabrics
from topologies import access, processes, targets
from topologies.launch import START_TIMEOUT, TOKENS, LaunchOptions, RackLauncher, absent_interfaces, connect, wait_for
from topologies.nodes import ElementHost, PrivateOvs, RackLink, TorSwitch
from topologies.processes import Child, StartError
from topologies.site import CORE, CORE_DPID, TOR_DPID_BASE, UPLINK, FullRack, Host, Site, fabric, rack_name
from topologies.state import RackState, RunDirectory, remove_leftovers


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
    """Running racks; a context manager. ``racks`` are the full ones by their number."""

    def __init__(self, site: Site, options: SiteOptions):
        self.site = site
        self.options = options
        self.out = options.out.resolve()
        self.run = RunDirectory(options.name)
        self.api = f"http://127.0.0.1:{options.api_port}"
        self.token = ""  # the operator's, when the racks are being booted
        self.racks = {r.number: self._launcher(r) for r in site.full}
        self.hosts: dict[str, ElementHost] = {}
        self._switches: list[TorSwitch] = []
        self._fabric: Child | None = None
        self._net: Mininet | None = None
        self._ovs: PrivateOvs | None = None
        self._state = RackState(name=options.name, launcher=processes.record("launcher", os.getpid()))

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
        self.up()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.down()

    def up(self) -> None:
        """Boot everything; raises StartError, TargetError or RackRunning and leaves nothing behind when it fails."""
        if os.geteuid() != 0:
            raise StartError("racks need root (network namespaces, raw sockets): run them with sudo")
        self.run.acquire()
        held: list[RackLauncher] = []
        try:
            for rack in self.racks.values():
                rack.run.acquire()
                held.append(rack)
            self._boot()
        except BaseException:
            self._down(held)
            raise

    def down(self) -> None:
        """Take everything down, in reverse order; safe to call again."""
        self._down(list(self.racks.values()))

    def _down(self, racks: list[RackLauncher]) -> None:
        for rack in racks:
            rack.stop_children()
        if self._fabric is not None:
            self._fabric.stop()
            self._fabric = None
        if self._net is not None:
            self._net.stop()
            self._net = None
        if self._ovs is not None:
            self._ovs.stop()
            self._ovs = None
        for rack in racks:
            rack.down()
        remove_leftovers(self._state)
        self.run.release()

    def _boot(self) -> None:
        progress, state = self.options.progress, self._state
        self._remove_crashed()
        logs = self.out / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        for old in logs.glob("*.log"):
            old.unlink()
        state.target, state.api, state.out = self.options.target, self.api, str(self.out)
        state.parts = [r.options.name for r in self.racks.values()]
        state.interfaces = absent_interfaces(
            CORE, *(f"{rack_name(r.number)}tor" for r in self.site.simple), "ovs-netdev"
        )
        state.interfaces += [f"{CORE}-eth{p}" for p in (*(r.number for r in self.site.racks), *self._client_ports())]
        self.run.save(state)
        for rack in self.racks.values():
            rack.prepare()
        progress(f"wiring {len(self.site.racks)} racks in Mininet")
        self._ovs = PrivateOvs(self.run.path, logs)
        self._ovs.start()
        for child in self._ovs.children:
            self._remember(child)
        self._wire()
        self._start_fabric()
        for rack in self.racks.values():
            rack.start()
        assert self._fabric is not None
        for switch in self._switches:
            connect(switch, self._fabric, self.options.openflow_port)
        wait_for(self._all_connected, "every switch to be connected to its controller", START_TIMEOUT)
        state.ready = True
        self.run.save(state)

    def _client_ports(self) -> list[int]:
        return [h.port for h in self.site.clients]

    def _remove_crashed(self) -> None:
        """The lock is ours, so a state file found here is of a launcher that died. The racks remove what is theirs."""
        try:
            crashed = self.run.load()
        except RuntimeError:
            return
        for thing in remove_leftovers(crashed):
            self.options.progress(f"removed from crashed racks: {thing}")

    def _remember(self, child: Child) -> None:
        self._state.processes.append(child.record)
        self.run.save(self._state)

    # ---------------------------------------------------------------------------------------------------- wiring

    def _wire(self) -> None:
        setLogLevel("error")
        net = self._net = Mininet(topo=None, build=False, autoSetMacs=False, autoStaticArp=False)
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
        for name, node in self.hosts.items():
            self._state.processes.append(processes.record(f"namespace of {name}", node.pid))
        self.run.save(self._state)
        for rack_ in self.racks.values():
            self.hosts |= rack_.hosts

    def _add_host(self, net: Mininet, host: Host, switch: TorSwitch) -> None:
        node = self.hosts[host.name] = net.addHost(host.name, cls=ElementHost, ip=None)
        interface = f"{host.name}-tor"
        net.addLink(node, switch, cls=RackLink, intfName1=interface, port2=host.port, addr1=host.mac)
        node.setIP(host.ip, 16, intf=interface)

    def _start_fabric(self) -> None:
        description = self.out / "fabric.json"
        description.write_bytes(fabrics.dumps(fabric(self.site)))
        places = self.out / "addresses.json"
        places.unlink(missing_ok=True)
        port = self.options.openflow_port
        command = [sys.executable, "-m", "controller.fabric", "--fabric", str(description), "--state", str(places)]
        tokens = self.out / TOKENS
        tokens.unlink(missing_ok=True)
        self.token = access.make(tokens, self.run.path)
        command += [
            "--tokens",
            str(tokens),
            "--openflow",
            f"127.0.0.1:{port}",
            "--api",
            f"127.0.0.1:{self.options.api_port}",
        ]
        environment = {"PYTHONPATH": str(targets.ROOT), "PYTHONUNBUFFERED": "1"}
        self._fabric = Child("fabric", command, self.out / "logs" / "fabric.log", env=environment)
        self._remember(self._fabric)
        for switch in self._switches:
            switch.start([])

    def _all_connected(self) -> bool:
        child = self._fabric
        assert child is not None
        if child.popen.poll() is not None:
            raise StartError(f"the fabric's controller ended: {child.last_words()}")
        try:
            return all(self.get("/v1/status")["switches"].values())
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False

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

    @property
    def headers(self) -> dict[str, str]:
        """What a request to the fabric controller's API bears, as the operator's."""
        return {"Authorization": f"Bearer {self.token}"}

    def get(self, path: str) -> Any:
        """GET from the fabric controller's API, decoded."""
        request = urllib.request.Request(self.api + path, headers=self.headers)
        with urllib.request.urlopen(request, timeout=5) as reply:
            return json.load(reply)

    def steer(self, address: str, place: str) -> None:
        """Send a service address to another place, at the core and in simple racks; raises HTTPError on a refusal."""
        body = json.dumps({"address": address, "to": place}).encode()
        headers = {"Content-Type": "application/json", **self.headers}
        request = urllib.request.Request(self.api + "/v1/steer", body, headers, method="POST")
        with urllib.request.urlopen(request, timeout=10) as reply:
            reply.read()

    def flows(self, switch: str) -> list[str]:
        """The flows of a switch (core, r1tor, ...) with their counters, as ovs-ofctl prints them."""
        command = ["ovs-ofctl", "-O", "OpenFlow13", "dump-flows", switch]
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
        return [line.strip() for line in done.stdout.splitlines() if "actions=" in line]
