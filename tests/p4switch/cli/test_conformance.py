"""The conformance command, on a small tree laid out like p4c's."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from p4switch.cli.conformance import KNOWN_MISSES, OUTPUTS, SAMPLES, p4info_programs, stf_programs
from p4switch.compiler import p4info
from p4switch.compiler.driver import compile_source

ROOT = Path(__file__).resolve().parents[3]
FEATURES = ROOT / "tests" / "p4switch" / "features"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    samples, outputs = tmp_path / SAMPLES, tmp_path / OUTPUTS
    samples.mkdir(parents=True)
    outputs.mkdir()
    for name in ("exact_match", "lpm_match"):
        for end in (".p4", ".stf"):
            shutil.copy(FEATURES / (name + end), samples)
        golden = p4info.to_text(p4info.build(compile_source(FEATURES / f"{name}.p4").program))
        (outputs / f"{name}.p4.p4info.txtpb").write_text(golden)
    shutil.copy(FEATURES / "skeleton.p4", samples)
    (samples / "issue3091.p4").write_text("#include <v1model.p4>\nheader h { bit<8>[4] a; }\n")
    (outputs / "issue3091.p4.p4info.txtpb").write_text('pkg_info { arch: "v1model" }\n')
    (samples / "other.p4").write_text("#include <psa.p4>\n")
    (samples / "other.stf").write_text("wait\n")
    return tmp_path


def conformance(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "p4switch", "conformance", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=400)


def test_what_is_found(tree: Path) -> None:
    assert [p.name for p in stf_programs(tree)] == ["exact_match.p4", "lpm_match.p4"]
    assert [p.name for p in p4info_programs(tree)] == ["exact_match.p4", "issue3091.p4", "lpm_match.p4"]


def test_passing_and_known_misses(tree: Path) -> None:
    done = conformance(tree, "--json", tree / "results.json")
    assert done.returncode == 0, done.stderr
    assert "stf: 2 programs, 2 passed, 0 failed, 0 refused" in done.stdout
    assert "p4info: 3 programs, 2 passed, 0 failed, 1 refused" in done.stdout
    assert f"refused issue3091.p4: known: {KNOWN_MISSES['issue3091']}" in done.stdout
    results = json.loads((tree / "results.json").read_text())
    assert {(r["suite"], r["program"], r["status"]) for r in results} >= {("p4info", "issue3091.p4", "refused")}


def test_a_program_that_fails(tree: Path) -> None:
    stf = tree / SAMPLES / "exact_match.stf"
    stf.write_text(stf.read_text() + "packet 0 00\nexpect 5 ffff\n")
    golden = tree / OUTPUTS / "lpm_match.p4.p4info.txtpb"
    golden.write_text(golden.read_text().replace("LPM", "EXACT"))
    done = conformance(tree, "--only", "match")
    assert done.returncode == 1
    assert "stf: 2 programs, 1 passed, 1 failed, 0 refused" in done.stdout
    assert "p4info: 2 programs, 1 passed, 1 failed, 0 refused" in done.stdout
    assert "failed lpm_match.p4: error: the P4Info differs" in done.stdout


def test_no_copy_of_p4c(tmp_path: Path) -> None:
    done = conformance(tmp_path)
    assert (done.returncode, done.stderr) == (2, f"p4switch: {tmp_path} is no copy of p4c: it has no {SAMPLES}\n")


def test_every_known_miss_is_documented() -> None:
    text = (ROOT / "docs" / "limitations.md").read_text()
    missing = [name for name in KNOWN_MISSES if f"`{name}`" not in text]
    assert not missing
