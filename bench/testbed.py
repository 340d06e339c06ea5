"""Three network namespaces in a row: traffic source, switch, traffic sink. Two veth pairs, jumbo frames, no offloads."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import IO

MTU = 9000


class BenchError(RuntimeError):
    """The benchmark cannot be set up, or a part of it failed."""


def run(*command: str) -> str:
    """Run a command to its end. Raises :class:`BenchError` with what it said."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    except FileNotFoundError as error:
        raise BenchError(f"{command[0]} is not installed (Debian: iproute2, ethtool, util-linux)") from error
    if done.returncode != 0:
        raise BenchError(f"{' '.join(command)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


@dataclass(frozen=True)
class Testbed:
    """Names of the namespaces and interfaces. The switch's interfaces are ``left`` and ``right`` in ``middle``."""

    source: str
    middle: str
    sink: str
    left: str = "left"
    right: str = "right"
    outside: str = "port"  # the one interface in source and in sink

    def command(self, namespace: str, arguments: Sequence[str], cpu: int | None) -> list[str]:
        """A command line that runs in a namespace, on one CPU if asked."""
        pin = [] if cpu is None else ["taskset", "-c", str(cpu)]
        return ["ip", "netns", "exec", namespace, *pin, *arguments]

    @contextlib.contextmanager
    def process(self, namespace: str, arguments: Sequence[str], cpu: int | None) -> Iterator[subprocess.Popen[str]]:
        """A process that has printed its first line ("ready"); it is ended and waited for on leaving."""
        command = self.command(namespace, arguments, cpu)
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            try:
                output: IO[str] = process.stdout  # type: ignore[assignment]
                if output.readline().strip() != "ready":
                    process.wait(10)
                    raise BenchError(f"{' '.join(arguments)}: {process.stderr.read() if process.stderr else ''}")
                yield process
            finally:
                process.terminate()
                try:
                    process.wait(5)
                except subprocess.TimeoutExpired:
                    process.kill()

    def received(self) -> tuple[int, int]:
        """Frames and bytes that have arrived at the sink."""
        (link,) = json.loads(run("ip", "-n", self.sink, "-j", "-s", "link", "show", "dev", self.outside))
        return int(link["stats64"]["rx"]["packets"]), int(link["stats64"]["rx"]["bytes"])


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
    tag = f"b{os.getpid():x}"
    bed = Testbed(f"{tag}-src", f"{tag}-mid", f"{tag}-dst")
    made: list[str] = []
    try:
        for namespace in (bed.source, bed.middle, bed.sink):
            run("ip", "netns", "add", namespace)
            made.append(namespace)
        for namespace, inside in ((bed.source, bed.left), (bed.sink, bed.right)):
            run(
                "ip",
                "link",
                "add",
                bed.outside,
                "netns",
                namespace,
                "type",
                "veth",
                "peer",
                "name",
                inside,
                "netns",
                bed.middle,
            )
            _quiet(namespace, bed.outside)
            _quiet(bed.middle, inside)
        yield bed
    finally:
        for namespace in made:
            subprocess.run(["ip", "netns", "del", namespace], check=False, capture_output=True)
