"""Several racks from the command line: up, refused twice, and clean after a crash."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.e2e.leftovers import has_ended, interfaces, kill, undisturbed

ROOT = Path(__file__).resolve().parents[2]


def cli(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "topologies.site_cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=400, check=False, cwd=ROOT)


def test_up_and_clean_after_a_crash(tmp_path: Path) -> None:
    before = interfaces()
    small = ("--racks", "2", "--compute", "1", "--dram", "1", "--memory-mib", "1", "--servers", "1", "--clients", "1")
    up = cli("up", "--out", str(tmp_path), *small)
    assert up.returncode == 0, up.stdout + up.stderr
    again = cli("up", "--out", str(tmp_path / "other"), *small)
    assert again.returncode == 1
    assert "running already" in again.stdout + again.stderr
    for host in ("r1c1", "r2s1", "x1"):
        assert f"{host}-tor" in cli("exec", host, "ip", "-brief", "link").stdout
    states = [json.loads(Path(f"/run/rack-mmu/{name}/state.json").read_text()) for name in ("site", "site-r1")]
    kill(states[0]["launcher"]["pid"])
    clean = cli("clean")
    assert clean.returncode == 0, clean.stdout + clean.stderr
    assert "removed" in clean.stdout
    assert undisturbed(before)
    for process in (p for state in states for p in state["processes"]):
        assert has_ended(process["pid"]), process
    assert not Path("/run/rack-mmu/site").exists()
    assert not Path("/run/rack-mmu/site-r1").exists()
