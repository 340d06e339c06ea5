"""Memory changes hands on a live rack."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.error
from pathlib import Path

import pytest

from tests.e2e.workers import Worker
from topologies.launch import RackLauncher

ROOT = Path(__file__).resolve().parents[2]
MIB = 1 << 20
PAGE = 4096


@pytest.fixture
def pair(rack: RackLauncher, worker: Worker):
    other = Worker(rack, "c2", "recipient")
    yield worker, other
    other.close()


def test_a_range_on_several_elements_is_granted_with_its_contents(
    rack: RackLauncher, pair: tuple[Worker, Worker]
) -> None:
    giver, recipient = pair
    va = giver.call("alloc", size=4 * MIB)["va"]
    giver.call("load", va=va, path="/usr/bin/python3", limit=4 * MIB)
    expected = giver.call("hash", va=va, size=4 * MIB)["sha256"]
    assert recipient.call("access", va=va)["error"] == "PermissionDenied"
    granted = giver.call("grant", va=va, pages=4 * MIB // PAGE, to=recipient.pid)
    assert granted["refused"] is False
    assert recipient.call("hash", va=va, size=4 * MIB)["sha256"] == expected
    assert giver.call("access", va=va)["error"] == "PermissionDenied"
    assert giver.call("access", va=va + 4 * MIB - PAGE, write=True)["error"] == "PermissionDenied"
    assert recipient.call("mixed", va=va, size=MIB // 4, operations=200, seed=1)["ok"]
    assert recipient.call("stat", va=va)["owner"] == recipient.pid
    assert giver.call("grant", va=va, pages=1, to=recipient.pid)["error"] == "PermissionDenied"
    assert recipient.call("grant", va=va, pages=1, to=60000)["error"] == "NoSuchProcess"
    assert rack.get("/v1/map")["agrees"]


def test_a_page_is_granted_while_its_owner_writes(rack: RackLauncher, pair: tuple[Worker, Worker]) -> None:
    """S2, S3: the writer is refused, and the recipient finds the last write that was confirmed, or the one that was under way."""
    giver, recipient = pair
    va = giver.call("alloc", size=16 * PAGE)["va"]
    page = va + 5 * PAGE
    giver.call("write_until_refused", va=page, limit=60)
    rack.post("/v1/grant", {"va": page, "to": recipient.pid})
    first = recipient.call("hash", va=page, size=64)["sha256"]
    outcome = giver.call("join")
    assert outcome["refused"], outcome
    assert outcome["error"] in ("PermissionDenied", "StaleGeneration")
    assert outcome["writes"] > 0
    time.sleep(0.1)
    assert recipient.call("hash", va=page, size=64)["sha256"] == first, "a late write took effect"
    assert giver.call("access", va=va, write=True)["refused"] is False
    assert recipient.call("access", va=va)["error"] == "PermissionDenied"


def test_permissions_change_and_come_back(rack: RackLauncher, worker: Worker) -> None:
    va = worker.call("alloc", size=4 * PAGE)["va"]
    assert worker.call("protect", va=va, pages=2, permissions=1)["refused"] is False
    assert worker.call("access", va=va, write=True)["error"] == "PermissionDenied"
    assert worker.call("access", va=va)["refused"] is False
    assert worker.call("access", va=va + 2 * PAGE, write=True)["refused"] is False
    assert worker.call("protect", va=va, pages=2, permissions=3)["refused"] is False
    assert worker.call("access", va=va, write=True)["refused"] is False


def test_granted_memory_outlives_its_first_owner(rack: RackLauncher, worker: Worker) -> None:
    giver = Worker(rack, "c2", "mortal")
    va = giver.call("alloc", size=16 * PAGE)["va"]
    giver.call("access", va=va + PAGE, write=True)
    assert giver.call("grant", va=va + PAGE, pages=2, to=worker.pid)["refused"] is False
    giver._popen.kill()
    giver._popen.wait()
    rack.wait_for(lambda: all(p["pid"] != giver.pid for p in rack.get("/v1/processes")["processes"]), "its end", 120)
    assert worker.call("access", va=va + 2 * PAGE, write=True)["refused"] is False
    assert worker.call("access", va=va)["refused"] is True
    with pytest.raises(urllib.error.HTTPError):
        rack.post("/v1/grant", {"va": va, "to": worker.pid})


def test_rackctl_grants(rack: RackLauncher, pair: tuple[Worker, Worker]) -> None:
    giver, recipient = pair
    va = giver.call("alloc", size=4 * PAGE)["va"]
    command = [sys.executable, "-m", "controller.rackctl", "grant", hex(va), str(recipient.pid), "2", "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=True)
    assert json.loads(done.stdout) == {"va": va, "pages": 2, "owner": recipient.pid, "source": giver.pid}
    assert recipient.call("access", va=va + PAGE, write=True)["refused"] is False


def test_the_controller_is_killed_while_it_grants(rack: RackLauncher, pair: tuple[Worker, Worker]) -> None:
    giver, recipient = pair
    va = giver.call("alloc", size=MIB)["va"]
    expected = giver.call("hash", va=va, size=MIB)["sha256"]
    giver.start("grant", va=va, pages=MIB // PAGE, to=recipient.pid)
    rack.kill("controller")
    rack.start_controller()
    answer = giver.finish()
    assert answer["refused"] is False, answer
    assert recipient.call("hash", va=va, size=MIB)["sha256"] == expected
    assert giver.call("access", va=va)["error"] == "PermissionDenied"
    assert rack.get("/v1/map")["agrees"]
    rack.wait_for(rack._all_alive, "all elements to be heard again", 120)


def test_the_memory_of_a_crashed_process_is_stolen_with_its_contents(rack: RackLauncher, worker: Worker) -> None:
    group = rack.post("/v1/groups", {"name": f"group {time.time_ns()}"})
    theft = {"pages": 16, "group": group["id"], "secret": group["secret"]}
    victim = Worker(rack, "c2", "victim")
    va = victim.call("alloc", size=64 * 1024, group=group["id"])["va"]
    victim.call("load", va=va, path="/usr/bin/python3", limit=64 * 1024)
    expected = victim.call("hash", va=va, size=64 * 1024)["sha256"]
    wrong = theft | {"secret": bytes(16).hex()}
    assert worker.call("steal", va=va, source=victim.pid, **wrong)["error"] == "BadCapability"
    victim._popen.kill()
    victim._popen.wait()
    rack.wait_for(lambda: all(p["pid"] != victim.pid for p in rack.get("/v1/processes")["processes"]), "its end", 120)
    stolen = worker.call("steal", va=va, source=victim.pid, **theft)
    assert stolen["refused"] is False, stolen
    assert worker.call("hash", va=va, size=64 * 1024)["sha256"] == expected
    assert worker.call("access", va=va, write=True)["refused"] is False
    assert worker.call("free", va=va, size=64 * 1024)["refused"] is False
    assert rack.get("/v1/map")["agrees"]


def test_memory_is_stolen_from_a_process_that_writes(rack: RackLauncher, pair: tuple[Worker, Worker]) -> None:
    source, thief = pair
    group = rack.post("/v1/groups", {"name": f"group {time.time_ns()}"})
    va = source.call("alloc", size=PAGE, group=group["id"])["va"]
    source.call("write_until_refused", va=va, limit=60)
    theft = {"pages": 1, "group": group["id"], "secret": group["secret"]}
    assert thief.call("steal", va=va, source=source.pid, **theft)["refused"] is False
    first = thief.call("hash", va=va, size=64)["sha256"]
    assert source.call("join")["refused"]
    time.sleep(0.1)
    assert thief.call("hash", va=va, size=64)["sha256"] == first, "a late write took effect"
