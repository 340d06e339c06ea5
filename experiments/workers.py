"""Processes on compute elements, driven from an experiment: runs ``experiments.worker`` in a namespace and talks to it."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from topologies import targets
from topologies.launch import RackLauncher

PATIENCE = 240.0  # seconds that experiments wait for an answer: the longest take some 40


class WorkerError(RuntimeError):
    """A worker died or met an error that its command did not expect."""


class Worker:
    """One process. ``call`` waits for the answer; ``start`` and ``finish`` let two workers work at the same time."""

    def __init__(
        self,
        rack: RackLauncher,
        element: str,
        name: str,
        module: str = "experiments.worker",
        options: Sequence[str] = (),
        pass_fds: Sequence[int] = (),
        patience: float | None = None,
    ):
        """``module`` is what runs, with ``options`` behind its run directory and name; it inherits ``pass_fds``. An answer is
        waited for ``patience`` seconds, None: for as long as it takes."""
        self.name = name
        self._patience = patience
        self.element = element
        self.log = rack.out / "logs" / f"worker-{name}.log"
        command = [sys.executable, "-m", module, "--run-dir", str(rack.element_run_dir(element)), "--name", name]
        with self.log.open("wb") as log:
            self._popen = subprocess.Popen(
                [*rack.namespace(element), *command, *options],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env={**os.environ, "PYTHONPATH": str(targets.ROOT)},
                cwd=targets.ROOT,
                pass_fds=pass_fds,
            )
        try:
            self.pid: int = self.finish()["pid"]
        except WorkerError:
            self.kill()
            raise

    @property
    def unix_pid(self) -> int:
        """Of its Unix process (``pid`` is the rack's)."""
        return self._popen.pid

    def kill(self) -> None:
        """End it as a crash would."""
        self._popen.kill()
        self._popen.wait()

    def start(self, do: str, **arguments: Any) -> None:
        """Give a command."""
        assert self._popen.stdin is not None
        try:
            self._popen.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
            self._popen.stdin.flush()
        except BrokenPipeError:
            raise WorkerError(f"{self.name} has died: {self._last_words()}") from None

    def finish(self) -> dict[str, Any]:
        """Wait for the answer of the command given last. Raises WorkerError."""
        assert self._popen.stdout is not None
        if not select.select([self._popen.stdout], [], [], self._patience)[0]:
            raise WorkerError(f"{self.name} has not answered for {self._patience:.0f} s: {self._last_words()}")
        line = self._popen.stdout.readline()
        if not line:
            raise WorkerError(f"{self.name} has died: {self._last_words()}")
        answer: dict[str, Any] = json.loads(line)
        if "failed" in answer:
            raise WorkerError(f"{self.name}: {answer['failed']['text']}")
        return answer

    def call(self, do: str, **arguments: Any) -> dict[str, Any]:
        """Give a command and wait for its answer."""
        self.start(do, **arguments)
        return self.finish()

    def _last_words(self) -> str:
        return " | ".join(Path(self.log).read_text(errors="replace").strip().splitlines()[-3:])

    def close(self) -> None:
        """End the process."""
        assert self._popen.stdin is not None
        self._popen.stdin.close()
        try:
            self._popen.wait(10)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.wait()
