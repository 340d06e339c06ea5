"""One device: its data plane, its pipeline, its controllers. Thread-safe; the gRPC service on top only translates."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence

from finsy.proto import p4r

from p4switch.dataplane import binding as dp
from p4switch.server import pipeline, tables, values
from p4switch.server.arbitration import Arbitration
from p4switch.server.digests import DigestLists
from p4switch.server.entities import Entities, Mirror
from p4switch.server.errors import Code, P4RuntimeError, invalid, unimplemented
from p4switch.server.schema import HeaderInfo, Schema, no_pipeline

log = logging.getLogger(__name__)
CONTINUE, ROLLBACK, ATOMIC = (
    p4r.WriteRequest.CONTINUE_ON_ERROR,
    p4r.WriteRequest.ROLLBACK_ON_ERROR,
    p4r.WriteRequest.DATAPLANE_ATOMIC,
)


class Device:
    """A P4Runtime device. ``to_primary`` sends a message on the primary's stream."""

    def __init__(self, number: int, switch: dp.Switch):
        self.number = number
        self.switch = switch
        self.lock = threading.RLock()
        self.arbitration = Arbitration()
        self.mirror = Mirror()
        self.digests = DigestLists()
        self.pipeline: pipeline.Pipeline | None = None
        self.saved: pipeline.Pipeline | None = None
        self.schema: Schema | None = None
        self.to_primary: Callable[[p4r.StreamMessageResponse], None] = lambda message: None
        self._stop = threading.Event()
        self._events = threading.Thread(target=self._pump, name="events", daemon=True)

    def start(self) -> None:
        """Serve the data plane's events."""
        self._events.start()

    def stop(self) -> None:
        """End."""
        self._stop.set()
        self.switch.wake()
        if self._events.ident is not None:
            self._events.join()

    def _entities(self) -> Entities:
        if self.schema is None:
            raise no_pipeline()
        return Entities(self.switch, self.schema, self.mirror)

    # --------------------------------------------------------------------------------------------------------- pipeline

    def set_pipeline(self, action: int, config: p4r.ForwardingPipelineConfig) -> None:
        """SetForwardingPipelineConfig (specification, section 7). The old pipeline goes on when anything is wrong."""
        request = p4r.SetForwardingPipelineConfigRequest
        if action == request.COMMIT:
            with self.lock:
                if self.saved is None:
                    raise P4RuntimeError(Code.FAILED_PRECONDITION, "there is no saved pipeline config to commit")
                self._load(self.saved)
            return
        if action not in (
            request.VERIFY,
            request.VERIFY_AND_SAVE,
            request.VERIFY_AND_COMMIT,
            request.RECONCILE_AND_COMMIT,
        ):
            raise invalid(f"pipeline config action {action} does not exist")
        prepared = pipeline.prepare(config.p4info, config.p4_device_config, config.cookie.cookie)
        with self.lock:
            if action == request.VERIFY_AND_SAVE:
                self.saved = prepared
            elif action == request.VERIFY_AND_COMMIT:
                self._load(prepared)
            elif action == request.RECONCILE_AND_COMMIT:
                if self.pipeline is not None and self.pipeline.device_config != prepared.device_config:
                    raise unimplemented("reconciling with another program: use VERIFY_AND_COMMIT")
                if self.pipeline is None:
                    self._load(prepared)
                else:
                    self.pipeline = prepared
                    self.schema = Schema(prepared.info, self.switch.layout)

    def load(self, prepared: pipeline.Pipeline) -> None:
        """Run a prepared pipeline, without a client."""
        with self.lock:
            self._load(prepared)

    def _load(self, prepared: pipeline.Pipeline) -> None:
        layout = self.switch.load(prepared.shared_object)
        self.schema = Schema(prepared.info, layout)
        self.pipeline, self.saved = prepared, None
        self.mirror.forget_program()
        self.digests.clear()
        log.info("running program %s: %d tables", layout.name, len(layout.tables))

    # ------------------------------------------------------------------------------------------------------------ write

    def write(self, updates: Sequence[p4r.Update], atomicity: int) -> list[P4RuntimeError | None]:
        """All updates of a Write, in order; one result each."""
        with self.lock:
            entities = self._entities()
            assert self.schema is not None
            if atomicity in (ROLLBACK, ATOMIC):
                return self._write_atomic(updates, self.schema)
            if atomicity != CONTINUE:
                raise invalid(f"atomicity {atomicity} does not exist")
            results: list[P4RuntimeError | None] = [None] * len(updates)
            batch: list[tuple[int, dp.Update, str]] = []
            for position, update in enumerate(updates):
                try:
                    if update.entity.WhichOneof("entity") == "table_entry":
                        entry = update.entity.table_entry
                        translated = tables.to_update(self.schema, update.type, entry)
                        batch.append((position, translated, self._describe(entry)))
                        continue
                    self._flush(batch, results)
                    entities.write(update.type, update.entity)
                except P4RuntimeError as error:
                    results[position] = error
            self._flush(batch, results)
            return results

    def _describe(self, entry: p4r.TableEntry) -> str:
        assert self.schema is not None
        what = "the default entry" if entry.is_default_action else "the entry"
        return f"{what} of table {self.schema.table(entry.table_id).name}"

    def _flush(self, batch: list[tuple[int, dp.Update, str]], results: list[P4RuntimeError | None]) -> None:
        """Table entries that follow one another go to the data plane as one change."""
        if not batch:
            return
        done = self.switch.apply([u for _, u, _ in batch])
        for (position, update, what), result in zip(batch, done, strict=True):
            if result.code != dp.Code.OK:
                results[position] = tables.update_failure(update, result.code, what)
        batch.clear()

    def _write_atomic(self, updates: Sequence[p4r.Update], schema: Schema) -> list[P4RuntimeError | None]:
        """All or none; packets see the whole change or nothing of it."""
        batch = []
        for position, update in enumerate(updates):
            if update.entity.WhichOneof("entity") != "table_entry":
                raise unimplemented(
                    f"an atomic batch with a {update.entity.WhichOneof('entity')}: only table entries can be"
                )
            try:
                batch.append(tables.to_update(schema, update.type, update.entity.table_entry))
            except P4RuntimeError as error:
                aborted = P4RuntimeError(Code.ABORTED, "not done, because another update of the batch failed")
                return [error if i == position else aborted for i in range(len(updates))]
        done = self.switch.apply(batch, all_or_none=True)
        if all(r.code == dp.Code.OK for r in done):
            return [None] * len(updates)
        results: list[P4RuntimeError | None] = []
        for update, translated, result in zip(updates, batch, done, strict=True):
            code = dp.Code.STATE if result.code == dp.Code.OK else result.code
            results.append(tables.update_failure(translated, code, self._describe(update.entity.table_entry)))
        return results

    def read(self, wanted: Sequence[p4r.Entity]) -> Iterator[p4r.Entity]:
        """What a Read asks for, from one moment."""
        with self.lock:
            entities = self._entities()
            found = [entity for one in wanted for entity in entities.read(one)]
        yield from found

    # ---------------------------------------------------------------------------------------------------------- packets

    def packet_out(self, packet: p4r.PacketOut) -> None:
        """A frame of the controller, with its metadata as header in front."""
        schema = self.schema
        if schema is None:
            raise no_pipeline()
        header = b"" if schema.packet_out is None else _pack_header(schema.packet_out, packet)
        if schema.packet_out is None and packet.metadata:
            raise invalid("the program has no packet_out header: packet-out cannot carry metadata")
        try:
            self.switch.packet_out(header + packet.payload)
        except dp.DataplaneError as error:
            raise tables.failure(error.code, "packet-out") from None

    def _pump(self) -> None:
        while not self._stop.is_set():
            try:
                event = self.switch.event(self.digests.next_deadline())
            except dp.DataplaneError:
                return
            try:
                if event is not None:
                    self._event(event)
                for message in self.digests.due():
                    self.to_primary(p4r.StreamMessageResponse(digest=message))
            except Exception:
                log.exception("an event of the data plane was lost")

    def _event(self, event: dp.Event) -> None:
        schema = self.schema
        if schema is None:
            return
        if event.kind is dp.EventKind.PACKET_IN:
            self.to_primary(p4r.StreamMessageResponse(packet=_packet_in(schema.packet_in, event.data)))
        elif event.kind is dp.EventKind.DIGEST:
            for number, digest in schema.digests.items():
                if digest.index == event.index and number in self.mirror.digests:
                    data = self.digests.decode(schema, number, event.data)
                    self.digests.add(number, data, self.mirror.digests[number].config)
        elif event.kind is dp.EventKind.IDLE_TIMEOUT:
            self._idle(schema, event)

    def _idle(self, schema: Schema, event: dp.Event) -> None:
        """Tell the controller which entry has not been hit; it may be gone by now."""
        for table in schema.tables.values():
            if table.table.index != event.index:
                continue
            for entry in self.switch.entries(event.index):
                if entry.handle == event.handle:
                    message = tables.to_message(schema, table, entry)
                    notice = p4r.IdleTimeoutNotification(table_entry=[message], timestamp=event.timestamp_ns)
                    self.to_primary(p4r.StreamMessageResponse(idle_timeout_notification=notice))


def _pack_header(header: HeaderInfo, packet: p4r.PacketOut) -> bytes:
    given = {m.metadata_id: m.value for m in packet.metadata}
    number = 0
    for metadata_id, name, width in header.fields:
        if metadata_id not in given and not name.startswith(("pad", "_pad")):
            raise invalid(f"packet-out needs metadata {metadata_id} ({name})")
        value = values.decode(given.pop(metadata_id, b"\0"), width, f"packet-out metadata {name}")
        number = number << width | value
    if given:
        raise invalid(f"packet-out has no metadata {min(given)}")
    return number.to_bytes(header.size, "big")


def _packet_in(header: HeaderInfo | None, data: bytes) -> p4r.PacketIn:
    if header is None or len(data) < header.size:
        return p4r.PacketIn(payload=data)
    packet = p4r.PacketIn(payload=data[header.size :])
    number = int.from_bytes(data[: header.size], "big")
    shift = header.size * 8
    for metadata_id, _, width in header.fields:
        shift -= width
        packet.metadata.add(metadata_id=metadata_id, value=values.encode(number >> shift & ((1 << width) - 1)))
    return packet
