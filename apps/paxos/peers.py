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
        self._hello = frames.Hello(me, secrets.randbits(62))
        self.counts = counts
        self._links: dict[int, _Link] = {}
        self._incarnations: dict[int, int] = {}

    def set_members(self, members: dict[int, Member]) -> None:
        """Whom to talk to."""
        for number, link in list(self._links.items()):
            if number not in members or members[number].addresses != link.addresses:
                self._links.pop(number).close()
        for number, member in members.items():
            if number != self._hello.replica and number not in self._links and member.addresses:
                self._links[number] = _Link(self._hello, member, self.counts)

    def heard_from(self, hello: frames.Hello) -> None:
        """A replica has dialled. Another process than before: connections to its predecessor lead nowhere."""
        known = self._incarnations.get(hello.replica)
        self._incarnations[hello.replica] = hello.incarnation
        link = self._links.get(hello.replica)
        if link is not None and known not in (None, hello.incarnation):
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
    def __init__(self, hello: frames.Hello, member: Member, counts: Counter[str]):
        self.addresses = member.addresses
        self._hello = frames.pack(frames.encode(hello))
        self._name, self._counts = member.id, counts
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
                reader, writer = await frames.dial(self.addresses[attempt % len(self.addresses)], TIMEOUT)
            except (OSError, TimeoutError):
                attempt += 1
                self._queue.clear()  # what is old by then is worth nothing
                self._filled.clear()
                await asyncio.sleep(PAUSE)
                continue
            log.info("connected to replica %d at %s", self._name, self.addresses[attempt % len(self.addresses)])
            self._writer = writer
            try:
                await self._talk(reader, writer)
            except (OSError, TimeoutError) as error:
                log.info("replica %d hung up: %s", self._name, error)
            finally:
                self._writer = None
                writer.transport.abort()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(self._hello)
        ended = asyncio.create_task(reader.read(1))  # nothing is ever said on it: it ends with the connection
        filled: asyncio.Task[bool] | None = None
        try:
            while not ended.done():
                while self._queue:
                    data = self._queue.popleft()
                    self._counts["peer messages sent"] += 1
                    self._counts["peer bytes sent"] += len(data)
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
