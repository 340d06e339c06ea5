"""The benchmark of memory operations: what it computes without a rack."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.mmu import __main__ as mmu
from bench.mmu import plots
from bench.mmu.parts import grant, tables
from bench.mmu.parts.grant import Transfer
from bench.mmu.setting import KIB, MIB, size_text
from bench.mmu.simulated import SimulatedController
from bench.mmu.traces import TRACES, Allocate, Free
from bench.report import Figure

PAGE = 4096


def test_rules_of_the_core() -> None:
    controller = SimulatedController(2, 1 << 18)
    pid = controller.create()
    va = controller.alloc(pid, 64 * MIB)
    assert controller.rules() == {"translation": 1, "protection": 1}
    controller.revoke(va + 5 * PAGE)
    assert controller.rules() == {"translation": 1, "protection": 2}, "the deny"
    controller.free(va + 9 * PAGE, 1)
    assert controller.rules() == {"translation": 2, "protection": 3}, "the deny, and the page that is no longer mapped"
    controller.free(va)
    assert not controller.rules()
    with pytest.raises(MemoryError):
        controller.alloc(pid, 4 << 30)
    with pytest.raises(RuntimeError, match="there is no process"):
        controller.alloc(pid + 1, PAGE)


@pytest.mark.parametrize("name", TRACES)
def test_traces_are_the_seeds_and_free_what_is_there(name: str) -> None:
    events = list(TRACES[name](3, 400))
    assert events == list(TRACES[name](3, 400))
    assert events != list(TRACES[name](4, 400))
    live: set[int] = set()
    for event in events:
        if isinstance(event, Allocate):
            assert event.name not in live
            assert event.size > 0
            live.add(event.name)
        else:
            live.remove(event.name)
    assert live
    assert any(isinstance(event, Free) for event in events)


def test_pages_that_ranges_touch() -> None:
    ranges = [(0x1000, 2 * PAGE), (2 * MIB - PAGE, 2 * PAGE)]
    assert tables.pages_of(ranges, 12) == {1, 2, 511, 512}
    assert tables.pages_of(ranges, 21) == {0, 1}
    assert tables.pages_of(ranges, 30) == {0}


def test_page_tables_of_a_trace_cover_what_is_allocated() -> None:
    found = tables.measure("mixed", 5, 60)
    assert found["entries of 4 KiB pages"] * PAGE == found["GiB"] * (1 << 30)
    assert found["entries of 2 MiB pages"] >= found["GiB"] * 512
    assert found["mapped by 1 GiB"] >= found["mapped by 2 MiB"] >= found["GiB"]
    assert found["rules"] >= 1


def transfers(**milliseconds: float) -> dict[int, list[Transfer]]:
    sizes = {"small": 4 * KIB, "middle": 64 * KIB, "large": 64 * MIB}
    return {sizes[name]: [Transfer(value, 4, 1)] * 3 for name, value in milliseconds.items()}


def test_the_crossover_is_where_grants_stay_faster() -> None:
    copied = transfers(small=1, middle=3, large=500)
    assert grant.crossover(transfers(small=2, middle=2, large=9), copied) == 64 * KIB
    assert grant.crossover(transfers(small=0.5, middle=4, large=9), copied) == 64 * MIB
    assert grant.crossover(transfers(small=2, middle=4, large=900), copied) is None
    figures = grant.figures(transfers(small=2, middle=2, large=9), copied)
    verdicts = {(f.what, f.subject): f.verdict for f in figures if f.verdict}
    assert verdicts == {
        ("grant", "4 KiB"): "met",
        ("grant", "64 MiB"): "met",
        ("grant, round trips", "4 KiB"): "met",
        ("a grant is faster", "from this size on"): "met",
    }
    slow = grant.figures(transfers(small=6, middle=6, large=90), copied)
    assert [f.verdict for f in slow if f.goal].count("missed") == 3


def test_drawings(tmp_path: Path) -> None:
    figures = grant.figures(transfers(small=2, middle=2, large=9), transfers(small=1, middle=3, large=500))
    figures += [Figure("changes", "revoke", size_text(s), "ms", [1.0, 2.0]) for s in (4 * KIB, MIB)]
    drawn = plots.save(figures, tmp_path)
    assert [path.name for path in drawn] == ["changes.png", "grant.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in drawn)


def test_the_part_without_a_rack(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert mmu.main(["--quick", "--only", "tables", "--out", str(tmp_path)]) == 0
    report = json.loads((tmp_path / "all.json").read_text())
    rules = [f for f in report["figures"] if f["what"] == "V2P rules"]
    assert {f["subject"] for f in rules} == set(TRACES)
    assert all(f["ratio"] > 0 for f in rules)
    assert (tmp_path / "tables.png").exists()
    assert "V2P rules" in capsys.readouterr().out


@pytest.mark.parametrize("wrong", [["--only", "nothing"], ["--repetitions", "0"], ["--only", ","]])
def test_options_that_make_no_sense(wrong: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        mmu.main(wrong)
    assert ended.value.code == 2
