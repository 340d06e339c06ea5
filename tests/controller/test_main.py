"""``python -m controller`` on the command line, as far as it gets without a switch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from controller.tokens import Role, Tokens

ROOT = Path(__file__).resolve().parents[2]


def controller(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "controller", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=400, check=False)


def test_the_first_token_is_made_without_a_controller(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    made = controller("token", "--tokens", str(path), "--name", "me")
    assert made.returncode == 0, made.stderr
    token = Tokens(path).find(made.stdout.strip())
    assert token is not None
    assert (token.name, token.role) == ("me", Role.OPERATOR)
    path.chmod(0o666)
    refused = controller("token", "--tokens", str(path))
    assert refused.returncode == 1
    assert "mode 666" in refused.stderr


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--heartbeat-interval", "1"), "10 ms at least"),
        (("--heartbeat-interval", "400"), "suspicion (800 ms) at least"),
        (("--suspect-timeout", "700"), "suspicion (700 ms) at least"),
        (("--heartbeat-timeout", "nan"), "at least"),
        (("--largest-block", "3"), "not a power of two"),
    ],
)
def test_options_that_make_no_sense(tmp_path: Path, options: tuple[str, ...], says: str) -> None:
    nothing = str(tmp_path / "nothing")
    files = ("--rack", nothing, "--p4info", nothing, "--pipeline", nothing, "--db", str(tmp_path / "db"))
    refused = controller("run", *files, *options)
    assert refused.returncode == 1
    assert says in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
