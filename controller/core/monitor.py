"""The rack monitor: registration, heartbeats, suspicion, failure, recovery.

Silence is first suspicious, which is reported and nothing else, and then taken for death. Nobody can know whether an element
is dead or slow, so before anybody is told that it is dead the monitor makes sure that it makes no difference: a memory element
is taken out of the switch's tables, a compute element is fenced (``controller.core.fences``) if somebody stands by for its
processes.
"""

from __future__ import annotations

import dataclasses

from immutables import Map

from controller.core import fences, operations, poison, processes, standby
from controller.core.answers import Refused, reply
from controller.core.blocks import Extents, cut_out, take
from controller.core.draft import Draft
from controller.core.layout import GONE, NOT_KEPT, arrived, changed, joined, rules, runs, without
from controller.core.memory import Config, owners
from controller.core.notices import notify
from controller.core.state import (
    MONITOR,
    SET,
    Allocation,
    AllocationStatus,
    Element,
    Liveness,
    Operation,
    Override,
    OverrideKind,
    Requester,
    State,
    Thresholds,
)
from protocol.wire import PAGE_SHIFT, NotifyCode, Op, Status

SHORTEST_INTERVAL, LONGEST_INTERVAL, LONGEST_SILENCE = 0.01, 60.0, 3600.0  # seconds


def thresholds(state: State, config: Config) -> Thresholds:
    """Those that hold now."""
    return state.settings.get(SET, config.thresholds)


def check_thresholds(found: Thresholds) -> None:
    """Raises ValueError, which says what would be valid."""
    if not SHORTEST_INTERVAL <= found.interval <= LONGEST_INTERVAL:
        text = f"a heartbeat every {found.interval * 1000:g} ms: {SHORTEST_INTERVAL * 1000:g} ms at least"
        raise ValueError(f"{text}, {LONGEST_INTERVAL * 1000:g} ms at most")
    if not found.suspect >= 2 * found.interval:
        text = f"suspicion after {found.suspect * 1000:g} ms: two heartbeats ({2000 * found.interval:g} ms) at least"
        raise ValueError(text)
    if not found.suspect <= found.fail <= LONGEST_SILENCE:
        text = f"failure after {found.fail * 1000:g} ms: suspicion ({found.suspect * 1000:g} ms) at least"
        raise ValueError(f"{text}, {LONGEST_SILENCE * 1000:g} ms at most")


def adjust(
    draft: Draft, config: Config, to: Requester, interval: float | None, suspect: float | None, fail: float | None
) -> None:
    """Set thresholds (None: as it is), seconds; elements learn of another interval when they are heard. Raises Refused."""
    old = thresholds(draft.state, config)
    new = Thresholds(
        old.interval if interval is None else interval,
        old.suspect if suspect is None else suspect,
        old.fail if fail is None else fail,
    )
    try:
        check_thresholds(new)
    except ValueError as error:
        raise Refused(Status.BAD_REQUEST, "bad_request", str(error)) from None
    if new != old:
        draft.put("settings", SET, new)
        draft.publish("thresholds", **dataclasses.asdict(new))
    reply(draft, to, Status.OK, **dataclasses.asdict(new))


def seen(draft: Draft, element_id: int, incarnation: int, now: float, interval: float = 0.0) -> None:
    """An element gave a sign of life (HELLO or heartbeat), as it does every ``interval`` seconds (0: it does not say)."""
    element = draft.state.elements.get(element_id)
    if element is None:
        return
    if incarnation < element.incarnation and operations.is_reachable(draft.state, element_id):
        return  # the last word of one that has restarted since: the one after it is there
    before = draft.state.last_seen.get(element_id, now)
    draft.see(element_id, now)
    draft.hear(element_id, interval)
    if element_id in draft.state.suspected:
        draft.suspect(element_id, None)
        draft.publish("element_trusted", element=element_id, name=element.name, silent=round(now - before, 3))
    if element.kind == "compute" and element.fenced_by == MONITOR and incarnation != element.incarnation:
        if operations.fence(draft.state, element_id) is not None:
            return  # the next sign of life will do
        _registered_anew(draft, element)
        element = draft.state.elements[element_id]
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
                draft.override(allocation, [changed(p, OverrideKind.LOST, generation) for p in gone])
            for pid, va, pages in owners(gone):
                notify(draft, pid, NotifyCode.MEMORY_LOST, element.id, va, pages)
                draft.publish("memory_lost", pid=pid, va=va, pages=pages, element=element.id)
    for operation in draft.state.operations.values():
        emptied = operation.emptied | {element.id}
        draft.put("operations", operation.id, dataclasses.replace(operation, emptied=emptied))


def _registered_anew(draft: Draft, element: Element) -> None:
    """A compute element that the monitor had fenced has restarted: what it was doing is over, and it may begin anew."""
    for process in list(draft.state.processes.values()):
        if process.element == element.id:
            processes.end(draft, process.pid, crashed=True)
    fences.let_in(draft, element)


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
    waiting += poison.repeat(draft, element_id)
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
    """Elements that have been silent for too long are suspected, and then have failed."""
    limits = thresholds(draft.state, config)
    for element in draft.state.elements.values():
        seen_at = draft.state.last_seen.get(element.id, now)
        # One that has not heard yet how often it is to be heard cannot be blamed for that.
        slower = draft.state.intervals.get(element.id, 0.0)
        silent = now - seen_at - (2 * slower if slower > limits.interval else 0.0)
        if element.liveness is Liveness.ALIVE or operations.recovery(draft.state, element.id) is not None:
            if silent > limits.suspect and element.id not in draft.state.suspected:
                draft.suspect(element.id, seen_at)
                draft.publish(
                    "element_suspected", element=element.id, name=element.name, silent=round(now - seen_at, 3)
                )
            if silent > limits.fail:
                fail(draft, element, f"silent for {now - seen_at:.2f} s")
        if silent > limits.fail and element.kind == "compute" and element.id in draft.state.last_seen:
            _cut_off(draft, draft.state.elements[element.id])


def _cut_off(draft: Draft, element: Element) -> None:
    """Nothing that a dead compute element does, should it be alive, may have an effect if somebody is to take over from it."""
    if element.liveness is Liveness.FAILED and not element.fenced and standby.is_watched(draft.state, element.id):
        fences.fence(draft, Requester(), element.id, MONITOR)


def fail(draft: Draft, element: Element, why: str) -> None:
    """Isolate an element, tell those whose memory it holds, and let what waits for it go on."""
    if element.id in draft.state.suspected:
        draft.suspect(element.id, None)
    recovery = operations.recovery(draft.state, element.id)
    if recovery is not None:
        operations.cancel(draft, recovery)
    draft.put("elements", element.id, dataclasses.replace(element, liveness=Liveness.FAILED))
    if element.kind == "memory" or not standby.is_watched(draft.state, element.id):
        draft.publish("element_failed", element=element.id, name=element.name, why=why)
    for allocation in draft.state.allocations.values():
        # Whom pages are on their way to hears of it when they are its own.
        here = [p for p in without(allocation, *NOT_KEPT, OverrideKind.MOVING) if p.element == element.id]
        for pid, va, pages in owners(here):
            notify(draft, pid, NotifyCode.ELEMENT_FAILED, element.id, va, pages)
    operations.lose(draft, element.id)


def physical_free(state: State) -> dict[int, Extents]:
    """The good pages of each memory element that no allocation holds, from the allocations and the bad pages alone."""
    free: dict[int, Extents] = {e.id: ((0, e.pages),) for e in state.elements.values() if e.kind == "memory"}
    for allocation in state.allocations.values():
        for element, first, pages in held(allocation):
            free[element] = take(free[element], first, pages)
    for number, bad in state.bad.items():
        for first, pages in bad.pages:
            free[number] = cut_out(free[number], first, pages)
    for place in (place for operation in state.operations.values() for place in operation.reserved):
        free[place.element] = cut_out(free[place.element], place.pa >> PAGE_SHIFT, place.pages)
    return free


def complete(stored: State) -> State:
    """The stored part of a state, with what follows from it."""
    return dataclasses.replace(
        stored,
        free=Map(physical_free(stored)),
        rules=sum(rules(a) for a in stored.allocations.values()),
        last_seen=Map(),
        refusals=Map(),
        answered=Map(),
        intervals=Map(),
        suspected=Map(),
    )


def held(allocation: Allocation) -> list[tuple[int, int, int]]:
    """(element, first page, pages) of everything physical that an allocation holds."""
    return [(p.element, p.pa >> PAGE_SHIFT, p.pages) for p in without(allocation, *GONE)]
