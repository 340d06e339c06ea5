"""An NVM element that dies at any instruction and starts again: what it did is done once, and wholly."""

from __future__ import annotations

from pathlib import Path

import pytest

from hosts.memory.dedup import WINDOW
from hosts.memory.durable import Durable, DurableError
from hosts.memory.element import MemoryElement
from hosts.memory.page_table import PageTable
from protocol import wire
from protocol.wire import PAGE_SIZE, Header, Op, Perm, Status

PAGES = 8
VA = 7 << 48


class Killed(Exception):
    """The element dies here."""


class Element:
    """An element over files, started again and again; ``die_at`` steps (0 to 4) into an effect it is killed."""

    def __init__(self, path: Path):
        self.path = path
        self.memory = memoryview(bytearray(PAGES * PAGE_SIZE))  # as a mapped file keeps it
        self.start()

    def start(self) -> None:
        self.durable = Durable(self.path, PAGES)
        self.element = MemoryElement(101, self.memory, PageTable(PAGES), 5, self.durable)
        self.element.table.adopt(1)
        self.element.table.set(0, PAGES, VA, 7, Perm.RW, 3)

    def restart(self) -> None:
        self.start()  # what is mapped stays as it was at the end

    def ask(self, op: Op, va: int, request_id: int, payload: bytes, length: int = 8) -> tuple[Status, bytes]:
        header = Header(op, dst=101, pid=7, length=length, generation=3, va=va, pa=va - VA, request_id=request_id)
        reply = self.element.handle(bytes(12) + b"\x88\xb5" + header.pack() + payload)
        assert reply is not None
        return Status(reply[17]), reply[wire.FRAME_OVERHEAD :]

    def word(self, va: int) -> int:
        return int.from_bytes(self.memory[va - VA : va - VA + 8], "big")


@pytest.fixture
def element(tmp_path: Path) -> Element:
    return Element(tmp_path / "n1.state")


def kill_at(element: Element, monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Die before the intent is whole, after it, half way through the bytes, before the outcome, before the end is noted."""
    durable, real = element.durable, element.durable.intend

    def intend(pid: int, request_id: int, pa: int, data: bytes, reply: bytes) -> None:
        if step == 0:
            durable._file[PAGE_SIZE : PAGE_SIZE + len(data)] = data
            raise Killed
        real(pid, request_id, pa, data, reply)
        if step == 2:
            element.memory[pa : pa + len(data) // 2] = data[: len(data) // 2]
        if step in (3, 4):
            element.memory[pa : pa + len(data)] = data
        if step == 4:
            element.element.outcomes[pid].remember(request_id, reply)
        raise Killed

    monkeypatch.setattr(durable, "intend", intend)


@pytest.mark.parametrize("step", range(5))
@pytest.mark.parametrize(
    ("op", "payload", "expected"),
    [
        (Op.WRITE, wire.WORD.pack(0x1122334455667788), 0x1122334455667788),
        (Op.FETCH_ADD, wire.WORD.pack(1 << 40), (1 << 40) + 5),
        (Op.CAS, wire.CAS_ARGS.pack(5, 77), 77),
        (Op.CAS, wire.CAS_ARGS.pack(6, 77), 5),
    ],
)
def test_killed_at_every_step_of_an_effect(
    element: Element, monkeypatch: pytest.MonkeyPatch, step: int, op: Op, payload: bytes, expected: int
) -> None:
    assert element.ask(Op.WRITE, VA + 16, 100, wire.WORD.pack(5))[0] is Status.OK
    kill_at(element, monkeypatch, step)
    with pytest.raises(Killed):
        element.ask(op, VA + 16, 101, payload)
    element.restart()
    assert element.word(VA + 16) == (5 if step == 0 else expected), "undone or done, nothing between"
    status, reply = element.ask(op, VA + 16, 101, payload)
    assert status is Status.OK
    assert element.word(VA + 16) == expected, "once"
    assert reply == (b"" if op is Op.WRITE else wire.WORD.pack(5))
    assert element.ask(Op.WRITE, VA + 16, 102, wire.WORD.pack(9))[0] is Status.OK
    assert element.ask(op, VA + 16, 101, payload) == (Status.OK, reply)
    assert element.word(VA + 16) == 9, "a copy that comes late undoes nothing"


def test_a_page_is_written_wholly(element: Element, monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = b"o" * PAGE_SIZE, b"n" * PAGE_SIZE
    element.ask(Op.WRITE, VA + PAGE_SIZE, 1, old, PAGE_SIZE)
    kill_at(element, monkeypatch, 2)
    with pytest.raises(Killed):
        element.ask(Op.WRITE, VA + PAGE_SIZE, 2, new, PAGE_SIZE)
    assert bytes(element.memory[PAGE_SIZE : 2 * PAGE_SIZE]) not in (old, new)
    element.restart()
    assert bytes(element.memory[PAGE_SIZE : 2 * PAGE_SIZE]) == new


def test_outcomes_are_forgotten_in_order_also_across_restarts(element: Element) -> None:
    for number in range(WINDOW + 10):
        assert element.ask(Op.FETCH_ADD, VA, number, wire.WORD.pack(1))[0] is Status.OK
        if number % 300 == 0:
            element.restart()
    element.restart()
    assert element.word(VA) == WINDOW + 10
    assert element.ask(Op.FETCH_ADD, VA, 9, wire.WORD.pack(1))[0] is Status.BAD_REQUEST, "nobody can tell any more"
    assert element.ask(Op.FETCH_ADD, VA, 10, wire.WORD.pack(1)) == (Status.OK, wire.WORD.pack(10))
    assert element.word(VA) == WINDOW + 10


def test_bad_pages_stay_bad(element: Element) -> None:
    element.element.table.bad[3:4] = b"\1"
    element.restart()
    assert element.ask(Op.READ, VA + 3 * PAGE_SIZE, 1, b"")[0] is Status.PAGE_FAILED
    assert element.ask(Op.READ, VA + 4 * PAGE_SIZE, 2, b"")[0] is Status.OK


def test_a_file_of_another_element_is_refused(tmp_path: Path) -> None:
    Durable(tmp_path / "state", 16)
    with pytest.raises(DurableError, match="not of an element of 8 pages"):
        Durable(tmp_path / "state", 8)


def test_an_element_that_was_told_nothing_says_that_it_failed() -> None:
    fresh = MemoryElement(101, memoryview(bytearray(PAGE_SIZE)), PageTable(1), 1)
    header = Header(Op.READ, dst=101, pid=7, length=8, generation=3, va=VA, request_id=1)
    reply = fresh.handle(bytes(12) + b"\x88\xb5" + header.pack())
    assert reply is not None
    assert reply[17] == Status.ELEMENT_FAILED
