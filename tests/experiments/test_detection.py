"""What the experiment on detection makes of its samples."""

from __future__ import annotations

import pytest

from experiments.detection import judge, percentile
from experiments.framework.model import Row


def test_percentiles() -> None:
    assert [percentile([30, 10, 20], p) for p in (0, 25, 50, 100)] == [10, 15, 20, 30]
    assert percentile([7], 99) == 7


def rows(found: float, failed: float) -> list[Row]:
    return [
        Row({"what": "local OS found", "threshold ms": 600}, {"ms": found}),
        Row({"what": "local OS serves again", "threshold ms": 600}, {"ms": 5000}),
        Row({"busy processes": 2, "threshold ms": 600}, {"suspected a minute": 3, "failed a minute": failed}),
        Row({"busy processes": 2, "threshold ms": 150}, {"suspected a minute": 3, "failed a minute": 1}),
    ]


@pytest.mark.parametrize(("found", "failed"), [(650, 0), (900, 0), (650, 1)])
def test_findings(found: float, failed: float) -> None:
    soon, right = judge(rows(found, failed))
    assert soon.held == (found == 650)
    assert right.held == (failed == 0)
    assert f"p90 {found}" in soon.text
