"""Children of a launcher: what they share with it, and what not."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from topologies.processes import Child


def test_a_child_is_in_its_launchers_session_and_hears_nothing_of_the_terminals_signals(tmp_path: Path) -> None:
    """Niceness counts within a session (sched_autogroup_enabled); the terminal signals a process group."""
    child = Child("sleeper", [sys.executable, "-c", "import time; time.sleep(60)"], tmp_path / "log")
    try:
        assert os.getsid(child.popen.pid) == os.getsid(0)
        assert os.getpgid(child.popen.pid) == child.popen.pid != os.getpgid(0)
    finally:
        child.kill()
