"""The client's end of an HTTP/2 connection (RFC 9113) as far as gRPC needs it, without input or output.

Bytes that arrive are given to :meth:`Http2.receive`, which returns what they mean; what is to be sent is in :meth:`Http2.take`.
A connection has one stream at a time: whoever wants two calls at once opens two connections. So nothing is ever interleaved,
no stream waits for another's window, and what is not answered in time ends with its connection.
"""

from __future__ import annotations

import struct
from collections import deque
from typing import NamedTuple

import hpack

from controller.rpc.frames import (
    ACK,
    DEFAULT_FRAME,
    DEFAULT_WINDOW,
    END_HEADERS,
    END_STREAM,
    HEADER,
    LARGEST,
    LARGEST_FRAME,
    PADDED,
    PREFACE,
    PRIORITY,
    SETTING,
    ErrorCode,
    Frame,
    Http2Error,
    Setting,
    check_connection,
    check_length,
    frame,
    grown,
    malformed,
    unpadded,
)

# Octets that the peer may send on a stream, and on the connection, before it hears that they were taken.
RECEIVE_WINDOW = 1 << 30
RECEIVE_FRAME = 1 << 18  # octets of a frame
HEADER_LIST = 1 << 20  # octets of the fields of a block, and of a block
_FIRST = 1  # stream of a client, section 5.1.1
_EMPTY_TABLE = b"\x20"  # RFC 7541, section 6.3: the dynamic table has no room, whatever the peer says that it may have
_KNOWN_BLOCKS = 64


class Headers(NamedTuple):
    """A block of header fields, or of trailers."""

    fields: list[tuple[bytes, bytes]]
    ended: bool  # the stream


class Data(NamedTuple):
    """Octets of the body."""

    octets: bytes
    ended: bool


class Reset(NamedTuple):
    """The peer has ended the stream early."""

    code: int


class Goaway(NamedTuple):
    """The peer takes no more streams, and none above ``last`` that there is."""

    last: int
    code: int
    text: str


Event = Headers | Data | Reset | Goaway


class Http2:
    """One connection. It begins with what a client has to say first."""

    def __init__(self, receive_window: int = RECEIVE_WINDOW):
        self.stream = _FIRST - 2  # the last one that was opened
        self.is_open = False  # the peer has more to say on that stream
        self.greeted = False  # the peer's settings have come
        self.goaway: Goaway | None = None
        self._receive_window = receive_window
        settings = {
            Setting.HEADER_TABLE_SIZE: 0,
            Setting.ENABLE_PUSH: 0,
            Setting.INITIAL_WINDOW_SIZE: receive_window,
            Setting.MAX_FRAME_SIZE: RECEIVE_FRAME,
            Setting.MAX_HEADER_LIST_SIZE: HEADER_LIST,
        }
        self._out = [PREFACE, frame(Frame.SETTINGS, 0, 0, b"".join(SETTING.pack(*s) for s in settings.items()))]
        if receive_window > DEFAULT_WINDOW:
            self._update_window(0, receive_window - DEFAULT_WINDOW)
        self._in = b""  # a frame that is not yet whole
        self._decoder = hpack.Decoder(HEADER_LIST)
        self._known: dict[bytes, list[tuple[bytes, bytes]]] = {}  # blocks that need no dynamic table, decoded
        self._block: bytearray | None = None  # a header block that is not yet whole
        self._block_ends = False
        self._unread_connection = max(receive_window, DEFAULT_WINDOW)  # what the peer may still send
        self._unread_stream = 0
        self._initial_window, self._frame_size = DEFAULT_WINDOW, DEFAULT_FRAME  # the peer's
        self._room_connection = DEFAULT_WINDOW  # what may still be sent
        self._room_stream = 0
        self._unsent: deque[memoryview] = deque()
        self._end_after = False  # the stream is to end after what is unsent
        self._handlers = {
            Frame.DATA: self._on_data,
            Frame.HEADERS: self._on_headers,
            Frame.RST_STREAM: self._on_reset,
            Frame.SETTINGS: self._on_settings,
            Frame.PUSH_PROMISE: self._on_push,
            Frame.PING: self._on_ping,
            Frame.GOAWAY: self._on_goaway,
            Frame.WINDOW_UPDATE: self._on_window,
            Frame.CONTINUATION: self._on_continuation,
        }

    # ---------------------------------------------------------------------------------------------------------- sending

    @property
    def can_open(self) -> bool:
        """Whether another stream may be opened: the last is over at both ends and the peer takes more."""
        return not self.is_open and not self.unsent and self.goaway is None and self.stream < LARGEST

    @property
    def must_send(self) -> bool:
        """Whether there is something to :meth:`take`."""
        return bool(self._out)

    @property
    def unsent(self) -> int:
        """Octets that wait for the peer to make room."""
        return sum(len(d) for d in self._unsent)

    def open(self, block: bytes, octets: bytes, end: bool) -> int:
        """Open a stream with a header block (see ``messages.request_block``) and the beginning of a body, or all of it
        (``end``); its number. Only when it :attr:`can_open`."""
        assert self.can_open
        if self.stream < _FIRST:
            block = _EMPTY_TABLE + block
        assert len(block) <= DEFAULT_FRAME, "a request's header block fits into a frame"
        self.stream += 2
        self.is_open = True
        self._unread_stream, self._room_stream = self._receive_window, self._initial_window
        self._end_after = end
        self._out.append(frame(Frame.HEADERS, END_HEADERS, self.stream, block))
        self.send(octets)
        return self.stream

    def send(self, octets: bytes) -> None:
        """More of the body (not nothing); it is dropped when the stream is over."""
        if self.is_open:
            self._unsent.append(memoryview(octets))
            self._send_what_fits()

    def cancel(self) -> None:
        """End the stream, and the connection with it."""
        if self.is_open:
            self.is_open = False
            self._unsent.clear()
            self._out.append(frame(Frame.RST_STREAM, 0, self.stream, ErrorCode.CANCEL.to_bytes(4, "big")))
        self._out.append(frame(Frame.GOAWAY, 0, 0, bytes(8)))

    def take(self) -> bytes:
        """What is to be sent now."""
        octets = b"".join(self._out)
        self._out.clear()
        return octets

    def _send_what_fits(self) -> None:
        unsent = self._unsent
        while unsent:
            rest = unsent[0]
            size = min(len(rest), self._frame_size, self._room_stream, self._room_connection)
            if size <= 0:
                return
            if size == len(rest):
                unsent.popleft()
            else:
                unsent[0] = rest[size:]
            self._room_stream -= size
            self._room_connection -= size
            ends = END_STREAM if self._end_after and not unsent else 0
            self._out.append(frame(Frame.DATA, ends, self.stream, bytes(rest[:size])))

    def _update_window(self, stream: int, size: int) -> None:
        self._out.append(frame(Frame.WINDOW_UPDATE, 0, stream, size.to_bytes(4, "big")))

    # -------------------------------------------------------------------------------------------------------- receiving

    def receive(self, octets: bytes) -> list[Event]:
        """What these octets, and those before them, mean. Raises Http2Error."""
        events: list[Event] = []
        if self._in:
            octets = self._in + octets
        at, end = 0, len(octets)
        try:
            while end - at >= 9:
                high, low, kind, flags, stream = HEADER.unpack_from(octets, at)
                length = high << 8 | low
                if length > RECEIVE_FRAME:
                    raise Http2Error(ErrorCode.FRAME_SIZE_ERROR, f"a frame of {length} octets, at most {RECEIVE_FRAME}")
                if end - at - 9 < length:
                    break
                payload = octets[at + 9 : at + 9 + length]
                at += 9 + length
                self._on_frame(kind, flags, stream & LARGEST, payload, events)
        except Http2Error as error:
            self._out.append(frame(Frame.GOAWAY, 0, 0, struct.pack(">II", 0, error.code)))
            raise
        self._in = octets[at:] if at else octets
        return events

    def _on_frame(self, kind: int, flags: int, stream: int, payload: bytes, events: list[Event]) -> None:
        if not self.greeted and (kind != Frame.SETTINGS or flags & ACK):
            raise malformed(f"the first frame is of type {kind}, not SETTINGS")
        if self._block is not None and kind != Frame.CONTINUATION:
            raise malformed(f"a frame of type {kind} within a header block")
        handler = self._handlers.get(kind)  # type: ignore[call-overload]
        if handler is not None:  # others mean nothing (section 4.1)
            handler(flags, stream, payload, events)

    def _on_data(self, flags: int, stream: int, payload: bytes, events: list[Event]) -> None:
        """Section 6.1."""
        self._check_stream(Frame.DATA, stream)
        size = len(payload)
        self._unread_connection -= size
        self._unread_stream -= size
        if self._unread_connection < 0 or self._unread_stream < 0:
            raise Http2Error(ErrorCode.FLOW_CONTROL_ERROR, "more data than the window has room for")
        if flags & PADDED:
            payload = unpadded(payload)
        if self._unread_connection < self._receive_window // 2:
            self._update_window(0, self._receive_window - self._unread_connection)
            self._unread_connection = self._receive_window
        ended = bool(flags & END_STREAM)
        if ended:
            self.is_open = False
        elif self._unread_stream < self._receive_window // 2:
            self._update_window(stream, self._receive_window - self._unread_stream)
            self._unread_stream = self._receive_window
        events.append(Data(payload, ended))

    def _on_headers(self, flags: int, stream: int, payload: bytes, events: list[Event]) -> None:
        """Section 6.2."""
        self._check_stream(Frame.HEADERS, stream)
        if flags & PADDED:
            payload = unpadded(payload)
        if flags & PRIORITY:
            if len(payload) < 5:
                raise Http2Error(ErrorCode.FRAME_SIZE_ERROR, "HEADERS without room for the priority")
            payload = payload[5:]
        self._block_ends = bool(flags & END_STREAM)
        if flags & END_HEADERS:
            self._on_block(payload, events)
        else:
            self._block = bytearray(payload)

    def _on_continuation(self, flags: int, stream: int, payload: bytes, events: list[Event]) -> None:
        """Section 6.10."""
        if self._block is None or stream != self.stream:
            raise malformed(f"CONTINUATION of stream {stream} outside of a header block of it")
        self._block += payload
        if len(self._block) > HEADER_LIST:
            raise Http2Error(ErrorCode.ENHANCE_YOUR_CALM, f"a header block of more than {HEADER_LIST} octets")
        if flags & END_HEADERS:
            block, self._block = bytes(self._block), None
            self._on_block(block, events)

    def _on_block(self, block: bytes, events: list[Event]) -> None:
        fields = self._known.get(block) if self._decoder.header_table_size == 0 else None
        if fields is None:
            try:
                fields = [(bytes(name), bytes(value)) for name, value in self._decoder.decode(block, raw=True)]
            except hpack.HPACKError as error:
                raise Http2Error(
                    ErrorCode.COMPRESSION_ERROR, f"a header block that cannot be decoded: {error}"
                ) from None
            if self._decoder.header_table_size == 0 and len(self._known) < _KNOWN_BLOCKS:
                self._known[block] = fields
        if self._block_ends:
            self.is_open = False
        events.append(Headers(fields, self._block_ends))

    def _on_reset(self, _flags: int, stream: int, payload: bytes, events: list[Event]) -> None:
        """Section 6.4."""
        check_length(Frame.RST_STREAM, payload, 4)
        if self._is_late(Frame.RST_STREAM, stream):
            if stream == self.stream:
                self._unsent.clear()  # answered already, and the rest of the request is not wanted (section 8.1)
            return
        self.is_open = False
        self._unsent.clear()
        events.append(Reset(int.from_bytes(payload, "big")))

    def _on_settings(self, flags: int, stream: int, payload: bytes, _events: list[Event]) -> None:
        """Section 6.5."""
        check_connection(Frame.SETTINGS, stream)
        if flags & ACK:
            check_length(Frame.SETTINGS, payload, 0)
            return
        if len(payload) % SETTING.size:
            raise Http2Error(ErrorCode.FRAME_SIZE_ERROR, f"SETTINGS of {len(payload)} octets")
        for setting, value in SETTING.iter_unpack(payload):
            if setting == Setting.INITIAL_WINDOW_SIZE:
                if value > LARGEST:
                    raise Http2Error(ErrorCode.FLOW_CONTROL_ERROR, f"an initial window of {value}")
                if self.is_open or self._unsent:  # the room may go below 0 (section 6.9.2)
                    self._room_stream = grown(self._room_stream, value - self._initial_window)
                self._initial_window = value
            elif setting == Setting.MAX_FRAME_SIZE:
                if not DEFAULT_FRAME <= value <= LARGEST_FRAME:
                    raise malformed(f"a maximum frame size of {value}")
                self._frame_size = value
            elif setting == Setting.ENABLE_PUSH and value:
                raise malformed(f"a server with ENABLE_PUSH {value}")
        self.greeted = True
        self._out.append(frame(Frame.SETTINGS, ACK, 0, b""))
        self._send_what_fits()

    def _on_push(self, _flags: int, _stream: int, _payload: bytes, _events: list[Event]) -> None:
        raise malformed("PUSH_PROMISE, which was forbidden")

    def _on_ping(self, flags: int, stream: int, payload: bytes, _events: list[Event]) -> None:
        """Section 6.7."""
        check_connection(Frame.PING, stream)
        check_length(Frame.PING, payload, 8)
        if not flags & ACK:
            self._out.append(frame(Frame.PING, ACK, 0, payload))

    def _on_goaway(self, _flags: int, stream: int, payload: bytes, events: list[Event]) -> None:
        """Section 6.8."""
        check_connection(Frame.GOAWAY, stream)
        if len(payload) < 8:
            raise Http2Error(ErrorCode.FRAME_SIZE_ERROR, f"GOAWAY of {len(payload)} octets")
        last, code = struct.unpack_from(">II", payload)
        self.goaway = Goaway(last & LARGEST, code, payload[8:200].decode(errors="replace"))
        events.append(self.goaway)

    def _on_window(self, _flags: int, stream: int, payload: bytes, _events: list[Event]) -> None:
        """Section 6.9."""
        check_length(Frame.WINDOW_UPDATE, payload, 4)
        size = int.from_bytes(payload, "big") & LARGEST
        if not size:
            raise malformed(f"WINDOW_UPDATE of stream {stream} by 0")
        if not stream:
            self._room_connection = grown(self._room_connection, size)
        elif self._is_late(Frame.WINDOW_UPDATE, stream):
            return
        else:
            self._room_stream = grown(self._room_stream, size)
        self._send_what_fits()

    def _check_stream(self, kind: Frame, stream: int) -> None:
        if self._is_late(kind, stream):
            raise Http2Error(ErrorCode.STREAM_CLOSED, f"{kind.name} on stream {stream}, which is over")

    def _is_late(self, kind: Frame, stream: int) -> bool:
        """Whether a stream is over (section 5.1). Raises Http2Error if there was none."""
        if stream > self.stream or stream % 2 == 0:
            raise malformed(f"{kind.name} on stream {stream}, which was not opened")
        return stream < self.stream or not self.is_open
