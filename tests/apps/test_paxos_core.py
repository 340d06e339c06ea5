"""Single rules of the protocol, each by the messages that it answers with; and what a robbed or resumed replica may do."""

from __future__ import annotations

import random

import pytest

from apps.kv.commands import Command, Kind, encode
from apps.paxos.core import Core
from apps.paxos.leader import MAX_BATCH, MAX_BATCH_BYTES
from apps.paxos.messages import (
    NO_OP,
    Accept,
    Accepted,
    AcceptedRun,
    Ballot,
    Batch,
    Compacted,
    Configuration,
    Excluded,
    Fetch,
    Heartbeat,
    HeartbeatAck,
    Learn,
    Member,
    Membership,
    Message,
    Prepare,
    Promise,
    Promised,
    Reconfigure,
    Reject,
    Report,
    Resign,
    parse_member,
)
from apps.paxos.voter import MAX_LEARN, WINDOW, Durable, Timing
from tests.apps.paxos_world import Faults, World

TIMING = Timing(heartbeat=0.1, election=1.0, retransmit=0.2)
THREE = Membership(Configuration(1, (Member(1), Member(2), Member(3))))


def core(me: int = 1, timing: Timing = TIMING, spares: tuple[Member, ...] = (), **durable: object) -> Core:
    start = Durable(**{"applied": 1, "committed": 1, "state": True, "membership": THREE, **durable})  # type: ignore[arg-type]
    return Core(me, start, timing, random.Random(1), 0.0, spares)


def sent(c: Core, kind: type | tuple[type, ...] = object) -> list[tuple[int, Message]]:
    return [(to, m) for to, m in c.take().messages if isinstance(m, kind)]


def leader(now: float = 5.0, voters: tuple[int, ...] = (2,), **options: object) -> Core:
    """Replica 1, elected by itself and the voters."""
    made = core(**options)  # type: ignore[arg-type]
    made.tick(now)
    for voter in voters:
        made.receive(voter, Promise(Ballot(1, 1), 1, ()), now)
    assert made.is_leader
    made.take()
    return made


# ------------------------------------------------------------------------------------------------------------------ acceptor


def test_a_promise_is_kept_first_and_binds() -> None:
    c = core()
    c.receive(2, Prepare(Ballot(3, 2), 1), 5.0)
    effects = c.take()
    assert effects.records == [Promised(Ballot(3, 2))]
    assert effects.messages == [(2, Promise(Ballot(3, 2), 1, ()))]
    c.receive(3, Accept(Ballot(2, 3), 2, (NO_OP,), 1), 5.0)
    c.receive(3, Heartbeat(Ballot(2, 3), 1), 5.0)
    c.receive(3, Prepare(Ballot(2, 3), 1), 9.0)
    effects = c.take()
    assert effects.messages == [(3, Reject(Ballot(3, 2)))] * 3
    assert effects.records == []


def test_a_promise_survives_a_crash() -> None:
    world = World(1, Faults())
    world.run(1)
    me = next(m for m in (1, 2, 3) if not world.hosts[m].node.core.is_leader)
    ballot = Ballot(99, 1 if me != 1 else 2)
    world.cut = {(a, b) for a in (1, 2, 3) for b in (1, 2, 3)}
    world.run(1)
    world._do(world.hosts[me], lambda n: n.receive(ballot.replica, Prepare(ballot, 1), world.now))
    assert world.hosts[me].node.core.promised == ballot
    world.kill(me)
    world.resume(me)
    assert world.hosts[me].node.core.promised == ballot


def test_what_was_accepted_is_kept_first_and_reported() -> None:
    c = core()
    entry = Batch((b"x",))
    c.receive(2, Accept(Ballot(1, 2), 2, (entry, NO_OP), 1), 0.1)
    effects = c.take()
    assert AcceptedRun(Ballot(1, 2), 2, (entry, NO_OP)) in effects.records
    assert effects.messages == [(2, Accepted(Ballot(1, 2), 2, 2))]
    assert effects.decided == []
    c.receive(3, Prepare(Ballot(2, 3), 1), 5.0)
    ((_, promise),) = sent(c, Promise)
    assert promise == Promise(Ballot(2, 3), 1, (Report(2, Ballot(1, 2), entry), Report(3, Ballot(1, 2), NO_OP)))


def test_while_a_leader_lives_others_are_not_elected() -> None:
    c = core()
    c.receive(2, Heartbeat(Ballot(1, 2), 1), 3.0)
    c.take()
    c.receive(3, Prepare(Ballot(2, 3), 1), 3.5)
    assert sent(c) == []
    c.receive(2, Prepare(Ballot(2, 2), 1), 3.6)  # itself, resumed
    assert [type(m) for _, m in sent(c)] == [Promise]
    c.receive(3, Prepare(Ballot(3, 3), 1), 9.0)
    assert [type(m) for _, m in sent(c)] == [Promise]


def test_strangers_are_not_elected_and_the_replaced_are_told() -> None:
    c = core(membership=Membership(THREE.current, None, (9,)))
    c.receive(9, Prepare(Ballot(5, 9), 1), 5.0)
    c.receive(9, Fetch(2), 5.0)
    assert sent(c) == [(9, Excluded(1))] * 2
    c.receive(8, Prepare(Ballot(5, 8), 1), 5.0)
    assert sent(c) == []
    c.receive(8, Prepare(Ballot(5, 8), 7), 5.0)  # it knows more: perhaps of a membership that it belongs to
    assert sent(c) == [(8, Fetch(2))]


def test_who_is_told_that_it_is_excluded_believes_it_unless_it_knows_better() -> None:
    c = core(membership=Membership(Configuration(40, THREE.current.members)))
    c.receive(2, Excluded(30), 1.0)
    assert not c.take().excluded
    c.receive(2, Excluded(50), 1.0)
    assert c.take().excluded


# ------------------------------------------------------------------------------------------------------------------- learner


def test_only_what_was_accepted_of_the_same_ballot_is_chosen_by_a_commit() -> None:
    c = core()
    c.receive(2, Accept(Ballot(1, 2), 2, (Batch((b"old",)),), 1), 0.1)
    c.take()
    c.receive(3, Heartbeat(Ballot(2, 3), 2), 0.2)
    effects = c.take()
    assert effects.decided == []
    assert (3, Fetch(2)) in effects.messages
    c.receive(3, Learn(2, (Batch((b"new",)),), 2), 0.3)
    assert c.take().decided == [(2, Batch((b"new",)))]


def test_entries_are_given_to_who_missed_them_or_a_state() -> None:
    entries = tuple(Batch((b"%d" % n,)) for n in range(2, 200))
    c = core()
    c.receive(2, Accept(Ballot(1, 2), 2, entries, 199), 0.1)
    assert len(c.take().decided) == len(entries)
    c.receive(3, Fetch(5), 0.2)
    assert sent(c) == [(3, Learn(5, entries[3 : 3 + MAX_LEARN], 199))]
    c.forget(10)
    c.receive(3, Fetch(5), 0.3)
    assert sent(c) == [(3, Compacted(10))]
    c.receive(3, Fetch(200), 0.3)
    assert sent(c) == []


def test_who_has_missed_too_much_asks_for_the_state_once() -> None:
    c = core()
    c.receive(2, Compacted(50), 1.0)
    assert c.take().needs_state_from == 2
    c.receive(3, Compacted(50), 1.0)
    assert c.take().needs_state_from is None
    c.transfer_failed()
    c.receive(3, Compacted(50), 1.0)
    assert c.take().needs_state_from == 3
    c.installing()
    c.tick(100.0)
    assert sent(c) == [], "without a state it does not stand for election"
    c.receive(2, Heartbeat(Ballot(4, 2), 60), 101.0)
    assert sent(c, HeartbeatAck) == [(2, HeartbeatAck(Ballot(4, 2), 0))]
    c.installed(55, THREE, 102.0)
    assert (c.committed, c.floor, c.role) == (55, 55, "follower")


# -------------------------------------------------------------------------------------------------------------------- leader


def test_phase_1_takes_the_entry_of_the_largest_ballot_and_fills_gaps() -> None:
    c = core()
    c.tick(5.0)
    ballot = Ballot(1, 1)
    a, b = Batch((b"a",)), Batch((b"b",))
    c.receive(2, Promise(ballot, 1, (Report(2, Ballot(0, 2), a), Report(4, Ballot(0, 2), a))), 5.0)
    ((_, accept), _) = sent(c, Accept)
    assert isinstance(accept, Accept)
    assert accept.entries == (a, NO_OP, a)
    c = core(accepted={2: (Ballot(0, 2), a)})
    c.tick(5.0)
    c.receive(3, Promise(ballot, 1, (Report(2, Ballot(0, 3), b),)), 5.0)
    ((_, accept), _) = sent(c, Accept)
    assert isinstance(accept, Accept)
    assert accept.entries == (b,)


def test_a_candidate_that_lags_learns_before_it_leads() -> None:
    c = core()
    c.tick(5.0)
    c.take()
    c.receive(2, Promise(Ballot(1, 1), 3, ()), 5.0)
    assert sent(c) == [(2, Fetch(2))]
    assert not c.is_leader
    c.receive(2, Learn(2, (NO_OP, Batch((b"x",))), 3), 5.1)
    assert c.is_leader
    assert c.leading is not None
    assert c.leading.next_slot == 4


def test_a_slot_is_chosen_by_a_majority_in_order() -> None:
    c = leader()
    c.submit([b"a"], 5.0)
    c.submit([b"b"], 5.0)
    c.take()
    c.receive(2, Accepted(Ballot(1, 1), 3, 1), 5.1)
    c.receive(2, Accepted(Ballot(1, 1), 3, 1), 5.1)
    assert c.take().decided == []
    c.receive(3, Accepted(Ballot(1, 1), 2, 1), 5.1)
    assert c.take().decided == [(2, Batch((b"a",))), (3, Batch((b"b",)))]
    c.receive(9, Accepted(Ballot(1, 1), 4, 1), 5.1)
    c.receive(3, Accepted(Ballot(7, 1), 4, 1), 5.1)
    assert c.take().decided == []


def test_no_slot_beyond_the_window_is_proposed() -> None:
    c = leader()
    for n in range(2 * WINDOW):
        c.submit([b"%d" % n], 5.0)
    assert c.leading is not None
    assert c.leading.next_slot == 2 + WINDOW
    c.take()
    c.receive(2, Accepted(Ballot(1, 1), 2, 1), 5.1)
    assert c.leading.next_slot == 2 + WINDOW + 1
    (_, accept), _ = sent(c, Accept)
    assert isinstance(accept, Accept)
    assert isinstance(accept.entries[0], Batch)
    assert len(accept.entries[0].commands) == WINDOW, "what had to wait goes together"


def test_batches_are_bounded() -> None:
    c = leader()
    c.submit([b"x"] * (MAX_BATCH + 1), 5.0)
    c.submit([bytes(MAX_BATCH_BYTES)] * 2, 5.0)
    sizes = [len(e.commands) for _, m in sent(c, Accept)[::2] if isinstance(m, Accept) for e in m.entries]
    assert sizes == [MAX_BATCH, 1, 1, 1]


def test_unanswered_slots_are_proposed_again_to_those_who_did_not_answer() -> None:
    c = leader(membership=Membership(Configuration(1, tuple(Member(n) for n in range(1, 6)))), voters=(2, 3))
    c.submit([b"a"], 5.0)
    c.receive(2, Accepted(Ballot(1, 1), 2, 1), 5.0)
    c.take()
    c.tick(5.3)
    assert sorted(to for to, _ in sent(c, Accept)) == [3, 4, 5]


def test_a_leader_gives_up_when_rejected_or_alone() -> None:
    c = leader()
    c.submit([b"a"], 5.0)
    c.receive(3, Reject(Ballot(4, 3)), 5.1)
    assert (c.is_leader, c.losses, len(c.queue)) == (False, 1, 0)
    c.tick(20.0)
    assert sent(c, Prepare)[-1][1] == Prepare(Ballot(5, 1), 1), "above what it has heard of"
    c = leader()
    c.tick(6.9)
    assert c.is_leader
    c.tick(7.1)
    assert not c.is_leader


def test_slots_of_a_new_configuration_need_promises_of_its_members() -> None:
    """Replica 1 leads by the promises of 1 and 3; then 4 takes the place of 3."""
    c = leader(voters=(3,))
    c.reconfigure(Reconfigure(3, Member(4)), 5.0)
    c.take()
    c.receive(2, Accepted(Ballot(1, 1), 2, 1), 5.0)
    assert c.membership is not None
    assert c.membership.pending == Configuration(2 + WINDOW, (Member(1), Member(2), Member(4)))
    assert c.leading is not None
    assert c.leading.next_slot == 2 + WINDOW, "no-ops up to where it comes into force, and none behind"
    c.submit([b"a"], 5.0)
    assert c.leading.next_slot == 2 + WINDOW
    c.take()
    c.tick(5.1)
    assert sorted(to for to, _ in sent(c, Prepare)) == [2, 4]
    c.receive(4, Promise(Ballot(1, 1), 0, ()), 5.2)
    assert c.leading.next_slot == 2 + WINDOW + 1
    c.receive(2, Accepted(Ballot(1, 1), 2, WINDOW + 1), 5.2)
    assert c.membership.current.ids == {1, 2, 4}
    assert c.membership.retired == (3,)
    assert (3, Excluded(2 + WINDOW)) in sent(c)


def test_one_change_at_a_time_and_none_twice() -> None:
    c = leader()
    for change in (
        Reconfigure(3, Member(4)),
        Reconfigure(2, Member(5)),
        Reconfigure(9, Member(6)),
        Reconfigure(2, Member(1)),
    ):
        c.reconfigure(change, 5.0)
    c.receive(2, Accepted(Ballot(1, 1), 2, 2 * WINDOW), 5.0)
    c.receive(4, Promise(Ballot(1, 1), 0, ()), 5.1)
    c.receive(2, Accepted(Ballot(1, 1), 2, 2 * WINDOW), 5.1)
    assert c.membership is not None
    assert (sorted(c.membership.members), c.membership.pending) == ([1, 2, 4], None)


def test_a_silent_member_or_one_without_memory_is_replaced_by_a_spare() -> None:
    timing = Timing(heartbeat=0.1, election=1.0, replace=2.0)
    c = leader(timing=timing, spares=(Member(1), Member(4)))
    for tick in range(51, 80):
        c.receive(2, HeartbeatAck(Ballot(1, 1), 1), tick / 10)
        c.tick(tick / 10)
    notes = c.take().notes
    assert [n for n in notes if n.startswith("replaces")] == ["replaces replica 3 by 4"]
    assert any(n.startswith("suspects replica 3") for n in notes)
    c = leader(spares=(Member(4),))
    c.receive(3, Resign(False), 5.1)
    assert not c.leading or not c.leading.is_changing()
    c.receive(3, Resign(True), 5.1)
    assert c.leading is not None
    assert c.leading.is_changing()


def test_when_the_leader_resigns_an_election_begins_at_once() -> None:
    c = core()
    c.receive(2, Heartbeat(Ballot(1, 2), 1), 3.0)
    c.take()
    c.receive(2, Resign(True), 3.05)
    c.tick(3.2)
    assert {to for to, _ in sent(c, Prepare)} == {2, 3}


def test_who_was_leading_stands_again_at_once_when_resumed() -> None:
    assert [type(m) for _, m in _after_start(promised=Ballot(4, 1))] == [Prepare, Prepare]
    assert _after_start(promised=Ballot(4, 2)) == []


def _after_start(**durable: object) -> list[tuple[int, Message]]:
    c = core(**durable)  # type: ignore[arg-type]
    c.tick(0.01)
    return sent(c)


# -------------------------------------------------------------------------------------------------------------------- robbed


@pytest.mark.parametrize("kind", [Kind.GET, Kind.PUT])
def test_a_robbed_leader_answers_nobody(kind: Kind) -> None:
    """Not even a read, although it does not know and the others have not heard of another leader."""
    world = World(3, Faults(), clients=0)
    assert world.run(10, lambda: world.leader() is not None)
    host = world.hosts[world.leader().me]  # type: ignore[union-attr]
    answers: list[object] = []

    class Asker:
        def answered(self, answer: object) -> None:
            answers.append(answer)

    world._do(host, lambda n: n.request(Asker(), encode(Command(0, 7, Kind.OPEN)), world.now))
    assert world.run(1, lambda: len(answers) == 1)
    world._do(host, lambda n: n.request(Asker(), encode(Command(1, 1, Kind.GET, b"k")), world.now))
    assert world.run(1, lambda: len(answers) == 2), "the page is in its cache now"
    host.owners[0] += 1  # stolen
    world._do(host, lambda n: n.request(Asker(), encode(Command(1, 2, kind, b"k", b"v")), world.now))
    world.run(0.3)
    assert len(answers) == 2
    assert host.me in world.dead


@pytest.mark.parametrize(
    "text", ["1", "x=10.0.0.1:7", "0=10.0.0.1:7", "1=10.0.0.1", "1=:7", "1=h:0", "1=h:70000", "1=h:7|"]
)
def test_what_is_no_member(text: str) -> None:
    with pytest.raises(ValueError, match="expected ID=HOST:PORT"):
        parse_member(text)


def test_a_member_may_have_several_addresses() -> None:
    assert parse_member("3=10.0.0.1:7400|h:1") == Member(3, ("10.0.0.1:7400", "h:1"))
