"""Digest lists against the specification's rules, with a clock of our own."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from finsy.proto import p4r

from p4switch.dataplane import layout as dp
from p4switch.server import p4data
from p4switch.server.digests import DigestLists
from p4switch.server.schema import DigestInfo

FIELDS = dp.Fields((dp.Field("number", 16, 0),), 2)
INFO = DigestInfo(77, "learned", 0, FIELDS, p4data.Number(16))


@dataclass
class Clock:
    now: float = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def lists(clock: Clock) -> DigestLists:
    return DigestLists(clock)


def config(timeout: float = 0, size: int = 0, ack: float = 0) -> p4r.DigestEntry.Config:
    return p4r.DigestEntry.Config(max_timeout_ns=int(timeout * 1e9), max_list_size=size, ack_timeout_ns=int(ack * 1e9))


def add(lists: DigestLists, how: p4r.DigestEntry.Config, *numbers: int) -> None:
    for number in numbers:
        lists.add(INFO, number.to_bytes(2, "big"), how)


def sent(lists: DigestLists) -> list[list[int]]:
    return [[int.from_bytes(d.bitstring, "big") for d in message.data] for message in lists.due()]


def test_at_once_without_timeout(lists: DigestLists) -> None:
    add(lists, config(), 1)
    assert sent(lists) == [[1]]
    assert sent(lists) == []


def test_a_list_is_full(lists: DigestLists) -> None:
    how = config(timeout=10, size=2)
    add(lists, how, 1)
    assert sent(lists) == []
    add(lists, how, 1)  # only distinct messages count
    assert sent(lists) == []
    add(lists, how, 2)
    assert sent(lists) == [[1, 2]]


def test_a_list_is_old(lists: DigestLists, clock: Clock) -> None:
    how = config(timeout=10)
    add(lists, how, 1, 2, 3)
    clock.now += 9
    add(lists, how, 4)
    assert sent(lists) == []
    assert lists.next_deadline() == pytest.approx(1)
    clock.now += 1
    assert sent(lists) == [[1, 2, 3, 4]]
    assert lists.next_deadline() is None


def test_nothing_is_repeated_before_its_ack(lists: DigestLists, clock: Clock) -> None:
    how = config(ack=5)
    add(lists, how, 1)
    (message,) = lists.due()
    add(lists, how, 1)
    assert sent(lists) == []
    for wrong in ((77, message.list_id + 1), (78, message.list_id)):
        lists.acknowledge(p4r.DigestListAck(digest_id=wrong[0], list_id=wrong[1]))
        add(lists, how, 1)
        assert sent(lists) == []
    lists.acknowledge(p4r.DigestListAck(digest_id=77, list_id=message.list_id))
    add(lists, how, 1)
    assert sent(lists) == [[1]]
    clock.now += 5  # as if it had been acknowledged
    add(lists, how, 1)
    assert sent(lists) == [[1]]


def test_without_acks_everything_is_new(lists: DigestLists) -> None:
    for _ in range(3):
        add(lists, config(), 1)
        assert sent(lists) == [[1]]


def test_another_digest_is_another_thing(lists: DigestLists) -> None:
    other = DigestInfo(78, "other", 1, FIELDS, p4data.Number(16))
    add(lists, config(ack=5), 1)
    assert sent(lists) == [[1]]
    lists.add(other, b"\0\1", config(ack=5))
    assert sent(lists) == [[1]]


def test_clear(lists: DigestLists) -> None:
    add(lists, config(timeout=10, ack=5), 1)
    lists.clear(77)
    assert lists.next_deadline() is None
    add(lists, config(ack=5), 1)
    assert sent(lists) == [[1]]
    lists.clear()
    add(lists, config(ack=5), 1)
    assert sent(lists) == [[1]]
