"""Parts of a live rack die, or only seem to."""

from __future__ import annotations

import os
import signal
import time

from experiments.workers import Worker
from topologies.launch import RackLauncher

MIB = 1 << 20


def test_the_switch_is_killed_under_a_live_controller(rack: RackLauncher, worker: Worker) -> None:
    va = worker.call("alloc", size=MIB)["va"]
    revoked = worker.call("alloc", size=2 * 4096)["va"]
    rack.post("/v1/revoke", {"va": revoked, "pages": 1})
    before = rack.get("/v1/map")["entries"]
    hashed = worker.call("hash", va=va, size=MIB)["sha256"]
    rack.kill("switch")
    rack.wait_for(lambda: rack.get("/v1/status")["switch"]["error"] is not None, "the controller to notice", 10)
    rack._start_switch()
    rack.wait_for(lambda: rack.get("/v1/status")["switch"]["error"] is None, "the controller to regain the switch", 20)
    described = rack.get("/v1/map")
    assert described["agrees"]
    assert described["entries"] == before
    rack.wait_for(rack._all_alive, "every element to be alive", 5)
    assert not [e for e in rack.get("/v1/events")["events"] if e["event"] == "element_failed"]
    assert worker.call("hash", va=va, size=MIB)["sha256"] == hashed
    assert worker.call("mixed", va=va, size=MIB // 4, operations=200, seed=3)["ok"]
    assert worker.call("access", va=revoked)["error"] == "PermissionDenied", "what was revoked stays revoked"
    assert rack.post("/v1/revoke", {"va": revoked + 4096})["owner"] == worker.pid
    fresh = Worker(rack, "c2", "after")
    assert fresh.call("alloc", size=8192)["va"] >> 48 == fresh.pid
    fresh.close()


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
        rack.wait_for(lambda: state(rack, "m1") == "failed", "m1 to be suspected", 5)
        start = time.monotonic()
        assert rack.post("/v1/revoke", {"va": page})["owner"] == worker.pid
        assert time.monotonic() - start < 5, "it is not waited for"
    finally:
        os.kill(pid, signal.SIGCONT)
    answer = worker.finish()
    assert answer["refused"], answer
    rack.wait_for(lambda: state(rack, "m1") == "alive", "m1 to be made safe and serve again", 5)
    assert worker.call("access", va=page, write=True)["error"] == "PermissionDenied"
    assert worker.call("access", va=page + 4096, write=True)["refused"] is False
    assert rack.get("/v1/map")["agrees"]


def state(rack: RackLauncher, name: str) -> str:
    return str(next(e for e in rack.get("/v1/elements")["elements"] if e["name"] == name)["state"])
