"""From source to a running program: with an empty cache, from the cache, and what a start costs without a program.

Baselines: an empty Python program for starts, the C compiler on an empty program for builds.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

from bench import targets
from bench.context import Context
from bench.report import Figure, Goal, against
from bench.testbed import Process
from bench.testbed import run as run_command

PART = "compile"
GOAL_COLD, GOAL_CACHED, GOAL_START = (Goal("<=", bound, absolute=True) for bound in (3.0, 0.3, 1.0))
MORE = 3  # times as many repetitions as elsewhere, because they are short; the cold ones excepted

_IN_PROCESS = """
import sys, time
from pathlib import Path
from p4switch.dataplane.binding import Switch
from p4switch import sources
started = time.perf_counter()
with Switch() as switch:
    switch.load(sources.compile_file(Path(sys.argv[1])).shared_object)
    print(time.perf_counter() - started)
"""


def _runs(context: Context) -> int:
    return context.repetitions * (1 if context.quick else MORE)


def steps(context: Context) -> int:
    """Of the progress bar."""
    return 2 * context.repetitions + 5 * _runs(context)


def _timed(*command: str) -> float:
    started = time.perf_counter()
    run_command(*command)
    return time.perf_counter() - started


def _ready(program: Path | None, cache: Path) -> float:
    with targets.start_switch(program, cache=cache) as switch:
        return switch.ready_seconds


def _in_process(program: Path, cache: Path) -> float:
    command = [sys.executable, "-c", _IN_PROCESS, str(program)]
    with Process(command, environment={"P4SWITCH_CACHE": str(cache)}) as process:
        return float(process.first_line)


def run(context: Context) -> list[Figure]:
    """The figures."""
    samples: dict[str, list[float]] = {}

    def take(name: str, measure: Callable[[], float]) -> None:
        context.step(f"{PART}: {name}")
        samples.setdefault(name, []).append(measure())

    empty_c = context.scratch / "empty.c"
    empty_c.write_text("int main(void) { return 0; }\n")
    for repetition in range(context.repetitions):
        cache = context.scratch / f"cache{repetition}"  # the last one is that of the cached figures
        take("cold", lambda cache=cache: _ready(context.rack.program, cache))  # type: ignore[misc]
        take("gcc", lambda: _timed("gcc", "-O2", "-o", str(context.scratch / "empty"), str(empty_c)))
    for _ in range(_runs(context)):
        take("python", lambda: _timed(sys.executable, "-c", "pass"))
        take("cached, in process", lambda: _in_process(context.rack.program, cache))
        take("cached", lambda: _ready(context.rack.program, cache))
        take("start", lambda: _ready(None, cache))
        take("imports", lambda: _timed(sys.executable, "-c", "import p4switch.cli.run"))
    rows = (
        ("source to running", "cold", "empty cache, from process start", "gcc", GOAL_COLD),
        ("source to running", "cached, in process", "from the cache, in a running process", "python", GOAL_CACHED),
        ("source to running", "cached", "from the cache, from process start", "python", GOAL_START),
        ("process start", "start", "without a program", "python", GOAL_START),
        ("process start", "imports", "of it, Python and imports", "python", None),
        ("baseline", "python", "python -c pass", "", None),
        ("baseline", "gcc", "gcc on an empty program", "", None),
    )
    figures = []
    for what, key, subject, baseline, goal in rows:
        ratios = against(samples[key], samples[baseline]) if baseline else ()
        conditions: dict[str, str | int] = {"program": context.rack.name}
        figures.append(Figure(PART, what, subject, "s", samples[key], conditions, baseline, ratios, goal))
    return figures
