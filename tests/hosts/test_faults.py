"""The link with faults: it does what it says, and nothing gets lost beyond that."""

from __future__ import annotations

import time

import pytest

from hosts.faults import Faults, FaultsError, FaultyWire
from tests.hosts.wires import Inbox


class Loop(Inbox):
    """What is sent comes back."""

    def send(self, frame: bytes) -> None:
        self.replies.put(frame)


def through(faults: Faults, count: int = 400) -> tuple[list[int], FaultyWire]:
    wire = FaultyWire(Loop(), faults)
    for n in range(count):
        wire.send(n.to_bytes(4, "big"))
    received = []
    while (frame := wire.receive(0.1)) is not None:
        received.append(int.from_bytes(frame, "big"))
    wire.close()
    return received, wire


def test_no_faults() -> None:
    received, wire = through(Faults())
    assert received == list(range(400))
    assert +wire.counts == {}


def test_loss_is_counted() -> None:
    received, wire = through(Faults(loss=0.2, seed=1))
    assert received == sorted(set(received))
    assert len(received) == 400 - wire.counts["lost"]
    assert 60 < wire.counts["lost"] < 240


def test_copies_and_late_frames_are_all_there() -> None:
    received, wire = through(Faults(copies=0.2, late=0.3, delay=0.05, seed=2))
    assert set(received) == set(range(400))
    assert len(received) == 400 + wire.counts["copied"]
    assert received != sorted(received), "late frames come behind younger ones"


def test_the_same_seed_the_same_fates() -> None:
    assert through(Faults(loss=0.3, seed=7))[0] == through(Faults(loss=0.3, seed=7))[0]


def test_waiting_ends_in_time_and_at_close() -> None:
    loop = Loop()
    wire = FaultyWire(loop, Faults(late=1, delay=30))
    wire.send(b"late")
    before = time.monotonic()
    assert wire.receive(0.05) is None
    assert time.monotonic() - before < 25, "the late frame is held for 30 s"
    wire.close()
    assert loop.closed


@pytest.mark.parametrize("text", ["", "loss", "lots=1", "loss=x", "loss=2", "copies=-1", "delay=-1", "seed=1.5"])
def test_descriptions_that_make_no_sense(text: str) -> None:
    with pytest.raises(FaultsError):
        Faults.parse(text)


def test_a_description() -> None:
    assert Faults.parse("loss=0.05,copies=0.02,late=0.1,delay=0.5,seed=3") == Faults(0.05, 0.02, 0.1, 0.5, 3)
