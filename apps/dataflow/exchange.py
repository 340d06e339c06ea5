"""Moves what one worker has made for another, in three ways.

``transparent``
    What an application does that does not know that its memory is elsewhere (paper, section 5): the source reads its
    remote memory over the interconnect and sends it through the network, the destination writes it to its own remote
    memory.
``direct``
    As between servers: data is in the source's local memory, goes through the network, and stays in the destination's
    local memory.
``grant``
    The source grants the pages, and a message through the network says where they are.

A parcel is one line of JSON, then its bytes if it carries any; the destination confirms each.
"""

from __future__ import annotations

import contextlib
import errno
import json
import socket
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import BinaryIO, Literal

from apps.dataflow.memory import Arena, Extent, Memory, chunks, store

Way = Literal["transparent", "direct", "grant"]
WAYS: tuple[Way, ...] = ("transparent", "direct", "grant")
_CONFIRMED = b"\1"
PATIENCE_TO_CONNECT = 15.0  # seconds
PATIENCE = 120.0  # seconds without progress of a connection


class ExchangeError(RuntimeError):
    """A parcel did not arrive; the message names it."""


@dataclass(frozen=True)
class Parcel:
    """What is sent or has arrived under a name: in remote memory (``extents``), or in local memory (``data``)."""

    name: str
    extents: Sequence[Extent] = ()
    data: bytes | None = None

    @property
    def size(self) -> int:
        """Bytes."""
        return len(self.data) if self.data is not None else sum(extent.used for extent in self.extents)


@dataclass
class Inbox:
    """Receives parcels for a process; one thread a connection. What is copied goes to ``arena``."""

    memory: Memory
    address: str
    arrived: dict[str, Parcel] = field(default_factory=dict)
    problem: str = ""

    def __post_init__(self) -> None:
        self.arena = Arena(self.memory)
        self._taking = threading.Lock()
        self._changed = threading.Condition()
        self._listener = socket.create_server((self.address, 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, name="inbox", daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                connection, _ = self._listener.accept()
                connection.settimeout(PATIENCE)
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            with connection, connection.makefile("rb") as stream:
                while line := stream.readline():
                    parcel = self._receive(json.loads(line), stream)
                    with self._changed:
                        self.arrived[parcel.name] = parcel
                        self._changed.notify_all()
                    connection.sendall(_CONFIRMED)
        except Exception as error:
            # Whoever waits for the parcel must hear of it; this thread has nobody above it.
            with self._changed:
                self.problem = f"{type(error).__name__}: {error}"
                self._changed.notify_all()

    def _receive(self, header: dict[str, object], stream: BinaryIO) -> Parcel:
        name, way, size = str(header["name"]), header["way"], int(str(header["size"]))
        if way == "grant":
            places = header["extents"]
            assert isinstance(places, list)
            return Parcel(name, tuple(Extent(*place) for place in places))
        if way == "direct":
            return Parcel(name, data=_exactly(stream, size, name))
        with self._taking:
            region = self.arena.take(size)
        return Parcel(name, (store(self.memory, region, size, lambda length: _exactly(stream, length, name)),))

    def wait(self, names: Sequence[str], timeout: float) -> list[Parcel]:
        """The parcels with these names, when all have arrived. Raises ExchangeError."""
        with self._changed:
            there = self._changed.wait_for(lambda: bool(self.problem) or set(names) <= set(self.arrived), timeout)
            if self.problem or not there:
                missing = sorted(set(names) - set(self.arrived))
                raise ExchangeError(f"waited {timeout:.0f} s for {missing}: {self.problem or 'nothing came'}")
            return [self.arrived[name] for name in names]

    def close(self) -> None:
        """Accept no more."""
        self._listener.close()


def _exactly(stream: BinaryIO, length: int, name: str) -> bytes:
    data = stream.read(length)
    if len(data) != length:
        raise ExchangeError(f"parcel {name}: the connection ended {length - len(data)} bytes early")
    return data


def _connected(address: str, port: int) -> socket.socket:
    """A network that has just come up may not know the way yet: then again, for a while."""
    deadline = time.monotonic() + PATIENCE_TO_CONNECT
    while True:
        try:
            return socket.create_connection((address, port), timeout=PATIENCE)
        except OSError as error:
            if error.errno != errno.EHOSTUNREACH or time.monotonic() > deadline:
                raise ExchangeError(f"{address} port {port}: {error.strerror}") from None


class Outbox:
    """Sends parcels to one other process: it gets what is granted by ``pid``."""

    def __init__(self, memory: Memory, address: str, port: int, pid: int):
        self._memory, self._pid = memory, pid
        self._connection = _connected(address, port)
        self._connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.round_trips = 0  # that it waited for in the network

    def send(self, parcel: Parcel, way: Way) -> None:
        """Move a parcel; when this returns the other has it. Raises ExchangeError, RemoteMemoryError, OSError."""
        if (parcel.data is not None) != (way == "direct"):
            raise ValueError(f"parcel {parcel.name}: {way} needs {'local' if way == 'direct' else 'remote'} memory")
        places = [(extent.va, extent.capacity, extent.used) for extent in parcel.extents if extent.used]
        if way == "grant":
            for extent in parcel.extents:
                if extent.used:
                    self._memory.grant(extent.pages, self._pid)
        header = {"name": parcel.name, "way": way, "size": parcel.size, "extents": places if way == "grant" else []}
        self._connection.sendall(json.dumps(header).encode() + b"\n")
        if way == "transparent":
            for chunk in chunks(self._memory, parcel.extents):
                self._connection.sendall(chunk)
        elif parcel.data is not None:
            self._connection.sendall(parcel.data)
        self.round_trips += 1
        if self._connection.recv(1) != _CONFIRMED:
            raise ExchangeError(f"parcel {parcel.name} was not confirmed")

    def close(self) -> None:
        """Hang up."""
        self._connection.close()
