"""A short soak, the judgement of samples, and a leak that is planted."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from fuzz.soak import run
from fuzz.soak.growth import MIB, Sample, allocated, growth, resident, slope
from fuzz.soak.pipeline import SHARES, soak

PACKETS = 1_500_000


def samples(rise: float, *, noise: int = 0) -> list[Sample]:
    """A line that rises by ``rise`` bytes over the whole run, after a warm-up of 50 MiB."""
    warm = [Sample(n / 40, n * 5 * MIB, n * MIB) for n in range(10)]
    later = [Sample(n / 40, 90 * MIB + int(rise * n / 40) + (-noise) ** (n % 2 + 1), 9 * MIB) for n in range(10, 41)]
    return warm + later


def test_the_warm_up_does_not_count_and_noise_is_not_growth() -> None:
    found = growth("x", samples(0, noise=300_000), most_resident=MIB, most_allocated=1000)
    assert found.within
    assert abs(found.resident) < 200_000
    assert found.allocated == 0
    assert "TOO MUCH" not in str(found)


def test_growth_is_that_of_the_run_after_the_warm_up() -> None:
    found = growth("x", samples(4 * MIB), most_resident=2 * MIB, most_allocated=1000)
    assert found.resident == pytest.approx(3 * MIB, rel=0.01)
    assert not found.within
    assert "TOO MUCH" in str(found)


def test_too_few_samples_are_refused() -> None:
    with pytest.raises(ValueError, match="7 samples after the warm-up; expected 8 or more"):
        growth("x", samples(0)[:17], most_resident=1, most_allocated=1)


def test_slope() -> None:
    assert slope([(0, 1), (1, 3), (2, 5)]) == pytest.approx(2)
    assert slope([(0, 1), (1, 3)]) == 0
    assert slope([(1, 1), (1, 2), (1, 3)]) == 0


def test_memory_is_measured() -> None:
    before, before_resident = allocated(), resident()
    block = bytearray(b"x") * (256 * MIB)  # more than this process can have free and resident
    assert allocated() - before >= 256 * MIB
    assert resident() - before_resident > 128 * MIB
    del block
    assert allocated() - before < 128 * MIB


def test_a_short_soak_does_not_grow_and_does_what_it_says() -> None:
    found, outcome = run.soak_pipeline(PACKETS, seed=3)
    assert found.within, found
    assert outcome.packets >= PACKETS * 0.99
    assert len(outcome.samples) == 60
    assert all(outcome.events[kind] > 0 for kind in ("PACKET_IN", "DIGEST", "IDLE_TIMEOUT")), outcome.events
    assert outcome.lost == 0
    assert outcome.outputs > 0
    assert sum(share for _, share in SHARES) == pytest.approx(1)


def test_a_leak_of_a_few_bytes_a_packet_is_seen() -> None:
    kept = []
    outcome = soak(300_000, seed=4, also=lambda: kept.append(bytearray(20_000)))  # 4 bytes a packet
    found = growth("leaky", outcome.samples, most_resident=run.PIPELINE_RESIDENT, most_allocated=run.PIPELINE_ALLOCATED)
    assert not found.within, found
    assert found.allocated == pytest.approx(len(kept) * 20_000 * 0.75, rel=0.2)


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")
def test_a_switch_on_interfaces() -> None:
    command = [sys.executable, "-m", "fuzz", "soak", "--packets", "0", "--frames", "60000"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=560, check=False, cwd=run.ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "memory does not grow" in done.stdout
    assert "controllers came and went" in done.stdout
