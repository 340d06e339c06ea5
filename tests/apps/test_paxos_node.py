"""One replica on its memory: much at once, logs that are full, and what it has voted for is there when it is opened."""

from __future__ import annotations

import itertools
import random

import pytest

from apps.kv.commands import Command, Kind, encode
from apps.kv.machine import Machine
from apps.kv.pages import LocalPages, Pages
from apps.paxos import node as node_module
from apps.paxos import store as store_module
from apps.paxos import transfer
from apps.paxos.messages import (
    NO_OP,
    Accept,
    Accepted,
    Ballot,
    Batch,
    Compacted,
    Configuration,
    Fetch,
    Heartbeat,
    HeartbeatAck,
    Learn,
    Member,
    Membership,
    Message,
    Prepare,
    Promise,
    Report,
    Resign,
    StatePart,
    StateRequest,
)
from apps.paxos.messages import encode as encode_message
from apps.paxos.node import Node
from apps.paxos.store import LOG_BYTES, OVERHEAD, RackStore
from apps.paxos.transfer import Sink, Source
from apps.paxos.voter import MAX_LEARN, WINDOW, Timing
from tests.apps.fake import PAGE, FakeMemory

THREE = Membership(Configuration(1, (Member(1), Member(2), Member(3))))
BALLOT = Ballot(1, 1)


def first_state(pages: Pages) -> Machine:
    machine = Machine.create(pages)
    machine.applied, machine.extra = 1, encode_message(THREE)
    return machine


def made(memory: FakeMemory, join: bool = False) -> Node:
    make = None if join else first_state
    return node_of(RackStore.create(memory, memory.base, len(memory.bytes), 2, make, THREE))


def node_of(store: RackStore) -> Node:
    return Node(2, store, Timing(), random.Random(1), 0.0)


def give(node: Node, *messages: Message) -> list[Message]:
    """What replica 2 answers to replica 1."""
    for message in messages:
        node.receive(1, message, 0.0)
    return [m for to, m in node.flush(0.0).messages if to == 1]


def batches(count: int, commands: int, value: int) -> tuple[Batch, ...]:
    """Each command changes another key; the first opens a session."""
    entries = [Batch((encode(Command(0, 1, Kind.OPEN)),))]
    for slot in range(count - 1):
        puts = [
            Command(1, slot * commands + n + 1, Kind.PUT, b"%d/%d" % (slot, n), bytes(value)) for n in range(commands)
        ]
        entries.append(Batch(tuple(map(encode, puts))))
    return tuple(entries)


def test_a_state_of_many_slots_is_kept_in_between() -> None:
    """More pages are changed than the journal has room for."""
    memory = FakeMemory(4000 + OVERHEAD // PAGE)
    node = made(memory)
    entries = batches(MAX_LEARN, 64, 60)
    give(node, Heartbeat(BALLOT, 1 + MAX_LEARN), Learn(2, entries, 1 + MAX_LEARN))
    assert node.applied == 1 + MAX_LEARN
    assert node.counts["kept"] > 5
    resumed = node_of(RackStore.open(memory, memory.base))
    resumed.flush(0.0)
    assert resumed.applied == node.applied
    assert resumed.store.machine is not None
    assert resumed.store.machine.table.space.items == 64 * (MAX_LEARN - 1)


def test_what_was_voted_for_is_there_when_logs_begin_anew() -> None:
    memory = FakeMemory(1000 + OVERHEAD // PAGE)
    node = made(memory)
    entries = batches(400, 8, 700)
    voted = 0
    for at in range(0, 400, 8):
        answers = give(node, Accept(BALLOT, at + 2, entries[at : at + 8], max(1, at - 4)))
        voted += sum(isinstance(a, Accepted) for a in answers)
    assert voted == 50
    assert sum(len(c) for e in entries for c in e.commands) > LOG_BYTES, "one log would have been too short"
    resumed = node_of(RackStore.open(memory, memory.base))
    resumed.flush(0.0)
    (promise,) = give(resumed, Prepare(Ballot(2, 1), 1))
    assert isinstance(promise, Promise)
    assert promise.committed >= 380
    assert [r.slot for r in promise.accepted] == list(range(promise.committed + 1, 402))
    assert resumed.applied == promise.committed


def test_who_waits_for_a_state_and_has_no_room_does_not_vote_and_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "LOG_BYTES", 32 * PAGE)
    monkeypatch.setattr(store_module, "KEEP_LOG", 8 * PAGE)
    memory = FakeMemory(100 + OVERHEAD // PAGE)
    node = made(memory, join=True)
    voted = set()
    for slot in range(100, 200):
        for answer in give(node, Accept(BALLOT, slot, (Batch((bytes(2000),)),), slot - WINDOW)):
            if isinstance(answer, Accepted):
                voted.add(answer.first)
    assert 20 < len(voted) < 80
    assert voted == set(range(100, 100 + len(voted)))
    assert HeartbeatAck(BALLOT, 0) in give(node, Heartbeat(BALLOT, 150)), "it is not taken for dead"
    (promise,) = give(node, Prepare(Ballot(5, 1), 1))  # that is small enough
    assert isinstance(promise, Promise)
    resumed = node_of(RackStore.open(memory, memory.base))
    resumed.flush(0.0)
    assert voted <= set(resumed.core.accepted)
    assert resumed.core.promised == Ballot(5, 1)


@pytest.mark.parametrize("anew", [False, True])
def test_who_is_resumed_has_the_last_slots_for_peers(anew: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """All that the log has, or as many as went into a new one."""
    if anew:
        monkeypatch.setattr(store_module, "KEEP_LOG", 0)
        monkeypatch.setattr(node_module, "KEEP_TAIL", 20)
        monkeypatch.setattr(node_module, "KEEP_TAIL_BYTES", 3 * 8 * 100)
    memory = FakeMemory(1000 + OVERHEAD // PAGE)
    node = made(memory)
    entries = batches(40, 8, 60)
    give(node, Accept(BALLOT, 2, entries, 41))
    node.keep()
    tail = node.core.newest(41, 20, 3 * 8 * 100)
    assert 2 <= len(tail) < 20, "as many as the bytes allow"
    assert tail == list(entries[-len(tail) :])
    first = 42 - len(tail) if anew else 2
    resumed = node_of(RackStore.open(memory, memory.base))
    resumed.flush(0.0)
    assert resumed.applied == 41
    assert give(resumed, Fetch(first)) == [Learn(first, entries[first - 2 :], 41)]
    assert give(resumed, Fetch(first - 1)) == [Compacted(first - 1)]
    resumed.keep()
    again = node_of(RackStore.open(memory, memory.base))
    assert give(again, Fetch(41)) == [Learn(41, entries[-1:], 41)]


def test_what_was_only_accepted_is_not_given_as_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    """A state came that has slot 3 with another entry; what was chosen after it is recorded as usual."""
    memory = FakeMemory(100 + OVERHEAD // PAGE)
    node = made(memory)
    stray, chosen = (Batch((encode(Command(0, n, Kind.OPEN)),)) for n in (1, 2))
    give(node, Accept(BALLOT, 3, (stray,), 1))
    machine = node.store.machine
    assert machine is not None
    for slot in (2, 3):
        machine.apply(slot, ())
    machine.keep()
    resumed = node_of(RackStore.open(memory, memory.base))
    assert give(resumed, Fetch(3)) == [Compacted(3)]
    later = Ballot(2, 1)
    give(resumed, Accept(later, 4, (chosen, NO_OP), 5))
    resumed.keep()
    assert give(resumed, Accept(later, 5, (NO_OP,), 5)) == [Accepted(later, 5, 1)]
    for _ in range(2):
        resumed = node_of(RackStore.open(memory, memory.base))
        resumed.flush(0.0)
        assert give(resumed, Fetch(3)) == [Compacted(3)]
        assert give(resumed, Fetch(4)) == [Learn(4, (chosen, NO_OP), 5)]
        monkeypatch.setattr(store_module, "KEEP_LOG", 0)
        resumed.keep()


def test_what_had_no_room_before_the_state_came_is_there_when_it_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The log has an entry of an older ballot for that slot."""
    monkeypatch.setattr(store_module, "LOG_BYTES", 32 * PAGE)
    monkeypatch.setattr(store_module, "KEEP_LOG", 8 * PAGE)
    memory = FakeMemory(100 + OVERHEAD // PAGE)
    node = made(memory, join=True)
    later = Ballot(2, 1)
    older, chosen = (Batch((encode(Command(0, 1, Kind.OPEN)), bytes(size))) for size in (0, 2500))
    monkeypatch.setattr(Machine, "apply", lambda machine, slot, commands: setattr(machine, "applied", slot) or [])
    give(node, Accept(BALLOT, 200, (older,), 1))
    for slot in range(100, 190):
        give(node, Accept(BALLOT, slot, (Batch((bytes(2000),)),), 1))
    assert not any(isinstance(m, Accepted) for m in give(node, Accept(later, 200, (chosen,), 1)))
    whole = first_state(LocalPages(node.store.pages.count))
    whole.applied = 199
    assert node._sink is not None
    transferred(node, Source(whole, node._sink.transfer, 9, 0.0))
    give(node, Heartbeat(later, 200))
    assert node.applied == 200
    resumed = node_of(RackStore.open(memory, memory.base))
    resumed.flush(0.0)
    assert give(resumed, Fetch(200)) == [Learn(200, (chosen,), 200)]


def test_who_copies_the_state_votes_and_what_it_voted_for_is_kept() -> None:
    memory = FakeMemory(1000 + OVERHEAD // PAGE)
    node = made(memory)
    begun = give(node, Heartbeat(BALLOT, 30), Compacted(20))
    request = next(m for m in begun if isinstance(m, StateRequest))
    give(node, StatePart(request.transfer, 9, 0, ((1, bytes(PAGE)),), False, 30, None))
    assert node.core.role == "joining"
    assert give(node, Accept(BALLOT, 31, (NO_OP,), 30)) == [Accepted(BALLOT, 31, 1)]
    promised = Prepare(Ballot(2, 1), 30)
    (promise,) = give(node, promised)
    assert promise == Promise(Ballot(2, 1), 1, (Report(31, BALLOT, NO_OP),))
    resumed = node_of(RackStore.open(memory, memory.base))
    (again,) = give(resumed, promised)
    assert isinstance(again, Promise)
    assert again.accepted == promise.accepted


def test_an_entry_of_nothing_is_a_slot_as_any_other() -> None:
    memory = FakeMemory(100 + OVERHEAD // PAGE)
    node = made(memory)
    assert Accepted(BALLOT, 2, 3) in give(node, Accept(BALLOT, 2, (NO_OP,) * 3, 3))
    assert node.applied == 3


def test_a_transfer_from_a_source_that_was_resumed_begins_anew() -> None:
    """Which pages its predecessor had sent it does not know: parts of both would make a state that never was."""
    source = made(FakeMemory(100 + OVERHEAD // PAGE))
    assert source.store.machine is not None
    pages = LocalPages(source.store.pages.count)
    sink = Sink(1, 77, 0.0)
    assert [r.position for r in sink.requests(0.0)] == list(range(transfer.WINDOW))
    first, again = (Source(source.store.machine, 77, number, 0.0) for number in (5, 6))
    part, other = first.part(0, THREE, 0.0), again.part(1, THREE, 0.0)
    assert part is not None
    assert other is not None
    assert sink.take(part, pages, 1.0) is None
    assert sink.heard == 1.0
    assert sink.take(other, pages, 1.0) is None
    assert sink.taken == 1
    assert 1.0 - sink.heard > transfer.PATIENCE


def test_a_transfer_sends_again_what_was_changed_after_it_was_sent() -> None:
    """A change ahead of the transfer costs nothing; one behind it, or of a page new in use, is sent later."""
    pages = LocalPages(400)
    machine = Machine.create(pages)
    machine.table.space.unused = 3 * transfer.PART_PAGES
    source = Source(machine, 77, 5, 0.0)
    sent = [numbers(source.part(0, THREE, 0.0))]
    for changed in (0, 1, 100, machine.used_pages + 3, 1):
        source.changed(changed)
    while sent[-1][-1]:
        sent.append(numbers(source.part(len(sent), THREE, 0.0)))
    whole = list(range(1, machine.used_pages))
    assert sorted(number for part in sent for number in part) == [0, 1, *whole, machine.used_pages + 3]
    assert source.part(len(sent), THREE, 0.0) is None


def numbers(part: StatePart | None) -> list[int]:
    assert part is not None
    assert part.last == (part.pages[-1][0] == 0)
    return [number for number, _ in part.pages]


def test_slots_that_are_decided_as_the_first_part_of_a_state_comes() -> None:
    """Both in one step: a late answer of a peer that still had the slots, and the state of another."""
    memory = FakeMemory(1000 + OVERHEAD // PAGE)
    node = made(memory)
    begun = give(node, Heartbeat(BALLOT, 30), Compacted(20))
    request = next(m for m in begun if isinstance(m, StateRequest))
    entries = batches(4, 1, 10)
    part = StatePart(request.transfer, 9, 0, ((1, bytes(PAGE)),), False, 30, None)
    give(node, Learn(2, entries, 30), part)
    assert node.core.role == "joining"
    assert node.core.committed == 5
    assert node.applied == 0
    resumed = node_of(RackStore.open(memory, memory.base))
    (promise,) = give(resumed, Prepare(Ballot(2, 1), 30))
    assert isinstance(promise, Promise)
    assert promise.committed == 5, "what it knew to be chosen is not forgotten with the state"


def test_a_state_that_has_not_all_that_is_known_to_be_chosen_is_not_taken() -> None:
    """Its source was behind: what was chosen meanwhile would be missing for ever."""
    node = made(FakeMemory(100 + OVERHEAD // PAGE))
    entries = batches(40, 1, 10)
    begun = give(node, Heartbeat(BALLOT, 50), Compacted(20))
    request = next(m for m in begun if isinstance(m, StateRequest))
    give(node, Learn(2, entries, 50))
    assert node.applied == 41
    behind = first_state(LocalPages(node.store.pages.count))
    behind.applied = 30
    asked = transferred(node, Source(behind, request.transfer, 9, 0.0))
    assert node.core.role == "joining"
    assert node.core.committed == 41
    assert not any(isinstance(m, StateRequest) for m in asked)
    again = next(m for m in give(node, Heartbeat(BALLOT, 50)) if isinstance(m, StateRequest))
    ahead = first_state(LocalPages(node.store.pages.count))
    ahead.applied = 50
    transferred(node, Source(ahead, again.transfer, 9, 0.0))
    assert node.core.role == "follower"
    assert node.applied == 50


def test_who_has_no_room_for_what_it_keeps_anew_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it accepted came in long runs and is kept slot by slot, which takes more than a log has."""
    monkeypatch.setattr(store_module, "LOG_BYTES", 32 * PAGE)
    monkeypatch.setattr(store_module, "KEEP_LOG", 24 * PAGE)
    memory = FakeMemory(100 + OVERHEAD // PAGE)
    node = made(memory, join=True)
    voted = set()
    for slot in range(100, 40100, 1000):
        for answer in give(node, Accept(BALLOT, slot, (Batch((b"x",)),) * 1000, slot - WINDOW)):
            if isinstance(answer, Accepted):
                voted |= set(range(answer.first, answer.first + answer.count))
    assert len(voted) > 1000
    assert HeartbeatAck(BALLOT, 0) in give(node, Heartbeat(BALLOT, 150)), "it is not taken for dead"
    kept = node.counts["logs without room"]
    assert kept
    give(node, Heartbeat(BALLOT, 150))
    assert node.counts["logs without room"] == kept, "it is not tried again for nothing"
    resumed = node_of(RackStore.open(memory, memory.base))
    resumed.flush(0.0)
    assert voted <= set(resumed.core.accepted)


@pytest.mark.parametrize("resigns", [True, False])
def test_who_copies_from_a_leader_that_is_replaced_asks_the_next(resigns: bool) -> None:
    node = made(FakeMemory(100 + OVERHEAD // PAGE), join=True)
    asked = give(node, Heartbeat(BALLOT, 30))
    assert any(isinstance(m, StateRequest) for m in asked)
    if resigns:
        node.receive(1, Resign(False), 0.1)
    ended = 0.1 if resigns else transfer.REPLACED_PATIENCE + 0.1
    begun = []
    for now in (0.2, ended + 0.2):
        node.tick(now)
        node.receive(3, Heartbeat(Ballot(2, 3), 30), now)
        begun += [(now, m) for to, m in node.flush(now).messages if to == 3 and isinstance(m, StateRequest)]
    assert {now for now, _ in begun} == {0.2} if resigns else {ended + 0.2}


def test_one_copies_the_state_at_a_time() -> None:
    """Who copies discards its own state: if the source is lost now, the others still have theirs."""
    node = made(FakeMemory(100 + OVERHEAD // PAGE))

    def asked(peer: int, now: float) -> bool:
        node.receive(peer, StateRequest(peer, 0), now)
        return any(to == peer and isinstance(m, StatePart) for to, m in node.flush(now).messages)

    assert asked(1, 0.0)
    assert not asked(3, 0.1)
    assert asked(1, 0.6)
    assert not asked(3, 1.5)
    assert asked(3, 1.7)
    assert not asked(4, 1.8)


def transferred(node: Node, source: Source) -> list[Message]:
    """What comes of the last part of a whole state."""
    for position in itertools.count():
        part = source.part(position, THREE, 0.0)
        assert part is not None
        answers = give(node, part)
        if part.last:
            return answers
    raise AssertionError
