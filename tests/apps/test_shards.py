"""The store in parts: clients go on while a part is handed over, in every way; whoever has the pages has the part."""

from __future__ import annotations

import random
import socket
import threading
from collections.abc import Iterator

import pytest

from apps.dataflow.exchange import Inbox, Outbox, Way
from apps.kv.bulk import items
from apps.shards.client import Client, StoreError
from apps.shards.instance import MAX_FRAME, Instance, Peer, Status, decode_answer, receive
from apps.shards.part import JOURNAL, LEAST, Part
from apps.structures.memory import NotFormatted
from hosts.process import Region
from protocol.wire import PAGE_SIZE
from tests.apps.rack import FakeProcess, Rack

SIZE = LEAST + 24 * PAGE_SIZE
HERE = "127.0.0.1"


class Two:
    """Two instances in one process, on one rack, that know each other."""

    def __init__(self) -> None:
        self.rack = Rack(4000)
        self.memory = [FakeProcess(self.rack, pid) for pid in (1, 2)]
        self.inbox = [Inbox(memory, HERE) for memory in self.memory]
        self.instance = [Instance(m, HERE, i) for m, i in zip(self.memory, self.inbox, strict=True)]
        self.outbox = [Outbox(self.memory[a], HERE, self.inbox[1 - a].port, 2 - a) for a in (0, 1)]

    def give(self, name: bytes, giver: int, way: Way) -> None:
        self.instance[giver].hand_over(name, Peer(self.instance[1 - giver].address, self.outbox[giver]), way)

    def close(self) -> None:
        for each in (*self.instance, *self.inbox, *self.outbox):
            each.close()


@pytest.fixture
def two() -> Iterator[Two]:
    made = Two()
    yield made
    made.close()


def test_a_part_is_what_its_pages_hold() -> None:
    memory = FakeProcess(Rack(400), 1)
    part = Part.create(memory, SIZE)
    model: dict[bytes, bytes] = {}
    rng = random.Random(1)
    for _ in range(200):
        key = b"%d" % rng.randrange(40)
        if rng.random() < 0.3:
            assert part.delete(key) == (model.pop(key, None) is not None)
        else:
            model[key] = rng.randbytes(rng.randrange(600))
            part.put(key, model[key])
    again = Part.open(memory, part.region)
    assert dict(again.items()) == model and again.count == len(model)
    assert all(again.get(key) == value for key, value in model.items())
    elsewhere = memory.alloc(SIZE)
    memory.write(elsewhere.va, memory.read(part.region.va, SIZE))
    assert dict(Part.open(memory, elsewhere).items()) == model, "nothing in it depends on where it is"
    with pytest.raises(ValueError, match="at least"):
        Part.create(memory, LEAST - 1)
    blank = memory.alloc(SIZE)
    with pytest.raises(NotFormatted):
        Part.open(memory, Region(blank.va, SIZE))


def test_a_filled_part_has_the_items_that_were_asked_for() -> None:
    part = Part.create(FakeProcess(Rack(400), 1), LEAST + 120 * PAGE_SIZE, filled=300_000, seed=3)
    assert dict(part.items()) == dict(items(300_000, 3))
    assert part.region.size - JOURNAL >= 300_000


@pytest.mark.parametrize("way", ["grant", "transparent"])
def test_clients_follow_a_part_and_find_everything(two: Two, way: Way) -> None:
    for name in (b"a", b"b"):
        two.instance[0].create(name, SIZE)
    client = Client(two.instance[0].address)
    for number in range(50):
        client.put(b"a:%d" % number, b"value %d" % number)
        client.put(b"b:%d" % number, b"other")
    region = two.instance[0].part(b"a").region
    two.give(b"a", 0, way)
    assert two.instance[0].part(b"a") is None
    assert [client.get(b"a:%d" % n) for n in range(50)] == [b"value %d" % n for n in range(50)]
    assert client.followed == 1, "once, then it knows"
    there = two.instance[1].part(b"a")
    assert there is not None and (there.region == region) == (way == "grant"), "granted pages keep their addresses"
    client.put(b"a:new", b"there")
    assert client.delete(b"a:0") and not client.delete(b"a:0")
    assert client.get(b"b:7") == b"other", "the other part has stayed"
    two.give(b"a", 1, way)
    assert (client.get(b"a:new"), client.get(b"a:0")) == (b"there", None)
    client.close()


@pytest.mark.parametrize("way", ["grant", "transparent"])
def test_clients_go_on_while_a_part_goes_to_and_fro(two: Two, way: Way) -> None:
    two.instance[0].create(b"a", SIZE)
    failures: list[Exception] = []
    stop = threading.Event()
    written: dict[int, dict[bytes, bytes]] = {}

    def work(number: int) -> None:
        client = Client(two.instance[0].address)
        mine = written[number] = {}
        rng = random.Random(number)
        try:
            while not stop.is_set() or len(mine) < 3:
                key = b"a:%d/%d" % (number, rng.randrange(10))
                if rng.random() < 0.5:
                    mine[key] = rng.randbytes(100)
                    client.put(key, mine[key])
                else:
                    assert client.get(key) == mine.get(key)
        except Exception as error:
            failures.append(error)
        finally:
            client.close()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for turn in range(12):
        two.give(b"a", turn % 2, way)
        two.instance[1 - turn % 2].answer(b"")  # nothing of the sort breaks it
        client = Client(two.instance[0].address)
        assert client.get(b"a:absent") is None  # so that the new owner has adopted it before it goes on
        client.close()
    stop.set()
    for thread in threads:
        thread.join(20)
    assert not failures
    part = two.instance[0].part(b"a")
    assert part is not None
    assert dict(part.items()) == {k.partition(b":")[2]: v for own in written.values() for k, v in own.items()}


def test_what_makes_no_sense_is_said(two: Two) -> None:
    two.instance[0].create(b"a", SIZE)
    client = Client(two.instance[0].address)
    for key, value in ((b"none:1", b""), (b"a", b""), (b"a:big", bytes(5000))):
        with pytest.raises(StoreError, match=r"UNKNOWN|TOO_LARGE"):
            client.put(key, value)
    with pytest.raises(StoreError, match="FULL"):
        for number in range(10_000):
            client.put(b"a:%d" % number, bytes(3000))
    assert client.get(b"a:0") == bytes(3000)
    client.close()
    with socket.create_connection(two.instance[0].address) as raw, raw.makefile("rb") as stream:
        raw.sendall((3).to_bytes(4, "big") + b"\xc1\xff\x00")
        answer = receive(stream)
        assert answer is not None and decode_answer(answer).status is Status.UNKNOWN
        raw.sendall((MAX_FRAME + 1).to_bytes(4, "big"))
        raw.settimeout(60)
        assert receive(stream) is None, "it hangs up"
    assert two.instance[0].part(b"a") is not None
