"""Bad pages: refused by their element, told to their owners, given to nobody, bad again after restarts, until they are healed."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from world import World

from controller.core import blocks, events, monitor, poison
from controller.core.memory import Config
from controller.core.state import Liveness
from protocol import wire
from protocol.wire import PAGE_SIZE, Header, NotifyCode, Op, Status
from topologies.racks import small_rack

RNG = random.Random(11)
PAGES = 256


class Memory:
    """A process with an allocation of 8 pages on m1, which has little more."""

    def __init__(self) -> None:
        self.world = World(small_rack(compute=2, dram=1, nvm=1, memory_mib=1), Config(placement="first-fit"))
        self.pid = self.world.create_process(1)
        self.va = self.ask(lambda t: events.AllocRequest(t, self.pid, 8 * PAGE_SIZE, 3)).result["va"]

    def ask(self, make, settle: bool = True) -> events.Answer:
        token = self.world.ask(make)
        if settle:
            self.world.settle(RNG)
        return self.world.answers.get(token)

    def poison(self, place, pages: int = 1, bad: bool = True, settle: bool = True) -> events.Answer:
        return self.ask(lambda t: events.PoisonRequest(t, place, pages, bad), settle)

    def access(self, page: int, pid: int | None = None) -> Status | None:
        """What a read of a page of the allocation hears; None: the switch refuses it."""
        pid = pid or self.pid
        stamped = self.world.stamp(pid, self.va + page * PAGE_SIZE)
        if stamped is None:
            return None
        element, pa, generation = stamped
        return self.world.elements[element].table.check(pid, self.va + page * PAGE_SIZE, pa, 1, generation)

    def told(self) -> list[tuple[int, int, int]]:
        found = {n.id: n for n in self.world.notices if n.code == NotifyCode.PAGE_FAILED}
        return [(n.pid, n.va, n.pages) for n in found.values()]

    def check(self) -> None:
        assert monitor.physical_free(self.world.state) == dict(self.world.state.free)


@pytest.fixture
def memory() -> Memory:
    return Memory()


def test_bad_pages_are_refused_told_and_healed(memory: Memory) -> None:
    answer = memory.poison(memory.va + 2 * PAGE_SIZE, 2)
    assert answer.result == {"pages": 2, "elements": ["m1"], "bad": True}
    assert [memory.access(n) for n in range(5)] == [Status.OK, Status.OK, *[Status.PAGE_FAILED] * 2, Status.OK]
    assert memory.told() == [(memory.pid, memory.va + 2 * PAGE_SIZE, 2)]
    assert poison.of(memory.world.state, 101) == ((2, 2),)
    assert memory.poison(memory.va + 3 * PAGE_SIZE, bad=False).error is None
    assert (memory.access(2), memory.access(3)) == (Status.PAGE_FAILED, Status.OK)
    assert memory.poison((101, 0), PAGES, bad=False).error is None
    assert not memory.world.state.bad
    assert memory.access(2) == Status.OK
    memory.check()


def test_the_owner_at_that_time_is_told(memory: Memory) -> None:
    other = memory.world.create_process(2)
    memory.ask(lambda t: events.GrantRequest(t, memory.va, 3, other, 3))
    memory.poison(memory.va + PAGE_SIZE, 4)
    assert sorted(memory.told()) == [(memory.pid, memory.va + 3 * PAGE_SIZE, 2), (other, memory.va + PAGE_SIZE, 2)]
    assert memory.access(1, other) == Status.PAGE_FAILED


def test_a_bad_page_is_given_to_nobody(memory: Memory) -> None:
    memory.poison((101, 100 * PAGE_SIZE), 4)
    memory.poison(memory.va + PAGE_SIZE)
    memory.check()
    free = memory.world.state.free_pages(101)
    assert free == PAGES - 8 - 4
    memory.ask(lambda t: events.FreeRequest(t, memory.va, 0))
    assert memory.world.state.free_pages(101) == free + 7
    memory.check()
    for pages in (251, 1):
        memory.ask(lambda t, n=pages: events.AllocRequest(t, memory.pid, n * PAGE_SIZE, 3))
    for allocation in memory.world.state.allocations.values():
        for segment in allocation.segments:
            table = memory.world.elements[segment.element].table
            first = segment.pa // PAGE_SIZE
            assert not any(table.bad[first : first + segment.pages])
    memory.check()
    memory.poison((101, 0), PAGES, bad=False)
    memory.check()
    assert memory.world.state.free_pages(101) == PAGES - sum(
        s.pages for a in memory.world.state.allocations.values() for s in a.segments if s.element == 101
    )


@pytest.mark.parametrize("media", ["dram", "nvm"])
def test_bad_pages_are_bad_after_the_elements_restart(memory: Memory, media: str) -> None:
    element = 101 if media == "dram" else 102
    memory.poison((element, 5 * PAGE_SIZE), 2)
    memory.world.start_element(element)  # it remembers nothing
    memory.world.heartbeat(element)
    memory.world.settle(RNG)
    assert memory.world.state.elements[element].liveness is Liveness.ALIVE
    assert [n for n in range(PAGES) if memory.world.elements[element].table.bad[n]] == [5, 6]
    memory.check()


def test_pages_of_an_element_that_is_away_are_marked_when_it_comes_back_and_not_healed_before(memory: Memory) -> None:
    memory.world.now = 10.0
    memory.world.feed(events.Started())
    memory.world.now = 11.0
    for element in (1, 2, 102):
        memory.world.heartbeat(element)
    memory.world.feed(events.Tick())
    assert memory.world.state.elements[101].liveness is Liveness.FAILED
    assert memory.poison(memory.va).error is None
    refused = memory.poison(memory.va, bad=False)
    assert refused.error is not None
    assert refused.error.code == "element_failed"
    memory.world.heartbeat(101)
    memory.world.settle(RNG)
    assert memory.access(0) == Status.PAGE_FAILED
    assert memory.poison(memory.va, bad=False).error is None
    assert memory.access(0) == Status.OK


def test_an_element_that_fails_while_its_pages_are_healed_keeps_them_bad(memory: Memory) -> None:
    memory.poison(memory.va)
    assert memory.poison(memory.va, bad=False, settle=False) is None
    memory.world.start_element(101)
    memory.world.heartbeat(101)
    memory.world.settle(RNG)
    assert [a.error.code for a in memory.world.answers.values() if a.error] == ["element_failed"]
    assert poison.of(memory.world.state, 101) == ((0, 1),)
    assert memory.world.elements[101].table.bad[0]
    memory.check()


def test_the_newest_word_counts_whatever_comes_late(memory: Memory) -> None:
    memory.poison(memory.va)
    late = [frame for element, frame in memory.world.old_frames if Header.unpack(frame, 14).op == Op.POISON]
    memory.poison(memory.va, bad=False)
    for frame in late:
        reply = memory.world.elements[101].handle(frame)
        assert reply is not None
        assert Header.unpack(reply, 14).status == Status.OK, "acknowledged, and ignored"
    assert memory.access(0) == Status.OK


@pytest.mark.parametrize("bad", [True, False])
def test_the_controller_dies_at_every_step(bad: bool) -> None:
    for effects in range(8):
        memory = Memory()
        if not bad:
            memory.poison(memory.va, 3)
        memory.world.crash_after = effects
        memory.poison(memory.va, 3, bad)
        memory.world.crash_after = None
        memory.check()
        known = poison.of(memory.world.state, 101)
        marked = [n for n in range(PAGES) if memory.world.elements[101].table.bad[n]]
        assert marked == [n for first, count in known for n in range(first, first + count)], effects
        assert not memory.world.state.operations


@pytest.mark.parametrize(
    ("place", "pages", "code"),
    [
        (4096, 1, "not_found"),
        ("va+1", 1, "bad_request"),
        ("va", 9, "bad_request"),
        ("va", 0, "bad_request"),
        ((1, 0), 1, "not_found"),
        ((999, 0), 1, "not_found"),
        ((101, 8), 1, "bad_request"),
        ((101, 255 * PAGE_SIZE), 2, "bad_request"),
        ((101, 1 << 60), 1, "bad_request"),
    ],
)
def test_places_that_make_no_sense(memory: Memory, place, pages: int, code: str) -> None:
    where = {"va": memory.va, "va+1": memory.va + 1}.get(place, place) if isinstance(place, str) else place
    before = memory.world.state
    for bad in (True, False):
        answer = memory.poison(where, pages, bad)
        assert answer.error is not None
        assert answer.error.code == code
    assert (memory.world.state.bad, memory.world.state.free) == (before.bad, before.free)


def test_freed_pages_have_no_place_by_address(memory: Memory) -> None:
    memory.ask(lambda t: events.FreeRequest(t, memory.va, PAGE_SIZE))
    answer = memory.poison(memory.va, 2)
    assert answer.error is not None
    assert answer.error.code == "not_found"


@given(st.sets(st.integers(0, 20)), st.integers(0, 20), st.integers(1, 8))
def test_cutting_out(pages: set[int], first: int, count: int) -> None:
    extents: blocks.Extents = ()
    for page in pages:
        extents = blocks.give_back(extents, page, 1)
    left = {p for start, n in blocks.cut_out(extents, first, count) for p in range(start, start + n)}
    assert left == pages - set(range(first, first + count))


def test_frames() -> None:
    memory = Memory()
    memory.poison(memory.va + PAGE_SIZE, 2, settle=False)
    frame = memory.world.channels[101][-1]
    assert isinstance(frame, bytes)
    header = Header.unpack(frame, 14)
    assert (header.op, header.pa, wire.POISON_ARGS.unpack_from(frame, wire.FRAME_OVERHEAD)) == (
        Op.POISON,
        PAGE_SIZE,
        (2, 1),
    )


def test_pages_that_a_migration_waits_for_are_not_free_when_they_are_healed(memory: Memory) -> None:
    """They were marked and healed while they were kept for it."""
    token = memory.world.ask(lambda t: events.MigrateRequest(t, memory.va, 8, 102))
    reserved = [place for o in memory.world.state.operations.values() for place in o.reserved]
    assert reserved
    for bad in (True, False):
        memory.world.ask(lambda t, mark=bad: events.PoisonRequest(t, (102, 0), PAGES, mark))
        memory.check()
    memory.world.settle(RNG)
    memory.check()
    assert memory.world.answers[token] is not None
