"""Whoever dies, at whatever step of whatever operation: afterwards it is done or undone, and everybody agrees.

Each operation is first carried out in peace. Then it is carried out again and again, and the controller is killed at each of
its steps in turn: before every effect and before every single write to the switch, also those of the restart itself. Then the
memory elements are killed in turn after each frame that they handle. The store is a real one.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest
from test_safety import SECRET, tiny_rack
from world import World

from controller.core import entries, events, layout, monitor
from controller.core.events import Effect, Persist
from controller.core.memory import Config
from controller.core.state import KINDS, AllocationStatus, Liveness, OverrideKind
from controller.core.step import initial
from controller.store import Store
from protocol import capability, wire
from protocol.wire import PAGE_SIZE, NotifyCode, Op, Status

PAGES = 12
DRAM, NVM = 101, 102


class StoredWorld(World):
    """A world whose store is a file: what comes out of it after a restart is what went in. Memory elements can be killed."""

    frames: int = 0  # that memory elements have handled
    doomed: tuple[int, int, bool] | None = None  # element, the frame at which it is killed, whether it handles that one

    def deliver_to(self, element: int, rng: random.Random, lose: float = 0.0) -> None:
        self.frames += 1
        if self.doomed is None or self.frames < self.doomed[1]:
            super().deliver_to(element, rng, lose)
            return
        victim, _, handles = self.doomed
        self.doomed = None
        if handles:
            super().deliver_to(element, rng, lose)
        self.start_element(victim)

    def open(self, path: Path) -> None:
        self.store = Store(path)
        assert self.stored is not None
        kinds = [(kind, self.stored_overrides if kind == "overrides" else getattr(self.stored, kind)) for kind in KINDS]
        self.store.save([(kind, key, r) for kind, found in kinds for key, r in found.items()], self.stored.counters)

    def carry_out(self, effect: Effect) -> None:
        if isinstance(effect, Persist):
            self.store.save(effect.changes, effect.counters)
        super().carry_out(effect)

    def restart(self) -> None:
        loaded = self.store.load(initial(self.rack))
        for kind in {*KINDS, "counters"} - {"overrides"}:
            assert getattr(loaded, kind) == getattr(self.stored_state(), kind), f"the store has other {kind}"
        super().restart()


class Case:
    """A rack with two processes; the first has memory on both elements that members of its group may steal."""

    def __init__(self, path: Path):
        self.rng = random.Random(1)
        self.world = StoredWorld.__new__(StoredWorld)
        self.world.store = Store(path.with_suffix(".boot"))  # while it boots
        self.world.__init__(tiny_rack(nvm=1), Config(placement="balance", largest_block=8))  # type: ignore[misc]
        self.world.store.close()
        self.world.open(path)
        world = self.world
        self.owner, self.other = world.create_process(1), world.create_process(2)
        world.ask(lambda t: events.GroupRequest(t, "group", SECRET, 0, 0))
        self.va = 0
        self.request(self.owner, Op.ALLOC, 0, wire.ALLOC_ARGS.pack(PAGES * PAGE_SIZE, 3, 1 << wire.GROUP_SHIFT))
        (allocation,) = world.state.allocations.values()
        self.va = allocation.va
        assert {p.element for p in layout.runs(allocation)} == {DRAM, NVM}
        self.sent = {}
        for n in range(PAGES):
            sent = world.send_write(self.owner, self.page(n))
            assert sent is not None
            self.sent[self.page(n)] = sent.number
        world.settle(self.rng)
        for number in list(world.state.notices):
            world.feed(events.NoticeAcknowledged(world.state.notices[number].element, number))
        world.notices.clear()

    def page(self, n: int) -> int:
        return self.va + n * PAGE_SIZE

    def request(self, pid: int, op: Op, va: int, payload: bytes, about: int = 0) -> Status:
        """A request in band, repeated until it is answered, as a requester does."""
        request_id = self.world.new_number()
        element = self.world.state.processes[pid].element if pid else about
        for _ in range(20):
            self.world.feed(events.ControlRequest(element, pid, request_id, op, va, payload, 5.0))
            self.settle()
            said = {(r.status, r.va, r.payload) for r in self.world.replies if r.request_id == request_id}
            if said:
                assert len(said) == 1, f"one request, several answers: {said}"
                return Status(said.pop()[0])
        raise AssertionError("never answered")

    def ask(self, make: Callable[[int], events.ApiRequest]) -> Status | None:
        """An API request; None when nobody lived to answer."""
        token = self.world.ask(make)
        self.settle()
        answer = self.world.answers.get(token)
        return None if answer is None else Status.OK if answer.error is None else Status[answer.error.code.upper()]

    def settle(self) -> None:
        self.world.settle(self.rng)

    # ---------------------------------------------------------------------------------------------------------- judging

    def view(self) -> dict[object, object]:
        """What people can see of the rack."""
        state = self.world.state
        seen: dict[object, object] = {}
        for allocation in state.allocations.values():
            if allocation.status is AllocationStatus.READY:
                for piece in layout.runs(allocation):
                    for n in range(piece.pages):
                        seen[piece.va + n * PAGE_SIZE] = piece.kind, piece.pid, piece.permissions, piece.element
        seen |= {f"process {p.pid}": p.element for p in state.processes.values()}
        seen |= {e.name: (e.fenced, e.liveness) for e in state.elements.values()}
        seen |= {f"watch of {w.pid}": (w.source, w.group) for w in state.watches.values()}
        seen |= {f"bad pages of {b.element}": b.pages for b in state.bad.values()}
        return seen

    def agree(self) -> None:
        """Switch, elements and store hold what the state says, and nothing is lost."""
        world, state = self.world, self.world.state
        assert not state.operations
        assert not state.messages
        assert {e.key: e for e in entries.all_entries(state)} == world.entries, "the switch"
        for kind in KINDS.keys() - {"overrides"}:
            assert getattr(world.stored_state(), kind) == getattr(state, kind), f"the store: {kind}"
        assert monitor.physical_free(state) == dict(state.free)
        assert monitor.complete(state).rules == state.rules
        assert not any(a.status is not AllocationStatus.READY for a in state.allocations.values())
        for number, element in world.elements.items():
            if state.elements[number].liveness is not Liveness.ALIVE:
                continue
            owned = {
                (p.pa >> wire.PAGE_SHIFT) + n: (p.pid, p.va + n * PAGE_SIZE, p.permissions, p.generation)
                for a in state.allocations.values()
                for p in layout.runs(a)
                if p.element == number and p.kind is OverrideKind.OWNED
                for n in range(p.pages)
            }
            known = state.bad[number].pages if number in state.bad else ()
            marked = {n for n in range(world.rack.by_id(number).pages) if element.table.bad[n]}
            assert marked == {first + n for first, count in known for n in range(count)}, "bad pages"
            for page in range(world.rack.by_id(number).pages):
                entry = element.table.entry(page * PAGE_SIZE)
                found = (entry.pid, entry.va, int(entry.permissions))
                right = (
                    found == owned[page][:3] and entry.generation <= owned[page][3] if page in owned else not entry.pid
                )
                assert right, f"page table of {number}: {entry}"
        for allocation in state.allocations.values():
            for piece in layout.runs(allocation):
                for n in range(piece.pages):
                    va = piece.va + n * PAGE_SIZE
                    if piece.kind not in layout.NOT_KEPT and va in self.sent:
                        at = piece.pa + n * PAGE_SIZE
                        word = int.from_bytes(world.elements[piece.element].memory[at : at + 8], "big")
                        assert word == self.sent[va], f"{va:#x} has lost its contents"

    def told(self, pid: int) -> set[NotifyCode]:
        """What a process has been told, or will be."""
        known = [*self.world.notices, *self.world.state.notices.values()]
        return {NotifyCode(n.code) for n in known if n.pid == pid}


# What is done to a case: the status, None when the answer died with the controller.
Operation = Callable[[Case], Status | None]


def alloc(case: Case) -> Status | None:
    return case.request(case.owner, Op.ALLOC, 0, wire.ALLOC_ARGS.pack(10 * PAGE_SIZE, 3, 0))


def free(case: Case) -> Status | None:
    return case.request(case.owner, Op.FREE, case.va, wire.FREE_ARGS.pack(case.va, 0))


def free_part(case: Case) -> Status | None:
    return case.request(case.owner, Op.FREE, case.va, wire.FREE_ARGS.pack(case.page(3), 7 * PAGE_SIZE))


def protect(case: Case) -> Status | None:
    return case.request(case.owner, Op.PROTECT, case.page(2), wire.PROTECT_ARGS.pack(9, 1))


def migrate(case: Case) -> Status | None:
    """Two pages of the DRAM element go to the other."""
    allocation = case.world.state.allocations[case.va]
    piece = next(p for p in layout.runs(allocation) if p.element == DRAM and p.pages >= 2)
    return case.request(case.owner, Op.MIGRATE, piece.va, wire.MIGRATE_ARGS.pack(2, NVM))


def grant(case: Case) -> Status | None:
    return case.request(case.owner, Op.GRANT, case.page(1), wire.GRANT_ARGS.pack(10, case.other, 3))


def steal(case: Case) -> Status | None:
    token = capability.pack(capability.mint(SECRET, 1, case.other, 10))
    return case.request(case.other, Op.STEAL, case.va, wire.STEAL_ARGS.pack(PAGES, case.owner, 3, 1) + token)


def revoke(case: Case) -> Status | None:
    return case.ask(lambda t: events.RevokeRequest(t, case.page(5), 6))


def fence_compute(case: Case) -> Status | None:
    return case.ask(lambda t: events.FenceRequest(t, 1, True))


def fence_memory(case: Case) -> Status | None:
    return case.ask(lambda t: events.FenceRequest(t, DRAM, True))


def unfence(case: Case) -> Status | None:
    return case.ask(lambda t: events.FenceRequest(t, 1, False))


def poison(case: Case) -> Status | None:
    return case.ask(lambda t: events.PoisonRequest(t, case.page(5), 6, True))


def heal(case: Case) -> Status | None:
    return case.ask(lambda t: events.PoisonRequest(t, case.page(5), 6, False))


def watch(case: Case) -> Status | None:
    token = capability.mint(SECRET, 1, case.other, 1000)
    payload = wire.WATCH_ARGS.pack(case.owner, 1) + capability.pack(token)
    return case.request(case.other, Op.WATCH, 0, payload)


def silence(case: Case) -> Status | None:
    """The owner's element falls silent, and somebody stands by."""
    case.world.now += 10
    for _ in range(3):
        for element in (2, DRAM, NVM):
            case.world.heartbeat(element)
        case.world.feed(events.Tick())
        case.settle()
        case.world.now += 1
    for element in (2, DRAM, NVM):
        case.world.heartbeat(element)
    assert NotifyCode.TAKEOVER in case.told(case.other)
    return None


def process_create(case: Case) -> Status | None:
    return case.request(0, Op.PROCESS_CREATE, 0, b"new".ljust(32, b"\0"), about=1)


def process_exit(case: Case) -> Status | None:
    return case.request(0, Op.PROCESS_EXIT, case.owner, bytes(8), about=1)


def process_crash(case: Case) -> Status | None:
    return case.request(0, Op.PROCESS_EXIT, case.other, b"\1".ljust(8, b"\0"), about=2)


def recovery(case: Case) -> Status | None:
    """An element that was silent is heard again, after a revocation that it has missed."""
    case.world.heartbeat(NVM)
    case.settle()
    case.world.heartbeat(NVM)  # heartbeats go on
    case.settle()
    return None


def restart_dram(case: Case) -> Status | None:
    case.world.start_element(DRAM)
    return _heard(case, DRAM)


def restart_nvm(case: Case) -> Status | None:
    case.world.start_element(NVM)
    return _heard(case, NVM)


def _heard(case: Case, element: int) -> Status | None:
    for _ in range(3):
        case.world.heartbeat(element)
        case.settle()
    return None


def _prepare(case: Case, operation: Operation) -> None:
    """What must have happened before."""
    world = case.world
    if operation is unfence:
        assert fence_compute(case) is Status.OK
    elif operation is recovery:
        world.now += 10
        for element in (1, 2, DRAM):
            world.heartbeat(element)
        world.feed(events.Tick())
        assert world.state.elements[NVM].liveness is Liveness.FAILED
        assert revoke(case) is Status.OK
    elif operation is heal:
        assert poison(case) is Status.OK
    elif operation is silence:
        assert watch(case) is Status.OK
    elif operation is process_crash:
        assert grant(case) is Status.OK


OPERATIONS: list[Operation] = [
    alloc,
    free,
    free_part,
    protect,
    grant,
    migrate,
    steal,
    revoke,
    fence_compute,
    fence_memory,
    unfence,
    poison,
    heal,
    watch,
    silence,
    process_create,
    process_exit,
    process_crash,
    recovery,
    restart_dram,
    restart_nvm,
]


class Sweep:
    """Runs of one operation, each in a rack of its own."""

    def __init__(self, path: Path, operation: Operation):
        self.path, self.operation = path, operation
        self.runs = 0
        calm = self.case()
        self.before = calm.view()
        first, frames = calm.world.steps, calm.world.frames
        self.status = operation(calm)
        self.after, self.steps, self.frames = calm.view(), calm.world.steps - first, calm.world.frames - frames
        self.notices = {pid: calm.told(pid) for pid in (calm.owner, calm.other)}
        calm.agree()
        calm.world.store.close()
        assert self.status in (None, Status.OK)
        assert self.before != self.after or operation in (process_crash, restart_nvm)

    def case(self) -> Case:
        self.runs += 1
        made = Case(self.path / f"{self.runs}.db")
        _prepare(made, self.operation)
        made.world.notices.clear()
        return made

    def kill_the_controller(self, crashes: list[int]) -> None:
        case = self.case()
        case.world.crash_after, case.world.more_crashes = crashes[0], crashes[1:]
        status = self.operation(case)
        case.world.crash_after = None
        case.world.more_crashes.clear()
        _heard(case, DRAM)
        _heard(case, NVM)
        case.agree()
        view = case.view()
        assert case.world.crashes, "the controller was not killed"
        if status is not None or self.operation in (recovery, restart_dram, restart_nvm):
            assert view == self.after, "it was answered, or must be done in any case"
            assert status is self.status or status is None
        else:
            assert view in (self.before, self.after), "half done"
        if view == self.after:
            for pid, codes in self.notices.items():
                assert codes <= case.told(pid), "somebody was not told"
        case.world.store.close()

    def kill_an_element(self, element: int, frame: int, handles: bool) -> None:
        case = self.case()
        world = case.world
        world.doomed = element, world.frames + frame, handles
        status = self.operation(case)
        assert world.doomed is None, "the element was not killed"
        _heard(case, DRAM)
        _heard(case, NVM)
        case.agree()
        refused = status not in (None, Status.OK)
        assert not refused or (status is Status.ELEMENT_FAILED and self.operation in (alloc, migrate)), status
        expected = self.before if refused else self.after
        assert case.view() == (emptied(expected) if element == DRAM else expected)
        lost = {p for p in (case.owner, case.other) if NotifyCode.MEMORY_LOST in case.told(p)}
        kept = {p for p in (case.owner, case.other) if p in world.state.processes}
        wanted = {v[1] for v in case.view().values() if isinstance(v, tuple) and v[0] is OverrideKind.LOST}
        assert wanted & kept <= lost
        assert element == DRAM or not lost or self.operation is restart_dram
        world.store.close()


def emptied(view: dict[object, object]) -> dict[object, object]:
    """What people see when the DRAM element has lost everything."""
    kept = (OverrideKind.OWNED, OverrideKind.REVOKED)
    return {
        key: (OverrideKind.LOST, v[1], 0, v[3]) if isinstance(v, tuple) and v[0] in kept and v[-1] == DRAM else v
        for key, v in view.items()
    }


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda o: o.__name__)
def test_the_controller_is_killed_at_every_step(tmp_path: Path, operation: Operation) -> None:
    sweep = Sweep(tmp_path, operation)
    assert sweep.steps >= 2
    for step in range(sweep.steps):
        sweep.kill_the_controller([step])
        sweep.kill_the_controller([step, step % 4])  # and again while it recovers


def test_a_memory_element_is_killed_at_every_frame(tmp_path: Path) -> None:
    """It handles the frame, or not, and is started again at once: nobody has missed it before it says so."""
    frames = 0
    for operation in OPERATIONS:
        directory = tmp_path / operation.__name__
        directory.mkdir()
        sweep = Sweep(directory, operation)
        for frame in range(1, sweep.frames + 1):
            for element in (DRAM, NVM):
                frames += 1
                sweep.kill_an_element(element, frame, (frame + element) % 2 == 0)
    assert frames > 60
