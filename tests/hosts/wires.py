"""What links in tests have in common."""

from __future__ import annotations

import queue


class Inbox:
    """The receiving half of a link: what is put into ``replies`` arrives."""

    def __init__(self) -> None:
        self.replies: queue.Queue[bytes] = queue.Queue()
        self.closed = False

    def receive(self, timeout: float | None) -> bytes | None:
        try:
            return self.replies.get(timeout=timeout)
        except queue.Empty:
            return None

    def close(self) -> None:
        self.closed = True
