"""Pages that go to another memory element while their owner goes on."""

from __future__ import annotations

import random

import pytest
from test_reassign import in_band, in_band_exit, settle, usable
from test_recovery import allocate, silence
from test_safety import tiny_rack
from world import World

from controller.core import entries, events, layout
from controller.core.memory import Config
from controller.core.state import Allocation, Liveness, OverrideKind
from protocol import wire
from protocol.wire import PAGE_SIZE, NotifyCode, Op, Perm, Status

RNG = random.Random(0)


@pytest.fixture
def world() -> World:
    return World(tiny_rack(), Config(largest_block=8))


def migrate(world: World, va: int, pages: int, target: int | None) -> int:
    return world.ask(lambda t: events.MigrateRequest(t, va, pages, target))


def only(world: World) -> Allocation:
    (allocation,) = world.state.allocations.values()
    return allocation


def where(world: World) -> list[int]:
    """The element of each page."""
    return [p.element for p in layout.runs(only(world)) for _ in range(p.pages)]


def word(world: World, pid: int, va: int) -> int:
    stamped = world.stamp(pid, va)
    assert stamped is not None
    element, pa, _ = stamped
    return int.from_bytes(world.elements[element].memory[pa : pa + 8], "big")


def agrees(world: World) -> None:
    assert {e.key: e for e in entries.all_entries(world.state)} == world.entries
    assert not world.state.operations
    assert not world.state.messages
    held = sum(p.pages for a in world.state.allocations.values() for p in layout.without(a, OverrideKind.FREED))
    assert sum(world.state.free_pages(e.id) for e in world.rack.memory) == 32 - held
    assert all(len(o) == 1 for o in world.page_owners().values())


@pytest.mark.parametrize("target", [102, None])
def test_pages_move_with_their_contents_and_their_owner(world: World, target: int | None) -> None:
    pid, va = allocate(world, 8)
    sent = [world.send_write(pid, va + n * PAGE_SIZE) for n in range(8)]
    late = world.stamp(pid, va)
    rules = len(world.entries)
    answer = settle(world, migrate(world, va, 8, target))
    assert answer.error is None
    assert answer.result == {"va": va, "pages": 8}
    assert where(world) == [102] * 8
    for n in range(8):
        assert usable(world, pid, va + n * PAGE_SIZE)
        assert word(world, pid, va + n * PAGE_SIZE) == sent[n].number, "also of writes that were on their way"  # type: ignore[union-attr]
    assert not world.passes(pid, va, late)
    assert len(world.entries) == rules, "a segment that has moved as a whole needs what it needed"
    assert [(n.code, n.va, n.pages) for n in world.notices if n.pid == pid] == [(NotifyCode.MOVED, va, 8)]
    agrees(world)


def test_a_part_of_a_segment_moves_and_comes_back(world: World) -> None:
    pid, va = allocate(world, 8)
    fresh = len(world.entries)
    settle(world, migrate(world, va + 2 * PAGE_SIZE, 3, 102))
    assert where(world) == [101] * 2 + [102] * 3 + [101] * 3
    agrees(world)
    settle(world, migrate(world, va, 8, 102))
    assert where(world) == [102] * 8
    settle(world, migrate(world, va, 8, 101))
    assert where(world) == [101] * 8
    assert len(world.entries) == fresh
    assert all(usable(world, pid, va + n * PAGE_SIZE) for n in range(8))
    assert settle(world, migrate(world, va, 8, 101)).result == {"va": va, "pages": 0}, "they are there"
    agrees(world)


def test_pages_of_several_owners_and_revoked_ones_keep_what_they_are(world: World) -> None:
    pid, va = allocate(world, 8)
    other = world.create_process(2)
    settle(world, world.ask(lambda t: events.GrantRequest(t, va + PAGE_SIZE, 2, other, Perm.RW)))
    settle(world, world.ask(lambda t: events.RevokeRequest(t, va + 4 * PAGE_SIZE, 1)))
    settle(world, world.ask(lambda t: events.ProtectRequest(t, va + 5 * PAGE_SIZE, 1, Perm.READ)))
    before = [(p.kind, p.pid, p.permissions) for p in layout.runs(only(world)) for _ in range(p.pages)]
    rules = len(world.entries)
    assert settle(world, migrate(world, va, 8, 102)).error is None
    assert [(p.kind, p.pid, p.permissions) for p in layout.runs(only(world)) for _ in range(p.pages)] == before
    assert where(world) == [102] * 8
    assert usable(world, other, va + PAGE_SIZE)
    assert usable(world, pid, va + 5 * PAGE_SIZE, Perm.READ)
    assert not usable(world, pid, va + 5 * PAGE_SIZE)
    assert len(world.entries) == rules, "the segment is elsewhere, not each of its parts"
    assert {n.pid for n in world.notices if n.code == NotifyCode.MOVED} == {pid, other}
    agrees(world)


def test_the_owner_writes_all_the_time_and_loses_nothing() -> None:
    """In any interleaving: what was confirmed last is what is there, and a write hears OK or STALE_GENERATION."""
    for seed in range(60):
        rng = random.Random(seed)
        world = World(tiny_rack(), Config(largest_block=8))
        pid, va = allocate(world, 8)
        token = migrate(world, va, 8, 102)
        last: dict[int, int] = {}
        while token not in world.answers or any(world.channels.values()):
            what = rng.random() if token not in world.answers else 1.0
            if what < 0.05:  # the shell repeats what is not acknowledged
                for message in world.state.messages.values():
                    world.transmit(message)
            elif what < 0.4:
                sent = world.send_write(pid, va + rng.randrange(8) * PAGE_SIZE)
                assert sent is not None, "the switch refuses nothing"
            else:
                world.deliver(rng, 0.05)
            for item, status in world.confirmed:
                assert status in (Status.OK, Status.STALE_GENERATION)
                if status is Status.OK:
                    last[item.va] = item.number
            world.confirmed.clear()
        world.settle(rng)
        assert where(world) == [102] * 8
        for at, number in last.items():
            assert word(world, pid, at) >= number, "a confirmed write is lost"
            assert word(world, pid, at) in world.landed
        agrees(world)


def test_an_outcome_moves_with_its_page(world: World) -> None:
    """A FETCH_ADD whose answer was lost is repeated at the new place: it takes effect once."""
    pid, va = allocate(world, 1)
    source, pa, generation = world.stamp(pid, va)  # type: ignore[misc]
    header = wire.Header(Op.FETCH_ADD, src=1, dst=source, pid=pid, length=8, generation=generation, va=va, pa=pa)
    header = header._replace(request_id=77)

    def send(element: int, header: wire.Header) -> bytes:
        addresses = wire.element_mac(element) + wire.element_mac(1) + wire.ETHERTYPE.to_bytes(2, "big")
        reply = world.elements[element].handle(addresses + header.pack() + (5).to_bytes(8, "big"))
        assert reply is not None
        return reply

    send(source, header)
    settle(world, migrate(world, va, 1, 102))
    target, pa, generation = world.stamp(pid, va)  # type: ignore[misc]
    assert target == 102
    again = send(target, header._replace(dst=target, generation=generation, pa=pa))
    assert wire.Header.unpack(again, 14).status == Status.OK
    assert again[wire.FRAME_OVERHEAD :] == bytes(8), "the old value, as the first time"
    assert word(world, pid, va) == 5


def test_bad_pages_stay(world: World) -> None:
    _, va = allocate(world, 4)
    settle(world, world.ask(lambda t: events.PoisonRequest(t, va + PAGE_SIZE, 1, True)))
    before = world.state.allocations
    assert world.answers[migrate(world, va, 4, 102)].error.code == "page_failed"
    assert world.state.allocations == before
    assert settle(world, migrate(world, va + 2 * PAGE_SIZE, 2, 102)).error is None


@pytest.mark.parametrize("victim", [101, 102])
@pytest.mark.parametrize("frames", range(8))
@pytest.mark.parametrize("how", ["silent", "restarted", "fenced"])
def test_an_element_that_fails_half_way(victim: int, frames: int, how: str) -> None:
    """The pages are where they were, or where they go; their owner has them unless their element has lost them."""
    world = World(tiny_rack(), Config(largest_block=8))
    pid, va = allocate(world, 3)
    sent = [world.send_write(pid, va + n * PAGE_SIZE) for n in range(3)]
    for n in range(3):
        world.deliver_to(sent[n].element, RNG)  # type: ignore[union-attr]
    token = migrate(world, va, 3, 102)
    for _ in range(frames):
        world.deliver(RNG)
    if how == "silent":
        silence(world, victim)
        assert token in world.answers or victim == 102, "it is not waited for; the source is"
        world.heartbeat(victim)
    elif how == "restarted":
        world.start_element(victim)
        world.heartbeat(victim)
    else:
        world.ask(lambda t: events.FenceRequest(t, victim, True))
        world.settle(RNG)
        world.ask(lambda t: events.FenceRequest(t, victim, False))
    answer = settle(world, token)
    assert answer.error is None or answer.error.code == "element_failed"
    assert world.state.elements[victim].liveness is Liveness.ALIVE
    at = where(world)
    assert at in ([101] * 3, [102] * 2 + [101], [102] * 3), "two segments: each as a whole"
    assert at == [102] * 3 or answer.error is not None
    for n, piece in enumerate(p for p in layout.runs(only(world)) for _ in range(p.pages)):
        lost = how == "restarted" and victim == piece.element
        assert piece.kind is (OverrideKind.LOST if lost else OverrideKind.OWNED)
        if not lost:
            assert usable(world, pid, va + n * PAGE_SIZE)
            assert word(world, pid, va + n * PAGE_SIZE) == sent[n].number  # type: ignore[union-attr]
    agrees(world)
    world.ask(lambda t: events.FreeRequest(t, va, 0))
    world.settle(RNG)
    assert world.state.free_pages(101) == world.state.free_pages(102) == 16


@pytest.mark.parametrize("frames", [0, 2, 4, 6])
@pytest.mark.parametrize("crashed", [False, True])
def test_the_owner_ends_half_way(world: World, frames: int, crashed: bool) -> None:
    pid, va = allocate(world, 4)
    token = migrate(world, va, 3, 102)
    for _ in range(frames):
        world.deliver(RNG)
    in_band_exit(world, pid)
    settle(world, token)
    assert not world.state.allocations
    assert world.state.free_pages(101) == world.state.free_pages(102) == 16
    assert not world.state.operations


def test_pages_that_are_being_copied_are_busy(world: World) -> None:
    pid, va = allocate(world, 8)
    other = world.create_process(2)
    first = migrate(world, va, 4, 102)
    for make in (
        lambda t: events.GrantRequest(t, va + 3 * PAGE_SIZE, 2, other, 3),
        lambda t: events.ProtectRequest(t, va, 1, 1),
        lambda t: events.RevokeRequest(t, va, 1),
        lambda t: events.FreeRequest(t, va, PAGE_SIZE),
        lambda t: events.FreeRequest(t, va, 0),
        lambda t: events.MigrateRequest(t, va + 3 * PAGE_SIZE, 2, 102),
    ):
        token = world.ask(make)
        assert world.answers[token].error.code == "busy"
    assert in_band(world, pid, Op.STAT, va, b"") == Status.OK
    assert settle(world, first).error is None
    agrees(world)


def test_a_process_moves_its_own_pages_only(world: World) -> None:
    pid, va = allocate(world, 4)
    other = world.create_process(2)
    assert in_band(world, other, Op.MIGRATE, va, wire.MIGRATE_ARGS.pack(1, 102)) == Status.PERMISSION
    assert in_band(world, pid, Op.MIGRATE, va, wire.MIGRATE_ARGS.pack(4, 0)) == Status.OK
    assert world.replies[-1].payload == wire.WORD.pack(4)
    assert where(world) == [102] * 4


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"pages": 0}, "bad_request"),
        ({"pages": 9}, "bad_request"),
        ({"offset": 1}, "bad_request"),
        ({"offset": 100 * PAGE_SIZE}, "not_found"),
        ({"target": 1}, "not_found"),  # a compute element
        ({"target": 999}, "not_found"),
        ({"target": 102, "full": 1}, "out_of_memory"),
        ({"target": None, "full": 1}, "out_of_memory"),
        ({"target": 102, "silent": 102}, "element_failed"),
        ({"target": 102, "silent": 101}, "element_failed"),
    ],
)
def test_impossible_migrations_change_nothing(world: World, change: dict, code: str) -> None:
    _, va = allocate(world, 8)
    if change.get("full"):
        settle(world, migrate(world, va, 8, 102))
        allocate(world, 16)
        world.ask(lambda t: events.AllocRequest(t, 1, 4 * PAGE_SIZE, 3))
        world.settle(RNG)
        change = {**change, "target": 101 if change["target"] else None}
    if "silent" in change:
        silence(world, change["silent"])
    before, sent = world.state, world.entries.copy()
    token = migrate(world, va + change.get("offset", 0), change.get("pages", 8), change.get("target", 102))
    assert world.answers[token].error.code == code
    assert world.state == before
    assert world.entries == sent


def test_without_a_target_pages_of_all_elements_are_refused_with_a_reason(world: World) -> None:
    _, va = allocate(world, 24)  # in both elements
    answer = settle(world, migrate(world, va, 24, None))
    assert answer.error is not None
    assert answer.error.code == "out_of_memory"
    assert "no other element of dram serves: name a target" in answer.error.message
    agrees(world)


def test_many_pages_go_in_chunks(monkeypatch: pytest.MonkeyPatch, world: World) -> None:
    """Of a chunk at a time accesses are held up; the others go on."""
    monkeypatch.setattr("controller.core.migrate.CHUNK", 2)
    pid, va = allocate(world, 8)
    token = migrate(world, va, 8, 102)
    most = 0
    while token not in world.answers:
        away = sum(p.pages for p in layout.runs(only(world)) if p.kind is OverrideKind.MIGRATING)
        most = max(most, away)
        assert sum(usable(world, pid, va + n * PAGE_SIZE) for n in range(8)) >= 8 - away
        world.deliver(RNG)
    assert most == 2
    world.settle(RNG)
    assert where(world) == [102] * 8
    agrees(world)


@pytest.mark.parametrize("frames", [0, 3, 6, 9, 12, 20])
def test_what_was_freed_meanwhile_stays_freed(monkeypatch: pytest.MonkeyPatch, world: World, frames: int) -> None:
    monkeypatch.setattr("controller.core.migrate.CHUNK", 2)
    _, va = allocate(world, 8)
    token = migrate(world, va, 8, 102)
    for _ in range(frames):
        world.deliver(RNG)
    freed = world.ask(lambda t: events.FreeRequest(t, va + 6 * PAGE_SIZE, PAGE_SIZE))
    settle(world, token)
    if world.answers[freed].error is None:
        assert [p.kind for p in layout.runs(only(world)) for _ in range(p.pages)][6] is OverrideKind.FREED
    agrees(world)
