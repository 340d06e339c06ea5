"""``python -m experiments [NAME ...]``: run experiments and report them.

Writes JSON and CSV of each under ``--out`` as rows come, in the end charts, one report (HTML) of all whose results are
there, also of earlier runs, and tables of claims and figures (Markdown). The exit status is 0 when every experiment ran to
its end with right results, 1 when one did not (its logs and captures stay), 2 for a wrong command line; with ``--strict`` 1
also when a claim did not hold in the figures.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from experiments import catalogue
from experiments.framework import claims, files, html, plots, tables
from experiments.framework.model import Experiment
from experiments.framework.runner import Plan, Result, repetitions_of, run, total_steps
from topologies import targets

DEFAULT_OUT = Path("out/experiments")
console = Console(highlight=False, soft_wrap=True)


def parse_arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """Options."""
    parser = argparse.ArgumentParser(prog="python -m experiments", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="which (default: all)")
    parser.add_argument("--list", action="store_true", help="say which experiments there are")
    parser.add_argument("--quick", action="store_true", help="small sizes, one repetition: all in under 3 minutes")
    parser.add_argument("--seed", type=int, default=1, help="of everything random (default 1)")
    parser.add_argument("--repetitions", type=int, help="of every case (default: each experiment's own)")
    parser.add_argument("--strict", action="store_true", help="exit with 1 also when a claim did not hold")
    parser.add_argument(
        "--resume", action="store_true", help="go on with what an earlier run with the same options left in DIR"
    )
    parser.add_argument("--report", action="store_true", help="run nothing: report on what is in DIR")
    parser.add_argument("--keep-captures", action="store_true", help="keep captures also when all went well")
    parser.add_argument("--out", type=Path, default=DEFAULT_OUT, metavar="DIR", help=f"default {DEFAULT_OUT}")
    targets.add_target_argument(parser)
    arguments = parser.parse_args(given)
    if arguments.repetitions is not None and arguments.repetitions < 1:
        parser.error(f"--repetitions {arguments.repetitions}: at least 1")
    try:
        arguments.chosen = catalogue.chosen(arguments.names)
    except catalogue.CatalogueError as error:
        parser.error(str(error))
    return arguments


def run_all(arguments: argparse.Namespace, plan: Plan) -> list[Result]:
    """The chosen experiments, with a progress bar; none after one that was interrupted. All that there is is in files whenever
    this is killed."""
    columns = (BarColumn(), TaskProgressColumn(), TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn())
    shown = (TextColumn("{task.description}"), *columns)
    results: list[Result] = []
    whole = 86400.0  # seconds whose steps the time left is estimated from: all of them
    with Progress(*shown, console=Console(stderr=True), transient=True, speed_estimate_period=whole) as bar:
        task = bar.add_task("beginning", total=total_steps(arguments.chosen, plan))
        passed = 0.0  # of the weights
        for experiment in arguments.chosen:
            under_way = 0.0

            def step(text: str, weight: float, name: str = experiment.name) -> None:
                nonlocal under_way
                bar.update(task, description=f"{name}: {text}", advance=under_way)
                under_way = weight

            earlier = left(experiment, plan) if arguments.resume else None
            done = earlier is not None and earlier.held
            results.append(earlier if earlier and done else run(experiment, plan, step, files.save, earlier))
            passed += total_steps([experiment], plan)
            bar.update(task, completed=passed)
            show(results[-1])
            if results[-1].interrupted:
                break
    return results


def left(experiment: Experiment[Any], plan: Plan) -> Result | None:
    """What an earlier run with the same options left of an experiment; None when there is nothing to go on with."""
    try:
        found = files.load(experiment, plan.out)
    except files.FileError as error:
        print(f"experiments: made anew: {error}", file=sys.stderr)
        return None
    same = found is not None and (found.scale, found.seed, found.repetitions) == (
        plan.scale,
        plan.seed,
        repetitions_of(experiment, plan),
    )
    return found if same else None


def show(result: Result) -> None:
    """An experiment on the terminal."""
    verdict = "[green]results right[/]" if result.held else "[red]FAILED[/]"
    console.print(f"{result.experiment.name}: {verdict}, {len(result.rows)} rows in {result.seconds:.0f} s")
    for problem in result.problems:
        console.print(f"  [red]{problem}[/]; logs and captures: {result.out}", markup=True)
    for finding in result.findings:
        word = {True: "[green]holds[/]", False: "[red]does not hold[/]", None: "cannot be told"}[finding.held]
        console.print(f"  {word}: {finding.claim}: {finding.text}")


def with_earlier(results: Sequence[Result], out: Path) -> list[Result]:
    """These, and what earlier runs left in the same directory of the other experiments; in the order of the catalogue."""
    fresh = {result.experiment.name: result for result in results}
    every: list[Result] = []
    for name, experiment in catalogue.experiments().items():
        try:
            result = fresh.get(name) or files.load(experiment, out)
        except files.FileError as error:
            print(f"experiments: not in the report: {error}", file=sys.stderr)
            continue
        every += [result] if result else []
    return every


def report(results: Sequence[Result], out: Path) -> Path:
    """Charts, summary, claims and report of these and of earlier results; the path of the report."""
    every = with_earlier(results, out)
    drawings = {}
    for result in every:
        drawn = (plots.draw(chart, result.rows, result.out) for chart in result.experiment.charts)
        drawings[result.experiment.name] = [path for path in drawn if path is not None]
    files.save_summary(every, out / "summary.json")
    (out / "claims.md").write_text(claims.page(every))
    (out / "tables.md").write_text(tables.page(every))
    path = out / "report.html"
    path.write_text(html.page(every, drawings))
    return path


def _terminate(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt


def main(given: Sequence[str] | None = None) -> int:
    """See the module's docstring; 130 when interrupted."""
    arguments = parse_arguments(given)
    if arguments.list:
        for experiment in arguments.chosen:
            console.print(f"{experiment.name}: {experiment.title}")
        return 0
    if not arguments.report and os.geteuid() != 0 and any(experiment.root for experiment in arguments.chosen):
        print("experiments: racks need root (network namespaces, raw sockets): use sudo", file=sys.stderr)
        return 1
    signal.signal(signal.SIGTERM, _terminate)  # so that racks are taken down then, too
    plan = Plan(
        scale="quick" if arguments.quick else "full",
        seed=arguments.seed,
        repetitions=arguments.repetitions,
        out=arguments.out.resolve(),
        target=arguments.target,
        keep_captures=arguments.keep_captures,
    )
    plan.out.mkdir(parents=True, exist_ok=True)
    results = [] if arguments.report else run_all(arguments, plan)
    console.print(f"report: {report(results, plan.out)}")
    if any(result.interrupted for result in results):
        print("experiments: interrupted; racks are down", file=sys.stderr)
        return 130
    missed = arguments.strict and any(result.missed for result in results)
    return 0 if all(result.held for result in results) and not missed else 1


if __name__ == "__main__":
    sys.exit(main())
