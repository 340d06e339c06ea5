"""What a rack leaves behind on the machine."""

from __future__ import annotations

import os
import signal
import socket
import time
from pathlib import Path


def interfaces() -> set[str]:
    """Names of the interfaces there are."""
    return {name for _, name in socket.if_nameindex()}


def undisturbed(before: set[str]) -> bool:
    """Whether all interfaces that were made since are gone; the kernel takes its time for those of namespaces."""
    deadline = time.monotonic() + 120
    while interfaces() != before and time.monotonic() < deadline:
        time.sleep(0.1)
    return interfaces() == before


def has_ended(pid: int) -> bool:
    """Whether a process is over."""
    stat = Path(f"/proc/{pid}/stat")
    try:
        return stat.read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def kill(pid: int) -> None:
    """As a crash would."""
    os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 120
    while not has_ended(pid):
        assert time.monotonic() < deadline
        time.sleep(0.02)
