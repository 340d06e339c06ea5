"""A replicated key-value service on one rack: a replica dies, its standby steals its memory and goes on as that replica."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from experiments import kv_history
from tests.e2e.conftest import PATIENT
from topologies.launch import LaunchOptions, RackLauncher
from topologies.racks import small_rack

ROOT = Path(__file__).resolve().parents[2]
MEMBERS = "1=10.0.255.16:7400,2=10.0.0.2:7400,3=10.0.0.3:7400"
SERVERS = "10.0.255.16:7400,10.0.0.2:7400,10.0.0.3:7400"


@pytest.fixture(scope="module")
def wide_rack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RackLauncher]:
    """Four compute elements and room for three replicas."""
    options = LaunchOptions(
        out=tmp_path_factory.mktemp("replicas"), controller_options=("--placement", "balance", *PATIENT)
    )
    with RackLauncher(small_rack(compute=4, dram=3, nvm=0, memory_mib=32, name="replicas"), options) as launched:
        yield launched


class Service:
    """Three replicas and a standby, each on a compute element."""

    def __init__(self, rack: RackLauncher, out: Path):
        self.rack, self.out = rack, out
        group = rack.post("/v1/groups", {"name": f"service {time.time_ns()}"})
        self.secret = out / "secret"
        self.secret.write_text(group["secret"])
        self.group = group["id"]
        self.started: dict[str, subprocess.Popen[bytes]] = {}

    def spawn(self, element: str, name: str, *command: str) -> subprocess.Popen[bytes]:
        """A command of the service on an element."""
        whole = [*self.rack.namespace(element), sys.executable, "-m", "apps.paxos", *command]
        with (self.out / f"{name}.log").open("wb") as log:
            self.started[name] = subprocess.Popen(whole, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT)
        return self.started[name]

    def start(self, element: str, name: str, *options: str) -> None:
        """A replica or standby; waits until it is ready."""
        ready = self.out / f"{name}.ready"
        command = [
            "standby" if name == "standby" else "replica",
            *options,
            "--listen",
            "0.0.0.0:7400",
            "--control",
            "0.0.0.0:7500",
        ]
        command += [
            "--members",
            MEMBERS,
            "--run-dir",
            str(self.rack.element_run_dir(element)),
            "--group",
            str(self.group),
        ]
        command += ["--secret-file", str(self.secret), "--state-mib", "4", "--ready-file", str(ready)]
        process = self.spawn(element, name, *command)
        self.rack.wait_for(lambda: ready.exists() or process.poll() is not None, f"{name} to be ready", 120)
        assert process.poll() is None, (self.out / f"{name}.log").read_text()

    def status(self, element: str) -> dict[str, Any]:
        """What the replica on an element says of itself."""
        address = self.rack.rack.element(element).ip.split("/")[0]
        command = [*self.rack.namespace(element), sys.executable, "-m", "apps.paxos", "status", f"{address}:7500"]
        return json.loads(subprocess.run(command, cwd=ROOT, capture_output=True, timeout=120, check=True).stdout)

    def load(self, seconds: float, history: Path) -> subprocess.Popen[bytes]:
        """Clients on an element, for so long."""
        options = ("--seconds", str(seconds), "--clients", "3", "--keys", "8", "--history", str(history))
        return self.spawn("c2", "load", "load", "--servers", SERVERS, *options)

    def stop(self) -> None:
        for process in self.started.values():
            process.terminate()
        for process in self.started.values():
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@pytest.fixture
def service(wide_rack: RackLauncher, tmp_path: Path) -> Iterator[Service]:
    made = Service(wide_rack, tmp_path)
    made.start("c4", "standby", "--watch", "--service-address", "10.0.255.16")
    made.start("c1", "replica-1", "--id", "1", "--lead", "--service-address", "10.0.255.16")
    made.start("c2", "replica-2", "--id", "2")
    made.start("c3", "replica-3", "--id", "3")
    yield made
    made.stop()


def test_a_standby_goes_on_as_the_leader_that_was_killed(service: Service) -> None:
    history = service.out / "history.jsonl"
    load = service.load(8, history)

    def leads() -> bool:
        status = service.status("c1")
        return status["role"] == "leader" and status["applied"] >= 50

    service.rack.wait_for(leads, "the leader to have work behind it", 120)
    before = service.status("c1")
    os.kill(service.started["replica-1"].pid, signal.SIGKILL)
    assert load.wait(300) == 0, (service.out / "load.log").read_text()
    service.rack.wait_for(lambda: service.status("c4").get("id") == 1, "the standby to take over", 120)
    operations = kv_history.load(history)
    again = service.out / "again.jsonl"
    while len(operations) <= 200 or service.status("c4")["applied"] <= before["applied"]:  # on a slow machine
        assert service.load(3, again).wait(300) == 0, (service.out / "load.log").read_text()
        operations += kv_history.load(again)
    after = service.status("c4")
    assert after["members"] == [1, 2, 3], "it is the same replica to the others: nothing was reconfigured"
    assert after["counts"].get("state bytes received", 0) == 0, "no state was transferred"
    assert kv_history.check(operations) == []

    def all_there() -> bool:
        leaders = [s for s in map(service.status, ("c2", "c3", "c4")) if s["role"] == "leader"]
        return len(leaders) == 1 and leaders[0]["full"]

    service.rack.wait_for(all_there, "all three to be there again", 120)
    print(
        json.dumps({"times": after["times"], "load": (service.out / "load.log").read_text(), "events": after["events"]})
    )
