"""What the experiments with lost memory and with rolling replacement conclude from rows."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from experiments import failover_memory, failover_rolling, failover_scenario
from experiments.failover_cluster import Spoilt, Timeouts
from experiments.failover_scenario import BOOT, Planned, attempted, carried_out
from experiments.framework.model import Case, Context, Finding, Row, ScenarioFailed
from topologies.site_launch import SiteLauncher


def lost(dies: str, begins: float, silent: float, size: int = 1) -> Row:
    return Row({"dies": dies, "MiB": size}, {"reconfiguration begins s": begins, "unavailable s": silent})


def rolled(way: str, seconds: float, moved: float, size: int = 1) -> Row:
    values = {"in full racks s": seconds, "full racks": 3.0, "cross_rack MiB": moved, "unavailable s": 0.2}
    return Row({"way": way, "MiB": size}, values)


def held(findings: list[Finding]) -> dict[str, bool | None]:
    return {f.claim: f.held for f in findings}


def test_memory_that_fails_is_told_sooner_or_not() -> None:
    told, waited = lost("memory element", 0.4, 0.5), lost("whole machine", 6.0, 1.5)
    assert held(failover_memory.judge([told, waited])) == {"told at once": True, "answers sooner": True}
    late = lost("memory element", 7.0, 0.5)
    assert held(failover_memory.judge([late, waited])) == {"told at once": False, "answers sooner": True}
    assert held(failover_memory.judge([told])) == {"told at once": None, "answers sooner": None}
    assert failover_memory.judge([]) == []
    small, large = map(failover_memory.weight, (1, 8))
    assert failover_memory.steps(failover_memory.Options(sizes=(1, 1)), 2) == BOOT + 8 * small
    assert failover_memory.steps(failover_memory.Options(sizes=(1,), large=(8,)), 2) == BOOT + 4 * small + 2 * large


def test_rolling_replacement_is_faster_or_not() -> None:
    handed, copied = rolled("memory", 2.0, 1.0), rolled("ordinary", 9.0, 50.0)
    assert held(failover_rolling.judge([handed, copied])) == {"rolling": True}
    assert held(failover_rolling.judge([rolled("memory", 10.0, 1.0), copied])) == {"rolling": False}
    assert held(failover_rolling.judge([handed])) == {"rolling": None}
    assert "9.00 s" in failover_rolling.judge([handed, copied])[0].text
    assert failover_rolling.judge([]) == failover_rolling.judge([Row(copied.case, {}, problem="no leader")]) == []
    small, large = map(failover_rolling.weight, (1, 8))
    assert failover_rolling.steps(failover_rolling.Options(sizes=(1,), full=3), 2) == BOOT + 4 * small
    options = failover_rolling.Options(sizes=(1,), full=3, large=(8,))
    assert failover_rolling.steps(options, 2) == BOOT + 4 * small + 2 * large


def context(out: Path, notes: list[str]) -> Context[None]:
    def no_rack(*_: object, **__: object) -> NoReturn:
        raise AssertionError("no rack is wanted")

    return Context("quick", None, 5, 1, out, "p4switch", notes.append, lambda text, weight: None, no_rack)


def test_a_scenario_that_was_spoilt_before_its_failure_is_tried_again_and_noted(tmp_path: Path) -> None:
    case: dict[str, Case] = {"dies": "memory element", "MiB": 4}
    tried: list[tuple[str, int]] = []

    def scenario(out: Path, seed: int) -> Row:
        tried.append((out.name, seed))
        if len(tried) == 1:
            raise Spoilt("replica 4 ended")
        return Row(case, {}, repetition=2)

    notes: list[str] = []
    assert attempted(context(tmp_path, notes), case, 2, scenario).problem == ""
    assert tried == [("memory-element-4-2", 7), ("memory-element-4-2-again-1", 7)]
    assert notes == ["memory-element-4-2: spoilt before it began: replica 4 ended"]


@pytest.mark.parametrize(("error", "times", "verdict"), [(ScenarioFailed, 1, "4-0: no"), (Spoilt, 3, "spoilt 3 times")])
def test_a_scenario_that_fails_says_so(tmp_path: Path, error: type[ScenarioFailed], times: int, verdict: str) -> None:
    tried: list[Path] = []

    def scenario(out: Path, seed: int) -> Row:
        tried.append(out)
        raise error("no")

    row = attempted(context(tmp_path, []), {"MiB": 4}, 0, scenario)
    assert verdict in row.problem
    assert len(tried) == times


def test_racks_in_which_a_scenario_went_wrong_are_not_used_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    boots: list[int] = []

    @contextlib.contextmanager
    def racks(_context: object, _timeouts: object, state_mib: int, _full: int, boot: int) -> Iterator[int]:
        assert state_mib == 8
        boots.append(boot)
        yield boot

    monkeypatch.setattr(failover_scenario, "three_racks", racks)
    planned = [Planned({"MiB": size}, 0, "", 1.0) for size in (1, 2, 4, 8, 1, 1, 1, 1)]
    used: list[int] = []

    def scenario(launched: SiteLauncher, case: dict[str, Case], out: Path, seed: int, repetition: int) -> Row:
        used.append(int(launched))  # type: ignore[call-overload]
        if len(used) in (2, 5, 6, 7):
            raise ScenarioFailed("no")
        return Row(case, {"s": 1.0})

    found: list[Row] = []
    with pytest.raises(ScenarioFailed, match="3 scenarios in a row"):
        found.extend(carried_out(context(tmp_path, []), Timeouts(), planned, scenario))
    assert used == [1, 1, 2, 2, 2, 3, 4]
