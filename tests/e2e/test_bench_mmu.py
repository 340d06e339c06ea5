"""The benchmark of memory operations on a rack: what it computes of rules is what is in the switch."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_computed_rules_are_in_the_switch(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bench.mmu", "--quick", "--only", "rules", "--out", str(tmp_path)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=500, check=False)
    assert result.returncode == 0, result.stderr
    figures = json.loads((tmp_path / "rules.json").read_text())["figures"]
    there = {f["what"].removesuffix(", in a switch"): f for f in figures if f["what"].endswith(", in a switch")}
    assert set(there) == {"fresh", "granted", "returned"}
    assert all(f["ratio"] == 1 for f in there.values()), "as many as are computed"
    assert there["granted"]["value"] > there["returned"]["value"] == there["fresh"]["value"]
    fresh = next(f for f in figures if f["what"] == "fresh")
    assert fresh["value"] == 2, "a GiB in one block: one rule to translate, one to protect"
