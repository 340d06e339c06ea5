"""The formal models of a reassignment and of a migration: their rules hold, and fail when a step of the order is left out."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

MODELS = Path(__file__).resolve().parents[2] / "models"


def errors(directory: Path, *defines: str, model: str = "reassignment") -> int:
    """Violations that spin finds in the model with these defines, having explored all its states or met one."""
    options = [f"-D{d}" for d in defines]
    subprocess.run(
        ["spin", *options, "-a", str(MODELS / f"{model}.pml")],
        cwd=directory,
        check=True,
        capture_output=True,
        timeout=400,
    )
    compiler = ["gcc", "-O1", "-w", "-DSAFETY", "-DCOLLAPSE", "-o", "pan", "pan.c"]
    subprocess.run(compiler, cwd=directory, check=True, timeout=400)
    output = subprocess.run(["./pan", "-m200000"], cwd=directory, capture_output=True, text=True, timeout=400).stdout
    assert "max search depth too small" not in output
    found = re.search(r"errors: (\d+)", output)
    assert found, output
    return int(found[1])


@pytest.mark.parametrize("enforcement", ["", "NO_SWITCH_CHECK", "NO_ELEMENT_CHECK"])
def test_the_rules_hold_also_with_one_enforcement_alone(tmp_path: Path, enforcement: str) -> None:
    assert errors(tmp_path, *filter(None, [enforcement])) == 0


@pytest.mark.parametrize("step", ["NO_INTENT", "NO_WITHDRAW", "NO_PAGE_TABLE", "NO_WAIT", "ENTER_EARLY", "NO_ENTRY"])
def test_no_step_can_be_left_out(tmp_path: Path, step: str) -> None:
    assert errors(tmp_path, step) == 1


def test_without_the_elements_check_the_page_table_must_change_behind_the_switch(tmp_path: Path) -> None:
    assert errors(tmp_path, "NO_ELEMENT_CHECK", "PAGE_TABLE_FIRST") == 1


def test_one_enforcement_is_needed(tmp_path: Path) -> None:
    assert errors(tmp_path, "NO_SWITCH_CHECK", "NO_ELEMENT_CHECK") == 1


def test_both_reassignments_are_reached(tmp_path: Path) -> None:
    assert errors(tmp_path, "END=false") == 1


def test_a_migration_loses_nothing(tmp_path: Path) -> None:
    assert errors(tmp_path, model="migration") == 0


@pytest.mark.parametrize("step", ["NO_INTENT", "NO_TAKE", "UNTAKEN_COPIES", "NO_WAIT", "NO_NEWS", "NO_RETURN"])
def test_no_step_of_a_migration_can_be_left_out(tmp_path: Path, step: str) -> None:
    assert errors(tmp_path, step, model="migration") == 1


def test_both_migrations_are_reached(tmp_path: Path) -> None:
    assert errors(tmp_path, "END=false", model="migration") == 1
