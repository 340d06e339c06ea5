"""``python -m bench``: how fast p4switch is, as ratios to baselines measured in the same run.

Prints tables with goals and verdicts, and writes JSON. ``forwarding`` and ``loss`` need root.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType, ModuleType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from bench import report, testbed, workload
from bench.context import Context
from bench.options import add_arguments, positive
from bench.parts import compiling, forwarding, loss, memory, pipeline, writes

SOURCES = Path(__file__).parent
OUTPUT = Path("out/bench")
REPETITIONS = 5
MOST_ENTRIES = 50_000
PARTS: dict[str, ModuleType] = {
    module.PART: module for module in (forwarding, pipeline, compiling, writes, loss, memory)
}


def entries(text: str) -> int:
    """A number of entries that the tables have room for, beside those that are measured."""
    if not text.isdigit() or not 60 <= int(text) <= MOST_ENTRIES:
        raise argparse.ArgumentTypeError(f"expected a number from 60 to {MOST_ENTRIES}, found {text!r}")
    return int(text)


def options_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one short repetition: under a minute, rough figures")
    add_arguments(parser, PARTS, REPETITIONS)
    parser.add_argument("--seconds", type=float, metavar="S", help="of an overload (default 0.6, with --quick 0.25)")
    parser.add_argument("--round-trips", type=positive, metavar="N", help="at a time (default 3000, with --quick 500)")
    parser.add_argument(
        "--entries", type=entries, default=workload.ENTRIES, metavar="N", help="of full tables (default %(default)s)"
    )
    parser.add_argument("--unpinned", action="store_true", help="let the scheduler place processes on CPUs")
    parser.add_argument("--strict", action="store_true", help="exit with 1 when a goal is missed")
    parser.add_argument("--out", type=Path, default=OUTPUT, metavar="DIR", help=f"for JSON (default {OUTPUT})")
    return parser


def build_tools(directory: Path) -> None:
    """Compile the C programs."""
    for name in ("forwarder", "traffic"):
        testbed.run("gcc", "-O2", "-Wall", "-Wextra", "-o", str(directory / name), str(SOURCES / f"{name}.c"))


def measure(
    options: argparse.Namespace, step: Callable[[str], None], announce: Callable[[int], None]
) -> list[report.Figure]:
    """Run the chosen parts. ``announce`` gets the number of steps first."""
    cpus = sorted(os.sched_getaffinity(0))
    pinned = len(cpus) > 1 and not options.unpinned
    with tempfile.TemporaryDirectory(prefix="p4bench-") as scratch:
        build_tools(Path(scratch))
        context = Context(
            quick=options.quick,
            repetitions=options.repetitions or (1 if options.quick else REPETITIONS),
            scratch=Path(scratch),
            tools=Path(scratch),
            switch_cpu=cpus[1] if pinned else None,
            traffic_cpu=cpus[0] if pinned else None,
            rack=workload.Rack(options.entries),
            l3=workload.L3(options.entries),
            seconds=options.seconds or (0.25 if options.quick else 0.6),
            round_trips=options.round_trips or (500 if options.quick else 3000),
            step=step,
        )
        announce(sum(PARTS[name].steps(context) for name in options.only))
        return [figure for name in options.only for figure in PARTS[name].run(context)]


def _terminate(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 0, 1 when it failed (with --strict also when a goal is missed), 130 when interrupted."""
    options = options_parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, _terminate)  # so that everything is removed then, too
    for name in testbed.clean_up():
        print(f"bench: removed {name}, which a benchmark that died left behind", file=sys.stderr)
    setting = {"started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "quick": options.quick}
    setting |= {"entries": options.entries, "machine": report.machine()}
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    try:
        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task("building the tools", total=None)
            figures = measure(
                options,
                step=lambda text: bar.update(task, description=text, advance=1),
                announce=lambda total: bar.update(task, total=total, completed=-1),
            )
    except testbed.BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("bench: interrupted; nothing is left behind", file=sys.stderr)
        return 130
    report.save(figures, setting, options.out)
    report.show(figures, Console(width=None if sys.stdout.isatty() else 190))
    if options.quick:
        print("A quick run: one short repetition, so differences below a third mean nothing.")
    print(f"Details: {options.out}/all.json")
    return int(options.strict and any(figure.verdict == "missed" for figure in figures))


if __name__ == "__main__":
    sys.exit(main())
