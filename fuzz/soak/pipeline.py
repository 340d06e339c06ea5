"""The share of the soak that runs in this process, without interfaces: packets, table churn, events, virtual time.

Three switches share the packets: the rack's program, one that clones, recirculates, resubmits and multiplies packets, and one
with every kind of table, profiles, meters and idle timeouts. A cycle stands for a minute: the time of the switches moves on by
60 seconds, entries come and go, groups and sessions change, events are taken out.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fuzz.packets import rack
from fuzz.packets.run import RACK, STF_CPU_PORT
from fuzz.soak.growth import Sample, take
from p4switch import native
from p4switch.cli.bench import random_entries
from p4switch.compiler.driver import compile_source
from p4switch.dataplane.binding import Code, Event, EventKind, MeterConfig, Op, Replica, Switch, Update
from p4switch.dataplane.layout import ExternKind, Table
from p4switch.stf import run_script, script

PROGRAMS = Path(__file__).resolve().parents[1] / "programs"
MINUTE = 600_000  # packets: 10,000 a second
CHURN = 100  # entries that come and go in each table in a cycle
SHARES = ((RACK, 0.85), (PROGRAMS / "passes.p4", 0.05), (PROGRAMS / "tables.p4", 0.1))
SAMPLES = 60
IDLE_SECONDS = 0.1  # idle entries are looked for every 50 ms of real time


@dataclass
class Part:
    """A switch with its share of the packets. ``events`` counts what it reported, by kind."""

    path: Path
    share: float
    switch: Switch
    packets: list[bytes]
    events: Counter[EventKind] = field(default_factory=Counter)
    outputs: int = 0
    now: int = 0  # its clock, in nanoseconds
    base: dict[str, int] = field(default_factory=dict)


def open_part(path: Path, share: float) -> Part:
    """Compile and load a program, and put the entries of its test into its tables."""
    is_rack = path == RACK
    switch = Switch(cpu_port=rack.CPU_PORT if is_rack else STF_CPU_PORT, seed=1)
    switch.load(native.build(compile_source(path).program))
    text = rack.script() if is_rack else path.with_suffix(".stf").read_text()
    commands = script.parse_script(text)
    run_script(switch, text)
    packets = [c.data for c in commands if isinstance(c, script.Packet) and c.port is not None]
    part = Part(path, share, switch, packets)
    part.base = {name: switch.entry_count(t.index) for name, t in switch.layout.tables.items()}
    return part


def _churned(part: Part) -> list[Table]:
    tables = part.switch.layout.tables.values()
    return [t for t in tables if t.keys.fields and not t.const_entries and t.implementation is None]


def churn_tables(part: Part, rng: random.Random) -> None:
    """Random entries come, are modified and go; those with a timeout stay until they are reported idle."""
    for table in _churned(part):
        made = list(random_entries(rng, table, CHURN))
        results = part.switch.apply(made)
        inserted = [u for u, r in zip(made, results, strict=True) if r.code == Code.OK]
        part.switch.apply([_with(u, Op.MODIFY) for u in inserted])
        part.switch.apply(
            [_with(u, Op.DELETE) for u in inserted] + [_with(u, Op.DELETE) for u in inserted[:1]], all_or_none=True
        )  # fails at the last one and takes everything back
        part.switch.apply([_with(u, Op.DELETE) for u in inserted])
        part.switch.apply([Update(Op.RESET_DEFAULT, table.index)])
        if table.idle_timeout and (timed := next((u for u in made if u in inserted), None)) is not None:
            part.switch.apply([_with(timed, Op.INSERT, idle_timeout_ns=1_000_000_000)])
            pass_time(part, 2_000_000_000)
            count(part, part.switch.event(IDLE_SECONDS))
            part.switch.apply([_with(timed, Op.DELETE)])


def _with(update: Update, op: Op, *, idle_timeout_ns: int = 0) -> Update:
    return Update(
        op,
        update.table,
        update.key,
        update.mask,
        update.priority,
        update.kind,
        update.action,
        update.data,
        idle_timeout_ns,
    )


def pass_time(part: Part, nanoseconds: int) -> None:
    """Move the switch's clock."""
    part.now += nanoseconds
    part.switch.set_time(part.now)


def churn_other(part: Part, rng: random.Random) -> None:
    """Groups, sessions, members, meters and registers change."""
    switch, layout = part.switch, part.switch.layout
    replicas = [Replica(rng.randrange(8), n) for n in range(rng.randint(1, 8))]
    for number in (40, 41):
        switch.set_multicast_group(number, replicas)
        switch.set_clone_session(number, replicas, truncate_length=60)
        switch.set_multicast_group(number, replicas[:1], must_exist=True)
        switch.delete_multicast_group(number)
        switch.delete_clone_session(number)
    for extern in layout.externs.values():
        if extern.kind in (ExternKind.ACTION_PROFILE, ExternKind.ACTION_SELECTOR):
            users = [t for t in layout.tables.values() if t.implementation is extern or t.implementation == extern]
            action = users[0].actions[0]
            data = action.params.pack([rng.getrandbits(f.width) for f in action.params.fields])
            switch.set_member(extern.index, 50, action.index, data, must_exist=False)
            if extern.kind == ExternKind.ACTION_SELECTOR:
                switch.set_group(extern.index, 50, [(50, rng.randint(1, 30))], must_exist=False)
                switch.delete_group(extern.index, 50)
            switch.delete_member(extern.index, 50)
        elif extern.kind == ExternKind.METER:
            switch.write_meter(extern.index, 0, MeterConfig(10, 5, 20, 10))
        elif extern.kind == ExternKind.REGISTER:
            switch.write_register(extern.index, 0, rng.getrandbits(4))


def drain(part: Part) -> None:
    """Take out what was reported and what left."""
    while count(part, part.switch.event(0)):
        pass
    part.outputs += len(part.switch.outputs())


def count(part: Part, event: Event | None) -> bool:
    """Note an event; False: there was none."""
    if event is not None:
        part.events[event.kind] += 1
    return event is not None


def cycle(part: Part, packets: int, rng: random.Random) -> None:
    """A minute."""
    pass_time(part, 60_000_000_000)
    half = packets // 2
    frames = [p + rng.randbytes(rng.randrange(64)) for p in part.packets]
    for _ in range(8):  # events wait in a bounded queue
        part.switch.bench(rng.choice((1, 1, 4)), frames, half // 8)
        drain(part)
    churn_tables(part, rng)
    churn_other(part, rng)
    part.switch.bench(1, frames, packets - half // 8 * 8)
    for frame in frames:
        part.switch.inject(1, frame)
    drain(part)


@dataclass(frozen=True)
class Outcome:
    """What was done. ``events`` by name; ``loops_cut`` and ``lost`` over all switches."""

    packets: int
    samples: list[Sample]
    events: dict[str, int]
    outputs: int
    loops_cut: int
    lost: int


def soak(
    packets: int,
    *,
    seed: int,
    also: Callable[[], object] = lambda: None,
    watch: Callable[[Sample], object] = lambda sample: None,
) -> Outcome:
    """Run so many packets; ``also`` is called once a cycle (tests leak with it), ``watch`` with each sample.

    Raises AssertionError when entries are left.
    """
    rng = random.Random(seed)
    parts = [open_part(path, share) for path, share in SHARES]
    cycles = max(packets // MINUTE, SAMPLES)
    each = packets // cycles
    samples: list[Sample] = []
    try:
        for number in range(cycles):
            for part in parts:
                cycle(part, int(each * part.share), rng)
            also()
            if number * SAMPLES // cycles != (number + 1) * SAMPLES // cycles:
                samples.append(take((number + 1) / cycles))
                watch(samples[-1])
        for part in parts:
            left = {name: part.switch.entry_count(t.index) for name, t in part.switch.layout.tables.items()}
            assert left == part.base, f"{part.path.stem}: {left} entries are left, {part.base} were there before"
        stats = [p.switch.stats() for p in parts]
        return Outcome(
            packets=sum(s.rx_packets for s in stats),
            samples=samples,
            events={kind.name: sum(p.events[kind] for p in parts) for kind in EventKind},
            outputs=sum(p.outputs for p in parts),
            loops_cut=sum(s.loops_cut for s in stats),
            lost=sum(s.events_lost for s in stats),
        )
    finally:
        close(parts)


def close(parts: Sequence[Part]) -> None:
    """Free the switches."""
    for part in parts:
        part.switch.close()
