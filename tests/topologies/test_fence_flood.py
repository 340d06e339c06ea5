"""A fence at the top-of-rack switch that has been acknowledged lets no frame pass, also of a flood that was being forwarded."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FENCES = 25


@pytest.mark.skipif(os.geteuid() != 0, reason="namespaces and raw sockets need root")
def test_no_frame_passes_an_acknowledged_fence(tmp_path: Path) -> None:
    scenario = [sys.executable, str(Path(__file__).with_name("fence_flood.py")), str(FENCES), str(tmp_path)]
    command = ["unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh", *scenario]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=400, check=False)
    assert result.returncode == 0, result.stderr
    nothing = {"fences": 0, "frames": 0}
    assert json.loads(result.stdout.splitlines()[-1]) == {"in": nothing, "out": nothing, "cached": 0}
