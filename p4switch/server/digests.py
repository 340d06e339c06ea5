"""Digests (specification, "DigestEntry"): their configuration; lists of messages that are gathered, sent, and not repeated before
their ack.

Two messages are the same when the data plane emitted the same bytes. The loss of a list is not critical, so it is sent once.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from finsy.proto import p4d, p4r

from p4switch.dataplane import binding as dp
from p4switch.server.errors import exists, failure, invalid
from p4switch.server.schema import DigestInfo, by_id
from p4switch.server.state import Target

_NS = 1e-9
NO_LIMIT = 4096  # messages a list, where the client sets no limit
MAX_UNACKNOWLEDGED = 100_000  # messages; what is beyond may come twice


@dataclass
class _List:
    """Messages that have not been sent."""

    config: p4r.DigestEntry.Config
    deadline: float
    messages: dict[bytes, p4d.P4Data] = field(default_factory=dict)

    @property
    def full(self) -> bool:
        """Whether it must wait no longer."""
        return len(self.messages) >= (self.config.max_list_size or NO_LIMIT) or self.config.max_timeout_ns == 0


@dataclass
class _Sent:
    messages: frozenset[bytes]
    expires: float


class DigestLists:
    """The digests of one device. ``clock`` gives seconds; every method may be called from any thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._open: dict[int, _List] = {}
        self._sent: dict[tuple[int, int], _Sent] = {}  # by (digest, list)
        self._next_list = 1

    def clear(self, digest: int | None = None) -> None:
        """Forget a digest's messages, or all."""
        with self._lock:
            if digest is None:
                self._open.clear()
                self._sent.clear()
                return
            self._open.pop(digest, None)
            for key in [k for k in self._sent if k[0] == digest]:
                del self._sent[key]

    def add(self, info: DigestInfo, data: bytes, config: p4r.DigestEntry.Config) -> None:
        """A message has arrived; it is dropped when its list, or one that awaits its ack, has the same."""
        now = self._clock()
        with self._lock:
            self._forget(now)
            if any(key[0] == info.id and data in sent.messages for key, sent in self._sent.items()):
                return
            waiting = self._open.get(info.id)
            if waiting is None:
                waiting = self._open[info.id] = _List(config, now + config.max_timeout_ns * _NS)
            if data not in waiting.messages:
                message = p4d.P4Data()
                info.codec.decode(iter(info.fields.unpack(data)), message)
                waiting.messages[data] = message

    def _forget(self, now: float) -> None:
        for key in [k for k, sent in self._sent.items() if now >= sent.expires]:
            del self._sent[key]

    def due(self) -> list[p4r.DigestList]:
        """The lists that are full or old enough."""
        now = self._clock()
        ready = []
        with self._lock:
            for digest, waiting in list(self._open.items()):
                if not waiting.full and now < waiting.deadline:
                    continue
                del self._open[digest]
                number, self._next_list = self._next_list, self._next_list + 1
                timeout = waiting.config.ack_timeout_ns
                if timeout and sum(len(s.messages) for s in self._sent.values()) < MAX_UNACKNOWLEDGED:
                    self._sent[digest, number] = _Sent(frozenset(waiting.messages), now + timeout * _NS)
                data = waiting.messages.values()
                ready.append(p4r.DigestList(digest_id=digest, list_id=number, data=data, timestamp=time.time_ns()))
        return ready

    def acknowledge(self, ack: p4r.DigestListAck) -> None:
        """The client has a list: its messages may come again."""
        with self._lock:
            self._sent.pop((ack.digest_id, ack.list_id), None)

    def next_deadline(self) -> float | None:
        """Seconds until a list is due; None when nothing gathers."""
        with self._lock:
            deadlines = [w.deadline for w in self._open.values()]
        return max(0.0, min(deadlines) - self._clock()) if deadlines else None


# ------------------------------------------------------------------------------------------------------- configuration


def write_digest(target: Target, kind: int, entry: p4r.DigestEntry) -> None:
    """INSERT: digests of this kind are sent from now on. DELETE: no more."""
    info = by_id(target.schema.digests, entry.digest_id, "digest")
    container = target.state.digests
    what = f"the configuration of digest {info.name}"
    if kind == p4r.Update.INSERT and info.id in container:
        raise exists(what)
    if kind != p4r.Update.INSERT and info.id not in container:
        raise failure(dp.Code.NOT_FOUND, what)
    if kind == p4r.Update.DELETE:
        target.drop(container, info.id)
        return
    for name in ("max_timeout_ns", "max_list_size", "ack_timeout_ns"):
        if getattr(entry.config, name) < 0:
            raise invalid(f"{what}: {name} is negative: {getattr(entry.config, name)}")
    copy = p4r.DigestEntry()
    copy.CopyFrom(entry)
    target.put(container, info.id, copy)


def read_digests(target: Target, wanted: p4r.DigestEntry) -> Iterator[p4r.Entity]:
    """One configuration or all."""
    if wanted.digest_id:
        by_id(target.schema.digests, wanted.digest_id, "digest")
    for number, entry in target.state.digests.items():
        if wanted.digest_id in (0, number):
            yield p4r.Entity(digest_entry=entry)
