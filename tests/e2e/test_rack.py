"""The whole rack in Mininet."""

from __future__ import annotations

import hashlib
import json
import random
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from protocol import wire
from tests.e2e.conftest import settled
from tests.e2e.rackctl import attempt
from tests.e2e.workers import Worker
from topologies.launch import RackLauncher

ROOT = Path(__file__).resolve().parents[2]
MIB = 1 << 20


def rackctl(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "controller.rackctl", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)


def in_element(rack: RackLauncher, element: str, code: str, *arguments: str) -> str:
    """Run Python inside an element's namespace."""
    command = [*rack.namespace(element), sys.executable, "-c", code, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=400, check=True).stdout


def test_memory_of_a_process(rack: RackLauncher, worker: Worker) -> None:
    va = worker.call("alloc", size=MIB)["va"]
    assert va >> 48 == worker.pid
    outcome = worker.call("mixed", va=va, size=MIB // 4, operations=300, seed=5)
    assert outcome["ok"], outcome
    segments = next(p for p in rack.get("/v1/processes")["processes"] if p["pid"] == worker.pid)["allocations"]
    assert len({s["element"] for a in segments for s in a["segments"]}) == 3
    assert worker.call("free", va=va)["refused"] is False
    assert worker.call("access", va=va)["error"] == "Unmapped"


def test_memory_is_zero_before_it_is_given_out_again(rack: RackLauncher, worker: Worker) -> None:
    va = worker.call("alloc", size=4096)["va"]
    worker.call("write_until_refused", va=va, limit=0.05)
    worker.call("join")
    worker.call("free", va=va)
    zero = worker.call("hash", va=worker.call("alloc", size=4 * MIB)["va"], size=4 * MIB)["sha256"]
    assert zero == hashlib.sha256(bytes(4 * MIB)).hexdigest()


def reaches(rack: RackLauncher, source: str, target: str, seconds: int = 60) -> bool:
    """Whether a compute element answers another one on the top-of-rack network."""
    address = next(e.ip for e in rack.rack.compute if e.name == target).split("/")[0]
    command = [*rack.namespace(source), "ping", "-c", "1", "-i", "0.2", "-w", str(seconds), address]
    return subprocess.run(command, capture_output=True, timeout=120, check=False).returncode == 0


def test_a_fence_acts_at_the_top_of_rack_switch_too(rack: RackLauncher) -> None:
    assert reaches(rack, "c3", "c1")
    assert "fenced" in attempt("fence", "c3").stdout
    assert not reaches(rack, "c3", "c1", seconds=2)
    assert reaches(rack, "c1", "c2"), "the others go on"
    assert not [e for e in rack.get("/v1/events")["events"] if "fence_not_at_tor" in e.values()]
    assert attempt("unfence", "c3").returncode == 0
    assert reaches(rack, "c3", "c1")


def test_exit_gives_everything_back(rack: RackLauncher) -> None:
    settled(rack)
    before = {e["name"]: e["free_pages"] for e in rack.get("/v1/elements")["elements"]}
    dying = Worker(rack, "c2", "dying")
    dying.call("alloc", size=2 * MIB)
    dying._popen.kill()
    dying._popen.wait()
    rack.wait_for(
        lambda: {e["name"]: e["free_pages"] for e in rack.get("/v1/elements")["elements"]} == before,
        "the memory of a killed process to be freed",
        120,
    )


def test_the_controller_is_killed_while_traffic_goes_on(rack: RackLauncher, worker: Worker) -> None:
    va = worker.call("alloc", size=MIB)["va"]
    page = worker.call("alloc", size=2 * 4096)["va"]
    rack.post("/v1/revoke", {"va": page, "pages": 1})
    settled(rack, worker)
    before = rack.get("/v1/processes")
    worker.start("mixed", va=va, size=MIB // 2, operations=4000, seed=7)
    time.sleep(0.2)
    rack.kill("controller")
    time.sleep(0.5)
    rack.start_controller()
    outcome = worker.finish()
    assert outcome["ok"], outcome
    assert rack.get("/v1/processes") == before
    described = rack.get("/v1/map")
    assert described["agrees"], described
    statistics = worker.call("statistics")
    assert statistics["timeouts"] == statistics["refusals"] == 0
    assert worker.call("access", va=page)["error"] == "PermissionDenied", "what was revoked stays revoked"
    assert worker.call("access", va=page + 4096)["refused"] is False
    # It goes on working: allocate, revoke, free.
    more = worker.call("alloc", size=4096)["va"]
    assert rack.post("/v1/revoke", {"va": more})["owner"] == worker.pid
    rack.wait_for(rack._all_alive, "all elements to be heard again", 120)


def test_a_lost_entry_comes_back_at_restart(rack: RackLauncher, worker: Worker) -> None:
    """Somebody meddled with the switch while the controller was down: it is put right, and what was right is not touched."""
    va = worker.call("alloc", size=4096)["va"]
    rack.kill("controller")
    meddle = ROOT / "tests" / "e2e" / "meddle.py"
    command = [sys.executable, str(meddle), str(rack.pipeline.p4info), rack.grpc, hex(va)]
    subprocess.run(command, cwd=ROOT, check=True, timeout=120)
    assert worker.call("access", va=va)["error"] == "PermissionDenied"
    rack.start_controller()
    assert worker.call("access", va=va)["refused"] is False
    assert rack.get("/v1/map")["agrees"]


def test_a_hundred_thousand_hostile_frames_on_the_live_rack(rack: RackLauncher, worker: Worker) -> None:
    """From a compute element that has gone mad: garbage, spoofs, forged replies, controller messages. The rack goes on."""
    va = worker.call("alloc", size=MIB)["va"]
    victim = worker.call("mixed", va=va, size=MIB // 4, operations=100, seed=1)
    before = sum(rack.get("/v1/counters")["verdicts"].values())
    worker.start("mixed", va=va, size=MIB // 4, operations=1500, seed=2)
    storm = (ROOT / "tests" / "e2e" / "storm.py").read_text()
    sent = int(in_element(rack, "c3", storm, "c3-rack", "1", "100000", str(worker.pid), str(va)))
    outcome = worker.finish()
    assert victim["ok"] and outcome["ok"], outcome
    assert sent >= 100_000
    rack.wait_for(rack._all_alive, "every element to be alive", 120)
    counted = sum(rack.get("/v1/counters")["verdicts"].values()) - before
    assert counted >= sent, f"{sent} frames sent, {counted} counted by the switch"
    rack.wait_for(lambda: rack.get("/v1/status")["events_waiting"] == 0, "the controller to catch up", 120)
    assert rack.get("/v1/status")["ready"]
    assert rack.get("/v1/map")["agrees"]
    fresh = Worker(rack, "c3", "after the storm")
    assert fresh.call("alloc", size=8192)["va"] >> 48 == fresh.pid
    fresh.close()


def test_elements_talk_over_the_top_of_rack_switch(rack: RackLauncher) -> None:
    server = """
import socket
s = socket.create_server(("10.0.0.2", 7777)); s.settimeout(100); c, _ = s.accept(); print(c.recv(100).decode()); c.close()
"""
    listening = subprocess.Popen(
        [*rack.namespace("c2"), sys.executable, "-c", server], stdout=subprocess.PIPE, text=True
    )
    client = """
import socket, time
for _ in range(1000):
    try: socket.create_connection(("10.0.0.2", 7777), 2).sendall(b"over the ToR"); break
    except OSError: time.sleep(0.05)
"""
    in_element(rack, "c1", client)
    assert listening.communicate(timeout=120)[0].strip() == "over the ToR"


def test_rackctl(rack: RackLauncher, worker: Worker) -> None:
    assert "ready" in rackctl("status").stdout, "as a program"
    for command in ("status", "elements", "processes", "map", "counters", "events"):
        human, machine = attempt(command), attempt(command, "--json")
        assert human.returncode == machine.returncode == 0, human.stderr + machine.stderr
        assert human.stdout.strip()
        json.loads(machine.stdout)
    made = json.loads(attempt("alloc", str(worker.pid), "64K", "--json").stdout)
    assert made["size"] == 64 << 10
    assert worker.call("access", va=made["va"], write=True)["refused"] is False
    assert "revoked 2 pages" in attempt("revoke", hex(made["va"]), "2").stdout
    assert worker.call("access", va=made["va"])["error"] == "PermissionDenied"
    assert "freed" in attempt("free", hex(made["va"])).stdout
    assert "fenced" in attempt("fence", "c3").stdout
    assert next(e for e in rack.get("/v1/elements")["elements"] if e["name"] == "c3")["fenced"]
    assert "not fenced" in attempt("unfence", "c3").stdout
    for wrong, text in (
        (("free", "0x1234000"), "refused (not_found)"),
        (("alloc", "60000", "4096"), "there is no process 60000"),
        (("fence", "c9"), "there is no element 'c9'; there are c1"),
        (("alloc", str(worker.pid), "1T"), "out_of_memory"),
    ):
        result = attempt(*wrong)
        assert result.returncode == 1
        assert text in result.stderr
        assert len(result.stderr.splitlines()) == 1
    assert attempt("alloc", "x", "1").returncode == 2
    nobody = attempt("--api", "http://127.0.0.1:1", "status")
    assert nobody.returncode == 1
    assert "is a rack running?" in nobody.stderr


def test_api_is_described_and_refuses_nonsense(rack: RackLauncher) -> None:
    description = rack.get("/openapi.json")
    assert {"/v1/status", "/v1/alloc", "/v1/free", "/v1/revoke", "/v1/fence", "/v1/map"} <= set(description["paths"])
    with rack.open("/metrics") as reply:
        assert b"rackmmu_element_alive" in reply.read()
    settled(rack, elsewhere="c3")  # where hostile frames have made some
    before = rack.get("/v1/processes")
    for path, body in (
        ("/v1/alloc", {"pid": 0, "size": 4096}),
        ("/v1/alloc", {"pid": 1, "size": -1}),
        ("/v1/alloc", {}),
        ("/v1/revoke", {"va": "everything"}),
        ("/v1/free", {"va": 1 << 70}),
    ):
        try:
            rack.post(path, body)
            raise AssertionError(f"{path} {body} was accepted")
        except urllib.error.HTTPError as error:
            assert error.code == 422
            told = json.load(error)
            assert told["error"] == "malformed"
            assert told["message"]
    assert rack.get("/v1/processes") == before


def test_latency_is_what_the_switch_saw(rack: RackLauncher, worker: Worker) -> None:
    """Every operation of the process is one request and one reply at the switch, but for what is repeated on a busy machine."""
    va = worker.call("alloc", size=4096)["va"]
    repeated = worker.call("statistics")["retries"]
    before = rack.get("/v1/counters")["verdicts"]
    worker.call("latency", va=va, rounds=100)
    after = rack.get("/v1/counters")["verdicts"]
    repeated = worker.call("statistics")["retries"] - repeated
    assert after["forwarded_request"] - before["forwarded_request"] == 400 + repeated
    assert 400 <= after["forwarded_reply"] - before["forwarded_reply"] <= 400 + repeated


def test_a_dead_memory_element(rack: RackLauncher) -> None:
    """Last: the rack has one element less afterwards."""
    user = Worker(rack, "c1", "user")
    va = user.call("alloc", size=MIB)["va"]
    segments = next(p for p in rack.get("/v1/processes")["processes"] if p["pid"] == user.pid)["allocations"][0][
        "segments"
    ]
    on_m2 = next(s["va"] for s in segments if s["element"] == "m2")
    elsewhere = next(s["va"] for s in segments if s["element"] != "m2")
    rack.kill("m2")
    answer = user.call("access", va=on_m2)
    assert answer["error"] == "ElementFailed"
    assert answer["by"] == "switch"
    assert user.call("access", va=elsewhere)["refused"] is False
    rack.wait_for(lambda: bool(user.call("notices")["notices"]), "a failure notice", 120)
    user.call("free", va=va)
    rack.start_element("m2")
    rack.wait_for(rack._all_alive, "m2 to serve again", 120)
    va = user.call("alloc", size=MIB)["va"]
    assert user.call("mixed", va=va, size=MIB // 4, operations=100, seed=random.randrange(100))["ok"]
    user.close()
    assert wire.va_owner(va) == user.pid
