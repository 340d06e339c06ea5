"""The gRPC service: calls and streams onto a :class:`Device`."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Any, TypeVar

import grpc
from finsy.proto import p4r, p4r_grpc, rpc_status
from google.protobuf import any_pb2

from p4switch.server.arbitration import Notice
from p4switch.server.device import Device
from p4switch.server.errors import Code, P4RuntimeError

log = logging.getLogger(__name__)
API_VERSION = "1.3.0"
STREAMS = 64  # controllers at once
READ_BATCH = 500  # entities a response
MAX_MESSAGE = 256 << 20
MAX_METADATA = 4800  # bytes of status details: base64 and the other metadata must stay below gRPC's 8 KiB
MAX_DETAILS = 500  # updates
_CODES = {code.value[0]: code for code in grpc.StatusCode}
T = TypeVar("T")


class Stream:
    """One controller's StreamChannel."""

    def __init__(self) -> None:
        self.outgoing: queue.SimpleQueue[p4r.StreamMessageResponse | P4RuntimeError | None] = queue.SimpleQueue()


class P4RuntimeService(p4r_grpc.P4RuntimeServicer):
    """p4.v1.P4Runtime for one device."""

    def __init__(self, device: Device):
        self.device = device
        self._lock = threading.Lock()
        device.to_primary = self._to_primary

    # ---------------------------------------------------------------------------------------------------------- helpers

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

    def _check_device(self, number: int) -> None:
        if number != self.device.number:
            raise P4RuntimeError(Code.NOT_FOUND, f"no device {number} here; this is device {self.device.number}")

    def _check_primary(self, request: Any) -> None:
        self._check_device(request.device_id)
        if request.role or getattr(request, "role_id", 0):
            raise P4RuntimeError(Code.UNIMPLEMENTED, f"roles: only the default role exists, not {request.role!r}")
        with self._lock:
            self.device.arbitration.check_write(request.election_id.high << 64 | request.election_id.low)

    # ------------------------------------------------------------------------------------------------------------ calls

    def Capabilities(
        self, _request: p4r.CapabilitiesRequest, _context: grpc.ServicerContext
    ) -> p4r.CapabilitiesResponse:
        """The API's version."""
        return p4r.CapabilitiesResponse(p4runtime_api_version=API_VERSION)

    def SetForwardingPipelineConfig(
        self, request: p4r.SetForwardingPipelineConfigRequest, context: grpc.ServicerContext
    ) -> p4r.SetForwardingPipelineConfigResponse:
        """Install a program."""

        def call() -> p4r.SetForwardingPipelineConfigResponse:
            self._check_primary(request)
            self.device.set_pipeline(request.action, request.config)
            return p4r.SetForwardingPipelineConfigResponse()

        return self._guard(context, call)

    def GetForwardingPipelineConfig(
        self, request: p4r.GetForwardingPipelineConfigRequest, context: grpc.ServicerContext
    ) -> p4r.GetForwardingPipelineConfigResponse:
        """The running program."""

        def call() -> p4r.GetForwardingPipelineConfigResponse:
            self._check_device(request.device_id)
            pipeline = self.device.pipeline
            if pipeline is None:
                raise P4RuntimeError(Code.FAILED_PRECONDITION, "No forwarding pipeline config set for this device")
            response = p4r.GetForwardingPipelineConfigResponse()
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

        def call() -> list[P4RuntimeError | None]:
            self._check_primary(request)
            return self.device.write(request.updates, request.atomicity)

        results = self._guard(context, call)
        if any(results):
            _abort_write(context, results)
        return p4r.WriteResponse()

    def Read(self, request: p4r.ReadRequest, context: grpc.ServicerContext) -> Iterator[p4r.ReadResponse]:
        """Read tables and other entities."""

        def call() -> list[p4r.Entity]:
            self._check_device(request.device_id)
            return list(self.device.read(request.entities))

        entities = self._guard(context, call)
        for start in range(0, len(entities), READ_BATCH):
            yield p4r.ReadResponse(entities=entities[start : start + READ_BATCH])

    # ----------------------------------------------------------------------------------------------------------- stream

    def StreamChannel(
        self, requests: Iterator[p4r.StreamMessageRequest], context: grpc.ServicerContext
    ) -> Iterator[p4r.StreamMessageResponse]:
        """Arbitration, packets, digests."""
        stream = Stream()
        context.add_callback(lambda: stream.outgoing.put(None))
        threading.Thread(target=self._read_stream, args=(stream, requests), name="stream", daemon=True).start()
        try:
            while (message := stream.outgoing.get()) is not None:
                if isinstance(message, P4RuntimeError):
                    context.abort(_CODES[message.code], str(message))
                else:
                    yield message
        finally:
            with self._lock:
                self._send_notices(self.device.arbitration.leave(stream))

    def _read_stream(self, stream: Stream, requests: Iterator[p4r.StreamMessageRequest]) -> None:
        try:
            for request in requests:
                self._stream_request(stream, request)
        except P4RuntimeError as error:
            stream.outgoing.put(error)
        except grpc.RpcError:
            pass
        except Exception as error:
            log.exception("a stream failed")
            stream.outgoing.put(P4RuntimeError(Code.INTERNAL, f"fault of the server: {type(error).__name__}: {error}"))
        finally:
            stream.outgoing.put(None)

    def _stream_request(self, stream: Stream, request: p4r.StreamMessageRequest) -> None:
        kind = request.WhichOneof("update")
        if kind == "arbitration":
            self._arbitrate(stream, request.arbitration)
        elif kind == "packet":
            self._stream_packet(stream, request)
        elif kind == "digest_ack":
            self.device.digests.acknowledge(request.digest_ack)
        else:
            error = p4r.StreamError(
                canonical_code=Code.UNIMPLEMENTED, message=f"stream message {kind or 'without content'}"
            )
            stream.outgoing.put(p4r.StreamMessageResponse(error=error))

    def _arbitrate(self, stream: Stream, update: p4r.MasterArbitrationUpdate) -> None:
        self._check_device(update.device_id)
        if update.role.name or update.role.id:
            raise P4RuntimeError(Code.UNIMPLEMENTED, f"roles: only the default role exists, not {update.role.name!r}")
        with self._lock:
            number = update.election_id.high << 64 | update.election_id.low
            self._send_notices(self.device.arbitration.update(stream, number))

    def _send_notices(self, notices: list[Notice]) -> None:
        for notice in notices:
            message = p4r.MasterArbitrationUpdate(device_id=self.device.number)
            message.election_id.high, message.election_id.low = (
                notice.election_id >> 64,
                notice.election_id & ((1 << 64) - 1),
            )
            message.status.code = Code.OK if notice.is_primary else Code.ALREADY_EXISTS
            message.status.message = "Is primary" if notice.is_primary else "Is backup"
            assert isinstance(notice.stream, Stream)
            notice.stream.outgoing.put(p4r.StreamMessageResponse(arbitration=message))

    def _stream_packet(self, stream: Stream, request: p4r.StreamMessageRequest) -> None:
        try:
            with self._lock:
                if self.device.arbitration.primary is not stream:
                    raise P4RuntimeError(Code.PERMISSION_DENIED, "Not primary: only the primary sends packets")
            self.device.packet_out(request.packet)
        except P4RuntimeError as error:
            answer = p4r.StreamError(canonical_code=error.code, message=str(error))
            answer.packet_out.packet_out.CopyFrom(request.packet)
            stream.outgoing.put(p4r.StreamMessageResponse(error=answer))

    def _to_primary(self, message: p4r.StreamMessageResponse) -> None:
        with self._lock:
            primary = self.device.arbitration.primary
        if isinstance(primary, Stream):
            primary.outgoing.put(message)


def _details(results: list[P4RuntimeError | None], texts: bool) -> bytes:
    """google.rpc.Status with one p4.v1.Error for each update, in order (specification, section 12.3)."""
    status = rpc_status.Status(code=Code.UNKNOWN, message="Write failed: see the details of each update")
    for result in results:
        error = p4r.Error(canonical_code=Code.OK if result is None else result.code, space="p4switch")
        error.message = str(result) if result is not None and texts else ""
        detail = any_pb2.Any()
        detail.Pack(error)
        status.details.append(detail)
    return bytes(status.SerializeToString())


def _abort_write(context: grpc.ServicerContext, results: list[P4RuntimeError | None]) -> None:
    """UNKNOWN with the outcome of every update. Clients refuse metadata of more than 8 KiB, so the outcomes of a large
    batch go without texts, and those of a very large one not at all; then the status itself says which failed."""
    failed = [(position, r) for position, r in enumerate(results) if r is not None]
    text = f"{len(failed)} of {len(results)} updates failed; the first, number {failed[0][0]}: {failed[0][1]}"
    for texts in (True, False):
        details = _details(results, texts) if len(results) <= MAX_DETAILS else b""
        if 0 < len(details) <= MAX_METADATA:
            context.set_trailing_metadata((("grpc-status-details-bin", details),))
            context.abort(grpc.StatusCode.UNKNOWN, text)
    numbers = ", ".join(str(position) for position, _ in failed[:100]) + (", ..." if len(failed) > 100 else "")
    context.abort(grpc.StatusCode.UNKNOWN, f"{text}; failed: {numbers}; the details of so many do not fit a status")


def serve(device: Device, address: str) -> tuple[grpc.Server, int]:
    """Start a server; returns it and its port. Raises OSError when the address cannot be used."""
    server = grpc.server(
        futures.ThreadPoolExecutor(max_workers=STREAMS + 8, thread_name_prefix="grpc"),
        options=[
            ("grpc.max_receive_message_length", MAX_MESSAGE),
            ("grpc.max_send_message_length", MAX_MESSAGE),
            ("grpc.so_reuseport", 0),
        ],
    )
    p4r_grpc.add_P4RuntimeServicer_to_server(P4RuntimeService(device), server)
    try:
        port = server.add_insecure_port(address)
    except RuntimeError as error:
        raise OSError(f"cannot listen on {address}: {error}") from None
    server.start()
    return server, port
