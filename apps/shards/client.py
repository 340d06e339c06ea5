"""A client of the store: finds the instance that has a part, and follows parts that are handed over."""

from __future__ import annotations

import socket
from typing import BinaryIO

from apps.dataflow.exchange import PATIENCE
from apps.shards.instance import Answer, Kind, Request, Status, decode_answer, packed, receive

MOST_HOPS = 8


class StoreError(RuntimeError):
    """The store did not do what it was asked; the message says what it answered."""


class Client:
    """One connection an instance. Not for several threads."""

    def __init__(self, address: tuple[str, int]):
        """``address`` of any instance that knows where parts are. Raises OSError."""
        self._first = address
        self._places: dict[bytes, tuple[str, int]] = {}
        self._connections: dict[tuple[str, int], tuple[socket.socket, BinaryIO]] = {}
        self.followed = 0  # answers that a part has moved
        self._connection(address)

    def close(self) -> None:
        """Hang up."""
        for connection, stream in self._connections.values():
            stream.close()
            connection.close()

    def get(self, key: bytes) -> bytes | None:
        """The value of a key, or None. Raises StoreError, OSError."""
        answer = self._ask(Request(Kind.GET, key))
        return answer.value if answer.status is Status.DONE else None

    def put(self, key: bytes, value: bytes) -> None:
        """Add or replace. Raises StoreError, OSError."""
        self._ask(Request(Kind.PUT, key, value))

    def delete(self, key: bytes) -> bool:
        """Remove a key; whether it was there. Raises StoreError, OSError."""
        return self._ask(Request(Kind.DELETE, key)).status is Status.DONE

    def _ask(self, request: Request) -> Answer:
        name = request.key.partition(b":")[0]
        for _ in range(MOST_HOPS):
            answer = self._exchange(self._places.get(name, self._first), request)
            if answer.status is not Status.MOVED:
                if answer.status in (Status.DONE, Status.ABSENT):
                    return answer
                raise StoreError(f"{request.kind.name} {request.key!r}: {answer.status.name}")
            self.followed += 1
            self._places[name] = answer.address
        raise StoreError(f"{request.kind.name} {request.key!r}: sent on {MOST_HOPS} times")

    def _exchange(self, address: tuple[str, int], request: Request) -> Answer:
        connection, stream = self._connection(address)
        connection.sendall(packed(request))
        data = receive(stream)
        if data is None:
            raise ConnectionError(f"{address} hung up")
        return decode_answer(data)

    def _connection(self, address: tuple[str, int]) -> tuple[socket.socket, BinaryIO]:
        known = self._connections.get(address)
        if known is None:
            connection = socket.create_connection(address, timeout=PATIENCE)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            known = self._connections[address] = (connection, connection.makefile("rb"))
        return known
