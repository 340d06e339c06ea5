"""A replica as a process: sockets in an event loop, the node in a thread of its own, because its memory blocks."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import random
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import msgspec

from apps.kv.commands import encode as encode_answer
from apps.paxos import frames
from apps.paxos.messages import Member, Resign, decode_message
from apps.paxos.node import Node, Output
from apps.paxos.peers import Peers
from apps.paxos.store import Store
from apps.paxos.voter import Timing
from apps.structures.memory import Full
from hosts.errors import ElementFailed, MemoryLost, PageFailed, RemoteMemoryError, RequestTimeout

log = logging.getLogger(__name__)
TICK = 0.02  # seconds
MAX_EVENTS = 1000
BURST = 256  # inputs taken before what they led to is kept
_LOST = (ElementFailed, PageFailed, MemoryLost, RequestTimeout)
T = TypeVar("T")


class Server:
    """One replica that serves. ``ended`` is done, with the reason, when it cannot go on."""

    def __init__(
        self,
        me: int,
        store: Store,
        timing: Timing,
        members: dict[int, Member],
        spares: Sequence[Member] = (),
        eager: bool = False,
        seed: int | None = None,
    ):
        self.me = me
        self._founders = tuple(members.values())
        self.node = Node(me, store, timing, random.Random(seed), time.monotonic(), spares, eager)
        self.events: deque[tuple[float, str]] = deque(maxlen=MAX_EVENTS)
        self.counts: Counter[str] = Counter()
        self.loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[str] = self.loop.create_future()
        self._inbox: queue.SimpleQueue[Callable[[float], None] | None] = queue.SimpleQueue()
        self._peers = Peers(me, self.counts)
        self._listener: asyncio.Server | None = None
        self._connections: set[asyncio.StreamWriter] = set()
        self._thread = threading.Thread(target=self._run, name=f"replica {me}", daemon=True)
        self._role, self._members = "", frozenset[int]()

    async def start(self, listen: str) -> None:
        """Serve at this address. Raises OSError."""
        host, port = frames.parse_address(listen)
        self._listener = await asyncio.start_server(self._serve, host, port)
        for member in self._founders:
            self._peers.know(member)
        self._inbox.put(lambda now: None)  # who stands for election at once does not wait for the first tick
        self._thread.start()

    async def stop(self) -> None:
        """Stop serving, with what is under way finished; the memory stays as it is."""
        if self._listener is not None:
            self._listener.close()
        self._inbox.put(None)
        await asyncio.to_thread(self._thread.join)
        await asyncio.sleep(0)  # what the thread has handed over is sent
        self._peers.close()
        for writer in list(self._connections):
            writer.transport.abort()

    def event(self, text: str) -> None:
        """Note what happened, with the time."""
        self.events.append((time.monotonic(), text))
        log.info("%s", text)

    async def call(self, function: Callable[[float], T]) -> T:
        """Have the node's thread do something. Raises what it raises, TimeoutError when the thread is busy or gone."""
        future: asyncio.Future[T] = self.loop.create_future()

        def finish(result: T | None, error: Exception | None) -> None:
            if future.done():
                return
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(result)  # type: ignore[arg-type]

        def job(now: float) -> None:
            try:
                result = function(now)
            except Exception as error:
                self.loop.call_soon_threadsafe(finish, None, error)
                if isinstance(error, RemoteMemoryError):
                    raise
                return
            self.loop.call_soon_threadsafe(finish, result, None)

        self._inbox.put(job)
        return await asyncio.wait_for(future, 10)

    def memory_lost(self, reason: str, lost: bool) -> None:
        """The memory has failed (``lost``) or was taken away: known before an access meets it. From any thread."""
        self.loop.call_soon_threadsafe(self._end, reason, lost)

    # ------------------------------------------------------------------------------------------------------ node's thread

    def _run(self) -> None:
        reason, lost = "stopped", False
        try:
            while self._round():
                pass
        except RemoteMemoryError as error:
            reason, lost = f"{type(error).__name__}: {error}", isinstance(error, _LOST)
        except Exception as error:
            log.exception("replica %d cannot go on", self.me)
            reason = f"{type(error).__name__}: {error}"
        self.loop.call_soon_threadsafe(self._end, reason, lost)

    def _round(self) -> bool:
        """Take what there is, do it, keep it, hand over what to send. False when told to stop."""
        go_on = True
        jobs: list[Callable[[float], None]] = []
        with contextlib.suppress(queue.Empty):
            job = self._inbox.get(timeout=TICK)
            while job is not None:
                jobs.append(job)
                if len(jobs) == BURST:
                    break
                job = self._inbox.get_nowait()
            go_on = job is not None
        now = time.monotonic()
        for job in jobs:
            job(now)
        self.node.tick(now)
        output = self.node.flush(now)
        if not go_on:
            with contextlib.suppress(Full):  # of the log alone: the state is kept then
                self.node.keep()
        self._note_changes()
        self.loop.call_soon_threadsafe(self._send, output)
        return go_on and not output.excluded

    def _note_changes(self) -> None:
        core = self.node.core
        if core.role != self._role:
            self._role = core.role
            self.loop.call_soon_threadsafe(
                self.event, f"{core.role} (ballot {tuple(core.promised)}, leader {core.leader})"
            )
        members = core.membership.members if core.membership is not None else {}
        if frozenset(members) != self._members and members:
            self._members = frozenset(members)
            for member in members.values():
                self.loop.call_soon_threadsafe(self._peers.know, member)
            self.loop.call_soon_threadsafe(self.event, f"members {sorted(members)}")

    # --------------------------------------------------------------------------------------------------------- event loop

    def _end(self, reason: str, lost: bool) -> None:
        if self.ended.done():
            return
        if lost:
            for member in self._members or {m.id for m in self._founders}:
                self._peers.send(member, Resign(True))
        self.event(f"ended: {reason}")
        self.ended.set_result(reason)

    def _send(self, output: Output) -> None:
        for to, message in output.messages:
            self._peers.send(to, message)
        for note in output.notes:
            self.event(note)
        for client, answer in output.answers:
            if isinstance(client, asyncio.StreamWriter) and not client.is_closing():
                client.write(frames.pack(encode_answer(answer)))
        if output.excluded:
            self._end("excluded: another replica has taken its place", False)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.add(writer)
        try:
            hello = frames.decode_hello(await frames.read(reader))
            self._peers.heard_from(hello)
            while True:
                data = await frames.read(reader)
                if hello.replica:
                    self.counts["peer bytes received"] += len(data)
                    self._inbox.put(self._delivery(hello.replica, data))
                else:
                    self._inbox.put(self._request(writer, data))
        except (OSError, EOFError, msgspec.DecodeError) as error:
            if not isinstance(error, EOFError):
                log.info("a connection ended: %s", error)
        finally:
            self._connections.discard(writer)
            writer.close()

    def _delivery(self, sender: int, data: bytes) -> Callable[[float], None]:
        message = decode_message(data)
        return lambda now: self.node.receive(sender, message, now)

    def _request(self, client: asyncio.StreamWriter, data: bytes) -> Callable[[float], None]:
        def job(now: float) -> None:
            try:
                self.node.request(client, data, now)
            except msgspec.DecodeError:
                self.loop.call_soon_threadsafe(client.close)

        return job

    # ------------------------------------------------------------------------------------------------------------- status

    async def status(self) -> dict[str, Any]:
        """What there is to know, as data."""

        def look(now: float) -> dict[str, Any]:
            core, machine = self.node.core, self.node.store.machine
            return {
                "id": self.me,
                "role": core.role,
                "leader": core.leader,
                "ballot": list(core.promised),
                "committed": core.committed,
                "applied": self.node.applied,
                "items": machine.table.space.items if machine is not None else None,
                "members": sorted(core.membership.members) if core.membership is not None else [],
                "caught_up": core.role != "joining",
                "full": core.all_caught_up(),
                "counts": {**self.node.counts, **self.counts},
                "events": list(self.events),
            }

        return await self.call(look)
