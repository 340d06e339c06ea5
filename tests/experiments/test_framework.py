"""The frame of experiments: rows to medians, projections, files and a report; failures are kept and cost no other experiment."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from experiments import __main__ as command
from experiments import catalogue
from experiments.framework import files, links, plots, runner
from experiments.framework.measure import since
from experiments.framework.model import Chart, Claim, Context, Experiment, Finding, Row, ScenarioFailed, Traffic
from experiments.framework.summary import Spread, groups, number, value


@dataclass(frozen=True)
class Options:
    sizes: tuple[int, ...]


def measured(context: Context[Options]) -> Iterator[Row]:
    for repetition in range(context.repetitions):
        for size in context.options.sizes:
            context.step(f"size {size}")
            yield Row(
                case={"way": "<one>", "size": size},
                values={"ms": size * 10.0 + repetition},
                counts={"interconnect": Traffic(1, 2, size), "rack": Traffic(1, 1, 0)},
                repetition=repetition,
            )


def judge(rows: Sequence[Row]) -> list[Finding]:
    return [Finding("grows", value(rows, "ms", size=2) > value(rows, "ms", size=1), "it grows")]  # type: ignore[operator]


SAMPLE = Experiment(
    name="sample",
    title="A sample & more",
    about="about",
    claims=(Claim("grows", "5", "It grows."),),
    scales={"quick": Options((1, 2)), "full": Options((1, 2, 4))},
    run=measured,
    steps=lambda options, repetitions: len(options.sizes) * repetitions,
    judge=judge,
    charts=(
        Chart("chart", "t", "size", "ms", "way"),
        Chart("absent", "t", "size", "furlongs", "way"),
        Chart("projected", "t", "size", "", "way", link="Gen-Z"),
    ),
    repetitions={"quick": 3, "full": 5},
    root=False,
)


def failing(context: Context[Options]) -> Iterator[Row]:
    captures = context.out / "rack" / runner.CAPTURES
    captures.mkdir(parents=True)
    (captures / "port.pcap").write_bytes(b"frames")
    yield Row({"size": 1}, {"ms": 1.0})
    raise ScenarioFailed("a write was lost")


def plan(out: Path, **changes: object) -> runner.Plan:
    return replace(runner.Plan("quick", 1, None, out, "p4switch"), **changes)  # type: ignore[arg-type]


def nothing(_text: str, _weight: float) -> None:
    pass


def test_rows_become_medians_with_their_range(tmp_path: Path) -> None:
    steps: list[float] = []
    result = runner.run(SAMPLE, plan(tmp_path), lambda text, weight: steps.append(weight))
    assert result.held
    assert sum(steps) == runner.total_steps([SAMPLE], plan(tmp_path)) == 6
    found = groups(result.rows)
    assert [dict(group.case)["size"] for group in found] == [1, 2]
    assert found[1].values["ms"] == Spread(21.0, 20.0, 22.0, 3)
    assert found[1].counts["interconnect"] == Traffic(1, 2, 2)
    assert [f.held for f in result.findings] == [True]


def test_a_failure_keeps_rows_captures_and_trace_and_the_next_experiment_runs(tmp_path: Path) -> None:
    broken = replace(SAMPLE, name="broken", run=failing)
    result = runner.run(broken, plan(tmp_path), nothing)
    assert not result.held
    assert result.problems == ["ScenarioFailed: a write was lost"]
    assert len(result.rows) == 1
    assert (tmp_path / "broken/rack/captures/port.pcap").exists()
    assert "failing" in (tmp_path / "broken/traceback.txt").read_text()
    assert runner.run(SAMPLE, plan(tmp_path), nothing).held


def flaky(broken: Sequence[int], measured: list[int]) -> Experiment[Options]:
    """Its rows of these sizes raise."""

    def run(context: Context[Options]) -> Iterator[Row]:
        for size in range(6):
            context.step("next")

            def measure(size: int = size) -> Row:
                measured.append(size)
                if size in broken:
                    raise OSError(f"no {size}")
                return Row({"way": "a", "size": size}, {"ms": float(size)})

            yield context.row({"way": "a", "size": size}, 0, measure)

    return replace(SAMPLE, run=run, judge=lambda rows: [Finding("grows", None, f"{len(rows)} rows")], charts=())


def test_a_repetition_that_fails_costs_no_other(tmp_path: Path) -> None:
    result = runner.run(flaky([1, 2, 4], []), plan(tmp_path), nothing)
    assert [row.case["size"] for row in result.rows if row.values] == [0, 3, 5]
    assert result.problems == [f"a-{n}-0: OSError: no {n}" for n in (1, 2, 4)]
    assert [f.text for f in result.findings] == ["3 rows"]
    assert "measure" in (tmp_path / "sample/failed-a-1-0.txt").read_text()


def test_after_three_in_a_row_the_experiment_ends(tmp_path: Path) -> None:
    measured: list[int] = []
    result = runner.run(flaky([1, 2, 3], measured), plan(tmp_path), nothing)
    assert measured == [0, 1, 2, 3]
    assert result.problems[0] == "OSError: no 3"
    assert [f.text for f in result.findings] == ["1 rows"]


def test_whenever_a_run_is_killed_its_files_have_what_was_measured(tmp_path: Path) -> None:
    seen: list[tuple[int, bool, str]] = []

    def saved(result: runner.Result) -> None:
        files.save(result)
        found = files.load(SAMPLE, tmp_path)
        assert found is not None
        seen.append((len(found.rows), found.held, found.problem))

    runner.run(SAMPLE, plan(tmp_path), nothing, saved)
    assert seen == [*((n, False, runner.UNDER_WAY) for n in range(1, 7)), (6, True, "")]


def test_a_run_goes_on_with_the_right_rows_of_an_earlier_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    measured: list[int] = []
    every = {"sample": flaky([2], measured), "whole": replace(SAMPLE, name="whole", charts=())}
    monkeypatch.setattr(catalogue, "experiments", lambda: every)
    command_line = ["--quick", "--out", str(tmp_path)]
    assert command.main(command_line) == 1
    started = files.load(every["whole"], tmp_path)
    every["sample"] = flaky([], measured)
    measured.clear()
    assert command.main([*command_line, "--resume"]) == 0
    assert measured == [2]
    found = files.load(every["sample"], tmp_path)
    assert found is not None
    assert [row.case["size"] for row in found.rows] == list(range(6))
    assert any(note.startswith("went on with 5 rows") for note in found.notes)
    assert files.load(every["whole"], tmp_path) == started
    measured.clear()
    assert command.main([*command_line, "--resume", "--seed", "2", "sample"]) == 0
    assert measured == list(range(6)), "rows of another seed are others"


def test_a_report_can_be_made_of_what_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(catalogue, "experiments", lambda: {"sample": SAMPLE, "absent": replace(SAMPLE, name="absent")})
    files.save(runner.run(SAMPLE, plan(tmp_path), nothing))
    assert command.main(["--report", "--out", str(tmp_path)]) == 0
    assert "A sample &amp; more" in (tmp_path / "report.html").read_text()
    claims = (tmp_path / "claims.md").read_text()
    assert "| It grows. (5) | sample | it grows | yes |" in claims
    assert "- sample: 2 cases, 3 times; quick, seed 1," in claims
    assert "absent" not in claims
    tables = (tmp_path / "tables.md").read_text()
    assert "ms\n\n| size | <one> |\n| --- | --: |\n| 1 | 11 (10..12) |\n| 2 | 21 (20..22) |\n" in tables
    assert "interconnect: round trips" in tables
    assert "rack: bytes" not in tables, "there were none"


def test_every_claim_has_a_finding_and_every_finding_a_claim(tmp_path: Path) -> None:
    silent = runner.run(replace(SAMPLE, judge=lambda rows: []), plan(tmp_path), nothing)
    assert silent.held
    assert [(f.claim, f.held) for f in silent.findings] == [("grows", None)]
    strange = runner.run(replace(SAMPLE, judge=lambda rows: [Finding("grow", True, "")]), plan(tmp_path), nothing)
    assert "which are no claims of sample; those are ['grows']" in strange.problem


def quiet_with_captures(context: Context[Options]) -> Iterator[Row]:
    (context.out / runner.CAPTURES).mkdir()
    yield Row({}, {})


def test_captures_go_when_all_went_well_unless_they_are_wanted(tmp_path: Path) -> None:
    experiment = replace(SAMPLE, run=quiet_with_captures, judge=lambda rows: [])
    runner.run(experiment, plan(tmp_path), nothing)
    assert not (tmp_path / "sample" / runner.CAPTURES).exists()
    runner.run(experiment, plan(tmp_path, keep_captures=True), nothing)
    assert (tmp_path / "sample" / runner.CAPTURES).exists()


def test_wrong_rows_and_essential_findings_fail_and_others_do_not(tmp_path: Path) -> None:
    def finding(**changes: bool) -> Experiment[Options]:
        return replace(SAMPLE, judge=lambda rows: [Finding("grows", False, "shrinks", **changes)])

    assert not runner.run(finding(essential=True), plan(tmp_path), nothing).held
    slow = runner.run(finding(), plan(tmp_path), nothing)
    assert slow.held
    assert [f.text for f in slow.missed] == ["shrinks"]
    wrong = replace(SAMPLE, run=lambda context: iter([Row({}, {}, problem="wrong sum")]), judge=lambda rows: [])
    assert runner.run(wrong, plan(tmp_path), nothing).problems == ["wrong sum"]
    empty = replace(SAMPLE, run=lambda context: iter(()), judge=lambda rows: [])
    assert not runner.run(empty, plan(tmp_path), nothing).held, "an experiment that measured nothing has shown nothing"


def test_command_writes_everything_and_says_by_its_status(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = replace(SAMPLE, name="broken", run=failing)
    monkeypatch.setattr(catalogue, "experiments", lambda: {"sample": SAMPLE, "broken": broken})
    assert command.main(["sample", "--quick", "--out", str(tmp_path)]) == 0
    with (tmp_path / "sample/rows.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 6
    assert rows[5]["ms"] == "22.0"
    assert rows[5]["interconnect size"] == "2"
    stored = json.loads((tmp_path / "sample/result.json").read_text())
    assert stored["held"] is True
    assert stored["medians"][0]["projected"]["InfiniBand EDR"] == pytest.approx(1e-6 + 1 / 12.5e9 + 2e-6)
    report = (tmp_path / "report.html").read_text()
    assert "A sample &amp; more" in report
    assert "&lt;one&gt;" in report
    assert report.count("data:image/svg+xml") == 2, "the chart that no row has anything for is left out"
    assert "http" not in report.replace("http-equiv", ""), "the report needs nothing from elsewhere"
    assert (tmp_path / "sample/chart.png").exists()
    assert command.main(["--quick", "--out", str(tmp_path)]) == 1
    assert "a write was lost" in (tmp_path / "report.html").read_text()
    assert json.loads((tmp_path / "summary.json").read_text())["experiments"]["broken"]["held"] is False
    assert "a write was lost" in capsys.readouterr().out


def test_strict_fails_when_a_claim_does_not_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = replace(SAMPLE, judge=lambda rows: [Finding("grows", False, "shrinks")])
    monkeypatch.setattr(catalogue, "experiments", lambda: {"sample": slow})
    assert command.main(["--quick", "--out", str(tmp_path)]) == 0
    assert command.main(["--quick", "--strict", "--out", str(tmp_path)]) == 1


def test_the_report_has_earlier_results_and_says_what_it_cannot_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    every = {name: replace(SAMPLE, name=name, title=f"Title of {name}") for name in ("a", "b", "c")}
    monkeypatch.setattr(catalogue, "experiments", lambda: every)
    assert command.main(["a", "b", "--quick", "--out", str(tmp_path)]) == 0
    before = files.load(every["a"], tmp_path)
    assert before is not None
    assert before.rows == runner.run(every["a"], plan(tmp_path / "again"), nothing).rows
    (tmp_path / "b/result.json").write_text('{"scale": "quick"}')
    assert command.main(["c", "--quick", "--out", str(tmp_path)]) == 0
    report = (tmp_path / "report.html").read_text()
    assert [f"Title of {name}" in report for name in every] == [True, False, True]
    assert "b/result.json: not a result of this version" in capsys.readouterr().err
    assert set(json.loads((tmp_path / "summary.json").read_text())["experiments"]) == {"a", "c"}


def interrupted(context: Context[Options]) -> Iterator[Row]:
    yield Row({"way": "a", "size": 1}, {"ms": 1.0})
    raise KeyboardInterrupt


def test_an_interruption_ends_the_run_and_keeps_what_there_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = replace(SAMPLE, name="first", run=interrupted)
    monkeypatch.setattr(catalogue, "experiments", lambda: {"first": first, "sample": SAMPLE})
    assert command.main(["--quick", "--out", str(tmp_path)]) == 130
    assert len(json.loads((tmp_path / "first/result.json").read_text())["rows"]) == 1
    assert not (tmp_path / "sample").exists()
    assert "interrupted" in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize("arguments", [["nonsense"], ["--repetitions", "0"]])
def test_wrong_command_lines_say_what_is_valid(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        command.main(arguments)
    assert end.value.code == 2
    assert "there are transfer" in capsys.readouterr().err or arguments[0] != "nonsense"


def test_every_experiment_of_the_catalogue_is_whole() -> None:
    for name, experiment in catalogue.experiments().items():
        claims = {claim.name for claim in experiment.claims}
        assert len(claims) == len(experiment.claims) > 0, name
        assert set(experiment.scales) == set(experiment.repetitions) == {"quick", "full"}, name
        charts = [chart.name for chart in experiment.charts]
        assert len(set(charts)) == len(charts), name
        for scale, options in experiment.scales.items():
            assert experiment.steps(options, experiment.repetitions[scale]) > 0


def test_projection_adds_round_trips_and_bytes() -> None:
    counts = {"interconnect": Traffic(3, 6, 16e9), "cross_rack": Traffic(2, 2, 0)}
    pcie = next(link for link in links.INTERCONNECTS if link.name.startswith("PCIe"))
    assert links.project(counts, pcie) == pytest.approx(3 * 1.4e-6 + 1.0 + 90e-6)  # type: ignore[arg-type]


def test_counts_between_two_readings() -> None:
    before, after = {"rack": Traffic(0, 3, 300)}, {"rack": Traffic(0, 5, 1000)}
    assert since(before, after) == {"rack": Traffic(0, 2, 700)}  # type: ignore[arg-type]


def test_numbers_are_short() -> None:
    assert [number(x) for x in (0, 1234567.8, 12.345, 0.5, 0.00012345)] == ["0", "1,234,568", "12.3", "0.5", "0.000123"]


def test_bars_and_lines_show_the_range(tmp_path: Path) -> None:
    rows = [
        Row({"way": w, "size": s}, {"ms": s * f})
        for w, f in (("a", 1.0), ("b", 2.0))
        for s in (1, 2)
        for f in (f, f + 1)
    ]
    rows += [Row({"way": "nothing", "size": 1}, {"ms": 0.0})]
    for kind in ("line", "bar"):
        chart = Chart(kind, "title", "size", "ms", "way", kind=kind, log=(True, True))  # type: ignore[arg-type]
        path = plots.draw(chart, rows, tmp_path)
        assert path is not None
        first = path.read_bytes()
        plots.draw(chart, rows, tmp_path)
        assert path.read_bytes() == first
        assert b"<!-- a -->" in first
        assert b"<!-- nothing -->" not in first, "there is no 0 on this axis"
