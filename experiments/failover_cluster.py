"""The replicated key-value service on several racks, as failover experiments run it: its replicas, standbys, spares and load."""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import subprocess
import sys
import time
import urllib.error
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from apps.paxos.transfer import PART_PAGES, WINDOW
from experiments.failover_net import ControlError, ask
from experiments.framework.model import Network, ScenarioFailed
from protocol.wire import PAGE_SIZE
from topologies import targets
from topologies.processes import Child, StartError
from topologies.site import FullRack, SimpleRack, service_address
from topologies.site_launch import SiteLauncher

Way = Literal["memory", "ordinary"]
PORT, CONTROL_PORT = 7400, 7500
FOUNDERS = 3
IMAGES = "states"  # directory of states to begin with
START_TIMEOUT = 60.0  # seconds
LOAD_TIMEOUT = 0.6  # seconds more for each MiB of state that is loaded before


class Spoilt(ScenarioFailed):
    """Something went wrong before the failure that the scenario is about."""


def newcomer(rack: int) -> int:
    """The id of the replica that comes new into the group for the one in a rack."""
    return FOUNDERS + rack


@dataclass(frozen=True)
class Timeouts:
    """Milliseconds. The service's are those of every way: heartbeats between replicas, the silence of a leader after which
    another is elected (to twice that), and that of any member after which it is replaced. The rack monitor's are for elements
    of a rack."""

    heartbeat: int = 100
    election: int = 1000
    replace: int = 5000
    rack_heartbeat: int = 50
    rack_suspect: int = 150
    rack_fail: int = 300


@dataclass
class Replica:
    """A program of the service: where it runs, and what it is. ``number`` 0: a standby, which has none yet."""

    number: int
    host: str
    kind: Literal["replica", "standby"]
    child: Child
    stopped: bool = False

    def status(self) -> dict[str, Any]:
        """What it says of itself. Raises ControlError."""
        return ask(self.child.popen.pid, CONTROL_PORT, {"do": "status"})

    def said(self) -> list[dict[str, Any]]:
        """The JSON lines that it has printed."""
        found = []
        for line in self.child.log.read_text(errors="replace").splitlines():
            if line.startswith("{"):
                with contextlib.suppress(ValueError):
                    found.append(json.loads(line))
        return found


@dataclass
class Cluster:
    """Three replicas, one in each rack; a context manager that ends them all. Replica 1 is in rack 1 and leads at first.

    In the memory way replica 1 (and those of other full racks) has log and state in rack memory, and a standby waits on another
    compute element. In the ordinary way all replicas have them in memory of their own, and a spare waits to become a member."""

    site: SiteLauncher
    way: Way
    state_mib: int
    out: Path
    timeouts: Timeouts = field(default_factory=Timeouts)
    spare_has_rack_memory: bool = False  # a spare instead of a standby, with memory in another element than replica 1's
    all_spares: bool = False  # a spare or standby for every replica, not only for replica 1
    memory_element: str = ""  # that holds the memory of replica 1, if the spare has rack memory
    replicas: dict[str, Replica] = field(default_factory=dict)  # by host
    load: Child | None = None
    history: Path = Path()
    begun: bool = False  # what the scenario is about has begun
    _filler: int = 0
    _groups: dict[int, tuple[int, Path]] = field(default_factory=dict)  # of full racks: group, file of its secret

    def __enter__(self) -> Cluster:
        try:
            self._start()
        except StartError as error:
            self.close()
            raise Spoilt(str(error)) from None
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End every program; what they leave behind for others, rack memory and service addresses, is freed."""
        left = [(r.host, line["va"]) for r in self.replicas.values() for line in r.said() if "va" in line]
        left += [(self.host(1, 1), self._filler)] if self._filler else []
        for child in [self.load, *(r.child for r in self.replicas.values())]:
            if child is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child.popen.pid, signal.SIGCONT)
                child.stop()
        self.replicas.clear()
        self.load = None
        for host, va in left:
            # Not there any more: it was lost with its element, or taken over and freed under its later owner.
            with contextlib.suppress(urllib.error.HTTPError):
                self.site.rack_of(host).post("/v1/free", {"va": va})
        for rack in self.site.racks.values():  # those of processes that crashed wait for the group of this cluster
            for held in rack.get("/v1/addresses")["addresses"]:
                rack.delete(f"/v1/addresses/{held['address']}")

    # ------------------------------------------------------------------------------------------------------ starting

    @property
    def capacity_mib(self) -> int:
        """Room for the state: its items do not fill their pages, and there is to be room for more."""
        return self.state_mib + self.state_mib // 2 + 4

    @property
    def _patience(self) -> float:
        return START_TIMEOUT + LOAD_TIMEOUT * self.state_mib

    @property
    def racks(self) -> tuple[FullRack | SimpleRack, ...]:
        """The racks."""
        return self.site.site.racks

    def host(self, rack: int, number: int) -> str:
        """The name of a compute element or server."""
        found = self.racks[rack - 1]
        return found.rack.compute[number - 1].name if isinstance(found, FullRack) else found.servers[number - 1].name

    def members(self) -> str:
        """The founders, as the programs' options want them."""
        return ",".join(f"{r.number}={self.address(r.number)}:{PORT}" for r in self.racks)

    def address(self, rack: int, newcomer: bool = False) -> str:
        """Where the founder in a rack, or the replica that comes into the group for it, is reached. The ordinary way, that is an
        address of its host; otherwise a service address."""
        if self.way == "memory":
            return service_address(rack, 1 if newcomer else 0)
        return self._ip(rack, 1 if newcomer else 0)

    def _ip(self, rack: int, number: int) -> str:
        """Of a host itself."""
        found = self.racks[rack - 1]
        if isinstance(found, FullRack):
            return found.rack.compute[number].ip.split("/")[0]
        return found.servers[number].ip.split("/")[0]

    def newcomer(self, rack: int) -> str:
        """Who comes new into the group for the replica in a rack, as the programs' options want it."""
        return f"{newcomer(rack)}={self.address(rack, newcomer=True)}:{PORT}"

    def _start(self) -> None:
        self.out.mkdir(parents=True, exist_ok=True)
        self._make_image()
        # They load for different times, and begin together: the first is to lead, and to miss nobody.
        self._go.unlink(missing_ok=True)
        for rack in self.racks:
            self._start_replica(rack.number, self.host(rack.number, 1), rack.number, preload=True)
        founders = list(self.replicas.values())
        self.wait(lambda: all(self._has_loaded(r) for r in founders), "all replicas to load the state", self._patience)
        self._go.touch()
        for replica in founders:
            replica.child.wait_ready(START_TIMEOUT)
        if self.spare_has_rack_memory:
            self._fill_memory_beside(self.replicas[self.host(1, 1)])
        for rack in self.racks if self.all_spares else self.racks[:1]:
            host = self.host(rack.number, 2)
            if self.way == "memory" and isinstance(rack, FullRack) and not self.spare_has_rack_memory:
                self._start_standby(rack.number, host)
            else:
                self._start_replica(newcomer(rack.number), host, rack.number, preload=False)
                self.replicas[host].child.wait_ready(self._patience)
        self.wait(lambda: self.leader_status().get("full", False), "the service to be complete", 90)

    @property
    def _image(self) -> Path:
        return self.site.out / IMAGES / f"{self.state_mib}-mib.pages"

    def _make_image(self) -> None:
        """The state that all founders begin with: it is made once for all scenarios on this site."""
        if self._image.exists():
            return
        self._image.parent.mkdir(exist_ok=True)
        new = self._image.with_suffix(".new")
        sizes = ["--state-mib", str(self.capacity_mib), "--preload-mib", str(self.state_mib)]
        command = [sys.executable, "-m", "apps.paxos", "image", str(new), *sizes]
        made = Child("image", command, self.out / "image.log", env={"PYTHONPATH": str(targets.ROOT)})
        if made.popen.wait(self._patience):
            raise StartError(f"the state of {self.state_mib} MiB was not made: {made.last_words()}")
        new.rename(self._image)

    @property
    def _go(self) -> Path:
        return self.out / "go"

    def _has_loaded(self, replica: Replica) -> bool:
        status = replica.child.popen.poll()
        if status is not None:
            raise StartError(f"{replica.child.name} ended with status {status}: {replica.child.last_words()}")
        return bool(replica.said())

    def _fill_memory_beside(self, replica: Replica) -> None:
        """What is left of the memory element that holds a replica's memory is taken, so that no other replica's is there."""
        rack = self.site.rack_of(replica.host)
        self.memory_element = self.memory_of(replica)
        elements = rack.get("/v1/elements")["elements"]
        free = next(e["free_pages"] for e in elements if e["name"] == self.memory_element)
        pid = replica.said()[0]["pid"]
        self._filler = rack.post("/v1/alloc", {"pid": pid, "size": free * PAGE_SIZE})["va"]

    def memory_of(self, replica: Replica) -> str:
        """The one element that holds a replica's memory. Raises Spoilt when it is in none or in several."""
        processes = self.site.rack_of(replica.host).get("/v1/processes")["processes"]
        own = [p for p in processes if p["pid"] == replica.said()[0]["pid"]]
        found = {element for p in own for a in p["allocations"] for element in a["elements"]}
        if len(found) != 1:
            raise Spoilt(f"the memory of {replica.kind} {replica.number} is in {sorted(found)}")
        return str(found.pop())

    def _common(self, rack: int) -> list[str]:
        timeouts = self.timeouts
        options = ["--listen", f"0.0.0.0:{PORT}", "--control", f"0.0.0.0:{CONTROL_PORT}", "--members", self.members()]
        options += ["--heartbeat-ms", str(timeouts.heartbeat), "--election-ms", str(timeouts.election)]
        options += [
            "--replace-ms",
            str(timeouts.replace),
            "--spare",
            self.newcomer(1),
            "--state-mib",
            str(self.capacity_mib),
        ]
        return options

    def _rack_memory(self, rack: int, host: str) -> list[str]:
        group, secret = self._group(rack)
        run_dir = self.site.racks[rack].element_run_dir(host)
        return ["--run-dir", str(run_dir), "--group", str(group), "--secret-file", str(secret)]

    def _group(self, rack: int) -> tuple[int, Path]:
        if rack not in self._groups:
            made = self.site.racks[rack].post("/v1/groups", {"name": f"service {self.out.name} {time.time_ns()}"})
            secret = self.out / f"secret-{rack}"
            secret.touch(0o600)
            secret.write_text(made["secret"])
            self._groups[rack] = made["id"], secret
        return self._groups[rack]

    def _start_replica(self, number: int, host: str, rack: int, preload: bool) -> None:
        command = ["replica", "--id", str(number), *self._common(rack)]
        in_memory = isinstance(self.racks[rack - 1], FullRack) and self.way == "memory"
        address = self.address(rack, newcomer=not preload)
        if in_memory:
            command += [*self._rack_memory(rack, host), "--service-address", address]
        else:
            command += ["--ordinary"]
            if self.way == "memory":
                self._answer_to(host, address)
        loading = ["--preload-image", str(self._image), "--wait-for", str(self._go)]
        command += loading if preload else ["--join"]
        command += ["--lead"] if number == 1 else []
        self._spawn(number, host, "replica", command)

    def _start_standby(self, rack: int, host: str) -> None:
        command = ["standby", *self._common(rack), *self._rack_memory(rack, host), "--watch"]
        command += ["--service-address", service_address(rack)]
        self._spawn(0, host, "standby", command)
        self.replicas[host].child.wait_ready(self._patience)

    def _spawn(self, number: int, host: str, kind: Literal["replica", "standby"], command: list[str]) -> None:
        ready = self.out / f"{host}.ready"
        child = Child(
            f"{kind} on {host}",
            [sys.executable, "-m", "apps.paxos", *command, "--ready-file", str(ready)],
            self.out / f"{kind}-{host}.log",
            prefix=self.site.namespace(host),
            env={"PYTHONPATH": str(targets.ROOT), "PYTHONUNBUFFERED": "1"},
            ready_file=ready,
        )
        self.replicas[host] = Replica(number, host, kind, child)

    def _answer_to(self, host: str, address: str) -> None:
        """A replica on a server has its service address for good: what is for it is sent there already."""
        run = ["ip", "address", "replace", f"{address}/32", "dev", "lo"]
        done = Child("address", run, self.out / "address.log", prefix=self.site.namespace(host))
        if done.popen.wait(60):
            raise StartError(f"{host} does not take {address}: {done.last_words()}")

    # -------------------------------------------------------------------------------------------------------- the load

    def begin_load(self, clients: int, seed: int) -> None:
        """Clients on x1 begin."""
        self.history = self.out / "history.jsonl"
        servers = ",".join(f"{self.address(r.number)}:{PORT}" for r in self.racks)
        for replica in self.replicas.values():
            if replica.number > FOUNDERS:
                servers += f",{self.address(replica.number - FOUNDERS, newcomer=True)}:{PORT}"
        command = [sys.executable, "-m", "apps.paxos", "load", "--servers", servers, "--clients", str(clients)]
        command += ["--seconds", "600", "--history", str(self.history), "--seed", str(seed)]
        self.load = Child(
            "load",
            command,
            self.out / "load.log",
            prefix=self.site.namespace("x1"),
            env={"PYTHONPATH": str(targets.ROOT), "PYTHONUNBUFFERED": "1"},
        )

    def end_load(self) -> None:
        """They end; what they saw is in ``history``."""
        assert self.load is not None
        self.load.stop(grace=20)
        if self.load.popen.returncode not in (0, -signal.SIGTERM):
            raise ScenarioFailed(f"the load ended with status {self.load.popen.returncode}: {self.load.last_words()}")
        self.load = None

    # ----------------------------------------------------------------------------------------------------- what happens

    def leader_status(self) -> dict[str, Any]:
        """What the leader says, or nothing when nobody leads."""
        return self._leader()[1]

    def leader(self) -> Replica:
        """The leader. Raises ScenarioFailed when nobody leads."""
        found = self._leader()[0]
        if found is None:
            raise ScenarioFailed("there is no leader")
        return found

    def _leader(self) -> tuple[Replica | None, dict[str, Any]]:
        leader: Replica | None = None
        found: dict[str, Any] = {}
        for replica in self.replicas.values():
            if replica.stopped or replica.child.popen.poll() is not None:
                continue
            try:
                status = replica.status()
            except ControlError:
                continue
            if status.get("role") == "leader" and status.get("ballot", 0) >= found.get(
                "ballot", status.get("ballot", 0)
            ):
                leader, found = replica, status
        return leader, found

    def round_trips(self) -> dict[Network, float]:
        """That standbys and new replicas have waited for: with their memory, and for each window of the state copied."""
        found: dict[Network, float] = {"interconnect": 0.0, "cross_rack": 0.0}
        for replica in self.replicas.values():
            if 1 <= replica.number <= FOUNDERS or replica.child.popen.poll() is not None:
                continue
            with contextlib.suppress(ControlError):
                status = replica.status()
                found["interconnect"] += status["memory"]["round_trips"]
                copied = status.get("counts", {}).get("state bytes received", 0)
                found["cross_rack"] += math.ceil(copied / (WINDOW * PART_PAGES * PAGE_SIZE))
        return found

    def wait(self, condition: Callable[[], Any], what: str, timeout: float) -> float:
        """Wait; when it was so (monotonic seconds). Raises ScenarioFailed when the time is up, or when a replica has ended that
        should not have."""
        deadline = time.monotonic() + timeout
        failure = ScenarioFailed if self.begun else Spoilt
        while not condition():
            if time.monotonic() > deadline:
                raise failure(f"waited {timeout:.0f} s in vain for {what}")
            for replica in self.replicas.values():
                if not replica.stopped and replica.child.popen.poll() is not None:
                    raise failure(f"{replica.child.name} ended before {what}: {replica.child.last_words()}")
            time.sleep(0.02)
        return time.monotonic()

    def element_processes(self, host: str) -> list[int]:
        """All processes of a compute element, by their Unix ids: its replica and, in a full rack, its local OS."""
        found = [self.replicas[host].child.popen.pid]
        for rack in self.site.racks.values():
            if host in rack.children:
                found.append(rack.children[host].popen.pid)
        return found

    def kill_element(self, host: str) -> float:
        """A compute element or server dies, with everything on it: its links first, so that its kernel, which lives on here,
        does not end connections in its name. When (monotonic seconds)."""
        at = time.monotonic()
        self._set_links(host, "down")
        for pid in self.element_processes(host):
            os.kill(pid, signal.SIGKILL)
        self.replicas[host].stopped = True
        return at

    def _set_links(self, host: str, state: str) -> None:
        node = self.site.hosts[host]
        for interface in node.intfNames():
            if interface != "lo":
                command = [*self.site.namespace(host), "ip", "link", "set", interface, state]
                subprocess.run(command, check=True, timeout=10)

    def mend_element(self, host: str) -> None:
        """A compute element that was killed or frozen is as new: its links are there, its local OS runs, and it is not fenced."""
        self._set_links(host, "up")
        for rack in self.site.racks.values():
            if host not in rack.hosts:
                continue
            if host in rack.children and rack.children[host].popen.poll() is not None:
                rack.kill(host)
            if host not in rack.children:
                rack.start_element(host)
            rack.post("/v1/unfence", {"element": host})

    def freeze_element(self, host: str) -> float:
        """A compute element stands still; when (monotonic seconds)."""
        for pid in self.element_processes(host):
            os.kill(pid, signal.SIGSTOP)
        self.replicas[host].stopped = True
        return time.monotonic()

    def thaw_element(self, host: str) -> float:
        """It goes on; when (monotonic seconds)."""
        for pid in self.element_processes(host):
            os.kill(pid, signal.SIGCONT)
        return time.monotonic()
