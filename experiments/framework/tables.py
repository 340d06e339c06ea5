"""What was measured as tables in Markdown, to be taken into documents: one for each value, what is compared side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from experiments.framework.model import NETWORKS, Case, Row, Traffic
from experiments.framework.runner import Result
from experiments.framework.summary import Group, groups, number

Key = tuple[tuple[str, Case], ...]
_COUNTS = {"round trips": "round_trips", "messages": "messages", "bytes": "size"}


def page(results: Sequence[Result]) -> str:
    """The whole file."""
    parts = ["Medians, with the least and greatest of the repetitions.\n"]
    for result in results:
        series = list(dict.fromkeys(chart.series for chart in result.experiment.charts))
        own = "\n".join(_tables([row for row in result.rows if not row.problem], series))
        parts.append(f"## {result.experiment.name}\n\n{own}")
    return "\n".join(parts)


def _tables(rows: Sequence[Row], series: Sequence[str]) -> Iterator[str]:
    found = groups(rows)
    for name in series:
        own = [group for group in found if name in group.case]
        for value in dict.fromkeys(value for group in own for value in group.values):
            cells = {_key(group): str(group.values[value]) for group in own if value in group.values}
            yield _table(value, name, cells)
        for network in NETWORKS:
            for what, field in _COUNTS.items():
                counted = {_key(g): number(_count(g.counts[network], field)) for g in own if network in g.counts}
                if any(cell != "0" for cell in counted.values()):
                    yield _table(f"{network.replace('_', ' ')}: {what}", name, counted)


def _key(group: Group) -> Key:
    return tuple(group.case.items())


def _count(traffic: Traffic, field: str) -> float:
    return float(getattr(traffic, field))


def _table(title: str, series: str, cells: dict[Key, str]) -> str:
    """A line for each case, a column for each of the series."""
    columns = list(dict.fromkeys(dict(key)[series] for key in cells))
    names = list(dict.fromkeys(name for key in cells for name, _ in key if name != series))
    lines: dict[Key, dict[Case, str]] = {}
    for key, cell in cells.items():
        lines.setdefault(tuple(part for part in key if part[0] != series), {})[dict(key)[series]] = cell
    head = [*names, *map(str, columns)]
    text = f"{title}\n\n| {' | '.join(head)} |\n|{' --- |' * len(names)}{' --: |' * len(columns)}\n"
    for line, found in sorted(lines.items(), key=lambda line: [(isinstance(v, str), v) for _, v in line[0]]):
        case = dict(line)
        shown = [*(str(case.get(name, "")) for name in names), *(found.get(column, "") for column in columns)]
        text += f"| {' | '.join(shown)} |\n"
    return text
