"""Requests and their answers: pipelining, retries with a bounded budget, and the window that at-most-once needs.

One thread receives; any number of threads may submit. Pure protocol state is in :class:`Requester`; the link is given.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from hosts import errors
from hosts.link import frame
from protocol import wire
from protocol.wire import Flag, Header, Op, Status

WINDOW = 32  # requests in flight of one call
_READ_REPLY = Op.READ | wire.REPLY
# Refusals that pass: the switch is busy, or a mapping is changing and the switch and the element will agree again soon.
_PASSING = (Status.BUSY, Status.STALE_GENERATION)
STALE_PAUSE = 0.002  # seconds
MAX_SPREAD = 512  # no request id this far above the oldest unanswered one (docs/protocol.md, Delivery)


class Wire(Protocol):
    """What a requester needs of a link."""

    def send(self, frame: bytes) -> None:
        """Send a frame."""

    def receive(self, timeout: float | None) -> bytes | None:
        """The next frame, or None."""

    def close(self) -> None:
        """Close."""


@dataclass(frozen=True)
class RetryPolicy:
    """``first`` seconds until the first retry, doubled up to ``longest``; ``budget`` seconds in all."""

    first: float = 0.05
    longest: float = 0.4
    budget: float = 5.0


@dataclass(slots=True)
class Pending:
    """A request without an answer yet."""

    header: Header
    payload: bytes
    sent: float
    retry_at: float
    pause: float
    deadline: float
    done: threading.Event | None = None
    reply: Header | None = None
    data: bytes = b""
    timed_out: bool = False


@dataclass(slots=True)
class Traffic:
    """What a requester has done so far."""

    requests: int = 0
    retries: int = 0
    timeouts: int = 0
    refusals: int = 0
    bytes_written: int = 0
    bytes_read: int = 0
    strangers: int = 0  # replies to requests that nobody waits for
    truncated: int = 0  # READ replies with fewer bytes than asked for: ignored
    by_op: dict[str, int] = field(default_factory=dict)


class Requester:
    """Sends requests of one process through a link and matches the replies."""

    def __init__(
        self,
        link: Wire,
        element: int,
        pid: int,
        policy: RetryPolicy | None = None,
        on_other: Callable[[Header, bytes], None] | None = None,
    ):
        """``on_other`` receives the frames that answer no request of this requester, in the receiving thread."""
        self.link = link
        self._on_other = on_other
        self.element = element
        self.pid = pid
        self.policy = policy or RetryPolicy()
        self.traffic = Traffic()
        self._pending: dict[int, Pending] = {}
        self._changed = threading.Condition()
        # Never used again, also by a later process with the same pid: ids count on from the clock.
        self._next_id = time.time_ns() & ((1 << 63) - 1)
        self._closed = False
        self._thread = threading.Thread(target=self._receive, name=f"receiver of process {pid}", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop receiving; requests in flight time out at once."""
        with self._changed:  # whatever was submitted before is finished by the receiver, nothing is submitted after
            self._closed = True
            self._changed.notify_all()
        self._thread.join()
        self.link.close()

    def request(self, header: Header, payload: bytes = b"", budget: float | None = None) -> tuple[Header, bytes]:
        """One request; the reply's header and payload. Raises RemoteMemoryError."""
        return self.requests([(header, payload)], budget)[0]

    def requests(
        self, batch: Sequence[tuple[Header, bytes]], budget: float | None = None
    ) -> list[tuple[Header, bytes]]:
        """Requests in order, several in flight; the replies in the same order.

        Raises the RemoteMemoryError of the first one refused; those after it may or may not have taken effect.
        """
        waiting: list[Pending] = []
        results: list[tuple[Header, bytes]] = []
        position = 0
        try:
            while len(results) < len(batch):
                while position < len(batch) and position - len(results) < WINDOW:
                    waiting.append(self._submit(*batch[position], budget))
                    position += 1
                results.append(self._result(waiting[len(results)]))
        finally:
            with self._changed:
                for pending in waiting:
                    self._pending.pop(pending.header.request_id, None)
                self._changed.notify_all()
        return results

    def _submit(self, header: Header, payload: bytes, budget: float | None) -> Pending:
        now = time.monotonic()
        with self._changed:
            # dicts keep their order: the first key is the oldest unanswered request.
            while not self._closed and self._pending and self._next_id - next(iter(self._pending)) >= MAX_SPREAD:
                self._changed.wait()
            if self._closed:  # nobody would receive the reply
                raise errors.RequestTimeout(header.op, header.va, self.pid, 0, "nobody", "the process is closed")
            header = header._replace(pid=self.pid if header.pid == 0 else header.pid, request_id=self._next_id)
            self._next_id += 1
            pause = self.policy.first
            pending = Pending(header, payload, now, now + pause, pause, now + (budget or self.policy.budget))
            pending.done = threading.Event()
            self._pending[header.request_id] = pending
            self.traffic.requests += 1
        self.link.send(frame(self.element, header, payload))
        return pending

    def _result(self, pending: Pending) -> tuple[Header, bytes]:
        assert pending.done is not None
        pending.done.wait()
        reply = pending.reply
        if reply is None:
            self.traffic.timeouts += 1
            waited = time.monotonic() - pending.sent
            header = pending.header
            raise errors.RequestTimeout(
                header.op, header.va, header.pid, header.request_id, "nobody", f"no answer in {waited:.1f} s"
            )
        if reply.status != Status.OK:
            self.traffic.refusals += 1
            raise errors.refusal(reply)
        return reply, pending.data

    # -------------------------------------------------------------------------------------------------- receiving thread

    def _receive(self) -> None:
        while not self._closed:
            data = self.link.receive(self._until_next_retry())
            if data is not None and len(data) >= wire.FRAME_OVERHEAD:
                self._match(Header.unpack(data, 14), data[wire.FRAME_OVERHEAD :])
            self._retry()
        with self._changed:
            for pending in self._pending.values():
                self._finish(pending)

    def _until_next_retry(self) -> float:
        with self._changed:
            soonest = min((p.retry_at for p in self._pending.values()), default=None)
        return 0.05 if soonest is None else min(0.05, max(0.0005, soonest - time.monotonic()))

    def _match(self, reply: Header, payload: bytes) -> None:
        with self._changed:
            pending = self._pending.get(reply.request_id)
            if pending is not None and reply.op == pending.header.op | wire.REPLY:
                if reply.op == _READ_REPLY and reply.status == Status.OK:
                    payload = payload[: pending.header.length]  # a link may pad short frames
                    if len(payload) < pending.header.length:
                        self.traffic.truncated += 1
                        return  # the retry will ask again
                if reply.status in _PASSING and time.monotonic() + pending.pause < pending.deadline:
                    soon = STALE_PAUSE if reply.status == Status.STALE_GENERATION else pending.pause
                    pending.retry_at = time.monotonic() + soon
                    return
                pending.reply, pending.data = reply, payload
                self._pending.pop(reply.request_id)
                self._finish(pending)
                return
            self.traffic.strangers += 1
        if self._on_other is not None:
            self._on_other(reply, payload)

    def _finish(self, pending: Pending) -> None:
        assert pending.done is not None
        pending.done.set()
        self._changed.notify_all()

    def _retry(self) -> None:
        now = time.monotonic()
        again: list[Pending] = []
        with self._changed:
            if not self._pending or now < min(p.retry_at for p in self._pending.values()):
                return
            for pending in list(self._pending.values()):
                if now >= pending.deadline:
                    self._pending.pop(pending.header.request_id)
                    self._finish(pending)
                elif now >= pending.retry_at:
                    pending.pause = min(pending.pause * 2, self.policy.longest)
                    pending.retry_at = min(now + pending.pause, pending.deadline)
                    again.append(pending)
            self.traffic.retries += len(again)
        for pending in again:
            header = pending.header._replace(flags=pending.header.flags | Flag.RETRY)
            self.link.send(frame(self.element, header, pending.payload))
