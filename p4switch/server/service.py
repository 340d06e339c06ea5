"""The gRPC service: calls and streams onto a :class:`Device`."""

from __future__ import annotations

import logging
import queue
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from typing import TypeVar

import grpc
from finsy.proto import p4r, p4r_grpc, rpc_status
from google.protobuf import any_pb2

from p4switch.server.arbitration import Notice
from p4switch.server.arbitration import Stream as StreamKey
from p4switch.server.device import Device
from p4switch.server.errors import Code, P4RuntimeError, exhausted, unimplemented

log = logging.getLogger(__name__)
API_VERSION = "1.5.0"  # of the messages that are served
STREAMS = 256  # at once, of all roles
CALLS = 32  # at once
BACKLOG = 4096  # messages that wait for a slow controller
READ_BATCH = 500  # entities a response
MAX_MESSAGE = 256 << 20
MAX_METADATA = 4800  # bytes of status details: base64 and the other metadata must stay below gRPC's 8 KiB
MAX_DETAILS = 500  # updates
_CODES = {code.value[0]: code for code in grpc.StatusCode}
_DROPPABLE = ("packet", "digest", "idle_timeout_notification", "error")
T = TypeVar("T")


class Stream:
    """One controller's StreamChannel."""

    def __init__(self) -> None:
        self.outgoing: queue.SimpleQueue[p4r.StreamMessageResponse | P4RuntimeError | None] = queue.SimpleQueue()
        self.dropped = 0

    def put(self, message: p4r.StreamMessageResponse) -> None:
        """Queue a message. A controller that does not read loses notifications; when it misses an election it is cut off."""
        if self.outgoing.qsize() < BACKLOG:
            self.outgoing.put(message)
        elif message.WhichOneof("update") in _DROPPABLE:
            self.dropped += 1
        else:
            self.end(exhausted(f"{BACKLOG} messages wait to be read on this stream"))

    def end(self, error: P4RuntimeError | None = None) -> None:
        """Close it, with an error or without."""
        self.outgoing.put(error)


class P4RuntimeService(p4r_grpc.P4RuntimeServicer):
    """p4.v1.P4Runtime for one device."""

    def __init__(self, device: Device):
        self.device = device
        self._lock = threading.Lock()
        self._streams: set[Stream] = set()
        device.send = _send

    def _guard(self, context: grpc.ServicerContext, call: Callable[[], T]) -> T:
        """Typed errors become gRPC statuses; anything else is a fault of the server, logged, and told as INTERNAL."""
        try:
            return call()
        except P4RuntimeError as error:
            context.abort(_CODES[error.code], str(error))
        except Exception as error:
            log.exception("a call failed")
            context.abort(grpc.StatusCode.INTERNAL, f"fault of the server: {type(error).__name__}: {error}")
        raise AssertionError("abort raises")

    # ------------------------------------------------------------------------------------------------------------ calls

    def Capabilities(self, request: p4r.CapabilitiesRequest, context: grpc.ServicerContext) -> p4r.CapabilitiesResponse:
        """The API's version."""

        def call() -> p4r.CapabilitiesResponse:
            if request.device_id:
                self.device.check_number(request.device_id)
            return p4r.CapabilitiesResponse(p4runtime_api_version=API_VERSION)

        return self._guard(context, call)

    def SetForwardingPipelineConfig(
        self, request: p4r.SetForwardingPipelineConfigRequest, context: grpc.ServicerContext
    ) -> p4r.SetForwardingPipelineConfigResponse:
        """Install a program."""

        def call() -> p4r.SetForwardingPipelineConfigResponse:
            self.device.set_pipeline(request)
            return p4r.SetForwardingPipelineConfigResponse()

        return self._guard(context, call)

    def GetForwardingPipelineConfig(
        self, request: p4r.GetForwardingPipelineConfigRequest, context: grpc.ServicerContext
    ) -> p4r.GetForwardingPipelineConfigResponse:
        """The running program."""

        def call() -> p4r.GetForwardingPipelineConfigResponse:
            self.device.check_number(request.device_id)
            pipeline = self.device.pipeline
            if pipeline is None:
                raise P4RuntimeError(Code.FAILED_PRECONDITION, "No forwarding pipeline config set for this device")
            response = p4r.GetForwardingPipelineConfigResponse()
            response.config.SetInParent()
            if pipeline.cookie is not None:
                response.config.cookie.SetInParent()
                response.config.cookie.cookie = pipeline.cookie
            kinds = p4r.GetForwardingPipelineConfigRequest
            if request.response_type in (kinds.ALL, kinds.P4INFO_AND_COOKIE):
                response.config.p4info.CopyFrom(pipeline.info)
            if request.response_type in (kinds.ALL, kinds.DEVICE_CONFIG_AND_COOKIE):
                response.config.p4_device_config = pipeline.device_config
            return response

        return self._guard(context, call)

    def Write(self, request: p4r.WriteRequest, context: grpc.ServicerContext) -> p4r.WriteResponse:
        """Change tables and other entities."""
        results = self._guard(context, lambda: self.device.write(request))
        if any(results):
            _abort(context, results, "update")
        return p4r.WriteResponse()

    def Read(self, request: p4r.ReadRequest, context: grpc.ServicerContext) -> Iterator[p4r.ReadResponse]:
        """Read tables and other entities."""
        entities, results = self._guard(context, lambda: self.device.read(request))
        for start in range(0, len(entities), READ_BATCH):
            yield p4r.ReadResponse(entities=entities[start : start + READ_BATCH])
        if any(results):
            _abort(context, results, "request")

    # ----------------------------------------------------------------------------------------------------------- stream

    def StreamChannel(
        self, requests: Iterator[p4r.StreamMessageRequest], context: grpc.ServicerContext
    ) -> Iterator[p4r.StreamMessageResponse]:
        """Arbitration, packets, digests."""
        stream = Stream()
        with self._lock:
            full = len(self._streams) >= STREAMS
            if not full:
                self._streams.add(stream)
        if full:
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, f"there are {STREAMS} streams already")
        context.add_callback(stream.end)
        threading.Thread(target=self._read_stream, args=(stream, requests), name="stream", daemon=True).start()
        try:
            while (message := stream.outgoing.get()) is not None:
                if isinstance(message, P4RuntimeError):
                    context.abort(_CODES[message.code], str(message))
                else:
                    yield message
        finally:
            with self._lock:
                self._streams.discard(stream)
            self._tell(self.device.leave(stream))
            if stream.dropped:
                log.warning("a controller read too slowly: %d messages were not sent", stream.dropped)

    def _read_stream(self, stream: Stream, requests: Iterator[p4r.StreamMessageRequest]) -> None:
        error: P4RuntimeError | None = None
        try:
            for request in requests:
                self._stream_request(stream, request)
        except P4RuntimeError as refusal:
            error = refusal
        except grpc.RpcError:
            pass
        except Exception as fault:
            log.exception("a stream failed")
            error = P4RuntimeError(Code.INTERNAL, f"fault of the server: {type(fault).__name__}: {fault}")
        finally:
            stream.end(error)

    def _stream_request(self, stream: Stream, request: p4r.StreamMessageRequest) -> None:
        kind = request.WhichOneof("update")
        if kind == "arbitration":
            self._tell(self.device.arbitrate(stream, request.arbitration))
            return
        try:
            if kind == "packet":
                self.device.packet_out(stream, request.packet)
            elif kind == "digest_ack":
                self.device.digest_ack(stream, request.digest_ack)
            else:
                raise unimplemented(f"stream message {kind or 'without content'}")
        except P4RuntimeError as error:
            answer = p4r.StreamError(canonical_code=error.code, message=str(error))
            if kind == "packet":
                answer.packet_out.packet_out.CopyFrom(request.packet)
            elif kind == "digest_ack":
                answer.digest_list_ack.digest_list_ack.CopyFrom(request.digest_ack)
            else:
                answer.other.SetInParent()
            stream.put(p4r.StreamMessageResponse(error=answer))

    def _tell(self, notices: Sequence[Notice]) -> None:
        for notice in notices:
            message = p4r.MasterArbitrationUpdate(device_id=self.device.number)
            if notice.election_id is not None:
                message.election_id.SetInParent()
                message.election_id.high = notice.election_id >> 64
                message.election_id.low = notice.election_id & ((1 << 64) - 1)
            role = notice.role
            if role.name or role.number:
                message.role.name, message.role.id = role.name, role.number
                if role.config_message is not None:
                    message.role.config.CopyFrom(role.config_message)
            message.status.code = notice.code
            message.status.message = _STANDING[notice.code]
            _send(notice.stream, p4r.StreamMessageResponse(arbitration=message))


_STANDING = {Code.OK: "Is primary", Code.ALREADY_EXISTS: "Is backup", Code.NOT_FOUND: "There is no primary"}


def _send(stream: StreamKey, message: p4r.StreamMessageResponse) -> None:
    assert isinstance(stream, Stream)
    stream.put(message)


# -------------------------------------------------------------------------------------------------------------- errors


def _details(results: Sequence[P4RuntimeError | None], text: str, texts: bool) -> bytes:
    """google.rpc.Status with one p4.v1.Error for each update, in order (specification, "Error Reporting")."""
    status = rpc_status.Status(code=Code.UNKNOWN, message=text)
    for result in results:
        error = p4r.Error()
        if result is not None:
            error.canonical_code, error.space = result.code, "p4switch"
            error.message = str(result) if texts else ""
        detail = any_pb2.Any()
        detail.Pack(error)
        status.details.append(detail)
    return bytes(status.SerializeToString())


def _abort(context: grpc.ServicerContext, results: Sequence[P4RuntimeError | None], what: str) -> None:
    """UNKNOWN with the outcome of every update. Clients refuse metadata of more than 8 KiB, so the outcomes of a large
    batch go without texts, and those of a very large one not at all; then the status itself says which failed."""
    failed = [(position, r) for position, r in enumerate(results) if r is not None]
    text = f"{len(failed)} of {len(results)} {what}s failed; the first, number {failed[0][0]}: {failed[0][1]}"
    for texts in (True, False):
        details = _details(results, text, texts) if len(results) <= MAX_DETAILS else b""
        if 0 < len(details) <= MAX_METADATA:
            context.set_trailing_metadata((("grpc-status-details-bin", details),))
            context.abort(grpc.StatusCode.UNKNOWN, text)
    numbers = ", ".join(str(position) for position, _ in failed[:100]) + (", ..." if len(failed) > 100 else "")
    context.abort(grpc.StatusCode.UNKNOWN, f"{text}; failed: {numbers}; the details of so many do not fit a status")


def _check_address(address: str) -> None:
    """Raise OSError when nobody can listen on HOST:PORT: gRPC does not say why, and writes to standard error."""
    host, _, port = address.rpartition(":")
    failure: OSError | None = None
    for family, kind, protocol, _, where in socket.getaddrinfo(
        host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    ):
        try:
            with socket.socket(family, kind, protocol) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(where)
                probe.listen()
                return
        except OSError as error:
            failure = failure or error
    if failure is not None:
        raise failure


def serve(device: Device, address: str, credentials: grpc.ServerCredentials | None = None) -> tuple[grpc.Server, int]:
    """Start a server, with TLS if there are credentials; returns it and its port. OSError when the address cannot be used."""
    server = grpc.server(
        futures.ThreadPoolExecutor(max_workers=STREAMS + CALLS, thread_name_prefix="grpc"),
        options=[
            ("grpc.max_receive_message_length", MAX_MESSAGE),
            ("grpc.max_send_message_length", MAX_MESSAGE),
            ("grpc.so_reuseport", 0),
        ],
    )
    p4r_grpc.add_P4RuntimeServicer_to_server(P4RuntimeService(device), server)
    try:
        if not address.startswith("unix:"):
            _check_address(address)
        port = server.add_secure_port(address, credentials) if credentials else server.add_insecure_port(address)
    except OSError as error:
        raise OSError(f"cannot listen on {address}: {error.strerror or error}") from None
    except RuntimeError as error:
        raise OSError(f"cannot listen on {address}: {error}") from None
    server.start()
    return server, port
