"""Rows grouped by case: medians, and the range of the repetitions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from experiments.framework.model import NETWORKS, Case, Counts, Network, Row, Traffic


@dataclass(frozen=True)
class Spread:
    """Median, least and greatest of the repetitions."""

    median: float
    low: float
    high: float
    count: int

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        """Raises ValueError when there is none."""
        held = sorted(values)
        if not held:
            raise ValueError("no values")
        return cls(median(held), held[0], held[-1], len(held))

    def __str__(self) -> str:
        middle, low, high = (number(value) for value in (self.median, self.low, self.high))
        return middle if low == high else f"{middle} ({low}..{high})"


def number(value: float) -> str:
    """Three digits that count, thousands apart."""
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    return (
        f"{value:.3g}"
        if abs(value) < 1e-3
        else f"{value:.3f}".rstrip("0").rstrip(".")
        if abs(value) < 1
        else f"{value:.3g}"
    )


@dataclass(frozen=True)
class Group:
    """All repetitions of one case."""

    case: Mapping[str, Case]
    values: Mapping[str, Spread]
    counts: Counts
    problems: Sequence[str]


def select(rows: Iterable[Row], where: Mapping[str, Case]) -> list[Row]:
    """Rows whose case has all these."""
    return [row for row in rows if all(row.case.get(name) == value for name, value in where.items())]


def value(rows: Iterable[Row], what: str, **where: Case) -> float | None:
    """The median of a value over the rows of a case; None when there is none."""
    found = [row.values[what] for row in select(rows, where) if what in row.values]
    return median(found) if found else None


def groups(rows: Sequence[Row]) -> list[Group]:
    """In the order in which cases first appear."""
    by_case: dict[tuple[tuple[str, Case], ...], list[Row]] = {}
    for row in rows:
        by_case.setdefault(tuple(row.case.items()), []).append(row)
    return [_group(own) for own in by_case.values()]


def _group(rows: Sequence[Row]) -> Group:
    names = dict.fromkeys(name for row in rows for name in row.values)
    values = {name: Spread.of(row.values[name] for row in rows if name in row.values) for name in names}
    counts: dict[Network, Traffic] = {}
    for network in NETWORKS:
        own = [row.counts[network] for row in rows if network in row.counts]
        if own:
            counts[network] = Traffic(
                median(t.round_trips for t in own), median(t.messages for t in own), median(t.size for t in own)
            )
    return Group(rows[0].case, values, counts, [row.problem for row in rows if row.problem])
