"""Fencing elements off, at the Rack MMU and at the top-of-rack switch, and letting them in again.

A fence is acknowledged when nothing that the element sent before it can have an effect any more: the switch lets nothing new
pass; what it let through before is on its way to the memory elements, and each of them answers a barrier behind that; and the
top-of-rack switch answers one behind its own change. Only then are those told who stand by for the element's processes.
"""

from __future__ import annotations

import dataclasses

from controller.core import operations, standby
from controller.core.answers import Refused, reply
from controller.core.draft import Draft
from controller.core.notices import notify
from controller.core.state import MONITOR, OPERATOR, TOR, Element, Operation, Requester
from protocol.wire import NotifyCode, Op, Status


def request(draft: Draft, to: Requester, element_id: int, fenced: bool) -> None:
    """An operator's request. Raises Refused."""
    element = draft.state.elements.get(element_id)
    if element is None:
        raise Refused(Status.NOT_FOUND, "not_found", f"there is no element {element_id}")
    if fenced:
        fence(draft, to, element_id, OPERATOR)
        return
    if operations.fence(draft.state, element_id) is not None:
        raise Refused(Status.BUSY, "busy", f"{element.name} is being fenced")
    if element.fenced:
        let_in(draft, element)
    waiting = [operations.send(draft, Op.BARRIER, TOR)] if element.kind == "compute" else []
    operations.begin(draft, "unfence", element_id, to, waiting)


def request_by_name(draft: Draft, to: Requester, name: str, fenced: bool, operator: bool) -> None:
    """A request in band: whoever makes it bears an operator's token, or not. Raises Refused."""
    if not operator:
        raise Refused(Status.PERMISSION, "permission", "a good token of an operator is needed to fence an element")
    named = {e.name: e.id for e in draft.state.elements.values()}
    if name not in named:
        text = f"there is no element {name!r}; there are {', '.join(named)}"
        raise Refused(Status.NOT_FOUND, "not_found", text)
    request(draft, to, named[name], fenced)


def fence(draft: Draft, to: Requester, element_id: int, by: str) -> None:
    """Fence an element off; what an operator has fenced stays the operator's."""
    element = draft.state.elements[element_id]
    if not element.fenced or by == OPERATOR:
        draft.put("elements", element_id, dataclasses.replace(element, fenced=True, fenced_by=by))
    if not element.fenced:
        draft.publish("fenced", element=element_id, name=element.name, by=by)
    concerned = [e.id for e in draft.state.elements.values() if e.kind == "memory"]
    if element.kind == "memory":
        concerned = [element_id]
        operations.isolate(draft, element_id)
    waiting = [operations.send(draft, Op.BARRIER, e) for e in concerned if operations.is_reachable(draft.state, e)]
    if element.kind == "compute":
        waiting.append(operations.send(draft, Op.BARRIER, TOR))
    operations.begin(draft, "fence", element_id, to, waiting)


def let_in(draft: Draft, element: Element) -> None:
    """Take the fence away."""
    draft.put("elements", element.id, dataclasses.replace(element, fenced=False, fenced_by="", told=False))
    draft.publish("unfenced", element=element.id, name=element.name)


@operations.finishes("fence")
def _finish_fence(draft: Draft, operation: Operation) -> None:
    element = draft.state.elements[operation.va]
    for process in draft.state.processes.values():
        if process.element == element.id:
            notify(draft, process.pid, NotifyCode.FENCED, element.id)
    if not element.told:
        draft.put("elements", element.id, dataclasses.replace(element, told=True))
        draft.publish("fence_certain", element=element.id, name=element.name, by=element.fenced_by)
        if element.fenced_by == MONITOR:
            draft.publish("element_failed", element=element.id, name=element.name, why="silent, and fenced off")
        if element.kind == "compute":
            standby.fenced(draft, element.id)
    if operation.requester != Requester():
        reply(draft, operation.requester, Status.OK, element=element.id, fenced=True)


@operations.finishes("unfence")
def _finish_unfence(draft: Draft, operation: Operation) -> None:
    reply(draft, operation.requester, Status.OK, element=operation.va, fenced=draft.state.elements[operation.va].fenced)
