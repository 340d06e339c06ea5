"""Agreement, linearizability and progress of replicas in simulated time, whatever the network and their memory do."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.paxos import node as node_module
from apps.paxos.messages import Member
from tests.apps.paxos_world import TIMING, Faults, World, tight  # noqa: F401

pytestmark = pytest.mark.usefixtures("tight")
SETTINGS = settings(max_examples=5, deadline=None, derandomize=True)
BAD = Faults(loss=0.08, copies=0.08, delay=0.02, slow=0.03)
SEEDS = st.integers(0, 1 << 30)


@SETTINGS
@given(SEEDS)
def test_it_serves_while_nothing_fails(seed: int) -> None:
    world = World(seed, Faults())
    world.run(1.5)
    losses = sum(h.node.core.losses for h in world.hosts.values())  # two may have stood for election at the same time
    world.run(1.5)
    assert len(world.history) > 100
    assert sum(h.node.core.losses for h in world.hosts.values()) == losses, "one leader, once"
    world.settle()
    world.check()


@SETTINGS
@given(SEEDS)
def test_messages_are_lost_doubled_and_late(seed: int) -> None:
    world = World(seed, BAD)
    world.run(10)
    world.settle()
    world.check()


@SETTINGS
@given(SEEDS)
def test_replicas_die_at_any_request_and_are_resumed_from_their_memory(seed: int) -> None:
    world = World(seed, BAD)
    for _ in range(12):
        world.run(world.rng.random() * 1.2)
        me = world.rng.choice([1, 2, 3])
        if me in world.hosts:
            world.kill(me, world.rng.choice((None, 0, 1, 3, 10, 40)))
        for dead in list(world.dead):
            if world.rng.random() < 0.7:
                world.resume(dead, world.rng.choice((None, None, 0, 2, 8)))
    world.settle()
    world.check()


@SETTINGS
@given(SEEDS)
def test_memory_is_taken_from_replicas_that_run(seed: int) -> None:
    """The robbed one goes on with what it has in mind, until it meets its memory."""
    world = World(seed, BAD)
    for _ in range(12):
        world.run(world.rng.random())
        leader = world.leader()
        if leader is not None and leader.me in world.hosts:
            world.resume(leader.me)
    world.settle()
    world.check()


@pytest.mark.parametrize("requests", [None, *range(42)])
def test_peers_that_are_slots_behind_a_resumed_leader_get_these_and_not_the_state(
    requests: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Robbed at any request while it keeps the state and begins logs, or when it has kept all."""
    monkeypatch.setattr(node_module, "KEEP_SLOTS", 60)
    world = World(requests or 0, Faults())
    assert world.run(10, lambda: len(world.history) > 60 and world.leader() is not None)
    leader = world.leader()
    assert leader is not None
    behind, other = (m for m in (1, 2, 3) if m != leader.me)
    assert world.run(10, lambda: all(h.node.applied > leader.applied - 3 for h in world.hosts.values()))
    world.cut = {(a, b) for a in world.hosts for b in world.hosts if behind in (a, b) and a != b}
    before = leader.applied
    assert world.run(10, lambda: leader.applied >= before + 6)
    if requests is None:
        leader.keep(full=False)
        world.kill(leader.me)
    else:
        world.kill(leader.me, requests)
        assert world.run(10, lambda: leader.me in world.dead)
    missed = leader.applied - world.hosts[behind].node.applied
    assert missed >= 6
    world.resume(leader.me)
    assert world.hosts[leader.me].node.core.floor <= world.hosts[behind].node.applied, f"{missed} slots are missed"
    world.cut = {(a, b) for a in world.hosts for b in world.hosts if other in (a, b) and a != b}  # who could help
    served = len(world.history)
    assert world.run(3, lambda: world.hosts[behind].node.applied > leader.applied and len(world.history) > served + 10)
    assert world.hosts[behind].node.counts["state bytes received"] == 0
    world.settle()
    world.check()


@SETTINGS
@given(SEEDS, st.booleans())
def test_members_are_replaced_for_good(seed: int, rack: bool) -> None:
    """One after the other, silent ones by spares that get the state from a peer, under bad conditions."""
    world = World(seed, Faults(loss=0.03, copies=0.05, delay=0.02, slow=0.01), rack=rack, spares=3)
    world.timing = type(TIMING)(TIMING.heartbeat, TIMING.election, TIMING.retransmit, replace=1.5)
    for host in world.hosts.values():
        host.node.core.timing = world.timing
    for spare in world.spares:
        world.run(3 * world.rng.random())
        victim = world.rng.choice([m for m in world.hosts if m < spare.id])
        world.begin(spare.id, join=True)
        world.kill(victim)
        world.excluded.add(victim)

        def replaced(victim: int = victim) -> bool:
            leader = world.leader()
            return leader is not None and victim not in leader.core.membership.members and leader.core.all_caught_up()

        assert world.run(60, replaced), f"{victim} was not replaced by {spare.id}"
    world.settle()
    world.check()
    assert sorted(world.leader().core.membership.members) == sorted(set(world.hosts))


@SETTINGS
@given(SEEDS)
def test_all_members_are_replaced_while_they_live(seed: int) -> None:
    world = World(seed, Faults(loss=0.02, delay=0.01), spares=0)
    for old, new in ((1, 4), (2, 5), (3, 6)):
        world.begin(new, join=True)
        asked = False

        def step(old: int = old, new: int = new) -> bool:
            nonlocal asked
            leader = world.leader()
            if leader is None:
                return False
            members = leader.core.membership.members
            if new in members and old not in members:
                return leader.core.all_caught_up()
            if not asked and old in members and len(world.history) > 20:
                asked = True
                world._do(world.hosts[leader.me], lambda n: n.reconfigure(old, Member(new), world.now))
            return False

        assert world.run(60, step), f"{old} was not replaced by {new}"
    assert world.run(20, lambda: world.excluded >= {1, 2, 3}), "who was replaced has not noticed"
    world.settle()
    world.check()
    assert sorted(world.hosts) == [4, 5, 6]


@SETTINGS
@given(SEEDS)
def test_a_leader_that_is_cut_off_serves_no_old_values(seed: int) -> None:
    world = World(seed, Faults(delay=0.02))
    for _ in range(5):
        world.run(1 + world.rng.random())
        leader = world.leader()
        world.cut = {(leader.me, o) for o in (1, 2, 3)} | {(o, leader.me) for o in (1, 2, 3)} if leader else set()
        world.run(2 * world.rng.random())
        world.cut = set()
    world.settle()
    world.check()


@SETTINGS
@given(SEEDS)
def test_five_replicas_with_two_dead(seed: int) -> None:
    world = World(seed, BAD, replicas=5)
    world.run(2)
    world.kill(2)
    world.kill(1, 5)
    before = len(world.history)
    world.run(10)
    assert len(world.history) > before
    world.settle()
    world.check()
