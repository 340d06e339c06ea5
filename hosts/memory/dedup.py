"""At-most-once effects: a memory element remembers the outcome of its last effective requests of each process.

How many it must remember the process says itself: each request tells the oldest id that may still be repeated (its floor). What
is below it has been answered or given up, so its outcome is forgotten, and it is refused should it still come: a write whose
caller was told that it timed out does not take effect behind the caller's next confirmed one.
"""

from __future__ import annotations

import struct
from collections import OrderedDict

WINDOW = 1024  # remembered requests of a process that never tells its floor; it stays within 512 (docs/protocol.md, Delivery)

_HEAD = struct.Struct("!QQH")  # ids below this one are refused, the newest id, outcomes
_OUTCOME = struct.Struct("!IB")  # how far the request id is below the newest, bytes of the reply (which follow)
_MAX_AGE = 0xFFFFFFFF


class Outcomes:
    """Outcomes of one process: request id to reply payload, the oldest forgotten first."""

    __slots__ = ("_floor", "_replies", "touched")

    def __init__(self) -> None:
        self._replies: OrderedDict[int, bytes] = OrderedDict()
        self._floor = -1  # ids up to here have been forgotten
        self.touched = True  # since whoever forgets whole processes last looked

    def __len__(self) -> int:
        return len(self._replies)

    def recall(self, request_id: int) -> bytes | None:
        """The reply of a request that took effect before; None when it is new. See also :meth:`is_forgotten`."""
        return self._replies.get(request_id)

    def is_forgotten(self, request_id: int) -> bool:
        """Whether the id is so old that nobody can tell whether it took effect: it must not."""
        return request_id <= self._floor

    def remember(self, request_id: int, reply: bytes) -> None:
        """Note that this request took effect."""
        self.touched = True
        self._replies[request_id] = reply
        if len(self._replies) > WINDOW:
            forgotten, _ = self._replies.popitem(last=False)
            self._floor = max(self._floor, forgotten)

    def retire(self, below: int) -> None:
        """Requests with ids below this one are not repeated any more, and must not take effect any more."""
        self.touched = True
        if below - 1 <= self._floor:
            return
        self._floor = below - 1
        replies = self._replies
        while replies and next(iter(replies)) < below:  # those that came out of order go when they are the first
            replies.popitem(last=False)

    def export(self, limit: int) -> bytes:
        """What another element must know before requests of this process are repeated there, in at most ``limit`` bytes. What
        does not fit is refused there, as if it were below the floor."""
        floor, newest = self._floor, max(self._replies, default=0)
        records: list[bytes] = []
        room = limit - _HEAD.size
        for request_id in sorted((i for i in self._replies if i > floor), reverse=True):
            reply = self._replies[request_id]
            room -= _OUTCOME.size + len(reply)
            if room < 0 or newest - request_id > _MAX_AGE:
                floor = request_id
                break
            records.append(_OUTCOME.pack(newest - request_id, len(reply)) + reply)
        return _HEAD.pack(floor + 1, newest, len(records)) + b"".join(records)

    def merge(self, exported: bytes) -> None:
        """Take over what another element exported. Raises ValueError when that is not what it says; nothing is changed then."""
        found: dict[int, bytes] = {}
        try:
            below, newest, count = _HEAD.unpack_from(exported)
            at = _HEAD.size
            for _ in range(count):
                age, size = _OUTCOME.unpack_from(exported, at)
                at += _OUTCOME.size + size
                found[newest - age] = exported[at - size : at]
        except struct.error as error:
            raise ValueError(f"{len(exported)} bytes are no outcomes: {error}") from None
        if at != len(exported):
            raise ValueError(f"{len(exported)} bytes are no {count} outcomes")
        for request_id, reply in sorted(found.items()):
            if request_id not in self._replies:
                self.remember(request_id, reply)
        self.retire(below)
