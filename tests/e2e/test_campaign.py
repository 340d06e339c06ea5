"""The safety rules on a real rack with faults on its links, in short: ``make campaign`` is the long version."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.timeout(900)  # it ends when all has come about, on a slow machine late
def test_a_short_campaign(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "experiments.campaign",
        *("--seconds", "5", "--longest", "400", "--late", "40000", "--crash-every", "1", "--seed", "11"),
        *("--revocations", "50", "--slices", "2", "--loss", "0.05", "--out", str(tmp_path)),
    ]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=840, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    summary = json.loads((tmp_path / "summary.json").read_text())
    storm, quiet, alone, late = summary["storm"], summary["quiet"], summary["alone"], summary["late"]
    assert summary["held"]
    # It has done what it is for: that is when it ends (experiments.campaign_goals).
    assert storm["operations"] >= 500
    assert storm["late"]["answered"] >= 40000
    assert {"revoked", "fenced", "freed", "granted", "stolen"} <= set(storm["late_after"])
    assert {"controller", "NVM element", "DRAM element", "switch", "local OS"} <= set(storm["restart_seconds"])
    assert alone["late"]["accepted"] == 0
    assert alone["control"]["accepted"] > 100, "elements that trust the switch refuse nothing"
    assert storm["retries"] > 0
    assert {"revoked", "freed", "granted", "stolen", "migrated", "fences", "granted by the intruder"} <= set(
        storm["actions"]
    )
    assert {"", "PermissionDenied", "Fenced"} <= set(storm["outcomes"])
    assert late["sent"] >= late["answered"] >= 40000
    assert late["accepted"] == 0
    for kind in ("WRITE", "CAS", "FETCH_ADD"):
        for answer in ("PERMISSION switch", "UNMAPPED switch", "FENCED switch", "STALE_GENERATION element"):
            assert late[f"{kind} {answer}"] > 0, late
    assert quiet["revocations"] == 50
    assert quiet["requests"] > 100
    assert (quiet["lost"], quiet["not_counted"], quiet["failures"]) == (0, 0, [])
