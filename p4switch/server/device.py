"""One device: its data plane, its pipeline, its controllers. Thread-safe; the gRPC service on top only translates."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Any

from finsy.proto import p4r
from google.protobuf import any_pb2

from p4switch.dataplane import binding as dp
from p4switch.server import entities, entries, packets, pipeline, profiles, replication, roles
from p4switch.server.arbitration import Arbitration, Notice, Role, Stream
from p4switch.server.digests import DigestLists
from p4switch.server.entities import Scope
from p4switch.server.errors import Code, P4RuntimeError, denied, failure, invalid, not_found
from p4switch.server.links import Links
from p4switch.server.roles import RoleConfig
from p4switch.server.schema import no_pipeline
from p4switch.server.state import Target

log = logging.getLogger(__name__)
IDLE_AT_ONCE = 500  # entries of one idle-timeout notification
Config = p4r.SetForwardingPipelineConfigRequest


class Device:
    """A P4Runtime device. ``send`` puts a message on a controller's stream."""

    def __init__(
        self, number: int, switch: dp.Switch, *, links: Links | None = None, monotonic_elections: bool = False
    ):
        self.number = number
        self.switch = switch
        self.links = links or Links()
        self.lock = threading.RLock()  # one Write, Read or change of primary at a time
        self.pipeline: pipeline.Pipeline | None = None
        self.send: Callable[[Stream, p4r.StreamMessageResponse], None] = lambda stream, message: None
        self._arbitration = Arbitration(monotonic_elections)
        self._elections = threading.Lock()  # for events, which must not wait for a long Write
        self._sending = threading.Lock()  # one packet-out at a time
        self._target: Target | None = None
        self._staged: pipeline.Staged | None = None
        self._digests = DigestLists()
        self._stop = threading.Event()
        self._events = threading.Thread(target=self._pump, name="events", daemon=True)

    def start(self) -> None:
        """Serve the data plane's events."""
        self._events.start()
        self.links.start(self._links_changed)

    def stop(self) -> None:
        """End. Calls that are still under way, or come later, find no pipeline: the data plane may then be closed."""
        self.links.stop()
        self._stop.set()
        self.switch.wake()
        if self._events.ident is not None:
            self._events.join()
        with self.lock, self._sending:
            self._unstage()
            self._target = self.pipeline = None

    def _written_to(self) -> Target:
        """What Write and Read are about: a saved pipeline, once there is one, or the running one."""
        target = self._staged.target if self._staged is not None else self._target
        if target is None:
            raise no_pipeline()
        return target

    # ------------------------------------------------------------------------------------------------------ arbitration

    def arbitrate(self, stream: Stream, update: p4r.MasterArbitrationUpdate) -> list[Notice]:
        """A controller announces itself. Raises P4RuntimeError, which is to end its stream."""
        with self._elections:
            known = self._arbitration.role_of(stream) is not None
        if known and update.device_id != self.number:
            raise P4RuntimeError(
                Code.FAILED_PRECONDITION,
                f"this stream is for device {self.number}: open another one for {update.device_id}",
            )
        self.check_number(update.device_id)
        election = _election_id(update)
        role = update.role
        with self.lock:  # a Write that has begun ends before there is another primary
            config, message = None, None
            if role.HasField("config"):
                message = any_pb2.Any()
                message.CopyFrom(role.config)
                config = roles.parse(message, None if self.pipeline is None else self.pipeline.info)
            with self._elections:
                return self._arbitration.update(stream, election, role.name, role.id, config, message)

    def leave(self, stream: Stream) -> list[Notice]:
        """A stream has ended."""
        with self.lock, self._elections:
            return self._arbitration.leave(stream)

    def check_number(self, number: int) -> None:
        """NOT_FOUND for other devices."""
        if number != self.number:
            raise not_found(f"no device {number} here; this is device {self.number}")

    def _check_primary(self, request: Any) -> Role:
        """The role of a request; NOT_FOUND or PERMISSION_DENIED unless it is its primary's."""
        self.check_number(request.device_id)
        with self._elections:
            return self._arbitration.check_write(request.role, request.role_id, _election_id(request))

    def _publish(self, message: p4r.StreamMessageResponse, concerns: Callable[[RoleConfig], bool]) -> None:
        """Send to the primary of every role that a message concerns."""
        with self._elections:
            primaries = [role.primary for role in self._arbitration.roles.values() if concerns(role.config)]
        for stream in primaries:
            if stream is not None:
                self.send(stream, message)

    # --------------------------------------------------------------------------------------------------------- pipeline

    def set_pipeline(self, request: p4r.SetForwardingPipelineConfigRequest) -> None:
        """SetForwardingPipelineConfig. The old pipeline goes on when anything is wrong."""
        self._check_may_push(request)
        action, config = request.action, request.config
        if action == Config.COMMIT:
            if config.HasField("p4info") or config.p4_device_config:
                raise invalid("COMMIT takes no config: it commits the saved one")
            with self.lock:
                self._check_may_push(request)
                if self._staged is None:
                    raise not_found("there is no saved pipeline config to commit")
                self._activate(self._staged)
            return
        if action not in (Config.VERIFY, Config.VERIFY_AND_SAVE, Config.VERIFY_AND_COMMIT, Config.RECONCILE_AND_COMMIT):
            raise invalid(f"pipeline config action {action} does not exist; there are 1 to 5")
        if not config.HasField("p4info"):
            raise invalid("the pipeline config has no p4info")
        cookie = config.cookie.cookie if config.HasField("cookie") else None
        compiled = pipeline.compile_config(config.p4info, config.p4_device_config, cookie)
        staged: pipeline.Staged | None = pipeline.stage(compiled, self.links)
        try:
            with self.lock:
                self._check_may_push(request)  # compiling takes a while
                assert staged is not None
                if action == Config.VERIFY_AND_SAVE:
                    self._unstage()
                    self._staged, staged = staged, None
                elif action != Config.VERIFY:
                    if action == Config.RECONCILE_AND_COMMIT and self._target is not None and self.pipeline is not None:
                        if pipeline.same(self.pipeline, compiled):
                            self._unstage()
                            self.pipeline = compiled  # with another cookie
                            return
                        pipeline.carry_over(self._target, self.pipeline, staged)
                    self._activate(staged)
        finally:
            if staged is not None:
                staged.close()

    def _check_may_push(self, request: p4r.SetForwardingPipelineConfigRequest) -> None:
        role = self._check_primary(request)
        if not role.config.can_push_pipeline:
            raise denied(f"role {role.name!r} may not set the pipeline config")

    def load(self, compiled: pipeline.Pipeline) -> None:
        """Run a compiled pipeline, without a client."""
        with self.lock:
            self._activate(pipeline.stage(compiled, self.links))

    def _activate(self, staged: pipeline.Staged) -> None:
        if staged is self._staged:
            self._staged = None
        else:
            self._unstage()
        self._target = pipeline.activate(staged, self.switch, self._target)
        self._follow_links(self._target)  # ports may have gone up or down since groups were written
        self.pipeline = staged.pipeline
        self._digests.clear()
        with self._elections:
            for role in self._arbitration.roles.values():
                if role.config_message is not None:
                    role.config = _resolve(role, staged.pipeline.info)
        layout = self.switch.layout
        log.info("running program %s: %d tables", layout.name, len(layout.tables))

    def _unstage(self) -> None:
        if self._staged is not None:
            self._staged.close()
            self._staged = None

    # ----------------------------------------------------------------------------------------------------- write, read

    def write(self, request: p4r.WriteRequest) -> list[P4RuntimeError | None]:
        """All updates of a Write, in order; one result each."""
        with self.lock:
            role = self._check_primary(request)
            scope = Scope(role.name, role.config)
            return entities.write(self._written_to(), request.updates, request.atomicity, scope)

    def write_entries(self, updates: Sequence[p4r.Update]) -> list[P4RuntimeError | None]:
        """Write without a client, what can be done; one result for each update."""
        with self.lock:
            return entities.write(self._written_to(), updates, entities.CONTINUE, Scope())

    def read(self, request: p4r.ReadRequest) -> tuple[list[p4r.Entity], list[P4RuntimeError | None]]:
        """What a Read asks for, from one moment: the entities of the valid requests, and one result for each request."""
        self.check_number(request.device_id)
        found: list[p4r.Entity] = []
        results: list[P4RuntimeError | None] = []
        with self.lock:
            with self._elections:
                role = self._arbitration.role(request.role)
            target, scope = self._written_to(), Scope(role.name, role.config)
            for wanted in request.entities:
                try:
                    found += entities.read(target, wanted, scope)
                    results.append(None)
                except P4RuntimeError as error:
                    results.append(error)
        return found, results

    # ---------------------------------------------------------------------------------------------------------- packets

    def packet_out(self, stream: Stream, packet: p4r.PacketOut) -> None:
        """A frame of a controller, with its metadata as header in front. Raises P4RuntimeError."""
        with self._elections:
            role = self._arbitration.role_of(stream)
            if role is None or role.primary != stream:
                raise denied("Not primary: only the primary sends packets")
            if not role.config.sends_packet_outs:
                raise denied(f"role {role.name!r} may not send packets")
        with self._sending:
            target = self._target
            if target is None:
                raise no_pipeline()
            self._send_frame(packets.pack(target.schema.packet_out, packet), len(packet.payload))

    def _send_frame(self, frame: bytes, size: int) -> None:
        try:
            self.switch.packet_out(frame)
        except dp.DataplaneError as error:
            if error.code is dp.Code.STATE:
                raise invalid("packet-out: this switch has no CPU port (--cpu-port)") from None
            if error.code is dp.Code.INVALID:
                raise invalid(f"packet-out of {size} bytes is longer than any frame") from None
            raise failure(error.code, "packet-out") from None

    def digest_ack(self, stream: Stream, ack: p4r.DigestListAck) -> None:
        """A controller has a digest list. Raises P4RuntimeError."""
        target = self._target
        if target is None:
            raise no_pipeline()
        if ack.digest_id not in target.schema.digests:
            raise invalid(f"digest ack: there is no digest with id {ack.digest_id:#x}")
        self._digests.acknowledge(ack)

    # ----------------------------------------------------------------------------------------------------------- events

    def _pump(self) -> None:
        pending: dp.Event | None = None
        while not self._stop.is_set():
            try:
                event, pending = pending or self.switch.event(self._digests.next_deadline()), None
                if event is not None:
                    pending = self._event(event)
                for message in self._digests.due():
                    if self._target is not None and message.digest_id in self._target.state.digests:
                        self._send_digest(message)
            except dp.DataplaneError:
                if self._stop.is_set():
                    return
            except Exception:
                log.exception("an event of the data plane was lost")

    def _event(self, event: dp.Event) -> dp.Event | None:
        """Tell controllers; returns an event that was taken from the queue on the way."""
        target = self._target
        if target is None:
            return None
        if event.kind is dp.EventKind.PACKET_IN:
            packet, metadata = packets.unpack(target.schema.packet_in, event.data)
            message = p4r.StreamMessageResponse(packet=packet)
            self._publish(message, lambda config: roles.wants_packet(config, metadata))
        elif event.kind is dp.EventKind.DIGEST:
            info = target.schema.digests_by_index.get(event.index)
            entry = None if info is None else target.state.digests.get(info.id)
            if info is not None and entry is not None and len(event.data) == info.fields.size:
                self._digests.add(info, event.data, entry.config)
        elif event.kind is dp.EventKind.IDLE_TIMEOUT:
            return self._idle(target, event)
        return None

    def _send_digest(self, message: p4r.DigestList) -> None:
        about = (message.digest_id,)
        self._publish(p4r.StreamMessageResponse(digest=message), lambda config: roles.may_read(config, about))

    def _idle(self, target: Target, first: dp.Event) -> dp.Event | None:
        """One notification for the entries of a table that are idle at the same time; they may be gone by now."""
        table = target.schema.tables_by_index.get(first.index)
        notice = p4r.IdleTimeoutNotification(timestamp=first.timestamp_ns)
        event: dp.Event | None = first
        while event is not None and event.kind is dp.EventKind.IDLE_TIMEOUT and event.index == first.index:
            entry = self.switch.entry(event.index, event.handle)
            if table is not None and entry is not None:
                notice.table_entry.append(entries.to_message(target, table, entry))
            if len(notice.table_entry) >= IDLE_AT_ONCE:
                event = None
                break
            event = self.switch.event(0)
        if table is not None and notice.table_entry:
            about = (table.id,)
            message = p4r.StreamMessageResponse(idle_timeout_notification=notice)
            self._publish(message, lambda config: roles.may_read(config, about))
        return event

    @staticmethod
    def _follow_links(target: Target) -> None:
        profiles.follow_links(target)
        replication.follow_links(target)

    def _links_changed(self) -> None:
        with self.lock:
            if self._target is not None:
                self._follow_links(self._target)


def _resolve(role: Role, info: Any) -> RoleConfig:
    """A role config with the ids of a new P4Info; what is not in there stays as it was written."""
    assert role.config_message is not None
    try:
        return roles.parse(role.config_message, info)
    except P4RuntimeError as error:
        log.warning("role %s: %s", role.name, error)
        return roles.parse(role.config_message, None)


def _election_id(message: Any) -> int | None:
    if not message.HasField("election_id"):
        return None
    return int(message.election_id.high << 64 | message.election_id.low)
