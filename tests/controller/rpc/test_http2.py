"""The client's end of HTTP/2 against another implementation (h2), byte by byte, and against peers that break the rules."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable

import hpack
import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, Event, RequestReceived, StreamEnded, StreamReset
from h2.settings import SettingCodes
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.rpc import http2
from controller.rpc.frames import (
    ACK,
    DEFAULT_WINDOW,
    END_HEADERS,
    END_STREAM,
    LARGEST,
    PADDED,
    PREFACE,
    PRIORITY,
    ErrorCode,
    Frame,
    Http2Error,
    frame,
)
from controller.rpc.http2 import Data, Goaway, Headers, Http2, Reset
from controller.rpc.messages import request_block

BLOCK = request_block("127.0.0.1:9559", "/p4.v1.P4Runtime/Write", 10)
ANSWER = [(b":status", b"200"), (b"content-type", b"application/grpc")]
SETTINGS = frame(Frame.SETTINGS, 0, 0, b"")


class Peer:
    """A server by h2 and the wire between, cut anywhere."""

    def __init__(self, pieces: random.Random | None = None, client: Http2 | None = None, **initial: int):
        self.client = client or Http2()
        self.server = H2Connection(H2Configuration(client_side=False, header_encoding=None))
        self.server.initiate_connection()
        self.server.update_settings({SettingCodes[k]: v for k, v in initial.items()})
        self.pieces = pieces
        self.heard: list[http2.Event] = []
        self.served: list[Event] = []
        self.body = bytearray()

    def exchange(self, acknowledge: bool = True) -> None:
        """Until neither has anything to say."""
        while True:
            up, down = self.client.take(), self.server.data_to_send()
            if not up and not down:
                return
            for piece in self.cut(up):
                for event in self.server.receive_data(piece):
                    self.served.append(event)
                    if isinstance(event, DataReceived):
                        self.body += event.data
                        if acknowledge:
                            self.server.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            for piece in self.cut(down):
                self.heard += self.client.receive(piece)

    def cut(self, octets: bytes) -> list[bytes]:
        if self.pieces is None:
            return [octets] if octets else []
        found, at = [], 0
        while at < len(octets):
            size = self.pieces.choice((1, 2, 7, 100, 10_000))
            found.append(octets[at : at + size])
            at += size
        return found


def greeted(window: int = http2.RECEIVE_WINDOW) -> Http2:
    """A client with an open stream, whose peer has said nothing but its settings."""
    client = Http2(window)
    client.receive(SETTINGS)
    client.open(BLOCK, b"request", True)
    client.take()
    return client


def block(*fields: tuple[bytes, bytes]) -> bytes:
    return hpack.Encoder().encode([(n, v, True) for n, v in fields])


# -------------------------------------------------------------------------------------------------------------------- calls


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 150_000), st.integers(0, 150_000)), min_size=1, max_size=3),
    st.integers(0, 2**32),
    st.sampled_from((0, 1000, DEFAULT_WINDOW, 1 << 20)),
    st.sampled_from((16384, 20_000, 1 << 20)),
    st.sampled_from((0, 100, 4096)),
)
def test_calls_however_the_bytes_are_cut(
    sizes: list[tuple[int, int]], seed: int, window: int, largest: int, table: int
) -> None:
    choice = random.Random(seed)
    client = Http2(choice.choice((1000, 100_000, http2.RECEIVE_WINDOW)))
    peer = Peer(choice, client, INITIAL_WINDOW_SIZE=window, MAX_FRAME_SIZE=largest, HEADER_TABLE_SIZE=table)
    for up, down in sizes:
        request, answer = choice.randbytes(up), choice.randbytes(down)
        peer.exchange()
        stream = client.open(BLOCK, request, True)
        peer.exchange()
        if not window:  # the peer lets the body come only now
            assert not peer.body
            peer.server.increment_flow_control_window(up, stream)
            peer.exchange()
        assert bytes(peer.body) == request
        assert [type(e) for e in peer.served if isinstance(e, RequestReceived | StreamEnded)][-1] is StreamEnded
        assert client.is_open
        assert not client.can_open
        peer.server.send_headers(stream, ANSWER)
        left = answer
        while left:
            peer.exchange()
            size = min(len(left), peer.server.local_flow_control_window(stream), peer.server.max_outbound_frame_size)
            assert size > 0, "the client makes room"
            peer.server.send_data(stream, left[:size])
            left = left[size:]
        peer.server.send_headers(stream, [(b"grpc-status", b"0")], end_stream=True)
        peer.exchange()
        assert peer.heard[0] == Headers(ANSWER, False)
        assert peer.heard[-1] == Headers([(b"grpc-status", b"0")], True)
        assert b"".join(e.octets for e in peer.heard if isinstance(e, Data)) == answer
        assert client.can_open
        peer.heard.clear()
        peer.body.clear()


def test_a_server_that_uses_a_table_of_headers_is_understood() -> None:
    client = greeted()
    encoder = hpack.Encoder()  # 4096 octets, whatever the client has asked for
    for _ in range(3):
        octets = frame(Frame.HEADERS, END_HEADERS, client.stream, encoder.encode(ANSWER))
        octets += frame(
            Frame.HEADERS, END_HEADERS | END_STREAM, client.stream, encoder.encode([(b"grpc-status", b"0")])
        )
        assert client.receive(octets) == [Headers(ANSWER, False), Headers([(b"grpc-status", b"0")], True)]
        client.open(BLOCK, b"request", True)


def test_equal_blocks_mean_different_things_when_the_table_has_changed() -> None:
    client = greeted()
    encoder = hpack.Encoder()
    encoder.header_table_size = 0
    found = client.receive(frame(Frame.HEADERS, END_HEADERS, 1, encoder.encode(ANSWER)))
    encoder.header_table_size = 4096
    for value in (b"1", b"2"):
        first = encoder.encode([(b"x", value)])
        again = encoder.encode([(b"x", value)])
        assert len(again) == 1
        found += client.receive(
            frame(Frame.HEADERS, END_HEADERS, 1, first) + frame(Frame.HEADERS, END_HEADERS, 1, again)
        )
    assert [e.fields[0][1] for e in found if isinstance(e, Headers)] == [b"200", b"1", b"1", b"2", b"2"]


def test_what_belongs_to_a_block_may_be_spread_and_padded() -> None:
    client = greeted()
    encoded = block(*ANSWER)
    octets = frame(Frame.HEADERS, PADDED | PRIORITY | END_STREAM, 1, b"\x02" + bytes(5) + encoded[:3] + b"\0\0")
    octets += frame(Frame.CONTINUATION, 0, 1, b"") + frame(Frame.CONTINUATION, END_HEADERS, 1, encoded[3:])
    assert client.receive(octets) == [Headers(ANSWER, True)]
    client.open(BLOCK, b"request", True)
    octets = frame(Frame.HEADERS, END_HEADERS, 3, encoded) + frame(Frame.DATA, PADDED, 3, b"\x03abc\0\0\0")
    octets += frame(Frame.DATA, PADDED, 3, b"\0") + frame(Frame.DATA, END_STREAM, 3, b"d")
    assert client.receive(octets)[1:] == [Data(b"abc", False), Data(b"", False), Data(b"d", True)]


def test_pings_and_settings_are_answered_and_unknown_frames_mean_nothing() -> None:
    client = Http2()
    assert client.take().startswith(PREFACE)
    client.receive(SETTINGS + frame(Frame.PING, 0, 0, b"12345678") + frame(Frame.PING, ACK, 0, b"87654321"))
    assert client.take() == frame(Frame.SETTINGS, ACK, 0, b"") + frame(Frame.PING, ACK, 0, b"12345678")
    unknown = struct.pack(">HBBBI", 0, 3, 0xBE, 0xFF, 77) + b"abc"
    assert client.receive(unknown + frame(Frame.PRIORITY, 0, 9, bytes(5)) + frame(Frame.SETTINGS, ACK, 0, b"")) == []
    assert client.take() == b""


def test_a_window_that_shrinks_below_nothing_has_to_be_filled_up_first() -> None:
    peer = Peer()
    peer.client.open(BLOCK, bytes(100_000), True)
    peer.exchange(acknowledge=False)
    assert len(peer.body) == DEFAULT_WINDOW
    peer.server.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 0})
    peer.server.increment_flow_control_window(LARGEST - DEFAULT_WINDOW)
    peer.exchange(acknowledge=False)
    peer.client.receive(frame(Frame.WINDOW_UPDATE, 0, 1, (DEFAULT_WINDOW).to_bytes(4, "big")))
    assert peer.client.take() == b""
    assert peer.client.unsent == 100_000 - DEFAULT_WINDOW
    peer.client.receive(frame(Frame.WINDOW_UPDATE, 0, 1, (3).to_bytes(4, "big")))
    assert peer.client.take() == frame(Frame.DATA, 0, 1, bytes(3))


def test_the_client_makes_room_when_half_of_it_is_used() -> None:
    client = greeted(100_000)
    client.receive(frame(Frame.HEADERS, END_HEADERS, 1, block(*ANSWER)) + frame(Frame.DATA, 0, 1, bytes(50_000)))
    assert client.take() == b""
    client.receive(frame(Frame.DATA, 0, 1, bytes(1)))
    more = (50_001).to_bytes(4, "big")
    assert client.take() == frame(Frame.WINDOW_UPDATE, 0, 0, more) + frame(Frame.WINDOW_UPDATE, 0, 1, more)


def test_an_answer_that_comes_before_the_request_was_sent_ends_it() -> None:
    peer = Peer()
    peer.client.open(BLOCK, bytes(100_000), True)
    peer.exchange(acknowledge=False)
    peer.server.send_headers(1, [*ANSWER, (b"grpc-status", b"8")], end_stream=True)
    peer.exchange()
    assert peer.heard[-1] == Headers([*ANSWER, (b"grpc-status", b"8")], True)
    assert not peer.client.can_open  # the rest of the request would have to come first
    peer.server.reset_stream(1)
    peer.exchange()
    assert peer.client.can_open


def test_resets_goaway_and_cancelling() -> None:
    peer = Peer()
    peer.client.open(BLOCK, b"x", False)
    peer.exchange()
    peer.server.reset_stream(1, 7)
    peer.exchange()
    assert peer.heard == [Reset(7)]
    peer.client.send(b"too late")
    peer.exchange()
    assert bytes(peer.body) == b"x"
    assert peer.client.open(BLOCK, b"y", False) == 3
    peer.client.receive(
        frame(Frame.RST_STREAM, 0, 1, bytes(4)) + frame(Frame.WINDOW_UPDATE, 0, 1, b"\0\0\0\1")
    )  # are late
    peer.exchange()
    peer.client.cancel()
    peer.exchange()
    assert [e.stream_id for e in peer.served if isinstance(e, StreamReset)] == [3]
    other = greeted()
    assert other.receive(frame(Frame.GOAWAY, 0, 0, b"\0\0\0\1\0\0\0\x0bwhy")) == [Goaway(1, 11, "why")]
    other.receive(frame(Frame.HEADERS, END_HEADERS | END_STREAM, 1, block(*ANSWER)))
    assert not other.is_open
    assert not other.can_open


# ---------------------------------------------------------------------------------------------------------- broken rules

BROKEN: list[tuple[ErrorCode, str, bytes]] = [
    (ErrorCode.FRAME_SIZE_ERROR, "a frame of 16777215", b"\xff\xff\xff\0\0\0\0\0\1"),
    (ErrorCode.PROTOCOL_ERROR, "not opened", frame(Frame.DATA, 0, 0, b"")),
    (ErrorCode.PROTOCOL_ERROR, "not opened", frame(Frame.DATA, 0, 3, b"")),
    (ErrorCode.PROTOCOL_ERROR, "not opened", frame(Frame.HEADERS, END_HEADERS, 2, b"")),
    (ErrorCode.PROTOCOL_ERROR, "not opened", frame(Frame.RST_STREAM, 0, 0, bytes(4))),
    (ErrorCode.PROTOCOL_ERROR, "not opened", frame(Frame.WINDOW_UPDATE, 0, 5, b"\0\0\0\1")),
    (ErrorCode.STREAM_CLOSED, "is over", 2 * frame(Frame.DATA, END_STREAM, 1, b"")),
    (ErrorCode.PROTOCOL_ERROR, "padding", frame(Frame.DATA, PADDED, 1, b"")),
    (ErrorCode.PROTOCOL_ERROR, "padding", frame(Frame.DATA, PADDED, 1, b"\x02a")),
    (ErrorCode.FRAME_SIZE_ERROR, "priority", frame(Frame.HEADERS, PRIORITY | END_HEADERS, 1, bytes(4))),
    (ErrorCode.COMPRESSION_ERROR, "cannot be decoded", frame(Frame.HEADERS, END_HEADERS, 1, b"\xff\xff")),
    (ErrorCode.COMPRESSION_ERROR, "cannot be decoded", frame(Frame.HEADERS, END_HEADERS, 1, b"\xff\x80\x01")),
    (ErrorCode.PROTOCOL_ERROR, "outside of a header block", frame(Frame.CONTINUATION, END_HEADERS, 1, b"")),
    (ErrorCode.PROTOCOL_ERROR, "within a header block", frame(Frame.HEADERS, 0, 1, b"") + SETTINGS),
    (
        ErrorCode.PROTOCOL_ERROR,
        "outside of a header block",
        frame(Frame.HEADERS, 0, 1, b"") + frame(Frame.CONTINUATION, END_HEADERS, 3, b""),
    ),
    (
        ErrorCode.ENHANCE_YOUR_CALM,
        "a header block of more",
        frame(Frame.HEADERS, 0, 1, b"") + 5 * frame(Frame.CONTINUATION, 0, 1, bytes(1 << 18)),
    ),
    (ErrorCode.FRAME_SIZE_ERROR, "RST_STREAM of 3", frame(Frame.RST_STREAM, 0, 1, bytes(3))),
    (ErrorCode.PROTOCOL_ERROR, "SETTINGS on stream 1", frame(Frame.SETTINGS, 0, 1, b"")),
    (ErrorCode.FRAME_SIZE_ERROR, "SETTINGS of 6", frame(Frame.SETTINGS, ACK, 0, bytes(6))),
    (ErrorCode.FRAME_SIZE_ERROR, "SETTINGS of 5", frame(Frame.SETTINGS, 0, 0, bytes(5))),
    (ErrorCode.FLOW_CONTROL_ERROR, "initial window", frame(Frame.SETTINGS, 0, 0, b"\0\4\x80\0\0\0")),
    (ErrorCode.PROTOCOL_ERROR, "maximum frame size", frame(Frame.SETTINGS, 0, 0, b"\0\5\0\0\x3f\xff")),
    (ErrorCode.PROTOCOL_ERROR, "maximum frame size", frame(Frame.SETTINGS, 0, 0, b"\0\5\1\0\0\0")),
    (ErrorCode.PROTOCOL_ERROR, "ENABLE_PUSH", frame(Frame.SETTINGS, 0, 0, b"\0\2\0\0\0\1")),
    (ErrorCode.PROTOCOL_ERROR, "PUSH_PROMISE", frame(Frame.PUSH_PROMISE, END_HEADERS, 1, bytes(4))),
    (ErrorCode.PROTOCOL_ERROR, "PING on stream 1", frame(Frame.PING, 0, 1, bytes(8))),
    (ErrorCode.FRAME_SIZE_ERROR, "PING of 7", frame(Frame.PING, 0, 0, bytes(7))),
    (ErrorCode.PROTOCOL_ERROR, "GOAWAY on stream 1", frame(Frame.GOAWAY, 0, 1, bytes(8))),
    (ErrorCode.FRAME_SIZE_ERROR, "GOAWAY of 7", frame(Frame.GOAWAY, 0, 0, bytes(7))),
    (ErrorCode.FRAME_SIZE_ERROR, "WINDOW_UPDATE of 5", frame(Frame.WINDOW_UPDATE, 0, 0, bytes(5))),
    (ErrorCode.PROTOCOL_ERROR, "by 0", frame(Frame.WINDOW_UPDATE, 0, 0, b"\x80\0\0\0")),
    (ErrorCode.FLOW_CONTROL_ERROR, "a window of", frame(Frame.WINDOW_UPDATE, 0, 0, b"\x7f\xff\xff\xff")),
    (ErrorCode.FLOW_CONTROL_ERROR, "a window of", frame(Frame.WINDOW_UPDATE, 0, 1, b"\x7f\xff\xff\xff")),
]


@pytest.mark.parametrize(("code", "why", "octets"), BROKEN, ids=lambda x: x if isinstance(x, str) else "")
def test_a_peer_that_breaks_a_rule_is_told_which(code: ErrorCode, why: str, octets: bytes) -> None:
    def whole(client: Http2) -> None:
        client.receive(octets)

    def byte_by_byte(client: Http2) -> None:
        for octet in octets[:2000]:
            client.receive(bytes([octet]))
        client.receive(octets[2000:])

    ways: list[Callable[[Http2], None]] = [whole, byte_by_byte]
    for way in ways:
        client = greeted()
        with pytest.raises(Http2Error, match=why) as caught:
            way(client)
        assert caught.value.code is code
        assert client.take().endswith(frame(Frame.GOAWAY, 0, 0, struct.pack(">II", 0, code)))


def test_more_data_than_there_is_room_for() -> None:
    client = greeted(70_000)
    with pytest.raises(Http2Error, match="more data than"):
        client.receive(frame(Frame.DATA, 0, 1, bytes(70_001)))


@pytest.mark.parametrize(
    "octets",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        PREFACE,
        frame(Frame.SETTINGS, ACK, 0, b""),
        frame(Frame.PING, 0, 0, bytes(8)),
    ],
)
def test_a_peer_that_does_not_begin_with_settings(octets: bytes) -> None:
    client = Http2()
    with pytest.raises(Http2Error):
        client.receive(octets)


FRAMES = st.builds(
    lambda kind, flags, stream, payload: struct.pack(">HBBBI", 0, len(payload), kind, flags, stream) + payload,
    st.integers(0, 11),
    st.sampled_from((0, 1, 4, 5, 8, 0x20, 0x2D, 0xFF)),
    st.sampled_from((0, 1, 2, 3, 1 << 31, (1 << 31) + 1)),
    st.one_of(st.binary(max_size=20), st.just(block(*ANSWER)), st.sampled_from((bytes(4), bytes(8), b"\0\0\0\1"))),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.one_of(FRAMES, FRAMES, st.binary(max_size=12)), max_size=8), st.integers(0, 2**32))
def test_anything_else_is_understood_or_refused_however_it_is_cut(sequence: list[bytes], seed: int) -> None:
    octets = b"".join(sequence)
    outcomes = []
    for cut in (False, True):
        client, events, choice = greeted(), list[http2.Event](), random.Random(seed)
        try:
            at = 0
            while at < len(octets):
                size = choice.randint(1, 9) if cut else len(octets)
                events += client.receive(octets[at : at + size])
                at += size
        except Http2Error as error:
            outcomes.append((str(error), client.take()[-17:]))
        else:
            outcomes.append((events, client.is_open))
    assert outcomes[0] == outcomes[1]
