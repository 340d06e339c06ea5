"""Queues between ingress and egress: depth, rates, strict priority, metadata, as bmv2's simple_switch has them; in virtual time.

Op 0x30 of ``testprog.c`` sends a packet with priority ``arg`` to port ``word`` and prepends what egress saw of its queue.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from p4switch.dataplane.binding import Code, DataplaneError, QueueStats, Replica
from tests.p4switch.dataplane.conftest import Bench

MS = 1_000_000


@dataclass(frozen=True)
class Left:
    """A packet that left: its number, and the queueing metadata (times in microseconds)."""

    number: int
    enqueued: int
    depth_before: int
    waited: int
    depth_after: int
    queue: int


def send(bench: Bench, number: int, priority: int = 0, port: int = 1) -> None:
    bench.switch.inject(0, bytes([0x30, priority]) + port.to_bytes(2, "big") + bytes([number]))


def left(bench: Bench) -> list[Left]:
    found = []
    for output in bench.switch.outputs():
        numbers = [int.from_bytes(output.data[at : at + 4], "big") for at in range(0, 16, 4)]
        found.append(Left(output.data[-1], *numbers, output.data[16]))
    return found


def numbers(bench: Bench) -> list[int]:
    return [packet.number for packet in left(bench)]


def at(bench: Bench, milliseconds: float) -> list[int]:
    """Set the clock; the packets that left by then."""
    bench.switch.set_time(int(milliseconds * MS))
    return numbers(bench)


def test_without_queues_packets_pass(bench: Bench) -> None:
    bench.switch.set_time(7 * MS)
    send(bench, 1)
    assert left(bench) == [Left(1, 7000, 0, 0, 0, 0)]
    assert bench.switch.queues.get(1) is None
    send(bench, 2, priority=1)  # has no queue
    assert left(bench) == []
    assert bench.switch.stats().queue_drops == 1
    bench.switch.queues.set_priorities(8)
    send(bench, 3, priority=7)
    assert left(bench) == [Left(3, 7000, 0, 0, 0, 7)]


def test_rate_spaces_departures(bench: Bench) -> None:
    bench.switch.set_time(0)
    bench.switch.queues.set_rate(1000, port=1)
    for number in range(4):
        send(bench, number)
    assert left(bench) == [Left(0, 0, 0, 0, 0, 0)]
    assert at(bench, 0.999) == []
    bench.switch.set_time(1 * MS)
    assert left(bench) == [Left(1, 0, 0, 1000, 2, 0)]
    # Looked at late, what was due leaves at once; the time it waited is true.
    bench.switch.set_time(5 * MS)
    assert left(bench) == [Left(2, 0, 1, 5000, 1, 0), Left(3, 0, 2, 5000, 0, 0)]
    send(bench, 9)  # an idle queue lets the next out at once
    assert numbers(bench) == [9]


def test_rates_hold_over_a_second(bench: Bench) -> None:
    bench.switch.set_time(0)
    bench.switch.queues.set_rate(300, port=1)
    bench.switch.queues.set_depth(1000)
    for number in range(250):
        send(bench, number)
    gone = [at(bench, t * 10) for t in range(1, 84)]
    assert sum(map(len, gone)) == 250
    assert max(map(len, gone)) <= 4
    assert [n for some in gone for n in some] == list(range(250))


def test_tail_drop(bench: Bench) -> None:
    bench.switch.set_time(0)
    bench.switch.queues.set_rate(1, port=1)
    bench.switch.queues.set_depth(3, port=1)
    for number in range(6):
        send(bench, number)
    stats = bench.switch.queues.get(1)
    assert stats == QueueStats(1, 0, depth=3, rate=1, port_rate=0, length=3, longest=3, enqueued=4, dropped=2)
    assert bench.switch.stats().queue_drops == bench.switch.port_stats(1).queue_drops == 2
    assert at(bench, 60_000) == [0, 1, 2, 3]
    assert bench.switch.queues.used() == [bench.switch.queues.get(1)]


def test_default_depth_is_that_of_bmv2(bench: Bench) -> None:
    bench.switch.set_time(0)
    bench.switch.queues.set_rate(1)
    for number in range(70):
        send(bench, number, port=3)
    stats = bench.switch.queues.get(3)
    assert stats is not None
    assert (stats.length, stats.dropped) == (64, 5)


def test_depth_zero_drops_all(bench: Bench) -> None:
    bench.switch.queues.set_depth(0, port=1)
    send(bench, 1)
    send(bench, 2, port=2)
    assert numbers(bench) == [2]


def test_each_queue_has_its_rate(bench: Bench) -> None:
    bench.switch.set_time(0)
    queues = bench.switch.queues
    queues.set_priorities(2)
    queues.set_rate(1000, port=1, priority=0)
    queues.set_rate(500, port=1, priority=1)
    for number in range(3):
        send(bench, number, priority=0)
        send(bench, 10 + number, priority=1)
    assert numbers(bench) == [0, 10]
    assert at(bench, 1) == [1]
    assert at(bench, 2) == [12 - 1, 2]  # both are due: the higher priority first
    assert at(bench, 3) == []
    assert at(bench, 4) == [12]


def test_port_rate_is_shared_in_strict_priority(bench: Bench) -> None:
    bench.switch.set_time(0)
    queues = bench.switch.queues
    queues.set_priorities(3)
    queues.set_port_rate(1000, port=1)
    for priority in range(3):
        for number in range(2):
            send(bench, 10 * priority + number, priority=priority)
    assert numbers(bench) == [0]  # was on its way before the others came
    assert [at(bench, t) for t in range(1, 6)] == [[20], [21], [10], [11], [1]]
    # A high priority that never ends starves the low one.
    send(bench, 1, priority=0)
    order = []
    for t in range(6, 12):
        send(bench, 100 + t, priority=2)
        order += at(bench, t)
    assert 1 not in order[1:]
    assert at(bench, 50)[-1:] == [1] or order[0] == 1


def test_ports_do_not_share(bench: Bench) -> None:
    bench.switch.set_time(0)
    bench.switch.queues.set_port_rate(1000)
    for port in range(1, 9):
        send(bench, port, port=port)
    assert numbers(bench) == list(range(1, 9))


def test_replicas_and_clones_are_queued(bench: Bench) -> None:
    bench.switch.set_time(0)
    bench.switch.queues.set_rate(1000, port=5)
    bench.switch.set_multicast_group(9, [Replica(5, 1), Replica(5, 2), Replica(6, 3)])
    bench.switch.inject(0, bytes.fromhex("2a000009"))
    assert [o.port for o in bench.switch.outputs()] == [6, 5]
    bench.switch.set_time(MS)
    assert [o.port for o in bench.switch.outputs()] == [5]
    bench.switch.set_clone_session(5, [Replica(5)])
    bench.switch.set_time(10 * MS)
    bench.switch.inject(0, bytes.fromhex("01000000"))
    bench.switch.inject(0, bytes.fromhex("01000000"))
    assert sorted(o.port for o in bench.switch.outputs()) == [1, 1, 5]
    bench.switch.set_time(11 * MS)
    assert [o.port for o in bench.switch.outputs()] == [5]


def test_a_new_program_empties_the_queues(bench: Bench, program_file: Path) -> None:
    bench.switch.set_time(0)
    bench.switch.queues.set_rate(1)
    for number in range(3):
        send(bench, number)
    bench.switch.load(program_file)
    assert at(bench, 60_000) == [0]
    assert bench.switch.stats().queue_drops == 2
    send(bench, 7)
    assert numbers(bench) == [7]  # the settings stay


def test_refusals(bench: Bench) -> None:
    queues = bench.switch.queues
    for call in (
        lambda: queues.set_priorities(0),
        lambda: queues.set_priorities(9),
        lambda: queues.set_depth(65_537),
        lambda: queues.set_depth(-1),
        lambda: queues.set_rate(1_000_000_001),
        lambda: queues.set_rate(1, port=512),
        lambda: queues.set_rate(1, priority=8),
        lambda: queues.set_port_rate(-1),
        lambda: queues.get(0, 9),
    ):
        with pytest.raises(DataplaneError) as caught:
            call()
        assert caught.value.code == Code.INVALID
    bench.switch.set_time(5)
    with pytest.raises(DataplaneError):
        bench.switch.set_time(4)
    with pytest.raises(DataplaneError):
        bench.switch.start()  # time stands still
