"""The part of the northbound interface that is about the rack monitor: thresholds, fences, standbys."""

from __future__ import annotations

import dataclasses
from typing import Any

from fastapi import APIRouter
from pydantic import Field, model_validator

from controller.api_memory import Body
from controller.core import events, monitor
from controller.core.state import Element, Thresholds
from controller.shell import RequestRefused, Shell
from protocol.wire import MAX_GROUP, NAME_BYTES, PAGE_SIZE


class ElementName(Body):
    """An element by its name."""

    element: str = Field(max_length=64)


class NewThresholds(Body):
    """Thresholds of the rack monitor in milliseconds; what is left out stays."""

    heartbeat_ms: float | None = Field(
        default=None, allow_inf_nan=False, description="between signs of life of an element"
    )
    suspect_ms: float | None = Field(default=None, allow_inf_nan=False, description="silence that is reported")
    fail_ms: float | None = Field(
        default=None, description="silence that is taken for death, and made certain by fencing"
    )


class Poison(Body):
    """Pages: at an address of an allocation, or at a physical address of a memory element."""

    va: int | None = Field(default=None, ge=0, lt=1 << 64)
    element: str | None = Field(default=None, max_length=NAME_BYTES)
    pa: int | None = Field(default=None, ge=0, lt=1 << 64, description="with an element: a physical address")
    pages: int = Field(default=1, ge=1, le=1 << 36)
    bad: bool = Field(default=True, description="false: they are good again")

    @model_validator(mode="after")
    def _one_place(self) -> Poison:
        if (self.va is None) == (self.element is None) or (self.element is None) != (self.pa is None):
            raise ValueError("either va, or element and pa")
        return self


class NewWatch(Body):
    """Have a process told when another one is cut off for good."""

    pid: int = Field(ge=1, le=0xFFFF, description="who is told")
    group: int = Field(ge=1, le=MAX_GROUP)
    source: int = Field(default=0, ge=0, le=0xFFFF, description="whom to watch; 0: everyone with memory of the group")


def monitor_routes(shell: Shell) -> APIRouter:
    """The routes."""
    router = APIRouter()

    @router.post("/v1/fence")
    def fence(body: ElementName) -> dict[str, Any]:
        """Fence an element off. When this returns, nothing it does has an effect on memory or reaches other racks."""
        return _fence(shell, body.element, True)

    @router.post("/v1/unfence")
    def unfence(body: ElementName) -> dict[str, Any]:
        """Let a fenced element in again."""
        return _fence(shell, body.element, False)

    @router.get("/v1/monitor")
    def thresholds() -> dict[str, Any]:
        """The thresholds of the rack monitor, and who is suspected."""
        state = shell.state
        suspected = sorted(state.elements[e].name for e in state.suspected)
        return _in_ms(monitor.thresholds(state, shell.config)) | {"suspected": suspected}

    @router.post("/v1/monitor")
    def adjust(body: NewThresholds) -> dict[str, Any]:
        """Adjust thresholds. They hold at once and are kept; elements learn of another period with their next heartbeat."""
        given = (body.heartbeat_ms, body.suspect_ms, body.fail_ms)
        wanted = [None if ms is None else ms / 1000 for ms in given]
        return _in_ms(Thresholds(**shell.request(lambda token: events.ThresholdsRequest(token, *wanted))))

    @router.get("/v1/poison")
    def bad_pages() -> dict[str, Any]:
        """The bad pages."""
        state = shell.state
        places = [(state.elements[b.element].name, *p) for b in state.bad.values() for p in b.pages]
        return {"bad": [{"element": e, "pa": first * PAGE_SIZE, "pages": n} for e, first, n in sorted(places)]}

    @router.post("/v1/poison")
    def poison(body: Poison) -> dict[str, Any]:
        """Mark pages as bad: every access to them is refused from now on (PAGE_FAILED), and who frees them does not make them
        free. Or heal them."""
        if body.element is not None and body.pa is not None:
            place: int | tuple[int, int] = (_find(shell, body.element).id, body.pa)
        else:
            place = body.va or 0
        return shell.request(lambda token: events.PoisonRequest(token, place, body.pages, body.bad))

    @router.get("/v1/watches")
    def watches() -> dict[str, Any]:
        """Who stands by for whom."""
        found = sorted(shell.state.watches.values(), key=lambda w: w.id)
        return {"watches": [{"watch": w.id, "pid": w.pid, "source": w.source, "group": w.group} for w in found]}

    @router.post("/v1/watches")
    def watch(body: NewWatch) -> dict[str, Any]:
        """Have a process stand by: it is told (NOTIFY TAKEOVER) when the other one has crashed, or its element is fenced."""
        made = shell.request(lambda token: events.WatchRequest(token, body.pid, body.source, body.group))
        return {name: made[name] for name in ("watch", "pid", "source", "group")}

    @router.delete("/v1/watches/{number}")
    def unwatch(number: int) -> dict[str, Any]:
        """Forget a watch."""
        shell.request(lambda token: events.UnwatchRequest(token, number))
        return {"watch": number}

    return router


def _in_ms(found: Thresholds) -> dict[str, Any]:
    values = {name: round(seconds * 1000, 3) for name, seconds in dataclasses.asdict(found).items()}
    return {"heartbeat_ms": values["interval"], "suspect_ms": values["suspect"], "fail_ms": values["fail"]}


def _find(shell: Shell, name: str) -> Element:
    element = next((e for e in shell.state.elements.values() if e.name == name), None)
    if element is None:
        names = ", ".join(e.name for e in shell.state.elements.values())
        raise RequestRefused(events.ApiError("not_found", f"there is no element {name!r}; there are {names}"))
    return element


def _fence(shell: Shell, name: str, fenced: bool) -> dict[str, Any]:
    element = _find(shell, name)
    return shell.request(lambda token: events.FenceRequest(token, element.id, fenced))
