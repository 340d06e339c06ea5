"""The switch's tables as they should be: a pure function of the state, record by record. Each table has its owner here.

Changing the switch is then always the same: entries of a record before and after, their difference, in a safe order.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import IntEnum

from controller.core.blocks import prefix_length
from controller.core.state import Allocation, AllocationStatus, Element, Liveness, OverrideKind, Process, State
from protocol.wire import LOCAL_OS_PID, AllocFlag, ElementKind

ADDRESS_MASK = (1 << 64) - 1
Match = tuple[tuple[str, int | tuple[int, int]], ...]  # (key, value) or (key, (value, prefix length))


@dataclass(frozen=True)
class Entry:
    """A table entry, by the names of the P4Info."""

    table: str
    match: Match
    action: str
    params: tuple[tuple[str, int], ...] = ()

    @property
    def key(self) -> tuple[str, Match]:
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
    else:
        yield Entry("liveness", me, "failed")


def process_entries(process: Process) -> Iterator[Entry]:
    """`binding`."""
    yield Entry("binding", (("element", process.element), ("pid", process.pid)), "bind")


def allocation_entries(allocation: Allocation) -> Iterable[Entry]:
    """`translation` and `protection`. What is being prepared or freed has neither."""
    if allocation.status is not AllocationStatus.READY:
        return ()
    found: dict[tuple[str, Match], Entry] = {}
    for s in allocation.segments:
        va = ("va", (s.va, prefix_length(s.pages)))
        offset = (s.pa - s.va) & ADDRESS_MASK
        mapped = Entry("translation", (va,), "map_page", (("element", s.element), ("offset", offset)))
        rights = (("permissions", allocation.permissions), ("generation", allocation.generation))
        allowed = Entry("protection", (("pid", allocation.pid), va), "allow", rights)
        found |= {mapped.key: mapped, allowed.key: allowed}
    for o in allocation.overrides:  # one as large as its segment has the segment's key, and takes its place
        va = ("va", (o.va, prefix_length(o.pages)))
        owner = ("pid", allocation.pid), va
        entries = [Entry("protection", owner, "deny")]
        if o.kind is OverrideKind.OWNED:
            rights = (("permissions", o.permissions), ("generation", o.generation))
            granted = Entry("protection", (("pid", o.pid), va), "allow", rights)
            entries = [granted] if o.pid == allocation.pid else [*entries, granted]
        elif o.kind is OverrideKind.FREED:
            entries.append(Entry("translation", (va,), "unmapped"))
        elif o.kind is OverrideKind.LOST:
            entries.append(Entry("translation", (va,), "lost"))
        found |= {e.key: e for e in entries}
    if allocation.flags & AllocFlag.CACHED:  # who uses it brings its translations; what is refused, is refused here
        return [e for e in found.values() if e.action != "map_page"]
    return found.values()


def all_entries(state: State) -> Iterator[Entry]:
    """All that the switch should hold."""
    for element in state.elements.values():
        yield from element_entries(element)
    for process in state.processes.values():
        yield from process_entries(process)
    for allocation in state.allocations.values():
        yield from allocation_entries(allocation)


def difference(before: Iterable[Entry], after: Iterable[Entry]) -> list[Write]:
    """The updates that lead from one set of entries to the other, in a safe order."""
    old, new = {e.key: e for e in before}, {e.key: e for e in after}
    writes = [Write(WriteOp.DELETE, e) for key, e in old.items() if key not in new]
    for key, entry in new.items():
        if key not in old:
            writes.append(Write(WriteOp.INSERT, entry))
        elif old[key] != entry:
            writes.append(Write(WriteOp.MODIFY, entry))
    return safe_order(writes)


# Rights are withdrawn before anything else changes and granted when all else is in place. Within a rank the order is kept.
_WITHDRAW, _DISMANTLE, _BUILD, _GRANT = range(4)


def safe_order(writes: Iterable[Write]) -> list[Write]:
    """The order of updates within one change; the switch applies them one by one (safety rules S1, S2)."""
    return sorted(writes, key=_rank)


def _rank(write: Write) -> int:
    restricts = write.entry.action in ("deny", "failed", "fence", "unmapped", "lost")
    if write.entry.table in ("protection", "binding", "element", "liveness"):
        if write.op is WriteOp.DELETE:
            # Deleting a deny gives rights back; deleting anything else takes them.
            return _GRANT if restricts and write.entry.table == "protection" else _WITHDRAW
        return _WITHDRAW if restricts else _GRANT
    return _DISMANTLE if write.op is WriteOp.DELETE else _BUILD
