"""Death at a chosen step: a hook for tests of what must survive it. ``--crash-at N`` of the controller and of every agent."""

from __future__ import annotations

import argparse
import os
import signal


class CrashAt:
    """Counts steps; at the chosen one (from 1; 0: never) this process is gone, as after kill -9."""

    def __init__(self, chosen: int = 0):
        self._left = chosen

    def step(self) -> None:
        """What comes next may not happen any more. Not for many threads at a time."""
        if self._left:
            self._left -= 1
            if not self._left:
                os.kill(os.getpid(), signal.SIGKILL)

    @property
    def is_set(self) -> bool:
        """Whether there is a step to die at."""
        return self._left > 0


def add_argument(parser: argparse.ArgumentParser) -> None:
    """The option."""
    parser.add_argument(
        "--crash-at", type=int, default=0, metavar="N", help="for tests: kill this process before its Nth step"
    )
