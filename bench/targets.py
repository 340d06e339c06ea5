"""What is compared: each target connects the left and the right interface while its context is open."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

from bench.testbed import Testbed, run

Target = Callable[[], AbstractContextManager[None]]


def forwarder(bed: Testbed, tools: Path, cpu: int | None) -> Target:
    """The bare forwarder in C."""

    @contextlib.contextmanager
    def opened() -> Iterator[None]:
        with bed.process(bed.middle, [str(tools / "forwarder"), bed.left, bed.right], cpu):
            yield

    return opened


def bridge(bed: Testbed) -> Target:
    """The kernel's bridge."""

    @contextlib.contextmanager
    def opened() -> Iterator[None]:
        ip = ("ip", "-n", bed.middle, "link")
        run(*ip, "add", "bridge", "type", "bridge")
        try:
            for interface in (bed.left, bed.right):
                run(*ip, "set", interface, "master", "bridge")
            run("ip", "netns", "exec", bed.middle, "sysctl", "-qw", "net.ipv6.conf.bridge.disable_ipv6=1")
            run(*ip, "set", "bridge", "mtu", "9000", "up")
            yield
        finally:
            run(*ip, "del", "bridge")

    return opened


def p4switch(bed: Testbed, workload: str, cpu: int | None, busy_poll_us: int = 0) -> Target:
    """This project's switch; it sleeps when idle, or first polls for so many microseconds."""

    @contextlib.contextmanager
    def opened() -> Iterator[None]:
        command = [sys.executable, "-m", "bench.switch_process", workload, bed.left, bed.right, str(busy_poll_us)]
        with bed.process(bed.middle, command, cpu):
            yield

    return opened
