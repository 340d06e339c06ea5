"""Bad pages: physical pages whose contents cannot be had any more (an uncorrectable error, or an operator's injection).

Every access to one is refused by its element (PAGE_FAILED); its owner is told. What is bad is known by its place, not by its
address: it stays bad when it is freed, is then given to nobody, and is bad again after the element's restart, until it is healed.
"""

from __future__ import annotations

import dataclasses

from controller.core import operations
from controller.core.answers import Refused, reply
from controller.core.blocks import Extents, cut_out, give_back
from controller.core.draft import Draft
from controller.core.layout import GONE, runs, without
from controller.core.memory import owners
from controller.core.notices import notify
from controller.core.state import BadPages, Operation, Override, OverrideKind, Requester, State
from protocol.wire import PAGE_SHIFT, PAGE_SIZE, NotifyCode, Op, Status

_MARK, _HEAL = 1, 0  # in a message's `permissions`


def by_address(draft: Draft, to: Requester, va: int, pages: int, bad: bool) -> None:
    """Mark the physical pages behind addresses of one allocation as bad, or heal them. Raises Refused."""
    allocation = draft.state.allocation_at(va)
    if allocation is None:
        raise Refused(Status.NOT_FOUND, "not_found", f"nothing is allocated at {va:#x}")
    if va % PAGE_SIZE or pages < 1 or va + pages * PAGE_SIZE > allocation.end:
        text = f"{pages} pages at {va:#x} are not whole pages of the allocation at {allocation.va:#x}"
        raise Refused(Status.BAD_REQUEST, "bad_request", text)
    pieces = list(runs(allocation, va, pages))
    gone = next((p for p in pieces if p.kind in GONE), None)
    if gone is not None:
        raise Refused(Status.NOT_FOUND, "not_found", f"the page at {gone.va:#x} is freed")
    _change(draft, to, [(p.element, p.pa >> PAGE_SHIFT, p.pages) for p in pieces], bad)


def by_place(draft: Draft, to: Requester, element_id: int, pa: int, pages: int, bad: bool) -> None:
    """The same for physical pages of an element, whoever has them. Raises Refused."""
    element = draft.state.elements.get(element_id)
    if element is None or element.kind != "memory":
        raise Refused(Status.NOT_FOUND, "not_found", f"there is no memory element {element_id}")
    if pa % PAGE_SIZE or pages < 1 or (pa >> PAGE_SHIFT) + pages > element.pages:
        text = f"{pages} pages at {pa:#x} are not whole pages of {element.name}, which has {element.pages}"
        raise Refused(Status.BAD_REQUEST, "bad_request", text)
    _change(draft, to, [(element_id, pa >> PAGE_SHIFT, pages)], bad)


def _change(draft: Draft, to: Requester, ranges: list[tuple[int, int, int]], bad: bool) -> None:
    """``ranges`` are (element, first page, pages)."""
    for element, _, _ in ranges:
        if not bad and not operations.is_reachable(draft.state, element):
            text = f"{draft.state.elements[element].name} has failed: its pages cannot be healed now"
            raise Refused(Status.ELEMENT_FAILED, "element_failed", text)
    generation = draft.new_generation()
    if bad:  # nobody gets them from now on, and should the element fail now it is told when it comes back
        for element, first, pages in ranges:
            _set(draft, element, give_back(cut_out(of(draft.state, element), first, pages), first, pages))
            free = draft.state.free.get(element, ())
            draft.set_free(element, cut_out(free, first, pages))
    waiting = [
        _send(draft, element, first, pages, generation, bad)
        for element, first, pages in ranges
        if operations.is_reachable(draft.state, element)
    ]
    places = tuple(ranges)
    operations.begin(draft, "poison" if bad else "heal", 0, to, waiting, generation=generation, places=places)


def _send(draft: Draft, element: int, first: int, pages: int, generation: int, bad: bool) -> int:
    at = first << PAGE_SHIFT
    mark = _MARK if bad else _HEAL
    return operations.send(draft, Op.POISON, element, pa=at, pages=pages, generation=generation, permissions=mark)


def repeat(draft: Draft, element: int) -> list[int]:
    """Tell an element that comes back which of its pages are bad; the messages to wait for."""
    known = of(draft.state, element)
    generation = draft.new_generation() if known else 0
    return [_send(draft, element, first, pages, generation, True) for first, pages in known]


@operations.finishes("poison")
def _finish_poison(draft: Draft, operation: Operation) -> None:
    """Accesses are refused: tell the owners, then whoever asked."""
    for allocation in draft.state.allocations.values():
        hit: list[Override] = []
        for piece in runs(allocation):
            at = piece.pa >> PAGE_SHIFT
            for element, first, pages in operation.places:
                start, end = max(at, first), min(at + piece.pages, first + pages)
                if element == piece.element and start < end and piece.kind is OverrideKind.OWNED:
                    va = piece.va + (start - at) * PAGE_SIZE
                    hit.append(dataclasses.replace(piece, va=va, pages=end - start))
        for pid, va, count in owners(sorted(hit, key=lambda p: p.va)):
            element = next(p.element for p in hit if p.va == va)
            notify(draft, pid, NotifyCode.PAGE_FAILED, element, va, count)
    _done(draft, operation, True)


@operations.finishes("heal")
def _finish_heal(draft: Draft, operation: Operation) -> None:
    """The pages are good again; those that nobody has are anybody's."""
    if operation.lost:
        names = ", ".join(draft.state.elements[e].name for e in sorted(operation.lost))
        reply(
            draft,
            operation.requester,
            Status.ELEMENT_FAILED,
            message=f"{names} failed meanwhile: the pages are still bad",
        )
        return
    for element, first, pages in operation.places:
        healed = [piece for piece in of(draft.state, element) if piece[0] < first + pages and first < sum(piece)]
        _set(draft, element, cut_out(of(draft.state, element), first, pages))
        for start, count in healed:
            start, end = max(start, first), min(start + count, first + pages)
            for free_first, free_count in _held_by_nobody(draft.state, element, start, end - start):
                draft.set_free(element, give_back(draft.state.free.get(element, ()), free_first, free_count))
    _done(draft, operation, False)


def _done(draft: Draft, operation: Operation, bad: bool) -> None:
    pages = sum(count for _, _, count in operation.places)
    names = sorted({draft.state.elements[element].name for element, _, _ in operation.places})
    draft.publish("poisoned" if bad else "healed", elements=names, pages=pages)
    reply(draft, operation.requester, Status.OK, pages=pages, elements=names, bad=bad)


def of(state: State, element: int) -> Extents:
    """The bad pages of an element."""
    found = state.bad.get(element)
    return () if found is None else found.pages


def _set(draft: Draft, element: int, pages: Extents) -> None:
    if pages:
        draft.put("bad", element, BadPages(element, pages))
    elif element in draft.state.bad:
        draft.remove("bad", element)


def _held_by_nobody(state: State, element: int, first: int, pages: int) -> Extents:
    left: Extents = ((first, pages),)
    for allocation in state.allocations.values():
        for piece in without(allocation, *GONE):
            if piece.element == element:
                left = cut_out(left, piece.pa >> PAGE_SHIFT, piece.pages)
    for place in (place for operation in state.operations.values() for place in operation.reserved):
        if place.element == element:
            left = cut_out(left, place.pa >> PAGE_SHIFT, place.pages)
    for place in (place for operation in state.operations.values() for place in operation.reserved):
        if place.element == element:
            left = cut_out(left, place.pa >> PAGE_SHIFT, place.pages)
    return left
