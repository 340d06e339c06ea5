"""Death at a chosen step: a hook for tests of what must survive it. ``--crash-at N`` of the controller and of every agent."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import time
from pathlib import Path


class CrashAt:
    """Counts steps; at the chosen one (from 1; 0: never) this process, or that of another ``pid``, is gone as by kill -9."""

    def __init__(self, chosen: int = 0, pid: int = 0):
        self._left = chosen
        self._pid = pid

    def step(self) -> None:
        """What comes next may not happen any more. Not for many threads at a time."""
        if self._left:
            self._left -= 1
            if not self._left:
                _kill(self._pid or os.getpid())

    @property
    def is_set(self) -> bool:
        """Whether there is a step to die at."""
        return self._left > 0


def _kill(pid: int) -> None:
    """It is gone when this returns, waited for or not."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    while _runs(pid):
        time.sleep(0.001)


def _runs(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def add_argument(parser: argparse.ArgumentParser) -> None:
    """The option."""
    parser.add_argument(
        "--crash-at", type=int, default=0, metavar="N", help="for tests: kill this process before its Nth step"
    )
