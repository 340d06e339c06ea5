"""Safety rules at the switch, on the real pipeline, without any help of the memory elements.

S1: no two processes pass protection for write on the same page, after each single table write of the controller's core.
S4, the switch's half: what a process has no right to never leaves towards a memory element.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass, field

import msgspec
import pytest

from controller.core import entries, events
from controller.core.entries import WriteOp
from controller.core.memory import Config
from controller.core.state import AllocationStatus
from protocol import rack
from protocol.wire import PAGE_SIZE, Header, Op, Status
from tests.controller.world import World
from tests.p4src.harness import CPU_PORT, RackSwitch
from tests.p4src.world import BASE, C1, C2, frame
from topologies.racks import small_rack

PAGES = 16
MEMORY = (101, 102)


def tiny_rack() -> rack.Rack:
    """Two compute elements, and two memory elements of 16 pages."""
    made = small_rack(compute=2, dram=2, nvm=0, memory_mib=1)
    small = (msgspec.structs.replace(e, pages=PAGES) if e.kind == "memory" else e for e in made.elements)
    return msgspec.structs.replace(made, elements=tuple(small))


@dataclass
class WorldWithPipeline(World):
    """The simulated rack, whose switch is the real one: every table write goes there, and is followed by probes."""

    switch: RackSwitch = field(default_factory=RackSwitch)
    pids: dict[int, int] = field(default_factory=dict)  # process: its element
    pages: set[int] = field(default_factory=set)  # every address that was ever allocated
    probes: int = 0
    passed: int = 0

    def __post_init__(self) -> None:
        self.booted = False
        super().__post_init__()
        for entry in self.entries.values():
            self.switch.install(entry.table, dict(entry.match), entry.action, **dict(entry.params))
        self.booted = True

    def write(self, write: entries.Write) -> None:
        super().write(write)
        if not self.booted:
            return
        entry, match, params = write.entry, dict(write.entry.match), dict(write.entry.params)
        match write.op:
            case WriteOp.INSERT:
                self.switch.install(entry.table, match, entry.action, **params)
            case WriteOp.MODIFY:
                self.switch.change(entry.table, match, entry.action, **params)
            case WriteOp.DELETE:
                self.switch.remove(entry.table, match)
        self.check_one_owner()

    def check_one_owner(self) -> None:
        """S1, by asking the switch: a write of each process to each address."""
        owners: dict[tuple[int, int], set[int]] = {}
        ports = {e.id: e.port for e in self.rack.elements}
        for (pid, element), va in itertools.product(self.pids.items(), self.pages):
            self.probes += 1
            (out,) = self.switch.inject(ports[element], frame(Header(Op.WRITE, pid=pid, va=va, length=1), b"x"))
            header = Header.unpack(out.frame, 14)
            expected = self.stamp(pid, va)
            if header.op == Op.WRITE:
                assert out.port == ports[header.dst]
                assert (header.dst, header.pa, header.generation) == expected
                owners.setdefault((header.dst, header.pa), set()).add(pid)
                self.passed += 1
            else:
                assert out.port == ports[element] and expected is None, f"{pid} {va:#x}: {header}"
        shared = {page: who for page, who in owners.items() if len(who) > 1}
        assert not shared, f"S1: pages with two writers: {shared}"


@pytest.mark.parametrize("seed", range(12))
def test_one_writer_after_every_table_write(seed: int) -> None:
    rng = random.Random(seed)
    world = WorldWithPipeline(tiny_rack(), Config(placement=rng.choice(("best-fit", "balance")), largest_block=8))
    try:
        for element in (1, 2, 1):
            world.pids[world.create_process(element)] = element
        for _ in range(40):
            ready = [a for a in world.state.allocations.values() if a.status is AllocationStatus.READY]
            act = rng.random()
            if act < 0.35 or not ready:
                pid, pages = rng.choice(list(world.pids)), rng.randint(1, 9)
                world.ask(lambda t, pid=pid, pages=pages: events.AllocRequest(t, pid, pages * PAGE_SIZE, 3))
            elif act < 0.75:
                a = rng.choice(ready)
                first = rng.randrange(a.pages)
                count = rng.randint(1, a.pages - first)
                va = a.va + first * PAGE_SIZE
                if rng.random() < 0.6:
                    world.ask(lambda t, va=va, count=count: events.FreeRequest(t, va, count * PAGE_SIZE))
                else:
                    world.ask(lambda t, va=va, count=count: events.RevokeRequest(t, va, count))
            elif act < 0.8:
                world.restart()
            for a in world.state.allocations.values():
                world.pages |= {a.va + n * PAGE_SIZE for n in range(a.pages)}
            for _ in range(rng.randrange(4)):
                world.deliver(rng)
        world.settle(rng)
        world.check_one_owner()
        assert world.probes > 1000 and world.passed > 50, "the test asks too little"
        assert any(w.entry.action == "unmapped" for w in world.writes), "no page was freed out of a segment"
    finally:
        world.switch.close()


RIGHTS = [None, 0, 1, 2, 3]  # no entry, no permission, read, write, both
NEEDS = {Op.READ: 1, Op.WRITE: 2, Op.CAS: 3, Op.FETCH_ADD: 3, Op.CHECKSUM: 1}


def every_case() -> Iterator[tuple[int | None, int | None, bool, bool, Op]]:
    """Rights on the segment and on the page, whether the element is fenced and the process bound, operation."""
    return itertools.product([*RIGHTS], [*RIGHTS, -1], (False, True), (False, True), NEEDS)  # -1: explicit deny


def test_the_switch_refuses_alone() -> None:
    """S4: with all that it forwards granted by the elements, exactly what the tables allow goes to a memory port."""
    forwarded = refused = 0
    for coarse, fine, fenced, bound, op in every_case():
        switch = RackSwitch()
        try:
            action = "fence" if fenced else "attach"
            switch.install("element", {"port": 1}, action, element=C1, kind=1)
            switch.install("element", {"port": 2}, "attach", element=C2, kind=1)
            switch.install("liveness", {"element": 101}, "alive", port=4)
            switch.install("translation", {"va": (BASE, 48)}, "map_page", element=101, offset=0)
            if bound:
                switch.install("binding", {"element": C1, "pid": 5}, "bind")
            for right, length in ((coarse, 48), (fine, 52)):
                if right == -1:
                    switch.install("protection", {"pid": 5, "va": (BASE, length)}, "deny")
                elif right is not None:
                    match = {"pid": 5, "va": (BASE, length)}
                    switch.install("protection", match, "allow", permissions=right, generation=1)
            effective = fine if fine is not None else coarse
            rights = 0 if effective in (None, -1) else effective
            legal = bound and not fenced and rights & NEEDS[op] == NEEDS[op]
            (out,) = switch.inject(1, frame(Header(op, pid=5, va=BASE, length=8), bytes(16)))
            assert out.port == (4 if legal else 1), (coarse, fine, fenced, bound, op)
            if not legal:
                why = Status.FENCED if fenced else Status.PERMISSION
                assert Header.unpack(out.frame, 14).status == why
            (other,) = switch.inject(2, frame(Header(op, pid=5, va=BASE, length=8), bytes(16), C2))
            assert other.port == 2, "another element speaks for the process"
            forwarded, refused = forwarded + legal, refused + (not legal)
        finally:
            switch.close()
    assert forwarded and refused


def test_elements_cannot_reach_each_other(switch: RackSwitch) -> None:
    """Whatever an element puts into dst, src and the MAC addresses, the switch alone decides where a frame goes."""
    for op, source in itertools.product((Op.READ, Op.WRITE, 0x81, Op.PT_SET, 0xC0, 0xC1), (1, 2)):
        for dst in (0, C1, C2, *MEMORY, 0xFFFF):
            header = Header(op, pid=99, va=BASE, length=8, src=101, dst=dst, pa=0x1000, generation=7)
            out = switch.inject(source, frame(header, bytes(8)))
            assert {o.port for o in out} <= {source}, f"{header} left through {out}"
            assert CPU_PORT not in {o.port for o in out}
