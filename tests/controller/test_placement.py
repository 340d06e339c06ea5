"""Wishes of where memory is to be: what is near, policies by name, and every surface that says so."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from world import World

from controller.core import allocator, events
from controller.core.blocks import take
from controller.core.memory import Config
from controller.core.placement import POLICIES, Wish, policy_name, tiers
from protocol import wire
from protocol.wire import GROUP_SHIFT, PAGE_SIZE, AllocFlag, HintFlag, Op, Perm, Placement, Status
from topologies.racks import small_rack

RNG = random.Random(5)
M1, M2, N1 = 101, 102, 103


@pytest.fixture
def world() -> World:
    made = World(small_rack(compute=2, dram=2, nvm=1, memory_mib=1), Config())
    made.ask(lambda t: events.GroupRequest(t, "kv", bytes(16), 0, 0))
    return made


def alloc(world: World, pid: int, pages: int = 4, flags: int = 0, **wish) -> events.Answer:
    token = world.ask(lambda t: events.AllocRequest(t, pid, pages * PAGE_SIZE, 3, flags, Wish(**wish)))
    world.settle(RNG)
    return world.answers[token]


def elements(world: World, answer: events.Answer) -> set[int]:
    assert answer.error is None, answer.error
    return {s.element for s in world.state.allocations[answer.result["va"]].segments}


# ------------------------------------------------------------------------------------------------------------ the order


def test_what_is_near() -> None:
    assert tiers({1, 2, 3}, None, {}) == [[1, 2, 3]]
    assert tiers({1, 2, 3}, 2, {}) == [(2,), [1, 3]]
    assert tiers({1, 2, 3}, 9, {}) == [[1, 2, 3]], "what is not usable is not near"
    assert tiers({1, 2, 3}, None, {3: 5, 2: 9, 7: 100, 1: 0}) == [(2,), (3,), [1]]
    assert tiers({1, 2, 3}, 1, {3: 5, 2: 9, 1: 3}) == [(1,), (2,), (3,)]


@given(
    st.dictionaries(st.integers(1, 4), st.integers(0, 40), min_size=1),
    st.integers(1, 60),
    st.sampled_from(sorted(POLICIES)),
    st.permutations([1, 2, 3, 4]),
)
def test_no_more_elements_are_used_than_are_needed(
    room: dict[int, int], pages: int, policy: str, order: list[int]
) -> None:
    free = {e: ((7, n),) if n else () for e, n in room.items()}
    wanted = [(e,) for e in order if e in free]
    placed = allocator.place(1 << 48, pages, free, POLICIES[policy], 64, (1, 3, 1), wanted)
    if sum(room.values()) < pages:
        assert placed is None
        return
    assert placed is not None
    segments, left = placed
    assert sum(s.pages for s in segments) == pages
    need, enough = 0, set()
    for (element,) in wanted:
        if need < pages:
            enough.add(element)
            need += room[element]
    assert {s.element for s in segments} <= enough
    for segment in segments:  # disjoint, and out of what was free
        free[segment.element] = take(free[segment.element], segment.pa // PAGE_SIZE, segment.pages)
    assert free == left


def test_codes_have_the_names_of_policies() -> None:
    assert {policy_name(p) for p in Placement} == {"", *POLICIES}


# --------------------------------------------------------------------------------------------------------------- wishes


def test_a_named_element_is_taken_while_it_has_room(world: World) -> None:
    pid = world.create_process(1)
    for name, element in (("m2", M2), ("n1", N1), ("m1", M1)):
        assert elements(world, alloc(world, pid, element=name)) == {element}
    assert elements(world, alloc(world, pid, 251, element="m2")) == {M2}
    assert elements(world, alloc(world, pid, element="m2")) != {M2}, "a wish is a wish"
    refused = alloc(world, pid, element="m2", strict=True)
    assert refused.error is not None
    assert (refused.error.code, "4096 free where it may be" in refused.error.message) == ("out_of_memory", True)
    assert elements(world, alloc(world, pid, 1, element="m2", strict=True)) == {M2}


def test_near_an_address_is_in_its_element_also_where_a_page_is_another_owners(world: World) -> None:
    pid, other = world.create_process(1), world.create_process(2)
    va = alloc(world, pid, element="n1").result["va"]
    world.ask(lambda t: events.GrantRequest(t, va, 1, other, 3))
    world.settle(RNG)
    for address in (va, va + PAGE_SIZE + 5):
        assert elements(world, alloc(world, other, near=address)) == {N1}


def test_media_and_wish_go_together(world: World) -> None:
    pid = world.create_process(1)
    assert elements(world, alloc(world, pid, flags=AllocFlag.NVM)) == {N1}
    assert elements(world, alloc(world, pid, flags=AllocFlag.DRAM, element="n1")) <= {M1, M2}
    refused = alloc(world, pid, flags=AllocFlag.DRAM, element="n1", strict=True)
    assert refused.error is not None
    assert refused.error.code == "out_of_memory"


def test_locality_keeps_what_belongs_together_in_one_element(world: World) -> None:
    one, two, three = (world.create_process(c) for c in (1, 1, 2))
    homes = {pid: elements(world, alloc(world, pid, 8, policy="locality")) for pid in (one, two, three)}
    assert len({next(iter(home)) for home in homes.values()}) == 3, (
        "who has nothing yet begins where there is most room"
    )
    for pid, home in homes.items():
        for _ in range(4):
            assert elements(world, alloc(world, pid, 8, policy="locality")) == home
    group = 1 << GROUP_SHIFT
    home = elements(world, alloc(world, one, 8, group, element="m2", policy="locality"))
    assert elements(world, alloc(world, three, 8, group, policy="locality")) == home == {M2}
    assert elements(world, alloc(world, one, 8, policy="locality")) == homes[one], "memory of no group is its process's"


def test_a_policy_is_chosen_by_name_for_one_allocation(world: World) -> None:
    pid = world.create_process(1)
    for policy in POLICIES:
        assert alloc(world, pid, policy=policy).error is None
    spread = set().union(*(elements(world, alloc(world, pid, 8, policy="balance")) for _ in range(6)))
    assert spread == {M1, M2, N1}


@pytest.mark.parametrize(
    ("wish", "code", "says"),
    [
        ({"policy": "random"}, "bad_request", "there are balance, best-fit, first-fit, locality, worst-fit"),
        ({"element": "m9"}, "not_found", "there are m1, m2, n1"),
        ({"element": "c1"}, "not_found", "no memory element 'c1'"),
        ({"near": 4096}, "not_found", "nothing is allocated at 0x1000"),
        ({"element": "m1", "near": 4096}, "bad_request", "not both"),
        ({"strict": True}, "bad_request", "names an element or an address"),
    ],
)
def test_wishes_that_make_no_sense(world: World, wish: dict, code: str, says: str) -> None:
    pid = world.create_process(1)
    before = world.state
    answer = alloc(world, pid, **wish)
    assert answer.error is not None
    assert answer.error.code == code
    assert says in answer.error.message
    assert (world.state.allocations, world.state.free) == (before.allocations, before.free)


# -------------------------------------------------------------------------------------------------------------- in band


def in_band(world: World, pid: int, hint: bytes) -> tuple[int, int]:
    """Status and address."""
    number = world.new_number()
    payload = wire.ALLOC_ARGS.pack(PAGE_SIZE, int(Perm.RW), 0) + hint
    world.feed(events.ControlRequest(1, pid, number, Op.ALLOC, 0, payload))
    world.settle(RNG)
    reply = next(r for r in world.replies if r.request_id == number)
    return reply.status, reply.va


def test_wishes_in_band(world: World) -> None:
    pid = world.create_process(1)
    status, va = in_band(world, pid, wire.ALLOC_HINT.pack(0, Placement.LOCALITY, HintFlag.STRICT, b"n1"))
    assert status == Status.OK
    assert world.state.allocations[va].segments[0].element == N1
    status, near = in_band(world, pid, wire.ALLOC_HINT.pack(va, Placement.DEFAULT, 0, b""))
    assert world.state.allocations[near].segments[0].element == N1
    for hint, refusal in (
        (wire.ALLOC_HINT.pack(0, 99, 0, b""), Status.BAD_REQUEST),
        (wire.ALLOC_HINT.pack(0, 0, 0x80, b""), Status.BAD_REQUEST),
        (wire.ALLOC_HINT.pack(0, 0, 0, b"\xff\xfe"), Status.BAD_REQUEST),
        (wire.ALLOC_HINT.pack(0, 0, 0, b"nobody"), Status.NOT_FOUND),
        (wire.ALLOC_HINT.pack(1 << 60, 0, 0, b""), Status.NOT_FOUND),
    ):
        assert in_band(world, pid, hint)[0] == refusal


def test_flags_that_nobody_knows_are_refused(world: World) -> None:
    pid = world.create_process(1)
    for flags in (0x10, 0x80, int(AllocFlag.DRAM | AllocFlag.NVM)):
        answer = alloc(world, pid, flags=flags)
        assert answer.error is not None
        assert answer.error.code == "bad_request"
