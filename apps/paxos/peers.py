"""Connections to the other replicas: dialled by the one who has something to say, dialled again when they break."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections import Counter, deque

from apps.paxos import frames
from apps.paxos.messages import Member, Message, encode

log = logging.getLogger(__name__)
PAUSE = 0.03  # seconds before a replica that cannot be reached is dialled again
TIMEOUT = 0.3  # seconds for a connection to be made
MAX_QUEUE = 2000  # messages; the protocol repeats what matters


class Peers:
    """Sends messages to replicas by identity. Lives in one event loop."""

    def __init__(self, me: int, counts: Counter[str]):
        self.me = Member(me)
        self.incarnation = secrets.randbits(62)
        self.counts = counts
        self._links: dict[int, _Link] = {}
        self._incarnations: dict[int, int] = {}

    def know(self, member: Member) -> None:
        """Where a replica, or this one itself, can be reached."""
        if member.id == self.me.id:
            self.me = member
            return
        link = self._links.get(member.id)
        if not member.addresses or (link is not None and link.member == member):
            return
        if link is not None:
            link.close()
        self._links[member.id] = _Link(self, member)

    def hello(self) -> bytes:
        """What this replica says first."""
        return frames.pack(frames.encode(frames.Hello(self.me.id, self.incarnation, self.me.addresses)))

    def heard_from(self, hello: frames.Hello) -> None:
        """A replica has dialled. One that was not known can be answered; of one that is another process than before, connections
        to its predecessor lead nowhere."""
        if not hello.replica:
            return
        known = self._incarnations.get(hello.replica)
        self._incarnations[hello.replica] = hello.incarnation
        link = self._links.get(hello.replica)
        if link is None:
            self.know(Member(hello.replica, hello.addresses))
        elif link is not None and known not in (None, hello.incarnation):
            link.redial()

    def send(self, to: int, message: Message) -> None:
        """Send a message, or lose it."""
        link = self._links.get(to)
        if link is not None:
            link.send(frames.pack(encode(message)))

    def close(self) -> None:
        """Hang up."""
        for link in self._links.values():
            link.close()
        self._links.clear()


class _Link:
    def __init__(self, peers: Peers, member: Member):
        self.member = member
        self._peers = peers
        self._writer: asyncio.StreamWriter | None = None
        self._queue: deque[bytes] = deque(maxlen=MAX_QUEUE)
        self._filled = asyncio.Event()
        self._task = asyncio.get_running_loop().create_task(self._run())

    def send(self, data: bytes) -> None:
        self._queue.append(data)
        self._filled.set()

    def close(self) -> None:
        self._task.cancel()

    def redial(self) -> None:
        if self._writer is not None:
            self._writer.transport.abort()

    async def _run(self) -> None:
        attempt = 0
        while True:
            await self._filled.wait()
            try:
                reader, writer = await frames.dial(self.member.addresses[attempt % len(self.member.addresses)], TIMEOUT)
            except (OSError, TimeoutError):
                attempt += 1
                self._queue.clear()  # what is old by then is worth nothing
                self._filled.clear()
                await asyncio.sleep(PAUSE)
                continue
            log.info(
                "connected to replica %d at %s",
                self.member.id,
                self.member.addresses[attempt % len(self.member.addresses)],
            )
            self._writer = writer
            try:
                await self._talk(reader, writer)
            except (OSError, TimeoutError) as error:
                log.info("replica %d hung up: %s", self.member.id, error)
            finally:
                self._writer = None
                writer.transport.abort()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(self._peers.hello())
        ended = asyncio.create_task(reader.read(1))  # nothing is ever said on it: it ends with the connection
        filled: asyncio.Task[bool] | None = None
        try:
            while not ended.done():
                while self._queue:
                    data = self._queue.popleft()
                    self._peers.counts["peer messages sent"] += 1
                    self._peers.counts["peer bytes sent"] += len(data)
                    writer.write(data)
                self._filled.clear()
                await writer.drain()
                filled = asyncio.create_task(self._filled.wait())
                await asyncio.wait((ended, filled), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (ended, filled):
                if task is not None:
                    task.cancel()
                    with contextlib.suppress(asyncio.CancelledError, OSError):
                        await task
