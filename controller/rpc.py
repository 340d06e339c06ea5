"""A client of gRPC servers for calls in which every hand-over between threads counts: whoever calls writes to the socket and
reads the answer from it.

On the wire gRPC is HTTP/2 (RFC 9113) with messages that have a flag and a length in front (gRPC's "gRPC over HTTP2"). A
:class:`Connection` has one call at a time: either one answer after another, or one stream in both directions, where one
thread receives and any may send. No TLS, no compression.
"""

from __future__ import annotations

import base64
import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable
from enum import IntEnum
from urllib.parse import unquote_to_bytes

import hpack

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PING, _GOAWAY, _WINDOW_UPDATE, _CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
_END_STREAM, _ACK, _END_HEADERS, _PADDED, _PRIORITY = 0x1, 0x1, 0x4, 0x8, 0x20
_INITIAL_WINDOW, _MAX_FRAME = 4, 5  # settings
_LARGEST_FRAME = 1 << 14  # that may be sent to us: we ask for no other
_LARGEST_WINDOW = (1 << 31) - 1
_FIRST_WINDOW = (1 << 16) - 1  # until a setting says otherwise
_WINDOW = 1 << 28  # bytes that the server may send ahead
_LARGEST_MESSAGE = 1 << 28
_LARGEST_HEADERS = 1 << 16
_LAST_STREAM = (1 << 31) - 1
_SEND_TIMEOUT = 5  # seconds for which a server may take nothing at all
_SEND_TIMEOUT_VALUE = struct.pack("ll", _SEND_TIMEOUT, 0)


class Code(IntEnum):
    """google.rpc.Code, those that are told apart here."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    DEADLINE_EXCEEDED = 4
    ALREADY_EXISTS = 6
    FAILED_PRECONDITION = 9
    INTERNAL = 13
    UNAVAILABLE = 14


class RpcError(Exception):
    """A call has failed. ``code`` is google.rpc.Code; ``details`` a serialized google.rpc.Status, or empty."""

    def __init__(self, code: int, message: str, details: bytes = b""):
        self.code, self.details = code, details
        super().__init__(message)


def _frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">IBI", len(payload) << 8 | kind, flags, stream) + payload


def _literal(name: bytes, value: bytes) -> bytes:
    """A header field that no table remembers, not compressed (RFC 7541, section 6.2.2)."""
    assert len(name) < 127
    assert len(value) < 127
    return b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value


class Connection:
    """A connection. After an error it is of no use any more, unless the server answered with that error."""

    def __init__(self, address: str, timeout: float):
        """``address`` is HOST:PORT. Raises RpcError."""
        host, _, port = address.rpartition(":")
        try:
            self._socket = socket.create_connection((host.strip("[]"), int(port)), timeout)
        except (OSError, ValueError) as error:
            raise RpcError(Code.UNAVAILABLE, f"{address}: {error}") from None
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _SEND_TIMEOUT_VALUE)
        self._authority = address.encode()[:120]
        self._headers: dict[str, bytes] = {}  # encoded, by method
        self._decoder = hpack.Decoder()
        self._received = bytearray()
        self._sending = threading.Lock()  # guards what follows, and the order of frames
        self._window = self._first_window = self._stream_window = _FIRST_WINDOW
        self._max_frame = _LARGEST_FRAME
        self._stream = -1
        self._deadline: float | None = None
        self._unacknowledged = 0  # bytes that the server does not know to have been taken
        self._ended = True
        self._refused: RpcError | None = None  # by the server, when the call has ended
        self._body = bytearray()
        self._block: tuple[int, int, bytes] | None = None  # stream, flags and first part of headers that go on
        self.is_broken = False
        settings = struct.pack(">HI", _INITIAL_WINDOW, _WINDOW)
        more = struct.pack(">I", _WINDOW - _FIRST_WINDOW)
        self._write(_PREFACE + _frame(_SETTINGS, 0, 0, settings) + _frame(_WINDOW_UPDATE, 0, 0, more))

    def close(self) -> None:
        """End it; a thread that waits for an answer gets an error. Any thread may."""
        self.is_broken = True
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def free(self) -> None:
        """Give the socket back, when no thread uses the connection any more."""
        self.is_broken = True
        with self._sending:
            self._socket.close()

    # ------------------------------------------------------------------------------------------------------------ calls

    def begin(self, method: str, first: bytes, last: bool, timeout: float | None = None) -> None:
        """Begin a call, when there is none, with its first request. ``last``: there will be no other; only then may it be larger
        than what the server takes at once. ``timeout`` is for the whole call, in seconds. Raises RpcError."""
        self._stream += 2
        if self._stream > _LAST_STREAM or self.is_broken:
            raise self._broken("the connection is used up")
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self._ended, self._refused = False, None
        self._body.clear()
        self._socket.settimeout(timeout)
        with self._sending:
            self._stream_window = self._first_window
        headers = _frame(_HEADERS, _END_HEADERS, self._stream, self._request_headers(method))
        if not self._send(headers, first, last):
            self._write(headers)
            self._send_piecewise(first, last)

    def offer(self, message: bytes) -> bool:
        """Send another request, unless the server does not take it now. Any thread may. Raises RpcError."""
        return self._send(b"", message, False)

    def receive(self) -> bytes | None:
        """The next message of the server; None at the end. Raises RpcError."""
        while True:
            if len(self._body) >= 5:
                end = 5 + int.from_bytes(self._body[1:5], "big")
                if self._body[0] or end > _LARGEST_MESSAGE:
                    raise self._broken(f"the server sends {end} bytes, compressed or not", Code.INTERNAL)
                if len(self._body) >= end:
                    message = bytes(self._body[5:end])
                    del self._body[:end]
                    return message
            if self._ended:
                if self._refused is not None:
                    raise self._refused
                if self._body:
                    raise self._broken("the server ended the call within a message", Code.INTERNAL)
                return None
            self._next_frame()

    def _request_headers(self, method: str) -> bytes:
        block = self._headers.get(method)
        if block is None:
            # 0x83 and 0x86 are :method POST and :scheme http (RFC 7541, appendix A).
            block = b"\x83\x86" + _literal(b":path", method.encode()) + _literal(b":authority", self._authority)
            block += _literal(b"content-type", b"application/grpc") + _literal(b"te", b"trailers")
            self._headers[method] = block
        return block

    # ---------------------------------------------------------------------------------------------------------- sending

    def _broken(self, why: str, code: Code = Code.UNAVAILABLE) -> RpcError:
        self.is_broken = True
        return RpcError(code, why)

    def _write(self, data: bytes) -> None:
        try:
            self._socket.sendall(data)
        except (
            OSError
        ) as error:  # also when the server has taken nothing for long: a part of a frame may have been sent
            raise self._broken(f"the connection has ended: {error}") from None

    def _send(self, before: bytes, message: bytes, last: bool) -> bool:
        """Send a message as one frame, behind other frames; nothing is sent, and False, when it is too large for now."""
        size = len(message) + 5
        with self._sending:
            if size > min(self._window, self._stream_window, self._max_frame):
                return False
            self._window -= size
            self._stream_window -= size
            prefix = struct.pack(">BI", 0, len(message))
            self._write(before + _frame(_DATA, _END_STREAM if last else 0, self._stream, prefix + message))
            return True

    def _send_piecewise(self, message: bytes, last: bool) -> None:
        """Send a message of any size; frames of the server are taken meanwhile."""
        data = memoryview(struct.pack(">BI", 0, len(message)) + message)
        while data:
            with self._sending:
                size = min(len(data), self._window, self._stream_window, self._max_frame)
                if size > 0:
                    piece, data = data[:size], data[size:]
                    self._window -= size
                    self._stream_window -= size
                    flags = _END_STREAM if last and not data else 0
                    self._write(_frame(_DATA, flags, self._stream, bytes(piece)))
            if size <= 0:
                self._next_frame()
                if self._ended:
                    return  # refused before it was complete

    # --------------------------------------------------------------------------------------------------------- receiving

    def _take(self, size: int) -> bytes:
        """The next bytes of the connection."""
        while len(self._received) < size:
            left = None if self._deadline is None else self._deadline - time.monotonic()
            if left is not None and left <= 0:
                raise self._broken("no answer in time", Code.DEADLINE_EXCEEDED)
            try:
                self._socket.settimeout(left)
                data = self._socket.recv(1 << 18)
            except TimeoutError:
                raise self._broken("no answer in time", Code.DEADLINE_EXCEEDED) from None
            except OSError as error:
                raise self._broken(f"the connection has ended: {error}") from None
            if not data:
                raise self._broken("the connection has ended")
            self._received += data
        taken = bytes(self._received[:size])
        del self._received[:size]
        return taken

    def _next_frame(self) -> None:
        head, flags, stream = struct.unpack(">IBI", self._take(9))
        size, kind, stream = head >> 8, head & 0xFF, stream & _LAST_STREAM
        if size > _LARGEST_FRAME:
            raise self._broken(f"a frame of {size} bytes: is it HTTP/2?")
        payload = self._take(size)
        handler = _HANDLERS.get(kind)
        if handler is not None:
            try:
                handler(self, flags, stream, payload)
            except (struct.error, IndexError, ValueError, hpack.HPACKError) as error:
                raise self._broken(f"a frame of kind {kind} that is not HTTP/2: {error!r}", Code.INTERNAL) from None

    def _on_data(self, flags: int, stream: int, payload: bytes) -> None:
        self._unacknowledged += len(payload)
        if self._unacknowledged > _WINDOW // 4:
            more, self._unacknowledged = struct.pack(">I", self._unacknowledged), 0
            update = _frame(_WINDOW_UPDATE, 0, 0, more)
            with self._sending:
                self._write(update + (_frame(_WINDOW_UPDATE, 0, stream, more) if stream == self._stream else b""))
        if stream == self._stream:
            self._body += _unpadded(flags, payload)
            if flags & _END_STREAM:
                self._end(RpcError(Code.INTERNAL, "the server ended the call without a status"))

    def _on_headers(self, flags: int, stream: int, payload: bytes) -> None:
        payload = _unpadded(flags, payload)
        self._block = (stream, flags, payload[5:] if flags & _PRIORITY else payload)
        if flags & _END_HEADERS:
            self._on_header_block()

    def _on_continuation(self, flags: int, stream: int, payload: bytes) -> None:
        if self._block is None or len(self._block[2]) > _LARGEST_HEADERS:
            raise self._broken("headers without a beginning or an end", Code.INTERNAL)
        self._block = (self._block[0], self._block[1], self._block[2] + payload)
        if flags & _END_HEADERS:
            self._on_header_block()

    def _on_header_block(self) -> None:
        assert self._block is not None
        (stream, flags, block), self._block = self._block, None
        fields = {bytes(f[0]): bytes(f[1]) for f in self._decoder.decode(block, raw=True)}
        if stream != self._stream:
            return  # of a call that nobody waits for: decoded because later headers build on it
        if not flags & _END_STREAM:
            if fields.get(b":status") != b"200":
                self._end(RpcError(Code.UNKNOWN, f"HTTP status {fields.get(b':status', b'').decode('latin-1')}"))
            return
        code = fields.get(b"grpc-status", b"")
        if code == b"0":
            self._end(None)
            return
        text = unquote_to_bytes(fields.get(b"grpc-message", b"")).decode(errors="replace")
        details = fields.get(b"grpc-status-details-bin", b"")
        packed = base64.b64decode(details + b"=" * (-len(details) % 4))
        number = int(code) if code.isdigit() else int(Code.UNKNOWN)
        self._end(RpcError(number, text or f"status {number}", packed))

    def _end(self, refused: RpcError | None) -> None:
        if not self._ended:
            self._ended, self._refused = True, refused

    def _on_reset(self, flags: int, stream: int, payload: bytes) -> None:
        if stream == self._stream and not self._ended:
            (number,) = struct.unpack(">I", payload)
            self._end(RpcError(Code.CANCELLED, f"the server reset the call (HTTP/2 error {number})"))

    def _on_settings(self, flags: int, stream: int, payload: bytes) -> None:
        if flags & _ACK:
            return
        with self._sending:
            for at in range(0, len(payload), 6):
                setting, value = struct.unpack_from(">HI", payload, at)
                if setting == _INITIAL_WINDOW:
                    self._stream_window += value - self._first_window
                    self._first_window = value
                elif setting == _MAX_FRAME:
                    self._max_frame = value
            self._write(_frame(_SETTINGS, _ACK, 0))

    def _on_ping(self, flags: int, stream: int, payload: bytes) -> None:
        if not flags & _ACK:
            with self._sending:
                self._write(_frame(_PING, _ACK, 0, payload))

    def _on_goaway(self, flags: int, stream: int, payload: bytes) -> None:
        last, number = struct.unpack_from(">II", payload)
        self.is_broken = True
        if last & _LAST_STREAM < self._stream:  # this call has not been looked at, and will not be
            why = payload[8:].decode(errors="replace")
            raise self._broken(f"the server ends the connection (HTTP/2 error {number}) {why}".strip())

    def _on_window_update(self, flags: int, stream: int, payload: bytes) -> None:
        (more,) = struct.unpack(">I", payload)
        with self._sending:
            if stream == 0:
                self._window += more & _LARGEST_WINDOW
            elif stream == self._stream:
                self._stream_window += more & _LARGEST_WINDOW


_HANDLERS: dict[int, Callable[[Connection, int, int, bytes], None]] = {
    _DATA: Connection._on_data,
    _HEADERS: Connection._on_headers,
    _CONTINUATION: Connection._on_continuation,
    _RST_STREAM: Connection._on_reset,
    _SETTINGS: Connection._on_settings,
    _PING: Connection._on_ping,
    _GOAWAY: Connection._on_goaway,
    _WINDOW_UPDATE: Connection._on_window_update,
}


def _unpadded(flags: int, payload: bytes) -> bytes:
    return payload[1 : len(payload) - payload[0]] if flags & _PADDED else payload


class Channel:
    """Calls with one request, one after the other, over a connection that is made when it is needed. Thread-safe."""

    def __init__(self, address: str):
        self.address = address
        self._calling = threading.Lock()
        self._connection: Connection | None = None
        self._closed = False

    def call(self, method: str, request: bytes, timeout: float) -> list[bytes]:
        """The messages with which the server answers. Raises RpcError."""
        deadline = time.monotonic() + timeout
        with self._calling:
            if self._closed:
                raise RpcError(Code.UNAVAILABLE, "the connection has been closed")
            connection = self._connection
            if connection is None or connection.is_broken:
                self._drop()
                connection = self._connection = Connection(self.address, timeout)
            connection.begin(method, request, True, deadline - time.monotonic())
            messages: list[bytes] = []
            while (message := connection.receive()) is not None:
                messages.append(message)
            return messages

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.free()
            self._connection = None

    def close(self) -> None:
        """End it, and the call under way."""
        self._closed = True
        connection = self._connection
        if connection is not None:
            connection.close()
        with self._calling:
            self._drop()
