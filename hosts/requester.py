"""Requests and their answers: pipelining, retries with a bounded budget, and the window that at-most-once needs.

One thread receives; any number of threads may submit. Pure protocol state is in :class:`Requester`; the link is given.
With a cache of translations (``hosts.translations``) data requests carry theirs; one that is refused as stale is dropped, and
the request goes through the switch's own translation, or one that the controller is asked for where the switch has none.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from hosts import errors
from hosts.link import frame
from hosts.translations import Translation, Translations, marked, of_page, unmarked
from protocol import wire
from protocol.wire import Flag, Header, Op, Status

WINDOW = 32  # requests in flight of one call
_READ_REPLY = Op.READ | wire.REPLY
# Refusals that pass: the switch is busy, or a mapping is changing and the switch and the element will agree again soon.
_PASSING = (Status.BUSY, Status.STALE_GENERATION)
STALE_PAUSE = 0.002  # seconds
MAX_AGE = 254  # no data request's id is further above that of the oldest unanswered one (docs/protocol.md, Delivery)
MAX_BUDGET = 60.0  # seconds: memory elements remember for longer


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

    def __post_init__(self) -> None:
        if not 0 < self.budget <= MAX_BUDGET:
            raise ValueError(f"a budget of {self.budget} s is not above 0 and up to {MAX_BUDGET} s")


@dataclass(slots=True, eq=False)
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
        translations: Translations | None = None,
    ):
        """``on_other`` receives the frames that answer no request of this requester, in the receiving thread."""
        self.link = link
        self._on_other = on_other
        self.element = element
        self.pid = pid
        self.policy = policy or RetryPolicy()
        self.traffic = Traffic()
        self.translations = translations
        self._pending: dict[int, Pending] = {}
        self._data: dict[int, Pending] = {}  # those of them that go to memory elements, the oldest first
        self._untranslated: list[Pending] = []  # those that wait for an answer to TRANSLATE
        self._asked: Pending | None = None  # for the translation of the first of them
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
                    self._forget(pending)
                self._changed.notify_all()
        return results

    def _submit(self, header: Header, payload: bytes, budget: float | None) -> Pending:
        if not 0 <= header.va < 1 << 64:  # it could not be sent, by this thread or by the receiver when it repeats it
            text = f"{header.va:#x} is no address; they are from 0 to 2^64 - 1"
            raise errors.BadArgument(header.op, header.va, self.pid, 0, "the process itself", text)
        with self._changed:
            if header.op in wire.DATA_OPS:
                while not self._closed and self._data and self._next_id - next(iter(self._data)) > MAX_AGE:
                    self._changed.wait()
            pending = self._register(header, payload, time.monotonic() + (budget or self.policy.budget))
        self.link.send(frame(self.element, pending.header, payload))
        return pending

    def _register(self, header: Header, payload: bytes, deadline: float) -> Pending:
        """A request about to be sent; the lock is held."""
        if self._closed:  # nobody would receive the reply
            raise errors.RequestTimeout(header.op, header.va, self.pid, 0, "nobody", "the process is closed")
        now = time.monotonic()
        header = header._replace(pid=self.pid if header.pid == 0 else header.pid, request_id=self._next_id)
        self._next_id += 1
        pending = Pending(header, payload, now, now + self.policy.first, self.policy.first, deadline)
        pending.done = threading.Event()
        self._pending[header.request_id] = pending
        if header.op in wire.DATA_OPS:
            self._data[header.request_id] = pending
            pending.header = header._replace(status=1 + header.request_id - next(iter(self._data)))
            if self.translations is not None:
                pending.header = self.translations.apply(pending.header)
        self.traffic.requests += 1
        return pending

    def _forget(self, pending: Pending) -> None:
        """Nobody waits for it any more; the lock is held."""
        request_id = pending.header.request_id
        self._pending.pop(request_id, None)
        self._data.pop(request_id, None)
        if pending in self._untranslated:
            self._untranslated.remove(pending)

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
            # Who refuses a request of the data path has nothing to add, and a link may pad short frames.
            said = pending.data[: reply.length] if reply.flags & Flag.BY_CONTROLLER else b""
            raise errors.refusal(reply, said.decode(errors="replace"))
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
        again: list[Pending] = []
        with self._changed:
            pending = self._pending.get(reply.request_id)
            known = pending is not None and reply.op == pending.header.op | wire.REPLY
            if known and pending is not None:
                again = self._answered(pending, reply, payload)
            else:
                self.traffic.strangers += 1
        for resent in again:
            self.link.send(frame(self.element, resent.header, resent.payload))
        if not known and self._on_other is not None:
            self._on_other(reply, payload)

    def _answered(self, pending: Pending, reply: Header, payload: bytes) -> list[Pending]:
        """Deal with the reply of a request that is waited for; what to send now."""
        if reply.op == _READ_REPLY and reply.status == Status.OK:
            payload = payload[: pending.header.length]  # a link may pad short frames
            if len(payload) < pending.header.length:
                self.traffic.truncated += 1
                return []  # the retry will ask again
        if self.translations is not None and reply.op & ~wire.REPLY in wire.DATA_OPS:
            again = self._retranslated(self.translations, pending, reply)
            if again is not None:
                return again
        if reply.status in _PASSING and time.monotonic() + pending.pause < pending.deadline:
            soon = STALE_PAUSE if reply.status == Status.STALE_GENERATION else pending.pause
            pending.retry_at = time.monotonic() + soon
            return []
        pending.reply, pending.data = reply, payload
        self._forget(pending)
        self._finish(pending)
        return self._translated(pending) if pending is self._asked else []

    # ---------------------------------------------------------------------------------------------- cached translations

    def _retranslated(self, cache: Translations, pending: Pending, reply: Header) -> list[Pending] | None:
        """What to send because of what the reply says of the translation; None when that is all right, or must be."""
        cached = bool(pending.header.flags & Flag.CACHED)
        if reply.status == Status.OK and not cached:
            learnt = of_page(reply) if reply.va == pending.header.va else None
            if learnt is not None:
                cache.learn(learnt)
        elif reply.status == Status.STALE_GENERATION and cached:
            cache.refuse(pending.header.va)
            pending.header = unmarked(pending.header)
            # Of the switch: there is a newer one. Of the element: it is about to change, as for requests without one.
            return [pending] if reply.flags & Flag.BY_SWITCH else None
        elif reply.status == Status.UNMAPPED and reply.flags & Flag.BY_SWITCH:
            # The switch has no translation, or has none any more: the controller has, if there is one.
            pending.header, pending.reply = unmarked(pending.header), reply
            pending.retry_at = pending.deadline
            self._untranslated.append(pending)
            return [] if self._asked is not None else self._ask(cache)
        return None

    def _ask(self, cache: Translations) -> list[Pending]:
        """Ask the controller where the first untranslated request goes."""
        if self._closed:
            return []
        cache.use.asked += 1
        first = self._untranslated[0]
        self._asked = self._register(Header(Op.TRANSLATE, va=first.header.va), b"", first.deadline)
        return [self._asked]

    def _translated(self, asked: Pending) -> list[Pending]:
        """The controller has answered: send what waited for that, and ask for what still has no translation."""
        cache, reply = self.translations, asked.reply
        assert cache is not None
        self._asked = None
        if reply is not None and reply.status == Status.OK and len(asked.data) >= wire.TRANSLATE_REPLY.size:
            pages, pa, generation, element, _ = wire.TRANSLATE_REPLY.unpack_from(asked.data)
            cache.learn(Translation(reply.va, pages * wire.PAGE_SIZE, element, pa, generation))
        else:
            for pending in [p for p in self._untranslated if p.header.va == asked.header.va]:
                if reply is not None and reply.status == Status.PERMISSION:
                    assert pending.reply is not None
                    pending.reply = pending.reply._replace(status=reply.status, flags=int(Flag.BY_CONTROLLER))
                self._forget(pending)
                self._finish(pending)
        again = []
        for pending in list(self._untranslated):
            found = cache.find(pending.header.va)
            if found is not None:
                self._untranslated.remove(pending)
                pending.header, pending.reply = marked(pending.header, found), None
                pending.retry_at = time.monotonic() + pending.pause
                again.append(pending)
        return again + (self._ask(cache) if self._untranslated else [])

    # ----------------------------------------------------------------------------------------------------------- timers

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
                    self._forget(pending)
                    self._finish(pending)
                    if (
                        pending is self._asked
                    ):  # with the first that waited for it; the others have budgets of their own
                        self._asked = None
                elif now >= pending.retry_at:
                    pending.pause = min(pending.pause * 2, self.policy.longest)
                    pending.retry_at = min(now + pending.pause, pending.deadline)
                    again.append(pending)
            self.traffic.retries += len(again)
            if self.translations is not None and self._untranslated and self._asked is None:
                again += self._ask(self.translations)
        for pending in again:
            header = pending.header._replace(flags=pending.header.flags | Flag.RETRY)
            self.link.send(frame(self.element, header, pending.payload))
