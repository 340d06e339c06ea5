"""What the controller has done, for people and for metrics."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any

KEPT_EVENTS = 2000


@dataclass
class Statistics:
    """What the shell has done, for metrics."""

    events: int = 0
    events_refused: int = 0  # BUSY: too many of one speaker's waited
    table_writes: int = 0
    messages_sent: int = 0
    message_retries: int = 0
    packet_ins: int = 0
    digests: int = 0
    switch_errors: int = 0
    switch_connections: int = 0
    step_seconds: float = 0.0  # in all
    commit_seconds: float = 0.0  # of these, waiting for the store
    write_seconds: float = 0.0  # and for the switch


@dataclass
class EventLog:
    """What people want to know, numbered; the last ones are kept and can be waited for."""

    entries: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=KEPT_EVENTS))
    changed: threading.Condition = field(default_factory=threading.Condition)
    last: int = 0

    def add(self, kind: str, data: dict[str, Any]) -> None:
        """Append an event."""
        with self.changed:
            self.last += 1
            self.entries.append({"id": self.last, "time": time.time(), "event": kind, **data})
            self.changed.notify_all()

    def since(self, number: int, wait: float = 0.0) -> list[dict[str, Any]]:
        """Events after this number; waits up to ``wait`` seconds for the first."""
        with self.changed:
            if wait and self.last <= number:
                self.changed.wait(wait)
            return [e for e in self.entries if e["id"] > number]


class RateLimit:
    """Lets one event of a kind through in ``interval`` seconds, and remembers how many it did not; ``most`` kinds at a time."""

    def __init__(self, interval: float = 1.0, most: int = 1024):
        self._interval, self._most = interval, most
        self._kinds: dict[Hashable, tuple[float, int]] = {}  # when the next may pass, and how many did not

    def heard(self, kind: Hashable, now: float) -> int | None:
        """None when this one must not pass; otherwise how many of its kind did not since the last that did."""
        due, unheard = self._kinds.get(kind, (now, 0))
        if now < due:
            self._kinds[kind] = due, unheard + 1
            return None
        if kind not in self._kinds and len(self._kinds) >= self._most:
            self._kinds = {k: v for k, v in self._kinds.items() if now < v[0]}
            if len(self._kinds) >= self._most:
                return None
        self._kinds[kind] = now + self._interval, 0
        return unheard
