"""Calls of a gRPC server, and streams, over sockets of their own: who calls also sends and receives.

A connection carries one call at a time. :class:`Channel` keeps those that are idle, so that a call seldom has to make one.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable

from controller.rpc.frames import Http2Error
from controller.rpc.http2 import Event, Http2
from controller.rpc.messages import Answer, Code, RpcError, packed, request_block

PAUSE = 0.1  # seconds between attempts to connect
SEND_TIMEOUT = 10  # seconds that a stream's peer may leave the socket full
BACKLOG = 64 << 20  # octets that may wait until a stream's peer has room for them
_CHUNK = 1 << 18  # octets


def endpoint(address: str) -> tuple[str, int]:
    """The parts of HOST:PORT. Raises ValueError."""
    host, _, port = address.rpartition(":")
    if not host or not (port.isascii() and port.isdigit() and 0 < int(port) < 1 << 16):
        raise ValueError(f"expected HOST:PORT, found {address!r}")
    return host.removeprefix("[").removesuffix("]"), int(port)


class _Connection:
    """A socket that speaks HTTP/2, for one thread. Deadlines are times of the monotonic clock; all methods but the last two
    raise RpcError, and the connection is of no use after that."""

    def __init__(self, where: tuple[str, int], deadline: float):
        self.http2 = Http2()
        try:
            self.socket = socket.create_connection(where, _left(deadline))
        except OSError as error:
            raise RpcError(Code.UNAVAILABLE, f"cannot connect: {error.strerror or error}") from None
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def flush(self, deadline: float) -> None:
        """Send what there is to send."""
        if octets := self.http2.take():
            self.socket.settimeout(_left(deadline))
            try:
                self.socket.sendall(octets)
            except OSError as error:
                raise _lost(self.http2, error) from None

    def receive(self, deadline: float) -> list[Event]:
        """What comes next."""
        self.socket.settimeout(_left(deadline))
        try:
            octets = self.socket.recv(_CHUNK)
        except OSError as error:
            raise _lost(self.http2, error) from None
        return _understood(self.http2, octets)

    def greet(self, deadline: float) -> None:
        """Wait until the peer has said that it speaks HTTP/2."""
        self.flush(deadline)
        while not self.http2.greeted:
            self.receive(deadline)
            self.flush(deadline)

    def is_fit(self) -> bool:
        """Whether it can be used again: what is still to be said could be said at once, and what has come does not end it."""
        try:
            self.socket.settimeout(0)
            octets = self.http2.take()
            if octets and self.socket.send(octets) < len(octets):
                return False
            while self.http2.can_open:
                _understood(self.http2, self.socket.recv(_CHUNK))
        except BlockingIOError:
            return True
        except (OSError, RpcError):
            pass
        return False

    def close(self) -> None:
        """Tell the peer, as far as that is possible at once, and end."""
        self.http2.cancel()
        with contextlib.suppress(OSError):
            self.socket.settimeout(0)
            self.socket.send(self.http2.take())
        self.socket.close()


class Channel:
    """Calls with one answer or many. Any thread may call; each uses a connection of its own meanwhile."""

    def __init__(self, address: str):
        self._where, self._authority = endpoint(address), address
        self._blocks: dict[tuple[str, float], bytes] = {}
        self._lock = threading.Lock()
        self._idle: list[_Connection] = []
        self._used: set[_Connection] = set()
        self._is_closed = False

    def call(self, path: str, request: bytes, timeout: float) -> list[bytes]:
        """The messages of the answer, within ``timeout`` seconds. Raises RpcError."""
        deadline = time.monotonic() + timeout
        block = self._blocks.get((path, timeout))
        if block is None:
            block = self._blocks[path, timeout] = request_block(self._authority, path, timeout)
        try:
            return self._attempt(block, request, deadline)
        except RpcError as error:
            if not error.unprocessed:
                raise
        return self._attempt(block, request, deadline)

    def close(self) -> None:
        """End all connections; calls that are under way fail."""
        with self._lock:
            self._is_closed = True
            for connection in self._used:
                with contextlib.suppress(OSError):
                    connection.socket.shutdown(socket.SHUT_RDWR)
            for connection in self._idle:
                connection.close()
            self._idle.clear()

    def _attempt(self, block: bytes, request: bytes, deadline: float) -> list[bytes]:
        connection = self._take(deadline)
        try:
            answer = Answer(connection.http2.open(block, packed(request), True))
            messages: list[bytes] = []
            connection.flush(deadline)
            while not answer.ended:
                for event in connection.receive(deadline):
                    messages += answer.add(event)
                if not answer.ended:
                    connection.flush(deadline)
        finally:
            self._give_back(connection)
        if answer.error is not None:
            if answer.error.code is Code.CANCELLED:
                _left(deadline)  # the server keeps the time as well
            raise answer.error
        return messages

    def _take(self, deadline: float) -> _Connection:
        with self._lock:
            while self._idle:
                connection = self._idle.pop()
                if connection.is_fit():
                    self._used.add(connection)
                    return connection
                connection.close()
        connection = _Connection(self._where, deadline)
        with self._lock:
            if not self._is_closed:
                self._used.add(connection)
                return connection
        connection.close()
        raise RpcError(Code.CANCELLED, "the channel is closed")

    def _give_back(self, connection: _Connection) -> None:
        with self._lock:
            self._used.discard(connection)
            fit = connection.http2.can_open and (not connection.http2.must_send or connection.is_fit())
            if fit and not self._is_closed:
                self._idle.append(connection)
                return
        connection.close()


class Stream:
    """A call with messages in both directions. Any thread may send; a thread of the stream's own receives, calls ``on_message``
    for every message and at last ``on_end`` with the error that ended the stream, None when the server has ended it well."""

    def __init__(
        self,
        address: str,
        path: str,
        on_message: Callable[[bytes], None],
        on_end: Callable[[RpcError | None], None],
        name: str = "stream",
    ):
        self._where, self._block = endpoint(address), request_block(address, path)
        self._on_message, self._on_end = on_message, on_end
        self._thread = threading.Thread(target=self._receive, name=name, daemon=True)
        self._lock = threading.Lock()  # of everything below but receiving from the socket
        self._connection: _Connection | None = None
        self._answer = Answer(0)
        self._broken: RpcError | None = None  # why nothing more can be sent

    def open(self, first: bytes, deadline: float) -> None:
        """Connect, trying again until there is a server or ``deadline`` has come, and send the first message. Raises RpcError."""
        connection = self._connect(deadline)
        connection.socket.settimeout(None)
        connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", SEND_TIMEOUT, 0))
        self._answer = Answer(connection.http2.open(self._block, packed(first), False))
        self._connection = connection
        with self._lock:
            self._flush(connection)
        self._thread.start()

    def send(self, message: bytes) -> None:
        """Send a message, unless the stream has ended."""
        with self._lock:
            if self._connection is not None and self._broken is None:
                self._connection.http2.send(packed(message))
                self._flush(self._connection)

    def close(self) -> None:
        """End the stream."""
        connection = self._connection
        if connection is not None:
            self._answer.fail(RpcError(Code.CANCELLED, "the stream was closed"))
            self._break(connection, RpcError(Code.CANCELLED, "the stream was closed"))
        if self._thread.ident is not None and self._thread is not threading.current_thread():
            self._thread.join(1.0)

    def _connect(self, deadline: float) -> _Connection:
        while True:
            connection = None
            try:
                connection = _Connection(self._where, deadline)
                connection.greet(deadline)
                if connection.http2.can_open:
                    return connection
                raise RpcError(Code.UNAVAILABLE, "the server takes no calls")
            except RpcError:
                if connection is not None:
                    connection.close()
                if time.monotonic() + PAUSE > deadline:
                    raise
            time.sleep(PAUSE)

    def _flush(self, connection: _Connection) -> None:
        http2 = connection.http2
        try:
            if octets := http2.take():
                connection.socket.sendall(octets)
            if http2.unsent > BACKLOG:
                raise TimeoutError(f"{http2.unsent} octets wait for the server to make room")
        except OSError as error:
            self._break(connection, _lost(http2, error))

    def _break(self, connection: _Connection, error: RpcError) -> None:
        """Nothing is sent any more. The receiving thread takes what has come already and does the rest."""
        self._broken = error
        with contextlib.suppress(OSError):
            connection.socket.shutdown(socket.SHUT_RD)

    def _receive(self) -> None:
        connection, answer = self._connection, self._answer
        assert connection is not None
        try:
            while not answer.ended:
                octets = connection.socket.recv(_CHUNK)
                with self._lock:
                    events = _understood(connection.http2, octets)
                for event in events:
                    for message in answer.add(event):
                        self._on_message(message)
                if connection.http2.must_send:
                    with self._lock:
                        self._flush(connection)
        except OSError as error:
            answer.fail(self._broken or _lost(connection.http2, error))
        except RpcError as error:
            answer.fail(self._broken or error)
        finally:
            answer.fail(RpcError(Code.INTERNAL, "a message could not be dealt with"))
            with self._lock:
                self._connection = None
                connection.close()
            self._on_end(answer.error)


def _left(deadline: float) -> float:
    """Seconds until a deadline. Raises RpcError when it has come."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise RpcError(Code.DEADLINE_EXCEEDED, "the server has not answered in time")
    return left


def _understood(http2: Http2, octets: bytes) -> list[Event]:
    """What these octets from a socket mean. Raises RpcError."""
    if not octets:
        raise _lost(http2)
    try:
        return http2.receive(octets)
    except Http2Error as error:
        raise RpcError(Code.INTERNAL, f"the server does not keep to HTTP/2: {error}") from None


def _lost(http2: Http2, error: OSError | None = None) -> RpcError:
    """What an error of a socket means, or its end; by the server's last words if it had any."""
    if isinstance(error, TimeoutError | BlockingIOError):
        return RpcError(Code.DEADLINE_EXCEEDED, "the server has not answered in time")
    why = (http2.goaway.text if http2.goaway else "") or (error and error.strerror)
    return RpcError(Code.UNAVAILABLE, f"the connection has ended{f': {why}' if why else ''}")
