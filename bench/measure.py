"""The measurements: frames a second through a target under overload, and round trips of one frame at a time."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles

from bench.testbed import BenchError, Testbed


@dataclass(frozen=True)
class Frames:
    """Files with the frames of one size in both directions."""

    size: int
    there: Path
    back: Path


def throughput(bed: Testbed, tools: Path, frames: Frames, seconds: float, cpu: int | None) -> float:
    """Frames a second that reach the sink while the source sends as fast as it can, taken amid the load."""
    settle = 0.3
    command = [
        str(tools / "traffic"),
        "send",
        bed.outside,
        str(frames.there),
        str(frames.size),
        str(seconds + 2 * settle),
    ]
    with bed.process(bed.source, command, cpu):
        time.sleep(settle)
        before, _ = bed.received()
        started = time.perf_counter()
        time.sleep(seconds)
        after, _ = bed.received()
        return (after - before) / (time.perf_counter() - started)


@dataclass(frozen=True)
class RoundTrip:
    """Microseconds."""

    p50: float
    p99: float


def drain(bed: Testbed) -> None:
    """Wait until what an overload left in queues is gone: no frame arrives for a while."""
    last = -1
    while (now := bed.received()[0]) != last:
        last = now
        time.sleep(0.2)


def round_trip(bed: Testbed, tools: Path, frames: Frames, count: int, cpu: int | None) -> RoundTrip:
    """Percentiles over ``count`` round trips. Raises :class:`BenchError` when more than one in a hundred is lost."""
    patience = 30.0
    drain(bed)
    echo = [str(tools / "traffic"), "echo", bed.outside, str(frames.back), str(frames.size), str(patience)]
    ping = [str(tools / "traffic"), "ping", bed.outside, str(frames.there), str(frames.size), str(count), str(patience)]
    with bed.process(bed.sink, echo, cpu), bed.process(bed.source, ping, cpu) as process:
        text, _ = process.communicate(timeout=patience + 10)
    lines = text.split()
    times = [int(line) / 1000 for line in lines if line != "lost"]
    if len(times) < 0.99 * count:
        raise BenchError(f"{len(times)} of {count} frames of {frames.size} bytes came back")
    return RoundTrip(median(times), quantiles(times, n=100)[98])
