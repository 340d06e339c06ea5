"""The order of effects at the end of ingress and egress. The packets and results of the first test were recorded from bmv2's
simple_switch, running a P4 program that does the same as ops 1 to 10 of testprog.c."""

from __future__ import annotations

import pytest

from p4switch.dataplane.binding import Code, DataplaneError, EventKind, Output, Replica
from tests.p4switch.dataplane.conftest import CPU_PORT, Bench

RECORDED = [
    ("01000000aabbccdd", [(3, "01090000aabbccdd"), (1, "01110001aabbccdd")]),
    ("02000000aabbccdd", [(1, "02290002aabbccdd")]),
    ("03000000aabbccdd", [(1, "030a0001aabbccdd"), (2, "030a0001aabbccdd"), (3, "030b0001aabbccdd")]),
    ("04000000aabbccdd", []),
    ("05000000aabbccdd", [(2, "05000002aabbccdd")]),
    ("06000000aabbccdd", [(1, "06000003aabb")]),
    ("07000000aabbccdd", [(1, "07000002aabbccdd")]),
    ("09000000aabbccdd", [(1, "0991aaaaaabbccdd"), (3, "0991aaaaaabbccdd")]),
    ("0a00", [(1, "0a00")]),
    ("01000000", [(3, "01090000"), (1, "01110004")]),
]


def test_recorded_from_bmv2(bench: Bench) -> None:
    bench.switch.set_clone_session(5, [Replica(3)])
    bench.switch.set_multicast_group(1, [Replica(1, 10), Replica(2, 10), Replica(3, 11)])
    for packet, expected in RECORDED:
        outputs = bench.switch.process(0, bytes.fromhex(packet))
        assert [(o.port, o.data.hex()) for o in outputs] == expected, packet


def test_drop_is_counted(bench: Bench) -> None:
    assert bench.switch.process(0, bytes.fromhex("04000000")) == []
    assert bench.switch.stats().dropped == 1


def test_unknown_group_and_session(bench: Bench) -> None:
    assert bench.switch.process(0, bytes.fromhex("2a000099")) == []
    assert bench.switch.stats().dropped == 1
    assert [o.data.hex() for o in bench.switch.process(0, bytes.fromhex("01000000"))] == ["01110001"]


def test_clone_session_truncates_and_replicates(bench: Bench) -> None:
    bench.switch.set_clone_session(5, [Replica(3, 1), Replica(4, 2)], truncate_length=6)
    outputs = bench.switch.process(0, bytes.fromhex("01000000aabbccdd"))
    assert [(o.port, o.data.hex()) for o in outputs] == [
        (3, "01090000aabb"),
        (4, "01090000aabb"),
        (1, "01110001aabbccdd"),
    ]


def test_egress_drop_keeps_the_clone(bench: Bench) -> None:
    bench.switch.set_clone_session(9, [Replica(7)])
    assert bench.switch.process(0, bytes.fromhex("2d000009aa")) == [Output(7, bytes.fromhex("2d000009aa"))]
    assert bench.switch.stats().dropped == 1


def test_recirculation_keeps_the_field_list(bench: Bench) -> None:
    # Three rounds: each adds one to the word and to the kept metadata; the last shows kept and instance type 0, since
    # unicast packets are "normal" in egress again, as in bmv2.
    (output,) = bench.switch.process(0, bytes.fromhex("2c030000ee"))
    assert output.data.hex() == "0300" + "2c000003ee"


@pytest.mark.parametrize(("packet", "dropped"), [("29000000", True), ("2cff0000", False), ("2e000006", False)])
def test_loops_end(bench: Bench, packet: str, dropped: bool) -> None:
    bench.switch.set_clone_session(6, [Replica(2), Replica(3)])
    outputs = bench.switch.process(0, bytes.fromhex(packet))
    if packet == "2cff0000":  # 255 recirculations are within bounds
        assert [o.data.hex() for o in outputs] == ["ff002c0000ff"]
        assert bench.switch.stats().loops_cut == 0
        return
    assert (outputs == []) is dropped
    assert len(outputs) <= 1025
    assert bench.switch.stats().loops_cut >= 1
    # and the next packet is well
    assert len(bench.switch.process(0, bytes.fromhex("28000001"))) == 1


def test_metadata_of_the_stages(bench: Bench) -> None:
    out = bench.run(0x27, 0, 0, b"x" * 10)
    fields = [int.from_bytes(out[a:b], "big") for a, b in ((0, 6), (6, 12), (12, 16), (16, 18), (18, 20), (20, 22))]
    assert fields[0] <= fields[1]
    assert fields[2:] == [0, 0, 1, 14]


def test_cpu_port(bench: Bench) -> None:
    bench.switch.inject(0, bytes([0x28, 0, 0, CPU_PORT]) + b"hello")
    assert bench.switch.outputs() == []
    event = bench.switch.event(timeout=0)
    assert event is not None
    assert (event.kind, event.data) == (EventKind.PACKET_IN, bytes([0x28, 0, 0, CPU_PORT]) + b"hello")
    assert bench.switch.event(timeout=0) is None
    bench.switch.packet_out(bytes([0x28, 0, 0, 5]))
    assert bench.switch.outputs() == [Output(5, bytes([0x28, 0, 0, 5]))]
    assert bench.switch.port_stats(CPU_PORT).rx_packets == 1


def test_digest_last_call_wins(bench: Bench) -> None:
    bench.run(0x25, 0xAB, 0x1234)
    event = bench.switch.event(timeout=0)
    assert event is not None
    assert (event.kind, event.index, event.data.hex()) == (EventKind.DIGEST, 0, "ab1234")
    assert bench.layout.digests["first_t"].fields.unpack(event.data) == (0xAB, 0x1234)
    assert bench.switch.event(timeout=0) is None


def test_replication_configuration(bench: Bench) -> None:
    switch = bench.switch
    switch.set_multicast_group(1, [Replica(1)])
    for call, code in (
        (lambda: switch.set_multicast_group(1, [Replica(1)]), Code.EXISTS),
        (lambda: switch.set_multicast_group(2, [Replica(1)], must_exist=True), Code.NOT_FOUND),
        (lambda: switch.set_multicast_group(0, [Replica(1)]), Code.INVALID),
        (lambda: switch.set_multicast_group(3, [Replica(512)]), Code.INVALID),
        (lambda: switch.delete_multicast_group(2), Code.NOT_FOUND),
        (lambda: switch.delete_clone_session(2), Code.NOT_FOUND),
    ):
        with pytest.raises(DataplaneError) as caught:
            call()
        assert caught.value.code == code
    switch.set_multicast_group(1, [], must_exist=True)
    assert switch.process(0, bytes.fromhex("2a000001")) == []
    switch.delete_multicast_group(1)


def test_frames_that_are_too_long(bench: Bench) -> None:
    assert len(bench.run(0x28, 0, 1, bytes(9212))) == 9216
    with pytest.raises(DataplaneError) as caught:
        bench.switch.inject(0, bytes(9217))
    assert caught.value.code == Code.INVALID
    assert bench.switch.stats().rx_oversized == 1
