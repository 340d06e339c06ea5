"""Allocating, freeing and revoking memory.

Order of every change (docs/architecture.md): durable intent; withdraw access at the switch; page tables in band,
acknowledged; give access at the switch; tell who asked. A step plans up to the next acknowledgement; the function that
finishes the operation (``controller.core.operations``) goes on from there.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from controller.core.allocator import align_va, place
from controller.core.answers import Refused, reply
from controller.core.blocks import aligned_blocks, give_back
from controller.core.draft import Draft
from controller.core.entries import hole_blocks
from controller.core.notices import notify
from controller.core.operations import begin, finishes, is_reachable, send
from controller.core.placement import POLICIES
from controller.core.state import (
    Allocation,
    AllocationStatus,
    Hole,
    HoleKind,
    Liveness,
    Operation,
    Requester,
    Segment,
)
from protocol import wire
from protocol.wire import MAX_GENERATION, PAGE_SIZE, PID_SHIFT, NotifyCode, Op, Perm, Status

SPARE_GENERATIONS = 1 << 20  # kept back from requests: processes end and elements recover without asking


@dataclass(frozen=True)
class Config:
    """Policy. ``largest_block`` bounds a segment (pages, a power of two), ``table_size`` is that of the switch's `translation`
    and `protection` (entries); times are in seconds."""

    placement: str = "best-fit"
    largest_block: int = 1 << 18
    table_size: int = 1 << 16
    heartbeat_interval: float = 0.1
    heartbeat_timeout: float = 0.6


# ----------------------------------------------------------------------------------------------------------- allocating


def alloc(draft: Draft, config: Config, to: Requester, pid: int, size: int, permissions: int) -> None:
    """Plan an allocation. Raises Refused."""
    process = draft.state.processes.get(pid)
    if process is None:
        raise Refused(Status.NOT_FOUND, "not_found", f"there is no process {pid}")
    if not 0 < size <= 1 << PID_SHIFT or permissions not in (Perm.READ, Perm.WRITE, Perm.RW):
        raise Refused(Status.BAD_REQUEST, "bad_request", f"cannot allocate {size} bytes with permissions {permissions}")
    pages = -(-size // PAGE_SIZE)
    va = align_va(process.next_va, pages)
    usable = {
        e.id: draft.state.free.get(e.id, ())
        for e in draft.state.elements.values()
        if e.kind == "memory" and e.liveness is Liveness.ALIVE and not e.fenced
    }
    placed = place(va, pages, usable, POLICIES[config.placement], config.largest_block)
    if placed is None or (va + pages * PAGE_SIZE - 1) >> PID_SHIFT != pid:
        free = sum(n for extents in usable.values() for _, n in extents) * PAGE_SIZE
        raise Refused(Status.OUT_OF_MEMORY, "out_of_memory", f"{size} bytes asked for, {free} free")
    segments, left = placed
    check_room(draft, config, len(segments))
    for element, extents in left.items():
        draft.set_free(element, extents)
    draft.put("processes", pid, dataclasses.replace(process, next_va=va + pages * PAGE_SIZE))
    generation = draft.new_generation()
    allocation = Allocation(va, pages, pid, permissions, generation, AllocationStatus.PREPARING, segments)
    draft.put("allocations", va, allocation)
    waiting = [
        send(draft, Op.PT_SET, s.element, s.va, s.pa, s.pages, generation, pid, permissions, zero=True)
        for s in merged(segments)
    ]
    begin(draft, "alloc", va, to, waiting)


def check_room(draft: Draft, config: Config, more: int) -> None:
    """Refused, unless the switch has room for so many entries more, and there are generations left."""
    # Some room is left: while a change is carried out, the switch holds some entries of before and after.
    room = config.table_size - config.table_size // 64
    rules = sum(len(a.segments) + len(a.holes) for a in draft.state.allocations.values())
    if rules + more > room:
        text = f"the switch's tables have room for {room} entries; {rules} are in use, {more} more are needed"
        raise Refused(Status.OUT_OF_MEMORY, "out_of_memory", text)
    if draft.state.counters.next_generation > MAX_GENERATION - SPARE_GENERATIONS:
        text = f"all {MAX_GENERATION} generations have been used: free everything, and start with a new store"
        raise Refused(Status.OUT_OF_MEMORY, "out_of_memory", text)


def merged(segments: tuple[Segment, ...]) -> list[Segment]:
    """Segments that are neighbours in both address spaces, as one: fewer messages. (Not necessarily powers of two.)"""
    result: list[Segment] = []
    for s in segments:
        last = result[-1] if result else None
        if last and last.element == s.element and last.va + last.pages * PAGE_SIZE == s.va:
            if last.pa + last.pages * PAGE_SIZE == s.pa:
                result[-1] = dataclasses.replace(last, pages=last.pages + s.pages)
                continue
        result.append(s)
    return result


# -------------------------------------------------------------------------------------------------- freeing and revoking


def free(draft: Draft, config: Config, to: Requester, va: int, size: int, owner: int | None) -> None:
    """Plan the freeing of an allocation or of whole pages of it. ``owner`` None: whoever it belongs to. Raises Refused."""
    allocation = draft.state.allocation_at(va)
    if allocation is None or (owner is not None and allocation.pid != owner):
        raise Refused(Status.NOT_FOUND, "not_found", f"nothing of this owner is allocated at {va:#x}")
    if allocation.status is not AllocationStatus.READY:
        raise Refused(Status.BUSY, "busy", f"the allocation at {allocation.va:#x} is {allocation.status}")
    if size == 0 and va != allocation.va:
        raise Refused(Status.NOT_FOUND, "not_found", f"no allocation begins at {va:#x}; give a size to free a part")
    pages = -(-size // PAGE_SIZE) or allocation.pages
    check_range(allocation, va, pages)
    if va == allocation.va and pages == allocation.pages:
        free_whole(draft, to, allocation)
    else:
        taken = [h for h in allocation.holes if h.kind is not HoleKind.REVOKED and _overlap(h, va, pages)]
        if taken:
            raise Refused(Status.NOT_FOUND, "not_found", f"the page at {taken[0].va:#x} is free already")
        _make_holes(draft, config, to, allocation, va, pages, HoleKind.FREEING, "free-part")


def check_range(allocation: Allocation, va: int, pages: int) -> None:
    """Whole pages inside the allocation, or Refused."""
    if va % PAGE_SIZE or pages < 1 or va < allocation.va or va + pages * PAGE_SIZE > allocation.end:
        raise Refused(
            Status.BAD_REQUEST,
            "bad_request",
            f"{pages} pages at {va:#x} are not whole pages of the allocation {allocation.va:#x} to {allocation.end:#x}",
        )


def free_whole(draft: Draft, to: Requester, allocation: Allocation) -> None:
    """Withdraw all access and clear all page tables; the rest happens when that is acknowledged."""
    draft.put("allocations", allocation.va, dataclasses.replace(allocation, status=AllocationStatus.FREEING))
    generation = draft.new_generation()
    waiting = [
        send(draft, Op.PT_CLEAR, s.element, s.va, s.pa, s.pages, generation, zero=True)
        for s in merged(held_segments(allocation))
        if is_reachable(draft.state, s.element)
    ]
    begin(draft, "free", allocation.va, to, waiting)


def held_segments(allocation: Allocation) -> tuple[Segment, ...]:
    """The allocation's segments without pages that were freed before: those may belong to somebody else by now."""
    return segments_without(allocation, HoleKind.FREED)


def segments_without(allocation: Allocation, *kinds: HoleKind) -> tuple[Segment, ...]:
    """The allocation's segments without its holes of these kinds. (Not necessarily powers of two.)"""
    freed = [h for h in allocation.holes if h.kind in kinds]
    parts: list[Segment] = []
    for s in allocation.segments:
        gaps = sorted((h.va, h.pages) for h in freed if _overlap(h, s.va, s.pages))
        at, end = s.va, s.va + s.pages * PAGE_SIZE
        for gap_va, gap_pages in [*gaps, (end, 0)]:
            if gap_va > at:
                parts.append(Segment(at, (gap_va - at) // PAGE_SIZE, s.element, s.pa + at - s.va))
            at = gap_va + gap_pages * PAGE_SIZE
    return tuple(parts)


def revoke(draft: Draft, config: Config, to: Requester, va: int, pages: int) -> None:
    """Plan a revocation: access is withdrawn at once, the contents are kept. Raises Refused."""
    allocation = draft.state.allocation_at(va)
    if allocation is None:
        raise Refused(Status.NOT_FOUND, "not_found", f"nothing is allocated at {va:#x}")
    if allocation.status is not AllocationStatus.READY:
        raise Refused(Status.BUSY, "busy", f"the allocation at {allocation.va:#x} is {allocation.status}")
    check_range(allocation, va, pages)
    taken = [h for h in allocation.holes if _overlap(h, va, pages)]
    if taken:
        raise Refused(Status.NOT_FOUND, "not_found", f"the page at {taken[0].va:#x} is {taken[0].kind} already")
    _make_holes(draft, config, to, allocation, va, pages, HoleKind.REVOKED, "revoke")


def _overlap(hole: Hole, va: int, pages: int) -> bool:
    return hole.va < va + pages * PAGE_SIZE and va < hole.va + hole.pages * PAGE_SIZE


def _make_holes(
    draft: Draft,
    config: Config,
    to: Requester,
    allocation: Allocation,
    va: int,
    pages: int,
    kind: HoleKind,
    operation: str,
) -> None:
    """Take a range out of an allocation: deny at the switch, clear the page tables with a new generation."""
    holes: list[Hole] = []
    for old in allocation.holes:  # what is revoked may be freed: the new hole replaces that part of the old one
        holes += _outside(old, va, pages)
    blocks = hole_blocks(allocation, va, pages)
    holes += [Hole(block_va, count, element, pa, kind) for block_va, count, element, pa in blocks]
    holes.sort(key=lambda h: h.va)
    check_room(draft, config, len(holes) - len(allocation.holes))
    draft.put("allocations", allocation.va, dataclasses.replace(allocation, holes=tuple(holes)))
    generation = draft.new_generation()
    zero = kind is HoleKind.FREEING
    waiting = [
        send(draft, Op.PT_CLEAR, s.element, s.va, s.pa, s.pages, generation, zero=zero)
        for s in merged(tuple(Segment(*b[:2], b[2], b[3]) for b in blocks))
        if is_reachable(draft.state, s.element)
    ]
    begin(draft, operation, allocation.va, to, waiting, va, pages)


def _outside(hole: Hole, va: int, pages: int) -> list[Hole]:
    """The parts of a hole outside of a range."""
    if not _overlap(hole, va, pages):
        return [hole]
    end, hole_end = va + pages * PAGE_SIZE, hole.va + hole.pages * PAGE_SIZE
    parts = []
    for low, high in ((hole.va, min(va, hole_end)), (max(end, hole.va), hole_end)):
        if low < high:
            for block_va, count in aligned_blocks(low, (high - low) // PAGE_SIZE):
                parts.append(dataclasses.replace(hole, va=block_va, pages=count, pa=hole.pa + block_va - hole.va))
    return parts


# ------------------------------------------------------------------------------------------------------------ finishing


@finishes("free")
def _finish_free(draft: Draft, operation: Operation) -> None:
    """Nobody can access the allocation any more: its pages are anybody's, its addresses nobody's."""
    allocation = draft.state.allocations[operation.va]
    for s in held_segments(allocation):
        _give_back(draft, s.element, s.pa, s.pages)
    draft.remove("allocations", allocation.va)
    draft.publish("freed", pid=allocation.pid, va=allocation.va, pages=allocation.pages)
    if operation.requester != Requester():
        reply(draft, operation.requester, Status.OK, va=allocation.va, pages=allocation.pages)


def _freed_meanwhile(draft: Draft, operation: Operation) -> bool:
    """Answer an operation on a part of an allocation that was freed as a whole before it was done."""
    if operation.va in draft.state.allocations:
        return False
    reply(draft, operation.requester, Status.OK, va=operation.start, pages=operation.pages, owner=0)
    return True


@finishes("free-part")
def _finish_part(draft: Draft, operation: Operation) -> None:
    """Pages of an allocation are cleared: they are anybody's again, their addresses are not."""
    if _freed_meanwhile(draft, operation):
        return
    allocation = draft.state.allocations[operation.va]
    holes = []
    for hole in allocation.holes:
        if hole.kind is HoleKind.FREEING and _overlap(hole, operation.start, operation.pages):
            hole = dataclasses.replace(hole, kind=HoleKind.FREED)
            _give_back(draft, hole.element, hole.pa, hole.pages)
        holes.append(hole)
    draft.put("allocations", allocation.va, dataclasses.replace(allocation, holes=tuple(holes)))
    draft.publish("freed", pid=allocation.pid, va=operation.start, pages=operation.pages)
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
    payload = wire.ALLOC_REPLY.pack(allocation.va, allocation.size, allocation.generation, 0)
    draft.publish("allocated", pid=allocation.pid, va=allocation.va, pages=allocation.pages)
    reply(
        draft,
        to,
        Status.OK,
        payload,
        va=allocation.va,
        size=allocation.size,
        generation=allocation.generation,
        segments=len(allocation.segments),
    )


@finishes("revoke")
def _finish_revoke(draft: Draft, operation: Operation) -> None:
    """Tell the owner, then whoever asked."""
    if _freed_meanwhile(draft, operation):
        return
    allocation = draft.state.allocations[operation.va]
    notify(draft, allocation.pid, NotifyCode.REVOKED, 0, operation.start, operation.pages)
    draft.publish("revoked", pid=allocation.pid, va=operation.start, pages=operation.pages)
    reply(draft, operation.requester, Status.OK, va=operation.start, pages=operation.pages, owner=allocation.pid)


def _give_back(draft: Draft, element: int, pa: int, pages: int) -> None:
    draft.set_free(element, give_back(draft.state.free.get(element, ()), pa // PAGE_SIZE, pages))
