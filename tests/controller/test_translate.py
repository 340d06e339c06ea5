"""TRANSLATE, and allocations whose translations the switch does not keep."""

from __future__ import annotations

import random

import pytest
from test_safety import tiny_rack
from world import World

from controller.core import entries, events
from controller.core.memory import Config
from controller.core.state import Reply
from protocol import wire
from protocol.wire import PAGE_SIZE, AllocFlag, Op, Status

RNG = random.Random(0)
ALLOCATED = 12


@pytest.fixture
def world() -> World:
    return World(tiny_rack(), Config(largest_block=8))


def ask(world: World, pid: int, op: Op, va: int = 0, payload: bytes = b"") -> Reply:
    request_id = world.new_number()
    world.feed(events.ControlRequest(world.state.processes[pid].element, pid, request_id, op, va, payload))
    world.settle(RNG)
    return next(r for r in world.replies if r.request_id == request_id)


def allocate(world: World, pid: int, flags: int) -> int:
    answer = ask(world, pid, Op.ALLOC, payload=wire.ALLOC_ARGS.pack(ALLOCATED * PAGE_SIZE, 3, flags))
    assert answer.status == Status.OK
    return wire.ALLOC_REPLY.unpack(answer.payload)[0]


def translated(world: World, pid: int, va: int) -> tuple[int, int, int, int]:
    """(element, pa, generation, pages from there on)"""
    answer = ask(world, pid, Op.TRANSLATE, va)
    assert answer.status == Status.OK
    pages, pa, generation, element, permissions = wire.TRANSLATE_REPLY.unpack(answer.payload)
    assert permissions == 3
    assert answer.va <= va < answer.va + pages * PAGE_SIZE
    before = (va - answer.va) // PAGE_SIZE
    return element, pa + before * PAGE_SIZE, generation, pages - before


def test_it_tells_what_the_switch_would_do(world: World) -> None:
    pid, other = world.create_process(1), world.create_process(2)
    va = allocate(world, pid, 0)
    world.ask(lambda t: events.ProtectRequest(t, va + 3 * PAGE_SIZE, 2, 3))
    world.settle(RNG)
    covered = 0
    while covered < ALLOCATED:
        element, pa, generation, pages = translated(world, pid, va + covered * PAGE_SIZE + 77)
        for page in range(pages):
            address = va + (covered + page) * PAGE_SIZE
            assert world.stamp(pid, address) == (element, pa + page * PAGE_SIZE, generation)
        covered += pages
    assert covered == ALLOCATED
    assert ask(world, pid, Op.TRANSLATE, va + 2 * PAGE_SIZE).va == va, "what is alike in front of it, too"
    assert ask(world, other, Op.TRANSLATE, va).status == Status.PERMISSION
    assert ask(world, pid, Op.TRANSLATE, va + ALLOCATED * PAGE_SIZE).status == Status.NOT_FOUND


def test_who_may_not_access_a_page_is_not_told_where_it_is(world: World) -> None:
    pid, other = world.create_process(1), world.create_process(2)
    va = allocate(world, pid, AllocFlag.CACHED)
    before = translated(world, pid, va)
    world.ask(lambda t: events.GrantRequest(t, va, 1, other, 3))
    for element, whose, status in ((1, pid, Status.PERMISSION), (2, other, Status.BUSY)):
        request_id = world.new_number()
        world.feed(events.ControlRequest(element, whose, request_id, Op.TRANSLATE, va, b""))
        assert next(r.status for r in world.replies if r.request_id == request_id) == status, "it is on its way"
    world.settle(RNG)
    assert ask(world, pid, Op.TRANSLATE, va).status == Status.PERMISSION
    element, pa, generation, pages = translated(world, other, va)
    assert (element, pa, pages) == (*before[:2], 1) and generation > before[2]
    world.ask(lambda t: events.RevokeRequest(t, va + PAGE_SIZE, 1))
    world.ask(lambda t: events.FreeRequest(t, va + 2 * PAGE_SIZE, PAGE_SIZE))
    world.settle(RNG)
    assert ask(world, pid, Op.TRANSLATE, va + PAGE_SIZE).status == Status.PERMISSION
    assert ask(world, pid, Op.TRANSLATE, va + 2 * PAGE_SIZE).status == Status.NOT_FOUND


def test_the_switch_keeps_no_translations_of_cached_memory(world: World) -> None:
    pid, other = world.create_process(1), world.create_process(2)
    rules: list[dict[str, int]] = []
    for flags in (0, AllocFlag.CACHED):
        before = list(world.entries)
        va = allocate(world, pid, flags)
        world.ask(lambda t, va=va: events.GrantRequest(t, va + PAGE_SIZE, 1, other, 3))
        world.ask(lambda t, va=va: events.FreeRequest(t, va + 3 * PAGE_SIZE, PAGE_SIZE))
        world.settle(RNG)
        new = [world.entries[key] for key in world.entries if key not in before]
        rules.append({t: sum(e.table == t for e in new) for t in ("translation", "protection")})
        assert all(e.action == "unmapped" for e in new if e.table == "translation") == bool(flags)
        assert {e.key: e for e in entries.all_entries(world.state)} == world.entries
    assert rules[0]["protection"] == rules[1]["protection"]
    assert rules[1]["translation"] == 1, "what is freed is still said to be unmapped"
    assert rules[0]["translation"] > rules[1]["translation"]
