"""The figures as drawings (PNG)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot
from matplotlib.axes import Axes

from bench.report import Figure

_UNITS = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}


def save(figures: Sequence[Figure], directory: Path) -> list[Path]:
    """One file for each part that has something to draw."""
    made = []
    for name, draw in (
        ("changes", _changes),
        ("rules", _rules),
        ("tables", _tables),
        ("grant", _grant),
        ("steal", _steal),
    ):
        own = [f for f in figures if f.part == name]
        if own:
            drawing, axes = pyplot.subplots(figsize=(7, 4.5), layout="constrained")
            draw(axes, own)
            axes.legend(frameon=False)
            axes.spines[["top", "right"]].set_visible(False)
            path = directory / f"{name}.png"
            drawing.savefig(path, dpi=150)
            pyplot.close(drawing)
            made.append(path)
    return made


def _bytes(text: str) -> int:
    number, unit = text.split()
    return int(number) * _UNITS[unit]


def _line(axes: Axes, label: str, points: Sequence[tuple[float, Figure]]) -> None:
    """Medians, with the range of the samples."""
    xs = [x for x, _ in points]
    low = [f.value - min(f.samples) for _, f in points]
    high = [max(f.samples) - f.value for _, f in points]
    axes.errorbar(xs, [f.value for _, f in points], yerr=[low, high], marker="o", markersize=4, capsize=3, label=label)


def _by_size(axes: Axes, figures: Sequence[Figure], names: Sequence[str]) -> None:
    for name in names:
        points = [(float(_bytes(f.subject)), f) for f in figures if f.what == name]
        if points:
            _line(axes, name, points)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    ticks = sorted({_bytes(f.subject): f.subject for f in figures if f.what in names}.items())
    axes.set_xticks([size for size, _ in ticks], [text for _, text in ticks], rotation=30)


def _changes(axes: Axes, figures: Sequence[Figure]) -> None:
    _by_size(axes, figures, ("revoke", "fence the owner's element"))
    axes.set_ylabel("ms until acknowledged")
    axes.set_xlabel("size of the range")


def _steal(axes: Axes, figures: Sequence[Figure]) -> None:
    _by_size(axes, figures, ("steal",))
    axes.set_ylabel("ms until acknowledged")
    axes.set_xlabel("memory that is stolen")


def _grant(axes: Axes, figures: Sequence[Figure]) -> None:
    _by_size(axes, figures, ("grant", "copy"))
    axes.set_ylabel("ms")
    axes.set_xlabel("memory that changes hands")


def _rules(axes: Axes, figures: Sequence[Figure]) -> None:
    for how in ("granted", "returned", "revoked", "freed"):
        points = [(float(k), f) for f in figures if f.what == how for k in f.conditions.values() if isinstance(k, int)]
        _line(axes, f"pages {how}", points)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("random single pages of a GiB")
    axes.set_ylabel("rules in translation and protection")


def _tables(axes: Axes, figures: Sequence[Figure]) -> None:
    traces = list(dict.fromkeys(f.subject for f in figures))
    series = [w for w in dict.fromkeys(f.what for f in figures) if w == "V2P rules" or w.startswith("entries")]
    for number, what in enumerate(series):
        values = [next(f.value for f in figures if f.what == what and f.subject == trace) for trace in traces]
        axes.bar(
            [i + number / (len(series) + 1) for i in range(len(traces))], values, 1 / (len(series) + 1), label=what
        )
    axes.set_yscale("log")
    axes.set_xticks([i + (len(series) - 1) / (len(series) + 1) / 2 for i in range(len(traces))], traces)
    axes.set_ylabel("per GiB in use")
