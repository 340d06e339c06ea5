"""Frames of HTTP/2, their types, flags and errors (RFC 9113, sections 4, 6 and 7)."""

from __future__ import annotations

import struct
from enum import IntEnum

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"  # section 3.4
LARGEST = (1 << 31) - 1  # of windows (section 6.9.1) and of streams' numbers (section 4.1)
DEFAULT_WINDOW, DEFAULT_FRAME, LARGEST_FRAME = 65535, 16384, (1 << 24) - 1  # octets, section 6.5.2
END_STREAM = ACK = 0x1
END_HEADERS = 0x4
PADDED = 0x8
PRIORITY = 0x20
HEADER = struct.Struct(">HBBBI")  # section 4.1: length (24 bits), type, flags, stream
SETTING = struct.Struct(">HI")


class Frame(IntEnum):
    """Types of frames (section 6)."""

    DATA = 0
    HEADERS = 1
    PRIORITY = 2
    RST_STREAM = 3
    SETTINGS = 4
    PUSH_PROMISE = 5
    PING = 6
    GOAWAY = 7
    WINDOW_UPDATE = 8
    CONTINUATION = 9


class Setting(IntEnum):
    """Settings that mean something here (section 6.5.2)."""

    HEADER_TABLE_SIZE = 1
    ENABLE_PUSH = 2
    INITIAL_WINDOW_SIZE = 4
    MAX_FRAME_SIZE = 5
    MAX_HEADER_LIST_SIZE = 6


class ErrorCode(IntEnum):
    """Section 7."""

    NO_ERROR = 0x0
    PROTOCOL_ERROR = 0x1
    INTERNAL_ERROR = 0x2
    FLOW_CONTROL_ERROR = 0x3
    SETTINGS_TIMEOUT = 0x4
    STREAM_CLOSED = 0x5
    FRAME_SIZE_ERROR = 0x6
    REFUSED_STREAM = 0x7
    CANCEL = 0x8
    COMPRESSION_ERROR = 0x9
    CONNECT_ERROR = 0xA
    ENHANCE_YOUR_CALM = 0xB
    INADEQUATE_SECURITY = 0xC
    HTTP_1_1_REQUIRED = 0xD


class Http2Error(Exception):
    """The peer does not keep to the protocol: the connection is of no use any more. What is to be sent ends with a GOAWAY."""

    def __init__(self, code: ErrorCode, why: str):
        super().__init__(f"{why} ({code.name})")
        self.code = code


def frame(kind: Frame, flags: int, stream: int, payload: bytes) -> bytes:
    """Section 4.1."""
    size = len(payload)
    return HEADER.pack(size >> 8, size & 0xFF, kind, flags, stream) + payload


def malformed(why: str) -> Http2Error:
    """What most errors are."""
    return Http2Error(ErrorCode.PROTOCOL_ERROR, why)


def check_length(kind: Frame, payload: bytes, length: int) -> None:
    """Raise Http2Error for a frame of a fixed length that has another."""
    if len(payload) != length:
        raise Http2Error(ErrorCode.FRAME_SIZE_ERROR, f"{kind.name} of {len(payload)} octets, not {length}")


def check_connection(kind: Frame, stream: int) -> None:
    """Raise Http2Error for a frame of the connection that names a stream."""
    if stream:
        raise malformed(f"{kind.name} on stream {stream}, not 0")


def grown(room: int, size: int) -> int:
    """A window with room for ``size`` more octets. Raises Http2Error when it is too large (section 6.9.1)."""
    if room + size > LARGEST:
        raise Http2Error(ErrorCode.FLOW_CONTROL_ERROR, f"a window of {room + size} octets")
    return room + size


def unpadded(payload: bytes) -> bytes:
    """The payload of a PADDED frame (section 6.1) without length and padding."""
    if not payload or payload[0] >= len(payload):
        raise malformed("more padding than the frame is long")
    return payload[1 : len(payload) - payload[0]]
