"""A client of the replicated key-value service: finds the leader, connects again, repeats; each operation takes effect once."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from types import TracebackType

import msgspec

from apps.kv.commands import Answer, Command, Kind, Status, decode_answer, encode
from apps.paxos import frames

PAUSE = 0.02  # seconds between attempts


class ServiceError(RuntimeError):
    """The service refused an operation; ``status`` says why."""

    def __init__(self, status: Status, text: str):
        super().__init__(text)
        self.status = status


class Unknown(RuntimeError):
    """It is not known whether the operation has taken effect: nobody answered in time, or the session was lost."""


class Client:
    """One session, one operation at a time. ``servers`` are addresses; one answer is waited for ``attempt`` seconds, in all
    ``budget``."""

    def __init__(self, servers: Sequence[str], *, attempt: float = 0.5, budget: float = 30.0, seed: int | None = None):
        if not servers:
            raise ValueError("no servers; at least one HOST:PORT is needed")
        for server in servers:
            frames.parse_address(server)
        self._servers, self._attempt, self._budget = list(servers), attempt, budget
        self._rng = random.Random(seed)
        self._next = self._rng.randrange(len(servers))
        self._hints: list[str] = []
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._session = 0
        self._number = 0
        self.reconnects = 0

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Hang up."""
        if self._streams is not None:
            self._streams[1].transport.abort()
            self._streams = None

    async def get(self, key: bytes) -> bytes | None:
        """The value of a key; None if there is none."""
        return (await self._do(Kind.GET, key)).value

    async def put(self, key: bytes, value: bytes) -> None:
        """Add or replace. Raises ServiceError when there is no room."""
        await self._do(Kind.PUT, key, value)

    async def delete(self, key: bytes) -> bool:
        """Remove a key; whether it was there."""
        return (await self._do(Kind.DELETE, key)).status == Status.DONE

    async def cas(self, key: bytes, expected: bytes | None, value: bytes | None) -> bool:
        """Compare and swap, None for no value; whether it was swapped."""
        return (await self._do(Kind.CAS, key, value, expected)).status == Status.DONE

    async def _do(self, kind: Kind, key: bytes, value: bytes | None = None, expected: bytes | None = None) -> Answer:
        """Carry out an operation. Raises ServiceError, Unknown."""
        if not self._session:
            opened = await self._ask(Command(0, self._rng.getrandbits(62) + 1, Kind.OPEN))
            self._session, self._number = opened.opened, 0
        self._number += 1
        answer = await self._ask(Command(self._session, self._number, kind, key, value, expected))
        if answer.status in (Status.EXPIRED, Status.STALE):
            self._session = 0
            raise Unknown(f"the session was lost before {kind.name} was answered: {answer.status.name}")
        if answer.status in (Status.FULL, Status.TOO_LARGE):
            raise ServiceError(answer.status, f"{kind.name} of {key!r} was refused: {answer.status.name}")
        return answer

    async def _ask(self, command: Command) -> Answer:
        ends = time.monotonic() + self._budget
        frame = frames.pack(encode(command))
        while time.monotonic() < ends:
            try:
                answer = await self._try(frame, command)
            except (OSError, EOFError, TimeoutError, msgspec.DecodeError):
                self._elsewhere()
            else:
                if answer.status != Status.NOT_LEADER:
                    return answer
                self._elsewhere(answer.leader)
            await asyncio.sleep(PAUSE * (0.5 + self._rng.random()))
        raise Unknown(f"no answer to {command.kind.name} in {self._budget:.0f} s")

    async def _try(self, frame: bytes, command: Command) -> Answer:
        if self._streams is None:
            server = self._hints.pop() if self._hints else self._servers[self._next % len(self._servers)]
            self._streams = await frames.dial(server, self._attempt)
            self._streams[1].write(frames.pack(frames.encode(frames.Hello(0))))
        reader, writer = self._streams
        writer.write(frame)
        async with asyncio.timeout(self._attempt):
            while True:
                answer = decode_answer(await frames.read(reader))
                if (answer.session, answer.number) == (command.session, command.number):
                    return answer

    def _elsewhere(self, leader: Sequence[str] = ()) -> None:
        """Connect to another server next time, to the leader if that is known."""
        self.close()
        self.reconnects += 1
        self._next += 1
        self._hints = list(reversed(leader))
