"""Allocating, freeing and revoking memory.

Order of every change (docs/architecture.md): durable intent; withdraw access at the switch; page tables in band,
acknowledged; give access at the switch (where pages change hands, with the withdrawal); tell who asked. A step plans up to the
next acknowledgement; the function that
finishes the operation (``controller.core.operations``) goes on from there.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass, field

from controller.core.allocator import align_va, place
from controller.core.answers import Refused, reply
from controller.core.blocks import Extents, cut_out, give_back
from controller.core.draft import Draft
from controller.core.layout import GONE, changed, holders, joined, overridden, rules, runs, without
from controller.core.notices import notify
from controller.core.operations import begin, finishes, is_reachable, send
from controller.core.placement import LOCALITY, NO_WISH, POLICIES, Wish, tiers
from controller.core.state import (
    Allocation,
    AllocationStatus,
    Liveness,
    Operation,
    Override,
    OverrideKind,
    Place,
    Requester,
    State,
    Thresholds,
)
from protocol import wire
from protocol.wire import GROUP_SHIFT, MAX_GENERATION, PAGE_SIZE, PID_SHIFT, AllocFlag, NotifyCode, Op, Perm, Status

MEDIA = AllocFlag.DRAM | AllocFlag.NVM
MEDIA_OF = {0: ("dram", "nvm"), int(AllocFlag.DRAM): ("dram",), int(AllocFlag.NVM): ("nvm",)}  # by those flags
_KNOWN = int(MEDIA | AllocFlag.NOT_REASSIGNABLE | AllocFlag.CACHED)  # ~ of an IntFlag is only what else has a name
_UNDER_WAY = (OverrideKind.MOVING, OverrideKind.MIGRATING, OverrideKind.FREEING)
_FREEABLE = (OverrideKind.OWNED, OverrideKind.REVOKED, OverrideKind.LOST)
SPARE_GENERATIONS = 1 << 20  # kept back from requests: processes end and elements recover without asking


@dataclass(frozen=True)
class Config:
    """Policy. ``largest_block`` bounds a segment (pages, a power of two), ``table_size`` is that of the switch's `translation`
    and `protection` (entries). ``thresholds`` hold until others are set at run time."""

    placement: str = "best-fit"
    largest_block: int = 1 << 18
    table_size: int = 1 << 16
    thresholds: Thresholds = field(default_factory=Thresholds)


# ----------------------------------------------------------------------------------------------------------- allocating


def alloc(
    draft: Draft,
    config: Config,
    to: Requester,
    pid: int,
    size: int,
    permissions: int,
    flags: int = 0,
    wish: Wish = NO_WISH,
) -> None:
    """Plan an allocation. Raises Refused."""
    process = draft.state.processes.get(pid)
    if process is None:
        raise Refused(Status.NOT_FOUND, "not_found", f"there is no process {pid}")
    if not 0 < size <= 1 << PID_SHIFT or permissions not in (Perm.READ, Perm.WRITE, Perm.RW):
        asked = f"{size} bytes (1 to 2^{PID_SHIFT}) with permissions {permissions} (1: read, 2: write, 3: both)"
        raise Refused(Status.BAD_REQUEST, "bad_request", f"cannot allocate {asked}")
    media = MEDIA_OF.get(flags & MEDIA)
    if media is None or flags & ((1 << GROUP_SHIFT) - 1) & ~_KNOWN:
        raise Refused(Status.BAD_REQUEST, "bad_request", f"flags {flags:#x} make no sense")
    group = flags >> GROUP_SHIFT
    if group and group not in draft.state.groups:
        raise Refused(Status.NOT_FOUND, "not_found", f"there is no group {group}")
    pages = -(-size // PAGE_SIZE)
    va = align_va(process.next_va, pages)
    usable = {
        e.id: draft.state.free.get(e.id, ())
        for e in draft.state.elements.values()
        if e.kind == "memory" and e.media in media and e.liveness is Liveness.ALIVE and not e.fenced
    }
    generation = draft.new_generation()
    owned = pid, permissions, generation
    policy = wish.policy or config.placement
    if policy not in POLICIES:
        text = f"there is no placement policy {policy!r}; there are {', '.join(sorted(POLICIES))}"
        raise Refused(Status.BAD_REQUEST, "bad_request", text)
    wished = _wished(draft.state, wish)
    kin = _kin(draft.state, pid, group) if policy == LOCALITY else {}
    found = [[wished] if wished in usable else []] if wish.strict else tiers(usable, wished, kin)
    placed = place(va, pages, usable, POLICIES[policy], config.largest_block, owned, found)
    if placed is None or (va + pages * PAGE_SIZE - 1) >> PID_SHIFT != pid:
        free = sum(n for tier in found for e in tier if e is not None for _, n in usable[e]) * PAGE_SIZE
        raise Refused(Status.OUT_OF_MEMORY, "out_of_memory", f"{size} bytes asked for, {free} free where it may be")
    segments, left = placed
    check_room(draft, config, len(segments))
    for element, extents in left.items():
        draft.set_free(element, extents)
    draft.put("processes", pid, dataclasses.replace(process, next_va=va + pages * PAGE_SIZE))
    allocation = Allocation(va, pages, pid, AllocationStatus.PREPARING, segments, flags=flags)
    draft.put("allocations", va, allocation)
    begin(draft, "alloc", va, to, set_pages(draft, runs(allocation), pid, permissions, generation, zero=True))


def _wished(state: State, wish: Wish) -> int | None:
    """The element that a wish names, or that of the address it names; None if it names none. Raises Refused."""
    if wish.element and wish.near:
        raise Refused(Status.BAD_REQUEST, "bad_request", "a wish names an element or an address, not both")
    if wish.strict and not (wish.element or wish.near):
        raise Refused(Status.BAD_REQUEST, "bad_request", "a strict wish names an element or an address")
    if wish.element:
        named = {e.name: e.id for e in state.elements.values() if e.kind == "memory"}
        if wish.element not in named:
            text = f"there is no memory element {wish.element!r}; there are {', '.join(named)}"
            raise Refused(Status.NOT_FOUND, "not_found", text)
        return named[wish.element]
    if wish.near:
        allocation = state.allocation_at(wish.near)
        if allocation is None:
            raise Refused(Status.NOT_FOUND, "not_found", f"nothing is allocated at {wish.near:#x} to be near to")
        return next(runs(allocation, wish.near & -PAGE_SIZE)).element
    return None


def _kin(state: State, pid: int, group: int) -> dict[int, int]:
    """Where memory of the same group is, or of the same process for memory of no group: pages by element."""
    found: dict[int, int] = {}
    for allocation in state.allocations.values():
        if allocation.group == group and (group or allocation.pid == pid):
            for segment in allocation.segments:
                found[segment.element] = found.get(segment.element, 0) + segment.pages
    return found


def check_room(draft: Draft, config: Config, more: int) -> None:
    """Refused, unless the switch has room for so many entries more, and there are generations left."""
    # Some room is left: while a change is carried out, the switch holds some entries of before and after.
    room = config.table_size - config.table_size // 64
    if draft.state.rules + more > room:
        used = f"{draft.state.rules} are in use, {more} more are needed"
        text = f"the switch's tables have room for {room} entries; {used}"
        raise Refused(Status.OUT_OF_MEMORY, "out_of_memory", text)
    if draft.state.counters.next_generation > MAX_GENERATION - SPARE_GENERATIONS:
        text = f"all {MAX_GENERATION} generations have been used: free everything, and start with a new store"
        raise Refused(Status.OUT_OF_MEMORY, "out_of_memory", text)


def check_change(draft: Draft, config: Config, allocation: Allocation, pieces: Iterable[Override]) -> None:
    """Refused, unless the switch has room for the allocation with these pieces as they are to be."""
    check_room(draft, config, rules(overridden(allocation, pieces).allocation) - rules(allocation))


def set_pages(
    draft: Draft, pieces: Iterable[Override], pid: int, permissions: int, generation: int, zero: bool = False
) -> list[int]:
    """Have the elements give pages to a process; the messages to wait for."""
    same = (dataclasses.replace(p, pid=pid, permissions=permissions, generation=generation) for p in pieces)
    return [
        send(draft, Op.PT_SET, p.element, p.va, p.pa, p.pages, generation, pid, permissions, zero)
        for p in joined(same)
        if is_reachable(draft.state, p.element)
    ]


def clear_pages(draft: Draft, pieces: Iterable[Override], generation: int, zero: bool) -> list[int]:
    """Have the elements take pages from whoever has them; the messages to wait for."""
    same = (dataclasses.replace(p, pid=0, permissions=0, generation=generation) for p in pieces)
    return [
        send(draft, Op.PT_CLEAR, p.element, p.va, p.pa, p.pages, generation, zero=zero)
        for p in joined(same)
        if is_reachable(draft.state, p.element)
    ]


# -------------------------------------------------------------------------------------------------- freeing and revoking


def ready(draft: Draft, va: int) -> Allocation:
    """The allocation at an address, or Refused when there is none or it is not ready."""
    allocation = draft.state.allocation_at(va)
    if allocation is None:
        raise Refused(Status.NOT_FOUND, "not_found", f"nothing is allocated at {va:#x}")
    if allocation.status is not AllocationStatus.READY:
        raise Refused(Status.BUSY, "busy", f"the allocation at {allocation.va:#x} is {allocation.status}")
    return allocation


def pieces_of(allocation: Allocation, va: int, pages: int, *kinds: OverrideKind) -> list[Override]:
    """A range of whole pages of the allocation, all of these kinds; Refused otherwise."""
    if va % PAGE_SIZE or pages < 1 or va < allocation.va or va + pages * PAGE_SIZE > allocation.end:
        raise Refused(
            Status.BAD_REQUEST,
            "bad_request",
            f"{pages} pages at {va:#x} are not whole pages of the allocation {allocation.va:#x} to {allocation.end:#x}",
        )
    pieces = list(runs(allocation, va, pages))
    for piece in pieces:
        if piece.kind not in kinds:
            text = f"the page at {piece.va:#x} is {piece.kind}"
            if piece.kind in _UNDER_WAY:
                raise Refused(Status.BUSY, "busy", text)
            if piece.kind is OverrideKind.LOST:
                raise Refused(Status.MEMORY_LOST, "memory_lost", f"{text}: its element restarted without contents")
            raise Refused(Status.NOT_FOUND, "not_found", f"{text} already")
    return pieces


def free(draft: Draft, config: Config, to: Requester, va: int, size: int, owner: int | None) -> None:
    """Plan the freeing of an allocation or of whole pages of it. ``owner`` None: whoever it belongs to. Raises Refused.

    ``size`` 0 frees all that the owner has of the allocation that begins at ``va``.
    """
    allocation = ready(draft, va)
    if size == 0 and va != allocation.va:
        raise Refused(Status.NOT_FOUND, "not_found", f"no allocation begins at {va:#x}; give a size to free a part")
    allowed = _FREEABLE
    if size:
        pieces = pieces_of(allocation, va, -(-size // PAGE_SIZE), *allowed)
    else:
        pieces = pieces_of(allocation, va, allocation.pages, *allowed, OverrideKind.FREED)
        pieces = [p for p in pieces if p.kind is not OverrideKind.FREED and owner in (None, p.pid)]
    if not pieces or any(owner not in (None, p.pid) for p in pieces):
        raise Refused(Status.NOT_FOUND, "not_found", f"nothing of this owner is allocated at {va:#x}")
    if pieces == without(allocation, *GONE):
        free_whole(draft, to, allocation)
    else:
        check_change(draft, config, allocation, [changed(p, OverrideKind.FREEING, 0) for p in pieces])
        free_pieces(draft, to, allocation, pieces)


def free_whole(draft: Draft, to: Requester, allocation: Allocation) -> None:
    """Withdraw all access and clear all page tables; the rest happens when that is acknowledged."""
    draft.put("allocations", allocation.va, dataclasses.replace(allocation, status=AllocationStatus.FREEING))
    waiting = clear_pages(draft, without(allocation, *GONE), draft.new_generation(), zero=True)
    begin(draft, "free", allocation.va, to, waiting)


def free_pieces(draft: Draft, to: Requester, allocation: Allocation, pieces: list[Override]) -> None:
    """Withdraw access to some pages and clear their page tables; they are anybody's when that is acknowledged."""
    generation = draft.new_generation()
    draft.override(allocation, [changed(p, OverrideKind.FREEING, generation) for p in pieces])
    waiting = clear_pages(draft, pieces, generation, zero=True)
    begin(draft, "free-part", allocation.va, to, waiting, pieces=pieces, generation=generation)


def free_of(draft: Draft, pid: int, crashed: bool) -> None:
    """Free all that a process has: it has ended. What is on its way to another is not its any more; what members of a group may
    steal is kept for them when it ``crashed``."""
    for allocation in list(draft.state.allocations.values()):
        if pid not in holders(allocation) or (crashed and allocation.may_be_stolen):
            continue
        if allocation.status is AllocationStatus.READY:
            away = [p for p in runs(allocation) if p.kind is OverrideKind.MIGRATING and p.pid == pid]
            if away:  # freed when they are somewhere (controller.core.migrate)
                allocation = draft.override(allocation, [dataclasses.replace(p, pid=0, permissions=0) for p in away])
            held = without(allocation, *GONE)
            own = [p for p in held if p.pid == pid and p.kind in _FREEABLE]
            if own and own == held:
                free_whole(draft, Requester(), allocation)
            elif own:
                free_pieces(draft, Requester(), allocation, own)


def revoke(draft: Draft, config: Config, to: Requester, va: int, pages: int, owner: int | None = None) -> None:
    """Plan a revocation: access is withdrawn at once, the contents are kept. ``owner`` None: whoever's. Raises Refused."""
    allocation = ready(draft, va)
    pieces = pieces_of(allocation, va, pages, OverrideKind.OWNED)
    for piece in pieces:
        if owner not in (None, piece.pid):
            text = f"the page at {piece.va:#x} belongs to process {piece.pid}, not {owner}"
            raise Refused(Status.PERMISSION, "permission", text)
    generation = draft.new_generation()
    revoked = [changed(p, OverrideKind.REVOKED, generation) for p in pieces]
    check_change(draft, config, allocation, revoked)
    draft.override(allocation, revoked)
    waiting = clear_pages(draft, pieces, generation, zero=False)
    begin(draft, "revoke", allocation.va, to, waiting, pieces=pieces, generation=generation)


# ------------------------------------------------------------------------------------------------------------ finishing


@finishes("free")
def _finish_free(draft: Draft, operation: Operation) -> None:
    """Nobody can access the allocation any more: its pages are anybody's, its addresses nobody's."""
    allocation = draft.state.allocations[operation.va]
    for piece in without(allocation, *GONE):
        set_free(draft, piece)
    draft.remove("allocations", allocation.va)
    draft.publish("freed", pid=allocation.pid, va=allocation.va, pages=allocation.pages)
    if operation.requester != Requester():
        reply(draft, operation.requester, Status.OK, va=allocation.va, pages=allocation.pages)


def freed_meanwhile(draft: Draft, operation: Operation) -> bool:
    """Answer an operation on a part of an allocation that was freed as a whole before it was done."""
    allocation = draft.state.allocations.get(operation.va)
    if allocation is not None and allocation.status is AllocationStatus.READY:
        return False
    if operation.requester != Requester():
        reply(draft, operation.requester, Status.OK, va=operation.start, pages=operation.pages, owner=0)
    return True


def concerned(allocation: Allocation, operation: Operation, kind: OverrideKind) -> list[Override]:
    """The pages that an operation has brought into this condition."""
    pages = (operation.end - operation.start) // PAGE_SIZE
    generation = operation.generation
    return [p for p in runs(allocation, operation.start, pages) if (p.kind, p.generation) == (kind, generation)]


@finishes("free-part")
def _finish_part(draft: Draft, operation: Operation) -> None:
    """Pages of an allocation are cleared: they are anybody's again, their addresses are not."""
    if freed_meanwhile(draft, operation):
        return
    allocation = draft.state.allocations[operation.va]
    freed = concerned(allocation, operation, OverrideKind.FREEING)
    for piece in freed:
        set_free(draft, piece)
    after = draft.override(allocation, [changed(p, OverrideKind.FREED, 0) for p in freed])
    if all(p.kind in GONE for p in runs(after)):
        draft.remove("allocations", allocation.va)
    draft.publish("freed", pid=freed[0].pid, va=operation.start, pages=operation.pages)
    if operation.requester != Requester():
        reply(draft, operation.requester, Status.OK, va=operation.start, pages=operation.pages)


@finishes("alloc")
def _finish_alloc(draft: Draft, operation: Operation) -> None:
    """Pages are zeroed and set: open the switch, unless the process has ended or a page table was lost meanwhile."""
    to, allocation = operation.requester, draft.state.allocations[operation.va]
    if allocation.pid not in draft.state.processes:
        free_whole(draft, Requester(), allocation)
        reply(draft, to, Status.NOT_FOUND, message=f"process {allocation.pid} has ended")
        return
    if operation.lost:
        names = ", ".join(draft.state.elements[e].name for e in sorted(operation.lost))
        free_whole(draft, Requester(), allocation)
        reply(draft, to, Status.ELEMENT_FAILED, message=f"{names} failed meanwhile")
        return
    draft.put("allocations", allocation.va, dataclasses.replace(allocation, status=AllocationStatus.READY))
    generation = allocation.segments[0].generation
    payload = wire.ALLOC_REPLY.pack(allocation.va, allocation.size, generation, 0)
    draft.publish("allocated", pid=allocation.pid, va=allocation.va, pages=allocation.pages)
    reply(
        draft,
        to,
        Status.OK,
        payload,
        va=allocation.va,
        size=allocation.size,
        generation=generation,
        segments=len(allocation.segments),
        elements=sorted({draft.state.elements[s.element].name for s in allocation.segments}),
    )


@finishes("revoke")
def _finish_revoke(draft: Draft, operation: Operation) -> None:
    """Tell the owners, then whoever asked."""
    if freed_meanwhile(draft, operation):
        return
    pieces = list(runs(draft.state.allocations[operation.va], operation.start, operation.pages))
    for pid, start, pages in owners(pieces):
        if pid != operation.requester.pid:
            notify(draft, pid, NotifyCode.REVOKED, 0, start, pages)
    draft.publish("revoked", pid=pieces[0].pid, va=operation.start, pages=operation.pages)
    reply(draft, operation.requester, Status.OK, va=operation.start, pages=operation.pages, owner=pieces[0].pid)


def owners(pieces: Iterable[Override]) -> list[tuple[int, int, int]]:
    """Whose the pieces are: (pid, va, pages), neighbours joined."""
    result: list[tuple[int, int, int]] = []
    for piece in pieces:
        if result and result[-1][0] == piece.pid and result[-1][1] + result[-1][2] * PAGE_SIZE == piece.va:
            result[-1] = (piece.pid, result[-1][1], result[-1][2] + piece.pages)
        else:
            result.append((piece.pid, piece.va, piece.pages))
    return result


def set_free(draft: Draft, piece: Override | Place) -> None:
    """Pages that nobody holds are anybody's, but for the bad ones."""
    good: Extents = ((piece.pa // PAGE_SIZE, piece.pages),)
    if piece.element in draft.state.bad:  # nobody gets these
        for first, pages in draft.state.bad[piece.element].pages:
            good = cut_out(good, first, pages)
    for first, pages in good:
        draft.set_free(piece.element, give_back(draft.state.free.get(piece.element, ()), first, pages))
