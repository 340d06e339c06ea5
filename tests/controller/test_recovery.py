"""Elements that are only slow, and those that restart: what was lost on its way to them must be made good."""

from __future__ import annotations

import random

import pytest
from test_safety import tiny_rack
from world import World

from controller.core import entries, events, layout
from controller.core.memory import Config
from controller.core.state import Liveness, OverrideKind
from protocol.wire import PAGE_SIZE, NotifyCode, Perm, Status

RNG = random.Random(0)


@pytest.fixture
def world() -> World:
    return World(tiny_rack(), Config(largest_block=8))


def allocate(world: World, pages: int) -> tuple[int, int]:
    """A process on the first compute element with this much memory: (pid, va)."""
    pid = world.create_process(1)
    token = world.ask(lambda t: events.AllocRequest(t, pid, pages * PAGE_SIZE, 3))
    world.settle(RNG)
    va = world.answers[token].result["va"]
    assert isinstance(va, int)
    return pid, va


def lose_all(world: World) -> None:
    for channel in world.channels.values():
        channel.clear()


def silence(world: World, element: int) -> None:
    world.now += 10
    for other in world.state.elements:
        if other != element:
            world.heartbeat(other)
    world.feed(events.Tick())
    assert world.state.elements[element].liveness is Liveness.FAILED


def port_action(world: World, element: int) -> str:
    return world.entries["element", (("port", world.rack.by_id(element).port),)].action


def test_a_fence_waits_for_the_writes_that_are_under_way(world: World) -> None:
    pid, va = allocate(world, 1)
    sent = world.send_write(pid, va)
    assert sent is not None
    token = world.ask(lambda t: events.FenceRequest(t, 1, True))
    assert world.send_write(pid, va) is None, "nothing new passes"
    assert token not in world.answers, "acknowledged before the memory elements were asked"
    unfence = world.ask(lambda t: events.FenceRequest(t, 1, False))
    assert world.answers[unfence].error.code == "busy"
    world.deliver_to(sent.element, RNG)
    assert world.confirmed == [(sent, Status.OK)]
    world.settle(RNG)
    assert world.answers[token].result == {"element": 1, "fenced": True}
    again = world.ask(lambda t: events.FenceRequest(t, 1, True))
    world.settle(RNG)
    assert world.answers[again].error is None


def test_pages_whose_clear_was_lost_are_cleared_by_the_recovery(world: World) -> None:
    pid, va = allocate(world, 20)
    vas = [va + n * PAGE_SIZE for n in range(20)]
    stamps = [(va, s) for va in vas if (s := world.stamp(pid, va)) and s[0] == 101]
    assert stamps, "the allocation must span both elements"
    token = world.ask(lambda t: events.FreeRequest(t, va, 0))
    lose_all(world)
    silence(world, 101)
    world.heartbeat(101)  # 101 is back before 102 has acknowledged
    world.settle(RNG)
    assert world.answers[token].error is None
    assert world.state.elements[101].liveness is Liveness.ALIVE
    assert not [hex(va) for va, s in stamps if world.passes(pid, va, s)]


@pytest.mark.parametrize("acknowledged", [False, True])
def test_an_allocation_that_lost_a_page_table_is_not_given_out(world: World, acknowledged: bool) -> None:
    pid = world.create_process(1)
    token = world.ask(lambda t: events.AllocRequest(t, pid, 20 * PAGE_SIZE, 3))
    if acknowledged:
        while world.channels[101]:
            world.deliver_to(101, RNG)
    lose_all(world)
    silence(world, 101)
    world.heartbeat(101)
    world.settle(RNG)
    error = world.answers[token].error
    assert error is not None
    assert error.code == "element_failed"
    assert "m1" in error.message
    assert not world.state.allocations
    assert world.state.free_pages(101) == world.state.free_pages(102) == 16


def test_a_lost_revoke_overtaken_by_a_partial_free_fails_no_element(world: World) -> None:
    _, va = allocate(world, 8)
    world.ask(lambda t: events.RevokeRequest(t, va, 8))
    lose_all(world)  # repeated later
    world.ask(lambda t: events.FreeRequest(t, va + 2 * PAGE_SIZE, 2 * PAGE_SIZE))
    world.settle(RNG)
    assert all(e.liveness is Liveness.ALIVE for e in world.state.elements.values())


def test_a_slow_element_confirms_nothing_while_changes_are_acknowledged_without_it(world: World) -> None:
    pid, va = allocate(world, 1)
    sent, other = world.send_write(pid, va), world.send_write(pid, va)
    assert sent is not None
    assert other is not None
    element = sent.element
    silence(world, element)
    assert port_action(world, element) == "fence"
    token = world.ask(lambda t: events.RevokeRequest(t, va, 1))
    assert world.answers[token].error is None, "it is not waited for"
    world.deliver_to(element, RNG)  # the write lands, and nobody hears of it
    assert world.landed == {sent.number}
    assert world.confirmed == []
    world.heartbeat(element)
    assert world.state.elements[element].liveness is Liveness.FAILED, "first it must be made safe"
    assert port_action(world, element) == "fence"
    world.settle(RNG)
    assert world.state.elements[element].liveness is Liveness.ALIVE
    assert port_action(world, element) == "attach"
    assert world.confirmed == []


def test_an_element_without_an_idle_page_is_recovered_behind_a_barrier() -> None:
    world = World(tiny_rack(), Config(largest_block=16))
    pid, va = allocate(world, 16)
    sent = world.send_write(pid, va)
    assert sent is not None
    assert world.state.free_pages(sent.element) == 0
    silence(world, sent.element)
    token = world.ask(lambda t: events.FenceRequest(t, 1, True))
    world.heartbeat(sent.element)
    assert world.state.elements[sent.element].liveness is Liveness.FAILED, "a write is still on its way to it"
    world.settle(RNG)
    assert world.answers[token].error is None
    assert world.confirmed == []
    assert world.state.elements[sent.element].liveness is Liveness.ALIVE


def test_a_restart_during_the_recovery_begins_a_new_one(world: World) -> None:
    silence(world, 101)
    world.heartbeat(101)
    (first,) = world.state.operations.values()
    world.start_element(101)
    world.heartbeat(101)
    (second,) = world.state.operations.values()
    assert first.id != second.id
    assert not first.waiting & set(world.state.messages)
    world.settle(RNG)
    assert world.state.elements[101].liveness is Liveness.ALIVE
    assert world.state.elements[101].incarnation == world.incarnations[101]
    assert not world.state.operations


def restart(world: World, element: int) -> None:
    world.start_element(element)
    world.heartbeat(element)
    world.settle(RNG)
    assert world.state.elements[element].liveness is Liveness.ALIVE


def word(world: World, pid: int, va: int) -> int:
    element, pa, _ = world.stamp(pid, va, Perm.READ)
    return int.from_bytes(world.elements[element].memory[pa : pa + 8], "big")


def codes(world: World, pid: int) -> list[NotifyCode]:
    return [NotifyCode(n.code) for n in world.notices if n.pid == pid]


def test_an_nvm_element_serves_its_old_allocations_again() -> None:
    world = World(tiny_rack(nvm=2), Config(largest_block=8))
    pid, va = allocate(world, 20)
    other = world.create_process(2)
    vas = [va + n * PAGE_SIZE for n in range(20)]
    sent = {va: world.send_write(pid, va) for va in vas}
    world.settle(RNG)
    world.ask(lambda t: events.RevokeRequest(t, vas[1], 1))
    world.ask(lambda t: events.GrantRequest(t, vas[2], 2, other, 3))
    world.settle(RNG)
    late = {va: world.stamp(pid, va) for va in vas}
    for element in (101, 102):
        restart(world, element)
    for va in vas[4:]:
        assert world.passes(pid, va, world.stamp(pid, va))
        assert world.passes(pid, va, late[va])
        assert word(world, pid, va) == sent[va].number
    assert world.stamp(pid, vas[1]) is None, "what was revoked stays revoked"
    assert world.stamp(pid, vas[2]) is None
    assert word(world, other, vas[3]) == sent[vas[3]].number
    assert NotifyCode.MEMORY_LOST not in codes(world, pid)
    assert codes(world, pid).count(NotifyCode.ELEMENT_RECOVERED) >= 2
    assert NotifyCode.ELEMENT_RECOVERED in codes(world, other)


def test_a_dram_element_says_that_its_memory_is_lost(world: World) -> None:
    pid, va = allocate(world, 20)
    other = world.create_process(2)
    world.ask(lambda t: events.GrantRequest(t, va, 2, other, 3))
    world.settle(RNG)
    lost = [va + n * PAGE_SIZE for n in range(20) if world.stamp(pid if n > 1 else other, va + n * PAGE_SIZE)[0] == 101]
    kept = [va + n * PAGE_SIZE for n in range(20) if va + n * PAGE_SIZE not in lost]
    assert lost[0] == va
    assert kept
    old = world.stamp(other, va)
    restart(world, 101)
    told = [(n.pid, n.va, n.pages) for n in world.notices if n.code == NotifyCode.MEMORY_LOST]
    assert sum(pages for _, _, pages in told) == len(lost)
    assert (other, va, 2) in told
    for address in lost:
        assert world._longest("translation", address, None).action == "lost"
        assert world.stamp(pid, address) is None
        assert world.stamp(other, address) is None
    assert not world.passes(other, va, old)
    for address in kept:
        assert world.passes(pid, address, world.stamp(pid, address))
    assert world.state.free_pages(101) == 16 - len(lost)
    for request in (
        lambda t: events.GrantRequest(t, lost[-1], 1, other, 3),
        lambda t: events.ProtectRequest(t, lost[-1], 1, 1),
        lambda t: events.RevokeRequest(t, lost[-1], 1),
    ):
        assert world.answers[world.ask(request)].error.code == "memory_lost"
    assert world.answers[world.ask(lambda t: events.StatRequest(t, lost[-1]))].result["kind"] == "lost"
    one = world.ask(lambda t: events.FreeRequest(t, lost[-1], PAGE_SIZE))
    world.settle(RNG)
    assert world.answers[one].error is None
    assert world._longest("translation", lost[-1], None).action == "unmapped"
    rest = world.ask(lambda t: events.FreeRequest(t, va, 0))
    world.settle(RNG)
    assert world.answers[rest].error is None
    assert world.state.free_pages(101) == world.state.free_pages(102) == 16
    assert {e.key: e for e in entries.all_entries(world.state)} == world.entries
    again, where = allocate(world, 20)
    assert world.passes(again, where, world.stamp(again, where))


@pytest.mark.parametrize("noticed", ["before", "between", "after"])
def test_memory_that_is_lost_while_it_changes_hands(world: World, noticed: str) -> None:
    """The element restarts during a grant that waits for another element as well."""
    _, va = allocate(world, 20)
    other = world.create_process(2)
    token = world.ask(lambda t: events.GrantRequest(t, va, 20, other, 3))
    if noticed != "before":
        world.deliver_to(101, RNG)
    if noticed == "after":
        world.deliver_to(102, RNG)
    world.start_element(101)
    world.heartbeat(101)
    assert (token in world.answers) == (noticed == "after")
    world.settle(RNG)
    assert world.answers[token].error is None
    kinds = {p.element: p for p in layout.runs(world.state.allocations[va])}
    assert kinds[101].kind is OverrideKind.LOST
    assert (kinds[102].kind, kinds[102].pid) == (OverrideKind.OWNED, other)
    assert {p.pid for p in layout.runs(world.state.allocations[va])} == {other}
    assert NotifyCode.MEMORY_LOST in codes(world, other)
    for n in range(20):
        usable = world.passes(other, va + n * PAGE_SIZE, world.stamp(other, va + n * PAGE_SIZE))
        assert usable == (next(layout.runs(world.state.allocations[va], va + n * PAGE_SIZE, 1)).element == 102)
    assert {e.key: e for e in entries.all_entries(world.state)} == world.entries


def test_the_last_word_of_an_earlier_incarnation_is_not_a_restart(world: World) -> None:
    allocate(world, 4)
    world.start_element(101)
    world.heartbeat(101)
    world.settle(RNG)
    allocate(world, 20)
    before = world.state
    world.feed(events.Heartbeat(101, world.incarnations[101] - 1))
    assert world.state.allocations == before.allocations
    assert world.state.elements == before.elements
    silence(world, 101)
    world.incarnations[101] -= 1  # its clock was set back: it is heard all the same when nobody else is
    world.heartbeat(101)
    assert world.state.operations


def test_elements_that_remember_a_lost_store(world: World) -> None:
    pid, va = allocate(world, 4)
    old = world.stamp(pid, va)
    assert old is not None
    world.lose_store()
    assert port_action(world, old[0]) == "fence"
    for element in (1, 2, 101, 102):
        world.heartbeat(element)
    world.settle(RNG)
    assert not world.passes(pid, va, old)
    again, where = allocate(world, 4)
    assert world.passes(again, where, world.stamp(again, where))


def test_a_hole_as_large_as_its_segment_has_one_entry(world: World) -> None:
    pid, va = allocate(world, 1)
    world.ask(lambda t: events.RevokeRequest(t, va, 1))
    world.settle(RNG)
    wanted = list(entries.all_entries(world.state))
    assert len({e.key for e in wanted}) == len(wanted)
    assert {e.key: e for e in wanted} == world.entries
    assert world.stamp(pid, va) is None
