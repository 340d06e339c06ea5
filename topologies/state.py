"""What a running rack leaves on the machine, written down before it is made, so that it can be removed after a crash.

A rack lives under ``/run/rack-mmu/NAME``: a lock, ``state.json``, Unix sockets, ready files. Everything else of it hangs on
processes: the network namespaces of elements end with theirs, and a veth pair ends with the namespace of either side.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import socket
import subprocess
from collections.abc import Collection
from pathlib import Path

import msgspec

from protocol.rack import RUN_ROOT
from topologies import processes
from topologies.processes import ProcessRecord

NAMESPACE = "namespace of "  # before the name of a host: the process that holds its network namespace


class RackRunning(RuntimeError):
    """A rack of this name is running already."""


class NoRack(RuntimeError):
    """No rack of this name is running."""


class RackState(msgspec.Struct, kw_only=True):
    """Processes and interfaces of a rack, in the order in which they are to be removed, and where to reach it."""

    name: str
    launcher: ProcessRecord
    target: str = ""
    api: str = ""
    grpc: str = ""
    out: str = ""
    ready: bool = False
    processes: list[ProcessRecord] = []
    interfaces: list[str] = []
    parts: list[str] = []  # names of the racks that it consists of, if it is several


class RunDirectory:
    """The rack's directory. The lock is held by the launcher for as long as it lives, and freed by the kernel if it dies."""

    def __init__(self, name: str = "rack", root: Path = RUN_ROOT):
        self.path = root / name
        self._state_file = self.path / "state.json"
        self._lock: int | None = None

    def acquire(self) -> None:
        """Take the rack; raises RackRunning when another launcher holds it."""
        self.path.mkdir(parents=True, exist_ok=True)
        lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            raise RackRunning(f"{self.path.name} is running already ({self.path})") from None
        self._lock = lock

    def release(self) -> None:
        """Give the rack up and remove its directory."""
        shutil.rmtree(self.path, ignore_errors=True)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def save(self, state: RackState) -> None:
        """Write the state, atomically."""
        temporary = self._state_file.with_suffix(".new")
        temporary.write_bytes(msgspec.json.encode(state))
        temporary.replace(self._state_file)

    def load(self) -> RackState:
        """The state of the rack that runs or crashed here; raises NoRack."""
        try:
            return msgspec.json.decode(self._state_file.read_bytes(), type=RackState)
        except FileNotFoundError:
            raise NoRack(f"{self.path.name} is not running ({self.path})") from None

    def beside(self, name: str) -> RunDirectory:
        """The directory of another name."""
        return RunDirectory(name, self.path.parent)


def namespaces(directory: RunDirectory) -> dict[str, int]:
    """The processes that hold the network namespaces of hosts that run, by the names of these. Raises NoRack."""
    state = directory.load()
    found = {p.name.removeprefix(NAMESPACE): p.pid for p in state.processes if p.name.startswith(NAMESPACE)}
    for part in state.parts:
        found |= namespaces(directory.beside(part))
    return found


def has_interface(name: str) -> bool:
    """Whether this network namespace has an interface of this name (/sys may be another one's)."""
    return name in {interface for _, interface in socket.if_nameindex()}


def remove_crashed(directory: RunDirectory, keep: Collection[str] = ()) -> list[str]:
    """Remove what a launcher left that has ended, whose name is ours now, and what it left of its parts, other than those named;
    returns what was removed, for people to read."""
    try:
        crashed = directory.load()
    except NoRack:
        return []
    removed = []
    for part in map(directory.beside, (name for name in crashed.parts if name not in keep)):
        with contextlib.suppress(RackRunning):  # another launcher's, by now
            part.acquire()
            removed += remove_crashed(part)
            part.release()
    return removed + remove_leftovers(crashed)


def remove_leftovers(state: RackState) -> list[str]:
    """End the processes and delete the interfaces that a rack left; returns what was removed, for people to read."""
    alive = [p for p in state.processes if processes.is_alive(p)]
    processes.end(alive, grace=3.0)
    removed = [f"process {p.name} ({p.pid})" for p in alive]
    for name in state.interfaces:
        if has_interface(name):
            subprocess.run(["ip", "link", "delete", name], check=False, capture_output=True)
            removed.append(f"interface {name}")
    return removed
