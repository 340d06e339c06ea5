"""Digest lists (P4Runtime specification, section 9.8): gathers messages, sends lists, and repeats nothing that awaits its ack."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field

from finsy.proto import p4d, p4r

from p4switch.server.schema import Schema

_NS = 1e-9


@dataclass
class _List:
    messages: list[p4d.P4Data] = field(default_factory=list)
    deadline: float = 0.0
    largest: int = 1


@dataclass
class _Sent:
    digest: int
    contents: set[bytes]
    expires: float


class DigestLists:
    """The digests of one device. Times are in seconds of the monotonic clock."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[int, _List] = {}
        self._sent: dict[int, _Sent] = {}
        self._next_list = 1

    def clear(self) -> None:
        """A new program starts with nothing."""
        with self._lock:
            self._open.clear()
            self._sent.clear()

    @staticmethod
    def decode(schema: Schema, number: int, data: bytes) -> p4d.P4Data:
        """One message as the digest's type has it."""
        info, digest = schema.digest_info[number], schema.digests[number]
        parts = digest.fields.unpack(data)
        message = p4d.P4Data()
        kind = info.type_spec.WhichOneof("type_spec")
        members = message.struct.members if kind == "struct" else message.tuple.members
        types = schema.info.type_info.structs[info.type_spec.struct.name].members if kind == "struct" else ()
        for position, value in enumerate(parts):
            is_bool = position < len(types) and types[position].type_spec.HasField("bool")
            target = members.add() if kind in ("struct", "tuple") else message
            if is_bool:
                target.bool = bool(value)
            else:
                target.bitstring = value.to_bytes(max(1, (value.bit_length() + 7) // 8), "big")
        return message

    def add(self, digest: int, message: p4d.P4Data, config: p4r.DigestEntry.Config) -> None:
        """A message has arrived; it is dropped when a list that awaits its ack has the same."""
        now = time.monotonic()
        contents = message.SerializeToString(deterministic=True)
        with self._lock:
            self._forget(now)
            if any(s.digest == digest and contents in s.contents for s in self._sent.values()):
                return
            waiting = self._open.get(digest)
            if waiting is None:
                waiting = self._open[digest] = _List(deadline=now + max(0, config.max_timeout_ns) * _NS)
            waiting.largest = config.max_list_size or 1
            waiting.messages.append(message)
            if config.ack_timeout_ns > 0:
                key = -digest  # what is still gathering counts as sent, too
                known = self._sent.setdefault(key, _Sent(digest, set(), 0.0))
                known.contents.add(contents)
                known.expires = now + config.ack_timeout_ns * _NS

    def _forget(self, now: float) -> None:
        for number, sent in list(self._sent.items()):
            if now >= sent.expires:
                del self._sent[number]

    def due(self) -> list[p4r.DigestList]:
        """The lists that are full or old enough."""
        now = time.monotonic()
        ready = []
        with self._lock:
            for digest, waiting in list(self._open.items()):
                if len(waiting.messages) < waiting.largest and now < waiting.deadline:
                    continue
                del self._open[digest]
                number, self._next_list = self._next_list, self._next_list + 1
                gathered = self._sent.pop(-digest, None)
                if gathered is not None:
                    self._sent[number] = gathered
                ready.append(
                    p4r.DigestList(digest_id=digest, list_id=number, data=waiting.messages, timestamp=time.time_ns())
                )
        return ready

    def acknowledge(self, ack: p4r.DigestListAck) -> None:
        """The client has a list: its messages may come again."""
        with self._lock:
            self._sent.pop(ack.list_id, None)

    def next_deadline(self) -> float | None:
        """Seconds until a list is due; None when nothing gathers."""
        with self._lock:
            deadlines = [w.deadline for w in self._open.values()]
        return max(0.0, min(deadlines) - time.monotonic()) if deadlines else None
