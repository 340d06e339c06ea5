"""Counters and digests: what an operator sees of the pipeline."""

from __future__ import annotations

import itertools
import random

from protocol import wire
from protocol.wire import Header, Op
from tests.p4src.harness import CPU_PORT, RackSwitch
from tests.p4src.test_fuzz import random_frame
from tests.p4src.world import BASE, C1, C2, M1, M2, PAGE, frame

SEGMENT = {"pid": 5, "va": (BASE, 48)}
DENIED = {"pid": 5, "va": (BASE + 2 * PAGE, 52)}


def read(pid: int, va: int) -> bytes:
    return frame(Header(Op.READ, pid=pid, va=va, length=8))


def test_a_process_is_counted_where_it_is_bound(switch: RackSwitch) -> None:
    switch.inject(1, read(5, BASE))
    switch.inject(1, read(5, 9 << 48))  # refused, but its own
    switch.inject(2, read(5, BASE))  # spoofed
    switch.inject(2, frame(Header(Op.ALLOC, pid=6, length=16), bytes(16)))
    assert switch.counter("process_traffic", 5) == (2, 2 * wire.FRAME_OVERHEAD)
    assert switch.counter("process_traffic", 6) == (1, wire.FRAME_OVERHEAD + 16)


def test_an_element_is_counted_for_all_that_it_sends(switch: RackSwitch) -> None:
    switch.inject(1, read(5, BASE))
    switch.inject(2, read(5, BASE))  # spoofed: c2 sent it
    switch.inject(4, frame(Header(Op.READ | wire.REPLY, dst=C1, pid=5, length=4), b"data", M1))
    switch.inject(9, read(5, BASE))  # nobody's port
    assert [switch.counter("element_traffic", e)[0] for e in (C1, C2, M1, M2)] == [1, 1, 1, 0]
    assert switch.counter("element_traffic", M1)[1] == wire.FRAME_OVERHEAD + 4
    assert switch.counter("element_traffic", 0) == (0, 0), "element 0 is the controller"


def test_entries_of_protection_count_their_hits(switch: RackSwitch) -> None:
    for va in (BASE, BASE + PAGE, BASE + 2 * PAGE, BASE + 3 * PAGE):
        switch.inject(1, read(5, va))
    assert switch.entry_counter("protection", SEGMENT) == 2
    assert switch.entry_counter("protection", DENIED) == 1
    switch.inject(1, frame(Header(Op.READ, pid=5, va=BASE, length=0)))  # malformed: never got there
    assert switch.entry_counter("protection", SEGMENT) == 2


def test_every_frame_has_one_verdict(switch: RackSwitch) -> None:
    rng = random.Random(5)
    for sent in range(1, 2001):
        switch.inject(*random_frame(rng))
        if sent % 250 == 0:
            assert sum(switch.verdicts().values()) == sent


def test_only_failed_elements_send_digests(switch: RackSwitch) -> None:
    for port, va in itertools.product((1, 2, 4), (BASE, BASE + 2 * PAGE, 8 << 48, 9 << 48)):
        switch.inject(port, read(5, va))
    assert switch.digests() == []
    switch.change("liveness", {"element": M2}, "failed")
    switch.inject(1, read(5, BASE + 3 * PAGE))
    switch.inject(1, read(5, BASE))
    switch.inject(2, read(6, 6 << 48))
    assert switch.digests() == [(M2, 5, BASE + 3 * PAGE, C1), (M2, 6, 6 << 48, C2)]


def test_a_frame_for_the_controller_says_where_it_came_from(switch: RackSwitch) -> None:
    """The source in the packet-in header and in the frame are the switch's, whatever the element claims."""
    for port, element, op in ((1, C1, Op.HEARTBEAT), (2, C2, Op.HELLO), (4, M1, Op.HELLO), (5, M2, Op.HEARTBEAT)):
        (out,) = switch.inject(port, frame(Header(op, src=0xFFFF, dst=0xFFFF, va=7, length=24), bytes(24)))
        assert out.port == CPU_PORT
        assert int.from_bytes(out.frame[:2], "big") == port << 7
        assert int.from_bytes(out.frame[2:4], "big") == Header.unpack(out.frame, 4 + 14).src == element
        assert out.frame[4 + wire.FRAME_OVERHEAD :] == bytes(24)
