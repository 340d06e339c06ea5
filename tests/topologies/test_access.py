"""The operator's token of a launcher."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from controller.tokens import Role, Tokens, of_running_rack, read_token
from topologies import access


def test_one_launcher_has_one_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SUDO_UID", raising=False)
    file, run = tmp_path / "tokens.json", tmp_path / "rack"
    run.mkdir()
    (run / "state.json").write_text('{"api": "http://127.0.0.1:8090"}')
    other = Tokens(file).create("somebody", Role.OBSERVER)[1]
    first = access.make(file, run)
    second = access.make(file, run)
    tokens = Tokens(file)
    assert tokens.find(first) is None, "an earlier launcher's is worth nothing any more"
    assert tokens.find(other), "others' are kept with the store"
    found = tokens.find(second)
    assert found is not None
    assert (found.role, found.name) == (Role.OPERATOR, access.NAME)
    place = of_running_rack("http://127.0.0.1:8090", tmp_path)
    assert place is not None
    assert read_token(place) == second
    assert stat.S_IMODE(place.stat().st_mode) == stat.S_IMODE(file.stat().st_mode) == 0o600


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: gives a file to another user")
def test_it_is_whose_who_called_sudo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUDO_UID", "12345")
    access.make(tmp_path / "tokens.json", tmp_path)
    assert (tmp_path / "operator.token").stat().st_uid == 12345
    assert (tmp_path / "tokens.json").stat().st_uid == os.geteuid()
