"""``python -m bench.mmu``: what operations on memory cost, as ratios measured in one run.

Prints tables with goals and verdicts, and writes JSON and drawings. Everything but ``tables`` boots a rack, which needs root.
"""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType, ModuleType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from bench import report
from bench.mmu import plots, summary
from bench.mmu.parts import changes, grant, placement, processes, rules, steal, tables
from bench.mmu.setting import Setting
from bench.options import add_arguments
from experiments.workers import WorkerError
from topologies import targets
from topologies.processes import StartError
from topologies.state import RackRunning

OUTPUT = Path("out/bench-mmu")
REPETITIONS = 5
PARTS: dict[str, ModuleType] = {
    module.PART: module for module in (tables, placement, rules, changes, grant, steal, processes)
}


def options_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.mmu", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one repetition of fewer sizes: under a minute")
    add_arguments(parser, PARTS, REPETITIONS)
    parser.add_argument("--seed", type=int, default=1, help="of traces and random pages (default 1)")
    parser.add_argument("--strict", action="store_true", help="exit with 1 when a goal is missed")
    parser.add_argument("--out", type=Path, default=OUTPUT, metavar="DIR", help=f"for JSON and PNG (default {OUTPUT})")
    return parser


def _terminate(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def measure(options: argparse.Namespace) -> tuple[list[report.Figure], list[str]]:
    """Run the chosen parts: figures, and notes of what could not be measured."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with (
        Progress(*columns, console=Console(stderr=True), transient=True) as bar,
        contextlib.ExitStack() as stack,
    ):
        task = bar.add_task("beginning", total=None)
        setting = Setting(
            quick=options.quick,
            repetitions=options.repetitions or (1 if options.quick else REPETITIONS),
            seed=options.seed,
            out=options.out,
            step=lambda text: bar.update(task, description=text, advance=1),
            stack=stack,
        )
        bar.update(task, total=sum(PARTS[name].steps(setting) for name in options.only), completed=-1)
        figures = [figure for name in options.only for figure in PARTS[name].run(setting)]
    return figures, setting.notes


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 0, 1 when it failed (with --strict also when a goal is missed), 130 when interrupted."""
    options = options_parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, _terminate)  # so that the rack is taken down then, too
    setting = {"started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "quick": options.quick}
    setting |= {"seed": options.seed, "machine": report.machine()}
    try:
        figures, notes = measure(options)
    except (StartError, RackRunning, targets.TargetError, WorkerError, OSError) as error:
        print(f"bench.mmu: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("bench.mmu: interrupted; the rack is down", file=sys.stderr)
        return 130
    report.save(figures, {**setting, "notes": notes}, options.out)
    (options.out / "summary.md").write_text(summary.markdown(figures))
    drawn = plots.save(figures, options.out)
    report.show(figures, Console(width=None if sys.stdout.isatty() else 160))
    for note in notes:
        print(f"not measured: {note}")
    if options.quick:
        print("A quick run: one repetition, so differences below a third mean nothing.")
    print(f"Details: {options.out}/all.json; drawings: {', '.join(p.name for p in drawn) or 'none'}")
    return int(options.strict and any(figure.verdict == "missed" for figure in figures))


if __name__ == "__main__":
    sys.exit(main())
