"""What waits for the core: bounded, and with a share for every speaker, so that nobody's flood keeps out anybody else."""

from __future__ import annotations

import threading
from collections import Counter, deque

from controller.core.events import Event, Heartbeat

SHARE = 1024  # events of one speaker that may wait

Arrived = tuple[Event, float]  # and when, in seconds of the monotonic clock


class Inbox:
    """Events in the order of their arrival. Any thread may put, one takes.

    Signs of life are apart: only the last of each element waits, always finds room, and is taken first, so that no amount of
    requests can make an element look silent.
    """

    def __init__(self, share: int = SHARE):
        self._share = share
        self._events: deque[tuple[int, Event, float]] = deque()
        self._waiting: Counter[int] = Counter()  # by speaker
        self._signs: dict[int, tuple[Heartbeat, float]] = {}
        self._changed = threading.Condition()
        self._closed = False

    def put(self, speaker: int, event: Event, now: float) -> bool:
        """Add an event of an element, or of the controller's own (0); False when too many of this speaker's wait already."""
        with self._changed:
            if self._waiting[speaker] >= self._share:
                return False
            self._waiting[speaker] += 1
            self._events.append((speaker, event, now))
            self._changed.notify()
            return True

    def hear(self, sign: Heartbeat, now: float) -> None:
        """Note a sign of life."""
        with self._changed:
            self._signs[sign.element] = (sign, now)

    def signs(self) -> list[Arrived]:
        """Take the signs of life."""
        with self._changed:
            signs, self._signs = self._signs, {}
        return list(signs.values())

    def take(self, most: int, timeout: float) -> list[Arrived]:
        """Up to ``most`` events, waiting ``timeout`` seconds for the first; empty when there is none, or after :meth:`close`."""
        with self._changed:
            if not self._events and not self._closed:
                self._changed.wait(timeout)
            taken: list[Arrived] = []
            while self._events and len(taken) < most:
                speaker, event, at = self._events.popleft()
                self._waiting[speaker] -= 1
                if not self._waiting[speaker]:
                    del self._waiting[speaker]
                taken.append((event, at))
            return taken

    def close(self) -> None:
        """Wake up whoever waits in :meth:`take`."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def __len__(self) -> int:
        return len(self._events)
