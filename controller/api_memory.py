"""The part of the northbound interface that is about memory: who gets it, who has it, and how it changes hands."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from controller.background import Background
from controller.core import events
from controller.core.events import ApiRequest
from controller.core.placement import POLICIES, Wish
from controller.guard import bearer_of
from controller.shell import RequestRefused, Shell
from controller.tokens import Role
from protocol import capability
from protocol.wire import GROUP_SHIFT, MAX_GROUP, NAME_BYTES, AllocFlag, Perm

SHORT = 20.0  # seconds that an operation which copies nothing is waited for


class Body(BaseModel):
    """What all bodies have in common: nothing unknown is in them, and nothing is taken for what it is not."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Alloc(Body):
    """Allocate memory for a process."""

    pid: int = Field(ge=1, le=0xFFFF)
    size: int = Field(ge=1, le=1 << 48, description="bytes; rounded up to pages")
    permissions: int = Field(default=int(Perm.RW), ge=1, le=3, description="1 read, 2 write, 3 both")
    media: Literal["any", "dram", "nvm"] = "any"
    group: int = Field(default=0, ge=0, le=MAX_GROUP, description="whose members may steal it; 0: nobody's")
    reassignable: bool = Field(default=True, description="false: it cannot be stolen")
    cached: bool = Field(default=False, description="true: the switch keeps no translations of it")
    element: str = Field(default="", max_length=NAME_BYTES, description="the memory element where it wishes to be")
    near: int = Field(
        default=0, ge=0, lt=1 << 64, description="an address that it wishes to be in the same element with"
    )
    strict: bool = Field(default=False, description="there or nowhere")
    placement: str = Field(
        default="", max_length=32, description=f"{', '.join(sorted(POLICIES))}; empty: the controller's"
    )

    def flags(self) -> int:
        """As in the protocol."""
        flags = {"any": AllocFlag(0), "dram": AllocFlag.DRAM, "nvm": AllocFlag.NVM}[self.media]
        flags |= AllocFlag(0) if self.reassignable else AllocFlag.NOT_REASSIGNABLE
        flags |= AllocFlag.CACHED if self.cached else AllocFlag(0)
        return int(flags) | self.group << GROUP_SHIFT


class Waited(Body):
    """What may be waited for, or not."""

    wait: bool = Field(default=True, description="false: 202 at once; GET /v1/requests/N tells what becomes of it")


class Free(Waited):
    """Free memory."""

    va: int = Field(ge=0, lt=1 << 64)
    size: int | None = Field(
        default=None, ge=1, le=1 << 48, description="bytes; without it, the whole allocation that begins at va"
    )


class Revoke(Waited):
    """Take pages away from their owner."""

    va: int = Field(ge=0, lt=1 << 64)
    pages: int = Field(default=1, ge=1, le=1 << 36)


class Grant(Waited):
    """Give pages of one process to another."""

    va: int = Field(ge=0, lt=1 << 64)
    pages: int = Field(default=1, ge=1, le=1 << 36)
    to: int = Field(ge=1, le=0xFFFF, description="the pid that gets them")
    permissions: int = Field(default=int(Perm.RW), ge=1, le=3)


class Protect(Waited):
    """Change permissions."""

    va: int = Field(ge=0, lt=1 << 64)
    pages: int = Field(default=1, ge=1, le=1 << 36)
    permissions: int = Field(ge=1, le=3)


class Steal(Waited):
    """Take pages of one process for another, by a capability of their group."""

    va: int = Field(ge=0, lt=1 << 64)
    pages: int = Field(default=1, ge=1, le=1 << 36)
    source: int = Field(ge=1, le=0xFFFF, description="the pid that loses them")
    to: int = Field(ge=1, le=0xFFFF, description="the pid that gets them")
    group: int = Field(ge=1, le=MAX_GROUP)
    capability: str = Field(max_length=2048, pattern=r"^([0-9a-fA-F]{2})+$", description="a packed capability, in hex")
    permissions: int = Field(default=int(Perm.RW), ge=1, le=3)


class NewGroup(Body):
    """Make a group."""

    name: str = Field(min_length=1, max_length=64)
    needed: int = Field(default=0, ge=0, le=32, description="so many of `total` shares open it; 0: tokens only")
    total: int = Field(default=0, ge=0, le=32)


def acting(shell: Shell, request: Request) -> frozenset[int] | None:
    """The processes that a request is made for; None if it is not made for any."""
    bearer = bearer_of(request.scope)
    if bearer.role is not Role.PROCESS:
        return None
    living = shell.state.processes
    return bearer.acts_for(lambda pid: living[pid].serial if pid in living else None)


def check_acting(shell: Shell, request: Request, pid: int) -> None:
    """Refuse what is not in the name of a process that the request is made for."""
    pids = acting(shell, request)
    if pids is not None and pid not in pids:
        raise RequestRefused(events.ApiError("forbidden", f"this token does not act for process {pid}"))


class Carrier:
    """Carries out requests that may be waited for."""

    def __init__(self, shell: Shell):
        self.shell = shell
        self.background = Background(shell)

    async def __call__(
        self,
        body: Waited,
        request: Request,
        response: Response,
        make: Callable[[int], ApiRequest],
        patience: float = SHORT,
    ) -> dict[str, Any]:
        """Its result; where it is not waited for, its number, and 202. ``patience`` is in seconds. Raises RequestRefused,
        TimeoutError."""
        if body.wait:
            return await self.shell.ask(make, patience)
        response.status_code = 202
        number = self.background.begin(make, bearer_of(request.scope).id)
        return {"request": str(number), "done": False}


def memory_routes(shell: Shell, carry_out: Carrier) -> APIRouter:
    """The routes."""
    router = APIRouter()

    @router.post("/v1/alloc")
    async def alloc(body: Alloc, request: Request) -> dict[str, Any]:
        """Allocate memory for a process."""
        check_acting(shell, request, body.pid)
        wish = Wish(body.placement, body.element, body.near, body.strict)
        given = (body.pid, body.size, body.permissions, body.flags(), wish)
        return await shell.ask(lambda token: events.AllocRequest(token, *given))

    @router.post("/v1/free")
    async def free(body: Free, request: Request, response: Response) -> dict[str, Any]:
        """Free an allocation, or whole pages of one."""
        own, size = acting(shell, request), body.size or 0
        return await carry_out(
            body, request, response, lambda token: events.FreeRequest(token, body.va, size, acting=own)
        )

    @router.post("/v1/revoke")
    async def revoke(body: Revoke, request: Request, response: Response) -> dict[str, Any]:
        """Take pages away from their owner; when this returns, no write of the owner can take effect any more."""
        return await carry_out(body, request, response, lambda token: events.RevokeRequest(token, body.va, body.pages))

    @router.post("/v1/grant")
    async def grant(body: Grant, request: Request, response: Response) -> dict[str, Any]:
        """Give pages of one process to another, at the same addresses and with their contents; when this returns, the first
        cannot access them any more."""
        own, given = acting(shell, request), (body.va, body.pages, body.to, body.permissions)
        return await carry_out(body, request, response, lambda token: events.GrantRequest(token, *given, acting=own))

    @router.post("/v1/steal")
    async def steal(body: Steal, request: Request, response: Response) -> dict[str, Any]:
        """Take pages of one process for another; when this returns, the first cannot access them any more."""
        check_acting(shell, request, body.to)
        given, wall = bytes.fromhex(body.capability), time.time()
        rest = (body.group, given, body.permissions, wall)
        return await carry_out(
            body,
            request,
            response,
            lambda token: events.StealRequest(token, body.va, body.pages, body.to, body.source, *rest),
        )

    @router.get("/v1/groups")
    def list_groups() -> dict[str, Any]:
        """The groups, without their secrets."""
        found = sorted(shell.state.groups.values(), key=lambda g: g.id)
        return {"groups": [{"id": g.id, "name": g.name, "needed": g.needed, "total": g.total} for g in found]}

    @router.post("/v1/groups")
    def create_group(body: NewGroup) -> dict[str, Any]:
        """Make a group. Its secret, or the shares of it, are told this once."""
        secret = capability.new_secret()
        made = shell.request(lambda token: events.GroupRequest(token, body.name, secret, body.needed, body.total))
        if body.total:
            return made | {"shares": [str(share) for share in capability.split(secret, body.needed, body.total)]}
        return made | {"secret": secret.hex()}

    @router.post("/v1/protect")
    async def protect(body: Protect, request: Request, response: Response) -> dict[str, Any]:
        """Change what the owner of pages may do with them."""
        own, given = acting(shell, request), (body.va, body.pages, body.permissions)
        return await carry_out(body, request, response, lambda token: events.ProtectRequest(token, *given, acting=own))

    @router.get("/v1/stat")
    async def stat(va: Annotated[int, Query(ge=0, lt=1 << 64)], request: Request) -> dict[str, Any]:
        """What is at an address, and how far on it is alike."""
        own = acting(shell, request)
        return await shell.ask(lambda token: events.StatRequest(token, va, acting=own))

    @router.get("/v1/requests/{number}")
    def outcome(number: int, request: Request) -> dict[str, Any]:
        """What has become of a request that was not waited for; to be asked with the token that it was made with, or an
        operator's."""
        bearer = bearer_of(request.scope)
        return carry_out.background.outcome(number, None if bearer.role is Role.OPERATOR else bearer.id)

    @router.get("/v1/operations")
    def operations() -> dict[str, Any]:
        """What is under way, and how far: ``moved`` of ``pages`` for a migration; ``waiting`` for so many acknowledgements."""
        found = sorted(shell.state.operations.values(), key=lambda o: o.id)
        return {
            "operations": [
                {
                    "kind": o.kind,
                    "va": o.asked[0] or o.start or o.va,
                    "pages": o.asked[1] or o.pages,
                    "moved": o.moved,
                    "waiting": len(o.waiting),
                }
                for o in found
            ]
        }

    return router
