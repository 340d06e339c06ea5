"""Calls and streams against gRPC's own server, and against sockets that do as they like."""

from __future__ import annotations

import queue
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from dataclasses import dataclass, field
from typing import Any

import grpc
import hpack
import pytest

from controller.rpc.channel import Channel, Stream, endpoint
from controller.rpc.frames import END_HEADERS, END_STREAM, Frame, frame
from controller.rpc.messages import Code, RpcError, packed

PATIENCE = 60.0  # seconds; nothing here takes that long


class Handlers(grpc.GenericRpcHandler):
    """Methods on octets."""

    def __init__(self) -> None:
        self.arrived, self.go_on = threading.Event(), threading.Event()

    def service(self, details: Any) -> Any:
        methods = {
            "/t/echo": grpc.unary_unary_rpc_method_handler(lambda request, _: request),
            "/t/refuse": grpc.unary_unary_rpc_method_handler(self.refuse),
            "/t/wait": grpc.unary_unary_rpc_method_handler(self.wait),
            "/t/many": grpc.unary_stream_rpc_method_handler(self.many),
            "/t/talk": grpc.stream_stream_rpc_method_handler(self.talk),
        }
        return methods.get(details.method)

    def refuse(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        context.set_trailing_metadata((("grpc-status-details-bin", b"\0\xffdetails"),))
        context.abort(grpc.StatusCode.PERMISSION_DENIED, "nö: 100%\n" + request.decode())
        raise AssertionError

    def wait(self, request: bytes, _context: grpc.ServicerContext) -> bytes:
        self.arrived.set()
        self.go_on.wait(PATIENCE)
        return request

    def many(self, request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        for n in range(int(request)):
            yield bytes(n)
        if request.endswith(b"0"):
            context.abort(grpc.StatusCode.OUT_OF_RANGE, "after some")

    def talk(self, requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        for request in requests:
            if request == b"end":
                return
            if request == b"fail":
                context.abort(grpc.StatusCode.ABORTED, "as you wish")
            yield request


@dataclass
class Server:
    address: str
    handlers: Handlers
    stop: Callable[[], None]


@pytest.fixture
def server() -> Iterator[Server]:
    pool, handlers = futures.ThreadPoolExecutor(8), Handlers()
    limits = [("grpc.max_receive_message_length", 64 << 20), ("grpc.max_send_message_length", -1)]
    made = grpc.server(pool, options=limits)
    made.add_generic_rpc_handlers((handlers,))
    port = made.add_insecure_port("127.0.0.1:0")
    made.start()
    yield Server(f"127.0.0.1:{port}", handlers, lambda: made.stop(0).wait())
    handlers.go_on.set()
    made.stop(0).wait()


@pytest.fixture
def channel(server: Server) -> Iterator[Channel]:
    made = Channel(server.address)
    yield made
    made.close()


def refused(call: Callable[[], object]) -> RpcError:
    with pytest.raises(RpcError) as caught:
        call()
    return caught.value


# -------------------------------------------------------------------------------------------------------------------- calls


@pytest.mark.parametrize("size", [0, 1, 16379, 16380, 65535, 70_000, 20 << 20])
def test_large_and_small_messages(channel: Channel, size: int) -> None:
    request = bytes(range(256)) * (size // 256) + bytes(size % 256)
    for _ in range(2):
        assert channel.call("/t/echo", request, PATIENCE) == [request]


def test_many_answers(channel: Channel) -> None:
    assert channel.call("/t/many", b"3", PATIENCE) == [b"", b"\0", b"\0\0"]
    assert channel.call("/t/many", b"999", PATIENCE) == [bytes(n) for n in range(999)]
    error = refused(lambda: channel.call("/t/many", b"10", PATIENCE))
    assert (error.code, str(error)) == (Code.OUT_OF_RANGE, "after some")


def test_refusals(channel: Channel) -> None:
    for _ in range(3):
        error = refused(lambda: channel.call("/t/refuse", b"me", PATIENCE))
        assert (error.code, str(error), error.details) == (Code.PERMISSION_DENIED, "nö: 100%\nme", b"\0\xffdetails")
        assert refused(lambda: channel.call("/t/none", b"", PATIENCE)).code is Code.UNIMPLEMENTED
    too_large = refused(lambda: channel.call("/t/echo", bytes(65 << 20), PATIENCE))
    assert too_large.code is Code.RESOURCE_EXHAUSTED
    assert channel.call("/t/echo", b"good", PATIENCE) == [b"good"]


def test_an_answer_that_is_late_is_not_waited_for_and_others_do_not_wait(channel: Channel, server: Server) -> None:
    waiting = futures.ThreadPoolExecutor(1).submit(channel.call, "/t/wait", b"x", PATIENCE)
    assert server.handlers.arrived.wait(PATIENCE)
    assert refused(lambda: channel.call("/t/wait", b"", 0.2)).code is Code.DEADLINE_EXCEEDED
    assert channel.call("/t/echo", b"meanwhile", PATIENCE) == [b"meanwhile"]
    server.handlers.go_on.set()
    assert waiting.result(PATIENCE) == [b"x"]


def test_closing_ends_calls_under_way(channel: Channel, server: Server) -> None:
    waiting = futures.ThreadPoolExecutor(1).submit(channel.call, "/t/wait", b"x", PATIENCE)
    assert server.handlers.arrived.wait(PATIENCE)
    channel.close()
    assert refused(lambda: waiting.result(PATIENCE)).code is Code.UNAVAILABLE
    assert refused(lambda: channel.call("/t/echo", b"", PATIENCE)).code is Code.CANCELLED


def test_a_server_that_goes_away(channel: Channel, server: Server) -> None:
    assert channel.call("/t/echo", b"x", PATIENCE) == [b"x"]
    waiting = futures.ThreadPoolExecutor(1).submit(channel.call, "/t/wait", b"x", PATIENCE)
    assert server.handlers.arrived.wait(PATIENCE)
    stopping = threading.Thread(target=server.stop)
    stopping.start()
    assert refused(lambda: waiting.result(PATIENCE)).code in (Code.UNAVAILABLE, Code.CANCELLED)
    server.handlers.go_on.set()
    stopping.join(PATIENCE)
    error = refused(lambda: channel.call("/t/echo", b"", PATIENCE))
    assert error.code is Code.UNAVAILABLE
    assert "cannot connect" in str(error)


def test_many_threads(channel: Channel) -> None:
    def calls(number: int) -> None:
        for size in range(0, 100_000, 5_001):
            request = bytes([number]) * size
            assert channel.call("/t/echo", request, PATIENCE) == [request]

    with futures.ThreadPoolExecutor(4) as pool:
        list(pool.map(calls, range(8)))


def test_endpoints() -> None:
    assert endpoint("127.0.0.1:9559") == ("127.0.0.1", 9559)
    assert endpoint("[::1]:1") == ("::1", 1)
    for wrong in ("", "host", "host:", ":1", "host:0", "host:65536", "host:x", "unix:/run/x", "host:²"):
        with pytest.raises(ValueError, match="expected HOST:PORT"):
            endpoint(wrong)


# ------------------------------------------------------------------------------------------------------------------ streams


@dataclass
class Talk:
    address: str
    heard: queue.SimpleQueue[bytes] = field(default_factory=queue.SimpleQueue)
    ended: queue.SimpleQueue[RpcError | None] = field(default_factory=queue.SimpleQueue)

    def __post_init__(self) -> None:
        self.stream = Stream(self.address, "/t/talk", self.heard.put, self.ended.put)

    def open(self, timeout: float = PATIENCE) -> Stream:
        self.stream.open(b"first", time.monotonic() + timeout)
        return self.stream

    def why(self) -> RpcError:
        error = self.ended.get(timeout=PATIENCE)
        assert error is not None
        return error


@pytest.fixture
def talk(server: Server) -> Iterator[Talk]:
    made = Talk(server.address)
    yield made
    made.stream.close()


def test_a_stream(talk: Talk) -> None:
    stream = talk.open()
    assert talk.heard.get(timeout=PATIENCE) == b"first"
    sent = [bytes([n % 256]) * (n * n) for n in range(0, 800, 13)]
    sender = threading.Thread(target=lambda: [stream.send(m) for m in sent])
    sender.start()
    assert [talk.heard.get(timeout=PATIENCE) for _ in sent] == sent
    sender.join()
    stream.send(b"end")
    assert talk.ended.get(timeout=PATIENCE) is None
    stream.send(b"lost")
    stream.close()
    assert talk.heard.empty()


def test_a_stream_that_fails(talk: Talk) -> None:
    talk.open().send(b"fail")
    error = talk.why()
    assert (error.code, str(error)) == (Code.ABORTED, "as you wish")


def test_a_stream_that_is_closed(talk: Talk) -> None:
    talk.open()
    talk.stream.close()
    assert talk.why().code is Code.CANCELLED
    talk.stream.send(b"lost")
    talk.stream.close()


def test_a_stream_whose_server_goes_away(talk: Talk, server: Server) -> None:
    talk.open()
    assert talk.heard.get(timeout=PATIENCE) == b"first"
    server.stop()
    assert talk.why().code in (Code.UNAVAILABLE, Code.CANCELLED)
    error = refused(lambda: Talk(server.address).open(0.15))
    assert error.code in (Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_message_that_cannot_be_dealt_with_ends_the_stream(talk: Talk) -> None:
    def fail(_message: bytes) -> None:
        raise ValueError("of the test")

    talk.stream = Stream(talk.address, "/t/talk", fail, talk.ended.put)
    talk.open()
    assert talk.why().code is Code.INTERNAL


# ------------------------------------------------------------------------------------------------------------ other servers

SETTINGS = frame(Frame.SETTINGS, 0, 0, b"")
STALLED = frame(Frame.SETTINGS, 0, 0, b"\0\4\0\0\0\0")  # no room for any data
HEAD = hpack.Encoder().encode([(":status", "200", True), ("content-type", "application/grpc", True)])
TAIL = hpack.Encoder().encode([("grpc-status", "0", True)])


def answer(stream: int, message: bytes) -> bytes:
    octets = frame(Frame.HEADERS, END_HEADERS, stream, HEAD) + frame(Frame.DATA, 0, stream, packed(message))
    return octets + frame(Frame.HEADERS, END_HEADERS | END_STREAM, stream, TAIL)


@dataclass
class Script:
    """A server that says fixed octets on each connection, each piece after it has heard something, and then closes it."""

    connections: list[list[bytes]]
    stays: bool = False

    def __enter__(self) -> Script:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self.listener.getsockname()[1]}"
        self.over = threading.Event()
        self.closed: queue.SimpleQueue[None] = queue.SimpleQueue()
        self.thread = threading.Thread(target=self.run)
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.listener.shutdown(socket.SHUT_RDWR)
        self.thread.join(PATIENCE)
        self.listener.close()

    def run(self) -> None:
        try:
            for pieces in self.connections:
                connection, _ = self.listener.accept()
                with connection:
                    for piece in pieces:
                        connection.recv(1 << 16)
                        connection.sendall(piece)
                    if self.stays:
                        self.over.wait(PATIENCE)
                self.closed.put(None)
        except OSError:
            assert self.over.is_set()


def test_an_idle_connection_that_has_ended_is_replaced() -> None:
    with Script([[SETTINGS + answer(1, b"a")], [SETTINGS + answer(1, b"b")]]) as script:
        channel = Channel(script.address)
        assert channel.call("/x", b"", PATIENCE) == [b"a"]
        script.closed.get(timeout=PATIENCE)
        assert channel.call("/x", b"", PATIENCE) == [b"b"]
        channel.close()


@pytest.mark.parametrize(
    "refusal",
    [frame(Frame.RST_STREAM, 0, 1, b"\0\0\0\7"), frame(Frame.GOAWAY, 0, 0, bytes(8) + b"too old")],
    ids=["reset", "goaway"],
)
def test_a_call_that_the_server_has_not_begun_with_is_made_again_once(refusal: bytes) -> None:
    with Script([[SETTINGS + refusal], [SETTINGS + answer(1, b"b")]]) as script:
        channel = Channel(script.address)
        assert channel.call("/x", b"", PATIENCE) == [b"b"]
        channel.close()
    with Script([[SETTINGS + refusal], [SETTINGS + refusal]]) as script:
        assert refused(lambda: Channel(script.address).call("/x", b"", PATIENCE)).code is Code.UNAVAILABLE


@pytest.mark.parametrize(
    ("octets", "code", "text"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", Code.INTERNAL, "does not keep to HTTP/2"),
        (SETTINGS + frame(Frame.PING, 0, 0, b""), Code.INTERNAL, "PING of 0"),
        (SETTINGS, Code.UNAVAILABLE, "the connection has ended"),
        (SETTINGS + answer(1, b"whole")[:-9], Code.UNAVAILABLE, "the connection has ended"),
        (
            SETTINGS + frame(Frame.GOAWAY, 0, 0, b"\0\0\0\1\0\0\0\x0b" + b"calm"),
            Code.UNAVAILABLE,
            "the connection has ended: calm",
        ),
    ],
)
def test_what_breaks_off(octets: bytes, code: Code, text: str) -> None:
    with Script([[octets]]) as script:
        error = refused(lambda: Channel(script.address).call("/x", b"", PATIENCE))
        assert error.code is code
        assert text in str(error)


def test_an_answer_counts_though_the_server_is_gone_before_it_could_be_acknowledged() -> None:
    with Script([[SETTINGS + frame(Frame.PING, 0, 0, bytes(8)) + answer(1, b"last words")]]) as script:
        assert Channel(script.address).call("/x", b"", PATIENCE) == [b"last words"]


@pytest.mark.parametrize("first", [b"", SETTINGS, STALLED], ids=["silent", "greeted", "stalled"])
def test_a_server_that_hangs(first: bytes) -> None:
    with Script([[first]], stays=True) as script:
        assert refused(lambda: Channel(script.address).call("/x", bytes(1 << 20), 0.2)).code is Code.DEADLINE_EXCEEDED


@pytest.mark.parametrize("octets", [b"", b"SSH-2.0-x\r\n", SETTINGS + frame(Frame.GOAWAY, 0, 0, bytes(8))])
def test_a_stream_with_what_is_no_server(octets: bytes) -> None:
    with Script([[octets]] * 99) as script:
        talk = Talk(script.address)
        assert refused(lambda: talk.open(0.3)).code in (Code.UNAVAILABLE, Code.INTERNAL, Code.DEADLINE_EXCEEDED)
        talk.stream.close()
        assert talk.ended.empty()


def test_a_stream_waits_for_its_server() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        talk = Talk(f"127.0.0.1:{listener.getsockname()[1]}")
        opening = futures.ThreadPoolExecutor(1).submit(talk.open)
        time.sleep(0.15)  # it has tried, if there was time for that
        listener.listen()
        for octets in (b"", SETTINGS):  # the first one ends before it has said anything
            connection, _ = listener.accept()
            connection.recv(1 << 16)
            connection.sendall(octets)
            if not octets:
                connection.close()
        opening.result(PATIENCE)
        talk.stream.close()
        assert talk.why().code is Code.CANCELLED
        connection.close()


def test_a_stream_whose_server_makes_no_room_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("controller.rpc.channel.BACKLOG", 100_000)
    with Script([[STALLED]], stays=True) as script:
        talk = Talk(script.address)
        stream = talk.open()
        for _ in range(11):
            stream.send(bytes(10_000))
        assert talk.why().code is Code.DEADLINE_EXCEEDED


def test_a_stream_whose_server_reads_nothing_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("controller.rpc.channel.SEND_TIMEOUT", 1)
    roomy = frame(Frame.SETTINGS, 0, 0, b"\0\4\x7f\xff\xff\xff") + frame(Frame.WINDOW_UPDATE, 0, 0, b"\x7f\0\0\0")
    with Script([[roomy]], stays=True) as script:
        talk = Talk(script.address)
        stream = talk.open()
        for _ in range(40):
            stream.send(bytes(1 << 20))
        assert talk.why().code is Code.DEADLINE_EXCEEDED
