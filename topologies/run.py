"""One launcher's hold on this machine: the life cycle that a rack and several racks share.

A run has a name, which one launcher holds at a time; children; and what it leaves on the machine, written down before it is made
(``topologies.state``). Whatever is begun says how it is ended, and ends in reverse order: when booting fails, at the end, and, by
what was written down, after a launcher that died.
"""

from __future__ import annotations

import os
import sys
import urllib.error
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from topologies import access, processes, targets
from topologies.api import Api
from topologies.processes import Child, StartError, wait_for
from topologies.state import NAMESPACE, RackState, RunDirectory, has_interface, remove_crashed, remove_leftovers

START_TIMEOUT = 90.0  # seconds, for each process, on the slowest machine


class Run:
    """The lock, the state file, the children and the clean-up of a launcher. ``out`` receives logs; ``progress`` is told what is
    done, for people to read."""

    def __init__(self, name: str, out: Path, progress: Callable[[str], None]):
        self.out = out.resolve()
        self.logs = self.out / "logs"
        self.progress = progress
        self.children: dict[str, Child] = {}
        self.state = RackState(name=name, launcher=processes.record("launcher", os.getpid()))
        self._directory = RunDirectory(name)
        self._endings = ExitStack()

    @property
    def path(self) -> Path:
        """Where sockets and ready files are, and nothing that outlives the run."""
        return self._directory.path

    # ------------------------------------------------------------------------------------------------ life cycle

    def boot(self, how: Callable[[], None]) -> None:
        """Take the name and boot; nothing is left behind when that fails. Raises RackRunning, StartError, and as ``how``."""
        try:
            self.acquire()
            how()
        except BaseException:
            self.end()
            raise

    def acquire(self) -> None:
        """Take the name. Raises RackRunning, StartError."""
        if os.geteuid() != 0:
            raise StartError("a rack needs root (network namespaces, raw sockets): run it with sudo")
        self._directory.acquire()
        self.at_end(self._directory.release)

    def prepare(self, veths: Sequence[str], taps: Sequence[str], parts: Sequence[str] = ()) -> None:
        """Remove what a launcher of this name left that died, clear away its logs, and write down what is going to be there:
        interfaces, and the names of other runs that this one consists of (they are held, and prepare themselves). Taps of Open
        vSwitch outlive a daemon that is killed; they are ours unless they are there before. Raises StartError when a veth is."""
        for thing in remove_crashed(self._directory, keep=parts):
            self.progress(f"removed what a crash left: {thing}")
        if taken := [name for name in veths if has_interface(name)]:
            raise StartError(
                f"there is an interface {taken[0]} already: another rack with switches of the same names runs on this machine, "
                "or has crashed (then `python -m topologies clean` removes it)"
            )
        self.logs.mkdir(parents=True, exist_ok=True)
        for old in self.logs.glob("*.log"):
            old.unlink()
        self.state.out = str(self.out)
        self.state.parts = list(parts)
        self.state.interfaces = [*veths, *(name for name in taps if not has_interface(name))]
        self.save()
        self.at_end(lambda: remove_leftovers(self.state))

    def at_end(self, do: Callable[[], object]) -> None:
        """Say how something ends that begins now."""
        self._endings.callback(do)

    def end(self) -> None:
        """End everything, in reverse order; safe to call again."""
        self._endings.__exit__(*sys.exc_info())  # should an ending fail, what was wrong before is told with it

    def ready(self) -> None:
        """Everything is up: those who wait for it are told."""
        self.state.ready = True
        self.save()

    def save(self) -> None:
        """Write the state down."""
        self._directory.save(self.state)

    # -------------------------------------------------------------------------------------------------- children

    def spawn(self, name: str, command: Sequence[str], prefix: Sequence[str] = (), ready: bool = False) -> Child:
        """Start a child with one of the project's command lines; with ``ready``, it makes its ready file when it is."""
        child = self.children[name] = Child(
            name,
            command,
            self.logs / f"{name}.log",
            prefix=prefix,
            env={"PYTHONPATH": str(targets.ROOT), "PYTHONUNBUFFERED": "1"},
            ready_file=self.ready_file(name) if ready else None,
        )
        self.remember(child)
        return child

    def ready_file(self, name: str) -> Path:
        """What a child makes when it is ready."""
        return self.path / f"{name}.ready"

    def remember(self, *children: Child) -> None:
        """Write down children that others have started."""
        self.state.processes += [child.record for child in children]
        self.save()

    def remember_namespaces(self, pids: dict[str, int]) -> None:
        """Write down the processes that hold the network namespaces of hosts, by the names of these."""
        self.state.processes += [processes.record(NAMESPACE + name, pid) for name, pid in pids.items()]
        self.save()

    def kill(self, name: str) -> None:
        """SIGKILL a child, as a crash would."""
        self.children.pop(name).kill()

    def has_died(self, name: str) -> bool:
        """Whether a child has ended by itself; then it can be started again."""
        if self.children[name].popen.poll() is None:
            return False
        self.kill(name)
        return True

    def stop_children(self) -> None:
        """End the children, in reverse order."""
        for child in reversed(list(self.children.values())):
            child.stop()
        self.children.clear()

    # ------------------------------------------------------------------------------------------------ controllers

    def admit(self, api: Api, tokens: Path) -> None:
        """Make the operator's token for a controller that reads this file of tokens. Raises TokenError, OSError."""
        api.token = access.make(tokens, self.path)

    def wait_for_status(
        self, controller: Child, api: Api, condition: Callable[[dict[str, Any]], bool], what: str
    ) -> None:
        """Poll a controller's status until the condition holds of it; StartError when it ends, or the time is up, before."""

        def holds() -> bool:
            controller.check()
            try:
                return condition(api.get("/v1/status"))
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                return False

        wait_for(holds, f"{what} (log: {controller.log})", START_TIMEOUT)
