"""Pages go to another memory element while their owner goes on: at the same addresses, with the same rights.

A request is carried out in chunks, so that an owner never waits long. For each chunk: its source takes the pages from everybody
(PT_CLEAR; the owner's accesses are STALE and are repeated by its requester) and copies them straight to the target, which
answers when it has them all and has given them to their owner. Then, in one step, the switch sends accesses there. Until that
step the source is what counts: when either element fails, the pages go back to their owner where they are. After it the source's
pages are cleared in the background.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from controller.core import allocator, poison
from controller.core.answers import Refused, reply
from controller.core.draft import Draft
from controller.core.layout import cut, joined, overridden, rules, runs
from controller.core.memory import (
    MEDIA,
    MEDIA_OF,
    Config,
    check_room,
    clear_pages,
    free_pieces,
    pieces_of,
    ready,
    set_free,
)
from controller.core.notices import notify
from controller.core.operations import finishes, is_reachable, send
from controller.core.placement import POLICIES
from controller.core.state import (
    Allocation,
    AllocationStatus,
    Element,
    Liveness,
    Operation,
    Override,
    OverrideKind,
    Place,
    Requester,
)
from protocol import wire
from protocol.wire import PAGE_SIZE, NotifyCode, Op, Status

CHUNK = 64  # pages that are away at a time: some milliseconds
_MOVABLE = (OverrideKind.OWNED, OverrideKind.REVOKED)


def migrate(
    draft: Draft, config: Config, to: Requester, va: int, pages: int, owner: int | None, target: int | None
) -> None:
    """Plan that pages go to ``target`` (None: wherever the policy finds room, on the same media). Raises Refused."""
    allocation = ready(draft, va)
    pieces = pieces_of(allocation, va, pages, *_MOVABLE)
    for piece in pieces:
        if owner not in (None, piece.pid):
            text = f"the page at {piece.va:#x} belongs to process {piece.pid}, not {owner}"
            raise Refused(Status.PERMISSION, "permission", text)
        _check(draft.state.elements[piece.element])
        at = piece.pa // PAGE_SIZE
        if any(first < at + piece.pages and at < first + n for first, n in poison.of(draft.state, piece.element)):
            text = f"some of the {piece.pages} pages at {piece.va:#x} are bad: nobody can tell what was in them"
            raise Refused(Status.PAGE_FAILED, "page_failed", text)
    usable = _usable(draft, allocation, pieces, target)
    moving = [p for p in pieces if p.element != target]
    free = {e: draft.state.free.get(e, ()) for e in usable}
    places: list[Place] = []
    for start, count in _ranges(moving):
        placed = allocator.place(start, count, free, POLICIES[config.placement], config.largest_block, (0, 0, 0))
        if placed is None:
            room = sum(n for extents in free.values() for _, n in extents)
            text = f"{sum(p.pages for p in moving)} pages are to go where {room} are free"
            raise Refused(Status.OUT_OF_MEMORY, "out_of_memory", text)
        segments, free = placed
        places += [Place(s.va, s.pages, s.element, s.pa) for s in segments]
    there = [_at(p, found) for p in moving for found in places if p.va < found.end and found.va < p.end]
    more = rules(overridden(allocation, there).allocation) - rules(allocation)
    check_room(draft, config, max(0, more) + 2 * CHUNK.bit_length())
    for element, extents in free.items():
        draft.set_free(element, extents)
    _next_chunk(draft, Operation(0, "migrate", allocation.va, to, reserved=tuple(places), asked=(va, pages)))


def held_by(allocation: Allocation, element: int) -> list[tuple[int, int]]:
    """What of an allocation could leave an element: (va, pages)."""
    if allocation.status is not AllocationStatus.READY:
        return []
    return _ranges(p for p in runs(allocation) if p.element == element and p.kind in _MOVABLE)


def _ranges(pieces: Iterable[Override]) -> list[tuple[int, int]]:
    """Consecutive addresses: (va, pages)."""
    found: list[tuple[int, int]] = []
    for p in pieces:
        if found and found[-1][0] + found[-1][1] * PAGE_SIZE == p.va:
            found[-1] = found[-1][0], found[-1][1] + p.pages
        else:
            found.append((p.va, p.pages))
    return found


def _usable(draft: Draft, allocation: Allocation, pieces: list[Override], target: int | None) -> list[int]:
    """The elements that pages may go to. Raises Refused."""
    elements = draft.state.elements
    media = MEDIA_OF[allocation.flags & MEDIA]
    if target is not None:
        element = elements.get(target)
        if element is None or element.kind != "memory":
            raise Refused(Status.NOT_FOUND, "not_found", f"there is no memory element {target}")
        if element.media not in media:
            text = (
                f"the allocation at {allocation.va:#x} is for {' or '.join(media)}; {element.name} is {element.media}"
            )
            raise Refused(Status.BAD_REQUEST, "bad_request", text)
        _check(element)
        return [target]
    sources = {p.element for p in pieces}
    same = {elements[e].media for e in sources}
    others = [e for e in elements.values() if e.kind == "memory" and e.id not in sources and e.media in same]
    usable = [e.id for e in others if e.liveness is Liveness.ALIVE and not e.fenced]
    if not usable:
        text = (
            f"the pages are in {', '.join(elements[e].name for e in sorted(sources))}, and no other element of "
            f"{' or '.join(sorted(same))} serves: name a target, or move fewer at a time"
        )
        raise Refused(Status.OUT_OF_MEMORY, "out_of_memory", text)
    return usable


def _check(element: Element) -> None:
    if element.liveness is not Liveness.ALIVE or element.fenced:
        text = f"{element.name} {'is fenced' if element.fenced else 'has failed'}"
        raise Refused(Status.ELEMENT_FAILED, "element_failed", text)


def _at(piece: Override, where: Place) -> Override:
    """The part of a piece that goes to a place, there."""
    part = cut(piece, max(piece.va, where.va), min(piece.end, where.end))
    return dataclasses.replace(part, element=where.element, pa=where.pa + part.va - where.va)


def _next_chunk(draft: Draft, operation: Operation) -> None:
    """Begin with the next pages of a migration that can be moved still; finish it when there are none."""
    places = list(operation.reserved)
    while places:
        chunk = places[0].first(CHUNK)
        allocation = draft.state.allocations.get(operation.va)
        pieces = [] if allocation is None else list(runs(allocation, chunk.va, chunk.pages))
        movable = [p for p in pieces if p.kind in _MOVABLE and p.element != chunk.element]
        failed = [e for e in {chunk.element, *(p.element for p in movable)} if not _serves(draft.state.elements[e])]
        if failed:
            _end(draft, dataclasses.replace(operation, reserved=tuple(places), lost=operation.lost | set(failed)))
            return
        if allocation is not None and movable and sum(p.pages for p in movable) == chunk.pages:
            _copy(draft, dataclasses.replace(operation, reserved=tuple(places)), allocation, chunk, movable)
            return
        # Somebody was faster: what is on its way, freed or lost by now stays where it is.
        _give_back(draft, [chunk])
        places[:1] = places[0].behind(CHUNK)
    _end(draft, dataclasses.replace(operation, reserved=()))


def _serves(element: Element) -> bool:
    return element.liveness is Liveness.ALIVE and not element.fenced


def _copy(draft: Draft, operation: Operation, allocation: Allocation, chunk: Place, pieces: list[Override]) -> None:
    """Have the sources take the pages away and send them, and the target wait for them."""
    taken, given = draft.new_generation(), draft.new_generation()
    draft.override(allocation, [_on_its_way(p) for p in pieces])
    waiting, copies = clear_pages(draft, pieces, taken, zero=False), []
    for p in joined(pieces):
        there = _at(p, chunk)
        receive = send(
            draft,
            Op.RECEIVE,
            chunk.element,
            p.va,
            there.pa,
            p.pages,
            given,
            p.pid,
            p.permissions,
            peer=p.element,
        )
        waiting.append(receive)
        rest = (p.va, p.pa, p.pages, taken, p.pid)
        copies.append(send(draft, Op.COPY, p.element, *rest, peer=chunk.element, transfer=receive))
    operation = dataclasses.replace(
        operation,
        id=draft.new_id(),
        waiting=frozenset(waiting),
        start=chunk.va,
        pages=chunk.pages,
        end=chunk.end,
        generation=given,
        repeated=frozenset(copies),
        relies=frozenset({chunk.element, *(p.element for p in pieces)}),
        lost=frozenset(),
        emptied=frozenset(),
    )
    draft.put("operations", operation.id, operation)


def _on_its_way(piece: Override) -> Override:
    """Its rights stay at the switch, in the generation that its source refuses from now on; REVOKED pages have none."""
    return dataclasses.replace(piece, kind=OverrideKind.MIGRATING)


def _arrived(piece: Override, generation: int) -> Override:
    kind = OverrideKind.OWNED if piece.permissions else OverrideKind.REVOKED
    return dataclasses.replace(piece, kind=kind, generation=generation)


def _chunk(allocation: Allocation, operation: Operation) -> list[Override]:
    """The pages that are away."""
    pieces = runs(allocation, operation.start, (operation.end - operation.start) // PAGE_SIZE)
    return [p for p in pieces if p.kind is OverrideKind.MIGRATING]


@finishes("migrate")
def _finish(draft: Draft, operation: Operation) -> None:
    """The target has the pages: the switch sends accesses there. Or an element has failed: they stay."""
    for message in operation.repeated:
        if message in draft.state.messages:
            draft.remove("messages", message)
    if operation.lost:
        _return(draft, operation)
        return
    allocation = draft.state.allocations[operation.va]
    chunk = operation.reserved[0].first(CHUNK)
    old = _chunk(allocation, operation)
    new = [_arrived(_at(p, chunk), operation.generation) for p in old]
    allocation = draft.override(allocation, new)
    _vacate(draft, [Place(p.va, p.pages, p.element, p.pa) for p in old])
    _free_orphans(draft, allocation, new)
    places = (*operation.reserved[0].behind(CHUNK), *operation.reserved[1:])
    _next_chunk(draft, dataclasses.replace(operation, reserved=places, moved=operation.moved + operation.pages))


def _return(draft: Draft, operation: Operation) -> None:
    """The pages of this chunk go back to their owners where they are, in a new generation: what was copied is nobody's."""
    allocation = draft.state.allocations[operation.va]
    generation = draft.new_generation()
    pieces = _chunk(allocation, operation)
    waiting = []
    for p in joined(p for p in pieces if p.permissions):
        if is_reachable(draft.state, p.element):
            rights = generation, p.pid, p.permissions
            waiting.append(send(draft, Op.PT_SET, p.element, p.va, p.pa, p.pages, *rights))
    places = (*operation.reserved[0].behind(CHUNK), *operation.reserved[1:])
    _vacate(draft, [operation.reserved[0].first(CHUNK)])
    again = dataclasses.replace(
        operation,
        id=draft.new_id(),
        kind="migrate-back",
        waiting=frozenset(waiting),
        generation=generation,
        repeated=frozenset(),
        relies=frozenset(),
        reserved=places,
    )
    if waiting:
        draft.put("operations", again.id, again)
    else:
        _finish_return(draft, again)


@finishes("migrate-back")
def _finish_return(draft: Draft, operation: Operation) -> None:
    allocation = draft.state.allocations[operation.va]
    new = [_arrived(p, operation.generation) for p in _chunk(allocation, operation)]
    allocation = draft.override(allocation, new)
    _free_orphans(draft, allocation, new)
    _end(draft, operation)


def _end(draft: Draft, operation: Operation) -> None:
    """Tell the owners what has moved, and whoever asked."""
    _give_back(draft, operation.reserved)
    va, pages = operation.asked
    allocation = draft.state.allocations.get(operation.va)
    if operation.moved and allocation is not None:
        for pid in sorted({p.pid for p in runs(allocation, va, pages) if p.kind in _MOVABLE}):
            notify(draft, pid, NotifyCode.MOVED, 0, va, pages)
    failed = ", ".join(draft.state.elements[e].name for e in sorted(operation.lost))
    draft.publish("migrated", va=va, pages=operation.moved, of=pages, failed=failed)
    if operation.lost:
        text = f"{failed} failed; {operation.moved} of {pages} pages have moved, the others are where they were"
        reply(draft, operation.requester, Status.ELEMENT_FAILED, message=text)
    else:
        reply(draft, operation.requester, Status.OK, wire.WORD.pack(operation.moved), va=va, pages=operation.moved)


def _vacate(draft: Draft, places: Iterable[Place]) -> None:
    """Clear physical pages that nobody has any more; they are anybody's when that is acknowledged."""
    places = tuple(places)
    pieces = [Override(p.va, p.pages, p.element, p.pa, OverrideKind.FREEING, 0, 0, 0) for p in places]
    waiting = clear_pages(draft, pieces, draft.new_generation(), zero=True)
    operation = Operation(draft.new_id(), "vacate", 0, Requester(), frozenset(waiting), reserved=places)
    if waiting:
        draft.put("operations", operation.id, operation)
    else:
        _give_back(draft, places)


@finishes("vacate")
def _finish_vacate(draft: Draft, operation: Operation) -> None:
    _give_back(draft, operation.reserved)


def _give_back(draft: Draft, places: Iterable[Place]) -> None:
    for place in places:
        set_free(draft, place)


def _free_orphans(draft: Draft, allocation: Allocation, pieces: list[Override]) -> None:
    """Pages whose owner ended while they were away are freed."""
    orphans = [p for p in pieces if p.pid == 0]
    if orphans:
        free_pieces(draft, Requester(), allocation, orphans)
