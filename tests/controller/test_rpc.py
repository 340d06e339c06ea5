"""The controller's gRPC client: against gRPC's own server, and against servers that say what that one never would."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import contextmanager, suppress

import grpc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from controller.rpc import Channel, Code, Connection, RpcError

DETAILS = bytes(range(256)) * 3


def _echo(request: bytes, context: grpc.ServicerContext) -> bytes:
    return request


def _refuse(request: bytes, context: grpc.ServicerContext) -> bytes:
    context.set_trailing_metadata((("grpc-status-details-bin", DETAILS),))
    context.abort(grpc.StatusCode.FAILED_PRECONDITION, "not so: 100 % größer, \n and more")
    raise AssertionError


def _sleep(request: bytes, context: grpc.ServicerContext) -> bytes:
    time.sleep(float(request))
    return b"awake"


def _many(request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
    for n in range(int(request)):
        yield bytes(n % 251 for _ in range(n))


def _talk(requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
    for request in requests:
        if request == b"end":
            return
        yield request


def _same(data: bytes) -> bytes:
    return data


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """gRPC's server."""
    large = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    server = grpc.server(futures.ThreadPoolExecutor(8), options=large)
    coded = {"request_deserializer": _same, "response_serializer": _same}
    handlers = {
        "Echo": grpc.unary_unary_rpc_method_handler(_echo, **coded),
        "Refuse": grpc.unary_unary_rpc_method_handler(_refuse, **coded),
        "Sleep": grpc.unary_unary_rpc_method_handler(_sleep, **coded),
        "Many": grpc.unary_stream_rpc_method_handler(_many, **coded),
        "Talk": grpc.stream_stream_rpc_method_handler(_talk, **coded),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("T", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None).wait()


@pytest.fixture
def channel(address: str) -> Iterator[Channel]:
    made = Channel(address)
    yield made
    made.close()


@pytest.mark.parametrize("size", [0, 1, 16379, 16380, 65530, 65531, 5_000_000])
def test_messages_of_any_size_go_both_ways(channel: Channel, size: int) -> None:
    data = bytes(n % 253 for n in range(size))
    for _ in range(2):
        assert channel.call("/T/Echo", data, 20) == [data]


def test_many_calls_and_many_messages(channel: Channel) -> None:
    """The flow control's windows are used up many times over."""
    for n in range(300):
        assert channel.call("/T/Echo", b"x" * n, 20) == [b"x" * n]
    found = channel.call("/T/Many", b"3000", 30)
    assert [len(m) for m in found] == list(range(3000))


def test_refusals_keep_the_connection(channel: Channel) -> None:
    for _ in range(3):
        with pytest.raises(RpcError, match="not so: 100 % größer, \n and more") as caught:
            channel.call("/T/Refuse", b"", 5)
        assert (caught.value.code, caught.value.details) == (Code.FAILED_PRECONDITION, DETAILS)
        with pytest.raises(RpcError) as caught:
            channel.call("/T/NoSuchMethod", b"", 5)
        assert caught.value.code == 12  # UNIMPLEMENTED
        assert channel.call("/T/Echo", b"y", 5) == [b"y"]


def test_a_late_answer_is_not_taken_for_that_of_the_next_call(channel: Channel) -> None:
    with pytest.raises(RpcError) as caught:
        channel.call("/T/Sleep", b"0.3", 0.1)
    assert caught.value.code == Code.DEADLINE_EXCEEDED
    assert channel.call("/T/Echo", b"next", 5) == [b"next"]
    assert channel.call("/T/Sleep", b"0.01", 5) == [b"awake"]


def test_a_stream(address: str) -> None:
    connection = Connection(address, 5)
    connection.begin("/T/Talk", b"first", False)
    assert connection.receive() == b"first"
    threads = [threading.Thread(target=lambda n=n: _offer_all(connection, n)) for n in range(4)]
    for thread in threads:
        thread.start()
    heard = [connection.receive() for _ in range(4 * 500)]
    for thread in threads:
        thread.join()
    for n in range(4):
        own = [m for m in heard if m is not None and m.startswith(b"%d " % n)]
        assert own == [b"%d %d" % (n, i) for i in range(500)], "in the order in which they were sent"
    assert connection.offer(b"end")
    assert connection.receive() is None
    connection.free()


def _offer_all(connection: Connection, speaker: int) -> None:
    for n in range(500):
        while not connection.offer(b"%d %d" % (speaker, n)):
            time.sleep(0.001)


def test_what_the_server_does_not_take_is_not_sent(address: str) -> None:
    """Windows of a stream: an offer is refused whole when there is no room, and never waits."""
    connection = Connection(address, 5)
    connection.begin("/T/Talk", b"first", False)
    assert connection.receive() == b"first"
    assert not connection.offer(bytes(1 << 25))
    assert connection.offer(b"second")
    assert connection.receive() == b"second"
    connection.free()


@pytest.mark.parametrize("during", ["stream", "call"])
def test_closing_wakes_whoever_waits(address: str, during: str) -> None:
    failed: list[RpcError] = []
    closers: list[Callable[[], None]] = []
    began = threading.Event()

    def wait() -> None:
        try:
            if during == "stream":
                connection = Connection(address, 5)
                connection.begin("/T/Talk", b"first", False)
                connection.receive()
                closers.append(connection.close)
                began.set()
                connection.receive()
            else:
                channel = Channel(address)
                closers.append(channel.close)
                began.set()
                channel.call("/T/Sleep", b"0.5", 20)
        except RpcError as error:
            failed.append(error)

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    began.wait(5)
    time.sleep(0.1)
    closers[0]()
    thread.join(5)
    assert failed[0].code == Code.UNAVAILABLE
    if during == "call":
        with pytest.raises(RpcError, match="has been closed"):
            Channel.call(closers[0].__self__, "/T/Echo", b"", 1)  # type: ignore[attr-defined]


@pytest.mark.parametrize("address", ["127.0.0.1:1", "127.0.0.1", "127.0.0.1:x", "no-such-host.invalid:1", ""])
def test_nobody_there(address: str) -> None:
    with pytest.raises(RpcError) as caught:
        Channel(address).call("/T/Echo", b"", 1)
    assert caught.value.code == Code.UNAVAILABLE


# ------------------------------------------------------------------------------------------------- servers of our own


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">IBI", len(payload) << 8 | kind, flags, stream) + payload


def _field(name: bytes, value: bytes) -> bytes:
    return b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value


OK = b"\x88" + _field(b"content-type", b"application/grpc")  # 0x88 is :status 200
DONE = _field(b"grpc-status", b"0")
MESSAGE = b"\0\0\0\0\5hello"


@contextmanager
def saying(answer: bytes, then_close: bool = True) -> Iterator[str]:
    """A server that says this to everybody, once it has heard the first request."""
    listener = socket.create_server(("127.0.0.1", 0))
    held: list[socket.socket] = []

    def run() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            held.append(connection)
            heard = b""
            while b"ask!" not in heard:
                data = connection.recv(65536)
                if not data:
                    break
                heard += data
            with suppress(OSError):  # the client may have gone, and the test with it
                connection.sendall(answer)
                if then_close:
                    connection.shutdown(socket.SHUT_WR)

    threading.Thread(target=run, daemon=True).start()
    try:
        yield f"127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for connection in held:
            connection.close()


def ask(answer: bytes) -> list[bytes]:
    with saying(answer) as address:
        channel = Channel(address)
        try:
            return channel.call("/T/Ask", b"ask!", 2)
        finally:
            channel.close()


def test_a_peculiar_but_valid_answer() -> None:
    """Padding, priorities, headers in pieces, a ping, settings, unknown frames, a message in pieces, a goaway afterwards."""
    answer = _frame(4, 0, 0, struct.pack(">HI", 4, 1000) + struct.pack(">HI", 5, 20000)) + _frame(6, 0, 0, b"12345678")
    answer += _frame(77, 0, 3, b"unknown") + _frame(8, 0, 0, struct.pack(">I", 10))
    answer += _frame(1, 0x28, 1, b"\3" + bytes(5) + OK[:4] + b"\0\0\0") + _frame(9, 0, 1, OK[4:9])
    answer += _frame(9, 4, 1, OK[9:])
    answer += _frame(0, 8, 1, b"\2" + MESSAGE[:7] + b"\0\0") + _frame(0, 0, 1, MESSAGE[7:] + MESSAGE)
    answer += _frame(7, 0, 0, struct.pack(">II", 1, 0) + b"bye") + _frame(1, 5, 1, DONE)
    assert ask(answer) == [b"hello", b"hello"]


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", Code.UNAVAILABLE),
        (b"", Code.UNAVAILABLE),
        (_frame(1, 4, 1, OK) + _frame(0, 0, 1, MESSAGE), Code.UNAVAILABLE),
        (_frame(1, 4, 1, OK) + _frame(0, 1, 1, MESSAGE[:8]), Code.INTERNAL),
        (_frame(1, 4, 1, OK) + _frame(0, 1, 1, MESSAGE), Code.INTERNAL),
        (_frame(1, 4, 1, OK) + _frame(0, 0, 1, MESSAGE[:8]) + _frame(1, 5, 1, DONE), Code.INTERNAL),
        (_frame(1, 4, 1, OK) + _frame(0, 0, 1, b"\1" + MESSAGE[1:]), Code.INTERNAL),
        (_frame(1, 4, 1, OK) + _frame(0, 0, 1, b"\0\xff\xff\xff\xff"), Code.INTERNAL),
        (_frame(1, 5, 1, _field(b"grpc-status", b"6") + _field(b"grpc-status-details-bin", b"A")), Code.INTERNAL),
        (_frame(1, 5, 1, _field(b"grpc-status", b"6")), Code.ALREADY_EXISTS),
        (_frame(1, 5, 1, _field(b"grpc-status", b"six")), Code.UNKNOWN),
        (_frame(1, 4, 1, b"\x8d"), Code.UNKNOWN),  # :status 404
        (_frame(1, 4, 1, b"\xff\xff\xff\xff\xff\xff"), Code.INTERNAL),
        (_frame(9, 4, 1, OK), Code.INTERNAL),
        (_frame(3, 0, 1, struct.pack(">I", 7)), Code.CANCELLED),
        (_frame(7, 0, 0, struct.pack(">II", 0, 11) + b"calm down"), Code.UNAVAILABLE),
        (_frame(7, 0, 0, b""), Code.INTERNAL),
        (_frame(8, 0, 1, b"\0"), Code.INTERNAL),
        (_frame(0, 8, 1, b""), Code.INTERNAL),
    ],
)
def test_bad_answers_are_typed_errors(answer: bytes, code: Code) -> None:
    with pytest.raises(RpcError) as caught:
        ask(answer)
    assert caught.value.code == code


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(st.integers(0, 10), st.integers(0, 255), st.integers(0, 3), st.binary(max_size=40))))
def test_no_answer_does_anything_but_answer_or_fail(frames: list[tuple[int, int, int, bytes]]) -> None:
    try:
        assert isinstance(ask(b"".join(_frame(*f) for f in frames)), list)
    except RpcError as error:
        assert error.code != Code.OK


def test_a_server_that_takes_nothing_does_not_stop_a_call_for_ever() -> None:
    with saying(b"", then_close=False) as address:
        channel = Channel(address)
        with pytest.raises(RpcError) as caught:
            channel.call("/T/Ask", b"ask!" + bytes(1 << 20), 0.3)
        assert caught.value.code == Code.DEADLINE_EXCEEDED
        channel.close()
