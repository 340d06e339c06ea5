"""Charts of rows: medians with the range of the repetitions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
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
LARGE_RANGE = 1000  # of values on a logarithmic axis: powers of ten are enough


def draw(chart: Chart, rows: Sequence[Row], directory: Path) -> Path | None:
    """An SVG and a PNG; the path of the SVG, None when no row has what the chart shows."""
    lines = _lines(chart, rows)
    if not lines:
        return None
    drawing, axes = pyplot.subplots(figsize=(8, 4.2), layout="constrained")
    colours = _colours(chart, rows)
    if chart.kind == "bar":
        _bars(axes, lines, colours)
    else:
        _curves(axes, lines, colours, chart)
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
    drawing.legend(loc="outside right upper", frameon=False)
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{chart.name}.svg"
    drawing.savefig(path, metadata={"Date": None})
    drawing.savefig(path.with_suffix(".png"), dpi=150)
    pyplot.close(drawing)
    return path


Lines = dict[str, list[tuple[Case, Spread]]]


def _lines(chart: Chart, rows: Sequence[Row]) -> Lines:
    """What is drawn; a logarithmic axis has no place for 0."""
    chosen = [row for row in select(rows, chart.where) if {chart.x, chart.series} <= set(row.case)]
    own = [row for row in chosen if (row.counts if chart.link else chart.y in row.values)]
    lines: Lines = {}
    for name in dict.fromkeys(row.case[chart.series] for row in own):
        line = select(own, {chart.series: name})
        places = dict.fromkeys(row.case[chart.x] for row in line)
        spreads = [(x, Spread.of(_value(chart, row) for row in select(line, {chart.x: x}))) for x in places]
        shown = [(x, spread) for x, spread in spreads if spread.low > 0 or not chart.log[1]]
        if shown:
            lines[str(name)] = shown
    return lines


def _colours(chart: Chart, rows: Sequence[Row]) -> dict[str, str]:
    """A series has the same colour in all charts of an experiment, also where others are absent."""
    every = dict.fromkeys(str(row.case[chart.series]) for row in rows if chart.series in row.case)
    return {name: f"C{number % 10}" for number, name in enumerate(every)}


def _value(chart: Chart, row: Row) -> float:
    if not chart.link:
        return row.values[chart.y]
    link = next(link for link in links.INTERCONNECTS if link.name == chart.link)
    return links.project(row.counts, link) * 1e6


def _error(points: Sequence[tuple[Case, Spread]]) -> list[list[float]]:
    return [[s.median - s.low for _, s in points], [s.high - s.median for _, s in points]]


def _curves(axes: Axes, lines: Lines, colours: Mapping[str, str], chart: Chart) -> None:
    ticks: set[float] = set()
    for name, points in lines.items():
        points.sort(key=lambda point: float(point[0]))
        xs = [float(x) for x, _ in points]
        ticks.update(xs)
        ys = [s.median for _, s in points]
        color = colours[name]
        axes.errorbar(xs, ys, _error(points), marker="o", markersize=4, capsize=3, color=color, label=name)
    if chart.log[0]:
        axes.set_xscale("log", base=2)
        axes.set_xticks(sorted(ticks), [f"{x:g}" for x in sorted(ticks)])


def _logarithmic(axes: Axes, lines: Lines) -> None:
    """The vertical axis, from a power of ten below all values on (a bar that begins at its value has no height)."""
    found = [spread for points in lines.values() for _, spread in points]
    low, high = min(spread.low for spread in found), max(spread.high for spread in found)
    axes.set_yscale("log")
    axes.set_ylim(bottom=10.0 ** (math.ceil(math.log10(low)) - 1))
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high / low < LARGE_RANGE else (1,)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())


def _bars(axes: Axes, lines: Lines, colours: Mapping[str, str]) -> None:
    places = list(dict.fromkeys(x for points in lines.values() for x, _ in points))
    if not any(isinstance(place, str) for place in places):
        places.sort(key=float)
    width = 0.8 / len(lines)
    for number, (name, points) in enumerate(lines.items()):
        xs = [places.index(x) + (number - (len(lines) - 1) / 2) * width for x, _ in points]
        heights = [s.median for _, s in points]
        axes.bar(xs, heights, width * 0.95, yerr=_error(points), capsize=3, color=colours[name], label=name)
    axes.set_xticks(range(len(places)), [str(x) for x in places])
