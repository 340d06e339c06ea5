"""Frames lost from a steady stream while 30,000 entries are written and deleted, and, to compare, while nothing is.

The stream is a quarter of what the switch forwards at that time.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from bench import targets, workload
from bench.context import Context
from bench.measure import Frames, Meter
from bench.parts.forwarding import frame_files
from bench.report import Figure, Goal
from bench.testbed import Process, Testbed, testbed
from bench.workload import FLOWS, SIZES

PART = "loss"
BATCHES = (1000, 100)
SHARE = 0.25  # of the measured throughput
LIMIT = 60.0  # seconds, for a stream that nobody ends
GOAL = Goal("<=", 0, absolute=True)


def steps(context: Context) -> int:
    """Of the progress bar."""
    return 1 + 2 * context.repetitions * len(BATCHES)


def _entries(context: Context) -> int:
    """Of each of the three series."""
    return context.rack.entries // (10 if context.quick else 3)


def _write(context: Context, client: Process, batch: int) -> None:
    for kind in ("INSERT", "DELETE"):
        for series in context.rack.full:
            client.ask(do="write", kind=kind, series=series, first=0, count=_entries(context), batch=batch)


def _stream(
    meter: Meter, bed: Testbed, frames: Frames, rate: int, action: Callable[[], None]
) -> tuple[int, int, float]:
    """Frames sent during an action, how many of them were lost, and seconds."""
    before = meter.drain(bed)
    command = ("pace", bed.outside, frames.there, frames.size, rate, LIMIT)
    started = time.perf_counter()
    with meter.tool(bed.source, *command) as sender:
        action()
        sent = int(sender.stop())
    seconds = time.perf_counter() - started
    return sent, sent - (meter.drain(bed) - before), seconds


def run(context: Context) -> list[Figure]:
    """The figures."""
    meter = Meter(context.tools, context.traffic_cpu, context.seconds, context.round_trips)
    context.step(f"{PART}: starting a switch, finding a rate")
    lost: dict[tuple[int, bool], list[float]] = {}
    rates, sent_frames = [], 0
    with testbed() as bed:
        ports = ((workload.LEFT_PORT, bed.left), (workload.RIGHT_PORT, bed.right))
        options = [word for port, interface in ports for word in ("-i", f"{port}@{interface}")]
        with targets.switch_and_client(context.rack, context.scratch, *options, namespace=bed.middle) as (_, client):
            client.ask(do="load", full=False)
            frames = frame_files(context, context.rack, SIZES[0], FLOWS[1], full=False)
            for repetition in range(context.repetitions):
                rate = int(SHARE * meter.throughput(bed, frames).rate)
                rates.append(float(rate))
                for batch in BATCHES:
                    about = f"{PART} {repetition + 1}/{context.repetitions}, batches of {batch}"
                    context.step(f"{about}: updates")
                    action = lambda batch=batch: _write(context, client, batch)  # noqa: E731
                    sent, missing, seconds = _stream(meter, bed, frames, rate, action)
                    sent_frames += sent
                    lost.setdefault((batch, True), []).append(missing)
                    context.step(f"{about}: no updates")
                    pause = lambda seconds=seconds: time.sleep(seconds)  # noqa: E731
                    lost.setdefault((batch, False), []).append(_stream(meter, bed, frames, rate, pause)[1])
    figures = [Figure(PART, "stream", "the frames of Rack, 100 B, 1,000 flows", "frames/s", rates)]
    for (batch, updating), own in lost.items():
        subject = f"{3 * _entries(context):,} inserts and deletes" if updating else "no updates, as long"
        conditions: dict[str, str | int] = (
            {"a batch": batch} if updating else {"beside": f"beside batches of {batch:,}"}
        )
        figures.append(Figure(PART, "frames lost", subject, "frames", own, conditions, goal=GOAL if updating else None))
    return figures
