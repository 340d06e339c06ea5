"""Meters against the two-rate three-colour marker of RFC 2698 (colour-blind), in virtual time; indexed and direct."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from fractions import Fraction

import pytest

from p4switch.dataplane.binding import MeterConfig, Op
from tests.p4switch.dataplane.conftest import Bench

GREEN, YELLOW, RED = range(3)


@dataclass
class Marker:
    """RFC 2698, section 3: two buckets that fill at their rates up to their bursts, in whole units."""

    config: MeterConfig
    started: int  # microseconds
    committed: int = field(init=False)
    peak: int = field(init=False)
    granted: tuple[int, int] = (0, 0)

    def __post_init__(self) -> None:
        self.committed, self.peak = self.config.cburst, self.config.pburst

    def colour(self, units: int, now: int) -> int:
        since = Fraction(now - self.started, 1_000_000)
        total = int(since * self.config.cir), int(since * self.config.pir)
        self.peak = min(self.config.pburst, self.peak + total[1] - self.granted[1])
        if self.peak < units:
            self.granted = self.granted[0], total[1]
            return RED
        self.peak -= units
        self.committed = min(self.config.cburst, self.committed + total[0] - self.granted[0])
        self.granted = total
        if self.committed < units:
            return YELLOW
        self.committed -= units
        return GREEN


def meter(bench: Bench, name: str, cell: int, rest: bytes = b"") -> int:
    """The colour of a packet of 4 + len(rest) bytes."""
    return bench.run(0x22, bench.layout.externs[name].index, cell, rest)[0]


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("name", ["meter", "byte_meter"])
def test_against_rfc_2698(bench: Bench, name: str, seed: int) -> None:
    rng = random.Random(f"{name} {seed}")
    scale = 100 if name == "byte_meter" else 1
    cir = rng.choice([0, 1, 7, 1000]) * scale
    config = MeterConfig(cir, rng.randrange(6) * scale, cir + rng.choice([0, 1, 50]) * scale, rng.randrange(9) * scale)
    now = 5_000_000
    bench.switch.set_time(now * 1000)
    bench.switch.write_meter(bench.layout.externs[name].index, 0, config)
    marker = Marker(config, now)
    for number in range(400):
        now += rng.choice([0, 1, 500, 1000, 100_000, 3_000_000]) if number % 3 else 0
        bench.switch.set_time(now * 1000)
        rest = bytes(rng.randrange(1, 300))
        units = 4 + len(rest) if name == "byte_meter" else 1
        assert meter(bench, name, 0, rest) == marker.colour(units, now), (config, number)


def test_rates_over_a_long_time(bench: Bench) -> None:
    """What passes in ten minutes is the burst and the rate's worth, to the packet: nothing is lost to rounding."""
    bench.switch.set_time(0)
    bench.switch.write_meter(bench.layout.externs["meter"].index, 2, MeterConfig(cir=3, cburst=5, pir=7, pburst=11))
    seen = [0, 0, 0]
    step, seconds = 33_333, 600  # microseconds between packets: 30 a second
    for number in range(seconds * 1_000_000 // step):
        bench.switch.set_time(number * step * 1000)
        seen[meter(bench, "meter", 2)] += 1
    assert seen[GREEN] == pytest.approx(5 + 3 * seconds, abs=1)
    assert seen[GREEN] + seen[YELLOW] == pytest.approx(11 + 7 * seconds, abs=1)


def test_cells_are_apart_and_configuring_fills_the_buckets(bench: Bench) -> None:
    index = bench.layout.externs["meter"].index
    bench.switch.set_time(0)
    for cell in (0, 1):
        bench.switch.write_meter(index, cell, MeterConfig(0, 1, 0, 1))
    assert [meter(bench, "meter", 0) for _ in range(2)] == [GREEN, RED]
    assert meter(bench, "meter", 1) == GREEN
    assert meter(bench, "meter", 3) == GREEN  # never configured
    bench.switch.write_meter(index, 0, MeterConfig(0, 1, 0, 2))
    assert [meter(bench, "meter", 0) for _ in range(3)] == [GREEN, YELLOW, RED]


def test_a_large_packet_takes_nothing_when_it_is_red(bench: Bench) -> None:
    bench.switch.set_time(0)
    bench.switch.write_meter(bench.layout.externs["byte_meter"].index, 0, MeterConfig(0, 100, 0, 150))
    assert meter(bench, "byte_meter", 0, bytes(196)) == RED
    assert meter(bench, "byte_meter", 0, bytes(96)) == GREEN
    assert meter(bench, "byte_meter", 0, bytes(46)) == YELLOW
    assert meter(bench, "byte_meter", 0, b"") == RED


def test_direct_meter_counts_every_hit_once(bench: Bench) -> None:
    """Also when the program does not read the colour (op 0x2f), and not on a miss."""
    table = bench.table("counted").index
    bench.switch.set_time(0)
    handle = bench.apply(bench.update(Op.INSERT, "counted", (7,), value=1)).handle
    bench.switch.write_direct_meter(table, handle, MeterConfig(1, 3, 1, 3))

    def read(key: int = 7) -> int:
        return bench.run(0x20, table, 0, key.to_bytes(2, "big"))[6]

    bench.run(0x2F, 0, 0, b"\0\7")
    assert [read(), read(), read()] == [GREEN, GREEN, RED]
    bench.switch.set_time(1_000_000_000)
    bench.run(0x2F, 0, 0, b"\0\7")
    assert read() == RED
    bench.apply(bench.update(Op.DELETE, "counted", (7,)))
    assert bench.run(0x20, table, 0, b"\0\7")[2] == GREEN  # a miss has no colour; NoAction has no data
