"""The part of the northbound interface that is about its own tokens."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from controller.core import events
from controller.shell import RequestRefused, Shell
from controller.tokens import LONGEST_NAME, MOST_PIDS, Role, Token, TokenError, Tokens


class NewToken(BaseModel):
    """Make a token."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: str = Field(min_length=1, max_length=LONGEST_NAME, description="whose it is, for people")
    role: Role = Field(strict=False)
    pids: list[int] = Field(
        default=[], max_length=MOST_PIDS, description="the processes that it acts for (role process)"
    )
    seconds: float | None = Field(
        default=None, gt=0, le=10 * 365 * 86400, description="how long it lives; default: for ever"
    )


def token_routes(shell: Shell, tokens: Tokens) -> APIRouter:
    """The routes."""
    router = APIRouter()

    @router.get("/v1/tokens")
    def list_tokens() -> dict[str, Any]:
        """The tokens, without their secrets."""
        return {"tokens": [_told(token) for token in tokens.all()]}

    @router.post("/v1/tokens")
    def create(body: NewToken) -> dict[str, Any]:
        """Make a token. Its text is told this once."""
        living = shell.state.processes
        missing = [pid for pid in body.pids if pid not in living]
        if missing:
            raise RequestRefused(events.ApiError("no_such_process", f"there is no process {missing[0]}"))
        try:
            serials = {pid: living[pid].serial for pid in body.pids}
            token, text = tokens.create(body.name, body.role, serials, body.seconds)
        except TokenError as error:
            raise RequestRefused(events.ApiError("bad_request", str(error))) from None
        shell.log.add("token_created", {"token": token.id, "name": token.name, "role": str(token.role)})
        return _told(token) | {"token": text}

    @router.delete("/v1/tokens/{identity}")
    def revoke(identity: str) -> dict[str, Any]:
        """Revoke a token: its next request is refused."""
        try:
            token = tokens.revoke(identity)
        except TokenError as error:
            known = any(t.id == identity for t in tokens.all())
            raise RequestRefused(events.ApiError("bad_request" if known else "not_found", str(error))) from None
        shell.log.add("token_revoked", {"token": token.id, "name": token.name})
        return {"id": token.id}

    return router


def _told(token: Token) -> dict[str, Any]:
    told = {"id": token.id, "name": token.name, "role": str(token.role), "made": token.made, "expires": token.expires}
    return told | {"pids": sorted(token.processes)}
