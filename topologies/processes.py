"""Supervised child processes: logged, waited for, recorded so that a later clean-up can end exactly those."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec


class StartError(RuntimeError):
    """A process of the rack did not start; the message names it, says why, and where its log is."""


class ProcessRecord(msgspec.Struct, frozen=True):
    """A process that was started: ``started`` (clock ticks since boot) tells it from a later one with the same pid."""

    name: str
    pid: int
    started: int


def start_time(pid: int) -> int | None:
    """Start time of a live process in clock ticks since boot (field 22 of proc_pid_stat(5)), None if there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] == "Z" else int(fields[19])


def record(name: str, pid: int) -> ProcessRecord:
    """The record of a process that is running now."""
    return ProcessRecord(name=name, pid=pid, started=start_time(pid) or 0)


def is_alive(process: ProcessRecord) -> bool:
    """Whether exactly this process still runs."""
    return start_time(process.pid) == process.started


def end(processes: Sequence[ProcessRecord], grace: float = 5.0) -> list[ProcessRecord]:
    """Terminate these processes, in order; those that ignore it for ``grace`` seconds are killed. Returns those killed."""
    alive = [p for p in processes if is_alive(p)]
    for process in alive:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGTERM)
    deadline = time.monotonic() + grace
    while alive and time.monotonic() < deadline:
        time.sleep(0.02)
        _reap(alive)
        alive = [p for p in alive if is_alive(p)]
    for process in alive:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
    _reap(alive)
    return alive


def _reap(processes: Sequence[ProcessRecord]) -> None:
    """Collect those that are children of this process, so that they do not stay zombies."""
    for process in processes:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(process.pid, os.WNOHANG)


class Child:
    """A running child with a log file. ``prefix`` enters a network namespace (``mnexec -a PID``)."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        log: Path,
        prefix: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        ready_file: Path | None = None,
    ):
        self.name = name
        self.log = log
        self.ready_file = ready_file
        if ready_file is not None:
            ready_file.unlink(missing_ok=True)
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            self.popen = subprocess.Popen(
                [*prefix, *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(env or {})},
                start_new_session=True,
            )
        self.record = record(name, self.popen.pid)

    def wait_ready(self, timeout: float) -> None:
        """Wait until the ready file is there; StartError when the process ends or the time is up first."""
        deadline = time.monotonic() + timeout
        assert self.ready_file is not None
        while not self.ready_file.exists():
            self.check()
            if time.monotonic() > deadline:
                raise StartError(f"{self.name} was not ready within {timeout:.0f} s: {self.last_words()}")
            time.sleep(0.01)

    def check(self) -> None:
        """StartError when it has ended."""
        if self.popen.poll() is not None:
            raise StartError(f"{self.name} ended with status {self.popen.returncode}: {self.last_words()}")

    def last_words(self) -> str:
        """The end of the log, for error messages."""
        lines = self.log.read_text(errors="replace").strip().splitlines()[-3:] if self.log.exists() else []
        return " | ".join(lines or ["no output"]) + f" (log: {self.log})"

    def kill(self) -> None:
        """SIGKILL, as a crash would: no clean-up in the process."""
        self.popen.kill()
        self.popen.wait()

    def stop(self, grace: float = 5.0) -> None:
        """SIGTERM, then SIGKILL after ``grace`` seconds."""
        if self.popen.poll() is None:
            self.popen.terminate()
            try:
                self.popen.wait(grace)
            except subprocess.TimeoutExpired:
                self.popen.kill()
        self.popen.wait()


def wait_for(condition: Callable[[], bool], what: str, timeout: float) -> None:
    """Poll until the condition holds; StartError when the time (seconds) is up."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise StartError(f"waited {timeout:.0f} s in vain for {what}")
        time.sleep(0.02)
