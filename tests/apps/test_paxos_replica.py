"""A replica's process and its standby on memory that changes hands, over the loopback interface, without a rack."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from apps.paxos.client import Client
from apps.paxos.control import ControlError, ask
from apps.paxos.messages import Member
from apps.paxos.replica import STOPPED, Options, Replica
from apps.paxos.voter import Timing
from hosts.errors import BadCapability, PermissionDenied
from hosts.notices import Contact, Notice
from hosts.process import Process, Region, Takeover
from protocol.capability import Token, token_is_genuine
from protocol.wire import NotifyCode, Op
from tests.apps.fake import PAGE, FakeMemory
from tests.apps.test_paxos_processes import free_ports

GROUP, SECRET = 7, bytes(range(16))
TIMING = Timing(heartbeat=0.05, election=0.4, retransmit=0.1)
PAGES = 3 * 2500


class FakeRack:
    """Memory with owners, processes, and who watches."""

    def __init__(self) -> None:
        self.memory = FakeMemory(PAGES)
        self.next = self.memory.base
        self.owner: dict[int, int] = {}
        self.processes: list[FakeProcess] = []
        self.address: dict[str, int] = {}

    def create(self, run_dir: Path, name: str) -> FakeProcess:
        process = FakeProcess(self, len(self.processes) + 1)
        self.processes.append(process)
        return process

    def crashed(self, pid: int) -> None:
        """Tell who stands by."""
        regions = tuple(Region(va, size) for va, size in self.sizes.items() if self.owner[va] == pid)
        for process in self.processes:
            for callback in process.takeovers:
                callback(Takeover(pid, GROUP, regions))

    @property
    def sizes(self) -> dict[int, int]:
        return dict.fromkeys(self.owner, PAGES // 3 * PAGE)


class FakeProcess:
    """What a replica needs of ``hosts.process.Process``."""

    def __init__(self, rack: FakeRack, pid: int):
        self.rack, self.pid = rack, pid
        self.notices: list[Callable[[Notice], None]] = []
        self.takeovers: list[Callable[[Takeover], None]] = []
        self.contacts: list[Contact] = []
        self.closed = False

    def _mine(self, va: int) -> FakeMemory:
        start = max(start for start in self.rack.owner if start <= va)
        if self.rack.owner[start] != self.pid:
            raise PermissionDenied(Op.WRITE, va, self.pid, 1, "switch")
        return self.rack.memory

    def read(self, va: int, length: int) -> bytes:
        return self._mine(va).read(va, length)

    def write(self, va: int, data: bytes) -> None:
        self._mine(va).write(va, data)

    def write_all(self, writes: list[tuple[int, bytes]]) -> None:
        for va, data in writes:
            self.write(va, data)

    def alloc(self, size: int, *, group: int) -> Region:
        assert (group, size <= PAGES // 3 * PAGE) == (GROUP, True)
        region = Region(self.rack.next, PAGES // 3 * PAGE)
        self.rack.next += region.size
        self.rack.owner[region.va] = self.pid
        return region

    def steal(self, region: Region, source: int, token: Token, group: int) -> None:
        if not token_is_genuine(token, SECRET, group, self.pid):
            raise BadCapability(Op.STEAL, region.va, self.pid, 1, "controller")
        assert self.rack.owner[region.va] == source
        self.rack.owner[region.va] = self.pid

    def take_address(self, address: str, group: int, token: Token | None) -> None:
        holder = self.rack.address.get(address)
        if holder is not None and (token is None or not token_is_genuine(token, SECRET, group, self.pid)):
            raise BadCapability(Op.TAKE_ADDRESS, 0, self.pid, 1, "controller")
        self.rack.address[address] = self.pid

    def watch(self, group: int, token: Token) -> int:
        assert token_is_genuine(token, SECRET, group, self.pid)
        return 1

    def on_notice(self, callback: Callable[[Notice], None], codes: object) -> None:
        self.notices.append(callback)

    def on_takeover(self, callback: Callable[[Takeover], None]) -> None:
        self.takeovers.append(callback)

    def set_contacts(self, contacts: list[Contact]) -> None:
        self.contacts = contacts

    def statistics(self) -> dict[str, int]:
        return {}

    def close(self) -> None:
        self.closed = True


class Site:
    """Replica 1 on rack memory, 2 and 3 ordinary, and a standby, in one event loop."""

    def __init__(self, rack: FakeRack) -> None:
        self.rack = rack
        ports = free_ports(8)
        self.serve = [f"127.0.0.1:{p}" for p in ports[:4]]
        self.control = [f"127.0.0.1:{p}" for p in ports[4:]]
        one = Member(
            1, (self.serve[0], self.serve[3])
        )  # without a service address to move, the standby's is tried, too
        self.members = {1: one, 2: Member(2, (self.serve[1],)), 3: Member(3, (self.serve[2],))}
        self.replicas: dict[str, Replica] = {}
        self.runs: dict[str, asyncio.Task[str]] = {}

    def start(self, name: str, number: int, me: int, **options: Any) -> Replica:
        whole: dict[str, Any] = {
            "me": me,
            "listen": self.serve[number],
            "control": self.control[number],
            "members": self.members,
            "state_mib": 2,
            "timing": TIMING,
            **options,
        }
        made = self.replicas[name] = Replica(Options(**whole))
        self.runs[name] = asyncio.create_task(made.run())
        return made

    def on_rack(self, **options: Any) -> dict[str, Any]:
        return {
            "run_dir": Path("/nowhere"),
            "group": GROUP,
            "secret": SECRET,
            "service_address": "10.0.255.16",
            **options,
        }

    async def status(self, number: int) -> dict[str, Any]:
        return await ask(self.control[number], {"do": "status"}, 60)

    async def until(self, number: int, condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        async with asyncio.timeout(120):
            while True:
                with contextlib.suppress(OSError, ControlError):
                    status = await self.status(number)
                    if condition(status):
                        return status
                await asyncio.sleep(0.05)


@pytest.fixture
def fake_rack(monkeypatch: pytest.MonkeyPatch) -> FakeRack:
    rack = FakeRack()
    monkeypatch.setattr(Process, "create", rack.create)
    return rack


@contextlib.asynccontextmanager
async def running(rack: FakeRack, **standby: Any) -> AsyncIterator[Site]:
    site = Site(rack)
    site.start("standby", 3, 0, **site.on_rack(**standby))
    await site.until(3, lambda s: s["role"] == "standby")
    site.start("one", 0, 1, lead=True, standbys=(site.control[3],), **site.on_rack())
    site.start("two", 1, 2)
    site.start("three", 2, 3)
    await site.until(0, lambda s: s["role"] == "leader")
    try:
        yield site
    finally:
        for replica in site.replicas.values():
            replica.stop()
        await asyncio.gather(*site.runs.values())


def test_a_running_leader_is_robbed_by_the_standby_that_it_told_of_its_memory(fake_rack: FakeRack) -> None:
    async def scenario() -> None:
        async with running(fake_rack) as site, Client(site.serve) as client:
            await client.put(b"k", b"before")
            await site.until(3, lambda s: s["known"] == [1])
            with pytest.raises(ControlError, match="nothing is known of the memory of replica 2"):
                await ask(site.control[3], {"do": "take_over", "replica": 2})
            told = await ask(site.control[3], {"do": "take_over", "replica": 1})
            times = told["times"]
            assert times["asked"] <= times["stolen"] <= times["opened"] <= times["addressed"] <= times["serving"]
            assert fake_rack.address["10.0.255.16"] == told["pid"]
            reason = await asyncio.wait_for(site.runs["one"], 60)
            assert "PermissionDenied" in reason
            assert not fake_rack.processes[1].closed, "what it had is not freed"
            assert await client.get(b"k") == b"before"
            assert await client.cas(b"k", b"before", b"after")
            status = await site.until(3, lambda s: s["applied"] > 3)
            assert (status["id"], status["members"]) == (1, [1, 2, 3])
            assert status["memory"]["round_trips"] > 5, "theft, address, reads of what is there, writes"
            with pytest.raises(ControlError, match="is replica 1 already"):
                await ask(site.control[3], {"do": "take_over", "replica": 1})

    asyncio.run(scenario())


@pytest.mark.parametrize("by", ["watch", "contact"])
def test_a_standby_takes_over_by_itself(fake_rack: FakeRack, by: str) -> None:
    async def scenario() -> None:
        async with running(fake_rack, watch=by == "watch", on_crash=True) as site, Client(site.serve) as client:
            await client.put(b"k", b"v")
            await site.until(3, lambda s: s["known"] == [1])
            assert fake_rack.processes[1].contacts == [Contact("127.0.0.1", int(site.control[3].rpartition(":")[2]))]
            await ask(site.control[0], {"do": "hand_over"})
            assert await asyncio.wait_for(site.runs["one"], 60) == STOPPED
            assert not fake_rack.processes[1].closed
            if by == "watch":
                fake_rack.crashed(fake_rack.processes[1].pid)
            else:
                assert await ask(site.control[3], {"pid": 99, "event": "process_crashed"}) == {"ok": False}
                await ask(site.control[3], {"pid": fake_rack.processes[1].pid, "event": "process_crashed"})
            await site.until(3, lambda s: s["id"] == 1)
            assert await client.get(b"k") == b"v"

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("code", "lost"), [(NotifyCode.ELEMENT_FAILED, True), (NotifyCode.FENCED, False), (NotifyCode.STOLEN, False)]
)
def test_a_notice_ends_a_replica_before_it_meets_its_memory(fake_rack: FakeRack, code: NotifyCode, lost: bool) -> None:
    """Its peers are told when its memory is lost, so that they need not wait; not when another goes on in its place."""

    async def scenario() -> None:
        async with running(fake_rack) as site, Client(site.serve) as client:
            await client.put(b"k", b"v")
            holding = site.replicas["one"].holding
            assert holding is not None
            for elsewhere in (NotifyCode.STOLEN, NotifyCode.REVOKED):
                fake_rack.processes[1].notices[0](Notice(elsewhere, 1, holding.va + holding.size, 1))
            await asyncio.sleep(0.1)
            assert not site.runs["one"].done()
            fake_rack.processes[1].notices[0](Notice(code, 101, holding.va + PAGE, 1))
            assert code.name in await asyncio.wait_for(site.runs["one"], 60)
            assert await client.get(b"k") == b"v"
            events = [t for n in (1, 2) for _, t in (await site.status(n))["events"]]
            assert ("replica 1 resigned, its memory lost" in events) == lost

    asyncio.run(scenario())


def test_what_cannot_be_taken_over(fake_rack: FakeRack) -> None:
    async def scenario() -> None:
        async with running(fake_rack, secret=bytes(16)) as site:
            await site.until(3, lambda s: s["known"] == [1])
            with pytest.raises(ControlError, match="cannot be taken over"):
                await ask(site.control[3], {"do": "take_over", "replica": 1})
            assert (await site.status(3))["role"] == "standby"
            assert (await site.status(0))["role"] == "leader"

    asyncio.run(scenario())


def test_a_replica_that_is_stopped_frees_its_memory(fake_rack: FakeRack) -> None:
    async def scenario() -> None:
        async with running(fake_rack):
            pass

    asyncio.run(scenario())
    assert fake_rack.processes[1].closed
