"""A compute element falls silent: it is fenced at both switches, its standby is told, and takes over its memory."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests.e2e.conftest import FAIL_MS, SUSPECT_MS
from tests.e2e.rackctl import attempt, rackctl
from tests.e2e.workers import Worker
from topologies.launch import RackLauncher

KIB = 1024


def reaches(rack: RackLauncher, source: str, target: str, seconds: int = 60) -> bool:
    """Whether a compute element gets an answer of another one on the top-of-rack network."""
    address = next(e.ip for e in rack.rack.compute if e.name == target).split("/")[0]
    command = [*rack.namespace(source), "ping", "-c", "1", "-i", "0.2", "-w", str(seconds), address]
    return subprocess.run(command, capture_output=True, timeout=120, check=False).returncode == 0


def state_of(rack: RackLauncher, name: str) -> dict:
    return next(e for e in rack.get("/v1/elements")["elements"] if e["name"] == name)


@contextmanager
def stopped(rack: RackLauncher, element: str, *workers: Worker) -> Iterator[None]:
    """The element stands still, as a slow one does: its local OS and its processes."""
    unix = [rack.children[element].popen.pid, *(w._popen.pid for w in workers)]
    for pid in unix:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in unix:
            os.kill(pid, signal.SIGCONT)


def test_a_standby_takes_over_from_a_silent_element(rack: RackLauncher) -> None:
    assert reaches(rack, "c3", "c1")
    group = rack.post("/v1/groups", {"name": f"service {time.time_ns()}"})
    primary, standby = Worker(rack, "c3", "primary"), Worker(rack, "c2", "standby")
    try:
        va = primary.call("alloc", size=64 * KIB, group=group["id"])["va"]
        primary.call("load", va=va, path="/usr/bin/python3", limit=64 * KIB)
        expected = primary.call("hash", va=va, size=64 * KIB)["sha256"]
        standby.call("watch", group=group["id"], secret=group["secret"], source=primary.pid)
        assert f"process {standby.pid} stands by for process {primary.pid}" in rackctl(
            "watch", str(standby.pid), str(group["id"]), str(primary.pid)
        )
        with stopped(rack, "c3", primary):
            rack.wait_for(lambda: bool(standby.call("takeovers")["takeovers"]), "the standby to be told", 120)
            (told,) = standby.call("takeovers")["takeovers"]
            assert (told["source"], told["group"]) == (primary.pid, group["id"])
            assert told["ranges"] == [{"va": va, "size": 64 * KIB}]
            assert state_of(rack, "c3")["fenced_by"] == "monitor"
            theft = {"group": group["id"], "secret": group["secret"], "source": primary.pid}
            stolen = standby.call("steal", va=va, pages=16, **theft)
            assert stolen["refused"] is False, stolen
            assert standby.call("hash", va=va, size=64 * KIB)["sha256"] == expected
        # It was only slow: it is heard again, and can do nothing.
        rack.wait_for(lambda: state_of(rack, "c3")["state"] == "alive", "the element to be heard again", 120)
        assert state_of(rack, "c3")["fenced"]
        assert primary.call("access", va=va, write=True)["error"] == "Fenced"
        assert not reaches(rack, "c3", "c1", seconds=2)
        assert not reaches(rack, "c1", "c3", seconds=2)
        assert reaches(rack, "c1", "c2"), "the others go on"
        kinds = [e["event"] for e in rack.get("/v1/events")["events"] if e.get("name") == "c3"]
        expected_order = ["element_suspected", "fenced", "fence_certain", "element_failed"]
        order = [k for k in kinds if k in expected_order]
        at = order.index("fenced") - 1  # on a busy machine it is suspected now and then without reason
        assert order[at : at + 4] == expected_order
        assert "c3 is not fenced any more" in rackctl("unfence", "c3")
        assert reaches(rack, "c3", "c1")
        assert reaches(rack, "c1", "c3")
        assert primary.call("access", va=va, write=True)["error"] == "PermissionDenied", "it has lost its memory"
        assert standby.call("hash", va=va, size=64 * KIB)["sha256"] == expected
    finally:
        primary.close()
        standby.close()


def test_an_element_that_registers_anew_is_let_in(rack: RackLauncher) -> None:
    group = rack.post("/v1/groups", {"name": f"service {time.time_ns()}"})
    primary, standby = Worker(rack, "c3", "mortal"), Worker(rack, "c2", "heir")
    try:
        va = primary.call("alloc", size=16 * KIB, group=group["id"])["va"]
        private = primary.call("alloc", size=16 * KIB)["va"]
        standby.call("watch", group=group["id"], secret=group["secret"])
        rack.kill("c3")
        rack.wait_for(lambda: bool(standby.call("takeovers")["takeovers"]), "the standby to be told", 120)
        assert standby.call("takeovers")["takeovers"][0]["ranges"] == [{"va": va, "size": 16 * KIB}]
        assert primary.call("access", va=private)["error"] == "Fenced"
        rack.start_element("c3")
        rack.wait_for(lambda: not state_of(rack, "c3")["fenced"], "the element to be let in again", 120)
        assert all(p["pid"] != primary.pid for p in rack.get("/v1/processes")["processes"])
        assert primary.call("access", va=private)["error"] == "PermissionDenied", "its old processes are over"
        theft = {"group": group["id"], "secret": group["secret"], "source": primary.pid}
        assert standby.call("steal", va=va, pages=4, **theft)["refused"] is False
        again = Worker(rack, "c3", "again")
        assert again.call("access", va=again.call("alloc", size=4096)["va"])["refused"] is False
        again.close()
    finally:
        primary.close()
        standby.close()


def test_thresholds_are_adjusted_while_the_rack_runs(rack: RackLauncher) -> None:
    assert f"suspected after {SUSPECT_MS} ms" in rackctl("monitor")
    try:
        told = rackctl("monitor", "--heartbeat", "50", "--suspect", "500", "--fail", "60000")
        assert told == "a heartbeat every 50 ms; suspected after 500 ms of silence, failed after 60000 ms\n"
        log = rack.out / "logs" / "m1.log"
        rack.wait_for(lambda: "heartbeats every 50 ms" in log.read_text(), "an element to hear of it", 120)
        with stopped(rack, "m1"):
            rack.wait_for(lambda: "m1" in rack.get("/v1/monitor")["suspected"], "suspicion", 120)
            assert state_of(rack, "m1")["state"] == "alive"
        rack.wait_for(lambda: not rack.get("/v1/monitor")["suspected"], "the end of the suspicion", 120)
        rack.kill("controller")
        rack.start_controller()
        assert rackctl("monitor") == told, "what was set outlives the controller"
        refused = attempt("monitor", "--fail", "10")
        assert refused.returncode == 1
        assert "suspicion (500 ms) at least" in refused.stderr
    finally:
        rackctl("monitor", "--heartbeat", "100", "--suspect", str(SUSPECT_MS), "--fail", str(FAIL_MS))
