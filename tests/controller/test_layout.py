"""Overrides in normal form, and what a change costs: only what it concerns."""

from __future__ import annotations

import dataclasses
import random
from itertools import groupby

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_recovery import allocate
from test_safety import tiny_rack
from world import World

from controller.core import entries, events, layout
from controller.core.blocks import aligned_blocks
from controller.core.memory import Config
from controller.core.state import Allocation, AllocationStatus, Override, OverrideKind, Segment
from protocol.wire import PAGE_SIZE, Perm

VA = 3 << 48
SIZES = (16, 8, 4, 1)  # of the segments, in pages
RNG = random.Random(0)
BASE = (1, 3, 1)  # pid, permissions, generation

kinds = st.sampled_from([OverrideKind.OWNED] * 4 + [k for k in OverrideKind if k is not OverrideKind.OWNED])
changes = st.lists(
    st.tuples(st.integers(0, 28), st.integers(1, 12), kinds, st.integers(1, 3), st.sampled_from((1, 3)), st.booleans()),
    min_size=1,
    max_size=12,
)


def fresh() -> Allocation:
    segments, at = [], 0
    for number, pages in enumerate(SIZES):
        segments.append(Segment(VA + at * PAGE_SIZE, pages, 101 + number % 2, (at + 64) * PAGE_SIZE, *BASE))
        at += pages
    return Allocation(VA, at, 1, AllocationStatus.READY, tuple(segments))


def by_page(allocation: Allocation) -> dict[int, Override]:
    """Every page, without the generation."""
    found = {}
    for piece in layout.runs(allocation):
        for n in range(piece.pages):
            page = layout.cut(piece, piece.va + n * PAGE_SIZE, piece.va + (n + 1) * PAGE_SIZE)
            found[page.va] = dataclasses.replace(page, generation=0)
    return found


def fewest_blocks(allocation: Allocation) -> list[tuple[int, int]]:
    """The blocks that overrides must have, worked out page by page: (va, pages)."""
    found = []
    for s in allocation.segments:
        pages = [p for p in layout.runs(allocation, s.va, s.pages) for _ in range(p.pages)]
        own = OverrideKind.OWNED, s.pid, s.permissions, s.element, s.pa - s.va
        at = s.va
        for what, run in groupby(enumerate(pages), key=lambda e: _kind(e[1])):
            count = len(list(run))
            if what[:5] != own:
                found += list(aligned_blocks(at, count))
            at += count * PAGE_SIZE
    return found


def _kind(p: Override) -> tuple:
    under_way = p.kind in (OverrideKind.MOVING, OverrideKind.MIGRATING, OverrideKind.FREEING)
    return p.kind, p.pid, p.permissions, p.element, p.pa - p.va, p.generation if under_way else 0


@settings(max_examples=150, deadline=None)
@given(steps=changes)
def test_changes_are_what_they_say_and_leave_the_fewest_blocks(steps: list) -> None:
    allocation, generations = fresh(), dict.fromkeys(range(sum(SIZES)), 1)
    for number, (first, count, kind, pid, permissions, moved) in enumerate(steps, 2):
        count = min(count, allocation.pages - first)
        before, wanted = allocation, by_page(allocation)
        pieces = []
        for p in layout.runs(allocation, VA + first * PAGE_SIZE, count):
            element, pa = (103, p.va - VA + (1 << 20)) if moved else (p.element, p.pa)
            pieces.append(Override(p.va, p.pages, element, pa, kind, pid, permissions, number))
        allocation, start, end = layout.overridden(allocation, pieces)
        for piece in pieces:
            for n in range(piece.pages):
                page = layout.cut(piece, piece.va + n * PAGE_SIZE, piece.va + (n + 1) * PAGE_SIZE)
                wanted[page.va] = dataclasses.replace(page, generation=0)
                generations[(page.va - VA) // PAGE_SIZE] = number
        found = by_page(allocation)
        gone = {va for va, p in wanted.items() if p.kind is OverrideKind.FREED}
        assert {va: p for va, p in found.items() if va not in gone} == {
            va: p for va, p in wanted.items() if va not in gone
        }
        assert all(found[va].kind is OverrideKind.FREED for va in gone)
        assert [(o.va, o.pages) for o in allocation.overrides] == fewest_blocks(allocation)
        for piece in layout.runs(allocation):
            first_page = (piece.va - VA) // PAGE_SIZE
            newest = max(generations[first_page + n] for n in range(piece.pages))
            assert newest <= piece.generation <= number or piece.kind is OverrideKind.FREED
        two = sum(o.pid != next(layout.runs(by(allocation, o))).pid for o in allocation.overrides)
        assert allocation.granted == two
        for block in (*layout.overrides_in(before, 0, start), *layout.overrides_in(before, end, 1 << 64)):
            assert block in allocation.overrides, "nothing changes outside of what is said to change"
        old, new = (list(entries.allocation_entries(a)) for a in (before, allocation))
        partly = [list(entries.allocation_entries(a, start, end)) for a in (before, allocation)]
        assert set(entries.difference(*partly)) == set(entries.difference(old, new))


def by(allocation: Allocation, o: Override) -> Allocation:
    """The allocation without overrides, from this one's segment on."""
    segments = tuple(s for s in allocation.segments if s.va <= o.va < s.end)
    return dataclasses.replace(allocation, va=segments[0].va, pages=segments[0].pages, segments=segments, overrides=())


@pytest.mark.parametrize("who", ["one other process", "several"])
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_rules_are_as_few_as_before_when_everything_has_come_back(who: str, data: st.DataObject) -> None:
    """Single pages and ranges go to others, are protected, go on, and come back, in any order."""
    world = World(tiny_rack(), Config(largest_block=8))
    owner, va = allocate(world, 21)
    others = [world.create_process(element) for element in ((2,) if who == "one other process" else (2, 1, 2))]
    count = len(world.entries)
    away = data.draw(st.lists(st.tuples(st.integers(0, 20), st.integers(1, 3), st.sampled_from(others)), max_size=12))
    for first, pages, other in away:
        where, pages = va + first * PAGE_SIZE, min(pages, 21 - first)
        ask(world, lambda t, w=where, n=pages, o=other: events.GrantRequest(t, w, n, o, 3))
    for first in data.draw(st.lists(st.integers(0, 20), max_size=3)):
        ask(world, lambda t, f=first: events.ProtectRequest(t, va + f * PAGE_SIZE, 1, Perm.READ))
    for page in data.draw(st.permutations(range(21))):
        ask(world, lambda t, n=page: events.GrantRequest(t, va + n * PAGE_SIZE, 1, owner, 3))
    ask(world, lambda t: events.ProtectRequest(t, va, 21, Perm.RW))
    assert world.state.allocations[va].overrides == ()
    assert len(world.entries) == count
    assert all(world.passes(owner, va + n * PAGE_SIZE, world.stamp(owner, va + n * PAGE_SIZE)) for n in range(21))


def ask(world: World, make) -> None:
    world.ask(make)
    world.settle(RNG)


def test_an_allocation_that_was_granted_page_by_page_needs_no_more_rules_than_a_new_one(world_of_8: World) -> None:
    world = world_of_8
    owner, va = allocate(world, 8)
    fresh_rules = len(world.entries)
    other = world.create_process(2)
    for n in (3, 1, 0, 7, 6, 2, 4, 5):
        ask(world, lambda t, n=n: events.GrantRequest(t, va + n * PAGE_SIZE, 1, other, 3))
    (segment,) = world.state.allocations[va].segments
    assert (segment.pid, world.state.allocations[va].overrides) == (other, ())
    assert len(world.entries) == fresh_rules + 1, "one more process"
    assert all(world.stamp(owner, va + n * PAGE_SIZE) is None for n in range(8))


@pytest.fixture
def world_of_8() -> World:
    return World(tiny_rack(), Config(largest_block=8))


def test_late_writes_of_an_owner_that_got_its_page_back_are_refused(world_of_8: World) -> None:
    """The segment's generation is larger than the page's was, and so is the page's own."""
    world = world_of_8
    owner, va = allocate(world, 8)
    other = world.create_process(2)
    late = world.stamp(owner, va)
    beside = world.stamp(owner, va + PAGE_SIZE)
    for recipient in (other, owner):
        ask(world, lambda t, r=recipient: events.GrantRequest(t, va, 1, r, 3))
    assert world.state.allocations[va].overrides == ()
    assert not world.passes(owner, va, late)
    assert world.passes(owner, va + PAGE_SIZE, beside), "what was not concerned is not disturbed"


def test_a_change_stores_only_what_it_concerns() -> None:
    world = World(tiny_rack(), Config(largest_block=16))
    _, va = allocate(world, 16)
    other = world.create_process(2)
    for n in range(0, 16, 2):
        ask(world, lambda t, n=n: events.GrantRequest(t, va + n * PAGE_SIZE, 1, other, 3))
    stored: list[int] = []
    world.on_persist = lambda changes: stored.extend(key for kind, key, _ in changes if kind == "overrides")
    ask(world, lambda t: events.ProtectRequest(t, va + 9 * PAGE_SIZE, 1, Perm.READ))
    assert set(stored) == {va + 9 * PAGE_SIZE}
