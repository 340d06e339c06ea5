"""Standbys: processes that are told when another one is cut off from the rack for good, with what they need to take its memory.

A watched process is cut off when it has crashed, as its local OS says, or when its compute element is fenced: then nothing that
it does reaches memory or other racks, and whoever takes over need not ask whether it was only slow.
"""

from __future__ import annotations

from collections.abc import Iterator

from controller.core.answers import Refused, reply
from controller.core.draft import Draft
from controller.core.layout import holders, runs
from controller.core.notices import notify
from controller.core.state import AllocationStatus, OverrideKind, Requester, State, Watch
from protocol import wire
from protocol.wire import PAGE_SIZE, NotifyCode, Status

MOST_WATCHES = 64  # of one process


def watch(draft: Draft, to: Requester, pid: int, source: int, group: int) -> None:
    """Note that ``pid`` stands by for ``source`` (0: every process with memory of the group), and tell it at once of those that
    are cut off already. A repetition is the same watch. Raises Refused."""
    state = draft.state
    if group not in state.groups:
        raise Refused(Status.NOT_FOUND, "not_found", f"there is no group {group}")
    for process in {pid, source} - {0}:
        if process not in state.processes and (process == pid or not stealable(state, process, group)):
            raise Refused(Status.NO_SUCH_PROCESS, "no_such_process", f"there is no process {process}")
    if pid == source:
        raise Refused(Status.BAD_REQUEST, "bad_request", f"process {pid} cannot stand by for itself")
    own = [w for w in state.watches.values() if w.pid == pid]
    same = next((w for w in own if (w.source, w.group) == (source, group)), None)
    if same is None and len(own) >= MOST_WATCHES:
        raise Refused(Status.BUSY, "busy", f"process {pid} has {MOST_WATCHES} watches already")
    found = same or Watch(draft.new_id(), pid, source, group)
    if same is None:
        draft.put("watches", found.id, found)
        draft.publish("watch", watch=found.id, pid=pid, source=source, group=group)
    for other in _concerned(draft.state, found):
        if _is_cut_off(draft.state, other):
            _tell(draft, found, other)
    reply(draft, to, Status.OK, va=found.id, watch=found.id, pid=pid, source=source, group=group)


def unwatch(draft: Draft, to: Requester, number: int, pid: int | None) -> None:
    """Forget a watch of ``pid`` (None: of anybody). Raises Refused."""
    found = draft.state.watches.get(number)
    if found is None or pid not in (None, found.pid):
        raise Refused(Status.NOT_FOUND, "not_found", f"there is no watch {number}")
    draft.remove("watches", number)
    reply(draft, to, Status.OK, va=number, watch=number)


def ranges(draft: Draft, to: Requester, pid: int, source: int, group: int, start: int) -> None:
    """List what ``pid`` may steal of ``source``, from address ``start`` on; it needs a watch for that. Raises Refused."""
    if not any((w.pid, w.group) == (pid, group) and w.source in (0, source) for w in draft.state.watches.values()):
        text = f"process {pid} does not stand by for process {source} with group {group}"
        raise Refused(Status.PERMISSION, "permission", text)
    found = [(va, pages) for va, pages in stealable(draft.state, source, group) if va >= start]
    listed, rest = found[: wire.MAX_RANGES], found[wire.MAX_RANGES :]
    payload = wire.RANGES_REPLY.pack(rest[0][0] if rest else 0, len(listed))
    reply(draft, to, Status.OK, payload + b"".join(wire.RANGE.pack(*r) for r in listed))


def stealable(state: State, source: int, group: int) -> list[tuple[int, int]]:
    """What members of a group may take of a process now: (va, pages), in the order of addresses."""
    result: list[tuple[int, int]] = []
    for allocation in sorted(state.allocations.values(), key=lambda a: a.va):
        if allocation.status is AllocationStatus.READY and allocation.may_be_stolen and allocation.group == group:
            first = len(result)  # a range is within one allocation, as a steal is
            for piece in runs(allocation):
                if piece.pid != source or piece.kind is not OverrideKind.OWNED:
                    continue
                if len(result) > first and result[-1][0] + result[-1][1] * PAGE_SIZE == piece.va:
                    result[-1] = result[-1][0], result[-1][1] + piece.pages
                else:
                    result.append((piece.va, piece.pages))
    return result


def is_watched(state: State, element: int) -> bool:
    """Whether somebody on another element stands by for a process of this compute element."""
    others = (w for w in state.watches.values() if _on(state, w.pid) != element)
    return any(_on(state, pid) == element for w in others for pid in _concerned(state, w))


def fenced(draft: Draft, element: int) -> None:
    """A compute element is cut off: tell who stands by for its processes."""
    for found in list(draft.state.watches.values()):
        for pid in _concerned(draft.state, found):
            if _on(draft.state, pid) == element:
                _tell(draft, found, pid)


def ended(draft: Draft, pid: int, crashed: bool) -> None:
    """A process is no more: what it watched is forgotten; who stands by for it is told, unless it wanted to end."""
    for found in list(draft.state.watches.values()):
        if found.pid == pid or (found.source == pid and not crashed):
            draft.remove("watches", found.id)
        elif crashed and (found.source == pid or (found.source == 0 and stealable(draft.state, pid, found.group))):
            _tell(draft, found, pid)


def _tell(draft: Draft, found: Watch, source: int) -> None:
    what = stealable(draft.state, source, found.group)
    first, pages = (what[0][0] if what else 0), sum(pages for _, pages in what)
    notify(draft, found.pid, NotifyCode.TAKEOVER, source, first, pages, found.group)
    draft.publish("standby_told", watch=found.id, pid=found.pid, source=source, group=found.group, pages=pages)


def _concerned(state: State, found: Watch) -> Iterator[int]:
    """The processes that a watch is about now."""
    if found.source:
        yield found.source
        return
    owners = {pid for a in state.allocations.values() if a.group == found.group for pid in holders(a)}
    for pid in sorted(owners - {found.pid}):
        if stealable(state, pid, found.group):
            yield pid


def _on(state: State, pid: int) -> int | None:
    process = state.processes.get(pid)
    return None if process is None else process.element


def _is_cut_off(state: State, pid: int) -> bool:
    element = _on(state, pid)
    if element is None:
        return True
    under_way = any(o.kind == "fence" and o.va == element for o in state.operations.values())
    return state.elements[element].fenced and not under_way
