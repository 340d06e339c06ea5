"""Parts of a live rack die, or only seem to."""

from __future__ import annotations

import os
import signal
import urllib.error

import pytest

from tests.e2e.workers import Worker
from topologies.launch import RackLauncher

MIB = 1 << 20


def test_the_switch_is_killed_under_a_live_controller(rack: RackLauncher, worker: Worker) -> None:
    va = worker.call("alloc", size=MIB)["va"]
    revoked = worker.call("alloc", size=2 * 4096)["va"]
    rack.post("/v1/revoke", {"va": revoked, "pages": 1})
    before = rack.get("/v1/map")["entries"]
    hashed = worker.call("hash", va=va, size=MIB)["sha256"]
    rack.kill("switch")
    rack.wait_for(lambda: rack.get("/v1/status")["switch"]["error"] is not None, "the controller to notice", 120)
    rack.start_switch()
    rack.wait_for(lambda: rack.get("/v1/status")["switch"]["error"] is None, "the controller to regain the switch", 120)
    described = rack.get("/v1/map")
    assert described["agrees"]
    assert described["entries"] == before
    rack.wait_for(rack._all_alive, "every element to be alive", 120)
    assert not [e for e in rack.get("/v1/events")["events"] if e["event"] == "element_failed"]
    assert worker.call("hash", va=va, size=MIB)["sha256"] == hashed
    assert worker.call("mixed", va=va, size=MIB // 4, operations=200, seed=3)["ok"]
    assert worker.call("access", va=revoked)["error"] == "PermissionDenied", "what was revoked stays revoked"
    assert rack.post("/v1/revoke", {"va": revoked + 4096})["owner"] == worker.pid
    fresh = Worker(rack, "c2", "after")
    assert fresh.call("alloc", size=8192)["va"] >> 48 == fresh.pid
    fresh.close()


def test_the_top_of_rack_switch_is_back_with_the_controller(rack: RackLauncher) -> None:
    """Open vSwitch itself would dial again some seconds later, and fences would wait for it."""
    rack.kill("controller")
    rack.start_controller()
    assert rack.get("/v1/status")["tor"]["connected"]
    assert rack.post("/v1/fence", {"element": "c2"})["fenced"]
    assert not rack.post("/v1/unfence", {"element": "c2"})["fenced"]


def test_a_memory_element_that_is_only_slow(rack: RackLauncher, worker: Worker) -> None:
    """It stands still with a write in its queue, which is revoked meanwhile: the writer never hears that it took effect."""
    worker.call("alloc", size=MIB)
    processes = rack.get("/v1/processes")["processes"]
    segments = next(p for p in processes if p["pid"] == worker.pid)["allocations"][0]["segments"]
    page = next(s["va"] for s in segments if s["element"] == "m1")
    worker.call("access", va=page, write=True)
    pid = rack.children["m1"].popen.pid
    os.kill(pid, signal.SIGSTOP)
    try:
        worker.start("access", va=page, write=True)
        rack.wait_for(lambda: state(rack, "m1") == "failed", "m1 to be found silent", 120)
        assert rack.post("/v1/revoke", {"va": page})["owner"] == worker.pid, "it is not waited for"
    finally:
        os.kill(pid, signal.SIGCONT)
    answer = worker.finish()
    assert answer["refused"], answer
    rack.wait_for(lambda: state(rack, "m1") == "alive", "m1 to be made safe and serve again", 120)
    assert worker.call("access", va=page, write=True)["error"] == "PermissionDenied"
    assert worker.call("access", va=page + 4096, write=True)["refused"] is False
    assert rack.get("/v1/map")["agrees"]


def by_element(rack: RackLauncher, pid: int) -> dict[str, int]:
    """The first page of a process on each element that has one."""
    processes = rack.get("/v1/processes")["processes"]
    allocations = next(p for p in processes if p["pid"] == pid)["allocations"]
    return {s["element"]: s["va"] for a in allocations for s in reversed(a["segments"])}


def notices(worker: Worker) -> str:
    return " ".join(n["notice"] for n in worker.call("notices")["notices"])


def test_memory_elements_are_killed_and_start_again(rack: RackLauncher, worker: Worker) -> None:
    """The NVM element comes back with everything, the DRAM element says that it is empty; those who do not care go on."""
    va = worker.call("alloc", size=2 * MIB)["va"]
    hashed = worker.call("load", va=va, path="/usr/bin/python3", limit=2 * MIB)["sha256"]
    pages = by_element(rack, worker.pid)
    assert {"m1", "m2", "n1"} <= set(pages)
    legacy = Worker(rack, "c2", "legacy")  # it has asked for no notice and looks at no error
    theirs = legacy.call("alloc", size=2 * MIB)["va"]
    assert legacy.call("mixed", va=theirs, size=MIB // 4, operations=50, seed=1)["ok"]
    homes = by_element(rack, legacy.pid)
    rack.kill("n1")
    answer = worker.call("access", va=pages["n1"])
    assert (answer["error"], answer["by"]) == ("ElementFailed", "switch")
    assert not legacy.call("access", va=homes["m1"], write=True)["refused"]
    assert not worker.call("access", va=pages["m2"])["refused"]
    rack.start_element("n1")
    rack.wait_for(lambda: state(rack, "n1") == "alive", "n1 to serve again", 120)
    assert worker.call("hash", va=va, size=2 * MIB)["sha256"] == hashed
    assert worker.call("mixed", va=va + MIB, size=MIB // 4, operations=100, seed=5)["ok"]

    rack.kill("m2")
    rack.start_element("m2")  # perhaps before anybody has missed it
    rack.wait_for(lambda: state(rack, "m2") == "alive", "m2 to serve again", 120)
    for access in ({"write": False}, {"write": True}):
        answer = worker.call("access", va=pages["m2"], **access)
        assert (answer["error"], answer["by"]) == ("MemoryLost", "switch")
        assert legacy.call("access", va=homes["m2"], **access)["error"] == "MemoryLost"
    rack.wait_for(lambda: "MEMORY_LOST" in notices(worker), "the notice", 120)
    for name in ("m1", "n1"):
        assert not legacy.call("access", va=homes[name], write=True)["refused"], "what is alive works on"
        assert not worker.call("access", va=pages[name], write=True)["refused"]
    assert worker.call("grant", va=pages["m2"], pages=1, to=legacy.pid)["error"] == "MemoryLost"
    assert not worker.call("free", va=va)["refused"]
    fresh = worker.call("alloc", size=2 * MIB)["va"]
    assert "m2" in by_element(rack, worker.pid)
    assert worker.call("mixed", va=fresh, size=MIB, operations=200, seed=6)["ok"]
    assert rack.get("/v1/map")["agrees"]
    legacy.close()


def pids(rack: RackLauncher) -> set[int]:
    return {p["pid"] for p in rack.get("/v1/processes")["processes"]}


def test_a_local_os_is_killed_and_starts_again(rack: RackLauncher, worker: Worker) -> None:
    """Its processes work on without it, one dies meanwhile; the next one carries on where it was."""
    va = worker.call("alloc", size=MIB)["va"]
    mortal = Worker(rack, "c1", "mortal")
    mortal.call("alloc", size=MIB)
    lost = mortal.call("alloc", size=4096)["va"]
    rack.kill("c1")
    mortal.kill()
    assert worker.call("mixed", va=va, size=MIB // 4, operations=100, seed=2)["ok"]
    page = worker.call("alloc", size=4096)["va"]
    rack.wait_for(lambda: state(rack, "c1") == "failed", "c1 to be missed", 120)
    rack.post("/v1/revoke", {"va": page})
    assert {worker.pid, mortal.pid} <= pids(rack)
    rack.start_element("c1")
    rack.wait_for(lambda: mortal.pid not in pids(rack), "the death of a process to be known", 120)
    assert worker.pid in pids(rack)
    with pytest.raises(urllib.error.HTTPError):
        rack.get(f"/v1/stat?va={lost}")
    rack.wait_for(lambda: "REVOKED" in notices(worker), "the notice that waited for the local OS", 120)
    assert worker.call("mixed", va=va, size=MIB // 4, operations=100, seed=3)["ok"]
    fresh = Worker(rack, "c1", "fresh")
    fresh.close()
    rack.wait_for(lambda: fresh.pid not in pids(rack), "its end to be known", 120)


def test_processes_work_on_whoever_else_is_dead(rack: RackLauncher, worker: Worker) -> None:
    """No controller, no local OS, one memory element less: a process that looks at none of this reaches what is alive."""
    va = worker.call("alloc", size=2 * MIB)["va"]
    pages = by_element(rack, worker.pid)
    hashed = worker.call("load", va=va, path="/usr/bin/python3", limit=MIB // 4)["sha256"]
    element = next(name for name, at in pages.items() if at >= va + MIB // 4)
    rack.kill("controller")
    rack.kill("c1")
    assert worker.call("hash", va=va, size=MIB // 4)["sha256"] == hashed
    assert worker.call("mixed", va=va, size=MIB // 4, operations=100, seed=4)["ok"]
    rack.start_controller()
    rack.start_element("c1")
    rack.kill(element)
    rack.wait_for(lambda: state(rack, element) == "failed", "the element to be missed", 120)
    for name, at in pages.items():
        answer = worker.call("access", va=at, write=True)
        assert answer["refused"] == (name == element), (name, answer)
        assert name != element or answer["error"] == "ElementFailed"
    rack.start_element(element)
    rack.wait_for(rack._all_alive, "every element to serve again", 120)
    assert rack.get("/v1/map")["agrees"]


def state(rack: RackLauncher, name: str) -> str:
    return str(next(e for e in rack.get("/v1/elements")["elements"] if e["name"] == name)["state"])
