"""Random packets, updates and control calls against a sanitized build; run by test_sanitizers.py in a process of its own.

``python stress.py single SEED STEPS`` does one thing after the other (address and undefined behaviour sanitizers);
``python stress.py threads SEED SECONDS`` has several threads at it, with frames on a veth pair (thread sanitizer).
"""

from __future__ import annotations

import os
import random
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path

from p4switch.dataplane.binding import DataplaneError, EntryKind, MeterConfig, Op, Replica, Switch, Update
from p4switch.dataplane.build import Sanitizer, build_program
from p4switch.dataplane.layout import Layout, MatchKind, Table


def random_update(rng: random.Random, table: Table) -> Update:
    values, masks = [], []
    for field in table.keys.fields:
        value = rng.choice([rng.getrandbits(field.width), rng.randrange(4) & field.maximum])
        prefix = field.maximum ^ (field.maximum >> rng.randint(0, field.width))
        mask = {
            MatchKind.EXACT: field.maximum,
            MatchKind.SELECTOR: field.maximum,
            MatchKind.LPM: prefix,
            MatchKind.OPTIONAL: rng.choice([0, field.maximum]),
            MatchKind.TERNARY: rng.choice([field.maximum, rng.getrandbits(field.width), prefix]),
            MatchKind.RANGE: rng.randint(value, field.maximum),
        }[field.kind]
        values.append(value if field.kind == MatchKind.RANGE else value & mask)
        masks.append(mask)
    key, mask_bytes = table.keys.pack(values), table.keys.pack(masks)
    if rng.random() < 0.02:
        key, mask_bytes = rng.randbytes(len(key)), rng.randbytes(len(key))
    action = rng.choice(table.actions)
    kind = rng.choice([EntryKind.MEMBER, EntryKind.GROUP]) if table.implementation else EntryKind.ACTION
    data = action.params.pack([rng.getrandbits(f.width) for f in action.params.fields])
    return Update(
        rng.choice([Op.INSERT, Op.INSERT, Op.MODIFY, Op.DELETE, Op.SET_DEFAULT, Op.RESET_DEFAULT]),
        table.index,
        key,
        mask_bytes,
        rng.randint(1, 5) if table.has_priority else 0,
        kind,
        action.index if kind == EntryKind.ACTION else rng.randrange(4),
        data if kind == EntryKind.ACTION else b"",
        rng.choice([0, 1_000_000]) if table.idle_timeout else 0,
    )


def random_packet(rng: random.Random) -> bytes:
    op = rng.choice([rng.randrange(256), rng.randrange(12), rng.randrange(0x20, 0x31), 0x20, 0x20, 0x20])
    head = bytes([op, rng.choice([rng.randrange(16), rng.randrange(16), 0])]) + rng.randrange(64).to_bytes(2, "big")
    if op == 0x20:
        head = bytes([op, rng.randrange(16), 0, 0])  # lookups name a table, which no generated program gets wrong
    elif op == 0x22:
        head = bytes([op, rng.choice([1, 7]), 0, rng.randrange(6)])
    elif op == 0x23:
        head = bytes([op, rng.randrange(8), 0, rng.randrange(65)])
    packet = head + rng.choice([bytes(8), rng.randbytes(rng.randrange(80)), bytes(rng.choice([1500, 9212]))])
    return packet[: rng.randrange(6)] if rng.random() < 0.05 else packet


def control_call(rng: random.Random, switch: Switch, layout: Layout) -> None:
    """One call that changes or reads something; refusals are fine."""
    tables = list(layout.tables.values())
    replicas = [Replica(rng.randrange(512), rng.randrange(9)) for _ in range(rng.randrange(4))]
    profile = layout.externs[rng.choice(["selector_profile", "action_profile"])].index
    number, exists = rng.randrange(8), rng.random() < 0.5
    value = rng.getrandbits(32).to_bytes(4, "big")
    calls = [
        lambda: switch.apply(
            [random_update(rng, rng.choice(tables)) for _ in range(rng.randrange(1, 20))], all_or_none=exists
        ),
        lambda: switch.apply([random_update(rng, tables[number % 6]) for _ in range(20)]),
        lambda: switch.set_multicast_group(number, replicas, must_exist=exists),
        lambda: switch.delete_multicast_group(number),
        lambda: switch.set_clone_session(number, replicas, truncate_length=rng.randrange(30), must_exist=exists),
        lambda: switch.delete_clone_session(number),
        lambda: switch.set_member(profile, number % 4, 1, value, must_exist=exists),
        lambda: switch.delete_member(profile, number % 4),
        lambda: switch.set_group(
            profile, number % 4, [(rng.randrange(4), rng.randrange(3)) for _ in range(3)], must_exist=exists
        ),
        lambda: switch.delete_group(profile, number % 4),
        lambda: switch.write_meter(1, number, MeterConfig(rng.randrange(9), 5, 9, rng.randrange(99))),
        lambda: switch.write_register(2, number, rng.randrange(1 << 16)),
        lambda: switch.write_value_set(0, [(rng.randbytes(3), rng.randbytes(3)) for _ in range(number)]),
        lambda: switch.read_counter(0, number * 3),
        lambda: [switch.write_direct_meter(10, e.handle, MeterConfig(0, 1, 2, 3)) for e in switch.entries(10)],
        lambda: [len(list(switch.entries(t.index))) for t in tables],
        lambda: [switch.table_bytes(t.index) for t in tables],
        lambda: switch.event(timeout=0),
        lambda: transaction(rng, switch, layout),
        lambda: [switch.entry(t.index, rng.randrange(1 << 34)) for t in tables],
        lambda: switch.find_entry(random_update(rng, rng.choice(tables))),
        lambda: switch.stats(),
        lambda: switch.queues.set_priorities(rng.randint(1, 8)),
        lambda: switch.queues.set_depth(rng.randrange(5), rng.choice([None, 1]), rng.choice([None, number])),
        lambda: switch.queues.set_rate(rng.choice([0, 0, 10_000]), rng.choice([None, 1]), rng.choice([None, number])),
        lambda: switch.queues.set_port_rate(rng.choice([0, 0, 5_000]), rng.choice([None, 1])),
        lambda: switch.queues.used(),
    ]
    with suppress(DataplaneError):
        rng.choice(calls)()


def transaction(rng: random.Random, switch: Switch, layout: Layout) -> None:
    """Several calls, some or all of which are taken back; packets of other threads wait meanwhile."""
    tables = list(layout.tables.values())
    with switch.transaction() as mark:
        marks = []
        for _ in range(rng.randrange(1, 5)):
            marks.append(mark())
            updates = [random_update(rng, rng.choice(tables)) for _ in range(rng.randrange(1, 30))]
            switch.apply(updates, all_or_none=rng.random() < 0.3)
            switch.inject(1, random_packet(rng))
        for undo in reversed(marks[rng.randrange(len(marks) + 1) :]):
            undo()


def single(program: Path, seed: int, steps: int) -> None:
    rng = random.Random(seed)
    with Switch(cpu_port=64, seed=seed) as switch, tempfile.TemporaryDirectory() as scratch:
        layout = switch.load(program)
        for step in range(steps):
            with suppress(DataplaneError):
                switch.inject(rng.choice([0, 1, 64, 511]), random_packet(rng))
            if step % 3 == 0:
                control_call(rng, switch, layout)
            if step % 50 == 0:
                switch.outputs()
                while switch.event(timeout=0):
                    pass
            if step % 500 == 250:
                switch.trace(Path(scratch) / "trace")
                switch.pcap(Path(scratch))
            if step % 500 == 300:
                switch.trace(None)
                switch.pcap(None)
            if step % 1000 == 999:
                layout = switch.load(program)


def threads(program: Path, seed: int, seconds: float) -> None:
    """Needs interfaces sw0, eh0, sw1 and eh1 in its namespace."""
    import socket

    end = time.monotonic() + seconds
    failures: list[BaseException] = []

    def guard(work: object, number: int) -> None:
        rng = random.Random(seed + number)
        try:
            while time.monotonic() < end:
                work(rng)  # type: ignore[operator]
        except BaseException as error:
            failures.append(error)

    with Switch(cpu_port=64, seed=seed) as switch, tempfile.TemporaryDirectory() as scratch:
        layout = switch.load(program)
        for port in range(2):
            switch.add_port(port, f"sw{port}")
        switch.start()
        sender = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
        sender.bind(("eh0", 0))

        def send(rng: random.Random) -> None:
            with suppress(OSError):
                sender.send(random_packet(rng).ljust(14, b"\0"))

        def administer(rng: random.Random) -> None:
            time.sleep(0.02)
            choice = rng.randrange(6)
            if choice == 0:
                switch.load(program)
            elif choice == 1:
                switch.remove_port(1)
                switch.add_port(1, "sw1", xdp=rng.random() < 0.5)
            elif choice == 2:
                switch.stop()
                switch.start()
            elif choice == 3:
                switch.trace(Path(scratch) / "trace")
                switch.pcap(Path(scratch))
            elif choice == 4:
                switch.trace(None)
                switch.pcap(None)
            else:
                switch.busy_poll(rng.choice([0, 100]))

        works = [
            send,
            administer,
            lambda rng: control_call(rng, switch, layout),
            lambda rng: control_call(rng, switch, layout),
            lambda rng: switch.inject(0, random_packet(rng)),
            lambda rng: switch.outputs(),
            lambda rng: switch.event(timeout=0.01),
        ]
        running = [threading.Thread(target=guard, args=(work, n)) for n, work in enumerate(works)]
        for thread in running:
            thread.start()
        for thread in running:
            thread.join()
        print(switch.stats())
    if failures:
        raise failures[0]


def main() -> None:
    mode, seed, amount = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    choices: dict[str, Sanitizer] = {"address": "address", "thread": "thread"}
    source = (Path(__file__).parent / "testprog.c").read_text()
    program = build_program(source, "testprog", sanitize=choices.get(os.environ.get("P4SWITCH_SANITIZE", "")))
    if mode == "single":
        single(program, seed, int(amount))
    else:
        threads(program, seed, amount)
    print("done")


if __name__ == "__main__":
    main()
