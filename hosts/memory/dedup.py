"""At-most-once effects: a memory element remembers the outcome of its last effective requests of each process."""

from __future__ import annotations

from collections import OrderedDict

WINDOW = 1024  # remembered requests a process; requesters stay within 512 (docs/protocol.md, Delivery)


class Outcomes:
    """Outcomes of one process: request id to reply payload, the oldest forgotten first."""

    __slots__ = ("_floor", "_replies")

    def __init__(self) -> None:
        self._replies: OrderedDict[int, bytes] = OrderedDict()
        self._floor = -1  # ids up to here have been forgotten

    def recall(self, request_id: int) -> bytes | None:
        """The reply of a request that took effect before; None when it is new. See also :meth:`is_forgotten`."""
        return self._replies.get(request_id)

    def is_forgotten(self, request_id: int) -> bool:
        """Whether the id is so old that nobody can tell whether it took effect: it must not."""
        return request_id <= self._floor

    def remember(self, request_id: int, reply: bytes) -> None:
        """Note that this request took effect."""
        self._replies[request_id] = reply
        if len(self._replies) > WINDOW:
            forgotten, _ = self._replies.popitem(last=False)
            self._floor = max(self._floor, forgotten)
