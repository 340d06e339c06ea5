"""Requests over a wire that loses, duplicates, delays and reorders; and the process API on top."""

from __future__ import annotations

import random
import re
import threading
import time
from collections.abc import Callable

import pytest

from hosts import errors
from hosts.arguments import Region, pieces
from hosts.memory.element import MemoryElement
from hosts.memory.page_table import PageTable
from hosts.process import Process
from hosts.requester import Requester, RetryPolicy
from protocol import wire
from protocol.wire import PAGE_SIZE, REPLY, Flag, Header, Op, Perm, Status
from tests.hosts.wires import Inbox

ME, PID, VA = 101, 5, 5 << 48
QUICK = RetryPolicy(first=0.005, longest=0.02, budget=30.0)
PATIENT = RetryPolicy(first=20.0, longest=20.0, budget=30.0)  # repeats nothing, however slow the machine is


class FaultyWire(Inbox):
    """A link straight to one memory element, with faults in both directions. Stands for the switch as well: it stamps."""

    def __init__(
        self, element: MemoryElement, seed: int = 0, loss: float = 0.0, copies: float = 0.0, late: float = 0.0
    ):
        super().__init__()
        self.element, self.rng = element, random.Random(seed)
        self.loss, self.copies, self.late = loss, copies, late
        self.held: list[bytes] = []
        self.sent = 0
        self.lock = threading.Lock()

    def send(self, frame: bytes) -> None:
        with self.lock:
            self.sent += 1
            header = Header.unpack(frame, 14)
            pa = header.va - VA
            stamped = header._replace(src=1, dst=ME, pa=pa % (1 << 64), generation=1, flags=0)
            frame = frame[:14] + stamped.pack() + frame[54:]
            if self.rng.random() < self.loss:
                return
            self.held.append(frame)
            if self.rng.random() < self.copies:
                self.held.append(frame)
            while self.held and not (self.rng.random() < self.late and len(self.held) < 20):
                self._through(self.held.pop(self.rng.randrange(len(self.held)) if self.late else 0))

    def _through(self, frame: bytes) -> None:
        reply = self.element.handle(frame)
        if reply is not None and self.rng.random() >= self.loss:
            for _ in range(2 if self.rng.random() < self.copies else 1):
                self.replies.put(reply)


def make_element(pages: int = 64) -> MemoryElement:
    element = MemoryElement(ME, memoryview(bytearray(pages * PAGE_SIZE)), PageTable(pages))
    element.table.set(0, pages, VA, PID, Perm.RW, 1)
    return element


def process(policy: RetryPolicy = QUICK, **faults: float) -> tuple[Process, FaultyWire]:
    link = FaultyWire(make_element(), **faults)  # type: ignore[arg-type]
    return Process(PID, 1, link, None, policy), link


def test_pieces() -> None:
    assert pieces(VA + 4090, 10) == [(VA + 4090, 6), (VA + 4096, 4)]
    assert pieces(VA, 0) == []
    assert sum(n for _, n in pieces(VA + 1, 10 * PAGE_SIZE)) == 10 * PAGE_SIZE


def test_read_what_was_written() -> None:
    p, link = process(PATIENT)
    data = random.Random(1).randbytes(5 * PAGE_SIZE + 123)
    p.write(VA + 77, data)
    assert p.read(VA + 77, len(data)) == data
    assert bytes(link.element.memory[77 : 77 + len(data)]) == data
    assert p.fetch_add(VA + 8, 3) == int.from_bytes(bytes(8), "big")
    assert p.cas(VA + 8, 3, 4) == 3
    assert p.statistics()["write bytes"] == len(data)
    assert p.statistics()["retries"] == 0
    p.close()


@pytest.mark.parametrize("seed", range(4))
def test_faults_are_invisible(seed: int) -> None:
    """10 % loss each way, 10 % duplication, delay and reordering: contents and counts are exact."""
    # What is held back comes with the next frame, which is a repetition: there is no point in waiting long for it.
    p, _ = process(RetryPolicy(first=0.001, longest=0.004, budget=30.0), seed=seed, loss=0.1, copies=0.1, late=0.5)
    rng = random.Random(seed)
    model = bytearray(16 * PAGE_SIZE)
    for _ in range(25):
        size = rng.choice((1, 100, 4096, 9000))
        at = rng.randrange(8, len(model) - size)
        data = rng.randbytes(size)
        p.write(VA + at, data)
        model[at : at + size] = data
    assert p.read(VA, len(model)) == model
    for expected in range(100):
        assert p.fetch_add(VA + 20 * PAGE_SIZE, 1) == expected
    p.close()


def test_refusals_are_typed_exceptions() -> None:
    p, _ = process()
    with pytest.raises(errors.Unmapped) as caught:
        p.read(VA + 64 * PAGE_SIZE, 8)
    error = caught.value
    assert (error.va, error.pid, error.by) == (VA + 64 * PAGE_SIZE, PID, "element")
    assert "nothing is mapped there" in str(error)
    assert p.statistics()["refusals"] == 1
    p.close()


def test_every_refusal_has_its_exception() -> None:
    for status in Status:
        if status is not Status.OK:
            error = errors.refusal(Header(Op.READ | wire.REPLY, status=status, flags=wire.Flag.BY_SWITCH))
            assert error.status == status
            assert error.by == "switch"
    assert "unknown status 99" in str(errors.refusal(Header(Op.READ, status=99)))


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda p: p.read(1 << 64, 8), "0x10000000000000000"),
        (lambda p: p.read(-8, 4), "-0x8"),
        (lambda p: p.read(0, -1), "-1 bytes"),
        (lambda p: p.write((1 << 64) - 4, bytes(8)), "8 bytes from 0xfffffffffffffffc"),
        (lambda p: p.checksums(1 << 70, 1), "no range of addresses"),
        (lambda p: p.cas(0, 1 << 64, 0), "expected is 18446744073709551616"),
        (lambda p: p.cas(1 << 64, 0, 0), "no address"),
        (lambda p: p.fetch_add(-8, 1), "no address"),
        (lambda p: p.stat(1 << 64), "no address"),
        (lambda p: p.alloc(-1), "size is -1"),
        (lambda p: p.alloc(1 << 64), "from 0 to 2^64 - 1"),
        (lambda p: p.alloc(4096, group=1 << 30), "flags is"),
        (lambda p: p.free(-1), "va is -1"),
        (lambda p: p.free(0, 0), "0 bytes are nothing to free"),
        (lambda p: p.free(Region(0, 0)), "0 bytes are nothing to free"),
        (lambda p: p.grant(Region(1 << 64, 4096), 2), "no address"),
        (lambda p: p.grant(Region(0, 4096), 1 << 16), "to is 65536"),
        (lambda p: p.grant_async(Region(0, 4096), -1).result(), "to is -1"),
        (lambda p: p.grant(Region(0, 0), 2), "0 bytes are not whole pages"),
        (lambda p: p.protect(Region(0, 4097), Perm.READ), "4097 bytes"),
        (lambda p: p.migrate(Region(0, 4096), 1 << 16), "target is 65536"),
        (lambda p: p.steal(Region(0, 4096), 1 << 16, (), 1), "source is 65536"),
        (lambda p: p.watch(1 << 32, ()), "group is"),
    ],
)
def test_what_no_request_can_say_is_refused_before_it_is_sent(call: Callable[[Process], object], named: str) -> None:
    p, _ = process()
    with p:
        with pytest.raises(errors.BadArgument, match=re.escape(named)) as caught:
            call(p)
        assert (caught.value.pid, caught.value.by) == (PID, "the process itself")
        assert p.requester.traffic.requests == 0
        p.write(VA, b"goes on")  # the thread that receives and repeats has seen nothing of it
        assert p.read(VA, 7) == b"goes on"


def test_the_controller_says_why_in_words() -> None:
    reply = Header(Op.GRANT | REPLY, flags=Flag.BY_CONTROLLER, status=Status.BUSY, pid=1, va=VA, length=5)
    assert "because" not in str(errors.refusal(reply))
    error = errors.refusal(reply, "the page is moving")
    assert isinstance(error, errors.Busy)
    assert "the page is moving" in str(error)


def test_no_answer_is_a_timeout_within_the_budget() -> None:
    link = FaultyWire(make_element(), loss=1.0)
    p = Process(PID, 1, link, None, RetryPolicy(first=0.01, longest=0.05, budget=1.0))
    start = time.monotonic()
    with pytest.raises(errors.RequestTimeout):
        p.read(VA, 8)
    assert time.monotonic() - start > 0.95
    assert link.sent > 3
    p.close()


def test_request_ids_stay_within_the_window() -> None:
    """A request that is not answered holds the ids behind it back, so that the element cannot forget it."""
    link = FaultyWire(make_element())
    seen: list[int] = []
    stuck: list[bytes] = []
    through = link.send

    def send(frame: bytes) -> None:
        header = Header.unpack(frame, 14)
        if header.va == VA + 60 * PAGE_SIZE:
            stuck.append(frame)
            return
        seen.append(header.request_id)
        through(frame)

    link.send = send  # type: ignore[method-assign]
    budget = 1.0
    p = Process(PID, 1, link, None, RetryPolicy(first=0.01, longest=0.05, budget=budget))

    def write_in_vain() -> None:
        with pytest.raises(errors.RequestTimeout):
            p.write(VA + 60 * PAGE_SIZE, b"x")

    slow = threading.Thread(target=write_in_vain)
    begun = time.monotonic()
    slow.start()
    while not stuck:
        time.sleep(0.001)
    first = Header.unpack(stuck[0], 14).request_id
    for _ in range(700):
        p.read(VA, 8)
        last = max(seen)
        if time.monotonic() < begun + budget:  # it was waited for until now
            assert last - first < 512
    slow.join()
    p.close()


def test_many_threads() -> None:
    p, _ = process(seed=3, loss=0.02)

    def add() -> None:
        for _ in range(100):
            p.fetch_add(VA, 1)

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert int.from_bytes(p.read(VA, 8), "big") == 400
    p.close()


def test_strangers_are_counted_and_passed_on() -> None:
    others: list[Header] = []
    link = FaultyWire(make_element())
    requester = Requester(link, 1, 0, QUICK, lambda header, payload: others.append(header))
    link.replies.put(bytes(14) + Header(Op.NOTIFY, pid=7, request_id=9).pack())
    deadline = time.monotonic() + 30
    while not others and time.monotonic() < deadline:
        time.sleep(0.005)
    assert [h.op for h in others] == [Op.NOTIFY]
    requester.close()


class HoldingWire(FaultyWire):
    """Holds frames back while told to, and delivers them when told to."""

    holding = False

    def send(self, frame: bytes) -> None:
        if self.holding:
            self.kept.append(frame)
        else:
            super().send(frame)

    def __init__(self, element: MemoryElement):
        super().__init__(element)
        self.kept: list[bytes] = []


@pytest.mark.parametrize("next_access", ["read", "write", "fetch_add"])
def test_a_write_that_timed_out_takes_no_effect_behind_the_next_access(next_access: str) -> None:
    link = HoldingWire(make_element())
    p = Process(PID, 1, link, None, RetryPolicy(first=0.01, longest=0.05, budget=1.0))
    p.write(VA + 8, b"before")
    link.holding = True
    with pytest.raises(errors.RequestTimeout):
        p.write(VA + 8, b"held back")
    link.holding = False
    if next_access == "read":
        assert p.read(VA + 8, 6) == b"before"
    elif next_access == "write":
        p.write(VA + 100, b"elsewhere in the element")
    else:
        p.fetch_add(VA, 1)
    assert len(link.kept) > 1, "it was repeated, too"
    for frame in link.kept:
        FaultyWire.send(link, frame)
    assert p.read(VA + 8, 9) == b"before\0\0\0"
    assert link.element.counts["WRITE BAD_REQUEST"] == len(link.kept)
    p.close()


def test_a_write_that_is_only_late_still_counts() -> None:
    """Requests of other threads do not give up one that is waited for."""
    link = HoldingWire(make_element())
    p = Process(PID, 1, link, None, QUICK)
    link.holding = True
    late = threading.Thread(target=lambda: p.write(VA, b"late but alive"))
    late.start()
    while not link.kept:
        time.sleep(0.001)
    link.holding = False
    for _ in range(5):
        p.fetch_add(VA + 64, 1)
    late.join(30)
    assert p.read(VA, 14) == b"late but alive"
    p.close()
