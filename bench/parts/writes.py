"""Entries a second that a P4Runtime client writes, with tables empty and full, in batches and one by one.

The client is a process of its own with finsy's stubs on grpcio. Full tables are held against empty ones,
and single writes against Writes without updates: what gRPC costs alone.
"""

from __future__ import annotations

import contextlib

from bench import targets
from bench.context import Context
from bench.measure import cpu_seconds
from bench.report import Figure, Goal, against
from bench.testbed import Process
from bench.workload import Workload

PART = "writes"
BATCHES = (1000, 100, 1)
GOAL_BATCH, GOAL_SINGLE = Goal(">=", 20_000, absolute=True), Goal(">=", 800, absolute=True)
GOAL_FULL = Goal(">=", 0.8)
Key = tuple[Workload, str, int, bool]  # workload, series, batch, full


def _series(context: Context) -> list[tuple[Workload, str]]:
    return [(context.rack, "protection"), *((context.l3, series) for series in ("neighbour", "route", "acl"))]


def _count(context: Context, batch: int) -> int:
    """Entries of a sample."""
    most = 10_000 if batch > 1 else 1000
    return min(most, context.rack.entries) // (3 if context.quick else 1)


def steps(context: Context) -> int:
    """Of the progress bar."""
    return 1 + context.repetitions * (len(_series(context)) * len(BATCHES) + 1)


def _rate(answer: dict[str, float], what: str = "entries") -> float:
    return answer[what] / answer["seconds"]


def _pairs(context: Context, stack: contextlib.ExitStack) -> dict[tuple[Workload, bool], tuple[Process, Process]]:
    """Switches with empty and with full tables, and their clients, ready to write."""
    pairs = {}
    for work in dict.fromkeys(work for work, _ in _series(context)):
        for full in (False, True):
            opened = targets.switch_and_client(work, context.scratch)
            pairs[work, full] = stack.enter_context(opened)
    for (_, full), (_, client) in pairs.items():
        client.send(do="load", full=full)
    for _, client in pairs.values():
        client.answer()
    return pairs


def run(context: Context) -> list[Figure]:
    """The figures."""
    inserts: dict[Key, list[float]] = {}
    deletes: dict[Key, list[float]] = {}
    cpu: dict[Key, list[float]] = {}
    calls: list[float] = []
    context.step(f"{PART}: starting switches, filling tables")
    with contextlib.ExitStack() as stack:
        pairs = _pairs(context, stack)
        for repetition in range(context.repetitions):
            about = f"{PART} {repetition + 1}/{context.repetitions}"
            context.step(f"{about}: Writes without updates")
            calls.append(_rate(pairs[context.rack, False][1].ask(do="empty", calls=_count(context, 1)), "calls"))
            for work, series in _series(context):
                for batch in BATCHES:
                    context.step(f"{about}: {series}, batches of {batch}")
                    for full in (False, True):
                        first = work.full[series] if full else 0
                        command = {"do": "write", "series": series, "first": first}
                        command |= {"count": _count(context, batch), "batch": batch}
                        key = (work, series, batch, full)
                        switch, client = pairs[work, full]
                        used = cpu_seconds(switch)
                        answer = client.ask(kind="INSERT", **command)
                        used = cpu_seconds(switch) - used
                        inserts.setdefault(key, []).append(_rate(answer))
                        cpu.setdefault(key, []).append(used * 1e6 / answer["entries"])
                        deletes.setdefault(key, []).append(_rate(client.ask(kind="DELETE", **command)))
    return [
        Figure(PART, "calls", "Writes without updates", "calls/s", calls),
        *_figures("inserts", inserts, calls),
        *_figures("deletes", deletes, calls),
        *_cpu_figures(cpu),
    ]


def _figures(what: str, samples: dict[Key, list[float]], calls: list[float]) -> list[Figure]:
    figures = []
    for (work, series, batch, full), own in samples.items():
        goal: Goal | None = None
        baseline, ratios = "", list[float]()
        if full:
            baseline, ratios = "empty tables", against(own, samples[work, series, batch, False])
            goal = GOAL_FULL
        elif batch == 1:
            baseline, ratios = "Writes without updates", against(own, calls)
            goal = GOAL_SINGLE
        else:
            goal = GOAL_BATCH
        goal = goal if what == "inserts" else None
        about = _about(work, series, batch, full)
        figures.append(Figure(PART, what, about[0], "entries/s", own, about[1], baseline, ratios, goal))
    return figures


def _about(work: Workload, series: str, batch: int, full: bool) -> tuple[str, dict[str, str | int]]:
    """Subject and conditions of a figure."""
    fill = f"{work.full[series]:,} entries" if full else "empty"
    return f"{series} ({work.kinds[series]}), {fill}", {"program": work.name, "a batch": batch}


def _cpu_figures(samples: dict[Key, list[float]]) -> list[Figure]:
    figures = []
    for (work, series, batch, full), own in samples.items():
        subject, conditions = _about(work, series, batch, full)
        ratios = against(own, samples[work, series, batch, False]) if full else ()
        baseline = "empty tables" if full else ""
        figures.append(Figure(PART, "switch's CPU time an insert", subject, "us", own, conditions, baseline, ratios))
    return figures
