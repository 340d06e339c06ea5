"""Memory changes hands, or its owner other rights to it: at the same addresses, with its contents.

The order (docs/architecture.md, docs/decisions/0025): durable intent; in one change of the switch access is withdrawn from the
old owner and then given to the new one; the page tables change in band, behind all that the old owner sent, acknowledged; only
then the new owner is told. Until its element knows it, that one refuses it. A change that has begun is always finished: an
element that fails meanwhile is told by its recovery (``controller.core.monitor``), before it serves again.
"""

from __future__ import annotations

from controller.core.answers import Refused, reply
from controller.core.draft import Draft
from controller.core.layout import arrived, holders, runs
from controller.core.memory import (
    Config,
    check_change,
    concerned,
    free_pieces,
    freed_meanwhile,
    owners,
    pieces_of,
    ready,
    set_pages,
)
from controller.core.notices import notify
from controller.core.operations import begin, finishes
from controller.core.records import replaced
from controller.core.state import Allocation, Liveness, Operation, Override, OverrideKind, Requester
from protocol import wire
from protocol.wire import NotifyCode, Perm, Status


def grant(
    draft: Draft,
    config: Config,
    to: Requester,
    va: int,
    pages: int,
    owner: int | None,
    recipient: int,
    permissions: int,
) -> None:
    """Plan that the owner (None: whoever it is) gives pages to another process. Raises Refused."""
    allocation, pieces, giver = _owned(draft, va, pages, owner, permissions)
    if recipient == giver:
        raise Refused(Status.BAD_REQUEST, "bad_request", f"process {recipient} has these pages already")
    if recipient not in draft.state.processes:
        raise Refused(Status.NO_SUCH_PROCESS, "no_such_process", f"there is no process {recipient}")
    _reassign(draft, config, "grant", to, allocation, pieces, giver, recipient, permissions)


def take(
    draft: Draft,
    config: Config,
    to: Requester,
    va: int,
    pages: int,
    thief: int,
    source: int,
    group: int,
    permissions: int,
) -> None:
    """Plan that a member of a group takes pages of another process (``controller.core.groups`` has seen to it that it is one).
    Raises Refused."""
    processes, allocations = draft.state.processes, draft.state.allocations.values()
    known = source in processes or any(source in holders(a) for a in allocations)  # it may have crashed
    for pid in (*(() if known else (source,)), *(() if thief in processes else (thief,))):
        raise Refused(Status.NO_SUCH_PROCESS, "no_such_process", f"there is no process {pid}")
    allocation, pieces, _ = _owned(draft, va, pages, source, permissions)
    if thief == source:
        raise Refused(Status.BAD_REQUEST, "bad_request", f"process {thief} has these pages already")
    if not allocation.may_be_stolen:
        text = f"the allocation at {allocation.va:#x} may not be stolen"
        raise Refused(Status.NOT_REASSIGNABLE, "not_reassignable", text)
    if allocation.group != group:
        text = f"the allocation at {allocation.va:#x} is of another group than {group}"
        raise Refused(Status.BAD_CAPABILITY, "bad_capability", text)
    _reassign(draft, config, "steal", to, allocation, pieces, source, thief, permissions)


def protect(
    draft: Draft, config: Config, to: Requester, va: int, pages: int, owner: int | None, permissions: int
) -> None:
    """Plan that pages get other permissions. Raises Refused."""
    allocation, pieces, keeper = _owned(draft, va, pages, owner, permissions)
    _reassign(draft, config, "protect", to, allocation, pieces, keeper, keeper, permissions)


def stat(draft: Draft, to: Requester, va: int) -> None:
    """Tell what is at an address, and how far on it is alike. Raises Refused."""
    allocation = ready(draft, va)
    piece = next(runs(allocation, va & -wire.PAGE_SIZE))
    if piece.kind is OverrideKind.FREED:
        raise Refused(Status.NOT_FOUND, "not_found", f"the page at {piece.va:#x} is freed")
    element = draft.state.elements[piece.element]
    permissions = piece.permissions if piece.kind in (OverrideKind.OWNED, OverrideKind.MIGRATING) else 0
    media = wire.Media[element.media.upper()]
    payload = wire.STAT_REPLY.pack(
        piece.pages, piece.generation, piece.pid, piece.element, allocation.group, permissions, media
    )
    told = {"pages": piece.pages, "generation": piece.generation, "owner": piece.pid, "kind": str(piece.kind)}
    told |= {"element": element.name, "media": element.media, "permissions": permissions, "group": allocation.group}
    reply(draft, to, Status.OK, payload, va=piece.va, **told)


def _owned(
    draft: Draft, va: int, pages: int, owner: int | None, permissions: int
) -> tuple[Allocation, list[Override], int]:
    """Pages of one owner, all of them accessible now."""
    if permissions not in (Perm.READ, Perm.WRITE, Perm.RW):
        raise Refused(Status.BAD_REQUEST, "bad_request", f"there are no permissions {permissions}")
    allocation = ready(draft, va)
    pieces = pieces_of(allocation, va, pages, OverrideKind.OWNED)
    holder = pieces[0].pid if owner is None else owner
    for piece in pieces:
        if piece.pid != holder:
            text = f"the page at {piece.va:#x} belongs to process {piece.pid}, not {holder}"
            raise Refused(Status.PERMISSION, "permission", text)
        element = draft.state.elements[piece.element]
        if element.liveness is not Liveness.ALIVE:
            text = f"the page at {piece.va:#x} is in {element.name}, which has failed"
            raise Refused(Status.ELEMENT_FAILED, "element_failed", text)
    return allocation, pieces, holder


def _reassign(
    draft: Draft,
    config: Config,
    kind: str,
    to: Requester,
    allocation: Allocation,
    pieces: list[Override],
    giver: int,
    recipient: int,
    permissions: int,
) -> None:
    """Have the switch let ``recipient`` pass instead of ``giver``, and then the elements. It hears of it when both do."""
    generation = draft.new_generation()
    rights = {"pid": recipient, "permissions": permissions, "generation": generation}
    moving = [replaced(p, kind=OverrideKind.MOVING, **rights) for p in pieces]
    check_change(draft, config, allocation, moving)
    draft.override(allocation, moving)
    begin(
        draft,
        kind,
        allocation.va,
        to,
        set_pages(draft, pieces, recipient, permissions, generation),
        pieces=pieces,
        generation=generation,
        pid=recipient,
        giver=giver,
        permissions=permissions,
    )


@finishes("grant")
@finishes("steal")
@finishes("protect")
def _finish(draft: Draft, operation: Operation) -> None:
    """Tell the new owner, and the old one unless it asked."""
    if freed_meanwhile(draft, operation):
        return
    allocation = draft.state.allocations[operation.va]
    pieces = [arrived(p, operation) for p in concerned(allocation, operation, OverrideKind.MOVING)]
    allocation = draft.override(allocation, pieces)
    start, pages, giver = operation.start, operation.pages, operation.giver
    if operation.kind == "grant":
        notify(draft, operation.pid, NotifyCode.GRANTED, giver, start, pages)
        if operation.requester.pid != giver:
            notify(draft, giver, NotifyCode.REVOKED, 0, start, pages)
    elif operation.kind == "steal":
        notify(draft, giver, NotifyCode.STOLEN, operation.pid, start, pages)
        if operation.requester.pid != operation.pid:
            notify(draft, operation.pid, NotifyCode.GRANTED, giver, start, pages)
    for code, elements in ((NotifyCode.ELEMENT_FAILED, operation.lost), (NotifyCode.MEMORY_LOST, operation.emptied)):
        for element in sorted(elements):
            for pid, va, count in owners(p for p in pieces if p.element == element):
                notify(draft, pid, code, element, va, count)
    kind = {"grant": "granted", "steal": "stolen", "protect": "protected"}[operation.kind]
    draft.publish(kind, pid=operation.pid, source=giver, va=start, pages=pages, permissions=operation.permissions)
    reply(draft, operation.requester, Status.OK, va=start, pages=pages, owner=operation.pid, source=giver)
    if operation.pid not in draft.state.processes:  # it ended after it was named: as if it had ended now
        free_pieces(draft, Requester(), allocation, pieces)
