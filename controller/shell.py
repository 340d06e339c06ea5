"""The shell around the core: one thread takes events, asks the core, and carries out its plans.

Everything that can happen arrives in one queue; nothing else touches the state, so plans never interleave.
"""

from __future__ import annotations

import dataclasses
import itertools
import logging
import queue
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from controller import frames
from controller.core import entries, events
from controller.core.entries import Entry
from controller.core.events import ApiRequest, Effect, Event
from controller.core.memory import Config
from controller.core.state import Message, State
from controller.core.step import step
from controller.store import Store
from controller.switch import Switch, SwitchError
from protocol import wire
from protocol.wire import Header, Op

log = logging.getLogger(__name__)
TICK = 0.05  # seconds
RETRY = 0.1  # seconds between repetitions of messages to elements
NOTICE_TRIES = 30
KEPT_EVENTS = 2000
BATCH = 64  # events that share a commit


class RequestRefused(Exception):
    """An API request was refused; ``code`` is for programs."""

    def __init__(self, error: events.ApiError):
        self.code = error.code
        super().__init__(error.message)


@dataclass
class _Notice:
    """A NOTIFY that its element has not acknowledged."""

    effect: events.Notify
    port: int
    tries: int = 0


@dataclass
class Statistics:
    """What the shell has done, for metrics."""

    events: int = 0
    table_writes: int = 0
    messages_sent: int = 0
    message_retries: int = 0
    packet_ins: int = 0
    digests: int = 0
    switch_errors: int = 0
    step_seconds: float = 0.0


@dataclass
class EventLog:
    """What people want to know, numbered; the last ones are kept and can be waited for."""

    entries: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=KEPT_EVENTS))
    changed: threading.Condition = field(default_factory=threading.Condition)
    last: int = 0

    def add(self, kind: str, data: dict[str, Any]) -> None:
        """Append an event."""
        with self.changed:
            self.last += 1
            self.entries.append({"id": self.last, "time": time.time(), "event": kind, **data})
            self.changed.notify_all()

    def since(self, number: int, wait: float = 0.0) -> list[dict[str, Any]]:
        """Events after this number; waits up to ``wait`` seconds for the first."""
        with self.changed:
            if wait and self.last <= number:
                self.changed.wait(wait)
            return [e for e in self.entries if e["id"] > number]


class Shell:
    """Runs the core."""

    def __init__(self, state: State, store: Store, config: Config, switch: Switch):
        self.state = state
        self.store = store
        self.config = config
        self.switch = switch
        self.log = EventLog()
        self.statistics = Statistics()
        self.ready = threading.Event()
        self.failed: BaseException | None = None
        self._queue: queue.SimpleQueue[tuple[Event | None, float]] = queue.SimpleQueue()
        # Operations outlive the controller and keep the token of whoever asked: no later controller may use it again.
        self._tokens = itertools.count(secrets.randbits(62))
        self._waiting: dict[int, Future[dict[str, Any]]] = {}
        self._resend_at: dict[int, float] = {}  # pending messages
        self._notices: dict[int, _Notice] = {}
        self._next_notice = time.time_ns() & ((1 << 62) - 1)
        self._thread = threading.Thread(target=self._run, name="core", daemon=True)

    # ------------------------------------------------------------------------------------------------------ life cycle

    def start(self) -> None:
        """Reconcile with the switch and begin. Raises SwitchError."""
        self.switch.connect()
        if not self.switch.has_pipeline():
            log.info("installing the program on the switch")
            self.switch.push_pipeline()
        self.switch.subscribe_digest("failed_access_t")
        self.reconcile()
        self._thread.start()
        self.submit(events.Started())
        self.ready.set()
        self.log.add("controller_started", {"allocations": len(self.state.allocations)})

    def stop(self) -> None:
        """Finish the plan under way and end."""
        self._queue.put((None, 0.0))
        if self._thread.ident is not None:
            self._thread.join()
        self.switch.close()
        self.store.close()

    def reconcile(self) -> tuple[int, int]:
        """Make the switch hold exactly what the state wants, without touching what is right. Returns (right, changed)."""
        actual = self.switch.read_entries()
        wanted = list(entries.all_entries(self.state))
        writes = entries.difference(actual, wanted)
        if writes:
            self.switch.write(writes)
        log.info("reconciled: %d entries right, %d changed", len(wanted) - len(writes), len(writes))
        return len(wanted) - len(writes), len(writes)

    # ---------------------------------------------------------------------------------------------------------- events

    def submit(self, event: Event) -> None:
        """Give the core an event; any thread may."""
        self._queue.put((event, time.monotonic()))

    def request(self, make: Callable[[int], ApiRequest], timeout: float = 20.0) -> dict[str, Any]:
        """An API request; its result. Raises RequestRefused, TimeoutError."""
        token = next(self._tokens)
        future: Future[dict[str, Any]] = Future()
        self._waiting[token] = future
        self.submit(make(token))
        try:
            return future.result(timeout)
        finally:
            self._waiting.pop(token, None)

    def on_packet(self, element: int, frame: bytes) -> None:
        """A frame from the switch."""
        self.statistics.packet_ins += 1
        if len(frame) < wire.FRAME_OVERHEAD:
            return
        header, payload = Header.unpack(frame, 14), frame[wire.FRAME_OVERHEAD :]
        if header.op == Op.HEARTBEAT:
            self.submit(events.Heartbeat(element, header.va))
        elif header.op & wire.REPLY:
            if header.op == Op.NOTIFY | wire.REPLY:
                self._notices.pop(header.request_id, None)
            else:
                self.submit(events.Acknowledged(element, header.request_id, header.status))
        else:
            request = events.ControlRequest(element, header.pid, header.request_id, header.op, header.va, payload)
            self.submit(request)

    def on_digest(self, members: tuple[int, ...]) -> None:
        """The switch met an access to an element that is not alive."""
        self.statistics.digests += 1
        if len(members) == 4:
            element, pid, va, source = members
            self.log.add("failed_access", {"element": element, "pid": pid, "va": va, "source": source})

    def _run(self) -> None:
        try:
            next_tick = time.monotonic()
            while True:
                batch = self._take(max(0.0, next_tick - time.monotonic()))
                if batch is None:
                    return
                if batch:
                    self._steps(batch)
                    continue
                # Only when nothing is left to read: a heartbeat that waits in the queue is no silence.
                now = time.monotonic()
                next_tick = now + TICK
                self._steps([(events.Tick(), now)])
                self._resend(now)
        except BaseException as error:
            log.exception("the controller cannot go on")
            self.failed = error
            self.log.add("controller_failed", {"error": str(error)})

    def _take(self, timeout: float) -> list[tuple[Event, float]] | None:
        """The events that wait, at most a batch; empty when none came in time, None when it is time to end."""
        batch: list[tuple[Event, float]] = []
        try:
            while len(batch) < BATCH:
                event, at = self._queue.get(timeout=timeout) if not batch else self._queue.get_nowait()
                if event is None:
                    if batch:
                        self._queue.put((None, 0.0))
                    return batch or None
                batch.append((event, at))
        except queue.Empty:
            pass
        return batch

    def _steps(self, batch: list[tuple[Event, float]]) -> None:
        """Several events with one commit: all their changes are durable before the first effect of any is carried out."""
        start = time.perf_counter()
        changes: dict[tuple[str, Any], Any] = {}
        effects: list[Effect] = []
        for event, now in batch:
            result = step(self.state, event, now, self.config)
            self.state = result.state
            for effect in result.plan:
                if isinstance(effect, events.Persist):
                    changes |= {(kind, key): record for kind, key, record in effect.changes}
                else:
                    effects.append(effect)
        if changes:
            saved = [(kind, key, record) for (kind, key), record in changes.items()]
            self.store.save(saved, self.state.counters)
        for effect in effects:
            self._carry_out(effect)
        self.statistics.events += len(batch)
        self.statistics.step_seconds += time.perf_counter() - start

    # --------------------------------------------------------------------------------------------------------- effects

    def _carry_out(self, effect: Effect) -> None:
        match effect:
            case events.WriteSwitch(writes=writes):
                self._write(writes)
            case events.Send(message=message):
                self._send_message(message, time.monotonic())
            case events.SendReply(reply=reply):
                self._send(reply.element, frames.of_reply(reply))
            case events.Notify():
                self._send_notice(effect)
            case events.Answer(token=token, result=answer, error=error):
                future = self._waiting.pop(token, None)
                if future is not None and error is None:
                    future.set_result(answer)
                elif future is not None and error is not None:
                    future.set_exception(RequestRefused(error))
            case events.Publish(kind=kind, data=data):
                log.info("%s %s", kind, data)
                self.log.add(kind, data)

    def _write(self, writes: tuple[entries.Write, ...]) -> None:
        """Write, and where the switch disagrees about what it holds, compare and correct."""
        self.statistics.table_writes += len(writes)
        try:
            self.switch.write(writes)
        except SwitchError as error:
            self.statistics.switch_errors += 1
            log.warning("%s; reconciling", error)
            self.log.add("switch_error", {"error": str(error)})
            self.reconcile()

    def _port(self, element: int) -> int | None:
        record = self.state.elements.get(element)
        return None if record is None else record.port

    def _send(self, element: int, frame: bytes) -> None:
        port = self._port(element)
        if port is not None:
            self.switch.packet_out(port, frame)

    def _send_message(self, message: Message, now: float) -> None:
        self.statistics.messages_sent += 1
        self._resend_at[message.id] = now + RETRY
        self._send(message.element, frames.of_message(message, self.state))

    def _send_notice(self, effect: events.Notify) -> None:
        port = self._port(effect.element)
        if port is None:
            return
        self._next_notice += 1
        self._notices[self._next_notice] = _Notice(effect, port)
        self._transmit_notice(self._next_notice, effect)

    def _transmit_notice(self, number: int, effect: events.Notify) -> None:
        self._send(effect.element, frames.of_notice(number, effect))

    def _resend(self, now: float) -> None:
        """Repeat what has not been acknowledged."""
        for number, at in list(self._resend_at.items()):
            message = self.state.messages.get(number)
            if message is None:
                del self._resend_at[number]
            elif now >= at:
                self.statistics.message_retries += 1
                self._send_message(message, now)
        for number, notice in list(self._notices.items()):
            notice.tries += 1
            if notice.tries > NOTICE_TRIES:
                self._notices.pop(number, None)
            elif notice.tries % 2 == 0:
                self._transmit_notice(number, notice.effect)

    # ----------------------------------------------------------------------------------------------------------- views

    def switch_map(self) -> list[Entry]:
        """`translation` and `protection` as the switch holds them."""
        return [e for e in self.switch.read_entries() if e.table in ("translation", "protection")]

    def describe(self) -> dict[str, Any]:
        """The controller's condition."""
        return {
            "ready": self.ready.is_set() and self.failed is None,
            "error": None if self.failed is None else str(self.failed),
            "switch": {"address": self.switch.address, "connected": self.switch.is_connected},
            "elements": len(self.state.elements),
            "processes": len(self.state.processes),
            "allocations": len(self.state.allocations),
            "operations_under_way": len(self.state.operations),
            "events_waiting": self._queue.qsize(),
            "statistics": dataclasses.asdict(self.statistics),
        }
