"""Crash points on a real rack, some of them: ``make crashes`` kills at every step."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_some_crash_points(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "experiments.crashes", "--quick", "--seed", "3", "--out", str(tmp_path)]
    command += ["--operations", "alloc,grant,process", "--victims", "controller,switch,n1,c1"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=400, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    report = json.loads((tmp_path / "crashes.json").read_text())
    assert report["held"]
    victims = [run["victim"] for run in report["runs"]]
    assert victims.count("controller") >= 2
    assert {"switch", "n1", "c1"} <= set(victims)
