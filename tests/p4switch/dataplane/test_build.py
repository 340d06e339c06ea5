"""Compiling: cached by content, refused caches, compilers that fail."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from p4switch.dataplane import build

PROGRAM = '#include "p4prog.h"\nconst p4prog_program p4prog_main = {.abi_version = %d};\n'


def test_cached_by_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("P4SWITCH_CACHE", str(tmp_path / "cache"))
    first = build.build_program(PROGRAM % 1, "a program/with odd.name")
    assert first.parent == tmp_path / "cache"
    made = first.stat().st_ino
    assert build.build_program(PROGRAM % 1, "a program/with odd.name") == first
    assert first.stat().st_ino == made
    assert build.build_program(PROGRAM % 2) != first
    assert build.build_program(PROGRAM % 1, "a program/with odd.name", optimise=False) != first
    assert len(list(first.parent.glob("*.so"))) == 3


def test_compiler_errors_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("P4SWITCH_CACHE", str(tmp_path))
    with pytest.raises(build.BuildError, match="no_such_type"):
        build.build_program("no_such_type x;")
    assert not list(tmp_path.glob("*.so"))
    assert not list(tmp_path.glob(".build-*"))


def test_caches_that_others_can_write_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("P4SWITCH_CACHE", str(tmp_path))
    tmp_path.chmod(0o777)
    with pytest.raises(build.BuildError, match="only uid"):
        build.build_program(PROGRAM % 1)
    (tmp_path / "file").touch()
    monkeypatch.setenv("P4SWITCH_CACHE", str(tmp_path / "file"))
    with pytest.raises(build.BuildError, match="P4SWITCH_CACHE"):
        build.build_program(PROGRAM % 1)


@pytest.mark.skipif(os.geteuid() != 0, reason="chown needs root")
def test_caches_of_others_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.chown(tmp_path, 12345, 12345)
    tmp_path.chmod(0o700)
    monkeypatch.setenv("P4SWITCH_CACHE", str(tmp_path))
    monkeypatch.delenv("SUDO_UID", raising=False)
    with pytest.raises(build.BuildError, match="only uid 0 may own and write it"):
        build.build_program(PROGRAM % 1)
    monkeypatch.setenv("SUDO_UID", "12345")
    assert build.build_program(PROGRAM % 1).exists()
