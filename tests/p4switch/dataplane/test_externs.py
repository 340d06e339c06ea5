"""Counters, meters, registers, hashes, value sets, profiles, direct resources, idle timeouts, const and initial entries."""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from p4switch.dataplane.binding import (
    Code,
    DataplaneError,
    EntryKind,
    EventKind,
    MeterConfig,
    Op,
    Switch,
    Update,
)
from p4switch.dataplane.layout import ExternKind, FieldError, MatchKind
from tests.p4switch.dataplane.conftest import NO_ACTION, Bench, Looked


def fails_with(code: Code, call: Callable[[], object]) -> None:
    with pytest.raises(DataplaneError) as caught:
        call()
    assert caught.value.code == code


def test_layout(bench: Bench) -> None:
    layout = bench.layout
    assert layout.name == "testprog"
    assert [f.kind for f in bench.table("range").keys.fields] == [
        MatchKind.RANGE,
        MatchKind.TERNARY,
        MatchKind.EXACT,
        MatchKind.LPM,
    ]
    counted = bench.table("counted")
    assert counted.counter is not None
    assert counted.counter.kind == ExternKind.DIRECT_COUNTER
    assert counted.idle_timeout
    assert bench.table("exact").action("set_pair").params.pack([5, 0x0A0B0C0D0E0F]).hex() == "00050a0b0c0d0e0f"
    with pytest.raises(FieldError, match=r"port: 0x200 is not a number of 9 bits"):
        bench.table("exact").action("set_pair").params.pack([512, 0])
    with pytest.raises(KeyError, match="set_value"):
        bench.table("exact").action("nothing")


def test_counter(bench: Bench) -> None:
    index = bench.layout.externs["counter"].index
    for _ in range(3):
        bench.run(0x21, word=5, rest=b"x" * 96)
    bench.run(0x21, word=16)  # out of range: nothing happens
    assert bench.switch.read_counter(index, 5) == (3, 300)
    assert bench.switch.read_counter(index, 4) == (0, 0)
    bench.switch.write_counter(index, 5, 10, 1000)
    bench.run(0x21, word=5)
    assert bench.switch.read_counter(index, 5) == (11, 1004)
    fails_with(Code.INVALID, lambda: bench.switch.read_counter(index, 16))
    fails_with(Code.INVALID, lambda: bench.switch.read_counter(bench.layout.externs["meter"].index, 0))


def test_register(bench: Bench) -> None:
    index = bench.layout.externs["register"].index
    bench.run(0x0A)  # counts in cell 2
    assert bench.switch.read_register(index, 2) == 1
    bench.switch.write_register(index, 2, 0xFFFE)
    assert bench.run(0x0A)[2:4].hex() == "ffff"
    assert bench.run(0x0A)[2:4].hex() == "0000"
    fails_with(Code.INVALID, lambda: bench.switch.write_register(index, 4, 0))
    fails_with(Code.INVALID, lambda: bench.switch.write_register(index, 0, 0x10000))


@pytest.mark.parametrize(
    ("algorithm", "data", "expected"),
    [  # recorded from bmv2: crc16 and crc32 over bit<8>, bit<16>, bit<32>; csum16 and xor16 over the last two
        ("crc16", "01020304050607", 0x7106),
        ("crc32", "01020304050607", 0x70E46888),
        ("csum16", "020304050607", 0xF3F0),
        ("xor16", "020304050607", 0x0001),
        ("identity", "04050607", 0x04050607),
        ("crc16", "ff" * 7, 0x800E),
        ("crc32", "ff" * 7, 0xFF41D9ED),
        ("crc16", "00" * 7, 0),
        ("crc32", "00" * 7, 0x9D6CDF7E),
        ("csum16", "00" * 6, 0xFFFF),
        ("crc16", "7f1234deadbeef", 0x94A7),
        ("crc32", "7f1234deadbeef", 0xC02BBE2C),
        ("csum16", "1234deadbeef", 0x502E),
        ("xor16", "1234deadbeef", 0x7276),
        # odd lengths are filled up with a zero byte; identity takes the first eight bytes
        ("xor16", "123456", 0x1234 ^ 0x5600),
        ("csum16", "123456", 0xFFFF ^ (0x1234 + 0x5600)),
        ("identity", "00112233445566778899", 0x0011223344556677),
        ("crc32", "", 0),
    ],
)
def test_hashes(bench: Bench, algorithm: str, data: str, expected: int) -> None:
    names = ["crc32", "crc32_custom", "crc16", "crc16_custom", "random", "identity", "csum16", "xor16"]
    raw = bytes.fromhex(data)
    for name in {algorithm, algorithm + "_custom"} & set(names):
        out = bench.run(0x23, names.index(name), len(raw), raw)
        assert int.from_bytes(out[:8], "big") == expected


def test_random(bench: Bench, program_file: Path) -> None:
    numbers = [bench.run(0x24)[:8] for _ in range(100)]
    assert len(set(numbers)) == 100
    with Switch(seed=1) as same:
        same.load(program_file)
        assert same.process(0, bytes([0x24, 0, 0, 0]))[0].data[:8] == numbers[0]


def test_meter_colours(bench: Bench) -> None:
    index = bench.layout.externs["meter"].index

    def colours(count: int) -> list[int]:
        return [bench.run(0x22, index, 1)[0] for _ in range(count)]

    assert colours(5) == [0] * 5  # not configured: all green
    # Rates of one packet in 1,000 s: only the bursts count. Peak 5, committed 3.
    bench.switch.write_meter(index, 1, MeterConfig(cir=0, cburst=3, pir=0, pburst=5))
    assert colours(8) == [0, 0, 0, 1, 1, 2, 2, 2]
    assert bench.switch.read_meter(index, 1) == MeterConfig(0, 3, 0, 5)
    assert bench.run(0x22, index, 4)[0] == 0  # out of range
    bench.switch.write_meter(index, 1, None)
    assert colours(3) == [0] * 3
    assert bench.switch.read_meter(index, 1) is None
    fails_with(Code.INVALID, lambda: bench.switch.write_meter(index, 1, MeterConfig(5, 1, 4, 1)))


def test_direct_resources(bench: Bench) -> None:
    table = bench.table("counted").index
    result = bench.apply(bench.update(Op.INSERT, "counted", (7,), value=1, cookie=99))
    for _ in range(4):
        assert bench.lookup("counted", 7).hit
    assert not bench.lookup("counted", 8).hit
    (entry,) = bench.switch.entries(table)
    assert (entry.packets, entry.bytes, entry.cookie, entry.handle) == (4, 24, 99, result.handle)
    bench.switch.set_direct_counter(table, result.handle, 100, 0)
    bench.lookup("counted", 7)
    (entry,) = bench.switch.entries(table)
    assert (entry.packets, entry.bytes) == (101, 6)
    # MODIFY keeps the counter
    bench.apply(bench.update(Op.MODIFY, "counted", (7,), value=2))
    assert next(iter(bench.switch.entries(table))).packets == 101

    assert bench.switch.read_direct_meter(table, result.handle) is None
    bench.switch.write_direct_meter(table, result.handle, MeterConfig(0, 1, 0, 2))
    colours = [bench.run(0x20, table, 0, b"\0\7")[6] for _ in range(4)]
    assert colours == [0, 1, 2, 2]
    assert bench.switch.read_direct_meter(table, result.handle) == MeterConfig(0, 1, 0, 2)
    bench.apply(bench.update(Op.DELETE, "counted", (7,)))
    fails_with(Code.NOT_FOUND, lambda: bench.switch.read_direct_meter(table, result.handle))
    fails_with(Code.INVALID, lambda: bench.switch.set_direct_counter(bench.table("exact").index, 1, 0, 0))
    # A new entry at the same place has neither the old handle nor the old meter.
    again = bench.apply(bench.update(Op.INSERT, "counted", (7,), value=1))
    assert again.handle != result.handle
    assert bench.switch.read_direct_meter(table, again.handle) is None


def test_idle_timeout(bench: Bench) -> None:
    table = bench.table("counted").index
    update = bench.update(Op.INSERT, "counted", (1,), value=1, cookie=42)
    with_timeout = Update(
        op=update.op, table=table, key=update.key, action=1, data=update.data, idle_timeout_ns=80_000_000, cookie=42
    )
    started = time.monotonic()
    handle = bench.apply(with_timeout).handle
    event = bench.switch.event(timeout=400)
    assert event is not None
    assert time.monotonic() - started >= 0.08
    assert (event.kind, event.index, event.cookie, event.handle) == (EventKind.IDLE_TIMEOUT, table, 42, handle)
    event = bench.switch.event(timeout=400)  # again after another timeout
    assert event is not None
    assert event.handle == handle
    assert time.monotonic() - started >= 0.1
    for _ in range(100):  # not while it is being hit, which a busy machine may not let this test do for long enough
        bench.lookup("counted", 1)
        while bench.switch.event(timeout=0) is not None:
            pass
        hits, events = [time.monotonic()], 0
        while hits[-1] - hits[0] < 0.3:
            bench.lookup("counted", 1)
            hits.append(time.monotonic())
            events += bench.switch.event(timeout=0.02) is not None
        if max(after - before for before, after in itertools.pairwise(hits)) < 0.06:
            break
    else:
        pytest.fail("the machine never let this test hit the entry every 60 ms")
    assert events == 0
    refused = Update(Op.INSERT, bench.table("exact").index, bytes(8), action=1, data=bytes(4), idle_timeout_ns=1)
    assert bench.apply(refused).code == Code.INVALID


def test_value_set(bench: Bench) -> None:
    def contains(tag: int, number: int) -> bool:
        return bool(bench.run(0x26, rest=bytes([tag]) + number.to_bytes(2, "big"))[0])

    pack = bench.layout.value_sets["set"].keys.pack
    assert not contains(1, 5)
    bench.switch.write_value_set(0, [(pack([0x10, 5]), pack([0xF0, 9])), (pack([1, 0]), pack([0xFF, 0xFFFF]))])
    assert [contains(0x1F, 5), contains(0x1F, 9), contains(0x1F, 10), contains(0x2F, 5), contains(1, 77)] == [
        True,
        True,
        False,
        False,
        True,
    ]
    fails_with(Code.FULL, lambda: bench.switch.write_value_set(0, [(bytes(3), bytes(3))] * 5))
    bench.switch.write_value_set(0, [])
    assert not contains(1, 77)


def test_profile_and_selector(bench: Bench) -> None:
    selector = bench.layout.externs["selector_profile"].index
    table = bench.table("selector")
    switch = bench.switch
    for member in range(1, 4):
        switch.set_member(selector, member, 1, member.to_bytes(4, "big"), must_exist=False)
    switch.set_group(selector, 1, [(1, 1), (2, 3)], must_exist=False)
    switch.set_group(selector, 2, [], must_exist=False)

    def entry(op: Op, key: int, kind: EntryKind, which: int) -> Update:
        return Update(op, table.index, table.keys.pack([key, 0, 0]), table.keys.full_mask(), kind=kind, action=which)

    codes = [
        r.code
        for r in switch.apply(
            [
                entry(Op.INSERT, 1, EntryKind.MEMBER, 3),
                entry(Op.INSERT, 2, EntryKind.GROUP, 1),
                entry(Op.INSERT, 3, EntryKind.GROUP, 2),
                entry(Op.INSERT, 4, EntryKind.GROUP, 9),
                entry(Op.INSERT, 4, EntryKind.MEMBER, 9),
            ]
        )
    ]
    assert codes == [Code.OK, Code.OK, Code.OK, Code.NOT_FOUND, Code.NOT_FOUND]
    direct = Update(Op.INSERT, table.index, table.keys.pack([5, 0, 0]), table.keys.full_mask(), action=1, data=bytes(4))
    assert bench.apply(direct).code == Code.INVALID

    assert bench.lookup("selector", 1, 7, 7) == Looked(True, 1, 3)
    assert bench.lookup("selector", 3, 7, 7) == Looked(True, NO_ACTION, 0)  # empty group: a hit, and nothing is done
    seen = Counter(bench.lookup("selector", 2, flow, flow & 0x1FFF).data for flow in range(2000))
    assert set(seen) == {1, 2}
    assert 2.4 < seen[2] / seen[1] < 3.7  # weights 1 and 3
    assert bench.lookup("selector", 2, 5, 5) == bench.lookup("selector", 2, 5, 5)

    fails_with(Code.IN_USE, lambda: switch.delete_member(selector, 3))
    fails_with(Code.IN_USE, lambda: switch.delete_group(selector, 1))
    fails_with(Code.NOT_FOUND, lambda: switch.set_group(selector, 1, [(77, 1)], must_exist=True))
    switch.set_member(selector, 3, 1, (33).to_bytes(4, "big"), must_exist=True)
    assert bench.lookup("selector", 1, 0, 0).data == 33
    switch.set_group(selector, 1, [(3, 1)], must_exist=True)
    assert bench.lookup("selector", 2, 1, 1).data == 33
    switch.delete_member(selector, 1)
    # A batch that fails gives references back as well.
    failing = [entry(Op.DELETE, 1, EntryKind.MEMBER, 3), entry(Op.INSERT, 2, EntryKind.GROUP, 1)]
    assert [r.code for r in switch.apply(failing, all_or_none=True)] == [Code.OK, Code.EXISTS]
    assert bench.lookup("selector", 1, 0, 0).data == 33
    for key in (1, 2, 3):
        bench.apply(entry(Op.DELETE, key, EntryKind.MEMBER, 0))
    switch.delete_group(selector, 1)
    switch.delete_member(selector, 3)
    fails_with(Code.NOT_FOUND, lambda: switch.delete_member(selector, 3))

    profile = bench.layout.externs["action_profile"].index
    for member in (1, 2):
        switch.set_member(profile, member, 0, b"", must_exist=False)
    fails_with(Code.FULL, lambda: switch.set_member(profile, 3, 0, b"", must_exist=False))
    fails_with(Code.EXISTS, lambda: switch.set_member(profile, 2, 0, b"", must_exist=False))
    fails_with(Code.NOT_FOUND, lambda: switch.set_member(profile, 3, 0, b"", must_exist=True))


def test_const_and_initial_entries(bench: Bench) -> None:
    assert bench.lookup("const", 2) == Looked(True, 1, 8)
    assert bench.lookup("const", 3) == Looked(False, 1, 7)
    for op in (Op.INSERT, Op.MODIFY, Op.DELETE):
        assert bench.apply(bench.update(op, "const", (2,), value=1)).code == Code.CONST
    default = Update(Op.SET_DEFAULT, bench.table("const").index, action=1, data=bytes(4))
    assert bench.apply(default).code == Code.CONST
    # Of the initial entries the first is const.
    assert bench.apply(bench.update(Op.MODIFY, "initial", (1,), value=1)).code == Code.CONST
    assert bench.apply(bench.update(Op.MODIFY, "initial", (2,), value=1)).code == Code.OK
    assert bench.apply(bench.update(Op.DELETE, "initial", (2,))).code == Code.OK
    assert [e.is_const for e in bench.switch.entries(bench.table("initial").index)] == [True]


def test_default_action(bench: Bench) -> None:
    table = bench.table("exact").index
    assert bench.lookup("exact", 1) == Looked(False, 0, 0)
    assert bench.apply(Update(Op.SET_DEFAULT, table, action=1, data=b"\0\0\0\5", cookie=3)).code == Code.OK
    assert bench.lookup("exact", 1) == Looked(False, 1, 5)
    entry = bench.switch.default_entry(table)
    assert (entry.action, entry.data, entry.cookie) == (1, b"\0\0\0\5", 3)
    assert bench.apply(Update(Op.RESET_DEFAULT, table)).code == Code.OK
    assert bench.lookup("exact", 1) == Looked(False, 0, 0)
    assert bench.apply(Update(Op.SET_DEFAULT, bench.table("keyless").index, action=1, data=b"\0\0\0\6")).code == Code.OK
    out = bench.run(0x20, bench.table("keyless").index)
    assert out[:6].hex() == "000100000006"


def test_refused_updates(bench: Bench) -> None:
    def code(update: Update) -> Code:
        return bench.apply(update).code

    for n in range(3):
        assert code(bench.update(Op.INSERT, "full", (n,), value=n)) == Code.OK
    assert code(bench.update(Op.INSERT, "full", (3,))) == Code.FULL
    assert code(bench.update(Op.INSERT, "full", (2,))) == Code.EXISTS
    assert code(bench.update(Op.DELETE, "full", (1,))) == Code.OK
    assert code(bench.update(Op.INSERT, "full", (3,))) == Code.OK

    good = bench.update(Op.INSERT, "exact", (1,))
    assert code(Update(Op.INSERT, 99, bytes(8), action=1, data=bytes(4))) == Code.INVALID
    assert code(Update(Op.INSERT, good.table, good.key, action=77, data=bytes(4))) == Code.INVALID
    assert code(Update(Op.INSERT, good.table, good.key, priority=1, action=1, data=bytes(4))) == Code.INVALID
    assert code(Update(Op.INSERT, good.table, good.key, kind=EntryKind.MEMBER, action=1)) == Code.INVALID
    assert code(Update(Op.INSERT, good.table, good.key, mask=bytes(8), action=1, data=bytes(4))) == Code.INVALID
    assert code(Update(Op.INSERT, bench.table("keyless").index, b"", action=1, data=bytes(4))) == Code.INVALID
    # 3-bit key with a value of 4 bits; 9-bit parameter with 10 bits; a mask that is no prefix; an empty range
    assert code(Update(Op.INSERT, bench.table("tiny").index, b"\x08", action=1, data=bytes(4))) == Code.INVALID
    assert code(Update(Op.INSERT, good.table, good.key, action=2, data=b"\x02\0" + bytes(6))) == Code.INVALID
    assert code(bench.update(Op.INSERT, "lpm", (0,), (0xFF00FF00,))) == Code.INVALID
    assert code(bench.update(Op.INSERT, "range", (5, 0, 0, 0), (4, 0, 15, 0), priority=1)) == Code.INVALID
    assert code(bench.update(Op.INSERT, "ternary", (0, 1), (0, 0x0F), priority=1)) == Code.INVALID
    assert code(Update(Op.INSERT, bench.table("lpm").index, bytes(4), action=1, data=bytes(4))) == Code.INVALID
    with pytest.raises(ValueError, match="keys have 8 bytes"):
        bench.apply(Update(Op.INSERT, good.table, bytes(7), action=1, data=bytes(4)))
    with pytest.raises(ValueError, match="data has 4 bytes"):
        bench.apply(Update(Op.INSERT, good.table, good.key, action=1, data=bytes(3)))


def test_without_a_program() -> None:
    with Switch() as switch:
        fails_with(Code.STATE, lambda: switch.inject(0, b"x"))
        fails_with(Code.STATE, lambda: switch.layout)
        fails_with(Code.STATE, lambda: switch.packet_out(b"x"))
        fails_with(Code.LOAD, lambda: switch.load(Path("/nonexistent.so")))
    fails_with(Code.STATE, switch.stats)
    switch.close()


def test_load_replaces(bench: Bench, program_file: Path) -> None:
    """Tables start afresh, replication stays; a file that is no program leaves the running one alone."""
    bench.apply(bench.update(Op.INSERT, "exact", (1,), value=5))
    fails_with(Code.LOAD, lambda: bench.switch.load(Path("/dev/null")))
    assert bench.lookup("exact", 1).hit
    bench.switch.load(program_file)
    assert not bench.lookup("exact", 1).hit


def test_trace_and_pcap(bench: Bench, tmp_path: Path) -> None:
    bench.switch.trace(tmp_path / "trace.txt")
    bench.switch.pcap(tmp_path)
    bench.apply(bench.update(Op.INSERT, "exact", (0x1234,), value=5))
    bench.lookup("exact", 0x1234)
    bench.switch.process(3, bytes.fromhex("04000000"))
    bench.run(0x2B, 9)
    bench.switch.trace(None)
    bench.switch.pcap(None)
    text = (tmp_path / "trace.txt").read_text()
    for line in (
        "#1 received on port 0, 12 bytes",
        "#1 table exact: hit, key k=0x1234, entry 0x100000001, action set_value(value=0x5)",
        "#1 output to port 1, 18 bytes",
        "#2 received on port 3, 4 bytes",
        "#2 verdict: dropped: egress_spec is 511 at the end of ingress, no mark_to_drop",
        "#3 log: log 9",
    ):
        assert line in text
    from scapy.utils import rdpcap  # type: ignore[attr-defined]

    received, sent = rdpcap(str(tmp_path / "port0.pcapng")), rdpcap(str(tmp_path / "port1.pcapng"))
    assert [len(p) for p in received] == [12, 4]
    assert [len(p) for p in sent] == [18, 4]
    assert [p.direction for p in received] == [1, 1] and [p.direction for p in sent] == [2, 2]  # in, out
    assert abs(float(received[0].time) - time.time()) < 60
    assert bytes(rdpcap(str(tmp_path / "port3.pcapng"))[0]).hex() == "04000000"
    fails_with(Code.IO, lambda: bench.switch.trace(tmp_path / "no" / "such"))
    fails_with(Code.IO, lambda: bench.switch.pcap(tmp_path / "no"))
