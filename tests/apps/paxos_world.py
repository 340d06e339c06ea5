"""Replicas and clients in simulated time: the network loses, doubles and reorders; replicas die at any request to memory, are
resumed from it, robbed of it while they run, or replaced. Everything follows from the seed."""

from __future__ import annotations

import heapq
import itertools
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest

from apps.kv.commands import Answer, Command, Kind, Status, encode
from apps.kv.machine import Machine
from apps.kv.pages import Pages
from apps.paxos import node as node_module
from apps.paxos import store as store_module
from apps.paxos import transfer as transfer_module
from apps.paxos.messages import Configuration, Entry, Member, Membership, Message, decode_message
from apps.paxos.messages import encode as encode_message
from apps.paxos.node import Node
from apps.paxos.store import OVERHEAD, LocalStore, RackStore, Store
from apps.paxos.voter import Timing
from experiments.kv_history import KvOperation, check
from tests.apps.fake import PAGE, FakeMemory, Stolen

STATE_PAGES = 64
TICK = 0.02
TIMING = Timing(heartbeat=0.05, election=0.3, retransmit=0.08, replace=0.0)


@pytest.fixture
def tight(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limits so small that a short run keeps its state, begins logs anew, forgets entries and transfers in many parts."""
    monkeypatch.setattr(store_module, "KEEP_DIRTY", 6)
    monkeypatch.setattr(store_module, "KEEP_LOG", 4096 + 3000)
    monkeypatch.setattr(node_module, "KEEP_SLOTS", 20)
    monkeypatch.setattr(transfer_module, "PART_PAGES", 3)


@dataclass(frozen=True)
class Faults:
    """Shares of messages, and seconds."""

    loss: float = 0.0
    copies: float = 0.0
    delay: float = 0.005
    slow: float = 0.0  # share of messages that take up to a second


class Owned:
    """A memory as one owner sees it, until it belongs to the next."""

    def __init__(self, memory: FakeMemory, owners: list[int]):
        self._memory, self._owners = memory, owners
        owners[0] += 1
        self._me = owners[0]

    def _check(self) -> FakeMemory:
        if self._owners[0] != self._me:
            raise Stolen
        return self._memory

    def read(self, va: int, length: int) -> bytes:
        return self._check().read(va, length)

    def write(self, va: int, data: bytes) -> None:
        self._check().write(va, data)

    def write_all(self, writes: Sequence[tuple[int, bytes]]) -> None:
        self._check().write_all(writes)

    def checksums(self, va: int, length: int) -> list[int]:
        return self._check().checksums(va, length)


@dataclass
class Host:
    """A replica's process; ``memory`` outlives it. A zombie has been robbed and does not know."""

    me: int
    node: Node
    memory: FakeMemory | None
    owners: list[int] = field(default_factory=lambda: [0])


class World:
    """``rack`` replicas keep everything in memory that can be opened again; others forget."""

    def __init__(
        self, seed: int, faults: Faults, *, rack: bool = True, replicas: int = 3, spares: int = 0, clients: int = 3
    ):
        self.rng = random.Random(seed)
        self.faults, self.rack = faults, rack
        self.now = 0.0
        self.members = tuple(Member(i) for i in range(1, replicas + 1))
        self.spares = tuple(Member(replicas + 1 + i) for i in range(spares))
        self.membership = Membership(Configuration(1, self.members))
        self.hosts: dict[int, Host] = {}
        self.zombies: list[Host] = []
        self.dead: dict[int, Host] = {}
        self.decided: dict[int, Entry] = {}
        self.excluded: set[int] = set()
        self.history: list[KvOperation] = []
        self.cut: set[tuple[int, int]] = set()
        self.timing = TIMING
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        for member in self.members:
            self.begin(member.id)
        self.clients = [SimClient(self, n) for n in range(clients)]
        self.at(TICK, self._tick)

    # ---------------------------------------------------------------------------------------------------------------- time

    def at(self, delay: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.now + delay, next(self._order), action))

    def run(self, seconds: float, until: Callable[[], bool] = lambda: False) -> bool:
        end = self.now + seconds
        while self._events and self._events[0][0] <= end:
            self.now, _, action = heapq.heappop(self._events)
            action()
            if until():
                return True
        self.now = end
        return until()

    def _tick(self) -> None:
        for host in [*self.hosts.values(), *self.zombies]:
            self._do(host, lambda node: node.tick(self.now))
        self.at(TICK, self._tick)

    # ------------------------------------------------------------------------------------------------------------ replicas

    def _first_state(self, pages: Pages) -> Machine:
        machine = Machine.create(pages)
        machine.applied = 1
        machine.extra = encode_message(self.membership)
        return machine

    def _node(self, me: int, store: Store) -> Node:
        node = Node(me, store, self.timing, random.Random(self.rng.random()), self.now, self.spares)
        apply = node._apply

        def checked(slot: int, entry: Entry) -> None:
            assert self.decided.setdefault(slot, entry) == entry, f"slot {slot} has been decided twice"
            apply(slot, entry)

        node._apply = checked  # type: ignore[method-assign]
        return node

    def begin(self, me: int, join: bool = False) -> None:
        """A new replica."""
        make = None if join else self._first_state
        if self.rack:
            memory = FakeMemory(STATE_PAGES + OVERHEAD // PAGE)
            owners = [0]
            owned = Owned(memory, owners)
            store: Store = RackStore.create(owned, memory.base, len(memory.bytes), me, make, self.membership, cache=8)
            self.hosts[me] = Host(me, self._node(me, store), memory, owners)
        else:
            self.hosts[me] = Host(me, self._node(me, LocalStore(STATE_PAGES * PAGE, make)), None)

    def kill(self, me: int, requests: int | None = None) -> None:
        """A replica dies, now or after so many more requests to its memory."""
        host = self.hosts[me]
        if requests is None or host.memory is None:
            self.dead[me] = self.hosts.pop(me)
        else:
            host.memory.rob_after(requests, self.rng.getrandbits(32))

    def resume(self, me: int, rob_after: int | None = None) -> None:
        """Another process opens the memory of a replica, dead or running, and goes on as that replica. It may die of it."""
        host = self.dead.pop(me, None) or self.hosts.pop(me)
        assert host.memory is not None
        if me not in self.dead:
            self.zombies.append(host)
        memory = host.memory
        memory.give_to_the_next()
        owned = Owned(memory, host.owners)
        if rob_after is not None:
            memory.rob_after(rob_after, self.rng.getrandbits(32))
        try:
            store = RackStore.open(owned, memory.base, cache=8)
            assert store.me == me
            node = self._node(me, store)
        except Stolen:
            self.dead[me] = Host(me, host.node, memory, host.owners)
            return
        self.hosts[me] = Host(me, node, memory, host.owners)

    def _do(self, host: Host, action: Callable[[Node], None]) -> None:
        """Let a replica do something, and send what comes of it; it may die."""
        try:
            action(host.node)
            output = host.node.flush(self.now)
        except Stolen:
            if self.hosts.get(host.me) is host:
                self.dead[host.me] = self.hosts.pop(host.me)
            if host in self.zombies:
                self.zombies.remove(host)
            return
        for to, message in output.messages:
            self._send(host.me, to, message)
        for client, answer in output.answers:
            if not self._lost():
                self.at(self._delay(), lambda c=client, a=answer: c.answered(a))  # type: ignore[misc]
        if output.excluded:
            self.excluded.add(host.me)
            if self.hosts.get(host.me) is host:
                del self.hosts[host.me]

    # ------------------------------------------------------------------------------------------------------------- network

    def _lost(self) -> bool:
        return self.rng.random() < self.faults.loss

    def _delay(self) -> float:
        return self.rng.random() * (1.0 if self.rng.random() < self.faults.slow else self.faults.delay)

    def _send(self, sender: int, to: int, message: Message) -> None:
        data = encode_message(message)
        for _ in range(1 + (self.rng.random() < self.faults.copies)):
            if not self._lost() and (sender, to) not in self.cut:
                self.at(self._delay(), lambda: self._deliver(sender, to, data))

    def _deliver(self, sender: int, to: int, data: bytes) -> None:
        for host in [h for h in (self.hosts.get(to), *self.zombies) if h is not None and h.me == to]:
            self._do(host, lambda node: node.receive(sender, decode_message(data), self.now))

    def request(self, to: int, client: SimClient, data: bytes) -> None:
        """A client's frame, to the replica or, as an old connection would, to one that was robbed."""
        if self._lost():
            return
        hosts = [h for h in (self.hosts.get(to), *self.zombies) if h is not None and h.me == to]
        if hosts:
            host = self.rng.choice(hosts)
            self.at(self._delay(), lambda: self._do(host, lambda node: node.request(client, data, self.now)))

    # -------------------------------------------------------------------------------------------------------------- verdict

    def leader(self) -> Node | None:
        leaders = [h.node for h in self.hosts.values() if h.node.core.is_leader]
        return max(leaders, key=lambda n: n.core.promised) if leaders else None

    def settle(self, seconds: float = 30.0) -> None:
        """Heal everything, resume the dead; the service has to answer again and all replicas to agree."""
        self.faults, self.cut = Faults(), set()
        for host in self.hosts.values():
            if host.memory is not None:
                host.memory.requests_left = None
        if self.rack:
            for me in list(self.dead):
                if me not in self.excluded:
                    self.resume(me)
        before = len(self.history)
        assert self.run(seconds, lambda: len(self.history) > before + 3 * len(self.clients)), (
            "the service does not answer"
        )
        for client in self.clients:
            client.stopped = True
        assert self.run(seconds, self._agree), (
            f"the replicas do not agree: {[h.node.applied for h in self.hosts.values()]}"
        )

    def _agree(self) -> bool:
        leader = self.leader()
        if leader is None or leader.core.membership is None or leader.core.queue or leader.core.leading.in_flight:
            return False
        nodes = [self.hosts[m].node for m in leader.core.membership.members if m in self.hosts]
        return all(n.applied == leader.applied and n.store.machine is not None for n in nodes)

    def check(self) -> None:
        """Every replica has the same items, and the history is linearizable."""
        open_ones = [o for client in self.clients for o in client.unfinished()]
        assert check([*self.history, *open_ones]) == []
        leader = self.leader()
        assert leader is not None
        contents = [
            dict(h.node.store.machine.table.items())
            for h in self.hosts.values()
            if h.node.store.machine is not None and h.node.applied == leader.applied
        ]
        assert len(contents) > 1
        assert all(c == contents[0] for c in contents)


class SimClient:
    """One session, one operation at a time, repeated until it is answered."""

    ATTEMPT = 0.2

    def __init__(self, world: World, number: int):
        self.world, self.name = world, f"client {number}"
        self.rng = random.Random(world.rng.random())
        self.session = self.number = self.serial = 0
        self.stopped = False
        self.target = 1
        self.command: Command | None = None
        self.called = 0.0
        self.attempt = 0
        self._seen: dict[bytes, bytes | None] = {}
        world.at(0.1 * self.rng.random(), self.next)

    def next(self) -> None:
        if self.stopped:
            return
        if not self.session:
            self.command = Command(0, self.rng.getrandbits(62) + 1, Kind.OPEN)
        else:
            self.number += 1
            self.serial += 1
            key = b"key %d" % self.rng.randrange(4)
            value: bytes | None = b"%s/%d" % (self.name.encode(), self.serial)
            if self.rng.random() < 0.1:
                value = value + bytes(self.rng.randrange(1500)) if value is not None else None
            kind = self.rng.choice((Kind.GET, Kind.GET, Kind.PUT, Kind.PUT, Kind.DELETE, Kind.CAS, Kind.CAS))
            if kind == Kind.CAS:
                new = value if self.rng.random() < 0.9 else None
                self.command = Command(self.session, self.number, kind, key, new, self._seen.get(key))
            else:
                self.command = Command(self.session, self.number, kind, key, value if kind == Kind.PUT else None)
        self.called = self.world.now
        self._try()

    def _try(self) -> None:
        if self.command is None:
            return
        self.attempt += 1
        attempt = self.attempt
        self.world.request(self.target, self, encode(self.command))
        self.world.at(self.ATTEMPT, lambda: self._timed_out(attempt))

    def _timed_out(self, attempt: int) -> None:
        if attempt == self.attempt and self.command is not None:
            self.target = self.rng.choice(list(self.world.hosts) or [1])
            self._try()

    def answered(self, answer: Answer) -> None:
        command = self.command
        if command is None or (answer.session, answer.number) != (command.session, command.number):
            return
        if answer.status == Status.NOT_LEADER:
            leader = self.world.leader()
            self.target = leader.me if leader is not None and self.rng.random() < 0.8 else self.rng.choice([1, 2, 3])
            attempt = self.attempt
            self.world.at(0.05, lambda: self._retry(attempt))
            return
        self.command = None
        if command.kind == Kind.OPEN:
            self.session, self.number = answer.opened, 0
        elif answer.status in (Status.EXPIRED, Status.STALE):
            self.world.history.append(self._operation(command, None, math.inf))
            self.session = 0
        else:
            self._seen[command.key] = answer.value if command.kind == Kind.GET else command.value
            self.world.history.append(self._operation(command, answer, self.world.now))
        self.world.at(0.01 * self.rng.random(), self.next)

    def _retry(self, attempt: int) -> None:
        if attempt == self.attempt:
            self._try()

    def unfinished(self) -> list[KvOperation]:
        command = self.command
        return [] if command is None or command.kind == Kind.OPEN else [self._operation(command, None, math.inf)]

    def _operation(self, command: Command, answer: Answer | None, returned: float) -> KvOperation:
        kind = {Kind.GET: "get", Kind.PUT: "put", Kind.DELETE: "delete", Kind.CAS: "cas"}[command.kind]
        arguments = {Kind.PUT: (command.value,), Kind.CAS: (command.expected, command.value)}.get(command.kind, ())
        result: str | bool | None = None
        if answer is not None:
            result = _text(answer.value) if command.kind == Kind.GET else answer.status == Status.DONE
        key, texts = command.key.decode(), tuple(map(_text, arguments))
        return KvOperation(self.name, kind, key, texts, result, self.called, returned)  # type: ignore[arg-type]


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode()
