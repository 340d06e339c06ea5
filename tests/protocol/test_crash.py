"""Death at a chosen step."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from protocol.crash import CrashAt

STEPS = "import sys; from protocol.crash import CrashAt; at = CrashAt(2)\nfor n in range(3): print(n, flush=True); at.step()"


def test_a_process_is_killed_at_its_step() -> None:
    done = subprocess.run([sys.executable, "-c", STEPS], capture_output=True, text=True, timeout=400, check=False)
    assert done.stdout == "0\n1\n"
    assert done.returncode == -signal.SIGKILL


@pytest.mark.parametrize("chosen", [1, 3])
def test_another_process_is_killed_and_gone_at_once(chosen: int) -> None:
    with subprocess.Popen(["sleep", "600"]) as other:
        at = CrashAt(chosen, other.pid)
        for _ in range(chosen - 1):
            at.step()
            assert at.is_set
        assert other.poll() is None
        at.step()
        assert not at.is_set
        assert other.poll() == -signal.SIGKILL
        at.step()  # that was all


def test_one_that_has_ended_already_is_no_error() -> None:
    with subprocess.Popen(["true"]) as other:
        other.wait()
        CrashAt(1, other.pid).step()


def test_no_step_is_chosen() -> None:
    at = CrashAt()
    at.step()
    assert not at.is_set
