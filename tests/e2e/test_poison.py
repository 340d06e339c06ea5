"""Single bad pages on a live rack."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from experiments.workers import Worker
from topologies.launch import RackLauncher

ROOT = Path(__file__).resolve().parents[2]
PAGE = 4096


def rackctl(*arguments: str) -> str:
    command = [sys.executable, "-m", "controller.rackctl", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=True).stdout


def test_a_bad_page_fails_is_told_and_survives_restarts(rack: RackLauncher, worker: Worker) -> None:
    va = worker.call("alloc", size=8 * PAGE)["va"]
    assert "1 page of" in rackctl("poison", hex(va + PAGE))
    failed = worker.call("access", va=va + PAGE)
    assert (failed["error"], failed["by"]) == ("PageFailed", "element")
    assert worker.call("access", va=va + PAGE, write=True)["error"] == "PageFailed"
    assert worker.call("access", va=va, size=PAGE)["refused"] is False
    rack.wait_for(
        lambda: any(f"1 pages from {va + PAGE:#x}" in n["notice"] for n in worker.call("notices")["notices"]),
        "the notice",
        5,
    )
    (bad,) = rack.get("/v1/poison")["bad"]
    rack.kill("controller")
    rack.start_controller()
    assert rack.get("/v1/poison")["bad"] == [bad]
    assert worker.call("access", va=va + PAGE)["error"] == "PageFailed"
    rack.kill(bad["element"])
    rack.start_element(bad["element"])
    rack.wait_for(rack._all_alive, "the element to serve again", 10)
    assert worker.call("free", va=va, size=0)["refused"] is False
    assert rackctl("bad-pages").count(bad["element"]) == 1
    assert "1 page of" in rackctl("unpoison", hex(bad["pa"]), "--element", bad["element"])
    assert rack.get("/v1/poison")["bad"] == []
    again = worker.call("alloc", size=8 * PAGE)["va"]
    assert worker.call("mixed", va=again, size=8 * PAGE, operations=100, seed=1)["ok"]
