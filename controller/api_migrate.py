"""The part of the northbound interface that moves pages between memory elements."""

from __future__ import annotations

from functools import partial
from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import Field

from controller.api_memory import SHORT, Body, Carrier, Waited
from controller.core import events, migrate
from controller.shell import RequestRefused, Shell

PAGES_A_SECOND = 200  # slower migrations are not waited for


class Migrate(Waited):
    """Pages, and the memory element that gets them; without ``target`` the controller chooses one."""

    va: int = Field(ge=0, lt=1 << 64)
    pages: int = Field(default=1, ge=1, le=1 << 36)
    target: str = Field(default="", max_length=64)


class Drain(Body):
    """A memory element by its name."""

    element: str = Field(max_length=64)


def migrate_routes(shell: Shell, carry_out: Carrier) -> APIRouter:
    """The routes."""
    router = APIRouter()

    @router.post("/v1/migrate")
    async def move(body: Migrate, request: Request, response: Response) -> dict[str, Any]:
        """Move pages to another memory element while their owner goes on. ``pages`` of the answer are those that moved: the
        others were there already, or somebody freed or reassigned them meanwhile."""
        target = _element(shell, body.target) if body.target else None
        make = partial(_asked, body.va, body.pages, target)
        return await carry_out(body, request, response, make, _patience(body.pages))

    @router.post("/v1/drain")
    def drain(body: Drain) -> dict[str, Any]:
        """Move everything that a memory element holds to others of its kind, as the placement policy chooses. What is allocated
        there meanwhile stays (``left``, in pages)."""
        element = _element(shell, body.element)
        moved = 0
        for allocation in sorted(shell.state.allocations.values(), key=lambda a: a.va):
            for va, pages in migrate.held_by(allocation, element):
                moved += shell.request(partial(_asked, va, pages, None), _patience(pages))["pages"]
        left = sum(n for a in shell.state.allocations.values() for _, n in migrate.held_by(a, element))
        return {"element": body.element, "pages": moved, "left": left}

    return router


def _asked(va: int, pages: int, target: int | None, token: int) -> events.MigrateRequest:
    return events.MigrateRequest(token, va, pages, target)


def _patience(pages: int) -> float:
    return SHORT + pages / PAGES_A_SECOND


def _element(shell: Shell, name: str) -> int:
    known = {e.name: e.id for e in shell.state.elements.values() if e.kind == "memory"}
    if name not in known:
        raise RequestRefused(
            events.ApiError("not_found", f"there is no memory element {name!r}; there are {', '.join(known)}")
        )
    return known[name]
