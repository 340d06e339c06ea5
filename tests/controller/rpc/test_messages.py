"""Answers of gRPC: messages however they are cut, and every way in which a call can end."""

from __future__ import annotations

import base64
import random

import hpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.rpc.http2 import Data, Event, Goaway, Headers, Reset
from controller.rpc.messages import Answer, Code, packed, request_block

BEGIN = Headers([(b":status", b"200"), (b"content-type", b"application/grpc+proto")], False)
DONE = Headers([(b"grpc-status", b"0")], True)


def ending(*fields: tuple[bytes, bytes]) -> Headers:
    return Headers(list(fields), True)


def answered(*events: Event, stream: int = 5, largest: int = 1000) -> tuple[list[bytes], Answer]:
    answer = Answer(stream, largest)
    messages = [m for event in events for m in answer.add(event)]
    return messages, answer


@given(st.lists(st.binary(max_size=50), max_size=6), st.integers(0, 2**32))
def test_messages_however_they_are_cut(messages: list[bytes], seed: int) -> None:
    octets, choice = b"".join(packed(m) for m in messages), random.Random(seed)
    events: list[Event] = [BEGIN]
    while octets:
        size = choice.choice((0, 1, 4, 5, 6, 60, 1000))
        events.append(Data(octets[:size], False))
        octets = octets[size:]
    found, answer = answered(*events, DONE)
    assert found == messages
    assert (answer.ended, answer.error) == (True, None)


@pytest.mark.parametrize(
    ("events", "code", "text"),
    [
        (
            [ending((b":status", b"200"), (b"grpc-status", b"7"), (b"grpc-message", b"Not%20primary%21"))],
            7,
            "Not primary!",
        ),
        ([BEGIN, ending((b"grpc-status", b"9"), (b"grpc-message", "n\u00e4".encode()))], 9, "n\u00c3\u00a4"),
        ([BEGIN, ending((b"grpc-status", b"9"), (b"grpc-message", b"n%C3%A4 100%"))], 9, "n\u00e4 100%"),
        ([BEGIN, ending((b"grpc-status", b"5"))], 5, "NOT_FOUND"),
        ([BEGIN, ending((b"grpc-status", b"99"))], 2, "status '99'"),
        ([BEGIN, ending((b"grpc-status", b"-1"))], 2, "status '-1'"),
        ([BEGIN, ending()], 2, "status ''"),
        ([ending((b":status", b"404"))], 12, "HTTP status '404'"),
        ([Headers([(b":status", b"503")], False)], 14, "HTTP status '503'"),
        ([Headers([(b":status", b"302")], False)], 2, "HTTP status '302'"),
        ([Headers([(b":status", b"x\xff")], False)], 2, "HTTP status"),
        ([Headers([], False)], 2, "HTTP status ''"),
        ([ending((b":status", b"100"))], 2, "HTTP status '100'"),
        ([Headers([(b":status", b"200"), (b"content-type", b"text/html")], False)], 2, "type 'text/html'"),
        ([ending((b":status", b"200"), (b"content-type", b"application/grpc"))], 13, "without a status"),
        ([BEGIN, Data(packed(b"x"), True)], 13, "without a status"),
        ([BEGIN, Headers([(b"grpc-status", b"0")], False)], 13, "do not end the call"),
        ([BEGIN, Data(packed(b"x")[:3], False), DONE], 13, "within a message"),
        ([Data(packed(b"x"), False)], 13, "begins with data"),
        ([BEGIN, Data(b"\1\0\0\0\1x", False)], 12, "compressed"),
        ([BEGIN, Data(b"\0\0\0\x03\xe9", False)], 8, "message of 1001 octets, at most 1000"),
        ([BEGIN, Reset(7)], 14, "REFUSED_STREAM"),
        ([BEGIN, Reset(8)], 1, "CANCEL"),
        ([BEGIN, Reset(0)], 13, "NO_ERROR"),
        ([BEGIN, Reset(4711)], 13, "4711"),
        ([Goaway(3, 0, "max_age")], 14, "no more calls: max_age"),
    ],
)
def test_a_call_that_did_not_end_well_says_how(events: list[Event], code: int, text: str) -> None:
    _, answer = answered(*events)
    assert answer.ended
    assert answer.error is not None
    assert answer.error.code == code
    assert text in str(answer.error)
    assert answer.error.unprocessed == (isinstance(events[-1], Goaway) or events[-1] == Reset(7))
    assert answer.add(Data(packed(b"more"), False)) == []
    assert answer.error.code == code


def test_what_is_no_end() -> None:
    early = Headers([(b":status", b"103")], False)
    messages, answer = answered(
        early, early, BEGIN, Goaway(5, 0, ""), Data(packed(b""), False), Data(b"", False), DONE, Reset(7)
    )
    assert messages == [b""]
    assert (answer.ended, answer.error) == (True, None)


@pytest.mark.parametrize("padding", [b"", b"==", b"=="[:1]])
def test_details_in_base64_with_and_without_padding(padding: bytes) -> None:
    for details in (b"", b"a", b"ab", b"abc", bytes(range(256))):
        value = base64.b64encode(details).rstrip(b"=") + padding
        _, answer = answered(BEGIN, ending((b"grpc-status", b"2"), (b"grpc-status-details-bin", value)))
        assert answer.error is not None
        assert answer.error.details == details
    _, answer = answered(BEGIN, ending((b"grpc-status", b"2"), (b"grpc-status-details-bin", b"A")))
    assert answer.error is not None
    assert (answer.error.code, answer.error.details) == (Code.UNKNOWN, b"")


def test_a_request_s_headers() -> None:
    decoder = hpack.Decoder()
    decoder.max_allowed_table_size = decoder.header_table_size = 0
    fields = dict(decoder.decode(request_block("[::1]:9559", "/p4.v1.P4Runtime/Write", 0.0015)))
    assert (fields[":authority"], fields[":path"]) == ("[::1]:9559", "/p4.v1.P4Runtime/Write")
    assert (fields["te"], fields["content-type"], fields["grpc-timeout"]) == ("trailers", "application/grpc", "2m")
    assert "grpc-timeout" not in dict(decoder.decode(request_block("a:1", "/b")))
