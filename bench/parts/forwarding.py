"""Frames a second and round trips of the switch, of a bare forwarder in C (the baseline) and of the Linux bridge.

All of them stand ready in namespaces of their own; in each repetition, each kind of frames goes through one after the other.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from bench import targets
from bench.context import Context
from bench.measure import Frames, Meter
from bench.report import Figure, Goal, against
from bench.testbed import Process, Testbed, testbed
from bench.workload import FLOWS, SIZES, Workload

PART = "forwarding"
BASELINE = "forwarder"
Opener = Callable[[Testbed], AbstractContextManager[Process | None]]
GOAL_EMPTY, GOAL_FULL, GOAL_ROUND_TRIP = Goal(">=", 0.8), Goal(">=", 0.7), Goal("<=", 1.15)


@dataclass(frozen=True)
class Subject:
    """A target with the frames that it gets; ``full`` says whether its tables are (and the frames use them)."""

    name: str
    program: str
    full: bool
    bed: str  # targets that need nothing of a program are used for both
    throughput: Goal | None = None
    round_trip: Goal | None = None


SUBJECTS = (
    Subject(BASELINE, "rack", True, BASELINE),
    Subject("bridge", "rack", True, "bridge"),
    Subject("p4switch, empty", "rack", False, "rack empty", GOAL_EMPTY, GOAL_ROUND_TRIP),
    Subject("p4switch, full", "rack", True, "rack full", GOAL_FULL, GOAL_ROUND_TRIP),
    Subject("p4switch, no polling, empty", "rack", False, "rack sleepy"),
    Subject(BASELINE, "l3", True, BASELINE),
    Subject("p4switch, empty", "l3", False, "l3 empty", GOAL_EMPTY, GOAL_ROUND_TRIP),
    Subject("p4switch, full", "l3", True, "l3 full", GOAL_FULL, GOAL_ROUND_TRIP),
)


def _flows(context: Context) -> tuple[int, ...]:
    return FLOWS[1:] if context.quick else FLOWS


def steps(context: Context) -> int:
    """Of the progress bar."""
    return 1 + context.repetitions * len(SIZES) * len(_flows(context)) * len(SUBJECTS)


def _openers(context: Context) -> dict[str, Opener]:
    cpu, scratch, rack, l3 = context.switch_cpu, context.scratch, context.rack, context.l3
    switch = targets.p4switch
    return {
        BASELINE: lambda bed: targets.forwarder(bed, context.tools, cpu),
        "bridge": targets.bridge,
        "rack empty": lambda bed: switch(bed, rack, False, scratch, cpu),
        "rack full": lambda bed: switch(bed, rack, True, scratch, cpu),
        "rack sleepy": lambda bed: switch(bed, rack, False, scratch, cpu, "--busy-poll", "0"),
        "l3 empty": lambda bed: switch(bed, l3, False, scratch, cpu),
        "l3 full": lambda bed: switch(bed, l3, True, scratch, cpu),
    }


def frame_files(context: Context, work: Workload, size: int, flows: int, full: bool) -> Frames:
    """Frames in files, for the traffic tool."""
    stem = f"{work.name}-{size}-{flows}-{full}"
    made, reply = work.frames(size, flows, full), work.reply(size)
    frames = Frames(len(reply), context.scratch / f"{stem}.there", context.scratch / f"{stem}.back")
    frames.there.write_bytes(b"".join(made))
    frames.back.write_bytes(reply)
    return frames


Samples = dict[tuple[int, int, int], dict[str, list[float]]]  # by subject's number, size and flows


def _measure(context: Context, beds: dict[str, tuple[Testbed, Process | None]]) -> Samples:
    meter = Meter(context.tools, context.traffic_cpu, context.seconds, context.round_trips)
    works: dict[str, Workload] = {"rack": context.rack, "l3": context.l3}
    samples: Samples = {}
    for repetition in range(context.repetitions):
        for size in SIZES:
            for flows in _flows(context):
                for number, subject in enumerate(SUBJECTS):
                    about = f"{subject.name} ({subject.program}), {size} B, {flows} flows"
                    context.step(f"{PART} {repetition + 1}/{context.repetitions}: {about}")
                    frames = frame_files(context, works[subject.program], size, flows, subject.full)
                    into = samples.setdefault((number, size, flows), {"pps": [], "cpu": [], "p50": [], "p99": []})
                    bed, process = beds[subject.bed]
                    overload = meter.throughput(bed, frames, process)
                    into["pps"].append(overload.rate)
                    if overload.cpu_us is not None:
                        into["cpu"].append(overload.cpu_us)
                    trip = meter.round_trip(bed, frames)
                    into["p50"].append(trip.p50)
                    into["p99"].append(trip.p99)
    return samples


def run(context: Context) -> list[Figure]:
    """The figures."""
    context.step(f"{PART}: starting switches, filling tables")
    with contextlib.ExitStack() as stack:
        beds: dict[str, tuple[Testbed, Process | None]] = {}
        for name, opener in _openers(context).items():
            bed = stack.enter_context(testbed())
            beds[name] = (bed, stack.enter_context(opener(bed)))
        samples = _measure(context, beds)
    figures = []
    for (number, size, flows), own in samples.items():
        subject = SUBJECTS[number]
        base_number = next(i for i, s in enumerate(SUBJECTS) if s.name == BASELINE and s.program == subject.program)
        base = samples[base_number, size, flows]
        conditions: dict[str, str | int] = {"program": subject.program, "B": size, "flows": flows}
        quantities = (
            ("throughput", "frames/s", "pps", subject.throughput),
            ("CPU time a frame", "us", "cpu", None),
            ("round trip p50", "us", "p50", subject.round_trip),
            ("round trip p99", "us", "p99", None),
        )
        for what, unit, key, goal in quantities:
            if not own[key]:
                continue  # the bridge works in the sender's time
            ratios = against(own[key], base[key]) if number != base_number else ()
            baseline = BASELINE if ratios else ""
            figures.append(Figure(PART, what, subject.name, unit, own[key], conditions, baseline, ratios, goal))
    return figures
