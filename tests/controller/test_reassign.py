"""Memory that changes hands: grant, protect, stat, and what becomes of it when somebody dies."""

from __future__ import annotations

import random

import pytest
from test_recovery import allocate, lose_all, silence
from test_safety import tiny_rack
from world import World

from controller.core import entries, events, layout
from controller.core.memory import Config
from controller.core.state import Allocation, Liveness, OverrideKind
from protocol import capability, wire
from protocol.wire import PAGE_SIZE, NotifyCode, Op, Perm, Status

RNG = random.Random(0)


@pytest.fixture
def world() -> World:
    return World(tiny_rack(), Config(largest_block=8))


def settle(world: World, token: int) -> events.Answer:
    world.settle(RNG)
    return world.answers[token]


def grant(world: World, va: int, pages: int, recipient: int, permissions: int = 3) -> int:
    return world.ask(lambda t: events.GrantRequest(t, va, pages, recipient, permissions))


def usable(world: World, pid: int, va: int, need: Perm = Perm.WRITE) -> bool:
    return world.passes(pid, va, world.stamp(pid, va, need), need)


def in_band(world: World, pid: int, op: Op, va: int, payload: bytes) -> Status:
    request_id = world.new_number()
    element = world.state.processes[pid].element
    world.feed(events.ControlRequest(element, pid, request_id, op, va, payload))
    world.settle(RNG)
    return Status(next(r.status for r in world.replies if r.request_id == request_id))


def owners(allocation: Allocation) -> list[int]:
    return [piece.pid for piece in layout.runs(allocation) for _ in range(piece.pages)]


def test_granted_pages_keep_address_and_contents(world: World) -> None:
    giver, va = allocate(world, 12)
    recipient = world.create_process(2)
    sent = [world.send_write(giver, va + n * PAGE_SIZE) for n in range(12)]
    late = world.stamp(giver, va + 3 * PAGE_SIZE)
    token = grant(world, va + 2 * PAGE_SIZE, 7, recipient)
    assert world.stamp(giver, va + 2 * PAGE_SIZE) is None, "withdrawn at once"
    early = [world.stamp(recipient, va + n * PAGE_SIZE) for n in range(2, 9)]
    assert None not in early, "the switch is ready for it"
    assert not any(world.passes(recipient, va + n * PAGE_SIZE, early[n - 2]) for n in range(2, 9)), "elements are not"
    changes = len(world.writes)
    answer = settle(world, token)
    assert len(world.writes) == changes, "the switch has been changed once"
    assert answer.result == {"va": va + 2 * PAGE_SIZE, "pages": 7, "owner": recipient, "source": giver}
    for n in range(12):
        mine, theirs = (giver, recipient) if n not in range(2, 9) else (recipient, giver)
        assert usable(world, mine, va + n * PAGE_SIZE)
        assert world.stamp(theirs, va + n * PAGE_SIZE) is None
        element, pa, _ = world.stamp(mine, va + n * PAGE_SIZE)
        word = int.from_bytes(world.elements[element].memory[pa : pa + 8], "big")
        assert sent[n] is not None
        assert word == sent[n].number, "the contents, also of writes that were on their way"
    assert not world.passes(giver, va + 3 * PAGE_SIZE, late)
    told = [(n.pid, n.code, n.about, n.va, n.pages) for n in world.notices]
    assert (recipient, NotifyCode.GRANTED, giver, va + 2 * PAGE_SIZE, 7) in told
    assert (giver, NotifyCode.REVOKED, 0, va + 2 * PAGE_SIZE, 7) in told
    assert {e.key: e for e in entries.all_entries(world.state)} == world.entries


def test_pages_go_on_to_a_third_process_and_come_back(world: World) -> None:
    first, va = allocate(world, 8)
    second, third = world.create_process(2), world.create_process(1)
    for giver, recipient in ((first, second), (second, third), (third, first)):
        assert usable(world, giver, va)
        assert settle(world, grant(world, va, 8, recipient)).error is None
        assert [p for p in (first, second, third) if usable(world, p, va)] == [recipient]


def test_a_process_grants_in_band_and_is_not_told_what_it_did(world: World) -> None:
    giver, va = allocate(world, 4)
    recipient = world.create_process(2)
    args = wire.GRANT_ARGS.pack(2, recipient, Perm.READ)
    assert in_band(world, giver, Op.GRANT, va, args) == Status.OK
    assert [n.code for n in world.notices] == [NotifyCode.GRANTED]
    assert usable(world, recipient, va, Perm.READ)
    assert not usable(world, recipient, va, Perm.WRITE)
    assert in_band(world, giver, Op.GRANT, va, args) == Status.PERMISSION, "it has given them away"
    assert in_band(world, recipient, Op.PROTECT, va, wire.PROTECT_ARGS.pack(2, Perm.RW)) == Status.OK
    assert usable(world, recipient, va, Perm.RW)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"pages": 0}, "bad_request"),
        ({"pages": 9}, "bad_request"),
        ({"offset": 1}, "bad_request"),
        ({"offset": 100 * PAGE_SIZE}, "not_found"),
        ({"permissions": 0}, "bad_request"),
        ({"permissions": 4}, "bad_request"),
        ({"recipient": 4000}, "no_such_process"),
        ({"recipient": 1}, "bad_request"),  # itself
    ],
)
def test_impossible_grants_change_nothing(world: World, change: dict[str, int], code: str) -> None:
    giver, va = allocate(world, 8)
    assert giver == 1
    recipient = change.get("recipient", world.create_process(2))
    before, sent = world.state, world.entries.copy()
    token = grant(world, va + change.get("offset", 0), change.get("pages", 1), recipient, change.get("permissions", 3))
    assert world.answers[token].error.code == code
    assert world.state == before
    assert world.entries == sent


def test_pages_that_are_on_their_way_are_busy(world: World) -> None:
    _, va = allocate(world, 8)
    recipient = world.create_process(2)
    first = grant(world, va, 4, recipient)
    for make in (
        lambda t: events.GrantRequest(t, va + 3 * PAGE_SIZE, 2, recipient, 3),
        lambda t: events.ProtectRequest(t, va, 1, 1),
        lambda t: events.RevokeRequest(t, va, 1),
        lambda t: events.FreeRequest(t, va, PAGE_SIZE),
        lambda t: events.FreeRequest(t, va, 0),
    ):
        token = world.ask(make)
        assert world.answers[token].error.code == "busy"
    assert settle(world, first).error is None


def test_revoked_and_freed_pages_cannot_be_granted(world: World) -> None:
    _, va = allocate(world, 8)
    recipient = world.create_process(2)
    world.ask(lambda t: events.RevokeRequest(t, va, 1))
    world.ask(lambda t: events.FreeRequest(t, va + PAGE_SIZE, PAGE_SIZE))
    world.settle(RNG)
    for page in (0, 1):
        token = grant(world, va + page * PAGE_SIZE, 1, recipient)
        assert world.answers[token].error.code == "not_found"


def test_granted_memory_outlives_its_first_owner(world: World) -> None:
    giver, va = allocate(world, 8)
    recipient = world.create_process(2)
    settle(world, grant(world, va + 2 * PAGE_SIZE, 3, recipient))
    free = sum(world.state.free_pages(e.id) for e in world.rack.memory)
    assert in_band_exit(world, giver) == Status.OK
    assert sum(world.state.free_pages(e.id) for e in world.rack.memory) == free + 5
    assert all(usable(world, recipient, va + n * PAGE_SIZE) for n in (2, 3, 4))
    assert giver not in {world.create_process(1) for _ in range(3)}
    assert in_band_exit(world, recipient) == Status.OK
    assert not world.state.allocations, "nobody has anything of it"
    assert sum(world.state.free_pages(e.id) for e in world.rack.memory) == free + 8


def in_band_exit(world: World, pid: int) -> Status:
    request_id = world.new_number()
    element = world.state.processes[pid].element
    world.feed(events.ControlRequest(element, 0, request_id, Op.PROCESS_EXIT, pid, b""))
    world.settle(RNG)
    return Status(next(r.status for r in world.replies if r.request_id == request_id))


@pytest.mark.parametrize("who", ["giver", "recipient"])
def test_an_exit_while_pages_are_on_their_way(world: World, who: str) -> None:
    giver, va = allocate(world, 8)
    recipient = world.create_process(2)
    token = grant(world, va, 4, recipient)
    in_band_exit(world, giver if who == "giver" else recipient)
    assert world.answers[token].error is None
    (allocation,) = world.state.allocations.values()
    kept = {"giver": [recipient] * 4, "recipient": [giver] * 4}[who]
    assert [p.pid for p in layout.without(allocation, OverrideKind.FREED) for _ in range(p.pages)] == kept
    assert sum(world.state.free_pages(e.id) for e in world.rack.memory) == 32 - 4


def test_each_frees_its_own(world: World) -> None:
    giver, va = allocate(world, 8)
    recipient = world.create_process(2)
    settle(world, grant(world, va + 4 * PAGE_SIZE, 4, recipient))
    assert (
        in_band(world, giver, Op.FREE, va, wire.FREE_ARGS.pack(va + 3 * PAGE_SIZE, 2 * PAGE_SIZE)) == Status.NOT_FOUND
    )
    assert in_band(world, giver, Op.FREE, va, wire.FREE_ARGS.pack(va, 0)) == Status.OK
    (allocation,) = world.state.allocations.values()
    assert owners(allocation)[4:] == [recipient] * 4
    assert usable(world, recipient, va + 4 * PAGE_SIZE)
    args = wire.FREE_ARGS.pack(va + 4 * PAGE_SIZE, 4 * PAGE_SIZE)
    assert in_band(world, recipient, Op.FREE, va, args) == Status.OK
    assert not world.state.allocations


def test_protect_and_stat(world: World) -> None:
    pid, va = allocate(world, 8)
    token = world.ask(lambda t: events.ProtectRequest(t, va + 4 * PAGE_SIZE, 2, Perm.READ))
    settle(world, token)
    assert not usable(world, pid, va + 4 * PAGE_SIZE, Perm.WRITE)
    assert usable(world, pid, va + 5 * PAGE_SIZE, Perm.READ)
    assert usable(world, pid, va + 6 * PAGE_SIZE, Perm.WRITE)
    for page, expected in ((0, (4, 3)), (5, (1, 1)), (6, (2, 3))):
        answer = world.answers[world.ask(lambda t, page=page: events.StatRequest(t, va + page * PAGE_SIZE + 7))]
        found = answer.result
        assert (found["va"], found["pages"], found["permissions"]) == (va + page * PAGE_SIZE, *expected)
        assert found["owner"] == pid
    nothing = world.ask(lambda t: events.StatRequest(t, 0))
    assert world.answers[nothing].error.code == "not_found"
    stored = len(world.state.replies)
    assert in_band(world, pid, Op.STAT, va, b"") == Status.OK
    reply = world.replies[-1]
    assert wire.STAT_REPLY.unpack(reply.payload)[:3] == (4, world.state.allocations[va].segments[0].generation, pid)
    assert len(world.state.replies) == stored, "a question needs no memory"


def test_pages_of_a_failed_element_stay_where_they_are(world: World) -> None:
    _, va = allocate(world, 1)
    recipient = world.create_process(2)
    (allocation,) = world.state.allocations.values()
    silence(world, allocation.segments[0].element)
    token = grant(world, va, 1, recipient)
    assert world.answers[token].error.code == "element_failed"
    assert world.state.allocations[va] == allocation


@pytest.mark.parametrize("recovers", ["before the others acknowledge", "after they have"])
def test_an_element_that_fails_in_the_middle_is_told_by_its_recovery(world: World, recovers: str) -> None:
    giver, va = allocate(world, 20)
    recipient = world.create_process(2)
    old = {n: world.stamp(giver, va + n * PAGE_SIZE) for n in range(20)}
    assert {s[0] for s in old.values() if s} == {101, 102}
    token = grant(world, va, 20, recipient)
    lose_all(world)
    silence(world, 101)
    if recovers == "after they have":
        assert settle(world, token).error is None
        assert NotifyCode.ELEMENT_FAILED in {n.code for n in world.notices if n.pid == recipient}
    world.heartbeat(101)
    assert settle(world, token).error is None
    assert world.state.elements[101].liveness is Liveness.ALIVE
    for n in range(20):
        assert usable(world, recipient, va + n * PAGE_SIZE)
        assert not world.passes(giver, va + n * PAGE_SIZE, old[n])


@pytest.mark.parametrize("effects", range(14))
@pytest.mark.parametrize("kind", ["grant", "protect"])
def test_crash_at_every_effect(effects: int, kind: str) -> None:
    """After the restart it is done, or was never asked for; switch, elements and store agree; nothing is lost."""
    world = World(tiny_rack(), Config(largest_block=8))
    giver, va = allocate(world, 12)
    recipient = world.create_process(2) if kind == "grant" else giver
    written = world.send_write(giver, va + 2 * PAGE_SIZE)
    assert written is not None
    generation = world.state.allocations[va].segments[0].generation
    world.crash_after = effects
    if kind == "grant":
        token = grant(world, va + 2 * PAGE_SIZE, 7, recipient)
    else:
        token = world.ask(lambda t: events.ProtectRequest(t, va + 2 * PAGE_SIZE, 7, Perm.RW))
    world.settle(RNG)
    world.crash_after = None
    world.settle(RNG)
    (allocation,) = world.state.allocations.values()
    middle = next(layout.runs(allocation, va + 4 * PAGE_SIZE))
    done = middle.generation > generation
    assert done or (effects == 0 and token not in world.answers)
    assert not world.state.operations
    assert not layout.without(allocation, OverrideKind.OWNED)
    owner = recipient if done else giver
    assert middle.pid == owner
    assert kind == "grant" or not allocation.overrides, "all is the same again"
    assert all(usable(world, owner, va + n * PAGE_SIZE) for n in range(2, 9))
    assert all(usable(world, giver, va + n * PAGE_SIZE) for n in (0, 1, 9, 10, 11))
    assert [len(o) for o in world.page_owners().values()] == [1] * 12
    element, pa, _ = world.stamp(owner, va + 2 * PAGE_SIZE)
    assert int.from_bytes(world.elements[element].memory[pa : pa + 8], "big") == written.number
    assert {e.key: e for e in entries.all_entries(world.state)} == world.entries


def test_a_grant_touches_nothing_of_others(world: World) -> None:
    """S5."""
    giver, va = allocate(world, 8)
    _, bystander = allocate(world, 8)
    recipient = world.create_process(2)
    world.writes.clear()
    settle(world, grant(world, va, 3, recipient))
    assert world.writes
    for write in world.writes:
        match = dict(write.entry.match)
        assert match["pid"] in (giver, recipient)
        assert va <= match["va"][0] < va + 3 * PAGE_SIZE
        assert match["va"][0] != bystander


def test_grants_are_refused_when_the_tables_are_full() -> None:
    world = World(tiny_rack(), Config(largest_block=16, table_size=6))
    _, va = allocate(world, 8)
    recipient = world.create_process(2)
    assert settle(world, grant(world, va, 1, recipient)).error is None
    assert settle(world, grant(world, va + 2 * PAGE_SIZE, 1, recipient)).error is None
    before = world.state
    token = grant(world, va + 4 * PAGE_SIZE, 1, recipient)
    assert world.answers[token].error.code == "out_of_memory"
    assert world.state == before


@pytest.mark.parametrize("kind", ["grant", "steal", "protect", "revoke", "free", "migrate"])
def test_a_range_over_two_allocations_is_refused_with_its_limit(world: World, kind: str) -> None:
    """Also when they are neighbours: nothing happens, and the text says how far one may go."""
    secret = bytes(16)
    world.ask(lambda t: events.GroupRequest(t, "g", secret, 0, 0))
    pid = world.create_process(1)
    vas = []
    for _ in range(2):
        args = wire.ALLOC_ARGS.pack(8 * PAGE_SIZE, 3, 1 << wire.GROUP_SHIFT)
        assert in_band(world, pid, Op.ALLOC, 0, args) == Status.OK
        vas.append(world.replies[-1].va)
    assert vas[1] == vas[0] + 8 * PAGE_SIZE
    other, va = world.create_process(2), vas[0] + 6 * PAGE_SIZE
    token = capability.pack(capability.mint(secret, 1, other, 10))
    make = {
        "grant": lambda t: events.GrantRequest(t, va, 4, other, 3),
        "steal": lambda t: events.StealRequest(t, va, 4, other, pid, 1, token, 3, 5.0),
        "protect": lambda t: events.ProtectRequest(t, va, 4, 1),
        "revoke": lambda t: events.RevokeRequest(t, va, 4),
        "free": lambda t: events.FreeRequest(t, va, 4 * PAGE_SIZE),
        "migrate": lambda t: events.MigrateRequest(t, va, 4, 102),
    }[kind]
    before, held = world.state, world.entries.copy()
    answer = world.answers[world.ask(make)]
    assert answer.error.code == "bad_request"
    assert f"{vas[0]:#x} to {vas[1]:#x}" in answer.error.message
    assert (world.state, world.entries) == (before, held)
