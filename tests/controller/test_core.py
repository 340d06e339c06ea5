from __future__ import annotations

import dataclasses
import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from world import World

from controller.core import allocator, answers, blocks, entries, events
from controller.core.entries import Entry
from controller.core.memory import Config
from controller.core.placement import POLICIES
from controller.core.state import Liveness
from controller.core.step import step
from protocol import wire
from protocol.wire import PAGE_SIZE, NotifyCode, Op, Status
from topologies.racks import small_rack


@pytest.fixture
def world() -> World:
    return World(small_rack())


RNG = random.Random(0)


@given(st.integers(0, 1 << 20), st.integers(1, 5000))
def test_aligned_blocks_cover_a_range(page: int, pages: int) -> None:
    at = page * PAGE_SIZE
    for va, size in blocks.aligned_blocks(page * PAGE_SIZE, pages):
        assert va == at
        assert size & (size - 1) == 0
        assert va % (size * PAGE_SIZE) == 0
        assert blocks.prefix_length(size) == 64 - 12 - (size.bit_length() - 1)
        at += size * PAGE_SIZE
    assert at == (page + pages) * PAGE_SIZE


@given(st.lists(st.integers(0, 63), unique=True))
def test_free_extents_are_a_set_of_pages(pages: list[int]) -> None:
    extents: blocks.Extents = ()
    for page in pages:
        extents = blocks.give_back(extents, page, 1)
    assert {p for first, n in extents for p in range(first, first + n)} == set(pages)
    assert all(a[0] + a[1] < b[0] for a, b in itertools.pairwise(extents)), "neighbours are joined"
    for page in pages:
        with pytest.raises(ValueError, match="free already"):
            blocks.give_back(extents, page, 1)
        extents = blocks.take(extents, page, 1)
    assert extents == ()


@given(st.integers(1, 60), st.sampled_from(sorted(POLICIES)), st.sampled_from((1, 4, 64)))
def test_placement_gives_disjoint_pages(pages: int, policy: str, largest: int) -> None:
    free = {101: ((0, 10), (20, 17)), 102: ((3, 29),), 103: ((0, 5),)}
    placed = allocator.place(1 << 48, pages, free, POLICIES[policy], largest, (1, 3, 1))
    assert placed is not None
    segments, left = placed
    used = [(s.element, page) for s in segments for page in range(s.pa // PAGE_SIZE, s.pa // PAGE_SIZE + s.pages)]
    assert len(used) == len(set(used)) == pages
    for element, page in used:
        assert any(first <= page < first + n for first, n in free[element])
        assert not any(first <= page < first + n for first, n in left[element])
    assert allocator.place(1 << 48, 62, free, POLICIES[policy], largest, (1, 3, 1)) is None


def test_rights_are_withdrawn_first_and_granted_last() -> None:
    def entry(table: str, action: str, va: int, pid: int = 1, length: int = 52) -> Entry:
        key = ("va", (va << 12, length))
        return Entry(table, (key,) if table == "translation" else (("pid", pid), key), action, (("permissions", 3),))

    undeny, withdraw, unmap = (
        entry("protection", "deny", 1),
        entry("protection", "allow", 2),
        entry("translation", "map_page", 2),
    )
    grant, deny, build = (
        entry("protection", "allow", 3),
        entry("protection", "deny", 4),
        entry("translation", "map_page", 3),
    )
    half, other_half = entry("protection", "allow", 8, 2), entry("protection", "allow", 9, 2)
    both = entry("protection", "allow", 8, 2, 51)
    alive, failed = (Entry("liveness", (("element", 101),), action) for action in ("alive", "failed"))
    joining = entries.difference([undeny, withdraw, unmap, alive, half, other_half], [grant, deny, build, failed, both])
    assert [(w.op.name, w.entry) for w in joining] == [
        ("INSERT", deny),
        ("MODIFY", failed),
        ("DELETE", withdraw),
        ("INSERT", build),
        ("DELETE", unmap),
        ("INSERT", grant),
        ("INSERT", both),
        ("DELETE", half),
        ("DELETE", other_half),
        ("DELETE", undeny),
    ]
    splitting = entries.difference([both], [half, dataclasses.replace(other_half, action="deny")])
    assert [(w.op.name, w.entry.action) for w in splitting] == [
        ("INSERT", "deny"),
        ("INSERT", "allow"),
        ("DELETE", "allow"),
    ]


def test_alloc_opens_the_switch_only_after_the_page_tables(world: World) -> None:
    pid = world.create_process(1)
    token = world.ask(lambda t: events.AllocRequest(t, pid, 5 * PAGE_SIZE, 3))
    assert token not in world.answers
    assert not [w for w in world.writes if w.entry.table in ("translation", "protection")]
    world.settle(RNG)
    answer = world.answers[token]
    assert answer.error is None
    assert answer.result["size"] == 5 * PAGE_SIZE
    va = answer.result["va"]
    assert isinstance(va, int)
    assert va >> 48 == pid
    assert all(world.passes(pid, va + n * PAGE_SIZE, world.stamp(pid, va + n * PAGE_SIZE)) for n in range(5))


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (lambda t: events.AllocRequest(t, 99, 4096, 3), "not_found"),
        (lambda t: events.AllocRequest(t, 1, 0, 3), "bad_request"),
        (lambda t: events.AllocRequest(t, 1, 4096, 0), "bad_request"),
        (lambda t: events.AllocRequest(t, 1, 1 << 30, 3), "out_of_memory"),
        (lambda t: events.AllocRequest(t, 1, 1 << 48, 3), "out_of_memory"),
        (lambda t: events.FreeRequest(t, 0x1234, 0), "not_found"),
        (lambda t: events.RevokeRequest(t, 0, 1), "not_found"),
        (lambda t: events.FenceRequest(t, 999, True), "not_found"),
    ],
)
def test_impossible_requests_change_nothing(world: World, make, code: str) -> None:
    assert world.create_process(1) == 1
    before = world.state
    token = world.ask(make)
    error = world.answers[token].error
    assert error is not None
    assert error.code == code
    assert world.state == before


def test_ranges_must_be_whole_pages_and_free_only_once(world: World) -> None:
    pid = world.create_process(1)
    token = world.ask(lambda t: events.AllocRequest(t, pid, 8 * PAGE_SIZE, 3))
    world.settle(RNG)
    va = world.answers[token].result["va"]
    for bad in (va + 1, va + 8 * PAGE_SIZE, va - PAGE_SIZE):
        token = world.ask(lambda t, bad=bad: events.RevokeRequest(t, bad, 1))
        assert world.answers[token].error is not None
    token = world.ask(lambda t: events.RevokeRequest(t, va, 9))
    assert world.answers[token].error.code == "bad_request"
    token = world.ask(lambda t: events.FreeRequest(t, va, 2 * PAGE_SIZE))
    world.settle(RNG)
    assert world.answers[token].error is None
    assert world.stamp(pid, va) is None
    again = world.ask(lambda t: events.FreeRequest(t, va + PAGE_SIZE, PAGE_SIZE))
    assert world.answers[again].error.code == "not_found"
    whole = world.ask(lambda t: events.FreeRequest(t, va, 0))
    world.settle(RNG)
    assert world.answers[whole].error is None
    assert not world.state.allocations
    assert world.state.free_pages(101) == world.rack.by_id(101).pages
    double = world.ask(lambda t: events.FreeRequest(t, va, 0))
    assert world.answers[double].error.code == "not_found"


def test_a_repeated_control_request_gets_the_same_answer_also_after_a_restart(world: World) -> None:
    pid = world.create_process(1)
    request = events.ControlRequest(1, pid, 42, Op.ALLOC, 0, wire.ALLOC_ARGS.pack(4096, 3, 0))
    world.feed(request)
    world.feed(request)  # while it is under way: nothing happens
    assert len(world.state.operations) == 1
    world.settle(RNG)
    world.restart()
    world.feed(request)
    answers = [r for r in world.replies if r.request_id == 42]
    assert len(answers) == 2
    assert answers[0] == answers[1]
    assert len(world.state.allocations) == 1


@pytest.mark.parametrize(
    ("op", "pid", "payload", "status"),
    [
        (Op.PROCESS_CREATE, 5, bytes(32), Status.BAD_REQUEST),  # only a local OS creates processes
        (Op.ALLOC, 0, wire.ALLOC_ARGS.pack(4096, 3, 0), Status.BAD_REQUEST),
        (Op.ALLOC, 1, b"", Status.BAD_REQUEST),
        (Op.FREE, 1, wire.FREE_ARGS.pack(4096, 0), Status.NOT_FOUND),
        (0x2A, 1, b"", Status.BAD_REQUEST),
    ],
)
def test_bad_control_requests_get_typed_replies(
    world: World, op: int, pid: int, payload: bytes, status: Status
) -> None:
    world.create_process(1)
    world.feed(events.ControlRequest(1, pid, 7, op, 0, payload))
    assert [r.status for r in world.replies if r.request_id == 7] == [status]


def test_another_processes_memory_cannot_be_freed(world: World) -> None:
    first, second = world.create_process(1), world.create_process(2)
    token = world.ask(lambda t: events.AllocRequest(t, first, 4096, 3))
    world.settle(RNG)
    va = world.answers[token].result["va"]
    world.feed(events.ControlRequest(2, second, 8, Op.FREE, va, wire.FREE_ARGS.pack(va, 0)))
    assert [r.status for r in world.replies if r.request_id == 8] == [Status.NOT_FOUND]
    assert world.state.allocations


def test_exit_frees_everything(world: World) -> None:
    pid = world.create_process(1)
    world.ask(lambda t: events.AllocRequest(t, pid, 100 * PAGE_SIZE, 3))
    world.settle(RNG)
    world.feed(events.ControlRequest(1, 0, 9, Op.PROCESS_EXIT, pid, b""))
    world.settle(RNG)
    assert not world.state.allocations
    assert not world.state.processes
    assert ("binding", (("element", 1), ("pid", pid))) not in world.entries


def test_an_old_sign_of_life_takes_nothing_back(world: World) -> None:
    """A heartbeat from before a pause of the controller is learnt of after the pause."""
    world.now = 10.0
    world.feed(events.Started())
    world.state = step(world.state, events.Heartbeat(101, 1), 0.1, world.config).state
    world.feed(events.Tick())
    assert world.state.elements[101].liveness is Liveness.ALIVE


def test_silence_means_failure_and_users_are_told(world: World) -> None:
    pid = world.create_process(1)
    token = world.ask(lambda t: events.AllocRequest(t, pid, 4 * PAGE_SIZE, 3))
    world.settle(RNG)
    va = world.answers[token].result["va"]
    element = world.stamp(pid, va)[0]
    world.now = 0.5
    world.feed(events.Tick())
    assert world.state.elements[element].liveness is Liveness.ALIVE
    world.now = 1.0
    for other in world.state.elements:
        if other != element:
            world.feed(events.Heartbeat(other, 1))
    world.feed(events.Tick())
    assert world.state.elements[element].liveness is Liveness.FAILED
    assert world.stamp(pid, va) is None
    assert [(n.pid, n.code, n.about) for n in world.notices] == [(pid, NotifyCode.ELEMENT_FAILED, element)]


def test_a_restarted_memory_element_serves_again_when_nothing_relies_on_it(world: World) -> None:
    pid = world.create_process(1)
    token = world.ask(lambda t: events.AllocRequest(t, pid, 4 * PAGE_SIZE, 3))
    world.settle(RNG)
    element = world.stamp(pid, world.answers[token].result["va"])[0]
    world.start_element(element)
    world.heartbeat(element)
    assert world.state.elements[element].liveness is Liveness.FAILED
    world.ask(lambda t: events.FreeRequest(t, world.answers[token].result["va"], 0))
    world.heartbeat(element)
    world.settle(RNG)
    assert world.state.elements[element].liveness is Liveness.ALIVE
    assert world.state.free_pages(element) == world.rack.by_id(element).pages


def test_hello_is_checked_against_the_rack(world: World) -> None:
    for pages, status in ((4096, Status.OK), (1, Status.BAD_REQUEST)):
        payload = wire.HELLO_ARGS.pack(wire.ElementKind.MEMORY, 1, 0, 0, pages, 1)
        world.feed(events.ControlRequest(101, 0, pages, Op.HELLO, 0, payload))
        assert next(r for r in world.replies if r.request_id == pages).status == status


def full_world(table_size: int) -> tuple[World, int, int]:
    world = World(small_rack(), Config(table_size=table_size, largest_block=64))
    pid = world.create_process(1)
    token = world.ask(lambda t: events.AllocRequest(t, pid, 64 * PAGE_SIZE, 3))
    world.settle(RNG)
    return world, pid, world.answers[token].result["va"]


@pytest.mark.parametrize("request_type", ["revoke", "free"])
def test_tables_that_are_full_refuse_and_nothing_happens(request_type: str) -> None:
    world, pid, va = full_world(table_size=16)
    refused = 0
    for page in range(0, 64, 2):
        before = world.state
        if request_type == "revoke":
            token = world.ask(lambda t, at=va + page * PAGE_SIZE: events.RevokeRequest(t, at, 1))
        else:
            token = world.ask(lambda t, at=va + page * PAGE_SIZE: events.FreeRequest(t, at, PAGE_SIZE))
        world.settle(RNG)
        error = world.answers[token].error
        if error is not None:
            refused += 1
            assert error.code == "out_of_memory"
            assert "16 entries" in error.message
            assert world.state == before
    assert refused == 32 - 15
    for table in ("translation", "protection"):
        assert sum(key[0] == table for key in world.entries) <= 16
    more = world.ask(lambda t: events.AllocRequest(t, pid, PAGE_SIZE, 3))
    assert world.answers[more].error.code == "out_of_memory"
    whole = world.ask(lambda t: events.FreeRequest(t, va, 0))
    world.settle(RNG)
    assert world.answers[whole].error is None, "freeing the whole needs no room"


def test_generations_end_in_a_refusal_and_memory_can_still_be_freed() -> None:
    world, pid, va = full_world(table_size=65536)
    counters = dataclasses.replace(world.state.counters, next_generation=wire.MAX_GENERATION - 5)
    world.state = dataclasses.replace(world.state, counters=counters)
    for make in (
        lambda t: events.AllocRequest(t, pid, PAGE_SIZE, 3),
        lambda t: events.RevokeRequest(t, va, 1),
        lambda t: events.FreeRequest(t, va, PAGE_SIZE),
    ):
        token = world.ask(make)
        assert "generations" in world.answers[token].error.message
    token = world.ask(lambda t: events.FreeRequest(t, va, 0))
    world.settle(RNG)
    assert world.answers[token].error is None


def ask_in_band(world: World, request: events.ControlRequest) -> list[Status]:
    """All answers to this request id."""
    world.feed(request)
    world.settle(RNG)
    return [Status(r.status) for r in world.replies if r.request_id == request.request_id]


def test_a_request_takes_effect_once_however_many_come_between(world: World) -> None:
    pid = world.create_process(1)
    first = events.ControlRequest(1, pid, 1000, Op.ALLOC, 0, wire.ALLOC_ARGS.pack(PAGE_SIZE, 3, 0))
    assert ask_in_band(world, first) == [Status.OK]
    for number in range(1001, 1100):
        ask_in_band(world, dataclasses.replace(first, request_id=number))
    world.now += answers.REMEMBERED_FOR / 2
    for _ in range(2):
        assert set(ask_in_band(world, first)) == {Status.OK}
        world.restart()
    assert len(world.state.allocations) == 100


def test_what_was_refused_is_not_granted_to_a_repetition(world: World) -> None:
    """Whoever asked has taken the refusal: nobody would know of the memory."""
    pid = world.create_process(1)
    request = events.ControlRequest(1, pid, 9, Op.ALLOC, 0, wire.ALLOC_ARGS.pack(PAGE_SIZE, 3, 0))
    everything = sum(world.state.free_pages(e.id) for e in world.rack.memory)
    token = world.ask(lambda t: events.AllocRequest(t, pid, everything * PAGE_SIZE, 3))
    world.settle(RNG)
    assert ask_in_band(world, request) == [Status.OUT_OF_MEMORY]
    world.ask(lambda t: events.FreeRequest(t, world.answers[token].result["va"], 0))
    world.settle(RNG)
    assert ask_in_band(world, request) == [Status.OUT_OF_MEMORY] * 2
    assert not world.state.allocations


def test_what_was_busy_may_be_asked_again(world: World) -> None:
    pid = world.create_process(1)
    token = world.ask(lambda t: events.AllocRequest(t, pid, PAGE_SIZE, 3))
    (va,) = world.state.allocations
    request = events.ControlRequest(1, pid, 9, Op.FREE, va, wire.FREE_ARGS.pack(va, 0))
    world.feed(request)
    world.settle(RNG)
    assert world.answers[token].error is None
    assert ask_in_band(world, request) == [Status.BUSY, Status.OK]


def test_answers_are_forgotten_in_time_and_a_speaker_with_too_many_waits(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers, "MOST_REMEMBERED", 5)
    pid = world.create_process(1)
    request = events.ControlRequest(1, pid, 0, Op.FREE, 0, wire.FREE_ARGS.pack(0, 0))
    statuses = [ask_in_band(world, dataclasses.replace(request, request_id=n)) for n in range(100, 107)]
    assert statuses == [[Status.NOT_FOUND]] * 5 + [[Status.BUSY]] * 2
    assert ask_in_band(world, dataclasses.replace(request, request_id=100)) == [Status.NOT_FOUND] * 2
    other = world.create_process(1)
    assert ask_in_band(world, dataclasses.replace(request, pid=other, request_id=200)) == [Status.NOT_FOUND]
    world.now += answers.REMEMBERED_FOR + 1
    assert ask_in_band(world, dataclasses.replace(request, request_id=300)) == [Status.NOT_FOUND]
    assert len(world.state.answered[1, pid]) == 1
    world.feed(events.ControlRequest(1, 0, 400, Op.PROCESS_EXIT, pid, b""))
    assert not [key for key in (*world.state.replies, *world.state.refusals) if key[1] == pid]
    assert (1, pid) not in world.state.answered


FREE = {1: ((0, 4), (8, 2)), 2: ((0, 16),), 3: ((0, 1), (4, 3), (16, 9))}


@pytest.mark.parametrize(
    ("policy", "pages", "chosen"),
    [
        ("first-fit", 2, (1, 0)),
        ("first-fit", 8, (2, 0)),
        ("best-fit", 2, (1, 8)),
        ("best-fit", 4, (1, 0)),
        ("best-fit", 8, (3, 16)),
        ("worst-fit", 1, (2, 0)),
        ("balance", 1, (2, 0)),
        ("balance", 16, (2, 0)),
        *((policy, 32, None) for policy in sorted(POLICIES)),
    ],
)
def test_what_each_policy_chooses(policy: str, pages: int, chosen: tuple[int, int] | None) -> None:
    assert POLICIES[policy](FREE, pages) == chosen


def test_the_order_of_a_plan(world: World) -> None:
    """Stored and in the switch before anybody hears of it; whoever waits is answered before others are told."""
    owner = world.create_process(1)
    world.ask(lambda t: events.AllocRequest(t, owner, PAGE_SIZE, 3))
    world.settle(RNG)
    (allocation,) = world.state.allocations.values()
    request = events.RevokeRequest(77, allocation.va, 1)
    begun = step(world.state, request, 0.0, Config())
    assert [type(e) for e in begun.plan] == [events.Persist, events.WriteSwitch, events.Send]
    (message,) = begun.state.messages.values()
    done = step(begun.state, events.Acknowledged(message.element, message.id, int(Status.OK)), 0.0, Config())
    assert [type(e) for e in done.plan] == [events.Persist, events.Publish, events.Answer, events.Notify]
