"""Where it is measured: processes that end with the benchmark, and three network namespaces in a row.

Traffic source, switch, traffic sink; two veth pairs between them, jumbo frames, no offloads. Names hold the process id,
so that :func:`clean_up` can tell what a benchmark that was killed has left behind.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import selectors
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

MTU = 9000
PREFIX = "p4bench"
READY_SECONDS = 120.0  # a build from nothing on a busy machine is among it
ANSWER_SECONDS = 120.0
_numbers = count()


class BenchError(RuntimeError):
    """The benchmark cannot be set up, or a part of it failed."""


def run(*command: str, timeout: float = 60) -> str:
    """Run a command to its end. Raises :class:`BenchError` with what it said."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=timeout)
    except FileNotFoundError as error:
        raise BenchError(f"{command[0]} is not installed (Debian: iproute2, ethtool, util-linux, gcc)") from error
    except subprocess.TimeoutExpired as error:
        raise BenchError(f"{' '.join(command)}: no end after {timeout:.0f} s") from error
    if done.returncode != 0:
        raise BenchError(f"{' '.join(command)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


class Process:
    """A child that prints a line when it is ready, and may answer JSON commands line by line."""

    def __init__(
        self,
        arguments: Sequence[str],
        *,
        namespace: str | None = None,
        cpu: int | None = None,
        environment: Mapping[str, str] | None = None,
    ):
        command = ["setpriv", "--pdeathsig", "KILL"]
        command += ["ip", "netns", "exec", namespace] if namespace else []
        command += ["taskset", "-c", str(cpu)] if cpu is not None else []
        self.arguments = arguments
        self._errors = tempfile.TemporaryFile(mode="w+")  # noqa: SIM115 - lives as long as this; a pipe that nobody reads would fill
        started = time.perf_counter()
        self._process = subprocess.Popen(
            [*command, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env={**os.environ, **(environment or {})},
        )
        self._selector = selectors.DefaultSelector()
        assert self._process.stdout is not None
        self._selector.register(self._process.stdout, selectors.EVENT_READ)
        try:
            self.first_line = self.line(READY_SECONDS)
        except BaseException:
            self.close()
            raise
        self.ready_seconds = time.perf_counter() - started  # from start to the first line

    @property
    def pid(self) -> int:
        """Of the program itself: the commands around it replace themselves."""
        return self._process.pid

    def line(self, timeout: float) -> str:
        """The next line of output. Raises :class:`BenchError` when none comes in time or the process ends."""
        assert self._process.stdout is not None
        what = " ".join(self.arguments)
        if not self._selector.select(timeout):
            raise BenchError(f"{what}: silent for {timeout:.0f} s")
        text = self._process.stdout.readline()
        if not text:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(5)
            raise BenchError(f"{what}: ended with {self._process.poll()}: {self._said()}")
        return text.strip()

    def _said(self) -> str:
        """The end of what it wrote to standard error."""
        self._errors.seek(0)
        return self._errors.read()[-2000:].strip()

    def ask(self, **command: Any) -> dict[str, Any]:
        """Send a command, wait for its answer. Raises :class:`BenchError` when it failed."""
        self.send(**command)
        return self.answer()

    def send(self, **command: Any) -> None:
        """Send a command only."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()

    def answer(self) -> dict[str, Any]:
        """The answer to a command that was sent."""
        found: dict[str, Any] = json.loads(self.line(ANSWER_SECONDS))
        if "error" in found:
            raise BenchError(f"{' '.join(self.arguments)}: {found['error']}")
        return found

    def stop(self) -> str:
        """Ask it to end; what it still says."""
        self._process.terminate()
        return self.rest()

    def rest(self) -> str:
        """All remaining output of a process that ends by itself."""
        assert self._process.stdout is not None
        text = self._process.stdout.read()
        if self._process.wait(5):
            raise BenchError(f"{' '.join(self.arguments)}: {self._said()}")
        return text

    def close(self) -> None:
        """End it and wait until it is gone."""
        self._process.terminate()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._selector.close()
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            if stream is not None:
                with contextlib.suppress(OSError):  # what was not yet written to a process that is gone
                    stream.close()

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclass(frozen=True)
class Testbed:
    """Names of the namespaces and interfaces. The switch's interfaces are ``left`` and ``right`` in ``middle``."""

    source: str
    middle: str
    sink: str
    left: str = "left"
    right: str = "right"
    outside: str = "port"  # the one interface in source and in sink

    def received(self) -> int:
        """Frames that have arrived at the sink."""
        (link,) = json.loads(run("ip", "-n", self.sink, "-j", "-s", "link", "show", "dev", self.outside))
        return int(link["stats64"]["rx"]["packets"])


def _quiet(namespace: str, interface: str) -> None:
    """No frames of the kernel's own, no offloads that would let frames skip the work they cause on real hardware."""
    run("ip", "netns", "exec", namespace, "sysctl", "-qw", f"net.ipv6.conf.{interface}.disable_ipv6=1")
    offloads = ("rx", "tx", "sg", "tso", "gso", "gro", "txvlan", "rxvlan")
    with contextlib.suppress(BenchError):
        run("ip", "netns", "exec", namespace, "ethtool", "-K", interface, *[w for o in offloads for w in (o, "off")])
    run("ip", "-n", namespace, "link", "set", interface, "mtu", str(MTU), "up")


@contextlib.contextmanager
def testbed() -> Iterator[Testbed]:
    """The namespaces, removed on leaving whatever happens."""
    if os.geteuid() != 0:
        raise BenchError("the benchmark makes network namespaces and needs root")
    tag = f"{PREFIX}{os.getpid()}-{next(_numbers)}"
    bed = Testbed(f"{tag}-src", f"{tag}-mid", f"{tag}-dst")
    made: list[str] = []
    try:
        for namespace in (bed.source, bed.middle, bed.sink):
            run("ip", "netns", "add", namespace)
            made.append(namespace)
        run("ip", "-n", bed.middle, "link", "set", "lo", "up")
        for namespace, inside in ((bed.source, bed.left), (bed.sink, bed.right)):
            link = ("ip", "link", "add", bed.outside, "netns", namespace, "type", "veth")
            run(*link, "peer", "name", inside, "netns", bed.middle)
            _quiet(namespace, bed.outside)
            _quiet(bed.middle, inside)
        yield bed
    finally:
        for namespace in made:
            subprocess.run(["ip", "netns", "del", namespace], check=False, capture_output=True)


def clean_up() -> list[str]:
    """Remove the namespaces of benchmarks that have died; returns their names. Their processes died with them."""
    removed = []
    with contextlib.suppress(BenchError):
        for line in run("ip", "netns", "list").splitlines():
            name = line.split()[0]
            owner = re.fullmatch(rf"{PREFIX}(\d+)-\d+-(src|mid|dst)", name)
            if owner and not Path(f"/proc/{owner[1]}").exists():
                subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)
                removed.append(name)
    return removed
