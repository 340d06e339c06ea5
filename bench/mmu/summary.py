"""The figures as Markdown, for a document: those with goals, then each part as a table with a row for each size or trace."""

from __future__ import annotations

from collections.abc import Sequence

from bench import report
from bench.report import Figure


def markdown(figures: Sequence[Figure]) -> str:
    """All figures."""
    texts = [report.markdown(figures)]
    for part in dict.fromkeys(figure.part for figure in figures):
        texts.append(_pivot(part, [figure for figure in figures if figure.part == part]))
    return "\n".join(texts)


def _pivot(part: str, figures: Sequence[Figure]) -> str:
    rows = list(dict.fromkeys(_row(figure) for figure in figures))
    columns = list(dict.fromkeys(figure.what for figure in figures))
    lines = [f"**{part}**", "", f"| of | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for row in rows:
        own = [figure for figure in figures if _row(figure) == row]
        cells = [_cell([figure for figure in own if figure.what == column]) for column in columns]
        lines.append(f"| {row} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _row(figure: Figure) -> str:
    conditions = [f"{value:,} {name}" if isinstance(value, int) else value for name, value in figure.conditions.items()]
    return ", ".join([figure.subject, *conditions])


def _cell(figures: Sequence[Figure]) -> str:
    """A value, and its ratios to each baseline."""
    if not figures:
        return ""
    ratios = [f"{report.number(f.ratio)} of {f.baseline}" for f in figures if f.ratio is not None]
    value = f"{report.number(figures[0].value)}{report.spread(figures[0].samples)} {figures[0].unit}".strip()
    return "; ".join([value, *ratios])
