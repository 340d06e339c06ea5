"""Charts of rows: medians with the range of the repetitions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullFormatter

from experiments.framework import links
from experiments.framework.model import Case, Chart, Row
from experiments.framework.summary import Spread, select

matplotlib.rcParams["svg.hashsalt"] = "experiments"  # the same rows give the same bytes


def draw(chart: Chart, rows: Sequence[Row], directory: Path) -> Path | None:
    """An SVG and a PNG; the path of the SVG, None when no row has what the chart shows."""
    lines = _lines(chart, rows)
    if not lines:
        return None
    drawing, axes = pyplot.subplots(figsize=(7, 4.2), layout="constrained")
    if chart.kind == "bar":
        _bars(axes, lines)
    else:
        _curves(axes, lines, chart)
    if chart.log[1]:
        _logarithmic(axes, lines)
    elif chart.kind == "bar" or all(s.low >= 0 for points in lines.values() for _, s in points):
        axes.set_ylim(bottom=0)
    axes.set_title(chart.title, loc="left", fontsize=11)
    axes.set_xlabel(chart.xlabel or chart.x)
    axes.set_ylabel(chart.ylabel or ("us, projected" if chart.link else chart.y))
    axes.set_axisbelow(True)
    axes.grid(axis="y", alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{chart.name}.svg"
    drawing.savefig(path, metadata={"Date": None})
    drawing.savefig(path.with_suffix(".png"), dpi=150)
    pyplot.close(drawing)
    return path


Lines = dict[str, list[tuple[Case, Spread]]]


def _lines(chart: Chart, rows: Sequence[Row]) -> Lines:
    chosen = [row for row in select(rows, chart.where) if {chart.x, chart.series} <= set(row.case)]
    own = [row for row in chosen if (row.counts if chart.link else chart.y in row.values)]
    lines: Lines = {}
    for name in dict.fromkeys(row.case[chart.series] for row in own):
        line = select(own, {chart.series: name})
        places = dict.fromkeys(row.case[chart.x] for row in line)
        spreads = [(x, Spread.of(_value(chart, row) for row in select(line, {chart.x: x}))) for x in places]
        lines[str(name)] = spreads
    return lines


def _value(chart: Chart, row: Row) -> float:
    if not chart.link:
        return row.values[chart.y]
    link = next(link for link in links.INTERCONNECTS if link.name == chart.link)
    return links.project(row.counts, link) * 1e6


def _error(points: Sequence[tuple[Case, Spread]]) -> list[list[float]]:
    return [[s.median - s.low for _, s in points], [s.high - s.median for _, s in points]]


def _curves(axes: Axes, lines: Lines, chart: Chart) -> None:
    ticks: set[float] = set()
    for name, points in lines.items():
        points.sort(key=lambda point: float(point[0]))
        xs = [float(x) for x, _ in points]
        ticks.update(xs)
        ys = [s.median for _, s in points]
        axes.errorbar(xs, ys, yerr=_error(points), marker="o", markersize=4, capsize=3, label=name)
    if chart.log[0]:
        axes.set_xscale("log", base=2)
        axes.set_xticks(sorted(ticks), [f"{x:g}" for x in sorted(ticks)])


def _logarithmic(axes: Axes, lines: Lines) -> None:
    """The vertical axis, from a power of ten below all values on (a bar that begins at its value has no height)."""
    least = min((s.low for points in lines.values() for _, s in points if s.low > 0), default=1.0)
    axes.set_yscale("log", nonpositive="clip")
    axes.set_ylim(bottom=10.0 ** (math.ceil(math.log10(least)) - 1))
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())


def _bars(axes: Axes, lines: Lines) -> None:
    places = list(dict.fromkeys(x for points in lines.values() for x, _ in points))
    width = 0.8 / len(lines)
    for number, (name, points) in enumerate(lines.items()):
        xs = [places.index(x) + (number - (len(lines) - 1) / 2) * width for x, _ in points]
        axes.bar(xs, [s.median for _, s in points], width * 0.95, yerr=_error(points), capsize=3, label=name)
    axes.set_xticks(range(len(places)), [str(x) for x in places])
