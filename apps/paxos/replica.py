"""A replica or standby as one process: its memory, its control port, and the server once it serves."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from apps.kv.bulk import load_image, preload
from apps.kv.machine import Machine
from apps.kv.pages import Pages
from apps.paxos import control, frames
from apps.paxos.control import ControlError
from apps.paxos.messages import Configuration, Member, Membership, encode, parse_member
from apps.paxos.server import Server
from apps.paxos.store import OVERHEAD, LocalStore, Make, RackStore, Store
from apps.paxos.voter import Timing
from apps.structures.memory import Counted, StructureError
from apps.structures.namespace import PathError
from hosts.errors import RemoteMemoryError
from hosts.notices import FAILURES, Contact, Notice
from hosts.process import Process, Region, Takeover
from protocol import capability
from protocol.capability import Token
from protocol.wire import NotifyCode

log = logging.getLogger(__name__)
MIB = 1 << 20
ANNOUNCE_EVERY = 1.0  # seconds
GREET_EVERY = 5.0  # seconds; hosts forget each other's addresses in some 30
TOKEN_SECONDS = 60
WATCH_SECONDS = 3600
STOPPED = "stopped"
_FAILED = (NotifyCode.ELEMENT_FAILED, NotifyCode.MEMORY_LOST, NotifyCode.PAGE_FAILED)


@dataclass(frozen=True)
class Options:
    """How to run. ``me`` is 0 for a standby; ``run_dir`` None means the ordinary way, without rack memory."""

    me: int
    listen: str
    control: str
    members: dict[int, Member]
    state_mib: int = 16
    run_dir: Path | None = None
    group: int = 0
    secret: bytes = b""
    join: bool = False
    preload_mib: int = 0
    preload_image: Path | None = None
    standbys: tuple[str, ...] = ()
    spares: tuple[Member, ...] = ()
    timing: Timing = field(default_factory=Timing)
    lead: bool = False
    cache_pages: int = 4096
    on_crash: bool = False
    watch: bool = False
    service_address: str = ""
    wait_for: Path | None = None
    ready_file: Path | None = None


@dataclass(frozen=True)
class Holding:
    """Where a replica's memory is: what a standby needs to take it."""

    replica: int
    pid: int
    va: int
    size: int


class Replica:
    """One process of the service."""

    def __init__(self, options: Options):
        self.options = options
        self.process: Process | None = None
        self._counted: Counted | None = None  # its memory
        self.server: Server | None = None
        self.holding: Holding | None = None
        self.known: dict[int, Holding] = {}  # what others have announced
        self._taking = asyncio.Lock()
        self._handed_over = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop = asyncio.Event()
        self._times: dict[str, float] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> str:
        """Serve until told to stop, or until it is not possible any more; the reason. Raises OSError, LocalOsError,
        RemoteMemoryError when it cannot even begin."""
        options = self.options
        self._loop = asyncio.get_running_loop()
        if options.run_dir is not None:
            name = f"replica {options.me}" if options.me else "standby"
            self.process = await asyncio.to_thread(Process.create, options.run_dir, name)
            self._counted = Counted(self.process)
            self.process.on_notice(self._on_notice, FAILURES)
            if options.watch:
                self.process.on_takeover(self._on_takeover)
                await asyncio.to_thread(self.process.watch, options.group, self._token(WATCH_SECONDS))
        listener = await control.serve(options.control, self._handle)
        reason = ""
        try:
            if options.me:
                store = await asyncio.to_thread(self._new_store)
                if options.wait_for is not None:
                    await self._held_back(options.wait_for)
                await self._begin(options.me, store)
            else:
                self._spawn(self._greet())
            self._ready()
            reason = await self._until_the_end()
            return reason
        finally:
            for task in self._tasks:
                task.cancel()
            listener.close()
            if self.server is not None:
                await self.server.stop()
            if self.process is not None and reason == STOPPED and not self._handed_over:
                await asyncio.to_thread(self.process.close)
            # Otherwise the process ends without closing: what is left of its memory is for its group, not to be freed.

    def stop(self) -> None:
        """Have :meth:`run` end."""
        self._stop.set()

    async def _until_the_end(self) -> str:
        stop = asyncio.create_task(self._stop.wait())
        while True:
            waiting: set[asyncio.Future[Any]] = {stop}
            if self.server is not None:
                waiting.add(self.server.ended)
            done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED, timeout=0.1)
            if stop in done:
                return STOPPED
            if self.server is not None and self.server.ended.done():
                await asyncio.sleep(0.05)  # what was said last gets out
                return self.server.ended.result()

    async def _held_back(self, file: Path) -> None:
        """The state is loaded; begin when the file is there, so that all founders can begin at the same time."""
        print(json.dumps({"loaded": "replica", **self._memory()}), flush=True)
        while not file.exists() and not self._stop.is_set():
            await asyncio.sleep(0.01)

    def _ready(self) -> None:
        line = {"ready": "replica" if self.server is not None else "standby", **self._memory()}
        print(json.dumps(line), flush=True)
        if self.options.ready_file is not None:
            self.options.ready_file.write_text(json.dumps(line) + "\n")

    def _memory(self) -> dict[str, int]:
        holding = self.holding
        if holding is not None:
            return {"pid": holding.pid, "va": holding.va, "size": holding.size}
        return {"pid": self.process.pid} if self.process is not None else {}

    # -------------------------------------------------------------------------------------------------------------- memory

    def _new_store(self) -> Store:
        """The store of a replica that begins anew."""
        options = self.options
        membership = Membership(Configuration(1, tuple(options.members.values())))
        make: Make | None = None if options.join else self._first_state(membership)
        if self.process is None or self._counted is None:
            return LocalStore(options.state_mib * MIB, make)
        region = self.process.alloc(options.state_mib * MIB + OVERHEAD, group=options.group)
        self.holding = Holding(options.me, self.process.pid, region.va, region.size)
        # A region may be larger than was asked for; states of the same size have the same pages everywhere.
        size = options.state_mib * MIB + OVERHEAD
        return RackStore.create(self._counted, region.va, size, options.me, make, membership, options.cache_pages)

    def _first_state(self, membership: Membership) -> Callable[[Pages], Machine]:
        """All founders begin with the same state, which counts as slot 1."""

        def make(pages: Pages) -> Machine:
            size, image = self.options.preload_mib * MIB, self.options.preload_image
            if image is not None:
                machine = load_image(pages, image)
            else:
                machine = preload(pages, size) if size else Machine.create(pages)
            machine.applied = 1
            machine.extra = encode(membership)
            return machine

        return make

    def _token(self, seconds: int) -> Token:
        options, process = self.options, self.process
        assert process is not None
        return capability.mint(options.secret, options.group, process.pid, int(time.time()) + seconds)

    def _steal(self, holding: Holding) -> RackStore:
        """Take another process's memory and open what is in it."""
        process, counted = self.process, self._counted
        assert process is not None
        assert counted is not None
        counted.wait()
        process.steal(Region(holding.va, holding.size), holding.pid, self._token(TOKEN_SECONDS), self.options.group)
        self._times["stolen"] = time.monotonic()
        store = RackStore.open(counted, holding.va, self.options.cache_pages)
        self.holding = Holding(store.me, process.pid, holding.va, holding.size)
        return store

    def _take_address(self, by_force: bool) -> None:
        """Have what is sent to the service address come here: as a founder or joiner, or instead of a predecessor."""
        options = self.options
        if self.process is not None and self._counted is not None and options.service_address:
            self._counted.wait()
            token = self._token(TOKEN_SECONDS) if by_force else None
            self.process.take_address(options.service_address, options.group, token)
            self._times["addressed"] = time.monotonic()

    def _on_takeover(self, takeover: Takeover) -> None:
        """A replica of the group is cut off for good. In a thread of the process API."""
        loop = self._loop
        if loop is not None and takeover.ranges:
            region = takeover.ranges[0]
            request = {"replica": 0, "pid": takeover.source, "va": region.va, "size": region.size}
            loop.call_soon_threadsafe(self._spawn, self._take_over_alone(request))

    async def _take_over_alone(self, request: dict[str, Any]) -> None:
        try:
            await self.take_over(request)
        except ControlError as error:  # another standby was faster, or this one is a replica already
            log.warning("%s", error)

    def _on_notice(self, notice: Notice) -> None:
        """Of the local OS, in a thread of the process API."""
        holding, server = self.holding, self.server
        if holding is None or server is None:
            return
        if notice.code in (NotifyCode.FENCED, *_FAILED) or holding.va <= notice.va < holding.va + holding.size:
            server.memory_lost(str(notice), notice.code in _FAILED)

    # ------------------------------------------------------------------------------------------------------------- serving

    async def _begin(self, me: int, store: Store, instead: bool = False) -> None:
        """Serve as replica ``me``; ``instead`` of another process that was it."""
        options = self.options
        server = Server(me, store, options.timing, options.members, options.spares, options.lead)
        self._times["opened"] = time.monotonic()
        await server.start(options.listen)
        self.server = server
        await asyncio.to_thread(self._take_address, instead)
        self._times["serving"] = time.monotonic()
        if self.process is not None and options.standbys:
            contacts = []
            for address in options.standbys:
                host, _, port = address.rpartition(":")
                contacts.append(Contact(host, int(port)))
            self.process.set_contacts(contacts)
            self._spawn(self._announce())

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _greet(self) -> None:
        """A standby connects to the members again and again, so that addresses are known when it takes over: to ask for them
        then takes up to 0.1 s."""
        hello = frames.pack(frames.encode(frames.Hello(0)))
        while self.server is None:
            for address in (a for member in self.options.members.values() for a in member.addresses):
                with contextlib.suppress(OSError, TimeoutError):
                    _, writer = await frames.dial(address, 1.0)
                    writer.write(hello)
                    writer.close()
            await asyncio.sleep(GREET_EVERY)

    async def _announce(self) -> None:
        """Tell standbys where this replica's memory is, again and again: they may come later."""
        assert self.holding is not None
        request = {"announce": asdict(self.holding)}
        while True:
            for address in self.options.standbys:
                with contextlib.suppress(OSError, TimeoutError, ControlError):
                    await control.ask(address, request, 1.0)
            await asyncio.sleep(ANNOUNCE_EVERY)

    # ------------------------------------------------------------------------------------------------------------- control

    async def _handle(self, request: dict[str, Any]) -> dict[str, Any]:
        if "announce" in request:
            holding = _holding(request["announce"])
            self.known[holding.replica] = holding
            return {"ok": True}
        if request.get("event") == "process_crashed":
            return await self._on_crash(request)
        if "code" in request:  # a failure of a replica's memory: the replica itself says so to its peers
            return {"ok": True}
        match request.get("do"):
            case "status":
                return await self._status()
            case "take_over":
                return await self.take_over(request)
            case "replace":
                return await self._replace(request)
            case "hand_over":
                return await self._hand_over()
            case "stop":
                self.stop()
                return {"ok": True}
        raise ControlError(
            f"{request.get('do')!r} cannot be done; expected status, take_over, replace, hand_over or stop"
        )

    async def _status(self) -> dict[str, Any]:
        status: dict[str, Any] = {"id": self.options.me, "role": "standby", "known": sorted(self.known)}
        if self.server is not None and self.server.ended.done():
            status = {"id": self.server.me, "role": "ended", "reason": self.server.ended.result()}
        elif self.server is not None:
            status = await self.server.status()
        memory = self.process.statistics() if self.process is not None else {}
        trips = self._counted.round_trips if self._counted is not None else 0
        known = {**self._memory(), "statistics": memory, "round_trips": trips}
        return {**status, "memory": known, "times": self._times}

    async def _on_crash(self, request: dict[str, Any]) -> dict[str, Any]:
        """A local OS says that a process has crashed whose emergency contact this is."""
        found = next((h for h in self.known.values() if h.pid == request.get("pid")), None)
        if found is None or not self.options.on_crash or self.server is not None:
            return {"ok": False}
        return await self.take_over({"replica": found.replica})

    async def take_over(self, request: dict[str, Any]) -> dict[str, Any]:
        """Become the replica whose memory this is. Raises ControlError."""
        async with self._taking:
            if self.process is None or not self.options.secret:
                raise ControlError("only a standby with rack memory and a secret can take over")
            if self.server is not None:
                raise ControlError(f"this process is replica {self.server.me} already")
            replica = request.get("replica")
            known = self.known.get(replica) if isinstance(replica, int) else None
            if "va" in request:
                known = _holding(request)
            if known is None:
                raise ControlError(
                    f"nothing is known of the memory of replica {replica!r}; known are {sorted(self.known)}"
                )
            self._times["asked"] = time.monotonic()
            try:
                store = await asyncio.to_thread(self._steal, known)
            except (RemoteMemoryError, StructureError, PathError) as error:
                self.holding = None
                raise ControlError(f"the memory of replica {known.replica} cannot be taken over: {error}") from None
            try:
                await self._begin(store.me, store, instead=True)
            except (RemoteMemoryError, OSError) as error:
                raise ControlError(f"replica {store.me} cannot be served here: {error}") from None
        log.info("took over replica %d: %s", store.me, self._times)
        return {"ok": True, "times": self._times, **self._memory()}

    async def _replace(self, request: dict[str, Any]) -> dict[str, Any]:
        server = self._serving()
        try:
            remove, add = int(request["remove"]), parse_member(str(request["add"]))
        except (KeyError, ValueError, TypeError) as error:
            raise ControlError(f'expected {{"remove": ID, "add": "ID=HOST:PORT"}}: {error}') from None

        def do(now: float) -> None:
            core = server.node.core
            if not core.is_leader or core.membership is None:
                raise ControlError(f"replica {server.me} is not the leader; replica {core.leader} may be")
            if remove not in core.membership.current.ids or add.id in core.membership.members:
                raise ControlError(f"the members are {sorted(core.membership.members)}")
            server.node.reconfigure(remove, add, now)

        await server.call(do)
        return {"ok": True}

    async def _hand_over(self) -> dict[str, Any]:
        """Stop serving with all of the state kept, so that a standby has nothing to replay."""
        server = self._serving()
        self._handed_over = True
        await server.stop()
        return {"ok": True, **self._memory()}

    def _serving(self) -> Server:
        if self.server is None or self.server.ended.done():
            raise ControlError("this process does not serve")
        return self.server


def _holding(data: Any) -> Holding:
    try:
        return Holding(*(int(data[k]) for k in ("replica", "pid", "va", "size")))
    except (KeyError, TypeError, ValueError) as error:
        raise ControlError(f"expected replica, pid, va and size as numbers: {error!r}") from None
