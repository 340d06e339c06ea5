"""The rack monitor: registration, heartbeats, failure, recovery, fencing."""

from __future__ import annotations

import dataclasses

from controller.core.blocks import Extents, take
from controller.core.draft import Draft
from controller.core.events import Notify, Send
from controller.core.memory import Config, Refused, acknowledge, held_segments, is_recovering
from controller.core.state import (
    Allocation,
    Element,
    HoleKind,
    Liveness,
    Message,
    Operation,
    Requester,
    State,
)
from protocol.wire import PAGE_SHIFT, NotifyCode, Op, Status


def seen(draft: Draft, element_id: int, incarnation: int, now: float) -> None:
    """An element gave a sign of life (HELLO or heartbeat)."""
    element = draft.state.elements.get(element_id)
    if element is None:
        return
    draft.see(element_id, now)
    if element.liveness is Liveness.ALIVE and element.incarnation == incarnation:
        return
    if element.kind == "compute" or element.liveness is Liveness.UNKNOWN:
        alive = dataclasses.replace(element, liveness=Liveness.ALIVE, incarnation=incarnation)
        draft.put("elements", element_id, alive)
        draft.publish("element_alive", element=element_id, name=element.name, incarnation=incarnation)
        return
    if element.incarnation != incarnation:
        _restarted(draft, element, incarnation)
    elif not is_recovering(draft.state, element_id):
        recover(draft, element)


def _restarted(draft: Draft, element: Element, incarnation: int) -> None:
    """A memory element came back with an empty page table. It serves again when no allocation relies on what it has lost."""
    if element.liveness is Liveness.ALIVE:
        fail(draft, element, "restarted")
    element = draft.state.elements[element.id]
    relying = [a for a in draft.state.allocations.values() if any(s.element == element.id for s in a.segments)]
    if relying:
        return
    draft.put("elements", element.id, dataclasses.replace(element, liveness=Liveness.ALIVE, incarnation=incarnation))
    draft.set_free(element.id, ((0, element.pages),))
    draft.publish("element_recovered", element=element.id, name=element.name, incarnation=incarnation)


def recover(draft: Draft, element: Element) -> None:
    """A memory element that was thought dead was only slow: what changed meanwhile is cleared in it before it serves again."""
    generation = draft.new_generation()
    ranges = [(first, pages, True) for first, pages in draft.state.free.get(element.id, ())]
    for allocation in draft.state.allocations.values():
        for hole in allocation.holes:
            if hole.element == element.id and hole.kind is HoleKind.REVOKED:
                ranges.append((hole.pa >> PAGE_SHIFT, hole.pages, False))
    waiting = []
    for first, pages, zero in ranges:
        number = draft.new_id()
        message = Message(number, element.id, int(Op.PT_CLEAR), 0, first << PAGE_SHIFT, pages, 0, 0, zero, generation)
        draft.put("messages", number, message)
        draft.do(Send(message))
        waiting.append(number)
    number = draft.new_id()
    operation = Operation(number, "recover", element.id, Requester(), frozenset(waiting))
    if waiting:
        draft.put("operations", number, operation)
    else:
        draft.put("elements", element.id, dataclasses.replace(element, liveness=Liveness.ALIVE))
        draft.publish("element_recovered", element=element.id, name=element.name)


def tick(draft: Draft, config: Config, now: float) -> None:
    """Elements that have been silent for too long have failed."""
    for element in draft.state.elements.values():
        if element.liveness is Liveness.ALIVE or is_recovering(draft.state, element.id):
            silent = now - draft.state.last_seen.get(element.id, now)
            if silent > config.heartbeat_timeout:
                fail(draft, element, f"silent for {silent:.2f} s")


def fail(draft: Draft, element: Element, why: str) -> None:
    """Withdraw the element's liveness, tell those whose memory it holds, and let what waits for it go on."""
    for operation in list(draft.state.operations.values()):
        if operation.kind == "recover" and operation.va == element.id:
            draft.remove("operations", operation.id)
    draft.put("elements", element.id, dataclasses.replace(element, liveness=Liveness.FAILED))
    draft.publish("element_failed", element=element.id, name=element.name, why=why)
    for allocation in draft.state.allocations.values():
        process = draft.state.processes.get(allocation.pid)
        for s in allocation.segments:
            if process is not None and s.element == element.id:
                code = NotifyCode.ELEMENT_FAILED
                draft.do(Notify(process.element, process.pid, code, element.id, s.va, s.pages))
    for message in list(draft.state.messages.values()):
        if message.element == element.id:
            acknowledge(draft, message.id)


def fence(draft: Draft, element_id: int, fenced: bool) -> None:
    """Fence an element off, or let it in again. Raises Refused."""
    element = draft.state.elements.get(element_id)
    if element is None:
        raise Refused(Status.NOT_FOUND, "not_found", f"there is no element {element_id}")
    if element.fenced == fenced:
        return
    draft.put("elements", element_id, dataclasses.replace(element, fenced=fenced))
    draft.publish("fenced" if fenced else "unfenced", element=element_id, name=element.name)
    if fenced:
        for process in draft.state.processes.values():
            if process.element == element_id:
                draft.do(Notify(element_id, process.pid, NotifyCode.FENCED, element_id, 0, 0))


def physical_free(state: State) -> dict[int, Extents]:
    """The pages of each memory element that no allocation holds, from the allocations alone."""
    free: dict[int, Extents] = {e.id: ((0, e.pages),) for e in state.elements.values() if e.kind == "memory"}
    for allocation in state.allocations.values():
        for element, first, pages in held(allocation):
            free[element] = take(free[element], first, pages)
    return free


def held(allocation: Allocation) -> list[tuple[int, int, int]]:
    """(element, first page, pages) of everything physical that an allocation holds."""
    return [(s.element, s.pa >> PAGE_SHIFT, s.pages) for s in held_segments(allocation)]
