"""The safety rules (docs/architecture.md) over the core: frames are delayed, repeated and lost, elements fall silent and restart,
and the controller is killed at any effect of its plans."""

from __future__ import annotations

import os
import random
from collections.abc import Callable

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from world import Sent, World

from controller.core import entries, events, layout, monitor
from controller.core.memory import Config
from controller.core.state import Allocation, AllocationStatus, Liveness, Override, OverrideKind
from protocol import capability, wire
from protocol.rack import Rack
from protocol.wire import PAGE_SIZE, Op, Perm, Status
from topologies.racks import small_rack

PAGES = 16
SECRET = bytes(range(16))
EXAMPLES = int(os.environ.get("SAFETY_EXAMPLES", "100"))  # more, to search longer


def tiny_rack(nvm: int = 0) -> Rack:
    """Two memory elements of 16 pages, 101 and 102; of NVM the last ``nvm``."""
    rack = small_rack(compute=2, dram=2 - nvm, nvm=nvm, memory_mib=1)
    small = (msgspec.structs.replace(e, pages=PAGES) if e.kind == "memory" else e for e in rack.elements)
    return msgspec.structs.replace(rack, elements=tuple(small))


class RackMachine(RuleBasedStateMachine):
    """Any order of operations, deliveries, losses, failures and crashes."""

    @initialize(seed=st.integers(0, 1 << 30), policy=st.sampled_from(("best-fit", "balance")))
    def boot(self, seed: int, policy: str) -> None:
        self.rng = random.Random(seed)
        self.world = World(tiny_rack(nvm=1), Config(placement=policy, largest_block=8))
        self.world.on_answer, self.world.on_ready = self.answered, self.given_out
        self.pending: dict[int, tuple[str, int, int]] = {}  # token: what was asked for
        self.former: dict[int, dict[int, int]] = {}  # token of a reassignment: the generations of its pages before it
        self.fenced: set[int] = set()  # compute elements whose fence was acknowledged
        self.under_way: list[Sent] = []
        self.stamps: list[tuple[int, int, tuple[int, int, int]]] = []  # what the switch once wrote into a request
        self.dead_stamps: list[tuple[int, int, tuple[int, int, int]]] = []  # of them, those that must not pass any more
        self.revoked: set[int] = set()  # pages whose revocation or freeing was acknowledged
        self.too_late: dict[int, str] = {}  # writes that may take effect no more, and why
        self.begin()
        for which in range(3):
            self.alloc(which, 5, True)

    def begin(self) -> None:
        """Three processes, of which two allocate memory that members of a group may steal."""
        self.pids = [self.world.create_process(element) for element in (1, 2, 1)]
        self.world.ask(lambda t: events.GroupRequest(t, "group", SECRET, 0, 0))

    # --------------------------------------------------------------------------------------------- what was acknowledged

    def answered(self, answer: events.Answer) -> None:
        """Called at the moment of the answer: from now on no earlier write may take effect."""
        kind, where, pages = self.pending.pop(answer.token, ("", 0, 0))
        former = self.former.pop(answer.token, {})
        if answer.error is not None:
            return
        under_way = [s for s in self.under_way if s.number not in self.world.landed]
        if kind in ("take", "reassign"):
            taken = {where + n * PAGE_SIZE for n in range(pages)}

            def lost(va: int, generation: int) -> bool:
                """By a right that is no more. A recipient's own may pass the switch before anybody is answered."""
                return va in taken and (kind == "take" or generation <= former[va])

            self.too_late |= {s.number: kind for s in under_way if lost(s.va, s.generation)}
            self.dead_stamps += [stamp for stamp in self.stamps if lost(stamp[1], stamp[2][2])]
            self.stamps = [stamp for stamp in self.stamps if not lost(stamp[1], stamp[2][2])]
        if kind == "take":
            self.revoked |= taken
            self.check_notice(where, pages)
        elif kind == "fence":
            if where in (1, 2):
                self.fenced.add(where)
            self.too_late |= {s.number: kind for s in under_way if where in (s.source, s.element)}

    def given_out(self, allocation: Allocation) -> None:
        """Called when an allocation becomes ready, whether or not anybody hears of it."""
        for element, first, count in monitor.held(allocation):
            for page in range(first, first + count):
                assert self.word(element, page) == 0, "memory is not zero when it is given out"
        for page in range(allocation.pages):
            self.world.words[allocation.va + page * PAGE_SIZE] = 0

    def check_notice(self, va: int, pages: int) -> None:
        """Whose memory was revoked hears of it, whatever happens to the controller now."""
        allocation = self.world.state.allocation_at(va)
        if allocation is None or allocation.status is not AllocationStatus.READY:
            return  # it was freed meanwhile
        assert self.world.stored is not None
        known = [*self.world.stored.notices.values(), *self.world.notices]
        for h in allocation.overrides:  # each names who owned the pages last
            concerned = va <= h.va and h.end <= va + pages * PAGE_SIZE and h.pid in self.world.state.processes
            if h.kind is OverrideKind.REVOKED and concerned:
                heard = (n for n in known if n.pid == h.pid and n.va <= h.va)
                assert any(h.end <= n.va + n.pages * PAGE_SIZE for n in heard)

    def word(self, element: int, page: int) -> int:
        return int.from_bytes(self.world.elements[element].memory[page * PAGE_SIZE : page * PAGE_SIZE + 8], "big")

    def ready(self) -> list[Allocation]:
        allocations = self.world.state.allocations.values()
        return sorted((a for a in allocations if a.status is AllocationStatus.READY), key=lambda a: a.va)

    def draw_page(self, data: st.DataObject) -> tuple[Allocation, int]:
        allocation = data.draw(st.sampled_from(self.ready()))
        return allocation, data.draw(st.integers(0, allocation.pages - 1))

    def ask(self, kind: str, where: int, pages: int, make: Callable[[int], events.ApiRequest]) -> None:
        token = self.world.numbers + 1
        self.pending[token] = (kind, where, pages)
        assert self.world.ask(make) == token

    # ------------------------------------------------------------------------------------------------------------ memory

    @rule(which=st.integers(0, 2), pages=st.integers(1, 12), settled=st.booleans())
    def alloc(self, which: int, pages: int, settled: bool) -> None:
        pid = self.pids[which]
        if which:  # in the group
            args = wire.ALLOC_ARGS.pack(pages * PAGE_SIZE, 3, 1 << wire.GROUP_SHIFT)
            element = self.world.state.processes[pid].element
            self.world.feed(events.ControlRequest(element, pid, self.world.new_number(), Op.ALLOC, 0, args))
        else:
            self.ask("alloc", 0, 0, lambda t: events.AllocRequest(t, pid, pages * PAGE_SIZE, 3))
        if settled:
            self.settle()

    @precondition(lambda self: self.ready())
    @rule(data=st.data(), free=st.booleans())
    def take_pages(self, data: st.DataObject, free: bool) -> None:
        allocation, first = self.draw_page(data)
        count = data.draw(st.integers(1, allocation.pages - first))
        va = allocation.va + first * PAGE_SIZE
        if free:
            self.ask("take", va, count, lambda t: events.FreeRequest(t, va, count * PAGE_SIZE))
        else:
            self.ask("take", va, count, lambda t: events.RevokeRequest(t, va, count))

    @precondition(lambda self: self.ready())
    @rule(
        data=st.data(),
        to=st.integers(0, 2),
        permissions=st.sampled_from((1, 3, 3)),
        protect=st.booleans(),
        steal=st.booleans(),
    )
    def reassign(self, data: st.DataObject, to: int, permissions: int, protect: bool, steal: bool) -> None:
        allocation, first = self.draw_page(data)
        count = data.draw(st.integers(1, allocation.pages - first))
        va, pid = allocation.va + first * PAGE_SIZE, self.pids[to]
        self.former[self.world.numbers + 1] = {
            page: next(layout.runs(allocation, page, 1)).generation
            for page in range(va, va + count * PAGE_SIZE, PAGE_SIZE)
        }
        if protect:
            self.ask("reassign", va, count, lambda t: events.ProtectRequest(t, va, count, permissions))
        elif steal:
            rest = (pid, allocation.pid, 1, capability.pack(capability.mint(SECRET, 1, pid, 10)), permissions, 5.0)
            self.ask("reassign", va, count, lambda t: events.StealRequest(t, va, count, *rest))
        else:
            self.ask("reassign", va, count, lambda t: events.GrantRequest(t, va, count, pid, permissions))

    @precondition(lambda self: self.ready())
    @rule(data=st.data(), where=st.sampled_from((None, 101, 102)))
    def migrate(self, data: st.DataObject, where: int | None) -> None:
        allocation, first = self.draw_page(data)
        count = data.draw(st.integers(1, allocation.pages - first))
        va = allocation.va + first * PAGE_SIZE
        self.ask("migrate", va, count, lambda t: events.MigrateRequest(t, va, count, where))

    @rule(which=st.integers(0, 2), crashed=st.booleans())
    def exit_process(self, which: int, crashed: bool) -> None:
        """A process ends, another begins."""
        pid = self.pids[which]
        process = self.world.state.processes[pid]
        while pid in self.world.state.processes:  # the local OS repeats until it is answered
            request_id = self.world.new_number()
            self.world.feed(
                events.ControlRequest(process.element, 0, request_id, Op.PROCESS_EXIT, pid, bytes([crashed] * 8))
            )
        self.pids[which] = self.world.create_process(process.element)

    @precondition(lambda self: self.ready())
    @rule(data=st.data(), count=st.integers(1, 4))
    def write(self, data: st.DataObject, count: int) -> None:
        """Writes pass the switch and are under way."""
        for _ in range(count):
            allocation, page = self.draw_page(data)
            self.write_page(allocation.va + page * PAGE_SIZE)

    @precondition(lambda self: self.ready())
    @rule(offset=st.integers(0, 11))
    def write_everywhere(self, offset: int) -> None:
        for allocation in self.ready():
            self.write_page(allocation.va + offset % allocation.pages * PAGE_SIZE)

    def write_page(self, va: int) -> None:
        """By its owner of now."""
        allocation = self.world.state.allocation_at(va)
        assert allocation is not None
        pid = next(layout.runs(allocation, va, 1)).pid
        stamped = self.world.stamp(pid, va)
        sent = self.world.send_write(pid, va)
        if sent is not None and stamped is not None:
            assert va not in self.revoked, "the switch lets a write to a revoked page pass"
            assert sent.source not in self.fenced, "the switch lets a write of a fenced element pass"
            self.under_way.append(sent)
            self.stamps.append((pid, va, stamped))

    @precondition(lambda self: self.world.notices)
    @rule(data=st.data(), by=st.sampled_from((1, 2, 101)))
    def take_notice(self, data: st.DataObject, by: int) -> None:
        """A local OS acknowledges a notice, its own or not."""
        notice = data.draw(st.sampled_from(self.world.notices))
        pending = notice.id in self.world.state.notices
        self.world.crash_after = None
        self.world.feed(events.NoticeAcknowledged(by, notice.id))
        assert (notice.id in self.world.state.notices) == (pending and by != notice.element)

    # ---------------------------------------------------------------------------------------------------------- elements

    @rule(element=st.sampled_from((1, 2, 101, 102)))
    def fence(self, element: int) -> None:
        self.ask("fence", element, 0, lambda t: events.FenceRequest(t, element, True))

    @rule(element=st.sampled_from((1, 2, 101, 102)))
    def unfence(self, element: int) -> None:
        self.fenced.discard(element)
        self.ask("unfence", element, 0, lambda t: events.FenceRequest(t, element, False))

    @rule(element=st.sampled_from((101, 102)))
    def silence(self, element: int) -> None:
        """A memory element is silent for too long; it may be dead, or slow."""
        self.world.now += 10
        for other in (1, 2, 101, 102):
            if other != element:
                self.world.heartbeat(other)
        self.world.feed(events.Tick())
        assert self.world.state.elements[element].liveness is not Liveness.ALIVE or self.world.crash_after is None

    @rule(element=st.sampled_from((101, 102)))
    def heartbeat(self, element: int) -> None:
        self.world.heartbeat(element)

    @rule(element=st.sampled_from((101, 102)), arrived=st.integers(0, 5))
    def restart_element(self, element: int, arrived: int) -> None:
        """A memory element loses everything, also the frames that had arrived; what was behind them reaches the new one."""
        channel = self.world.channels[element]
        for _ in range(min(arrived, len(channel))):
            channel.popleft()
        self.world.start_element(element)

    @rule(lose=st.sampled_from((0.0, 0.0, 0.3)), count=st.integers(1, 6))
    def deliver(self, lose: float, count: int) -> None:
        for _ in range(count):
            self.world.deliver(self.rng, lose)

    @precondition(lambda self: self.world.old_frames)
    @rule(data=st.data())
    def repeat_an_old_change(self, data: st.DataObject) -> None:
        """A page-table change from long ago arrives once more."""
        element, frame = data.draw(st.sampled_from(self.world.old_frames))
        self.world.channels[element].append(frame)

    # -------------------------------------------------------------------------------------------------------- controller

    @rule(effects=st.integers(0, 6))
    def crash_soon(self, effects: int) -> None:
        self.world.crash_after = effects

    @rule()
    def settle(self) -> None:
        self.world.crash_after = None
        self.world.settle(self.rng)

    @rule(luck=st.integers(0, 5))
    def lose_the_store(self, luck: int) -> None:
        """The controller comes back with an empty store: it knows of nobody, and elements remember what it does not."""
        if luck:  # not too often: not much of interest is left afterwards
            return
        self.world.crash_after = None
        self.world.lose_store()
        self.pending.clear()
        self.former.clear()
        self.revoked.clear()
        self.fenced.clear()
        self.stamps.clear()
        self.dead_stamps.clear()
        for element in (1, 2, 101, 102):
            self.world.heartbeat(element)
        self.world.settle(self.rng)
        self.begin()

    # -------------------------------------------------------------------------------------------------------- invariants

    @invariant()
    def no_late_write(self) -> None:
        """S2."""
        if not hasattr(self, "world"):
            return
        for sent, status in self.world.confirmed:
            if sent in self.under_way:
                self.under_way.remove(sent)
            why = self.too_late.get(sent.number)
            assert why is None or status is not Status.OK, f"S2: a write took effect after: {why}"
        self.world.confirmed.clear()
        for pid, va, stamped in self.dead_stamps:
            if self.serves(stamped[0]):
                assert not self.world.passes(pid, va, stamped), f"S2: a write to {va:#x} would pass, however late"

    def serves(self, element: int) -> bool:
        """Whether the element's replies are heard, and it is the one that the controller knows."""
        record = self.world.state.elements[element]
        return record.liveness is Liveness.ALIVE and record.incarnation == self.world.incarnations[element]

    @invariant()
    def one_owner(self) -> None:
        """S1."""
        if not hasattr(self, "world"):
            return
        for page, owners in self.world.page_owners().items():
            assert len(owners) == 1, f"S1: page {page} can be written by {owners}"

    @invariant()
    def ready_memory_is_usable_and_keeps_its_contents(self) -> None:
        """S3, and availability."""
        if not hasattr(self, "world"):
            return
        for allocation in self.ready():
            for piece in layout.runs(allocation):
                if self.serves(piece.element):
                    for n in range(piece.pages):
                        self.check_page(layout.cut(piece, piece.va + n * PAGE_SIZE, piece.va + (n + 1) * PAGE_SIZE))

    def check_page(self, page: Override) -> None:
        if page.kind is OverrideKind.LOST:
            assert self.world.stamp(page.pid, page.va, Perm.READ) is None
        if page.kind not in layout.NOT_KEPT:
            expected = self.world.words.get(page.va, 0)
            assert self.word(page.element, page.pa // PAGE_SIZE) == expected, f"S3: {page.va:#x} has lost a write"
        if page.kind is OverrideKind.MIGRATING and page.permissions:
            stamped = self.world.stamp(page.pid, page.va, Perm(page.permissions))
            if stamped is not None and self.serves(stamped[0]):
                element, pa, generation = stamped
                heard = self.world.elements[element].table.check(page.pid, page.va, pa, page.permissions, generation)
                assert heard in (Status.OK, Status.STALE_GENERATION), (
                    f"{page.va:#x} is being copied, its owner hears {heard}"
                )
        if page.kind is OverrideKind.OWNED and not self.world.state.elements[page.element].fenced:
            need = Perm(page.permissions)
            stamped = self.world.stamp(page.pid, page.va, need)
            assert self.world.passes(page.pid, page.va, stamped, need), f"{page.va:#x} is ready, but cannot be used"

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
        assert monitor.complete(state).rules == state.rules
        wanted = list(entries.all_entries(state))
        assert len({e.key for e in wanted}) == len(wanted), "two entries for one key"
        assert {e.key: e for e in wanted} == self.world.entries, "the switch holds something else than the state wants"

    def teardown(self) -> None:
        if hasattr(self, "world"):
            self.world.crash_after = None
            for element in (101, 102):
                self.world.heartbeat(element)
            self.world.settle(self.rng)
            assert not self.world.state.operations, "an operation never ends"
            self.no_late_write()
            self.one_owner()
            self.ready_memory_is_usable_and_keeps_its_contents()
            self.books_balance()


RackMachine.TestCase.settings = settings(
    max_examples=EXAMPLES, stateful_step_count=40, deadline=None, report_multiple_bugs=False
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
    holes = world.state.allocations[allocation.va].overrides
    done = bool(holes)
    assert done or (effects == 0 and token not in world.answers), "neither done nor as if never asked for"
    assert world.passes(pid, allocation.va, stamped) == (not done)
    assert {e.key: e for e in entries.all_entries(world.state)} == world.entries
    if done:
        assert all(h.kind is OverrideKind.REVOKED for h in holes)
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
