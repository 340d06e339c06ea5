"""The pipeline alone, without packet I/O: ``p4switch bench`` on one core, with the frames and entries of the other parts.

The baseline of full tables is the same program with empty ones.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable
from pathlib import Path

from finsy.proto import p4i, p4r

from bench import targets
from bench.client import Names
from bench.context import Context
from bench.report import Figure, Goal, against
from bench.testbed import run as run_command
from bench.workload import FLOWS, LEFT_PORT, SIZES, Row, Workload
from p4switch import sources

PART = "pipeline"
GOAL = Goal(">=", 3e6, absolute=True)  # packets a second of the rack program
Case = tuple[Workload, bool, int]  # program, tables full, flows


def _cases(context: Context) -> list[Case]:
    flows = FLOWS[1:] if context.quick else FLOWS
    return [(work, full, n) for work in (context.rack, context.l3) for full in (False, True) for n in flows]


def steps(context: Context) -> int:
    """Of the progress bar."""
    return 2 + context.repetitions * len(_cases(context))


@functools.cache
def _names(program: Path) -> Names:
    return Names(p4i.P4Info.FromString(sources.compile_file(program).p4info))


def write_entries(work: Workload, rows: Iterable[Row], file: Path) -> Path:
    """Inserts of all rows as one WriteRequest in a file, for ``p4switch bench --entries``."""
    names = _names(work.program)
    request = p4r.WriteRequest()
    for row in rows:
        request.updates.add(type=p4r.Update.INSERT).entity.table_entry.CopyFrom(names.entry(row))
    file.write_bytes(request.SerializeToString())
    return file


def run(context: Context) -> list[Figure]:
    """The figures."""
    files: dict[tuple[Workload, bool], Path] = {}
    works: tuple[Workload, ...] = (context.rack, context.l3)
    for work in works:
        context.step(f"{PART}: writing entries of {work.name}")
        for full in (False, True):
            file = context.scratch / f"{work.name}-{full}.entries"
            files[work, full] = write_entries(work, work.all_rows(full), file)
    samples: dict[Case, list[float]] = {case: [] for case in _cases(context)}
    for repetition in range(context.repetitions):
        for work, full, flows in samples:
            tables = "full" if full else "empty"
            context.step(f"{PART} {repetition + 1}/{context.repetitions}: {work.name}, {tables}, {flows} flows")
            packets = context.scratch / "packets"
            packets.write_text("".join(f"{frame.hex()}\n" for frame in work.frames(SIZES[0], flows, full)))
            command = targets.module("p4switch", "bench", str(work.program), "--json", "--port", str(LEFT_PORT))
            command += ["--entries", str(files[work, full]), "--packets", str(packets)]
            report = json.loads(run_command(*command, "--seconds", str(context.seconds / 2)))
            samples[work, full, flows].append(report["packets_per_second"])
    figures = []
    for (work, full, flows), own in samples.items():
        conditions: dict[str, str | int] = {"program": work.name, "flows": flows}
        name = f"p4switch, {'full' if full else 'empty'}"
        goal = GOAL if work is context.rack else None
        figures.append(Figure(PART, "pipeline", name, "packets/s", own, conditions, goal=goal))
        if full:
            ratios = against(own, samples[work, False, flows])
            figures.append(Figure(PART, "full to empty", name, "packets/s", own, conditions, "empty tables", ratios))
    return figures
