"""Measurements of what connects two interfaces: frames a second under overload, and round trips of one frame at a time."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles

from bench.testbed import BenchError, Process, Testbed

PATIENCE = 30.0  # seconds until a tool ends by itself
STILL = 0.1  # seconds without a frame: nothing is on its way any more


@dataclass(frozen=True)
class Frames:
    """Files with the frames of one size (bytes) in both directions."""

    size: int
    there: Path
    back: Path


@dataclass(frozen=True)
class Throughput:
    """Frames a second, and the CPU time in microseconds that the target's process took for each (None: it is no process)."""

    rate: float
    cpu_us: float | None


@dataclass(frozen=True)
class RoundTrip:
    """Microseconds."""

    p50: float
    p99: float


def cpu_seconds(process: Process | None) -> float:
    """What all threads of a process have had of CPUs so far; 0 without a process."""
    if process is None:
        return 0.0
    threads = Path(f"/proc/{process.pid}/task").glob("*/schedstat")
    return sum(int(thread.read_text().split()[0]) for thread in threads) / 1e9


@dataclass(frozen=True)
class Meter:
    """How it is measured: the tools' directory, the CPU of the traffic (None: any), seconds of an overload, round trips."""

    tools: Path
    cpu: int | None
    seconds: float
    round_trips: int

    def tool(self, namespace: str, *arguments: object) -> Process:
        """A running tool."""
        command = [str(self.tools / "traffic"), *map(str, arguments)]
        return Process(command, namespace=namespace, cpu=self.cpu)

    def throughput(self, bed: Testbed, frames: Frames, target: Process | None = None) -> Throughput:
        """Frames that reach the sink while the source sends as fast as it can, taken amid the load."""
        settle = min(0.3, self.seconds / 2)
        length = self.seconds + 2 * settle + 0.2
        with self.tool(bed.source, "send", bed.outside, frames.there, frames.size, length):
            time.sleep(settle)
            before, started, used = bed.received(), time.perf_counter(), cpu_seconds(target)
            time.sleep(self.seconds)
            after, ended, used = bed.received(), time.perf_counter(), cpu_seconds(target) - used
        arrived = after - before
        return Throughput(arrived / (ended - started), used * 1e6 / arrived if target and arrived else None)

    def drain(self, bed: Testbed) -> int:
        """Wait until what an overload left in queues is gone; returns the frames that have arrived by then."""
        last = -1
        while (now := bed.received()) != last:
            last = now
            time.sleep(STILL)
        return last

    def round_trip(self, bed: Testbed, frames: Frames) -> RoundTrip:
        """Percentiles. Raises :class:`BenchError` when more than one frame in a hundred is lost."""
        self.drain(bed)
        count = self.round_trips
        with (
            self.tool(bed.sink, "echo", bed.outside, frames.back, frames.size, PATIENCE),
            self.tool(bed.source, "ping", bed.outside, frames.there, frames.size, count, PATIENCE) as process,
        ):
            lines = process.rest().split()
        times = [int(line) / 1000 for line in lines if line != "lost"]
        if len(times) < 0.99 * count:
            raise BenchError(f"{len(times)} of {count} frames of {frames.size} bytes came back")
        return RoundTrip(median(times), quantiles(times, n=100)[98])
