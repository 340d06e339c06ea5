"""Taking memory by capability: who may, who may not, and from whom."""

from __future__ import annotations

import random
from typing import Any

import pytest
from test_reassign import in_band, usable
from test_safety import tiny_rack
from world import World

from controller.core import entries, events, layout
from controller.core.memory import Config
from controller.core.state import OverrideKind
from protocol import capability, wire
from protocol.capability import Share
from protocol.wire import PAGE_SIZE, AllocFlag, NotifyCode, Op, Perm, Status

RNG = random.Random(0)
SECRET, OTHER = bytes(range(16)), bytes(range(1, 17))
NOW = 1_000_000.0


class Rack:
    """A source with 8 pages in group 1 of 2-of-3 shares, a thief, and group 2, of tokens only."""

    def __init__(self, flags: int = 0) -> None:
        self.world = World(tiny_rack(), Config(largest_block=4))
        self.world.ask(lambda t: events.GroupRequest(t, "store", SECRET, 2, 3))
        self.world.ask(lambda t: events.GroupRequest(t, "other", OTHER, 0, 0))
        self.source, self.thief = self.world.create_process(1), self.world.create_process(2)
        args = wire.ALLOC_ARGS.pack(8 * PAGE_SIZE, 3, 1 << wire.GROUP_SHIFT | flags)
        assert in_band(self.world, self.source, Op.ALLOC, 0, args) == Status.OK
        (self.allocation,) = self.world.state.allocations.values()
        self.va = self.allocation.va

    def token(self, secret: bytes = SECRET, group: int = 1, pid: int = 0, expires: int = int(NOW) + 9) -> bytes:
        return capability.pack(capability.mint(secret, group, pid or self.thief, expires))

    def steal(self, given: bytes, *, source: int = 0, group: int = 1, pages: int = 8, offset: int = 0) -> Status:
        """In band."""
        args = wire.STEAL_ARGS.pack(pages, source or self.source, Perm.RW, group) + given
        request_id = self.world.new_number()
        element = self.world.state.processes[self.thief].element
        request = events.ControlRequest(element, self.thief, request_id, Op.STEAL, self.va + offset, args, NOW)
        self.world.feed(request)
        self.world.settle(RNG)
        return Status(next(r.status for r in self.world.replies if r.request_id == request_id))

    def exit(self, crashed: bool) -> None:
        payload = wire.PROCESS_EXIT_ARGS.pack(crashed)
        request = events.ControlRequest(1, 0, self.world.new_number(), Op.PROCESS_EXIT, self.source, payload)
        self.world.feed(request)
        self.world.settle(RNG)


@pytest.fixture
def rack() -> Rack:
    return Rack()


def test_a_token_takes_memory_with_its_contents(rack: Rack) -> None:
    world = rack.world
    sent = world.send_write(rack.source, rack.va)
    old = world.stamp(rack.source, rack.va)
    assert rack.steal(rack.token()) == Status.OK
    assert sent is not None
    assert sent.number in world.landed
    assert usable(world, rack.thief, rack.va)
    assert world.stamp(rack.source, rack.va) is None
    assert not world.passes(rack.source, rack.va, old)
    element, pa, _ = world.stamp(rack.thief, rack.va)
    assert int.from_bytes(world.elements[element].memory[pa : pa + 8], "big") == sent.number
    assert [(n.pid, n.code, n.about, n.pages) for n in world.notices] == [
        (rack.source, NotifyCode.STOLEN, rack.thief, 8)
    ]
    assert {e.key: e for e in entries.all_entries(world.state)} == world.entries


@pytest.mark.parametrize("chosen", [(0, 1), (2, 0), (0, 1, 2)])
def test_enough_shares_are_as_good(rack: Rack, chosen: tuple[int, ...]) -> None:
    shares = capability.split(SECRET, 2, 3)
    assert rack.steal(capability.pack(tuple(shares[i] for i in chosen))) == Status.OK


def bad_capabilities(rack: Rack) -> dict[str, tuple[bytes, Status]]:
    shares, strange = capability.split(SECRET, 2, 3), capability.split(OTHER, 2, 3)
    bad = Status.BAD_CAPABILITY
    return {
        "forged": (rack.token(OTHER), bad),
        "for another process": (rack.token(pid=rack.source), bad),
        "for another group": (rack.token(group=2), bad),
        "expired": (rack.token(expires=int(NOW)), Status.EXPIRED_CAPABILITY),
        "expired and forged": (rack.token(OTHER, expires=0), bad),
        "nothing": (b"", bad),
        "garbage": (bytes(100), bad),
        "cut": (rack.token()[:-1], bad),
        "longer": (rack.token() + b"x", bad),
        "one share": (capability.pack(shares[:1]), bad),
        "the same share twice": (capability.pack((shares[0], shares[0])), bad),
        "a strange share": (capability.pack((shares[0], strange[1])), bad),
        "a false share too many": (capability.pack((*shares[:2], Share(9, bytes(16)))), bad),
    }


@pytest.mark.parametrize("kind", list(bad_capabilities(Rack())))
def test_bad_capabilities_change_nothing(rack: Rack, kind: str) -> None:
    given, status = bad_capabilities(rack)[kind]
    before, table = rack.world.state.allocations, dict(rack.world.entries)
    assert rack.steal(given) == status
    assert rack.world.state.allocations == before
    assert rack.world.entries == table


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"group": 9}, Status.BAD_CAPABILITY),  # there is no such group
        ({"source": 999}, Status.NO_SUCH_PROCESS),
        ({"source": 2}, Status.PERMISSION),  # not what the named source has
        ({"pages": 0}, Status.BAD_REQUEST),
        ({"pages": 9}, Status.BAD_REQUEST),
        ({"offset": 5}, Status.BAD_REQUEST),
        ({"offset": 1 << 30}, Status.NOT_FOUND),
    ],
)
def test_impossible_thefts_change_nothing(rack: Rack, change: dict[str, Any], status: Status) -> None:
    before = rack.world.state.allocations
    assert rack.thief == 2
    assert rack.steal(rack.token(), **change) == status
    assert rack.world.state.allocations == before


def test_another_groups_good_token_opens_nothing(rack: Rack) -> None:
    assert rack.steal(rack.token(OTHER, 2), group=2) == Status.BAD_CAPABILITY


def test_a_group_of_tokens_has_no_shares(rack: Rack) -> None:
    shares = capability.split(OTHER, 1, 1)
    assert rack.steal(capability.pack(shares), group=2) == Status.BAD_CAPABILITY


def test_memory_that_is_not_reassignable_can_be_granted_but_not_stolen() -> None:
    rack = Rack(AllocFlag.NOT_REASSIGNABLE)
    assert rack.steal(rack.token()) == Status.NOT_REASSIGNABLE
    args = wire.GRANT_ARGS.pack(1, rack.thief, Perm.RW)
    assert in_band(rack.world, rack.source, Op.GRANT, rack.va, args) == Status.OK


def test_memory_of_no_group_cannot_be_stolen(rack: Rack) -> None:
    assert in_band(rack.world, rack.source, Op.ALLOC, 0, wire.ALLOC_ARGS.pack(PAGE_SIZE, 3, 0)) == Status.OK
    rack.va = max(rack.world.state.allocations)
    assert rack.steal(rack.token(), pages=1) == Status.NOT_REASSIGNABLE


def test_nothing_is_allocated_for_a_group_that_is_not_there(rack: Rack) -> None:
    args = wire.ALLOC_ARGS.pack(PAGE_SIZE, 3, 77 << wire.GROUP_SHIFT)
    assert in_band(rack.world, rack.source, Op.ALLOC, 0, args) == Status.NOT_FOUND


def test_what_a_crashed_process_had_is_kept_for_its_group(rack: Rack) -> None:
    assert in_band(rack.world, rack.source, Op.ALLOC, 0, wire.ALLOC_ARGS.pack(PAGE_SIZE, 3, 0)) == Status.OK
    rack.exit(crashed=True)
    assert list(rack.world.state.allocations) == [rack.va], "what nobody may steal is freed"
    assert rack.source not in [rack.world.create_process(1) for _ in range(3)]
    assert rack.steal(rack.token(), pages=3) == Status.OK
    assert usable(rack.world, rack.thief, rack.va + 2 * PAGE_SIZE)
    token = rack.world.ask(lambda t: events.FreeRequest(t, rack.va, 0))
    rack.world.settle(RNG)
    assert rack.world.answers[token].error is None
    assert not rack.world.state.allocations


@pytest.mark.parametrize(
    "silence", [0.4, 0.7]
)  # seconds: suspected; taken for dead, and not fenced since nobody stands by
def test_memory_of_a_suspected_process_is_stolen_and_safe_from_it(rack: Rack, silence: float) -> None:
    """It may be only slow: what it sends after that has no effect, though nothing else was done to its element."""
    world = rack.world
    others = [e.id for e in world.rack.elements if e.id != 1]
    for at in (1.0, 1.0 + silence):
        world.now = at
        for element in others if at > 1.0 else [1, *others]:
            world.heartbeat(element)
        world.feed(events.Tick())
    assert (1 in world.state.suspected) == (silence < 0.6)
    assert (world.state.elements[1].liveness == "alive") == (silence < 0.6)
    assert not world.state.elements[1].fenced
    old = world.stamp(rack.source, rack.va)
    assert rack.steal(rack.token()) == Status.OK
    assert usable(world, rack.thief, rack.va)
    assert world.stamp(rack.source, rack.va) is None
    assert not world.passes(rack.source, rack.va, old)


def test_what_a_process_had_that_ended_well_is_freed(rack: Rack) -> None:
    rack.exit(crashed=False)
    assert not rack.world.state.allocations
    assert rack.steal(rack.token()) == Status.NO_SUCH_PROCESS


@pytest.mark.parametrize(
    ("name", "needed", "total", "code"),
    [("", 0, 0, "bad_request"), ("x" * 65, 0, 0, "bad_request"), ("store", 0, 0, "bad_request")]
    + [("n", k, n, "bad_request") for k, n in ((3, 2), (0, 2), (2, 0), (1, 33), (-1, 2))],
)
def test_groups_that_make_no_sense(rack: Rack, name: str, needed: int, total: int, code: str) -> None:
    before = rack.world.state
    token = rack.world.ask(lambda t: events.GroupRequest(t, name, SECRET, needed, total))
    assert rack.world.answers[token].error.code == code
    assert rack.world.state == before


@pytest.mark.parametrize("effects", range(12))
def test_crash_at_every_effect_of_a_theft(effects: int) -> None:
    rack = Rack()
    world = rack.world
    world.crash_after = effects
    given = (rack.thief, rack.source, 1, rack.token(), 3, NOW)
    token = world.ask(lambda t: events.StealRequest(t, rack.va, 8, *given))
    world.settle(RNG)
    world.crash_after = None
    world.settle(RNG)
    pieces = list(layout.runs(world.state.allocations[rack.va], rack.va, 8))
    stolen = pieces[0].pid == rack.thief
    assert stolen or (effects == 0 and token not in world.answers)
    assert {(p.kind, p.pid) for p in pieces} == {(OverrideKind.OWNED, rack.thief if stolen else rack.source)}
    assert usable(world, rack.thief if stolen else rack.source, rack.va)
    assert {e.key: e for e in entries.all_entries(world.state)} == world.entries
