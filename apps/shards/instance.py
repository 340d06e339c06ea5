"""An instance of the store: serves the parts that it has, hands them to other instances, and tells clients where parts have gone.

A key is ``part:rest``. Requests and answers are frames of four bytes of length and MessagePack, in order on a connection.
"""

from __future__ import annotations

import contextlib
import enum
import socket
import struct
import threading
import time
from dataclasses import dataclass, field
from typing import BinaryIO

import msgspec
from msgspec import Struct

from apps.dataflow.exchange import PATIENCE, Inbox, Outbox, Parcel, Way
from apps.dataflow.memory import Extent
from apps.shards.part import Memory, Part
from apps.structures.memory import Full
from hosts.process import Region

_LENGTH = struct.Struct("!I")
MAX_FRAME = 1 << 16


class Kind(enum.IntEnum):
    """Operations of clients."""

    GET = 1
    PUT = 2
    DELETE = 3


class Status(enum.IntEnum):
    """How an operation ended."""

    DONE = 0
    ABSENT = 1  # GET, DELETE: there is no such key
    FULL = 2  # there is no room for it
    TOO_LARGE = 3
    MOVED = 4  # the part is elsewhere: ``address`` says where
    UNKNOWN = 5  # no such part, or a request that makes no sense


class Request(Struct, frozen=True, array_like=True):
    """What a client asks."""

    kind: Kind
    key: bytes
    value: bytes = b""


class Answer(Struct, frozen=True, array_like=True):
    """What it hears. ``value`` is what GET found, ``address`` the host and port of the part's instance."""

    status: Status
    value: bytes = b""
    address: tuple[str, int] = ("", 0)


encode = msgspec.msgpack.Encoder().encode
_decode_request = msgspec.msgpack.Decoder(Request).decode
decode_answer = msgspec.msgpack.Decoder(Answer).decode


def packed(message: Struct) -> bytes:
    """A frame."""
    data = encode(message)
    return _LENGTH.pack(len(data)) + data


def receive(stream: BinaryIO) -> bytes | None:
    """The next frame's contents; None at the end of the connection. Raises ConnectionError."""
    head = stream.read(_LENGTH.size)
    if not head:
        return None
    (length,) = _LENGTH.unpack(head.ljust(_LENGTH.size, b"\xff"))
    data = stream.read(length) if length <= MAX_FRAME else b""
    if len(data) != length:
        raise ConnectionError(f"a frame of {length} bytes that is cut off, or longer than {MAX_FRAME}")
    return data


@dataclass
class _Held:
    """A part that is here. ``lock``: one request at a time, and none while it is handed over; ``gone`` where it is then."""

    part: Part
    lock: threading.Lock = field(default_factory=threading.Lock)
    gone: tuple[str, int] | None = None


@dataclass(frozen=True)
class Peer:
    """Another instance: where it serves clients, and the way to hand it parts."""

    address: tuple[str, int]
    outbox: Outbox


class Instance:
    """Serves clients at ``address``, in a thread for each connection."""

    def __init__(self, memory: Memory, address: str, inbox: Inbox):
        self._memory, self._inbox = memory, inbox
        self._parts: dict[bytes, _Held] = {}
        self._adopting = threading.Lock()
        self._listener = socket.create_server((address, 0))
        self.address: tuple[str, int] = self._listener.getsockname()[:2]
        threading.Thread(target=self._accept, name="instance", daemon=True).start()

    def close(self) -> None:
        """Accept no more clients."""
        self._listener.close()

    def create(self, name: bytes, size: int, filled: int = 0, seed: int = 1) -> Part:
        """A new part here. Raises ValueError, Full, RemoteMemoryError."""
        part = Part.create(self._memory, size, filled, seed)
        self._parts[name] = _Held(part)
        return part

    def part(self, name: bytes) -> Part | None:
        """A part that is here, also one that has just arrived."""
        held = self._find(name)
        return None if held is None or held.gone is not None else held.part

    def hand_over(self, name: bytes, peer: Peer, way: Way) -> float:
        """Give a part to another instance; seconds for which its clients had to wait. Raises KeyError, ExchangeError,
        RemoteMemoryError: the part is still here then, unless its pages are not."""
        held = self._parts[name]
        began = time.perf_counter()
        with held.lock:
            region = held.part.region
            peer.outbox.send(Parcel(_parcel(name), (Extent(region.va, region.size, region.size),)), way)
            held.gone = peer.address
        waited = time.perf_counter() - began
        if way != "grant":
            self._memory.free(region.va)
        return waited

    def _find(self, name: bytes) -> _Held | None:
        held = self._parts.get(name)
        if held is None or held.gone is not None:
            with self._adopting:
                parcel = self._inbox.arrived.pop(_parcel(name), None)
                if parcel is not None:
                    (extent,) = parcel.extents
                    part = Part.open(self._memory, Region(extent.va, extent.used))
                    self._parts[name] = _Held(part)
            held = self._parts.get(name)
        return held

    # ---------------------------------------------------------------------------------------------------------- clients

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                connection, _ = self._listener.accept()
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                connection.settimeout(PATIENCE)
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection, connection.makefile("rb") as stream:
            while (data := receive(stream)) is not None:
                connection.sendall(packed(self.answer(data)))

    def answer(self, data: bytes) -> Answer:
        """The answer to a request; RemoteMemoryError of its memory breaks the connection."""
        try:
            request = _decode_request(data)
        except msgspec.DecodeError:
            return Answer(Status.UNKNOWN)
        name, colon, key = request.key.partition(b":")
        held = self._find(name)
        if held is None or not colon:
            return Answer(Status.UNKNOWN)
        with held.lock:
            if held.gone is not None:  # also when it went while this request waited
                return Answer(Status.MOVED, address=held.gone)
            return _carry_out(held.part, request.kind, key, request.value)


def _carry_out(part: Part, kind: Kind, key: bytes, value: bytes) -> Answer:
    if kind is Kind.GET:
        found = part.get(key)
        return Answer(Status.ABSENT) if found is None else Answer(Status.DONE, found)
    if kind is Kind.DELETE:
        return Answer(Status.DONE if part.delete(key) else Status.ABSENT)
    try:
        part.put(key, value)
    except Full:
        return Answer(Status.FULL)
    except ValueError:
        return Answer(Status.TOO_LARGE)
    return Answer(Status.DONE)


def _parcel(name: bytes) -> str:
    return f"part {name.hex()}"
