"""``python -m bench``: prints a table with ratios to the bare forwarder, and with ``--json FILE`` the same as JSON."""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from bench import measure, targets, testbed, workload

SOURCES = Path(__file__).parent
BASELINE = "forwarder"
TARGETS = (BASELINE, "bridge", "p4switch", "p4switch busy")
BUSY_POLL_US = 50


def build_tools(directory: Path) -> None:
    """Compile the C programs."""
    for name in ("forwarder", "traffic"):
        testbed.run("gcc", "-O2", "-Wall", "-Wextra", "-o", str(directory / name), str(SOURCES / f"{name}.c"))


def write_frames(work: workload.Workload, directory: Path) -> list[measure.Frames]:
    """Frame files of every size."""
    made = []
    for size in work.sizes:
        there, back = directory / f"there{size}", directory / f"back{size}"
        there.write_bytes(work.there(size))
        back.write_bytes(work.back(size))
        made.append(measure.Frames(size, there, back))
    return made


def run_all(options: argparse.Namespace) -> dict[str, Any]:
    """Every target in turn, as often as asked; medians over the repetitions."""
    works = [workload.WORKLOADS[name]() for name in options.workload]
    cpus = sorted(os.sched_getaffinity(0))
    switch_cpu, traffic_cpu = (cpus[1], cpus[0]) if len(cpus) > 1 and not options.unpinned else (None, None)
    samples: dict[str, dict[str, list[float]]] = {}
    with tempfile.TemporaryDirectory(prefix="p4switch-bench-") as scratch, testbed.testbed() as bed:
        directory = Path(scratch)
        build_tools(directory)
        for repetition in range(options.repetitions):
            for work in works:
                chosen: dict[str, targets.Target] = {
                    BASELINE: targets.forwarder(bed, directory, switch_cpu),
                    "bridge": targets.bridge(bed),
                    "p4switch": targets.p4switch(bed, work.name, switch_cpu),
                    "p4switch busy": targets.p4switch(bed, work.name, switch_cpu, BUSY_POLL_US),
                }
                for name, target in chosen.items():
                    print(f"{repetition + 1}/{options.repetitions} {work.name} {name}", file=sys.stderr)
                    with target():
                        for frames in write_frames(work, directory):
                            key = f"{work.name} {frames.size}"
                            into = samples.setdefault(f"{key} {name}", {"pps": [], "p50_us": [], "p99_us": []})
                            pps = measure.throughput(bed, directory, frames, options.seconds, traffic_cpu)
                            trip = measure.round_trip(bed, directory, frames, options.round_trips, traffic_cpu)
                            into["pps"].append(pps)
                            into["p50_us"].append(trip.p50)
                            into["p99_us"].append(trip.p99)
    return summarise(works, samples, options)


def summarise(
    works: list[workload.Workload], samples: dict[str, dict[str, list[float]]], options: argparse.Namespace
) -> dict[str, Any]:
    """Medians, and ratios to the forwarder: throughput as it divided by the target's (1.5 is half as fast again)."""
    rows = []
    middle: Callable[[str, str], float] = lambda key, what: median(samples[key][what])  # noqa: E731
    for work in works:
        for size in work.sizes:
            base = f"{work.name} {size} {BASELINE}"
            for name in TARGETS:
                key = f"{work.name} {size} {name}"
                pps, p50, p99 = (middle(key, what) for what in ("pps", "p50_us", "p99_us"))
                rows.append(
                    {
                        "workload": work.name,
                        "frame_bytes": size,
                        "target": name,
                        "frames_per_second": round(pps),
                        "round_trip_p50_us": round(p50, 1),
                        "round_trip_p99_us": round(p99, 1),
                        "forwarder_over_target": round(middle(base, "pps") / pps, 3) if pps else None,
                        "round_trip_over_forwarder": round(p50 / middle(base, "p50_us"), 3),
                        "samples": samples[key],
                    }
                )
    return {
        "machine": {"cpus": os.cpu_count(), "kernel": platform.release(), "machine": platform.machine()},
        "repetitions": options.repetitions,
        "seconds": options.seconds,
        "results": rows,
    }


def table(report: dict[str, Any]) -> str:
    """The report for people."""
    columns = (
        ("workload", 8, "{workload}"),
        ("bytes", 6, "{frame_bytes}"),
        ("target", 14, "{target}"),
        ("frames/s", 10, "{frames_per_second:,}"),
        ("forwarder/it", 12, "{forwarder_over_target}"),
        ("p50 us", 8, "{round_trip_p50_us}"),
        ("p99 us", 8, "{round_trip_p99_us}"),
        ("it/forwarder", 12, "{round_trip_over_forwarder}"),
    )
    head = "  ".join(f"{name:>{width}}" for name, width, _ in columns)
    lines = [head, "-" * len(head)]
    lines += ["  ".join(f"{text.format(**row):>{width}}" for _, width, text in columns) for row in report["results"]]
    return "\n".join(lines)


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--workload", action="append", choices=sorted(workload.WORKLOADS), help="default: rack and l2")
    parser.add_argument("--repetitions", type=int, default=5, help="of everything; medians are reported (default 5)")
    parser.add_argument("--seconds", type=float, default=1.0, help="of each throughput measurement (default 1)")
    parser.add_argument("--round-trips", type=int, default=5000, help="of each latency measurement (default 5000)")
    parser.add_argument("--unpinned", action="store_true", help="let the scheduler place processes on CPUs")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report there too")
    options = parser.parse_args()
    options.workload = options.workload or ["rack", "l2"]
    try:
        report = run_all(options)
    except (testbed.BenchError, subprocess.TimeoutExpired) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    print(table(report))
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(report, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
