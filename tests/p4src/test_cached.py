"""Cached translations, in packets: real switch, real memory elements, the controller's own table writes and page-table changes.

No access by a stale or forged translation is carried out, however late it comes; a right one is. And what each of the two
enforcements refuses when the other one lets everything pass.
"""

from __future__ import annotations

import itertools
import random
from collections import Counter, defaultdict
from dataclasses import dataclass, field

import pytest

from controller.core import events
from controller.core.layout import runs
from controller.core.memory import Config
from controller.core.state import Allocation, AllocationStatus, Override, OverrideKind
from protocol import wire
from protocol.wire import PAGE_SIZE, AllocFlag, Flag, Header, Op, Status
from tests.p4src.harness import RackSwitch
from tests.p4src.test_safety import WorldWithPipeline, tiny_rack
from tests.p4src.world import BASE, C1, M1, M2, PAGE, frame

LAST = PAGE_SIZE - 8  # the word that the probes write, each its own number: what other tests look at is in front


@dataclass(frozen=True)
class Guess:
    """A translation that a compute element believes in, or makes up."""

    element: int
    pa: int
    generation: int


@dataclass
class CachingWorld(WorldWithPipeline):
    """Compute elements that remember every translation there ever was."""

    known: dict[int, set[Guess]] = field(default_factory=lambda: defaultdict(set))  # by page address
    held: list[tuple[int, int, bytes]] = field(default_factory=list)  # pid, va, frame that the switch let pass
    outcomes: Counter[str] = field(default_factory=Counter)
    written: dict[int, int] = field(default_factory=dict)  # by page address: the last write that was carried out

    def look(self) -> None:
        """Remember where everything is."""
        for allocation in self.state.allocations.values():
            for piece in runs(allocation):
                for n in range(piece.pages):
                    place = Guess(piece.element, piece.pa + n * PAGE_SIZE, piece.generation)
                    if piece.kind is not OverrideKind.FREED:  # which is nowhere
                        self.known[piece.va + n * PAGE_SIZE].add(place)
                        self.pages.add(piece.va + n * PAGE_SIZE)

    def piece(self, va: int) -> tuple[Allocation, Override] | None:
        allocation = self.state.allocation_at(va)
        return None if allocation is None else (allocation, next(runs(allocation, va & -PAGE_SIZE)))

    def request(self, pid: int, va: int, guess: Guess) -> tuple[bytes, int]:
        """A write by a cached translation: the frame, and the port it comes from."""
        header = Header(
            Op.WRITE,
            flags=Flag.CACHED,
            dst=guess.element,
            pid=pid,
            length=8,
            generation=guess.generation,
            va=va + LAST,
            pa=guess.pa + LAST,
            request_id=self.new_number(),
        )
        return frame(header, header.request_id.to_bytes(8, "big")), self.rack.by_id(self.pids[pid]).port

    def attempt(self, pid: int, va: int, guess: Guess, hold: bool) -> None:
        """It is refused by the switch, or forwarded to where the guess says; carried out there now, or later."""
        data, port = self.request(pid, va, guess)
        (out,) = self.switch.inject(port, data)
        header = Header.unpack(out.frame, 14)
        if header.op & wire.REPLY:
            assert out.port == port
            self.outcomes[f"switch: {Status(header.status).name}"] += 1
            return
        assert (header.dst, header.pa, header.generation) == (guess.element, guess.pa + LAST, guess.generation)
        if hold:
            self.held.append((pid, va, out.frame))
        else:
            self.arrive(pid, va, out.frame, late=False)

    def arrive(self, pid: int, va: int, data: bytes, late: bool) -> None:
        """What the element does with it is right."""
        header = Header.unpack(data, 14)
        reply = self.elements[header.dst].handle(data)
        assert reply is not None
        status = Status(Header.unpack(reply, 14).status)
        self.outcomes[f"{'late' if late else 'element'}: {status.name}"] += 1
        if status is not Status.OK:
            return
        found = self.piece(va)
        assert found is not None, f"carried out where nothing is allocated: {header}"
        allocation, piece = found
        place = piece.element, piece.pa + LAST
        under_way = any(o.va == allocation.va for o in self.state.operations.values())
        if late and under_way and piece.kind in (OverrideKind.MOVING, OverrideKind.REVOKED, OverrideKind.FREEING):
            self.written[va] = header.request_id
            return  # the operation that takes the page is not acknowledged yet
        self.written[va] = header.request_id
        # While pages migrate they are their owner's, where they were: what it writes there is copied yet. On their way to an
        # owner they are its own once their element knows it, even if nobody has told it.
        owned = piece.kind in (OverrideKind.OWNED, OverrideKind.MOVING, OverrideKind.MIGRATING)
        assert owned and allocation.status is AllocationStatus.READY, (header, piece)
        assert (piece.pid, *place) == (pid, header.dst, header.pa), f"a stale access was carried out: {header}, {piece}"

    def probe(self, rng: random.Random) -> None:
        """Guesses of all kinds, for any process and page."""
        everywhere = [g for guesses in self.known.values() for g in guesses]
        for _ in range(12):
            pid, va = rng.choice(list(self.pids)), rng.choice(sorted(self.pages))
            guess = rng.choice(sorted(self.known[va], key=repr))
            if rng.random() < 0.5:  # forged: another page's place, the right generation
                found = self.piece(va)
                generation = found[1].generation if found is not None and rng.random() < 0.7 else guess.generation
                other = rng.choice(everywhere)
                guess = Guess(other.element, other.pa, generation)
            self.attempt(pid, va, guess, hold=rng.random() < 0.4)
        while self.held and rng.random() < 0.6:
            self.arrive(*self.held.pop(rng.randrange(len(self.held))), late=True)


def test_no_stale_or_forged_access_is_carried_out() -> None:
    counted: Counter[str] = Counter()
    for seed in range(8):
        counted += history(random.Random(seed))
    for what in ("OK", "STALE_GENERATION", "PERMISSION", "UNMAPPED"):
        assert counted[f"element: {what}"] > 10 or what == "UNMAPPED", counted
        assert counted[f"switch: {what}"] > 10 or what == "OK", counted
    assert counted["migrated"] > 10, counted
    assert counted["late: OK"] > 10 and counted["late: STALE_GENERATION"], counted


def history(rng: random.Random) -> Counter[str]:
    """Memory changes hands, accesses of all kinds come at any time; what became of them."""
    world = CachingWorld(tiny_rack(), Config(placement=rng.choice(("best-fit", "balance")), largest_block=8))
    try:
        for element in (1, 2, 1):
            world.pids[world.create_process(element)] = element
        for _ in range(60):
            act(world, rng)
            world.look()
            if world.pages:
                world.probe(rng)
            for _ in range(rng.randrange(4)):
                world.deliver(rng)
        world.settle(rng)
        while world.held:
            world.arrive(*world.held.pop(), late=True)
        right_ones_are_carried_out(world)
        world.outcomes["migrated"] = sum(p.kind == "migrated" for p in world.published)
        return world.outcomes
    finally:
        world.switch.close()


def act(world: CachingWorld, rng: random.Random) -> None:
    """Something happens to memory."""
    ready = [a for a in world.state.allocations.values() if a.status is AllocationStatus.READY]
    what = rng.choice(
        ("alloc", "grant", "grant", "revoke", "free", "protect", "migrate", "migrate", "restart", "nothing")
    )
    if what == "alloc" or not ready:
        pid = rng.choice(list(world.pids))
        args = wire.ALLOC_ARGS.pack(rng.randint(1, 6) * PAGE_SIZE, 3, rng.choice((0, AllocFlag.CACHED)))
        world.feed(events.ControlRequest(world.pids[pid], pid, world.new_number(), Op.ALLOC, 0, args))
        return
    a = rng.choice(ready)
    first = rng.randrange(a.pages)
    va, count = a.va + first * PAGE_SIZE, rng.randint(1, a.pages - first)
    if what == "grant":
        to = rng.choice(list(world.pids))
        world.ask(lambda t: events.GrantRequest(t, va, count, to, 3))
    elif what == "revoke":
        world.ask(lambda t: events.RevokeRequest(t, va, 1))
    elif what == "free":
        world.ask(lambda t: events.FreeRequest(t, va, PAGE_SIZE))
    elif what == "protect":
        world.ask(lambda t: events.ProtectRequest(t, va, count, rng.choice((1, 3))))
    elif what == "migrate":
        target = rng.choice(sorted(world.elements))
        world.ask(lambda t: events.MigrateRequest(t, va, count, target))
    elif what == "restart":
        world.restart()


def right_ones_are_carried_out(world: CachingWorld) -> None:
    """When nothing is under way, every page has its last write, and its owner reaches it by its present translation."""
    world.look()
    reached = 0
    for va in world.pages:
        found = world.piece(va)
        if found is None or found[1].kind is not OverrideKind.OWNED or not found[1].permissions & 2:
            continue
        piece = found[1]
        held = world.elements[piece.element].memory[piece.pa + LAST : piece.pa + PAGE_SIZE]
        assert int.from_bytes(held, "big") == world.written.get(va, 0), "S3: a write was lost on the way"
        before = world.outcomes["element: OK"]
        world.attempt(piece.pid, va, Guess(piece.element, piece.pa, piece.generation), hold=False)
        assert world.outcomes["element: OK"] == before + 1, (piece, world.outcomes)
        reached += 1
    assert reached


def pair(resident: bool) -> RackSwitch:
    """Two processes with a page each, the second's read-only; ``resident``: the switch has translations."""
    switch = RackSwitch()
    switch.install("element", {"port": 1}, "attach", element=C1, kind=1)
    for element, port in ((M1, 4), (M2, 5)):
        switch.install("liveness", {"element": element}, "alive", port=port)
    for pid, page, rights, generation in ((5, 0, 3, 7), (6, 1, 1, 8)):
        va = BASE + page * PAGE
        switch.install("binding", {"element": C1, "pid": pid}, "bind")
        match = {"pid": pid, "va": (va, 52)}
        switch.install("protection", match, "allow", permissions=rights, generation=generation)
        if resident:
            offset = (page * PAGE - va) % (1 << 64)
            switch.install("translation", {"va": (va, 52)}, "map_page", element=M1, offset=offset)
    return switch


@pytest.mark.parametrize("resident", [True, False])
def test_what_the_switch_refuses_alone(resident: bool) -> None:
    """Elements that carry out everything. Where the switch has the translation, exactly that passes. Where it has none, it still
    judges who, which address and which generation; the place is judged by the element's page table alone."""
    switch = pair(resident)
    passed = Counter[bool]()
    try:
        for op, pid, page, element, pa, generation in itertools.product(
            (Op.READ, Op.WRITE), (5, 6, 9), (0, 1, 2), (M1, M2, C1, 999), (0, PAGE, 7 * PAGE), (6, 7, 8)
        ):
            header = Header(
                op, Flag.CACHED, dst=element, pid=pid, length=8, generation=generation, va=BASE + page * PAGE, pa=pa
            )
            (out,) = switch.inject(1, frame(header, bytes(8)))
            owned = (pid, page, generation) in ((5, 0, 7), (6, 1, 8)) and (pid == 5 or op is Op.READ)
            right = (element, pa) == (M1, page * PAGE)
            legal = owned and (right if resident else element in (M1, M2))
            assert out.port == ({M1: 4, M2: 5}[element] if legal else 1), header
            if legal:
                passed[right] += 1
                forwarded = Header.unpack(out.frame, 14)
                assert (forwarded.dst, forwarded.pa, forwarded.generation) == (element, pa, generation)
        assert passed[True] == 3
        assert passed[False] == (0 if resident else 3 * 5)
    finally:
        switch.close()


def test_what_the_elements_refuse_alone() -> None:
    """A switch that forwards everything as it came: nobody reaches a page that is not its own, whatever it makes up."""
    world = CachingWorld(tiny_rack(), Config(placement="balance", largest_block=2))
    try:
        for element in (1, 2):
            world.pids[world.create_process(element)] = element
        for pid in world.pids:
            args = wire.ALLOC_ARGS.pack(4 * PAGE_SIZE, 3, AllocFlag.CACHED)
            world.feed(events.ControlRequest(world.pids[pid], pid, world.new_number(), Op.ALLOC, 0, args))
        world.settle(random.Random(0))
        world.look()
        places = sorted({g for guesses in world.known.values() for g in guesses}, key=repr)
        carried_out = 0
        for pid, va, element, place in itertools.product(world.pids, sorted(world.pages), world.elements, places):
            for generation in {g.generation for g in places}:
                header = Header(Op.WRITE, Flag.CACHED, src=1, dst=element, pid=pid, length=1, generation=generation)
                header = header._replace(va=va, pa=place.pa, request_id=world.new_number())
                reply = world.elements[element].handle(frame(header, b"x"))
                assert reply is not None
                if Header.unpack(reply, 14).status == Status.OK:
                    found = world.piece(va)
                    assert found is not None
                    assert (found[1].pid, found[1].element, found[1].pa) == (pid, element, place.pa)
                    carried_out += 1
        assert carried_out >= len(world.pages)
    finally:
        world.switch.close()
