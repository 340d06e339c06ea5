"""A P4Runtime client: arbitration, pipeline, writes in order, reads, packets.

It relies on nothing that one target alone offers: the order of updates within a Write is the order in which they take effect.
"""

from __future__ import annotations

import hashlib
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import grpc
from finsy.proto import p4i, p4r, p4r_grpc, rpc_status
from google.protobuf import text_format

from controller.core.entries import Entry, Write
from controller.p4codec import Codec
from controller.switch import Deposed, SwitchError

log = logging.getLogger(__name__)
WRITE_TIMEOUT = 10.0
PIPELINE_TIMEOUT = 60.0
BATCH = 500  # updates a Write
DIGEST_LIST, DIGEST_DELAY = 256, 20_000_000  # messages a list at most; nanoseconds until one that is not full is sent
ALREADY_EXISTS = int(grpc.StatusCode.ALREADY_EXISTS.value[0])  # there is a primary with a larger election id
_OWNED = ("element", "binding", "translation", "protection", "liveness", "reply_route")


class _Stream:
    """A channel with its stream: from the first message to the end, whatever ends it."""

    def __init__(self, address: str, device_id: int, election: p4r.Uint128, on_message: Callable[[Any], None]):
        options = [("grpc.max_receive_message_length", 256 << 20), ("grpc.max_send_message_length", 256 << 20)]
        self.channel = grpc.insecure_channel(address, options=options)
        self.stub = p4r_grpc.P4RuntimeStub(self.channel)
        self.arbitrated = threading.Event()  # the switch has answered who is in charge, or the stream has ended
        self.is_primary = False
        self.status = 0  # of the last arbitration
        self.deposed = False
        self.why = "no answer"
        self._device_id, self._election = device_id, election
        self._on_message = on_message
        self._requests: queue.SimpleQueue[p4r.StreamMessageRequest | None] = queue.SimpleQueue()

    def open(self, timeout: float) -> None:
        """Start the stream and wait for the switch's answer. Raises SwitchError."""
        deadline = time.monotonic() + timeout
        try:
            grpc.channel_ready_future(self.channel).result(timeout)
        except grpc.FutureTimeoutError:
            raise SwitchError(f"no P4Runtime server within {timeout:.0f} s") from None
        threading.Thread(target=self._receive, name="p4runtime stream", daemon=True).start()
        arbitration = p4r.MasterArbitrationUpdate(device_id=self._device_id, election_id=self._election)
        self.send(p4r.StreamMessageRequest(arbitration=arbitration))
        self.arbitrated.wait(max(0.0, deadline - time.monotonic()))
        if not self.is_primary:
            raise SwitchError(f"not primary of device {self._device_id}: {self.why}")

    def send(self, request: p4r.StreamMessageRequest) -> None:
        """Send a message, unless the stream has ended."""
        self._requests.put(request)

    def close(self) -> None:
        """End the stream and the channel."""
        self.is_primary = False
        self._requests.put(None)
        self.channel.close()

    def _outgoing(self) -> Iterator[p4r.StreamMessageRequest]:
        while (request := self._requests.get()) is not None:
            yield request

    def _receive(self) -> None:
        try:
            for message in self.stub.StreamChannel(self._outgoing()):
                if message.WhichOneof("update") != "arbitration":
                    self._on_message(message)
                    continue
                status = message.arbitration.status
                self.status = status.code
                self.deposed = self.deposed or (self.is_primary and status.code != 0)
                self.is_primary, self.why = status.code == 0, status.message or f"status {status.code}"
                self.arbitrated.set()
            self.why = "the switch has ended the stream"
        except grpc.RpcError as error:
            self.why = error.details() or str(error)
        finally:
            self.is_primary = False
            self._requests.put(None)
            self.arbitrated.set()
            log.info("P4Runtime stream ended: %s", self.why)


class SwitchClient:
    """A connection to the switch. ``on_packet`` gets (element, frame), ``on_digest`` the digest's members as numbers; both are
    called in the receiving thread."""

    def __init__(
        self,
        address: str,
        device_id: int,
        p4info: Path,
        device_config: Path,
        on_packet: Callable[[int, bytes], None],
        on_digest: Callable[[tuple[int, ...]], None],
    ):
        self._info = text_format.Parse(p4info.read_text(), p4i.P4Info())
        self._codec = Codec(self._info)
        self.device_id = device_id
        self._config = device_config.read_bytes()
        self._on_packet, self._on_digest = on_packet, on_digest
        self.address = address
        # Later instances outbid earlier ones: a restarted controller must not wait for the old one's stream to time out.
        # It stays the same when the connection is made anew: so nobody who has outbid this one since is pushed aside.
        self._election = p4r.Uint128(high=0, low=time.time_ns())
        self._stream: _Stream | None = None
        self._was_primary = False

    # ------------------------------------------------------------------------------------------------------- connection

    def connect(self, timeout: float = 30.0) -> None:
        """Become primary, over a new connection. Raises SwitchError; Deposed when another has outbid this controller."""
        if self._stream is not None and self._stream.deposed:
            raise Deposed(f"another controller is in charge of the switch at {self.address}: {self._stream.why}")
        self.close()
        stream = _Stream(self.address, self.device_id, self._election, self._on_message)
        try:
            stream.open(timeout)
        except SwitchError as error:
            stream.close()
            kind = Deposed if self._was_primary and stream.status == ALREADY_EXISTS else SwitchError
            raise kind(f"{self.address}: {error}") from None
        self._stream, self._was_primary = stream, True

    @property
    def is_connected(self) -> bool:
        """Whether the stream is up and this controller is primary."""
        return self._stream is not None and self._stream.is_primary

    def table_size(self, *tables: str) -> int:
        """Entries that fit into each of these tables, by the program."""
        return min(self._codec.size(t) for t in tables)

    @property
    def _stub(self) -> Any:
        if self._stream is None:
            raise SwitchError(f"not connected to {self.address}")
        return self._stream.stub

    def close(self) -> None:
        """End the connection."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def _on_message(self, message: Any) -> None:
        kind = message.WhichOneof("update")
        if kind == "packet":
            self._on_packet(self._codec.element_of(message.packet), message.packet.payload)
        elif kind == "digest":
            self._digest(message.digest)
        elif kind == "error":
            log.warning("the switch reports a stream error: %s", message.error.message)

    def _digest(self, digest: p4r.DigestList) -> None:
        ack = p4r.DigestListAck(digest_id=digest.digest_id, list_id=digest.list_id)
        self._send(p4r.StreamMessageRequest(digest_ack=ack))
        for data in digest.data:
            self._on_digest(tuple(int.from_bytes(m.bitstring, "big") for m in data.struct.members))

    def _send(self, request: p4r.StreamMessageRequest) -> None:
        stream = self._stream
        if stream is not None and stream.is_primary:
            stream.send(request)

    def packet_out(self, port: int, frame: bytes) -> None:
        """Send a frame out of a port of the switch; it is lost when there is no connection."""
        self._send(self._codec.packet_out(port, frame))

    # --------------------------------------------------------------------------------------------------------- pipeline

    @property
    def _cookie(self) -> int:
        digest = hashlib.sha256(self._config + self._info.SerializeToString(deterministic=True)).digest()
        return int.from_bytes(digest[:7], "big")

    def has_pipeline(self) -> bool:
        """Whether the switch runs this very program already."""
        request = p4r.GetForwardingPipelineConfigRequest(
            device_id=self.device_id,
            response_type=p4r.GetForwardingPipelineConfigRequest.COOKIE_ONLY,
        )
        try:
            reply = self._stub.GetForwardingPipelineConfig(request, timeout=WRITE_TIMEOUT)
        except grpc.RpcError as error:
            if error.code() == grpc.StatusCode.FAILED_PRECONDITION:
                return False
            raise SwitchError(f"cannot read the pipeline: {error.details()}") from None
        return bool(reply.config.cookie.cookie == self._cookie)

    def push_pipeline(self) -> None:
        """Install the program; the switch's tables are empty then."""
        config = p4r.ForwardingPipelineConfig(
            p4info=self._info,
            p4_device_config=self._config,
            cookie=p4r.ForwardingPipelineConfig.Cookie(cookie=self._cookie),
        )
        request = p4r.SetForwardingPipelineConfigRequest(
            device_id=self.device_id,
            election_id=self._election,
            action=p4r.SetForwardingPipelineConfigRequest.VERIFY_AND_COMMIT,
            config=config,
        )
        try:
            self._stub.SetForwardingPipelineConfig(request, timeout=PIPELINE_TIMEOUT)
        except grpc.RpcError as error:
            raise SwitchError(f"the switch refuses the program: {error.details()}") from None

    def subscribe_digest(self, name: str) -> None:
        """Have digests of this name sent, many at a time: they come as fast as packets do."""
        config = p4r.DigestEntry.Config(
            max_timeout_ns=DIGEST_DELAY, max_list_size=DIGEST_LIST, ack_timeout_ns=1_000_000_000
        )
        entity = p4r.Entity(digest_entry=p4r.DigestEntry(digest_id=self._codec.digest(name), config=config))
        try:
            self._write([p4r.Update(type=p4r.Update.INSERT, entity=entity)])
        except SwitchError:
            self._write([p4r.Update(type=p4r.Update.MODIFY, entity=entity)])

    # ----------------------------------------------------------------------------------------------------------- tables

    def write(self, writes: Iterable[Write]) -> None:
        """Carry out the updates, in order. Raises SwitchError at the first batch that the switch does not take whole."""
        updates = [self._codec.update(w) for w in writes]
        for start in range(0, len(updates), BATCH):
            self._write(updates[start : start + BATCH])

    def _write(self, updates: list[p4r.Update]) -> None:
        request = p4r.WriteRequest(device_id=self.device_id, election_id=self._election, updates=updates)
        try:
            self._stub.Write(request, timeout=WRITE_TIMEOUT)
        except grpc.RpcError as error:
            raise SwitchError(f"the switch refuses a write: {_details(error, updates)}") from None

    def read_entries(self) -> list[Entry]:
        """All entries of the tables that the controller owns, as the switch holds them."""
        found = (self._codec.entry(e.table_entry) for e in self._read(self._codec.wildcard(t) for t in _OWNED))
        return [entry for entry in found if entry is not None]

    def read_counter(self, name: str, cells: Iterable[int] | None = None) -> dict[int, tuple[int, int]]:
        """Cells of an indexed counter, all or these, that are not zero: (packets, bytes)."""
        result = {}
        for found in self._read(self._codec.counter(name, cell) for cell in ([None] if cells is None else cells)):
            cell = found.counter_entry
            if cell.data.packet_count or cell.data.byte_count:
                result[cell.index.index] = (cell.data.packet_count, cell.data.byte_count)
        return result

    def read_direct_counter(self, table: str) -> list[tuple[Entry, int, int]]:
        """Entries of a table with packets and bytes."""
        result = []
        for found in self._read([self._codec.wildcard(table, counters=True)]):
            entry, data = self._codec.entry(found.table_entry), found.table_entry.counter_data
            if entry is not None:
                result.append((entry, data.packet_count, data.byte_count))
        return result

    def _read(self, entities: Iterable[p4r.Entity]) -> Iterator[p4r.Entity]:
        request = p4r.ReadRequest(device_id=self.device_id, entities=entities)
        try:
            for reply in self._stub.Read(request, timeout=WRITE_TIMEOUT):
                yield from reply.entities
        except grpc.RpcError as error:
            raise SwitchError(f"the switch refuses a read: {error.details()}") from None
        except ValueError as error:  # what gRPC says of a channel that another thread has closed
            raise SwitchError(f"the connection to the switch has ended: {error}") from None


def _details(error: grpc.RpcError, updates: list[p4r.Update]) -> str:
    """The failing updates of a Write (P4Runtime specification, section 12.3)."""
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            status = rpc_status.Status.FromString(value)
            texts = []
            for update, detail in zip(updates, status.details, strict=False):
                one = p4r.Error()
                if detail.Unpack(one) and one.canonical_code:
                    texts.append(f"{one.message or one.canonical_code} for {str(update).strip()[:200]}")
            if texts:
                return "; ".join(texts[:3])
    return str(error.details())
