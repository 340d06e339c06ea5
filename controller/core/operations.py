"""Operations: changes that wait until elements have acknowledged what they were told.

Whoever starts one names its kind; the function that :func:`finishes` this kind carries out its last steps, at once when there
is nothing to wait for. An element that fails is waited for no longer: the switch has isolated it (``controller.core.entries``),
and it serves again only after a recovery has cleared every page that nobody may access (``controller.core.monitor``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from controller.core.draft import Draft
from controller.core.events import Send
from controller.core.records import replaced
from controller.core.state import Liveness, Message, Operation, Override, Requester, State
from protocol.wire import Op

Finish = Callable[[Draft, Operation], None]
_FINISH: dict[str, Finish] = {}


def finishes(kind: str) -> Callable[[Finish], Finish]:
    """Decorator: this function carries out the last steps of operations of this kind."""

    def register(finish: Finish) -> Finish:
        _FINISH[kind] = finish
        return finish

    return register


def send(
    draft: Draft,
    op: Op,
    element: int,
    va: int = 0,
    pa: int = 0,
    pages: int = 0,
    generation: int = 0,
    pid: int = 0,
    permissions: int = 0,
    zero: bool = False,
    peer: int = 0,
    transfer: int = 0,
) -> int:
    """Plan a message to a memory element; returns its id."""
    number = draft.new_id()
    message = Message(number, element, int(op), va, pa, pages, pid, permissions, zero, generation, peer, transfer)
    draft.put("messages", number, message)
    draft.do(Send(message))
    return number


def begin(
    draft: Draft,
    kind: str,
    va: int,
    to: Requester,
    waiting: Iterable[int],
    *,
    pieces: Sequence[Override] = (),
    generation: int = 0,
    pid: int = 0,
    giver: int = 0,
    permissions: int = 0,
    places: tuple[tuple[int, int, int], ...] = (),
) -> None:
    """Note what waits for these messages, and which pages it concerns; nothing to wait for finishes it at once."""
    start, end = (pieces[0].va, pieces[-1].end) if pieces else (0, 0)
    pages = sum(p.pages for p in pieces)
    rest = start, pages, end, generation, pid, giver, permissions
    operation = Operation(draft.new_id(), kind, va, to, frozenset(waiting), *rest, places=places)
    if operation.waiting:
        draft.put("operations", operation.id, operation)
    else:
        _FINISH[kind](draft, operation)


def acknowledge(draft: Draft, message: int) -> None:
    """An element has done what it was told: go on with what waited for it."""
    draft.remove("messages", message)
    for operation in list(draft.state.operations.values()):
        if message in operation.waiting:
            _go_on(draft, replaced(operation, waiting=operation.waiting - {message}))


def lose(draft: Draft, element: int) -> None:
    """An element has failed: what it was told may never have reached it. It is waited for no longer, and every operation that
    relies on its page table learns of the loss, also when the element had acknowledged: the recovery clears that again."""
    lost = {m.id for m in draft.state.messages.values() if m.element == element}
    for message in lost:
        draft.remove("messages", message)
    for operation in list(draft.state.operations.values()):
        if element in operation.relies:
            _give_up(draft, operation, element)
        elif operation.waiting & lost or _relies(draft.state, operation, element):
            waiting = operation.waiting - lost
            _go_on(draft, replaced(operation, waiting=waiting, lost=operation.lost | {element}))


def isolate(draft: Draft, element: int) -> None:
    """A memory element is fenced off: nothing can be copied from it or to it."""
    for operation in list(draft.state.operations.values()):
        if element in operation.relies:
            _give_up(draft, operation, element)


def _give_up(draft: Draft, operation: Operation, element: int) -> None:
    """An operation cannot be done without an element: wait for nobody."""
    for message in operation.waiting | operation.repeated:
        if message in draft.state.messages:
            draft.remove("messages", message)
    _go_on(draft, replaced(operation, waiting=frozenset(), lost=operation.lost | {element}))


def _relies(state: State, operation: Operation, element: int) -> bool:
    allocation = state.allocations.get(operation.va) if operation.kind == "alloc" else None
    return allocation is not None and any(s.element == element for s in allocation.segments)


def _go_on(draft: Draft, operation: Operation) -> None:
    if operation.waiting:
        draft.put("operations", operation.id, operation)
    else:
        draft.remove("operations", operation.id)
        _FINISH[operation.kind](draft, operation)


def cancel(draft: Draft, operation: Operation) -> None:
    """Forget an operation and what it waits for; nobody is told."""
    draft.remove("operations", operation.id)
    for message in operation.waiting:
        draft.remove("messages", message)


def recovery(state: State, element: int) -> Operation | None:
    """The operation that makes an element safe before it serves (again)."""
    return next((o for o in state.operations.values() if o.kind == "recover" and o.va == element), None)


def fence(state: State, element: int) -> Operation | None:
    """The operation that fences an element off."""
    return next((o for o in state.operations.values() if o.kind == "fence" and o.va == element), None)


def is_reachable(state: State, element: int) -> bool:
    """Whether the element acknowledges: it serves, or is being made safe. What changes while it is neither is cleared by the
    recovery that must come before it serves again."""
    return state.elements[element].liveness is Liveness.ALIVE or recovery(state, element) is not None
