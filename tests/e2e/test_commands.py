"""The commands as a user runs them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.e2e.leftovers import has_ended, interfaces, kill, undisturbed

ROOT = Path(__file__).resolve().parents[2]


def python(*arguments: str, timeout: float = 400, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        env={**os.environ, **environment},
    )


def test_main_job(tmp_path: Path) -> None:
    before = interfaces()
    result = python("experiments.run", "--out", str(tmp_path), "--rounds", "200")
    assert result.returncode == 0, result.stdout + result.stderr
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["held"]
    assert len(summary["steps"]) == 10
    assert all(step["held"] for step in summary["steps"])
    for operation in ("read 64", "write 64", "read 4096", "write 4096"):
        row = summary["latency_us"][operation]
        assert 0 < row["p50"] <= row["p90"] <= row["p99"]
    assert summary["verdicts"]["refused_permission"] >= 3
    assert summary["rules"]["translation"] > 1
    pcaps = list((tmp_path / "pcap").glob("*.pcap*"))
    assert len(pcaps) >= 6
    assert all(p.stat().st_size > 24 for p in pcaps)
    assert undisturbed(before)


def test_main_job_says_what_is_wrong(tmp_path: Path) -> None:
    missing = python("experiments.run", "--out", str(tmp_path), "--file", str(tmp_path / "nothing"))
    assert missing.returncode == 1
    assert "no such file" in missing.stdout
    few = python("experiments.run", "--out", str(tmp_path), "--compute", "1")
    assert few.returncode == 1
    assert "at least two compute" in few.stdout


def test_bmv2_where_it_is_absent(tmp_path: Path) -> None:
    empty = tmp_path / "bin"
    empty.mkdir()
    result = python("experiments.run", "--target", "bmv2", "--out", str(tmp_path), PATH=str(empty))
    assert result.returncode == 1
    lines = [line for line in result.stdout.splitlines() if "simple_switch_grpc" in line]
    assert len(lines) == 1
    assert "p4c" in lines[0]
    assert "TARGET=p4switch" in lines[0]


def test_up_down_and_clean_after_a_crash(tmp_path: Path) -> None:
    before = interfaces()
    up = python("topologies", "up", "--out", str(tmp_path), "--compute", "2", "--dram", "1", "--nvm", "1")
    assert up.returncode == 0, up.stdout + up.stderr
    again = python("topologies", "up", "--out", str(tmp_path / "other"))
    assert again.returncode == 1
    assert "running already" in again.stdout + again.stderr
    assert python("controller.rackctl", "status").returncode == 0
    inside = python(
        "topologies", "exec", "c2", sys.executable, "-c", "import hosts.process, socket; print(socket.if_nameindex())"
    )
    assert "'c2-rack'" in inside.stdout, inside.stderr
    nowhere = python("topologies", "exec", "c9", "true")
    assert (nowhere.returncode, "there are c1, c2, m1, n1" in nowhere.stderr) == (1, True), nowhere.stderr
    assert python("topologies", "down").returncode == 0
    assert undisturbed(before)
    assert python("topologies", "down").returncode == 1

    assert python("topologies", "up", "--out", str(tmp_path)).returncode == 0
    state = json.loads(Path("/run/rack-mmu/rack/state.json").read_text())
    kill(state["launcher"]["pid"])
    clean = python("topologies", "clean")
    assert clean.returncode == 0, clean.stdout + clean.stderr
    assert "removed" in clean.stdout
    assert undisturbed(before)
    for process in state["processes"]:
        assert has_ended(process["pid"]), process
    assert not Path("/run/rack-mmu/rack").exists()
