"""What can happen to the controller, and what it wants done about it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from controller.core.entries import Write
from controller.core.placement import NO_WISH, Wish
from controller.core.state import Counters, Message, Notice, Reply

# ------------------------------------------------------------------------------------------------------------ events


@dataclass(frozen=True)
class Event:
    """Base of events."""


@dataclass(frozen=True)
class ControlRequest(Event):
    """A control request of an element, through packet-in. ``element`` is what the switch stamped."""

    element: int
    pid: int
    request_id: int
    op: int
    va: int
    payload: bytes
    wall: float = 0.0  # the time of day at its arrival, seconds since 1970
    operator: bool = False  # it bears an operator's token


@dataclass(frozen=True)
class Heartbeat(Event):
    """A sign of life. ``interval`` is how often the element gives one, seconds; 0: it does not say."""

    element: int
    incarnation: int
    interval: float = 0.0


@dataclass(frozen=True)
class Acknowledged(Event):
    """An element answered a page-table change."""

    element: int
    message: int
    status: int


@dataclass(frozen=True)
class NoticeAcknowledged(Event):
    """A local OS has taken a notice."""

    element: int
    notice: int


@dataclass(frozen=True)
class Started(Event):
    """The controller has (re)started: the clock of the rack monitor begins anew."""


@dataclass(frozen=True)
class Tick(Event):
    """Time has passed."""


@dataclass(frozen=True)
class ApiRequest(Event):
    """A request of a person or program through the API; ``token`` comes back with the result. ``acting`` are the processes that
    it is made for, whose memory alone it may concern; None: it is an operator's."""

    token: int
    acting: frozenset[int] | None = field(default=None, kw_only=True)


@dataclass(frozen=True)
class AllocRequest(ApiRequest):
    """Allocate ``size`` bytes for a process; ``flags`` as in the protocol (AllocFlag, and the group)."""

    pid: int
    size: int
    permissions: int
    flags: int = 0
    wish: Wish = NO_WISH


@dataclass(frozen=True)
class FreeRequest(ApiRequest):
    """Free ``size`` bytes from ``va`` on; 0: the whole allocation that begins there."""

    va: int
    size: int


@dataclass(frozen=True)
class RevokeRequest(ApiRequest):
    """Take ``pages`` pages from ``va`` on away from their owner, contents kept."""

    va: int
    pages: int


@dataclass(frozen=True)
class GrantRequest(ApiRequest):
    """Give ``pages`` pages from ``va`` on to another process."""

    va: int
    pages: int
    recipient: int
    permissions: int


@dataclass(frozen=True)
class ProtectRequest(ApiRequest):
    """Change the permissions of ``pages`` pages from ``va`` on."""

    va: int
    pages: int
    permissions: int


@dataclass(frozen=True)
class MigrateRequest(ApiRequest):
    """Move ``pages`` pages from ``va`` on to another memory element; ``target`` None: the controller chooses."""

    va: int
    pages: int
    target: int | None


@dataclass(frozen=True)
class StatRequest(ApiRequest):
    """Tell what is at an address."""

    va: int


@dataclass(frozen=True)
class StealRequest(ApiRequest):
    """Take ``pages`` pages from ``va`` on from process ``source``, for process ``thief``."""

    va: int
    pages: int
    thief: int
    source: int
    group: int
    capability: bytes
    permissions: int
    wall: float


@dataclass(frozen=True)
class GroupRequest(ApiRequest):
    """Make a group with this secret."""

    name: str
    secret: bytes
    needed: int
    total: int


@dataclass(frozen=True)
class AddressRequest(ApiRequest):
    """Give a service address to a process, whoever has it."""

    address: int
    pid: int


@dataclass(frozen=True)
class AddressReleaseRequest(ApiRequest):
    """Take a service address from whoever has it: anybody may take it then."""

    address: int


@dataclass(frozen=True)
class FenceRequest(ApiRequest):
    """Fence an element off, or let it in again."""

    element: int
    fenced: bool


@dataclass(frozen=True)
class PoisonRequest(ApiRequest):
    """Mark pages as bad, or heal them: those at ``place``, an address, or an element's id and a physical address in it."""

    place: int | tuple[int, int]
    pages: int
    bad: bool


@dataclass(frozen=True)
class WatchRequest(ApiRequest):
    """Have process ``pid`` told when ``source`` (0: any process with memory of the group) is cut off."""

    pid: int
    source: int
    group: int


@dataclass(frozen=True)
class UnwatchRequest(ApiRequest):
    """Forget a watch."""

    watch: int


@dataclass(frozen=True)
class ThresholdsRequest(ApiRequest):
    """Set thresholds of the rack monitor, seconds; None: as it is."""

    interval: float | None
    suspect: float | None
    fail: float | None


# ----------------------------------------------------------------------------------------------------------- effects


@dataclass(frozen=True)
class Effect:
    """Base of effects. A plan's effects are carried out in order, each finished before the next."""


@dataclass(frozen=True)
class Persist(Effect):
    """Make these records durable, all or none: (map, key, record or None)."""

    changes: tuple[tuple[str, Any, Any], ...]
    counters: Counters


@dataclass(frozen=True)
class WriteSwitch(Effect):
    """Change the switch's tables, in this order."""

    writes: tuple[Write, ...]


@dataclass(frozen=True)
class Send(Effect):
    """Send a page-table change in band; repeat it until it is acknowledged or the state forgets it."""

    message: Message


@dataclass(frozen=True)
class SendReply(Effect):
    """Answer a control request."""

    reply: Reply


@dataclass(frozen=True)
class Notify(Effect):
    """Send a notice; repeat it until it is acknowledged or the state forgets it."""

    notice: Notice


@dataclass(frozen=True)
class Answer(Effect):
    """Answer an API request: ``error`` None for success."""

    token: int
    result: dict[str, Any]
    error: ApiError | None = None


@dataclass(frozen=True)
class ApiError:
    """Why an API request failed: a code for programs, a text for people."""

    code: str
    message: str


@dataclass(frozen=True)
class Publish(Effect):
    """Something people want to know of."""

    kind: str
    data: dict[str, Any]
