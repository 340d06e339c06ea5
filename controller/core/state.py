"""The controller's state: immutable records in immutable maps, so that a plan can be tried, compared and stored piecewise."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from immutables import Map

from protocol.wire import GROUP_SHIFT, PAGE_SHIFT, PAGE_SIZE, PID_SHIFT, AllocFlag

TOR = 0  # the top-of-rack switch, where elements are named: no element has this id
OPERATOR, MONITOR = "operator", "monitor"  # who fenced an element
SET = 0  # the key of the only record of `settings`


class Liveness(StrEnum):
    """What the rack monitor knows of an element."""

    UNKNOWN = "unknown"  # wired, but it has not said HELLO yet
    ALIVE = "alive"
    FAILED = "failed"


class AllocationStatus(StrEnum):
    """Where an allocation is in its life."""

    PREPARING = "preparing"  # page tables are being set; nobody may access it yet
    READY = "ready"
    FREEING = "freeing"  # access is withdrawn; page tables are being cleared


class OverrideKind(StrEnum):
    """What is different of some pages of an allocation."""

    OWNED = "owned"  # by another process than the allocation's, or with other permissions
    MOVING = "moving"  # on their way to an owner, who passes the switch already, until their element has acknowledged
    MIGRATING = "migrating"  # being copied to another element; whoever has it waits, but REVOKED pages nobody has
    REVOKED = "revoked"  # the contents are kept
    LOST = "lost"  # the element came back without the contents: until it is freed every access is told so
    FREEING = "freeing"  # being given back: the element has not acknowledged yet
    FREED = "freed"  # given back; the address stays in use until the whole allocation is freed


@dataclass(frozen=True)
class Element:
    """An element as wired, and what is known of it."""

    id: int
    name: str
    kind: str  # compute, memory
    port: int
    media: str = "none"
    pages: int = 0
    liveness: Liveness = Liveness.UNKNOWN
    fenced: bool = False
    incarnation: int = 0
    fenced_by: str = ""  # OPERATOR or MONITOR, while it is fenced
    told: bool = False  # those who watch its processes have been told that it is fenced


@dataclass(frozen=True)
class Thresholds:
    """Of the rack monitor, in seconds: how often elements are heard, which silence is suspicious, which is taken for death."""

    interval: float = 0.1
    suspect: float = 0.3
    fail: float = 0.6


@dataclass(frozen=True)
class Watch:
    """A process that stands by: told when ``source`` (0: any process with memory of the group) is cut off from the rack for good,
    so that its memory of this group can be taken."""

    id: int
    pid: int  # who is told
    source: int
    group: int


@dataclass(frozen=True)
class Process:
    """A process, bound to one compute element."""

    pid: int
    element: int
    name: str
    next_va: int  # where the next allocation may begin
    serial: int = 0  # tells it from any other process that has, or will have, the same pid


@dataclass(frozen=True)
class Segment:
    """A power-of-two block of pages, aligned in its virtual address: one LPM prefix. Physically contiguous.

    ``pid`` owns what no override covers. ``generation`` is the largest of those pages (``controller.core.layout``).
    """

    va: int
    pages: int
    element: int
    pa: int
    pid: int
    permissions: int
    generation: int

    @property
    def end(self) -> int:
        """The address behind the last byte."""
        return self.va + self.pages * PAGE_SIZE


@dataclass(frozen=True)
class Override:
    """A block of pages (power of two, aligned) inside a segment that differs from it. ``pid`` owns it, or owned it last; MOVING:
    is to own it. ``generation`` is the largest of its pages': of the operation under way while MOVING or FREEING."""

    va: int
    pages: int
    element: int
    pa: int
    kind: OverrideKind
    pid: int
    permissions: int
    generation: int

    @property
    def end(self) -> int:
        """The address behind the last byte."""
        return self.va + self.pages * PAGE_SIZE


@dataclass(frozen=True)
class Allocation:
    """Memory of a process: consecutive virtual addresses, any number of elements. ``pid`` allocated it.

    ``overrides`` are in the order of addresses, as few as there can be (``controller.core.layout``), and stored apart.
    """

    va: int
    pages: int
    pid: int
    status: AllocationStatus
    segments: tuple[Segment, ...]
    overrides: tuple[Override, ...] = ()
    flags: int = 0  # AllocFlag, and the group
    granted: int = 0  # overrides that need two entries in `protection`

    @property
    def group(self) -> int:
        """Whose members may steal it; 0: nobody's."""
        return self.flags >> GROUP_SHIFT

    @property
    def may_be_stolen(self) -> bool:
        """Whether it is in a group, and not allocated to stay with its owner."""
        return self.group != 0 and not self.flags & AllocFlag.NOT_REASSIGNABLE

    @property
    def size(self) -> int:
        """Bytes."""
        return self.pages * PAGE_SIZE

    @property
    def end(self) -> int:
        """The address behind the last byte."""
        return self.va + self.size


@dataclass(frozen=True)
class Place:
    """Physical pages, and the addresses that are to be there."""

    va: int
    pages: int
    element: int
    pa: int

    @property
    def end(self) -> int:
        """The address behind the last byte."""
        return self.va + self.pages * PAGE_SIZE

    def first(self, pages: int) -> Place:
        """At most so many pages of it, from its start."""
        return Place(self.va, min(pages, self.pages), self.element, self.pa)

    def behind(self, pages: int) -> tuple[Place, ...]:
        """What is left without the first so many pages: one place, or none."""
        size = pages * PAGE_SIZE
        left = self.pages - pages
        return (Place(self.va + size, left, self.element, self.pa + size),) if left > 0 else ()


@dataclass(frozen=True)
class Message:
    """What a memory element was told and has not acknowledged yet: a page-table change or a barrier. Or the top-of-rack switch: a
    barrier behind its fences."""

    id: int  # also its request id
    element: int  # or TOR
    op: int  # PT_SET, PT_CLEAR, BARRIER, COPY or RECEIVE
    va: int
    pa: int
    pages: int
    pid: int
    permissions: int
    zero: bool
    generation: int
    peer: int = 0  # COPY and RECEIVE: the other element
    transfer: int = 0  # COPY: the id of the RECEIVE


@dataclass(frozen=True)
class Notice:
    """What a process must hear of, through the local OS of its element, which has not acknowledged it yet."""

    id: int  # also its request id
    element: int
    pid: int
    code: int  # NotifyCode
    about: int  # the element concerned, or another process
    va: int
    pages: int
    group: int = 0


@dataclass(frozen=True)
class Group:
    """Processes that may take one another's memory: whoever has the secret, or enough shares of it."""

    id: int
    name: str
    secret: bytes
    needed: int = 0  # of ``total`` shares; 0: there are none
    total: int = 0


@dataclass(frozen=True)
class Address:
    """A service address and the process that has it: what is sent there goes to its element."""

    address: int  # IPv4
    pid: int
    element: int
    group: int = 0  # whose members may take it over; 0: nobody's


@dataclass(frozen=True)
class BadPages:
    """Pages of a memory element that cannot be accessed: (first page, pages), sorted, not touching."""

    element: int
    pages: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Requester:
    """Who asked: an element's process in band (``element`` > 0), or the API."""

    element: int = 0
    pid: int = 0
    request_id: int = 0
    op: int = 0
    va: int = 0


@dataclass(frozen=True)
class Operation:
    """A change that is under way: done when no message of ``waiting`` is outstanding."""

    id: int
    # alloc, free, free-part, revoke, grant, steal, protect, migrate, migrate-back, vacate; recover, fence, unfence; poison, heal
    kind: str
    va: int  # of the allocation; the element's id for recover, fence and unfence
    requester: Requester
    waiting: frozenset[int] = frozenset()
    start: int = (
        0  # range concerned, but for alloc, free, recover and fence: first page, all pages, end of the last one
    )
    pages: int = 0
    end: int = 0
    generation: int = 0  # of the overrides that wait for it
    pid: int = 0  # who gets the pages,
    giver: int = 0  # and who had them
    permissions: int = 0
    # Elements that failed while it was under way, whether or not they had acknowledged.
    lost: frozenset[int] = frozenset()
    places: tuple[tuple[int, int, int], ...] = ()  # physical pages concerned: (element, first page, pages)
    # Elements that came back without contents while it was under way: what arrives there is LOST.
    emptied: frozenset[int] = frozenset()
    # migrate: it is undone when one of these elements fails; messages that are repeated until it goes on; what was asked for;
    # where pages that have not moved yet are to go, those of start to end first; how many have moved. vacate: what is cleared.
    relies: frozenset[int] = frozenset()
    repeated: frozenset[int] = frozenset()
    asked: tuple[int, int] = (0, 0)
    reserved: tuple[Place, ...] = ()
    moved: int = 0


@dataclass(frozen=True)
class Reply:
    """The answer to a control request, kept so that a repetition gets the same."""

    element: int
    pid: int
    request_id: int
    op: int
    status: int
    va: int = 0
    payload: bytes = b""


@dataclass(frozen=True)
class Counters:
    """Where numbering goes on."""

    next_pid: int = 1
    next_id: int = 1  # messages and operations
    next_generation: int = 1
    epoch: int = 1  # of the generations: a store that is made later has a larger one


# What is stored, by name of the map; allocations without their overrides.
KINDS: dict[str, Any] = {
    "elements": Element,
    "processes": Process,
    "allocations": Allocation,
    "overrides": Override,
    "messages": Message,
    "operations": Operation,
    "replies": Reply,
    "notices": Notice,
    "groups": Group,
    "addresses": Address,
    "watches": Watch,
    "settings": Thresholds,
    "bad": BadPages,
}


@dataclass(frozen=True)
class State:
    """Everything the controller knows. Not stored are ``free`` (physical pages nobody has) and ``rules``, which follow from the
    rest, and what is worth nothing after a restart: when an element was heard last, who is suspected, and when whom was answered
    what (seconds).
    """

    elements: Map[int, Element] = field(default_factory=Map)
    processes: Map[int, Process] = field(default_factory=Map)
    allocations: Map[int, Allocation] = field(default_factory=Map)
    messages: Map[int, Message] = field(default_factory=Map)
    operations: Map[int, Operation] = field(default_factory=Map)
    replies: Map[tuple[int, int, int], Reply] = field(default_factory=Map)  # by element, pid, request id
    notices: Map[int, Notice] = field(default_factory=Map)
    groups: Map[int, Group] = field(default_factory=Map)
    addresses: Map[int, Address] = field(default_factory=Map)
    watches: Map[int, Watch] = field(default_factory=Map)
    bad: Map[int, BadPages] = field(default_factory=Map)  # by element
    settings: Map[int, Thresholds] = field(default_factory=Map)  # SET: what was set at run time
    rules: int = 0  # entries that the allocations may need (``controller.core.layout.rules``), all of them
    free: Map[int, tuple[tuple[int, int], ...]] = field(default_factory=Map)  # element: (first page, pages), sorted
    last_seen: Map[int, float] = field(default_factory=Map)
    intervals: Map[int, float] = field(default_factory=Map)  # between heartbeats, as the elements say
    suspected: Map[int, float] = field(default_factory=Map)  # element: when it was heard last
    refusals: Map[tuple[int, int, int], Reply] = field(default_factory=Map)  # as replies
    answered: Map[tuple[int, int], tuple[tuple[float, int], ...]] = field(default_factory=Map)  # speaker: (when, id)
    counters: Counters = Counters()

    def allocation_at(self, va: int) -> Allocation | None:
        """The allocation that contains this address."""
        exact = self.allocations.get(va)
        if exact is not None:
            return exact
        for allocation in self.allocations.values():
            if allocation.va <= va < allocation.end:
                return allocation
        return None

    def free_pages(self, element: int) -> int:
        """Pages of an element that nobody has."""
        return sum(n for _, n in self.free.get(element, ()))


def first_va(pid: int) -> int:
    """Where the addresses of a process begin: page 1, so that its null pointers fault."""
    return (pid << PID_SHIFT) + PAGE_SIZE


def page_of(address: int) -> int:
    """Page number."""
    return address >> PAGE_SHIFT
