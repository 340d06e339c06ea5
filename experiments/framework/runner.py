"""Runs experiments one after the other: each gets what it needs, its rows are kept as they come, and a failure costs no other."""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from experiments.framework.measure import captured, rack_ports
from experiments.framework.model import Context, Experiment, Finding, Row, Scale
from protocol.rack import Rack
from topologies.launch import LaunchOptions, RackLauncher
from topologies.targets import TargetName

CAPTURES = "captures"
UNDER_WAY = "it was not at its end when this was written"


@dataclass
class Result:
    """What came of an experiment."""

    experiment: Experiment[Any]
    scale: Scale
    seed: int
    repetitions: int
    out: Path
    setting: dict[str, Any]
    rows: list[Row] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    problem: str = ""  # why it ended early
    interrupted: bool = False
    seconds: float = 0.0

    @property
    def problems(self) -> list[str]:
        """All that must not have been."""
        own = [row.problem for row in self.rows if row.problem]
        broken = [f.text for f in self.findings if f.essential and f.held is False]
        return ([self.problem] if self.problem else []) + own + broken

    @property
    def held(self) -> bool:
        """Whether it ran to its end, and every result was right."""
        return bool(self.rows) and not self.problems

    @property
    def missed(self) -> list[Finding]:
        """Claims that did not hold."""
        return [finding for finding in self.findings if finding.held is False]


@dataclass(frozen=True)
class Plan:
    """How to run: the same for all experiments."""

    scale: Scale
    seed: int
    repetitions: int | None  # None: each experiment's own
    out: Path
    target: TargetName
    keep_captures: bool = False


def _no_saving(_result: Result) -> None:
    """For who only wants the result at the end."""


def setting() -> dict[str, Any]:
    """When and on what."""
    return {
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "cpus": len(os.sched_getaffinity(0)),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load before": round(os.getloadavg()[0], 2),
    }


def repetitions_of(experiment: Experiment[Any], plan: Plan) -> int:
    """As asked for, or as the experiment has it."""
    return plan.repetitions or experiment.repetitions[plan.scale]


def run(
    experiment: Experiment[Any],
    plan: Plan,
    step: Callable[[str, float], None],
    saved: Callable[[Result], None] = _no_saving,
    earlier: Result | None = None,
) -> Result:
    """One experiment. Whatever it raises is in the result; its logs and captures then stay. ``saved`` is given what there is
    after each row, so that a run that is killed leaves that; ``earlier`` is what such a run left, to go on from: rows with a
    problem are measured again, and those that :meth:`Context.row` does not make."""
    out = plan.out / experiment.name
    if earlier is None:
        shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True, exist_ok=True)
    result = Result(experiment, plan.scale, plan.seed, repetitions_of(experiment, plan), out, setting())

    @contextlib.contextmanager
    def launch(rack: Rack, name: str, **more: Any) -> Iterator[RackLauncher]:
        options = LaunchOptions(target=plan.target, out=out / name, name="experiment", **more)
        with RackLauncher(rack, options) as launched, captured(rack_ports(rack), out / name / CAPTURES):
            yield launched

    kept = [row for row in earlier.rows if not row.problem] if earlier is not None else []
    if earlier is not None:
        result.notes += [*earlier.notes, f"went on with {len(kept)} rows of the run of {earlier.setting['started']}"]
    context = Context[Any](
        scale=plan.scale,
        options=experiment.scales[plan.scale],
        seed=plan.seed,
        repetitions=result.repetitions,
        out=out,
        target=plan.target,
        note=result.notes.append,
        _step=step,
        _launch=launch,
        earlier=kept,
    )
    started = time.perf_counter()
    before = earlier.seconds if earlier is not None else 0.0
    result.problem = UNDER_WAY
    try:
        for row in experiment.run(context):
            result.rows.append(row)
            result.seconds = before + time.perf_counter() - started
            with contextlib.suppress(Exception):  # it may want rows that are to come
                _judge(result)
            saved(result)
        result.problem = ""
    except KeyboardInterrupt:
        result.problem, result.interrupted = "interrupted", True
    except Exception as error:  # a broken experiment must not cost the others
        result.problem = f"{type(error).__name__}: {error}"
        (out / "traceback.txt").write_text(traceback.format_exc())
    try:
        _judge(result)
    except Exception as error:
        if not result.problem:  # or it has not got far enough to be judged
            result.problem = f"{type(error).__name__}: {error}"
            (out / "traceback.txt").write_text(traceback.format_exc())
    result.seconds = before + time.perf_counter() - started
    saved(result)
    if result.held and not plan.keep_captures:
        for captures in out.rglob(CAPTURES):
            shutil.rmtree(captures)
    return result


def _judge(result: Result) -> None:
    """Findings on the rows that there are."""
    measured = [row for row in result.rows if row.values or not row.problem]
    result.findings = _complete(result.experiment, result.experiment.judge(measured))


def _complete(experiment: Experiment[Any], findings: list[Finding]) -> list[Finding]:
    """A finding for every claim, and none for others. Raises ValueError."""
    claims = [claim.name for claim in experiment.claims]
    strange = [finding.claim for finding in findings if finding.claim not in claims]
    if strange:
        raise ValueError(f"findings on {strange}, which are no claims of {experiment.name}; those are {claims}")
    judged = {finding.claim for finding in findings}
    return findings + [Finding(name, None, "this run cannot tell") for name in claims if name not in judged]


def total_steps(experiments: Sequence[Experiment[Any]], plan: Plan) -> float:
    """Of the progress bar: seconds or so."""
    return sum(e.steps(e.scales[plan.scale], repetitions_of(e, plan)) for e in experiments)
