"""What every part of the benchmark is given: how long to measure, where to work, on which CPUs, and whom to tell of progress."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.workload import L3, Rack


@dataclass(frozen=True)
class Context:
    """``tools`` holds the compiled C programs, ``scratch`` is for files; both go with the benchmark."""

    quick: bool
    repetitions: int
    scratch: Path
    tools: Path
    switch_cpu: int | None
    traffic_cpu: int | None
    rack: Rack
    l3: L3
    seconds: float  # of each overload
    round_trips: int  # of each measurement of latency
    step: Callable[[str], None]  # called with what is begun, as often as ``steps`` of the part says
