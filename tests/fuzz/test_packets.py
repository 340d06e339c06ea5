"""The packet path's fuzz target: a short run over every program finds nothing, and planted faults are found."""

from __future__ import annotations

from pathlib import Path

import pytest

from fuzz.packets import run
from fuzz.packets.build import build_target
from p4switch.compiler.driver import compile_source
from p4switch.dataplane.build import RUNTIME

SECONDS = 2
LONGEST = 120  # seconds until a planted fault must have been found, on however slow a machine


def short_run(path: Path, folder: Path, changes: dict[str, str] | None = None, seconds: int = SECONDS) -> run.Outcome:
    program = compile_source(path).program
    target = build_target(program, cpu_port=run.cpu_port(path), runtime_changes=changes)
    seeds, corpus = folder / "seeds", folder / "corpus"
    corpus.mkdir()
    assert run.seed(seeds, path, program) > 5
    return run.fuzz(target, program.name, seconds=seconds, corpora=[corpus, seeds], crashes=folder / "crashes")


@pytest.mark.parametrize("path", run.PROGRAMS, ids=lambda p: p.stem)
def test_nothing_is_found(path: Path, tmp_path: Path) -> None:
    outcome = short_run(path, tmp_path)
    assert outcome.crash is None, outcome.finding
    # It did something: packets went through, entries were hit (and compared with the oracle), memory ran out.
    for figure in ("packets", "outputs", "updates", "refused", "lookups", "hits"):
        assert outcome.figures[figure] > 0, outcome
    assert outcome.edges > 500


# (file of the runtime, what stands there, what takes its place, what is reported)
DATA = "memcpy(dp_entry_data(t, e), u->data, size"
UNDO = "        if (all_or_none && failed > 0) undo_to(env, log, mark);\n"
FAULTS = {
    "a wrong answer": ("groups.c", ".prefix_length < prefix_length", ".prefix_length > prefix_length", "not what its"),
    "a byte too many": ("updates.c", DATA, DATA + " + 1", "buffer-overflow"),
    "a leak": ("queues.c", "        free(item);\n", "", "allocations are left"),
    "a lost entry": ("updates.c", UNDO, "", "have left their mark"),
}
SCRIPT = """
add t_lpm hdr.k.d:0x01020304/16 metered(2)
add t_lpm hdr.k.d:0x01020304/32 metered(3)
packet 1 01 0009 01020304 000000000000000000 03
"""


@pytest.mark.parametrize("fault", FAULTS)
def test_planted_faults_are_found(fault: str, tmp_path: Path) -> None:
    name, right, wrong, report = FAULTS[fault]
    text = (RUNTIME / name).read_text()
    assert right in text, f"{name} no longer has the line that this test breaks"
    path = tmp_path / "tables.p4"
    path.write_text((run.ROOT / "fuzz" / "programs" / "tables.p4").read_text())
    path.with_suffix(".stf").write_text(SCRIPT)
    outcome = short_run(path, tmp_path, {name: text.replace(right, wrong)}, LONGEST)
    assert outcome.crash is not None, outcome
    assert outcome.crash.is_file()
    assert report in outcome.finding


def test_what_libfuzzer_prints_is_understood() -> None:
    text = """INFO: Loaded 1 modules   (50 inline 8-bit counters): 50 [0x1, 0x2),
#2\tINITED cov: 3 ft: 4 corp: 1/1b exec/s: 0 rss: 32Mb
#9\tDONE   cov: 7 ft: 8 corp: 2/3b exec/s: 0 rss: 32Mb
fuzz: broken invariant: the table is upside down
Test unit written to /tmp/crash-1
fuzz: inputs=9 packets=8
"""
    outcome = run.parse_report("p", text)
    assert (outcome.edges, outcome.all_edges, outcome.features, outcome.corpus) == (7, 50, 8, 2)
    assert outcome.figures == {"inputs": 9, "packets": 8}
    assert outcome.crash == Path("/tmp/crash-1")
    assert outcome.finding == "fuzz: broken invariant: the table is upside down"
    assert "7 of 50 edges (14 %)" in str(outcome)
