"""The shell around the core: one thread takes events, asks the core, and carries out its plans.

Everything that can happen arrives in one queue; nothing else touches the state, so plans never interleave.
"""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import logging
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from typing import Any, Protocol

from controller import frames
from controller.core import entries, events, monitor
from controller.core.entries import Entry
from controller.core.events import ApiRequest, Effect, Event
from controller.core.memory import Config
from controller.core.state import TOR, Message, Notice, Reply, State
from controller.core.step import step
from controller.inbox import Inbox
from controller.journal import EventLog, RateLimit, Statistics
from controller.store import Store
from controller.switch import Deposed, Switch, SwitchError
from protocol import wire
from protocol.crash import CrashAt
from protocol.wire import Header, Op, Status

log = logging.getLogger(__name__)
TICK = 0.05  # seconds
RETRY = 0.1  # seconds between repetitions of messages to elements
LONGEST_NOTICE_PAUSE = 5.0  # seconds: a local OS may be away for long
BATCH = 64  # events that share a commit
REFUSALS_A_TICK = 100  # BUSY replies
CONNECT_TIMEOUT = 2.0  # seconds, when the switch has been lost
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 2.0  # seconds between attempts to regain the switch


class RequestRefused(Exception):
    """An API request was refused; ``code`` is for programs."""

    def __init__(self, error: events.ApiError):
        self.code = error.code
        super().__init__(error.message)


class _Stopping(Exception):
    """The controller is told to end while it waits for the switch."""


def _follows(batch: Iterable[tuple[Event, float]], effects: Iterable[Effect]) -> bool:
    """Whether these events only conclude what is on the disk already. Should the machine lose that, the elements would be told
    again what they were told, acknowledge it again, and it would be concluded in the same way."""
    concluding = all(isinstance(event, (events.Acknowledged, events.NoticeAcknowledged)) for event, _ in batch)
    return concluding and not any(isinstance(effect, events.Send) for effect in effects)


class Tor(Protocol):
    """The top-of-rack switch, as far as fences go."""

    @property
    def is_connected(self) -> bool | None:
        """Whether it is connected and forwards; None if there is none."""

    def fence(self, elements: frozenset[int]) -> None:
        """Fence off these elements and no others, soon."""

    def barrier(self, number: int, done: Callable[[], object]) -> None:
        """Call ``done`` once all that was said before is carried out; not if the switch is away. Repeated until it is called."""


class NoTor:
    """A rack without a top-of-rack switch of this controller's."""

    is_connected = None

    def fence(self, elements: frozenset[int]) -> None:
        """There is nothing to do."""

    def barrier(self, number: int, done: Callable[[], object]) -> None:
        """All is done."""
        done()


class Shell:
    """Runs the core."""

    def __init__(self, state: State, store: Store, config: Config, switch: Switch):
        self._state = state  # the core's
        self.state = state  # what the switch and the disk have of it, for all others: never ahead of them
        self.store = store
        self.config = config
        self.switch = switch
        self.log = EventLog()
        self.statistics = Statistics()
        self.ready = threading.Event()
        self.failed: BaseException | None = None
        self.on_end: Callable[[], None] = lambda: None  # called when the core cannot go on
        self.tor: Tor = NoTor()
        self._fenced: frozenset[int] = frozenset()
        # Told which element has which service address (IPv4) when that changes, before it is acknowledged; whether it was done.
        self.on_addresses: Callable[[dict[int, int]], bool] = lambda holders: True
        self.is_operators: Callable[[str], bool] = lambda token: False  # who may fence, in band, too
        self._addresses: Any = None
        self.crash = CrashAt()  # counts commits and what is done after them
        self._inbox = Inbox()
        self._accesses = RateLimit()
        self._stopping = threading.Event()
        self._lost_switch = ""  # why the switch may hold something else than the state wants; empty when it does not
        self._missed = False  # packets were lost on their way from and to the switch
        self._may_refuse = 0  # BUSY replies left until the next tick
        # Operations outlive the controller and keep the token of whoever asked: no later controller may use it again.
        self._tokens = itertools.count(secrets.randbits(62))
        self._waiting: dict[int, Future[dict[str, Any]]] = {}
        self._repeat_at: dict[int, tuple[float, float]] = {}  # messages and notices: when, and the pause after that
        self._thread = threading.Thread(target=self._run, name="core", daemon=True)

    # ------------------------------------------------------------------------------------------------------ life cycle

    def start(self) -> None:
        """Reconcile with the switch and begin. Raises SwitchError."""
        self._connect(30.0)
        self.reconcile()
        self._thread.start()
        self.submit(events.Started())
        self.ready.set()
        self.log.add("controller_started", {"allocations": len(self._state.allocations)})

    def _connect(self, timeout: float) -> None:
        self.switch.connect(timeout)
        self.statistics.switch_connections += 1
        if not self.switch.has_pipeline():
            log.info("installing the program on the switch")
            self.switch.push_pipeline()
        self.switch.subscribe_digest("failed_access_t")

    def stop(self) -> None:
        """Finish the plan under way and end."""
        self._stopping.set()
        self._inbox.close()
        if self._thread.ident is not None:
            self._thread.join()
        self.switch.close()
        self.store.close()

    def reconcile(self) -> tuple[int, int]:
        """Make the switch hold exactly what the state wants, without touching what is right. Returns (right, changed)."""
        actual = self.switch.read_entries()
        wanted = list(entries.all_entries(self._state))
        writes = entries.difference(actual, wanted)
        if writes:
            self.switch.write(writes)
        log.info("reconciled: %d entries right, %d changed", len(wanted) - len(writes), len(writes))
        return len(wanted) - len(writes), len(writes)

    # ---------------------------------------------------------------------------------------------------------- events

    def submit(self, event: Event, speaker: int = wire.CONTROLLER_ELEMENT) -> bool:
        """Give the core an event; any thread may. False when too many of this speaker's wait."""
        taken = self._inbox.put(speaker, event, time.monotonic())
        self.statistics.events_refused += not taken
        return taken

    def begin(self, make: Callable[[int], ApiRequest]) -> tuple[int, Future[dict[str, Any]]]:
        """Make an API request; its number and what will be its result (or RequestRefused). Raises RequestRefused."""
        if self._lost_switch:
            raise RequestRefused(events.ApiError("switch", f"there is no switch to change: {self._lost_switch}"))
        token = next(self._tokens)
        future: Future[dict[str, Any]] = Future()
        self._waiting[token] = future
        if not self.submit(make(token)):
            self._waiting.pop(token, None)
            raise RequestRefused(events.ApiError("busy", f"{len(self._inbox)} events wait already"))
        return token, future

    def request(self, make: Callable[[int], ApiRequest], timeout: float = 20.0) -> dict[str, Any]:
        """An API request; its result. Raises RequestRefused, TimeoutError."""
        token, future = self.begin(make)
        try:
            return future.result(timeout)
        finally:
            self._waiting.pop(token, None)

    async def ask(self, make: Callable[[int], ApiRequest], timeout: float = 20.0) -> dict[str, Any]:
        """The same for whoever runs in an event loop, which goes on meanwhile: no thread has to wait."""
        token, future = self.begin(make)
        loop, done = asyncio.get_running_loop(), asyncio.Event()
        future.add_done_callback(lambda _: loop.call_soon_threadsafe(done.set))
        try:
            async with asyncio.timeout(timeout):
                await done.wait()
        finally:
            self._waiting.pop(token, None)
        return future.result()

    def on_packet(self, element: int, frame: bytes) -> None:
        """A frame from the switch."""
        self.statistics.packet_ins += 1
        if len(frame) < wire.FRAME_OVERHEAD:
            return
        header = Header.unpack(frame, 14)
        if header.op == Op.HEARTBEAT:
            interval = 0.0
            if len(frame) >= wire.FRAME_OVERHEAD + wire.HEARTBEAT_ARGS.size:
                interval = wire.HEARTBEAT_ARGS.unpack_from(frame, wire.FRAME_OVERHEAD)[0] / 1000
            self._inbox.hear(events.Heartbeat(element, header.va, interval), time.monotonic())
        elif header.op == Op.NOTIFY | wire.REPLY:
            self.submit(events.NoticeAcknowledged(element, header.request_id), element)
        elif header.op & wire.REPLY:
            self.submit(events.Acknowledged(element, header.request_id, header.status), element)
        else:
            payload = frame[wire.FRAME_OVERHEAD :]
            speaker = (element, header.pid, header.request_id, header.op, header.va)
            operator = header.op == Op.FENCE and self._bears_token(payload[: header.length])
            if (
                not self.submit(events.ControlRequest(*speaker, payload, time.time(), operator), element)
                and self._may_refuse > 0
            ):
                # A flood must not cause another one: whoever hears nothing repeats as well.
                self._may_refuse -= 1
                self._send(element, frames.of_reply(Reply(*speaker[:4], int(Status.BUSY), header.va)))

    def _bears_token(self, payload: bytes) -> bool:
        return self.is_operators(payload[wire.FENCE_ARGS.size :].decode(errors="replace"))

    def on_digest(self, members: tuple[int, ...]) -> None:
        """The switch met an access to an element that is not alive."""
        self.statistics.digests += 1
        if len(members) == 4:
            element, pid, va, source = members
            unheard = self._accesses.heard((element, pid, source), time.monotonic())
            if unheard is not None:
                told = {"element": element, "pid": pid, "va": va, "source": source, "more_before": unheard}
                self.log.add("failed_access", told)

    def _run(self) -> None:
        try:
            now = time.monotonic()
            next_tick = last_tick = now
            while not self._stopping.is_set():
                batch = self._inbox.take(BATCH, max(0.0, next_tick - now))
                if batch:
                    self._steps(batch)
                now = time.monotonic()
                if now >= next_tick:
                    next_tick = now + TICK
                    self._tick(now, now - last_tick)
                    last_tick = now = time.monotonic()
        except _Stopping:
            pass
        except BaseException as error:
            log.exception("the controller cannot go on")
            self.failed = error
            self.log.add("controller_failed", {"error": str(error)})
            self.on_end()

    def _tick(self, now: float, since_last: float) -> None:
        """What happens from time to time, however many events wait."""
        self._may_refuse = REFUSALS_A_TICK
        if not self.switch.is_connected:
            self._regain("the connection has ended")
            now = time.monotonic()
        if self._missed or since_last > monitor.thresholds(self._state, self.config).fail / 2:
            # Packets were lost, or this process or its machine stood still: nobody is to be judged by the silence.
            self._missed = False
            self._steps([(events.Started(), now)])
        self._steps([*self._inbox.signs(), (events.Tick(), now)])
        self._repeat(now)
        self.store.tidy()

    def _steps(self, batch: list[tuple[Event, float]]) -> None:
        """Several events with one commit and one change of the switch: all that follows from any of them is stored before the
        switch is changed, and in the switch, in their order, and on the disk before anybody is told of any."""
        start = time.perf_counter()
        changes: dict[tuple[str, Any], Any] = {}
        on_disk: Future[None] | None = None
        writes: list[entries.Write] = []
        effects: list[Effect] = []
        for event, now in batch:
            result = step(self._state, event, now, self.config)
            self._state = result.state
            for effect in result.plan:
                if isinstance(effect, events.Persist):
                    changes |= {(kind, key): record for kind, key, record in effect.changes}
                elif isinstance(effect, events.WriteSwitch):
                    writes += effect.writes
                else:
                    effects.append(effect)
        if changes:
            self.crash.step()
            saved = [(kind, key, record) for (kind, key), record in changes.items()]
            on_disk = self._save(saved, not _follows(batch, effects), bool(writes))
        self._tell_fenced()
        self._tell_addresses()
        if writes:
            self.crash.step()
            self._write(writes)
        if on_disk is not None:
            before = time.perf_counter()
            on_disk.result()
            self.statistics.commit_seconds += time.perf_counter() - before
        self.state = self._state
        for effect in effects:
            if not isinstance(effect, events.Publish):
                self.crash.step()
            self._carry_out(effect)
        self.statistics.events += len(batch)
        self.statistics.step_seconds += time.perf_counter() - start

    def _save(self, changes: Sequence[tuple[str, Any, Any]], to_disk: bool, meanwhile: bool) -> Future[None] | None:
        """Store changes. ``to_disk``: there, too; if there is something to do ``meanwhile``, when what is returned is done."""
        before = time.perf_counter()
        self.store.save(changes, self._state.counters)
        syncing = self.store.start_sync() if to_disk and meanwhile else None
        if to_disk and not meanwhile:
            self.store.sync()
        self.statistics.commit_seconds += time.perf_counter() - before
        return syncing

    def _tell_fenced(self) -> None:
        """Fences act at the top-of-rack switch, too."""
        fenced = frozenset(e.id for e in self._state.elements.values() if e.fenced)
        if fenced != self._fenced:
            self._fenced = fenced
            self.tor.fence(fenced)

    def _tell_addresses(self) -> None:
        """Who has which service address is for the top-of-rack switch to know."""
        if self._state.addresses is not self._addresses:
            self._addresses = self._state.addresses
            if not self.on_addresses({a.address: a.element for a in self._addresses.values()}):
                why = "the switch has not answered"
                self.log.add("addresses_not_at_tor", {"addresses": len(self._addresses), "why": why})

    # --------------------------------------------------------------------------------------------------------- effects

    def _carry_out(self, effect: Effect) -> None:
        match effect:
            case events.Send(message=message):
                self._send_message(message, time.monotonic())
            case events.SendReply(reply=reply):
                self._send(reply.element, frames.of_reply(reply))
            case events.Notify(notice=notice):
                self._send_notice(notice, time.monotonic())
            case events.Answer(token=token, result=answer, error=error):
                future = self._waiting.pop(token, None)
                if future is not None and error is None:
                    future.set_result(answer)
                elif future is not None and error is not None:
                    future.set_exception(RequestRefused(error))
            case events.Publish(kind=kind, data=data):
                log.info("%s %s", kind, data)
                self.log.add(kind, data)

    def _write(self, writes: Sequence[entries.Write]) -> None:
        """Write. Nothing that comes after is done before the switch holds what the state wants."""
        self.statistics.table_writes += len(writes)
        before = time.perf_counter()
        try:
            self.switch.write(writes)
            self.statistics.write_seconds += time.perf_counter() - before
        except SwitchError as error:
            self._regain(str(error))

    def _regain(self, why: str) -> None:
        """Compare the switch with the state and correct it, connecting anew if need be, until that has been done.

        Raises Deposed when another controller is in charge, _Stopping when it is time to end."""
        pause, self._lost_switch = FIRST_PAUSE, why
        log.warning("the switch: %s", why)
        self.log.add("switch_error", {"error": why})
        while self._lost_switch:
            self.statistics.switch_errors += 1
            try:
                if not self.switch.is_connected:
                    self._connect(CONNECT_TIMEOUT)
                self.reconcile()
                self._lost_switch = ""
            except Deposed:
                raise
            except SwitchError as error:
                self._lost_switch = str(error)
                log.warning("the switch: %s; trying again in %.1f s", error, pause)
                if self._stopping.wait(pause):
                    raise _Stopping from None
                pause = min(2 * pause, LONGEST_PAUSE)
        self.log.add("switch_regained", {})
        self._missed = True

    def _port(self, element: int) -> int | None:
        record = self._state.elements.get(element)
        return None if record is None else record.port

    def _send(self, element: int, frame: bytes) -> None:
        port = self._port(element)
        if port is not None:
            self.switch.packet_out(port, frame)

    def _send_message(self, message: Message, now: float) -> None:
        self.statistics.messages_sent += 1
        self._repeat_at[message.id] = now + RETRY, RETRY
        if message.element == TOR:
            done = events.Acknowledged(TOR, message.id, int(Status.OK))
            self.tor.barrier(message.id, lambda: self.submit(done))
        else:
            self._send(message.element, frames.of_message(message, self._state))

    def _send_notice(self, notice: Notice, now: float, pause: float = RETRY) -> None:
        self._repeat_at[notice.id] = now + pause, min(2 * pause, LONGEST_NOTICE_PAUSE)
        self._send(notice.element, frames.of_notice(notice))

    def _repeat(self, now: float) -> None:
        """Send again what has not been acknowledged."""
        for number, (at, pause) in list(self._repeat_at.items()):
            message, notice = self._state.messages.get(number), self._state.notices.get(number)
            if message is None and notice is None:
                del self._repeat_at[number]
            elif now >= at:
                self.statistics.message_retries += 1
                if message is not None:
                    self._send_message(message, now)
                elif notice is not None:
                    self._send_notice(notice, now, pause)

    # ----------------------------------------------------------------------------------------------------------- views

    def switch_map(self) -> list[Entry]:
        """`translation` and `protection` as the switch holds them."""
        return [e for e in self.switch.read_entries() if e.table in ("translation", "protection")]

    def describe(self) -> dict[str, Any]:
        """The controller's condition."""
        return {
            "ready": self.ready.is_set() and self.failed is None,
            "error": None if self.failed is None else str(self.failed),
            "switch": {
                "address": self.switch.address,
                "connected": self.switch.is_connected,
                "error": self._lost_switch or None,
            },
            "tor": {"connected": self.tor.is_connected},
            "elements": len(self.state.elements),
            "processes": len(self.state.processes),
            "allocations": len(self.state.allocations),
            "operations_under_way": len(self.state.operations),
            "events_waiting": len(self._inbox),
            "statistics": dataclasses.asdict(self.statistics),
        }
