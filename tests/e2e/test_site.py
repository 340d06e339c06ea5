"""Several racks on this machine: who reaches whom, a service address that moves with its memory, what a fence stops."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from experiments.workers import Worker
from topologies.site import service_address, site
from topologies.site_launch import SiteLauncher, SiteOptions

HERE = Path(__file__).parent
SERVICE = service_address(1)
PORT = 7000


@pytest.fixture(scope="module")
def racks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SiteLauncher]:
    options = SiteOptions(out=tmp_path_factory.mktemp("site"))
    with SiteLauncher(site(compute=2, dram=1, memory_mib=4, servers=1, clients=1), options) as launched:
        yield launched


def ping(racks: SiteLauncher, host: str, to: str, seconds: int = 60) -> bool:
    """Whether any is answered in this time: the first goes through the controller, who may be busy."""
    command = [*racks.namespace(host), "ping", "-c", "1", "-i", "0.3", "-w", str(seconds), to]
    return subprocess.run(command, capture_output=True, timeout=120, check=False).returncode == 0


class Register(Worker):
    """A register in rack memory, served at the service address."""

    def __init__(self, racks: SiteLauncher, element: str, name: str):
        super().__init__(racks.rack_of(element), element, name, module="tests.e2e.register")


class Caller:
    """A client of the register on a host, with one connection."""

    def __init__(self, racks: SiteLauncher, host: str, address: str = SERVICE):
        command = [*racks.namespace(host), sys.executable, str(HERE / "register_client.py"), address, str(PORT)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def call(self, request: str) -> str:
        """The answer, or ``reset`` or ``silence``."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(request + "\n")
        self._process.stdin.flush()
        return self._process.stdout.readline().strip()

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(60)


def dropped(racks: SiteLauncher, port: int) -> int:
    """Frames that the fence of a port of rack 1's switch has dropped."""
    fences = [f for f in racks.flows("r1tor") if f"in_port={port} " in f and f.endswith("actions=drop")]
    return sum(int(re.search(r"n_packets=(\d+)", f)[1]) for f in fences)


def test_everybody_reaches_everybody(racks: SiteLauncher) -> None:
    for host, to in (("x1", "10.0.1.1"), ("r1c1", "10.0.2.1"), ("r2s1", "10.0.3.1"), ("r3s1", "10.0.0.1")):
        assert ping(racks, host, to), f"{host} does not reach {to}"


def test_a_service_moves_with_its_memory_and_the_old_holder_is_shut_out(racks: SiteLauncher) -> None:
    rack = racks.racks[1]
    group = rack.post("/v1/groups", {"name": "register"})
    secret = {"group": group["id"], "secret": group["secret"]}
    old, standby = Register(racks, "r1c1", "holder"), Register(racks, "r1c2", "standby")
    client, far = Caller(racks, "x1"), Caller(racks, "r2s1")
    try:
        va = old.call("serve", address=SERVICE, port=PORT, **secret)["va"]
        assert client.call("set 41") == "ok"
        assert far.call("get") == "41"
        rack.post("/v1/fence", {"element": "r1c1"})
        taken = standby.call("take_over", address=SERVICE, port=PORT, va=va, source=old.pid, **secret)
        assert taken["va"] == va
        assert client.call("get") == "reset", "the connection to the old holder has ended"
        assert client.call("get") == "41", "a new one reaches the new holder, and the memory"
        assert far.call("get") == "reset"
        assert far.call("set 42") == "ok"
        assert [a["element"] for a in rack.get("/v1/addresses")["addresses"]] == ["r1c2"]
        # The old holder still runs. It can write no memory, and nothing that it sends goes anywhere.
        assert old.call("write", value=13)["error"] == "Fenced"
        before = dropped(racks, 1)
        assert not ping(racks, "r1c1", "10.0.2.1", seconds=3)
        assert not ping(racks, "r1c1", "10.0.1.2", seconds=3)
        assert dropped(racks, 1) > before
        assert client.call("get") == "42"
    finally:
        for end in (client, far, standby, old):
            end.close()
        rack.post("/v1/unfence", {"element": "r1c1"})
    assert ping(racks, "r1c1", "10.0.2.1")


def test_an_address_is_sent_to_another_rack(racks: SiteLauncher) -> None:
    address = service_address(2, 9)
    assert not ping(racks, "x1", address, seconds=3)
    for host in ("r2s1", "r3s1"):
        command = [*racks.namespace(host), "ip", "address", "add", f"{address}/32", "dev", "lo"]
        subprocess.run(command, check=True, timeout=120)
    racks.steer(address, "r3s1")
    assert ping(racks, "x1", address)
    assert ping(racks, "r1c1", address)
    flows = {switch: next(f for f in racks.flows(switch) if f"nw_dst={address} " in f) for switch in ("core", "r3tor")}
    assert "output:3" in flows["core"]
    counted = {switch: int(re.search(r"n_packets=(\d+)", flow)[1]) for switch, flow in flows.items()}
    assert min(counted.values()) >= 2
    racks.steer(address, "r2s1")
    assert ping(racks, "x1", address)
    assert "nw_dst=" + address not in " ".join(racks.flows("r3tor"))
