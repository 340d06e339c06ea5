"""Where a process's page is, for compute elements that cache translations."""

from __future__ import annotations

from controller.core.answers import Refused, reply
from controller.core.draft import Draft
from controller.core.layout import runs, segments_in
from controller.core.memory import ready
from controller.core.state import OverrideKind, Requester
from protocol import wire
from protocol.wire import Status

_REFUSALS = {
    OverrideKind.MOVING: (Status.BUSY, "busy"),
    OverrideKind.MIGRATING: (Status.BUSY, "busy"),
    OverrideKind.REVOKED: (Status.PERMISSION, "permission"),
    OverrideKind.FREEING: (Status.NOT_FOUND, "not_found"),
    OverrideKind.FREED: (Status.NOT_FOUND, "not_found"),
    OverrideKind.LOST: (Status.MEMORY_LOST, "memory_lost"),
}


def translate(draft: Draft, to: Requester, va: int) -> None:
    """Tell the owner of a page where it is and in which generation of its mapping, and how far around it that goes. Raises
    Refused."""
    allocation = ready(draft, va)
    (segment,) = segments_in(allocation, va, va + 1)
    piece = next(p for p in runs(allocation, segment.va, segment.pages) if va < p.end)
    if piece.pid != to.pid:
        raise Refused(Status.PERMISSION, "permission", f"the page at {piece.va:#x} is not of process {to.pid}")
    if piece.kind is not OverrideKind.OWNED:
        raise Refused(*_REFUSALS[piece.kind], f"the page at {piece.va:#x} is {piece.kind}")
    payload = wire.TRANSLATE_REPLY.pack(piece.pages, piece.pa, piece.generation, piece.element, piece.permissions)
    reply(draft, to, Status.OK, payload, va=piece.va)
