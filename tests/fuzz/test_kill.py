"""kill -9 of a switch in the middle of everything leaves nothing behind; a restart works at once, also with a damaged cache."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

SCENARIO = Path(__file__).parent / "kill_scenario.py"
ROOT = SCENARIO.parents[2]


@pytest.mark.root
@pytest.mark.timeout(900)
@pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")
def test_killed_switch(tmp_path: Path) -> None:
    seed = random.randrange(1 << 30)
    done = subprocess.run(
        ["unshare", "-n", sys.executable, str(SCENARIO), str(tmp_path), str(seed)],
        capture_output=True,
        text=True,
        timeout=840,
        check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, f"seed {seed}\n{done.stderr[-4000:]}"
    seen = json.loads(done.stdout)
    assert seen["works"]
    assert seen["status"] == [0, 0]
    assert len(seen["rounds"]) == 3
    captures = [capture for r in seen["rounds"] for capture in r["captures"]]
    assert sum(count for count, _ in captures) > 0, seen
    # Whole records go to the kernel at once. That SIGKILL comes in the middle of such a write happens, but seldom.
    assert sum(whole for _, whole in captures) >= 4, seen
