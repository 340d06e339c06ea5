"""Who may do what: in front of every request of the API, before anything of its body is read.

A request without a good token is refused (401), one that its bearer's role may not make is (403), and so is one that is too long
(413). What the table does not name only an operator may do.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

from starlette.responses import JSONResponse
from starlette.routing import compile_path
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from controller.tokens import Role, Token, Tokens

log = logging.getLogger(__name__)
LONGEST_BODY = 65536  # bytes

_SEE = frozenset({Role.OBSERVER, Role.OPERATOR})
_ACT = frozenset({Role.PROCESS, Role.OPERATOR})
_ALL = frozenset(Role)
_OPERATE = frozenset({Role.OPERATOR})

# Method and path: who may. For the role process, docs/controller.md says what of it.
RULES: dict[tuple[str, str], frozenset[Role]] = {
    ("GET", "/v1/status"): _ALL,
    ("GET", "/v1/elements"): _ALL,
    ("GET", "/openapi.json"): _ALL,
    ("GET", "/v1/processes"): _ALL,
    ("GET", "/v1/stat"): _ALL,
    ("GET", "/v1/map"): _SEE,
    ("GET", "/v1/counters"): _SEE,
    ("GET", "/v1/events"): _SEE,
    ("GET", "/v1/events/follow"): _SEE,
    ("GET", "/metrics"): _SEE,
    ("GET", "/v1/groups"): _SEE,
    ("GET", "/v1/addresses"): _SEE,
    ("GET", "/v1/monitor"): _SEE,
    ("GET", "/v1/poison"): _SEE,
    ("GET", "/v1/watches"): _SEE,
    ("GET", "/v1/operations"): _SEE,
    ("GET", "/v1/requests/{number}"): _ACT,
    ("POST", "/v1/alloc"): _ACT,
    ("POST", "/v1/free"): _ACT,
    ("POST", "/v1/grant"): _ACT,
    ("POST", "/v1/protect"): _ACT,
    ("POST", "/v1/steal"): _ACT,
    ("POST", "/v1/revoke"): _OPERATE,
    ("POST", "/v1/migrate"): _OPERATE,
    ("POST", "/v1/drain"): _OPERATE,
    ("POST", "/v1/groups"): _OPERATE,
    ("POST", "/v1/redirect"): _OPERATE,
    ("POST", "/v1/fence"): _OPERATE,
    ("POST", "/v1/unfence"): _OPERATE,
    ("POST", "/v1/monitor"): _OPERATE,
    ("POST", "/v1/poison"): _OPERATE,
    ("POST", "/v1/watches"): _OPERATE,
    ("DELETE", "/v1/addresses/{address}"): _OPERATE,
    ("DELETE", "/v1/watches/{number}"): _OPERATE,
    ("GET", "/v1/tokens"): _OPERATE,
    ("POST", "/v1/tokens"): _OPERATE,
    ("DELETE", "/v1/tokens/{identity}"): _OPERATE,
}


class Guard:
    """ASGI middleware. The token of a request that passes is in its ``state`` as ``bearer``."""

    def __init__(
        self,
        app: ASGIApp,
        tokens: Tokens,
        rules: Mapping[tuple[str, str], frozenset[Role]] = RULES,
    ):
        self.app, self.tokens, self.rules = app, tokens, rules
        self._patterns = {path: compile_path(path)[0] for _, path in rules}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return
        bearer = self.tokens.find(_token_of(scope))
        if bearer is None:
            text = "a good token is needed: Authorization: Bearer rack.ID.SECRET"
            await _refuse(401, "unauthorised", text)(scope, receive, send)
            return
        method = scope["method"]
        path = self._path_of(scope["path"])
        allowed = self.rules.get((method, path), _OPERATE)
        if bearer.role not in allowed:
            text = f"the role {bearer.role} may not {method} {path}; that takes {' or '.join(sorted(allowed))}"
            await _refuse(403, "forbidden", text)(scope, receive, send)
            return
        if method != "GET":
            log.info("%s (%s): %s %s", bearer.name, bearer.role, method, path)
        scope.setdefault("state", {})["bearer"] = bearer
        body = await _body(receive)
        if body is None:
            text = f"the body is longer than {LONGEST_BODY} bytes"
            await _refuse(413, "too_large", text)(scope, receive, send)
            return
        given = iter(body)

        async def again() -> Message:
            """The body that was read, and then what comes after it."""
            return next(given, None) or await receive()

        await self.app(scope, again, send)

    def _path_of(self, asked: str) -> str:
        """The path as the table has it; what the table does not have is as it was asked for."""
        return next((path for path, pattern in self._patterns.items() if pattern.match(asked)), asked)


def _refuse(status: int, code: str, text: str) -> JSONResponse:
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else None
    return JSONResponse({"error": code, "message": text}, status, headers=headers)


def _token_of(scope: Scope) -> str:
    given = [value for name, value in scope["headers"] if name == b"authorization"]
    if len(given) != 1:
        return ""
    scheme, _, text = given[0].decode("latin-1").partition(" ")
    return text.strip() if scheme.lower() == "bearer" else ""


async def _body(receive: Receive) -> list[Message] | None:
    """The messages of the body; None when it is too long."""
    messages: list[Message] = []
    size = 0
    while True:
        message = await receive()
        messages.append(message)
        size += len(message.get("body", b""))
        if size > LONGEST_BODY:
            return None
        if message["type"] != "http.request" or not message.get("more_body"):
            return messages


def bearer_of(scope: Mapping[str, object]) -> Token:
    """Who makes a request that the guard has let through."""
    state = scope["state"]
    assert isinstance(state, dict)
    found = state["bearer"]
    assert isinstance(found, Token)
    return found
