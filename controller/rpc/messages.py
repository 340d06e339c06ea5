"""Calls of gRPC over HTTP/2, without input or output: requests' headers, messages, statuses.

Source: "gRPC over HTTP2" (grpc/doc/PROTOCOL-HTTP2.md), for what has no gRPC status http-grpc-status-mapping.md.
"""

from __future__ import annotations

import base64
import binascii
import math
import struct
from enum import IntEnum
from urllib.parse import unquote

import hpack

from controller.rpc.frames import ErrorCode
from controller.rpc.http2 import Data, Event, Goaway, Headers, Reset

LARGEST_MESSAGE = 256 << 20  # octets
_PREFIX = struct.Struct(">BI")  # whether it is compressed, and its length


class Code(IntEnum):
    """Statuses of gRPC (grpc/doc/statuscodes.md)."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


class RpcError(Exception):
    """A call did not end well: ``code`` and text, a google.rpc.Status in ``details`` if there was one, and whether the server
    has certainly not begun with it (``unprocessed``)."""

    def __init__(self, code: Code, text: str, details: bytes = b"", unprocessed: bool = False):
        super().__init__(text or code.name)
        self.code = code
        self.details = details
        self.unprocessed = unprocessed


_OF_HTTP = {
    400: Code.INTERNAL,
    401: Code.UNAUTHENTICATED,
    403: Code.PERMISSION_DENIED,
    404: Code.UNIMPLEMENTED,
    429: Code.UNAVAILABLE,
    502: Code.UNAVAILABLE,
    503: Code.UNAVAILABLE,
    504: Code.UNAVAILABLE,
}
_OF_RESET = {
    ErrorCode.REFUSED_STREAM: Code.UNAVAILABLE,
    ErrorCode.CANCEL: Code.CANCELLED,
    ErrorCode.ENHANCE_YOUR_CALM: Code.RESOURCE_EXHAUSTED,
    ErrorCode.INADEQUATE_SECURITY: Code.PERMISSION_DENIED,
}


def request_block(authority: str, path: str, timeout: float | None = None) -> bytes:
    """The header block of a call; ``timeout`` in seconds. It refers to no dynamic table, so it is good for every connection."""
    fields = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", authority),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
        ("user-agent", "rack-mmu"),
    ]
    if timeout is not None:  # "Timeout": at most eight digits
        fields.append(("grpc-timeout", f"{min(99_999_999, math.ceil(timeout * 1000))}m"))
    return hpack.Encoder().encode((name, value, True) for name, value in fields)  # never indexed


def packed(message: bytes) -> bytes:
    """A message with its prefix ("Length-Prefixed-Message")."""
    return _PREFIX.pack(0, len(message)) + message


class Answer:
    """What a server answers to one call ("Responses"). Everything that is wrong with it is a status as well."""

    def __init__(self, stream: int, largest: int = LARGEST_MESSAGE):
        self.error: RpcError | None = None
        self.ended = False
        self._stream = stream
        self._largest = largest
        self._began = False  # there were headers
        self._rest = bytearray()  # a message that is not yet whole

    def add(self, event: Event) -> list[bytes]:
        """What has come next; the messages that are whole with it. Nothing counts after the end."""
        if self.ended:
            return []
        try:
            match event:
                case Data(octets=octets, ended=ended):
                    messages = self._data(octets)
                    if ended:
                        raise RpcError(Code.INTERNAL, "the server has ended the call without a status")
                    return messages
                case Headers(fields=fields, ended=ended):
                    self._headers(dict(fields), ended)
                case Reset(code=code):
                    raise _reset(code)
                case Goaway(last=last, text=text) if last < self._stream:
                    raise RpcError(Code.UNAVAILABLE, f"the server takes no more calls{text and ': '}{text}", b"", True)
        except RpcError as error:
            self.fail(error)
        return []

    def fail(self, error: RpcError) -> None:
        """It has ended this way, unless it has already."""
        if not self.ended:
            self.ended, self.error = True, error

    def _headers(self, fields: dict[bytes, bytes], ended: bool) -> None:
        if self._began or (ended and b"grpc-status" in fields):  # trailers, or nothing but trailers
            if not ended:
                raise RpcError(Code.INTERNAL, "trailers that do not end the call")
            self._trailers(fields)
            return
        status = fields.get(b":status", b"")
        if len(status) == 3 and status.startswith(b"1") and not ended:
            return  # others follow (RFC 9113, section 8.1)
        if status != b"200":
            shown = status.decode(errors="replace")
            code = _OF_HTTP.get(int(status) if status.isdigit() else 0, Code.UNKNOWN)
            raise RpcError(code, f"the server answers with HTTP status {shown!r}")
        kind = fields.get(b"content-type", b"")
        if not kind.startswith(b"application/grpc"):
            raise RpcError(Code.UNKNOWN, f"the server answers with content of type {kind.decode(errors='replace')!r}")
        if ended:
            raise RpcError(Code.INTERNAL, "the server has ended the call without a status")
        self._began = True

    def _trailers(self, fields: dict[bytes, bytes]) -> None:
        status = fields.get(b"grpc-status", b"")
        code = int(status) if status.isdigit() and len(status) <= 2 else -1
        if code == Code.OK and self._rest:
            raise RpcError(Code.INTERNAL, "the server has ended the call within a message")
        if code != Code.OK:
            known = Code(code) if code in Code.__members__.values() else Code.UNKNOWN
            text = unquote(fields.get(b"grpc-message", b"").decode("latin-1"), errors="replace")
            text = text or (
                "" if code == known else f"the server answers with status {status.decode(errors='replace')!r}"
            )
            raise RpcError(known, text, _binary(fields.get(b"grpc-status-details-bin", b"")))
        self.ended = True

    def _data(self, octets: bytes) -> list[bytes]:
        if not self._began:
            raise RpcError(Code.INTERNAL, "the server begins with data, not with headers")
        if self._rest:
            self._rest += octets
            source: bytes | bytearray = self._rest
        else:
            source = octets
        at, messages = 0, []
        while len(source) - at >= _PREFIX.size:
            compressed, length = _PREFIX.unpack_from(source, at)
            if compressed:
                raise RpcError(Code.UNIMPLEMENTED, "the server sends a compressed message, which was not asked for")
            if length > self._largest:
                why = f"the server sends a message of {length} octets, at most {self._largest} are taken"
                raise RpcError(Code.RESOURCE_EXHAUSTED, why)
            end = at + _PREFIX.size + length
            if len(source) < end:
                break
            messages.append(bytes(source[at + _PREFIX.size : end]))
            at = end
        if source is self._rest:
            del self._rest[:at]
        elif at < len(source):
            self._rest += source[at:]
        return messages


def _reset(code: int) -> RpcError:
    name = ErrorCode(code).name if code in ErrorCode.__members__.values() else str(code)
    known = _OF_RESET.get(code, Code.INTERNAL)  # type: ignore[call-overload]
    return RpcError(known, f"the server has reset the call ({name})", b"", code == ErrorCode.REFUSED_STREAM)


def _binary(value: bytes) -> bytes:
    """Metadata in base64, with or without padding; nothing for what is not ("Custom-Metadata")."""
    try:
        return base64.b64decode(value.split(b",")[0] + b"==")
    except binascii.Error:
        return b""
