"""API requests that are not waited for: carried out as any other, their outcome kept to be asked for."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from controller.core import events
from controller.core.events import ApiRequest
from controller.shell import RequestRefused, Shell

MOST_KEPT = 1024  # requests: those that are done are forgotten first


@dataclass(frozen=True)
class _Request:
    owner: str  # id of the token that it was made with
    future: Future[dict[str, Any]]


class Background:
    """Requests by number. They are the controller's of this moment: one that is started again finishes what was under way, but
    does not know who asked."""

    def __init__(self, shell: Shell):
        self._shell = shell
        self._lock = threading.Lock()
        self._requests: OrderedDict[int, _Request] = OrderedDict()

    def begin(self, make: Callable[[int], ApiRequest], owner: str) -> int:
        """Make a request in the name of a token; its number. Raises RequestRefused."""
        with self._lock:
            done = next((n for n, r in self._requests.items() if r.future.done()), None)
            if len(self._requests) >= MOST_KEPT:
                if done is None:
                    text = f"{MOST_KEPT} requests that nobody waits for are under way"
                    raise RequestRefused(events.ApiError("busy", text))
                del self._requests[done]
            number, future = self._shell.begin(make)
            self._requests[number] = _Request(owner, future)
        return number

    def outcome(self, number: int, owner: str | None) -> dict[str, Any]:
        """How far a request is: ``done``, and then ``result`` or ``error`` and ``message``. ``owner`` None: whoever's. Raises
        RequestRefused."""
        with self._lock:
            found = self._requests.get(number)
        if found is None or owner not in (None, found.owner):
            text = f"there is no request {number} that this controller knows of"
            raise RequestRefused(events.ApiError("not_found", text))
        told: dict[str, Any] = {"request": str(number), "done": found.future.done()}
        if found.future.done():
            error = found.future.exception()
            if error is None:
                told["result"] = found.future.result()
            else:
                told |= {
                    "error": error.code if isinstance(error, RequestRefused) else "internal",
                    "message": str(error),
                }
        return told
