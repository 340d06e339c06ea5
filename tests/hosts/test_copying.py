"""Pages on their way between memory elements: what is sent, what is taken, and what comes too late."""

from __future__ import annotations

import pytest

from hosts.memory.element import MemoryElement
from hosts.memory.page_table import PageTable
from protocol import wire
from protocol.wire import PAGE_SIZE, Header, Op, Perm, Status

SOURCE, TARGET, PID, VA = 101, 102, 5, 5 << 48
TAKEN, GIVEN = 8, 9  # generations
PAGES = 8


class Pair:
    """Two elements; pages 1 and 2 of the first are of a process, and go to pages 4 and 5 of the second."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.source, self.target = (
            MemoryElement(n, memoryview(bytearray(PAGES * PAGE_SIZE)), PageTable(PAGES), incarnation=n)
            for n in (SOURCE, TARGET)
        )
        self.source.copying.send = self.sent.append
        self.source.table.set(PAGE_SIZE, 2, VA, PID, Perm.RW, 7)
        self.source.memory[PAGE_SIZE : 3 * PAGE_SIZE] = bytes([1]) * PAGE_SIZE + bytes([2]) * PAGE_SIZE

    def tell(self, element: MemoryElement, op: Op, payload: bytes, **fields: int) -> Status | None:
        header = Header(op, dst=element.element, length=len(payload), va=VA, request_id=77)._replace(**fields)
        addresses = wire.element_mac(element.element) + wire.element_mac(0) + wire.ETHERTYPE.to_bytes(2, "big")
        reply = element.handle(addresses + header.pack() + payload)
        return None if reply is None else Status(Header.unpack(reply, 14).status)

    def take(self) -> None:
        payload = wire.PT_ARGS.pack(2, 0, 0, 0, 0, SOURCE)
        assert self.tell(self.source, Op.PT_CLEAR, payload, pa=PAGE_SIZE, generation=TAKEN) is Status.OK

    def copy(self, incarnation: int = SOURCE, generation: int = TAKEN) -> Status | None:
        payload = wire.COPY_ARGS.pack(2, TARGET, PID, 77, 0, incarnation)
        return self.tell(self.source, Op.COPY, payload, pa=PAGE_SIZE, generation=generation)

    def receive(self, incarnation: int = TARGET) -> Status | None:
        payload = wire.RECEIVE_ARGS.pack(2, PID, SOURCE, Perm.RW, 0, incarnation)
        return self.tell(self.target, Op.RECEIVE, payload, pa=4 * PAGE_SIZE, generation=GIVEN)

    def clear_target(self, generation: int) -> None:
        payload = wire.PT_ARGS.pack(2, 0, 0, 1, 0, TARGET)
        assert self.tell(self.target, Op.PT_CLEAR, payload, pa=4 * PAGE_SIZE, generation=generation) is Status.OK

    def arrive(self, frame: bytes, source: int = SOURCE) -> bytes | None:
        header = Header.unpack(frame, 14)._replace(src=source)  # stamped by the switch
        return self.target.handle(frame[:14] + header.pack() + frame[wire.FRAME_OVERHEAD :])


@pytest.fixture
def pair() -> Pair:
    return Pair()


def test_all_parts_must_come_and_the_last_one_is_answered(pair: Pair) -> None:
    pair.take()
    assert pair.receive() is None
    assert pair.copy() is None
    assert len(pair.sent) == 3, "two pages, and the outcomes"
    first, *rest = pair.sent
    assert [pair.arrive(f) for f in rest] == [None, None]
    assert pair.target.table.entry(4 * PAGE_SIZE).pid == 0, "nobody's before all is there"
    answer = pair.arrive(first)
    assert answer is not None
    header = Header.unpack(answer, 14)
    assert (header.op, header.status, header.request_id, header.dst) == (Op.RECEIVE | wire.REPLY, Status.OK, 77, 0)
    assert bytes(pair.target.memory[4 * PAGE_SIZE : 6 * PAGE_SIZE]) == bytes([1]) * PAGE_SIZE + bytes([2]) * PAGE_SIZE
    for n in (0, 1):
        entry = pair.target.table.entry((4 + n) * PAGE_SIZE)
        assert (entry.pid, entry.va, entry.permissions, entry.generation) == (PID, VA + n * PAGE_SIZE, Perm.RW, GIVEN)
    assert pair.receive() is Status.OK, "a repetition"
    assert pair.arrive(first) is None


def test_nothing_is_sent_of_pages_that_somebody_has(pair: Pair) -> None:
    assert pair.copy() is None
    pair.take()
    assert pair.copy(generation=TAKEN + 1) is None
    assert pair.sent == []
    pair.copy()
    assert pair.sent


def test_what_was_meant_for_an_earlier_incarnation_is_refused(pair: Pair) -> None:
    pair.take()
    assert pair.copy(incarnation=1) is Status.STALE_GENERATION
    assert pair.receive(incarnation=1) is Status.STALE_GENERATION
    payload = wire.PT_ARGS.pack(2, PID, Perm.RW, 0, 0, 1)
    assert pair.tell(pair.source, Op.PT_SET, payload, pa=PAGE_SIZE, generation=20) is Status.STALE_GENERATION
    assert pair.source.table.entry(PAGE_SIZE).pid == 0
    assert pair.sent == []


def test_parts_from_elsewhere_or_without_being_asked_for_change_nothing(pair: Pair) -> None:
    pair.take()
    pair.copy()
    before = bytes(pair.target.memory)
    assert [pair.arrive(f) for f in pair.sent] == [None] * 3, "before RECEIVE"
    pair.receive()
    assert [pair.arrive(f, source=103) for f in pair.sent] == [None] * 3
    short = pair.sent[0][: wire.FRAME_OVERHEAD + 100]
    assert pair.arrive(short) is None
    assert bytes(pair.target.memory) == before


def test_a_part_that_comes_after_the_pages_were_given_to_somebody_else_changes_nothing(pair: Pair) -> None:
    """The copy was given up, and the target's pages belong to another process by now."""
    pair.take()
    pair.receive()
    pair.copy()
    pair.arrive(pair.sent[0])
    pair.clear_target(GIVEN + 1)
    payload = wire.PT_ARGS.pack(2, 6, Perm.RW, 0, 0, TARGET)
    assert pair.tell(pair.target, Op.PT_SET, payload, pa=4 * PAGE_SIZE, generation=GIVEN + 2, va=6 << 48) is Status.OK
    for frame in pair.sent:
        assert pair.arrive(frame) is None
    assert bytes(pair.target.memory[4 * PAGE_SIZE : 6 * PAGE_SIZE]) == bytes(2 * PAGE_SIZE)
    assert pair.target.table.entry(4 * PAGE_SIZE).pid == 6
    assert pair.receive() is Status.OK, "old news"


@pytest.mark.parametrize("op", [Op.COPY, Op.RECEIVE])
def test_nonsense_is_refused(pair: Pair, op: Op) -> None:
    element = pair.source if op is Op.COPY else pair.target
    assert pair.tell(element, op, b"", pa=PAGE_SIZE, generation=TAKEN) is Status.BAD_REQUEST
    many = (
        wire.COPY_ARGS.pack(PAGES + 1, TARGET, PID, 77, 0, SOURCE)
        if op is Op.COPY
        else wire.RECEIVE_ARGS.pack(PAGES + 1, PID, SOURCE, Perm.RW, 0, TARGET)
    )
    assert pair.tell(element, op, many, generation=TAKEN) is Status.BAD_REQUEST
