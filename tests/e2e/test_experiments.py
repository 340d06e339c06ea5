"""All experiments in small, on real racks: every result right, the report there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from experiments import __main__ as command
from experiments import catalogue, transfer
from experiments.framework.model import Context, Row, ScenarioFailed
from experiments.framework.runner import CAPTURES


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", catalogue.experiments())
def test_quick_run(name: str, tmp_path: Path) -> None:
    status = command.main(["--quick", name, "--out", str(tmp_path)])
    stored = json.loads((tmp_path / name / "result.json").read_text())
    assert stored["problems"] == []
    assert status == 0
    judged = {finding["claim"] for finding in stored["findings"]}
    assert judged == {claim["name"] for claim in stored["claims"]}
    assert "FAILED" not in (tmp_path / "report.html").read_text()
    assert not list(tmp_path.rglob(CAPTURES)), "captures of what went well are not kept"


def failing(context: Context[transfer.Options]) -> Iterator[Row]:
    rows = transfer.run(context)
    yield next(rows)
    try:
        rows.throw(ScenarioFailed("a page was not what it must be"))
    finally:
        rows.close()


def test_a_failed_scenario_leaves_logs_and_captures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = replace(transfer.EXPERIMENT, run=failing)
    monkeypatch.setattr(catalogue, "experiments", lambda: {"transfer": broken})
    assert command.main(["--quick", "--out", str(tmp_path)]) == 1
    stored = json.loads((tmp_path / "transfer/result.json").read_text())
    assert stored["problems"] == ["ScenarioFailed: a page was not what it must be"]
    assert len(stored["rows"]) == 1
    rack = tmp_path / "transfer/rack"
    assert (rack / "logs/worker-source.log").exists()
    captured = {path.name.split(".")[0]: path.stat().st_size for path in (rack / CAPTURES).glob("*.pcap*")}
    assert captured["mmu-eth1"] > 24 + 2 * 78, "the capture has at least a request and its reply"
    assert set(captured) == {"mmu-eth1", "mmu-eth2", "mmu-eth3", "mmu-eth4", "tor-eth1", "tor-eth2"}
