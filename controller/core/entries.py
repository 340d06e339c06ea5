"""The switch's tables as they should be: a pure function of the state, record by record. Each table has its owner here.

Changing the switch is then always the same: entries of a record before and after, their difference, in a safe order.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import IntEnum

from controller.core.blocks import prefix_length
from controller.core.layout import overrides_in, segments_in
from controller.core.state import (
    Allocation,
    AllocationStatus,
    Element,
    Liveness,
    Override,
    OverrideKind,
    Process,
    Segment,
    State,
)
from protocol.wire import LOCAL_OS_PID, VA_BITS, AllocFlag, ElementKind

ADDRESS_MASK = (1 << 64) - 1
Match = tuple[tuple[str, int | tuple[int, int]], ...]  # (key, value) or (key, (value, prefix length))
Key = tuple[str, Match]  # table and match


@dataclass(frozen=True)
class Entry:
    """A table entry, by the names of the P4Info."""

    table: str
    match: Match
    action: str
    params: tuple[tuple[str, int], ...] = ()

    @property
    def key(self) -> Key:
        """What identifies the entry in the switch."""
        return self.table, self.match


class WriteOp(IntEnum):
    """P4Runtime's update types."""

    INSERT = 1
    MODIFY = 2
    DELETE = 3


@dataclass(frozen=True)
class Write:
    """One update."""

    op: WriteOp
    entry: Entry


def element_entries(element: Element) -> Iterator[Entry]:
    """`element`, `liveness`, `reply_route` and the local OS's `binding`.

    A memory element that does not serve is fenced, too: it may be only slow, and a write that it carries out now must be
    confirmed to nobody, since changes are acknowledged without it. It is heard again after its recovery.
    """
    kind = ElementKind.COMPUTE if element.kind == "compute" else ElementKind.MEMORY
    serves = element.kind == "compute" or element.liveness is Liveness.ALIVE
    action = "attach" if serves and not element.fenced else "fence"
    port, me = (("port", element.port),), (("element", element.id),)
    yield Entry("element", port, action, (("element", element.id), ("kind", int(kind))))
    if element.kind == "compute":
        yield Entry("reply_route", me, "route", port)
        yield Entry("binding", (("element", element.id), ("pid", LOCAL_OS_PID)), "bind")
    elif action == "attach":
        yield Entry("liveness", me, "alive", port)
        yield Entry("reply_route", me, "route", port)  # other memory elements send it pages
    else:
        yield Entry("liveness", me, "failed")


def process_entries(process: Process) -> Iterator[Entry]:
    """`binding`."""
    yield Entry("binding", (("element", process.element), ("pid", process.pid)), "bind")


def allocation_entries(allocation: Allocation, start: int = 0, end: int = 1 << 64) -> Iterable[Entry]:
    """`translation` and `protection`, of the segments and overrides that a range of addresses touches. What is being prepared or
    freed has neither."""
    if allocation.status is not AllocationStatus.READY:
        return ()
    found: dict[Key, Entry] = {}
    overrides = iter(overrides_in(allocation, start, end))
    o = next(overrides, None)
    for s in segments_in(allocation, start, end):
        va = ("va", (s.va, prefix_length(s.pages)))
        rights = (("permissions", s.permissions), ("generation", s.generation))
        for entry in (_mapped(s, va), Entry("protection", (("pid", s.pid), va), "allow", rights)):
            found[entry.key] = entry
        while o is not None and o.va < s.end:  # one as large as its segment has the segment's key, and takes its place
            if o.pages == s.pages and _owned(o):
                del found["protection", (("pid", s.pid), va)]
            found |= {e.key: e for e in _override_entries(s, o)}
            o = next(overrides, None)
    if allocation.flags & AllocFlag.CACHED:  # who uses it brings its translations; what is refused, is refused here
        return [e for e in found.values() if e.action != "map_page"]
    return found.values()


def _owned(o: Override) -> bool:
    """Whether somebody passes the switch to these pages."""
    return o.kind in (OverrideKind.OWNED, OverrideKind.MOVING, OverrideKind.MIGRATING) and o.permissions != 0


def _override_entries(segment: Segment, o: Override) -> Iterator[Entry]:
    va = ("va", (o.va, prefix_length(o.pages)))
    rights = (("permissions", o.permissions), ("generation", o.generation))
    if not _owned(o) or (o.pid != segment.pid and o.pages < segment.pages):
        yield Entry("protection", (("pid", segment.pid), va), "deny")
    if _owned(o):
        yield Entry("protection", (("pid", o.pid), va), "allow", rights)
    if o.kind is OverrideKind.FREED:
        yield Entry("translation", (va,), "unmapped")
    elif o.kind is OverrideKind.LOST:
        yield Entry("translation", (va,), "lost")
    elif (o.element, o.pa - o.va) != (segment.element, segment.pa - segment.va):
        yield _mapped(o, va)


def _mapped(block: Segment | Override, va: tuple[str, tuple[int, int]]) -> Entry:
    offset = (block.pa - block.va) & ADDRESS_MASK
    return Entry("translation", (va,), "map_page", (("element", block.element), ("offset", offset)))


def all_entries(state: State) -> Iterator[Entry]:
    """All that the switch should hold."""
    for element in state.elements.values():
        yield from element_entries(element)
    for process in state.processes.values():
        yield from process_entries(process)
    for allocation in state.allocations.values():
        yield from allocation_entries(allocation)


def difference(before: Iterable[Entry], after: Iterable[Entry]) -> list[Write]:
    """The updates that lead from one set of entries to the other, in a safe order. The switch applies them one by one.

    Rights that end are withdrawn before anything else changes, and new ones are given when all else is in place (safety rules S1,
    S2). What somebody may do before and after, it may do at every moment between (S5): where blocks are split or joined, the new
    entries are there before the old ones go.
    """
    old, new = {e.key: e for e in before}, {e.key: e for e in after}
    was, will_be = _Rights(old), _Rights(new)
    writes = [
        (_rank_of_delete(e, will_be), _length(e), Write(WriteOp.DELETE, e)) for k, e in old.items() if k not in new
    ]
    for key, entry in new.items():
        known = old.get(key)
        if known != entry:
            op = WriteOp.INSERT if known is None else WriteOp.MODIFY
            writes.append((_rank_of_upsert(entry, was, will_be), -_length(entry), Write(op, entry)))
    return [write for _, _, write in sorted(writes, key=lambda w: w[:2])]


# In this order; within a rank the longest prefixes come first where entries are written, and last where they are deleted, so that
# what an address hears changes once.
_WITHDRAW, _SPLIT, _END, _BUILD, _DISMANTLE, _GRANT, _JOIN, _OPEN = range(8)
_RIGHTS = ("protection", "binding", "element", "liveness")


def _rank_of_upsert(entry: Entry, was: _Rights, will_be: _Rights) -> int:
    if entry.table not in _RIGHTS:
        return _BUILD
    if entry.action in ("deny", "failed", "fence"):
        return _WITHDRAW
    covering = was.covering(entry)
    if (
        covering is not None
        and covering.action == "allow"
        and (covering.params == entry.params or covering not in will_be)
    ):
        return _SPLIT  # what remains of a larger block, perhaps with other rights: the process's own before and after
    return _GRANT


def _rank_of_delete(entry: Entry, will_be: _Rights) -> int:
    if entry.table not in _RIGHTS:
        return _DISMANTLE
    if entry.action == "deny":
        return _OPEN
    covering = will_be.covering(entry)
    if covering is not None and covering.action == "allow" and not _permissions(entry) & ~_permissions(covering):
        return _JOIN  # a larger block takes its place
    return _END


class _Rights:
    """The entries of `protection`, to be asked which one decides for a block."""

    def __init__(self, found: dict[Key, Entry]):
        self._found = found
        self._lengths = sorted({_length(e) for e in found.values() if e.table == "protection"}, reverse=True)

    def __contains__(self, entry: Entry) -> bool:
        return entry.key in self._found

    def covering(self, entry: Entry) -> Entry | None:
        """The longest entry for the same process that covers all of the block of an entry of `protection`."""
        if entry.table != "protection":
            return None
        pid, (_, (va, own)) = entry.match  # type: ignore[misc]
        for length in self._lengths:
            if length <= own:
                prefix = va >> (VA_BITS - length) << (VA_BITS - length)
                found = self._found.get(("protection", (pid, ("va", (prefix, length)))))
                if found is not None:
                    return found
        return None


def _length(entry: Entry) -> int:
    """Of the prefix; 0 when the table has none."""
    value = entry.match[-1][1]
    return value[1] if isinstance(value, tuple) else 0


def _permissions(entry: Entry) -> int:
    return dict(entry.params)["permissions"]
