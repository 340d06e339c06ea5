"""``rackctl`` in the process of the tests, which costs no start of Python."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
from unittest import mock

from controller import rackctl as program


def attempt(*arguments: str, token: str = "") -> subprocess.CompletedProcess[str]:
    """What the command would have ended with and printed."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.ExitStack() as changed:
        changed.enter_context(mock.patch.object(sys, "argv", ["rackctl", *arguments]))
        changed.enter_context(mock.patch.dict(os.environ, {"RACKCTL_TOKEN": token}))
        changed.enter_context(contextlib.redirect_stdout(out))
        changed.enter_context(contextlib.redirect_stderr(err))
        try:
            status = program.main()
        except SystemExit as end:
            status = int(end.code or 0)
    return subprocess.CompletedProcess(arguments, status, out.getvalue(), err.getvalue())


def rackctl(*arguments: str, token: str = "") -> str:
    """What a command printed that must not fail."""
    done = attempt(*arguments, token=token)
    assert done.returncode == 0, done.stderr
    return str(done.stdout)
