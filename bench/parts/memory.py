"""Memory of a table entry by kind: how much the process grows, and what the data plane says it uses.

Growth is of the whole ``p4switch run``, with what the P4Runtime server keeps of an entry; the baseline is the data plane's own
figure.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from bench import targets
from bench.client import LOAD_BATCH
from bench.context import Context
from bench.parts.pipeline import write_entries
from bench.report import Figure, against
from bench.testbed import run as run_command
from bench.workload import Workload

PART = "memory"
PAGE = os.sysconf("SC_PAGESIZE")
SMALL = 4096  # what ``service`` has room for


def _works(context: Context) -> tuple[Workload, ...]:
    return (context.rack, context.l3)


def steps(context: Context) -> int:
    """Of the progress bar. Once is enough: it does not depend on the load."""
    return len(_works(context)) + sum(len(work.kinds) for work in _works(context))


def _count(context: Context, work: Workload, series: str) -> int:
    """Entries to measure with, the same number of every kind where there is room."""
    wanted = work.entries // 3 if context.quick else work.entries
    return min(wanted, SMALL) if series == "service" else wanted


def _resident(pid: int) -> int:
    """Bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE


def _own_figures(context: Context, work: Workload) -> dict[str, float]:
    """Bytes an entry of each series, as the data plane counts."""
    rows = (row for series in work.kinds for row in work.rows(series, 0, _count(context, work, series)))
    entries = write_entries(work, rows, context.scratch / f"{work.name}-memory.entries")
    command = targets.module("p4switch", "bench", str(work.program), "--json", "--seconds", "0.01")
    tables = json.loads(run_command(*command, "--entries", str(entries)))["tables"]
    return {name.rpartition(".")[2]: float(table["bytes_per_entry"]) for name, table in tables.items()}


def run(context: Context) -> list[Figure]:
    """The figures."""
    figures = []
    for work in _works(context):
        context.step(f"{PART}: {work.name}, data plane")
        own = _own_figures(context, work)
        with targets.switch_and_client(work, context.scratch) as (switch, client):
            client.ask(do="load", full=False)
            for series, kinds in work.kinds.items():
                context.step(f"{PART}: {series}")
                count = _count(context, work, series)
                command = {"do": "write", "kind": "INSERT", "series": series, "batch": LOAD_BATCH}
                first = min(2 * LOAD_BATCH, count // 4)  # left out: buffers are made for them that stay
                client.ask(first=0, count=first, **command)
                before = _resident(switch.pid)
                client.ask(first=first, count=count - first, **command)
                grown = (_resident(switch.pid) - before) / (count - first)
                subject = f"{series} ({kinds})"
                conditions: dict[str, str | int] = {"program": work.name, "entries": count}
                figures.append(Figure(PART, "data plane", subject, "B/entry", [own[series]], conditions))
                ratios = against([grown], [own[series]])
                figures.append(Figure(PART, "process", subject, "B/entry", [grown], conditions, "data plane", ratios))
    return figures
