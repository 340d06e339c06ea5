"""What failover experiments conclude from rows."""

from __future__ import annotations

import pytest

from experiments.failover import EXPERIMENT, Options, judge, steps, weight
from experiments.failover_scenario import BOOT
from experiments.framework.model import Finding, Row


def dead(size: int, memory: float, ordinary: float, waited: float = 7.0) -> list[Row]:
    """The two ways of one failure: seconds until the group is complete."""
    last = {"complete again s": ordinary, "unavailable s": 2.0, "elected s": 1.5, "answers again s": 0.5}
    return [
        Row({"element": "dies", "MiB": size, "way": "memory"}, {"complete again s": memory, "unavailable s": 0.5}),
        Row({"element": "dies", "MiB": size, "way": "ordinary"}, {**last, "replaced s": waited - 2.0}),
    ]


def slow(refused: float, sent: float, stopped: float, problem: str = "") -> Row:
    values = {"memory accesses refused": refused, "frames sent": sent, "frames stopped at its switch": stopped}
    return Row({"element": "stands still", "MiB": 16, "way": "memory"}, values, problem=problem)


def found(findings: list[Finding], claim: str) -> list[bool | None]:
    return [f.held for f in findings if f.claim == claim]


def test_ten_times_is_judged_at_256_mib() -> None:
    assert found(judge(dead(16, 0.5, 9.0)), "full health faster") == [None]
    assert found(judge(dead(256, 0.5, 20.0)), "full health faster") == [True]
    assert found(judge(dead(256, 2.1, 20.0)), "full health faster") == [False]
    (finding,) = (f for f in judge(dead(256, 0.5, 20.0)) if f.claim == "full health faster")
    assert "40.0 times" in finding.text
    assert "13.00 s of it behind all timeouts (26.0 times)" in finding.text


def test_flat_needs_sizes_that_differ_and_times_that_do_not() -> None:
    assert found(judge(dead(64, 0.5, 9.0)), "flat") == [None]
    assert found(judge(dead(1, 0.5, 9.0) + dead(256, 0.6, 9.0)), "flat") == [True]
    assert found(judge(dead(1, 0.5, 9.0) + dead(256, 0.9, 9.0)), "flat") == [False]


def test_an_old_element_that_gets_through_fails_the_experiment() -> None:
    (finding,) = judge([*dead(4, 0.5, 9.0), slow(3, 40, 40)])[-1:]
    assert (finding.claim, finding.held, finding.essential) == ("the old element is out", True, True)
    (finding,) = judge([*dead(4, 0.5, 9.0), slow(3, 40, 39)])[-1:]
    assert finding.held is False
    assert found(judge([*dead(4, 0.5, 9.0), slow(0, 0, 0, "it passed")]), "the old element is out") == []


def test_no_rows_no_findings_and_steps_are_counted() -> None:
    assert judge([]) == []
    assert judge([Row({"element": "dies", "MiB": 4, "way": "memory"}, {}, problem="no")]) == []
    small, large = (weight(1, "memory") + weight(1, "ordinary"), weight(8, "memory") + weight(8, "ordinary"))
    assert steps(Options(sizes=(1, 1), slow=(1,)), 3) == pytest.approx(BOOT + 3 * 3 * small)
    assert steps(Options(sizes=(1, 1), slow=(1,), large=(8,)), 3) == pytest.approx(BOOT + 3 * 3 * small + large)
    fewer = Options(sizes=(1, 1), slow=(1,), slow_ways=("memory",))
    assert steps(fewer, 1) == pytest.approx(BOOT + 2 * small + weight(1, "memory"))
    assert {f.claim for f in judge(dead(256, 0.5, 9.0))} <= {c.name for c in EXPERIMENT.claims}
