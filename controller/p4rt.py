"""A P4Runtime client: arbitration, pipeline, writes in order, reads, packets.

It relies on nothing that one target alone offers: the order of updates within a Write is the order in which they take effect.
"""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from finsy.proto import p4i, p4r, rpc_status
from google.protobuf import text_format
from google.protobuf.message import DecodeError

from controller.core.entries import Entry, Write
from controller.p4codec import Codec
from controller.rpc.channel import Channel, Stream, endpoint
from controller.rpc.messages import Code, RpcError
from controller.switch import Deposed, SwitchError

log = logging.getLogger(__name__)
WRITE_TIMEOUT = 10.0
PIPELINE_TIMEOUT = 60.0
BATCH = 500  # updates a Write
DIGEST_LIST, DIGEST_DELAY = 256, 20_000_000  # messages a list at most; nanoseconds until one that is not full is sent
_OWNED = ("element", "binding", "translation", "protection", "liveness", "reply_route")


class _Stream:
    """A StreamChannel and the connections for calls: from the first message to the end, whatever ends it."""

    def __init__(self, address: str, device_id: int, election: p4r.Uint128, on_message: Callable[[Any], None]):
        self.channel = Channel(address)
        self.arbitrated = threading.Event()  # the switch has answered who is in charge, or the stream has ended
        self.is_primary = False
        self.status = 0  # of the last arbitration
        self.deposed = False
        self.why = "no answer"
        self._device_id, self._election = device_id, election
        self._on_message = on_message
        self._stream = Stream(address, _path("StreamChannel"), self._receive, self._ended, "p4runtime stream")

    def open(self, timeout: float) -> None:
        """Start the stream and wait for the switch's answer. Raises SwitchError."""
        deadline = time.monotonic() + timeout
        arbitration = p4r.MasterArbitrationUpdate(device_id=self._device_id, election_id=self._election)
        try:
            self._stream.open(p4r.StreamMessageRequest(arbitration=arbitration).SerializeToString(), deadline)
        except RpcError as error:
            raise SwitchError(f"no P4Runtime server within {timeout:.0f} s: {error}") from None
        self.arbitrated.wait(max(0.0, deadline - time.monotonic()))
        if not self.is_primary:
            raise SwitchError(f"not primary of device {self._device_id}: {self.why}")

    def send(self, request: p4r.StreamMessageRequest) -> None:
        """Send a message, unless the stream has ended."""
        self._stream.send(request.SerializeToString())

    def close(self) -> None:
        """End the stream and the connections."""
        self.is_primary = False
        self._stream.close()
        self.channel.close()

    def _receive(self, octets: bytes) -> None:
        message = _parsed(p4r.StreamMessageResponse, octets)
        if message.WhichOneof("update") != "arbitration":
            self._on_message(message)
            return
        status = message.arbitration.status
        self.status = status.code
        self.deposed = self.deposed or (self.is_primary and status.code != 0)
        self.is_primary, self.why = status.code == 0, status.message or f"status {status.code}"
        self.arbitrated.set()

    def _ended(self, error: RpcError | None) -> None:
        self.why = "the switch has ended the stream" if error is None else str(error)
        self.is_primary = False
        self.arbitrated.set()
        log.info("P4Runtime stream ended: %s", self.why)


def _path(method: str) -> str:
    return f"/p4.v1.P4Runtime/{method}"


def _parsed(kind: Any, octets: bytes) -> Any:
    try:
        return kind.FromString(octets)
    except DecodeError:
        raise RpcError(Code.INTERNAL, f"{len(octets)} octets that are no {kind.DESCRIPTOR.name}") from None


class SwitchClient:
    """A connection to the switch. ``on_packet`` gets (element, frame), ``on_digest`` the digest's members as numbers; both are
    called in the receiving thread. ValueError for an ``address`` that is not HOST:PORT."""

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
        endpoint(address)  # raises ValueError
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
            kind = Deposed if self._was_primary and stream.status == Code.ALREADY_EXISTS else SwitchError
            raise kind(f"{self.address}: {error}") from None
        self._stream, self._was_primary = stream, True

    @property
    def is_connected(self) -> bool:
        """Whether the stream is up and this controller is primary."""
        return self._stream is not None and self._stream.is_primary

    def table_size(self, *tables: str) -> int:
        """Entries that fit into each of these tables, by the program."""
        return min(self._codec.size(t) for t in tables)

    def _call(self, method: str, request: Any, answer: Any, timeout: float = WRITE_TIMEOUT) -> list[Any]:
        """A call's answers. Raises RpcError; SwitchError without a connection."""
        if self._stream is None:
            raise SwitchError(f"not connected to {self.address}")
        answers = self._stream.channel.call(_path(method), request.SerializeToString(), timeout)
        if len(answers) != 1 and method != "Read":
            raise RpcError(Code.INTERNAL, f"{len(answers)} answers to a {method}")
        return [_parsed(answer, octets) for octets in answers]

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
            [reply] = self._call("GetForwardingPipelineConfig", request, p4r.GetForwardingPipelineConfigResponse)
        except RpcError as error:
            if error.code is Code.FAILED_PRECONDITION:
                return False
            raise SwitchError(f"cannot read the pipeline: {error}") from None
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
            answer = p4r.SetForwardingPipelineConfigResponse
            self._call("SetForwardingPipelineConfig", request, answer, PIPELINE_TIMEOUT)
        except RpcError as error:
            raise SwitchError(f"the switch refuses the program: {error}") from None

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
            self._call("Write", request, p4r.WriteResponse)
        except RpcError as error:
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
            replies = self._call("Read", request, p4r.ReadResponse)
        except RpcError as error:
            raise SwitchError(f"the switch refuses a read: {error}") from None
        for reply in replies:
            yield from reply.entities


def _details(error: RpcError, updates: list[p4r.Update]) -> str:
    """The failing updates of a Write (P4Runtime specification, section 12.3)."""
    try:
        details = _parsed(rpc_status.Status, error.details).details
    except RpcError:
        details = ()
    texts = []
    for update, detail in zip(updates, details, strict=False):
        one = p4r.Error()
        if detail.Unpack(one) and one.canonical_code:
            texts.append(f"{one.message or one.canonical_code} for {str(update).strip()[:200]}")
    return "; ".join(texts[:3]) or str(error)
