"""The operator's token of a running rack: made by its launcher, left where ``rackctl`` finds it."""

from __future__ import annotations

import os
from pathlib import Path

from controller.tokens import OPERATOR_TOKEN, Role, Tokens, write_private

NAME = "launcher"


def make(tokens_file: Path, run: Path) -> str:
    """Make a token for the launcher in the controller's file of tokens, in place of that of an earlier launcher, and leave it in
    the rack's run directory for whoever called sudo, or this user. Raises TokenError, OSError."""
    tokens = Tokens(tokens_file)
    earlier = [token.id for token in tokens.all() if token.name == NAME]
    _, text = tokens.create(NAME, Role.OPERATOR)
    for token in earlier:
        tokens.revoke(token)
    caller = os.environ.get("SUDO_UID", "")
    write_private(run / OPERATOR_TOKEN, text.encode() + b"\n", int(caller) if caller.isdigit() else -1)
    return text
