"""What can happen to an access, as exceptions: one a refusal of the protocol, and one for no answer at all."""

from __future__ import annotations

from protocol import wire
from protocol.wire import Flag, Status


class RemoteMemoryError(Exception):
    """An access was refused or not answered. ``by`` is switch, element, controller, the process itself or nobody."""

    status: Status | None = None

    def __init__(self, op: int, va: int, pid: int, request_id: int, by: str, why: str = ""):
        self.op, self.va, self.pid, self.request_id, self.by = op, va, pid, request_id, by
        try:
            name = wire.Op(op & ~wire.REPLY).name
        except ValueError:
            name = f"operation {op:#x}"
        reason = why or (self.__doc__ or "").strip().rstrip(".").lower()
        super().__init__(f"{name} at {va:#x} by process {pid}: {reason} (refused by {by}, request {request_id:#x})")


class Unmapped(RemoteMemoryError):
    """Nothing is mapped there."""

    status = Status.UNMAPPED


class PermissionDenied(RemoteMemoryError):
    """The process may not do this there."""

    status = Status.PERMISSION


class Fenced(RemoteMemoryError):
    """This compute element is fenced off."""

    status = Status.FENCED


class ElementFailed(RemoteMemoryError):
    """The memory element has failed."""

    status = Status.ELEMENT_FAILED


class PageFailed(RemoteMemoryError):
    """The page has failed."""

    status = Status.PAGE_FAILED


class StaleGeneration(RemoteMemoryError):
    """The mapping has changed since the access was sent."""

    status = Status.STALE_GENERATION


class BadRequest(RemoteMemoryError):
    """The request makes no sense."""

    status = Status.BAD_REQUEST


class Busy(RemoteMemoryError):
    """Too many requests; try again."""

    status = Status.BUSY


class OutOfMemory(RemoteMemoryError):
    """The rack has not enough free memory."""

    status = Status.OUT_OF_MEMORY


class NotFound(RemoteMemoryError):
    """There is no such allocation or process."""

    status = Status.NOT_FOUND


class NotReassignable(RemoteMemoryError):
    """The memory was allocated so that nobody may take it."""

    status = Status.NOT_REASSIGNABLE


class BadCapability(RemoteMemoryError):
    """The capability is forged, too few shares, or of another group."""

    status = Status.BAD_CAPABILITY


class ExpiredCapability(RemoteMemoryError):
    """The capability is no longer good."""

    status = Status.EXPIRED_CAPABILITY


class NoSuchProcess(RemoteMemoryError):
    """There is no such process."""

    status = Status.NO_SUCH_PROCESS


class MemoryLost(RemoteMemoryError):
    """The memory element has restarted without the contents."""

    status = Status.MEMORY_LOST


class RequestTimeout(RemoteMemoryError):
    """No answer within the budget."""


class BadArgument(BadRequest, ValueError):
    """No request can say this: nothing was sent."""


_BY_STATUS: dict[int, type[RemoteMemoryError]] = {
    c.status: c for c in RemoteMemoryError.__subclasses__() if c.status is not None
}


def refusal(header: wire.Header, why: str = "") -> RemoteMemoryError:
    """The exception for a reply whose status is not OK; ``why`` in words, if that was said."""
    by = "nobody"
    for flag, name in ((Flag.BY_SWITCH, "switch"), (Flag.BY_ELEMENT, "element"), (Flag.BY_CONTROLLER, "controller")):
        if header.flags & flag:
            by = name
    kind = _BY_STATUS.get(header.status)
    if kind is None:
        return RemoteMemoryError(
            header.op, header.va, header.pid, header.request_id, by, f"unknown status {header.status}"
        )
    return kind(header.op, header.va, header.pid, header.request_id, by, why)
