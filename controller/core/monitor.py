"""The rack monitor: registration, heartbeats, failure, recovery, fencing."""

from __future__ import annotations

import dataclasses

from immutables import Map

from controller.core import operations
from controller.core.answers import Refused, reply
from controller.core.blocks import Extents, take
from controller.core.draft import Draft
from controller.core.layout import GONE, NOT_KEPT, arrived, changed, joined, overridden, runs, without
from controller.core.memory import Config, owners
from controller.core.notices import notify
from controller.core.state import (
    Allocation,
    AllocationStatus,
    Element,
    Liveness,
    Operation,
    Override,
    OverrideKind,
    Requester,
    State,
)
from protocol.wire import PAGE_SHIFT, NotifyCode, Op, Status


def seen(draft: Draft, element_id: int, incarnation: int, now: float) -> None:
    """An element gave a sign of life (HELLO or heartbeat)."""
    element = draft.state.elements.get(element_id)
    if element is None:
        return
    if incarnation < element.incarnation and operations.is_reachable(draft.state, element_id):
        return  # the last word of one that has restarted since: the one after it is there
    draft.see(element_id, now)
    if element.liveness is Liveness.ALIVE and element.incarnation == incarnation:
        return
    if element.kind == "compute":
        alive = dataclasses.replace(element, liveness=Liveness.ALIVE, incarnation=incarnation)
        draft.put("elements", element_id, alive)
        draft.publish("element_alive", element=element_id, name=element.name, incarnation=incarnation)
        return
    if element.incarnation != incarnation:  # it has (re)started: its page table is empty
        if operations.is_reachable(draft.state, element_id):
            fail(draft, element, "restarted")
        if element.media != "nvm":
            _empty(draft, element)
        recover(draft, element_id, incarnation)
    elif operations.recovery(draft.state, element_id) is None:
        recover(draft, element_id, incarnation)


def _empty(draft: Draft, element: Element) -> None:
    """An element came back without contents: whoever has memory there is told, and hears it at every access until it is freed."""
    generation = draft.new_generation()
    for allocation in draft.state.allocations.values():
        if allocation.status is AllocationStatus.READY:
            had = (OverrideKind.OWNED, OverrideKind.REVOKED)
            gone = [p for p in runs(allocation) if p.element == element.id and p.kind in had]
            if gone:
                lost = [changed(p, OverrideKind.LOST, generation) for p in gone]
                draft.put("allocations", allocation.va, overridden(allocation, lost))
            for pid, va, pages in owners(gone):
                notify(draft, pid, NotifyCode.MEMORY_LOST, element.id, va, pages)
                draft.publish("memory_lost", pid=pid, va=va, pages=pages, element=element.id)
    for operation in draft.state.operations.values():
        emptied = operation.emptied | {element.id}
        draft.put("operations", operation.id, dataclasses.replace(operation, emptied=emptied))


def recover(draft: Draft, element_id: int, incarnation: int) -> None:
    """Make a memory element safe before it serves (again): its page table becomes what the state says, page by page.

    It may have missed any change since it was heard last, or be new, or have restarted (then an NVM element has its contents,
    and what a DRAM element had is LOST by now). Every page that nobody may access is
    cleared with a new generation, so that what it was told before and does late does no harm. Every other one is given to
    its owner with the generation that it has; that is no news unless it was missed. Behind the answers, nothing is left of
    what was on its way to the element.
    """
    element = dataclasses.replace(draft.state.elements[element_id], incarnation=incarnation)
    draft.put("elements", element_id, element)
    generation = draft.new_generation()
    idle: Extents = ((0, element.pages),)
    waiting: list[int] = []
    for allocation in draft.state.allocations.values():
        if allocation.status is AllocationStatus.READY:
            used = [_as_it_will_be(draft.state, p) for p in runs(allocation) if p.element == element_id]
            for p in joined(p for p in used if p.kind is OverrideKind.OWNED):
                idle = take(idle, p.pa >> PAGE_SHIFT, p.pages)
                rights = p.generation, p.pid, p.permissions
                waiting.append(operations.send(draft, Op.PT_SET, element_id, p.va, p.pa, p.pages, *rights))
    for first, pages in idle:
        at = first << PAGE_SHIFT
        waiting.append(operations.send(draft, Op.PT_CLEAR, element_id, 0, at, pages, generation))
    operations.begin(draft, "recover", element_id, Requester(), waiting)


def _as_it_will_be(state: State, piece: Override) -> Override:
    """A piece that is on its way to an owner, as the owner's."""
    if piece.kind is not OverrideKind.MOVING:
        return piece
    return arrived(piece, next(o for o in state.operations.values() if o.generation == piece.generation))


@operations.finishes("recover")
def _finish_recovery(draft: Draft, operation: Operation) -> None:
    element = draft.state.elements[operation.va]
    draft.put("elements", element.id, dataclasses.replace(element, liveness=Liveness.ALIVE))
    kind = "element_alive" if element.liveness is Liveness.UNKNOWN else "element_recovered"
    draft.publish(kind, element=element.id, name=element.name, incarnation=element.incarnation)
    for allocation in draft.state.allocations.values():
        if element.liveness is not Liveness.UNKNOWN and allocation.status is AllocationStatus.READY:
            here = [p for p in runs(allocation) if p.element == element.id and p.kind is OverrideKind.OWNED]
            for pid, va, pages in owners(here):
                notify(draft, pid, NotifyCode.ELEMENT_RECOVERED, element.id, va, pages)


def tick(draft: Draft, config: Config, now: float) -> None:
    """Elements that have been silent for too long have failed."""
    for element in draft.state.elements.values():
        if element.liveness is Liveness.ALIVE or operations.recovery(draft.state, element.id) is not None:
            silent = now - draft.state.last_seen.get(element.id, now)
            if silent > config.heartbeat_timeout:
                fail(draft, element, f"silent for {silent:.2f} s")


def fail(draft: Draft, element: Element, why: str) -> None:
    """Isolate an element, tell those whose memory it holds, and let what waits for it go on."""
    recovery = operations.recovery(draft.state, element.id)
    if recovery is not None:
        operations.cancel(draft, recovery)
    draft.put("elements", element.id, dataclasses.replace(element, liveness=Liveness.FAILED))
    draft.publish("element_failed", element=element.id, name=element.name, why=why)
    for allocation in draft.state.allocations.values():
        here = [p for p in without(allocation, *NOT_KEPT) if p.element == element.id]
        for pid, va, pages in owners(here):
            notify(draft, pid, NotifyCode.ELEMENT_FAILED, element.id, va, pages)
    operations.lose(draft, element.id)


def fence(draft: Draft, to: Requester, element_id: int, fenced: bool) -> None:
    """Fence an element off, or let it in again. Raises Refused.

    The switch lets nothing new pass; what it let through before is on its way to the memory elements. Each answers a barrier
    behind that, and only then is the fence acknowledged.
    """
    element = draft.state.elements.get(element_id)
    if element is None:
        raise Refused(Status.NOT_FOUND, "not_found", f"there is no element {element_id}")
    if not fenced and any(o.kind == "fence" and o.va == element_id for o in draft.state.operations.values()):
        raise Refused(Status.BUSY, "busy", f"{element.name} is being fenced")
    if element.fenced != fenced:
        draft.put("elements", element_id, dataclasses.replace(element, fenced=fenced))
        draft.publish("fenced" if fenced else "unfenced", element=element_id, name=element.name)
    if not fenced:
        reply(draft, to, Status.OK, element=element_id, fenced=False)
        return
    concerned = [e.id for e in draft.state.elements.values() if e.kind == "memory"]
    if element.kind == "memory":
        concerned = [element_id]
    waiting = [operations.send(draft, Op.BARRIER, e) for e in concerned if operations.is_reachable(draft.state, e)]
    operations.begin(draft, "fence", element_id, to, waiting)


@operations.finishes("fence")
def _finish_fence(draft: Draft, operation: Operation) -> None:
    for process in draft.state.processes.values():
        if process.element == operation.va:
            notify(draft, process.pid, NotifyCode.FENCED, operation.va)
    reply(draft, operation.requester, Status.OK, element=operation.va, fenced=True)


def physical_free(state: State) -> dict[int, Extents]:
    """The pages of each memory element that no allocation holds, from the allocations alone."""
    free: dict[int, Extents] = {e.id: ((0, e.pages),) for e in state.elements.values() if e.kind == "memory"}
    for allocation in state.allocations.values():
        for element, first, pages in held(allocation):
            free[element] = take(free[element], first, pages)
    return free


def complete(stored: State) -> State:
    """The stored part of a state, with what follows from it."""
    return dataclasses.replace(stored, free=Map(physical_free(stored)), last_seen=Map(), refusals=Map(), answered=Map())


def held(allocation: Allocation) -> list[tuple[int, int, int]]:
    """(element, first page, pages) of everything physical that an allocation holds."""
    return [(p.element, p.pa >> PAGE_SHIFT, p.pages) for p in without(allocation, *GONE)]
