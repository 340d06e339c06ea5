"""The safety rules S1, S2 and S5 (docs/architecture.md) over the core: messages are delayed, reordered and lost, and the
controller is killed at any effect of its plans."""

from __future__ import annotations

import random

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from world import World

from controller.core import entries, events, monitor
from controller.core.memory import Config
from controller.core.state import AllocationStatus, HoleKind
from protocol.rack import Rack
from protocol.wire import PAGE_SIZE
from topologies.racks import small_rack

PAGES = 16


def tiny_rack() -> Rack:
    """Two memory elements of 16 pages."""
    rack = small_rack(compute=2, dram=2, nvm=0, memory_mib=1)
    small = (msgspec.structs.replace(e, pages=PAGES) if e.kind == "memory" else e for e in rack.elements)
    return msgspec.structs.replace(rack, elements=tuple(small))


class RackMachine(RuleBasedStateMachine):
    """Any order of operations, deliveries, losses and crashes."""

    @initialize(seed=st.integers(0, 1 << 30), policy=st.sampled_from(("best-fit", "balance")))
    def boot(self, seed: int, policy: str) -> None:
        self.rng = random.Random(seed)
        self.world = World(tiny_rack(), Config(placement=policy, largest_block=8))
        self.pids = [self.world.create_process(element) for element in (1, 2, 1)]
        self.pending: dict[int, tuple[str, int, int]] = {}  # token: kind, va, pages
        self.revoked: set[int] = set()  # pages whose revocation or freeing was acknowledged to whoever asked
        self.stamps: list[
            tuple[int, int, tuple[int, int, int]]
        ] = []  # writes that the switch forwarded, still under way

    def allocations(self):
        return [a for a in self.world.state.allocations.values() if a.status is AllocationStatus.READY]

    @rule(which=st.integers(0, 2), pages=st.integers(1, 12))
    def alloc(self, which: int, pages: int) -> None:
        token = self.world.ask(lambda t: events.AllocRequest(t, self.pids[which], pages * PAGE_SIZE, 3))
        self.pending[token] = ("alloc", 0, pages)

    @precondition(lambda self: self.allocations())
    @rule(data=st.data(), free=st.booleans())
    def take_pages(self, data: st.DataObject, free: bool) -> None:
        allocation = data.draw(st.sampled_from(sorted(self.allocations(), key=lambda a: a.va)))
        first = data.draw(st.integers(0, allocation.pages - 1))
        count = data.draw(st.integers(1, allocation.pages - first))
        va = allocation.va + first * PAGE_SIZE
        if free:
            token = self.world.ask(lambda t: events.FreeRequest(t, va, count * PAGE_SIZE))
        else:
            token = self.world.ask(lambda t: events.RevokeRequest(t, va, count))
        self.pending[token] = ("take", va, count)

    @precondition(lambda self: self.allocations())
    @rule(data=st.data())
    def writer_sends(self, data: st.DataObject) -> None:
        """A write passes the switch and stays under way."""
        allocation = data.draw(st.sampled_from(sorted(self.allocations(), key=lambda a: a.va)))
        va = allocation.va + data.draw(st.integers(0, allocation.pages - 1)) * PAGE_SIZE
        stamped = self.world.stamp(allocation.pid, va)
        if stamped is not None:
            self.stamps.append((allocation.pid, va, stamped))

    @rule(lose=st.sampled_from((0.0, 0.0, 0.3)), count=st.integers(1, 5))
    def deliver(self, lose: float, count: int) -> None:
        for _ in range(count):
            self.world.deliver(self.rng, lose)

    @rule(effects=st.integers(0, 6))
    def crash_soon(self, effects: int) -> None:
        self.world.crash_after = effects

    @rule()
    def settle(self) -> None:
        self.world.crash_after = None
        self.world.settle(self.rng)

    @rule(element=st.sampled_from((101, 102)), silence=st.booleans())
    def slow_element(self, element: int, silence: bool) -> None:
        """A memory element is silent for too long and then goes on."""
        if silence:
            self.world.now += 10
            for other in (1, 2, 101, 102):
                if other != element:
                    self.world.feed(events.Heartbeat(other, 1))
            self.world.feed(events.Tick())
        else:
            self.world.feed(events.Heartbeat(element, 1))

    @invariant()
    def one_owner_and_no_late_write(self) -> None:
        if not hasattr(self, "world"):
            return
        world = self.world
        for page, owners in world.page_owners().items():
            assert len(owners) == 1, f"S1: page {page} can be written by {owners}"
        for token, (kind, va, pages) in list(self.pending.items()):
            answer = world.answers.get(token)
            if answer is None:
                continue
            del self.pending[token]
            if answer.error is None and kind == "take":
                self.revoked |= {va + n * PAGE_SIZE for n in range(pages)}
        for pid, va, stamped in self.stamps:
            if va in self.revoked:
                alive = world.state.elements[stamped[0]].liveness == "alive"
                late = world.passes(pid, va, stamped)
                # An element that the switch holds for dead may not have heard; it hears before it serves again.
                assert not (late and alive), f"S2: a write to {va:#x} from before its revocation takes effect"

    @invariant()
    def books_balance(self) -> None:
        if not hasattr(self, "world"):
            return
        state = self.world.state
        held: set[tuple[int, int]] = set()
        for allocation in state.allocations.values():
            for element, first, pages in monitor.held(allocation):
                for page in range(first, first + pages):
                    assert (element, page) not in held, f"page {page} of {element} is held twice"
                    held.add((element, page))
        assert monitor.physical_free(state) == dict(state.free)
        assert (
            self.world.crash_after is not None or {e.key: e for e in entries.all_entries(state)} == self.world.entries
        ), "the switch holds something else than the state wants"

    def teardown(self) -> None:
        if hasattr(self, "world"):
            self.world.crash_after = None
            for element in (101, 102):
                self.world.feed(events.Heartbeat(element, 1))
            self.world.settle(self.rng)
            assert not self.world.state.operations, "an operation never ends"
            self.one_owner_and_no_late_write()
            self.books_balance()


RackMachine.TestCase.settings = settings(
    max_examples=400, stateful_step_count=25, deadline=None, report_multiple_bugs=False
)
TestRack = RackMachine.TestCase


@pytest.mark.parametrize("effects", range(12))
def test_crash_at_every_effect_of_a_revocation(effects: int) -> None:
    """A sweep over crash points: after the restart the operation is finished, and everybody agrees."""
    rng = random.Random(effects)
    world = World(tiny_rack(), Config(largest_block=8))
    pid = world.create_process(1)
    world.ask(lambda t: events.AllocRequest(t, pid, 10 * PAGE_SIZE, 3))
    world.settle(rng)
    (allocation,) = world.state.allocations.values()
    stamped = world.stamp(pid, allocation.va)
    assert world.passes(pid, allocation.va, stamped)
    world.crash_after = effects
    token = world.ask(lambda t: events.RevokeRequest(t, allocation.va, 3))
    world.settle(rng)
    world.crash_after = None
    world.settle(rng)
    holes = world.state.allocations[allocation.va].holes
    done = bool(holes)
    assert done or (effects == 0 and token not in world.answers), "neither done nor as if never asked for"
    assert world.passes(pid, allocation.va, stamped) == (not done)
    assert {e.key: e for e in entries.all_entries(world.state)} == world.entries
    if done:
        assert all(h.kind is HoleKind.REVOKED for h in holes)
        assert world.stamp(pid, allocation.va) is None
        assert world.passes(pid, allocation.va + 3 * PAGE_SIZE, world.stamp(pid, allocation.va + 3 * PAGE_SIZE))


def test_only_entries_concerned_change() -> None:
    """S5: a plan touches nothing of other processes."""
    rng = random.Random(1)
    world = World(tiny_rack())
    first, second = world.create_process(1), world.create_process(2)
    for pid in (first, second):
        world.ask(lambda t, pid=pid: events.AllocRequest(t, pid, 4 * PAGE_SIZE, 3))
    world.settle(rng)
    mine = next(a for a in world.state.allocations.values() if a.pid == first)
    world.writes.clear()
    world.ask(lambda t: events.RevokeRequest(t, mine.va + PAGE_SIZE, 1))
    world.settle(rng)
    world.ask(lambda t: events.FreeRequest(t, mine.va, 0))
    world.settle(rng)
    assert world.writes
    for write in world.writes:
        match = dict(write.entry.match)
        assert match.get("pid", first) == first
        assert match["va"][0] >> 48 == first
