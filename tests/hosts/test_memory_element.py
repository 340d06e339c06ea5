"""The memory element alone: the second enforcement (S4), no late write (S2), and effects at most once."""

from __future__ import annotations

import mmap
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hosts.memory import element as element_module
from hosts.memory.__main__ import open_memory
from hosts.memory.dedup import WINDOW
from hosts.memory.element import MemoryElement
from hosts.memory.page_table import PageTable
from protocol import wire
from protocol.wire import PAGE_SIZE, Flag, Header, Op, Perm, Status

ME, PID, VA, GENERATION = 101, 5, 5 << 48, 7
PAGES = 8
CONTROLLER = wire.element_mac(0)


@pytest.fixture
def element() -> MemoryElement:
    made = MemoryElement(ME, memoryview(bytearray(PAGES * PAGE_SIZE)), PageTable(PAGES))
    made.table.adopt(1)
    made.table.set(PAGE_SIZE, 4, VA, PID, Perm.RW, GENERATION)
    return made


def ask(element: MemoryElement, header: Header, payload: bytes = b"", source: int = 1) -> tuple[Header, bytes]:
    frame = wire.element_mac(ME) + wire.element_mac(source) + b"\x88\xb5" + header._replace(dst=ME).pack() + payload
    reply = element.handle(frame)
    assert reply is not None
    assert reply[:12] == wire.element_mac(source) + wire.element_mac(ME)
    return Header.unpack(reply, 14), reply[54:]


def request(op: Op, offset: int = 0, length: int = 8, **changes: int) -> Header:
    base = Header(op, src=1, pid=PID, length=length, generation=GENERATION, va=VA + offset, pa=PAGE_SIZE + offset)
    return base._replace(**changes)


def test_write_then_read(element: MemoryElement) -> None:
    reply, _ = ask(element, request(Op.WRITE, 10, 5, request_id=1), b"hello")
    assert (reply.op, reply.status, reply.dst, reply.flags) == (Op.WRITE | wire.REPLY, Status.OK, 1, 0)
    assert ask(element, request(Op.READ, 8, 8))[1] == b"\0\0hello\0"
    assert bytes(element.memory[PAGE_SIZE + 10 : PAGE_SIZE + 15]) == b"hello"


def test_atomic_operations(element: MemoryElement) -> None:
    assert ask(element, request(Op.FETCH_ADD, request_id=1), (5).to_bytes(8, "big"))[1] == bytes(8)
    assert ask(element, request(Op.FETCH_ADD, request_id=2), ((1 << 64) - 6).to_bytes(8, "big"))[1][-1] == 5
    assert ask(element, request(Op.CAS, request_id=3), wire.CAS_ARGS.pack(1, 9))[1] == b"\xff" * 8  # not swapped
    assert ask(element, request(Op.CAS, request_id=4), wire.CAS_ARGS.pack((1 << 64) - 1, 9))[1] == b"\xff" * 8
    assert ask(element, request(Op.READ))[1] == (9).to_bytes(8, "big")


def test_checksum_of_bytes_where_they_are(element: MemoryElement) -> None:
    ask(element, request(Op.WRITE, 0, 9, request_id=1), b"123456789")
    reply, payload = ask(element, request(Op.CHECKSUM, 0, 9))
    assert (reply.status, int.from_bytes(payload, "big")) == (Status.OK, 0xCBF43926)  # the check value of CRC-32
    assert ask(element, request(Op.CHECKSUM, pid=6))[0].status == Status.PERMISSION


def test_poisoned_pages_fail_until_they_are_healed(element: MemoryElement) -> None:
    poison = Header(Op.POISON, pa=2 * PAGE_SIZE, length=8)
    ask(element, request(Op.WRITE, PAGE_SIZE, 8, request_id=1), b"contents")
    assert ask(element, poison, wire.POISON_ARGS.pack(1, 1), source=0)[0].status == Status.OK
    for op, payload in ((Op.READ, b""), (Op.WRITE, b"x" * 8), (Op.CHECKSUM, b""), (Op.FETCH_ADD, b"\0" * 8)):
        reply, _ = ask(element, request(op, PAGE_SIZE, request_id=9), payload)
        assert (reply.status, reply.flags) == (Status.PAGE_FAILED, Flag.BY_ELEMENT)
        assert ask(element, request(op, 0, request_id=10 + op), payload)[0].status == Status.OK, "another page"
    assert ask(element, poison, wire.POISON_ARGS.pack(1, 0), source=0)[0].status == Status.OK
    assert ask(element, request(Op.READ, PAGE_SIZE))[1] == b"contents"


@pytest.mark.parametrize(
    ("header", "payload", "source", "status"),
    [
        (Header(Op.POISON, pa=PAGE_SIZE), wire.POISON_ARGS.pack(1, 1), 1, Status.PERMISSION),
        (Header(Op.POISON, pa=PAGE_SIZE), wire.POISON_ARGS.pack(PAGES, 1), 0, Status.BAD_REQUEST),
        (Header(Op.POISON, pa=PAGE_SIZE), wire.POISON_ARGS.pack(0, 1), 0, Status.BAD_REQUEST),
        (Header(Op.POISON, pa=PAGE_SIZE), wire.POISON_ARGS.pack(1, 2), 0, Status.BAD_REQUEST),
        (Header(Op.POISON, pa=8), wire.POISON_ARGS.pack(1, 1), 0, Status.BAD_REQUEST),
        (Header(Op.POISON, pa=PAGE_SIZE), b"\1", 0, Status.BAD_REQUEST),
    ],
)
def test_poison_is_for_the_controller(
    element: MemoryElement, header: Header, payload: bytes, source: int, status: Status
) -> None:
    assert ask(element, header, payload, source)[0].status == status
    assert not any(element.table.bad)


@pytest.mark.parametrize(
    ("header", "status"),
    [
        (request(Op.READ, pid=6), Status.PERMISSION),  # another process
        (request(Op.WRITE, pid=6), Status.PERMISSION),
        (request(Op.READ, va=VA + PAGE_SIZE), Status.PERMISSION),  # another virtual page of the same process
        (request(Op.READ, generation=GENERATION - 1), Status.STALE_GENERATION),
        (request(Op.WRITE, generation=0), Status.STALE_GENERATION),
        (request(Op.READ, pa=0), Status.UNMAPPED),  # nobody's page
        (request(Op.READ, pa=PAGES * PAGE_SIZE), Status.UNMAPPED),  # beyond the memory
        (request(Op.READ, pa=(1 << 64) - 8), Status.UNMAPPED),
        (request(Op.READ, pa=PAGE_SIZE + 8), Status.UNMAPPED),  # offsets in the page differ
        (request(Op.READ, 4090), Status.BAD_REQUEST),
        (request(Op.READ, length=0), Status.BAD_REQUEST),
        (request(Op.WRITE, length=9), Status.BAD_REQUEST),  # the frame carries 8 bytes
        (request(Op.CAS, 4), Status.BAD_REQUEST),
        (request(Op.CAS), Status.BAD_REQUEST),  # too few arguments
        (request(Op.HELLO), Status.BAD_REQUEST),
        (request(Op.PT_SET), Status.PERMISSION),  # not from the controller
    ],
)
def test_it_refuses_alone(element: MemoryElement, header: Header, status: Status) -> None:
    """S4: whatever the switch let through."""
    before = bytes(element.memory)
    reply, payload = ask(element, header, b"12345678")
    assert (reply.status, reply.flags, payload) == (status, Flag.BY_ELEMENT, b"")
    assert bytes(element.memory) == before


def test_permissions(element: MemoryElement) -> None:
    element.table.set(PAGE_SIZE, 1, VA, PID, Perm.READ, GENERATION + 1)
    assert ask(element, request(Op.READ, generation=GENERATION + 1))[0].status == Status.OK
    for op in (Op.WRITE, Op.CAS, Op.FETCH_ADD):
        reply, _ = ask(element, request(op, generation=GENERATION + 1), bytes(16))
        assert reply.status == Status.PERMISSION


def test_poisoned_page(element: MemoryElement) -> None:
    element.table.bad[1] = 1
    assert ask(element, request(Op.READ))[0].status == Status.PAGE_FAILED


def change(
    op: Op, pages: int, generation: int, pa: int = PAGE_SIZE, pid: int = 9, zero: int = 0
) -> tuple[Header, bytes]:
    header = Header(op, va=9 << 48, pa=pa, generation=generation, request_id=generation)
    return header, wire.PT_ARGS.pack(pages, pid, Perm.RW, zero, 1, 0)


def test_no_write_from_before_a_page_table_change(element: MemoryElement) -> None:
    """S2, at the element: a write that the switch let through earlier arrives late."""
    late = request(Op.WRITE, request_id=1)
    header, payload = change(Op.PT_CLEAR, 1, GENERATION + 1)
    assert ask(element, header, payload, source=0)[0].status == Status.OK
    assert ask(element, late, b"too late")[0].status == Status.STALE_GENERATION
    header, payload = change(Op.PT_SET, 1, GENERATION + 2)
    assert ask(element, header, payload, source=0)[0].status == Status.OK
    assert ask(element, late, b"too late")[0].status == Status.STALE_GENERATION
    assert bytes(element.memory[PAGE_SIZE : PAGE_SIZE + 8]) == bytes(8)


def test_page_table_changes_are_idempotent_and_never_go_back(element: MemoryElement) -> None:
    set_, set_payload = change(Op.PT_SET, 2, GENERATION + 2)
    clear, clear_payload = change(Op.PT_CLEAR, 2, GENERATION + 1)
    assert ask(element, set_, set_payload, 0)[0].status == Status.OK
    assert ask(element, clear, clear_payload, 0)[0].status == Status.OK  # acknowledged, and ignored
    assert element.table.entry(PAGE_SIZE).pid == 9


def test_a_change_takes_effect_where_it_is_news(element: MemoryElement) -> None:
    """A change of many pages is lost; newer ones of some of them overtake it before it is repeated."""
    newer, newer_payload = change(Op.PT_SET, 1, GENERATION + 2, pa=2 * PAGE_SIZE)
    older, older_payload = change(Op.PT_CLEAR, 4, GENERATION + 1, zero=1)
    assert ask(element, newer, newer_payload, 0)[0].status == Status.OK
    element.memory[PAGE_SIZE : 5 * PAGE_SIZE] = b"x" * (4 * PAGE_SIZE)
    assert ask(element, older, older_payload, 0)[0].status == Status.OK
    assert [element.table.entry(n * PAGE_SIZE).pid for n in range(1, 5)] == [0, 9, 0, 0]
    assert [element.memory[n * PAGE_SIZE] for n in range(1, 5)] == [0, ord("x"), 0, 0]
    set_, set_payload = change(Op.PT_SET, 4, GENERATION + 1)  # as old as the clear: not news
    assert ask(element, set_, set_payload, 0)[0].status == Status.OK
    assert [element.table.entry(n * PAGE_SIZE).pid for n in range(1, 5)] == [0, 9, 0, 0]


@given(st.permutations(range(6)), st.lists(st.integers(0, 5), max_size=6), st.integers(0, 1 << 20))
def test_the_newest_change_of_a_page_wins_in_any_order(order: list[int], again: list[int], seed: int) -> None:
    rng = random.Random(seed)
    changes = []
    for number in range(6):
        first = rng.randrange(PAGES)
        pages, op = rng.randint(1, PAGES - first), rng.choice((Op.PT_SET, Op.PT_CLEAR))
        header, payload = change(op, pages, GENERATION + number, first * PAGE_SIZE, pid=10 + number)
        changes.append((header._replace(va=(9 << 48) + first * PAGE_SIZE), payload))
    tables = []
    for numbers in (range(6), [*order, *again]):
        element = MemoryElement(ME, memoryview(bytearray(PAGES * PAGE_SIZE)), PageTable(PAGES))
        for number in numbers:
            assert ask(element, *changes[number], source=0)[0].status == Status.OK
        tables.append([element.table.entry(n * PAGE_SIZE) for n in range(PAGES)])
    assert tables[0] == tables[1]


def test_a_new_epoch_knows_no_owner(element: MemoryElement) -> None:
    """The controller lost its store and counts generations from 1 again."""
    header, _ = change(Op.PT_SET, 1, 1, pa=6 * PAGE_SIZE)
    for epoch, status in ((3, Status.OK), (2, Status.STALE_GENERATION), (3, Status.OK)):
        payload = wire.PT_ARGS.pack(1, 9, Perm.RW, 0, epoch, 0)
        assert ask(element, header, payload, 0)[0].status == status
    assert ask(element, request(Op.READ))[0].status == Status.UNMAPPED
    assert element.table.entry(6 * PAGE_SIZE).pid == 9


def test_what_was_meant_for_an_earlier_incarnation_is_refused() -> None:
    element = MemoryElement(ME, memoryview(bytearray(PAGES * PAGE_SIZE)), PageTable(PAGES), incarnation=(1 << 40) + 5)
    header, _ = change(Op.PT_SET, 1, GENERATION)
    for incarnation, status in ((4, Status.STALE_GENERATION), (5, Status.OK)):
        payload = wire.PT_ARGS.pack(1, 9, Perm.RW, 0, 1, incarnation)
        assert ask(element, header, payload, 0)[0].status == status


def test_barrier(element: MemoryElement) -> None:
    assert ask(element, Header(Op.BARRIER, request_id=3), source=0)[0].status == Status.OK
    assert ask(element, Header(Op.BARRIER, request_id=3), source=1)[0].status == Status.PERMISSION


def test_zeroing_and_bad_ranges(element: MemoryElement) -> None:
    element.memory[PAGE_SIZE : PAGE_SIZE + 4] = b"abcd"
    header, payload = change(Op.PT_SET, 1, GENERATION + 1, zero=1)
    assert ask(element, header, payload, 0)[0].status == Status.OK
    assert bytes(element.memory[PAGE_SIZE : PAGE_SIZE + 4]) == bytes(4)
    for pages, pa in ((0, 0), (PAGES + 1, 0), (1, 5), (2, (PAGES - 1) * PAGE_SIZE)):
        header, payload = change(Op.PT_SET, pages, GENERATION + 9, pa)
        assert ask(element, header, payload, 0)[0].status == Status.BAD_REQUEST
    header, _ = change(Op.PT_SET, 1, GENERATION + 9)
    assert ask(element, header, b"short", 0)[0].status == Status.BAD_REQUEST


@given(st.binary(max_size=120))
def test_any_bytes(data: bytes) -> None:
    element = MemoryElement(ME, memoryview(bytearray(PAGE_SIZE)), PageTable(1))
    for prefix in (b"", bytes(12) + b"\x88\xb5", bytes(12) + b"\x88\xb5\x01"):
        reply = element.handle(prefix + data)
        assert reply is None or len(reply) >= wire.FRAME_OVERHEAD
    assert bytes(element.memory) == bytes(PAGE_SIZE)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 1 << 30))
def test_effects_happen_at_most_once(seed: int) -> None:
    """Requests are lost, duplicated and reordered; the counter ends at the number of distinct ones that got through."""
    rng = random.Random(seed)
    element = MemoryElement(ME, memoryview(bytearray(PAGES * PAGE_SIZE)), PageTable(PAGES))
    element.table.set(PAGE_SIZE, 1, VA, PID, Perm.RW, GENERATION)
    first: dict[int, bytes] = {}
    flying: list[int] = []
    for number in range(1, 60):
        flying += [number] * rng.choice((1, 1, 2, 3))
        rng.shuffle(flying)
        for _ in range(rng.randrange(3)):
            if flying:
                done = flying.pop()
                _, old = ask(element, request(Op.FETCH_ADD, request_id=done), (1).to_bytes(8, "big"))
                assert first.setdefault(done, old) == old, "a repetition got another answer"
    total = int.from_bytes(ask(element, request(Op.READ))[1], "big")
    assert total == len(first)
    assert sorted(int.from_bytes(v, "big") for v in first.values()) == list(range(len(first)))


def test_a_late_duplicate_does_not_undo_a_later_write(element: MemoryElement) -> None:
    """S3."""
    ask(element, request(Op.WRITE, request_id=1), b"first   ")
    ask(element, request(Op.WRITE, request_id=2), b"second  ")
    assert ask(element, request(Op.WRITE, request_id=1), b"first   ")[0].status == Status.OK
    assert ask(element, request(Op.READ))[1] == b"second  "


def test_what_was_forgotten_is_refused(element: MemoryElement) -> None:
    for number in range(1, WINDOW + 10):
        ask(element, request(Op.FETCH_ADD, request_id=number), (1).to_bytes(8, "big"))
    reply, _ = ask(element, request(Op.FETCH_ADD, request_id=3), (1).to_bytes(8, "big"))
    assert reply.status == Status.BAD_REQUEST
    assert int.from_bytes(ask(element, request(Op.READ))[1], "big") == WINDOW + 9


@pytest.mark.parametrize("nvm", [False, True])
def test_large_ranges_are_zeroed_and_nothing_else(nvm: bool, tmp_path: Path) -> None:
    pages = 1024
    memory = open_memory(pages, tmp_path / "nvm" if nvm else None)
    memory[:] = b"\xab" * (pages * PAGE_SIZE)
    element = MemoryElement(ME, memoryview(memory), PageTable(pages))
    start, count = 100, 700
    arguments = wire.PT_ARGS.pack(count, PID, Perm.RW, 1, 1, 0)
    header = Header(Op.PT_SET, va=VA, pa=start * PAGE_SIZE, generation=5, length=len(arguments), request_id=1)
    reply, _ = ask(element, header, arguments, source=0)
    assert reply.status == Status.OK
    first, end = start * PAGE_SIZE, (start + count) * PAGE_SIZE
    assert not any(memory[first:end])
    assert memory[:first] == b"\xab" * first
    assert memory[end:] == b"\xab" * (pages * PAGE_SIZE - end)
    assert not any(open_memory(pages, tmp_path / "nvm")[first:end]) if nvm else True


def test_large_ranges_are_given_back_by_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """One call for a gigabyte would hold the interpreter's lock for some 0.3 s, and heartbeats with it."""
    asked: list[tuple[int, int]] = []

    class Watched(mmap.mmap):
        def madvise(self, option: int, start: int = 0, length: int = 0) -> None:
            asked.append((start, length))
            super().madvise(option, start, length)

    monkeypatch.setattr(element_module, "GIVEN_BACK_AT_ONCE", 1 << 20)
    pages = 1024
    memory = Watched(-1, pages * PAGE_SIZE)
    memory[:] = b"\xab" * (pages * PAGE_SIZE)
    element = MemoryElement(ME, memoryview(memory), PageTable(pages))
    arguments = wire.PT_ARGS.pack(700, PID, Perm.RW, 1, 1, 0)
    ask(element, Header(Op.PT_SET, va=VA, pa=PAGE_SIZE, generation=5, length=len(arguments)), arguments, source=0)
    assert asked == [(PAGE_SIZE + n, min(1 << 20, 700 * PAGE_SIZE - n)) for n in range(0, 700 * PAGE_SIZE, 1 << 20)]
    assert not any(memory[PAGE_SIZE : 701 * PAGE_SIZE])
