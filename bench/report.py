"""Figures, what they are held against, and how they are shown: a table for people, JSON for programs."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Literal

from rich.console import Console
from rich.table import Table

Verdict = Literal["met", "missed", ""]


@dataclass(frozen=True)
class Goal:
    """A bound on a figure's ratio to its baseline, or (absolute) on its value."""

    relation: Literal[">=", "<="]
    bound: float
    absolute: bool = False

    def __str__(self) -> str:
        return f"{self.relation} {self.bound:,g}"

    def holds(self, value: float) -> bool:
        """Is the goal met?"""
        return value >= self.bound if self.relation == ">=" else value <= self.bound


@dataclass(frozen=True)
class Figure:
    """One measured quantity: a sample from each repetition.

    ``ratios`` are those of samples to the baseline's sample of the same repetition, so that load which comes and goes touches
    both alike.
    """

    part: str
    what: str
    subject: str
    unit: str
    samples: Sequence[float]
    conditions: dict[str, str | int] = field(default_factory=dict)
    baseline: str = ""
    ratios: Sequence[float] = ()
    goal: Goal | None = None

    @property
    def value(self) -> float:
        """The median."""
        return median(self.samples)

    @property
    def ratio(self) -> float | None:
        """The median of the ratios, None without a baseline."""
        return median(self.ratios) if self.ratios else None

    @property
    def verdict(self) -> Verdict:
        """Whether the median meets the goal; empty without one."""
        if self.goal is None:
            return ""
        measured = self.value if self.goal.absolute else self.ratio
        return "met" if measured is not None and self.goal.holds(measured) else "missed"

    def as_json(self) -> dict[str, Any]:
        """All of it, with what follows from it."""
        return {
            "part": self.part,
            "what": self.what,
            "subject": self.subject,
            "conditions": self.conditions,
            "unit": self.unit,
            "value": self.value,
            "low": min(self.samples),
            "high": max(self.samples),
            "samples": list(self.samples),
            "baseline": self.baseline or None,
            "ratio": self.ratio,
            "ratios": list(self.ratios),
            "goal": asdict(self.goal) if self.goal else None,
            "verdict": self.verdict or None,
        }


def against(samples: Sequence[float], baseline: Sequence[float]) -> list[float]:
    """Ratios, repetition by repetition."""
    return [sample / base for sample, base in zip(samples, baseline, strict=True)]


def number(value: float) -> str:
    """Three digits, or all of a large one."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def spread(values: Sequence[float]) -> str:
    """The range of several values."""
    if len(values) < 2:
        return ""
    low, high = min(values), max(values)
    return f" ({number(low)}..{number(high)})"


def _row(figure: Figure, with_baseline: bool = False) -> list[str]:
    conditions = ", ".join(f"{v:,} {name}" if isinstance(v, int) else v for name, v in figure.conditions.items())
    ratio = "" if figure.ratio is None else f"{figure.ratio:.2f}"
    if len(figure.ratios) > 1:
        ratio += f" ({min(figure.ratios):.2f}..{max(figure.ratios):.2f})"
    if ratio and with_baseline:
        ratio += f" of {figure.baseline}"
    colour = {"met": "green", "missed": "red", "": ""}[figure.verdict]
    return [
        figure.what,
        figure.subject,
        conditions,
        f"{number(figure.value)}{spread(figure.samples)} {figure.unit}",
        ratio,
        "" if figure.goal is None else f"{figure.goal} {figure.unit}" if figure.goal.absolute else str(figure.goal),
        f"[{colour}]{figure.verdict}[/{colour}]" if colour else "",
    ]


def show(figures: Sequence[Figure], console: Console) -> None:
    """A table for each part."""
    for part in dict.fromkeys(figure.part for figure in figures):
        own = [figure for figure in figures if figure.part == part]
        baselines = list(dict.fromkeys(f.baseline for f in own if f.baseline))
        several = len(baselines) > 1
        table = Table(title=part, title_justify="left", title_style="bold")
        for name in (
            "what",
            "of",
            "with",
            "median (range)",
            "ratio" if several or not baselines else f"ratio to {baselines[0]}",
        ):
            table.add_column(name, overflow="fold")
        table.add_column("goal", no_wrap=True)
        table.add_column("verdict", no_wrap=True)
        for figure in own:
            table.add_row(*_row(figure, several))
        console.print(table)
    judged = [figure for figure in figures if figure.verdict]
    missed = [figure for figure in judged if figure.verdict == "missed"]
    console.print(f"{len(judged) - len(missed)} of {len(judged)} goals met.")


def markdown(figures: Sequence[Figure]) -> str:
    """The figures with goals as a table for a document."""
    lines = ["| what | of | with | median (range) | ratio | goal | |", "|---|---|---|---|---|---|---|"]
    for figure in figures:
        if figure.verdict:
            *cells, _ = _row(figure, with_baseline=True)
            cells = [f"{figure.part}: {cells[0]}", *cells[1:6], figure.verdict]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    model = ""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    gcc = subprocess.run(["gcc", "-dumpfullversion"], capture_output=True, text=True, check=False).stdout.strip()
    return {
        "cpu": model,
        "cpus": len(os.sched_getaffinity(0)),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "gcc": gcc,
        "load_before": os.getloadavg()[0],
    }


def save(figures: Sequence[Figure], setting: dict[str, Any], directory: Path) -> None:
    """One file a part, and ``all.json``. Each holds the setting, so it can be read alone. ``summary.md`` has the goals."""
    directory.mkdir(parents=True, exist_ok=True)
    parts = dict.fromkeys(figure.part for figure in figures)
    for name, chosen in [("all", list(figures)), *((p, [f for f in figures if f.part == p]) for p in parts)]:
        report = {**setting, "figures": [figure.as_json() for figure in chosen]}
        (directory / f"{name}.json").write_text(json.dumps(report, indent=2) + "\n")
    (directory / "summary.md").write_text(markdown(figures))
