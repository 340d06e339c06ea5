"""All experiments in small: on real racks, every result right, the report there."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from experiments import catalogue

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.timeout(400)
def test_quick_run_of_all_experiments(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "experiments", "--quick", "--out", str(tmp_path)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=380, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    summary = json.loads((tmp_path / "summary.json").read_text())["experiments"]
    assert list(summary) == list(catalogue.experiments())
    assert all(one["held"] for one in summary.values())
    assert "FAILED" not in (tmp_path / "report.html").read_text()
    for name in summary:
        stored = json.loads((tmp_path / name / "result.json").read_text())
        judged = {finding["claim"] for finding in stored["findings"]}
        assert judged == {claim["name"] for claim in stored["claims"]}, name
