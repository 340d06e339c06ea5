"""Ends and faults of the agents themselves: closed processes, callbacks that raise, a controller away when a process dies."""

from __future__ import annotations

import json
import queue
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from hosts import errors
from hosts.local_os import REPORTS, LocalOs
from hosts.memory.element import MemoryElement
from hosts.memory.page_table import PageTable
from hosts.notices import Notice
from hosts.process import Process
from hosts.requester import Requester, RetryPolicy
from protocol import wire
from protocol.rack import Element
from protocol.wire import PAGE_SIZE, Header, NotifyCode, Op, Perm, Status
from tests.hosts.wires import Inbox

QUICK = RetryPolicy(first=0.005, longest=0.01, budget=1.0)


class ScriptedWire(Inbox):
    """A link whose far end is a function from request to reply frames."""

    def __init__(self, answer: Callable[[Header, bytes], list[bytes]]):
        super().__init__()
        self.answer = answer

    def send(self, frame: bytes) -> None:
        for reply in self.answer(Header.unpack(frame, 14), frame[54:]):
            self.replies.put(reply)


def reply_to(header: Header, payload: bytes = b"", **changes: int) -> bytes:
    return bytes(14) + header._replace(**{"op": header.op | wire.REPLY, "status": 0} | changes).pack() + payload


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_padded_reply_is_cut_to_what_was_asked() -> None:
    p = Process(5, 1, ScriptedWire(lambda header, _: [reply_to(header, b"ab" + bytes(4))]), None, QUICK)
    assert p.read(5 << 48, 2) == b"ab"
    p.close()


def test_a_truncated_reply_is_not_taken_for_data() -> None:
    sent: list[Header] = []

    def answer(header: Header, _: bytes) -> list[bytes]:
        sent.append(header)
        return [reply_to(header, b"ab" if len(sent) == 1 else b"abcdefgh")]

    p = Process(5, 1, ScriptedWire(answer), None, QUICK)
    assert p.read(5 << 48, 8) == b"abcdefgh"
    assert p.requester.traffic.truncated == 1
    assert [h.flags for h in sent] == [0, wire.Flag.RETRY]
    p.close()


def test_busy_is_tried_again() -> None:
    sent: list[Header] = []

    def answer(header: Header, _: bytes) -> list[bytes]:
        sent.append(header)
        if len(sent) < 4:
            return [reply_to(header, status=Status.BUSY, flags=wire.Flag.BY_SWITCH)]
        return [reply_to(header, bytes(8))]

    p = Process(5, 1, ScriptedWire(answer), None, QUICK)
    assert p.fetch_add(5 << 48, 1) == 0
    assert len({h.request_id for h in sent}) == 1
    p.close()


def test_busy_to_the_end_is_typed() -> None:
    link = ScriptedWire(lambda header, _: [reply_to(header, status=Status.BUSY, flags=wire.Flag.BY_SWITCH)])
    p = Process(5, 1, link, None, QUICK)
    with pytest.raises(errors.Busy):
        p.read(5 << 48, 8)
    p.close()


def test_a_closed_requester_does_not_hang() -> None:
    requester = Requester(ScriptedWire(lambda header, _: []), 1, 5, RetryPolicy(budget=60))
    caught: list[Exception] = []

    def ask() -> None:
        with pytest.raises(errors.RequestTimeout) as error:
            requester.request(Header(Op.READ, va=5 << 48, length=8))
        caught.append(error.value)

    waiting = threading.Thread(target=ask, daemon=True)
    waiting.start()
    wait_for(lambda: requester.traffic.requests)
    requester.close()
    waiting.join(60)
    ask()
    assert len(caught) == 2
    assert "closed" in str(caught[1])


def test_a_callback_that_raises_costs_no_later_notice() -> None:
    ours, theirs = socket.socketpair()
    p = Process(5, 1, ScriptedWire(lambda header, _: []), ours, QUICK)
    seen: list[Notice] = []

    def fail(notice: Notice) -> None:
        raise ValueError(notice)

    p.on_failure(fail)
    p.on_failure(seen.append)
    for code in (NotifyCode.REVOKED, 99, NotifyCode.FENCED):
        theirs.sendall(json.dumps({"code": code, "about": 1, "va": 5 << 48, "pages": 2}).encode() + b"\n")
    wait_for(lambda: len(seen) == 2)
    assert [n.code for n in seen] == [NotifyCode.REVOKED, NotifyCode.FENCED]
    theirs.close()
    p.close()
    p.close()


def test_the_end_of_a_process_is_reported_when_the_controller_is_back(tmp_path: Path) -> None:
    present = threading.Event()
    present.set()
    exits: list[int] = []

    def answer(header: Header, _: bytes) -> list[bytes]:
        if not present.is_set():
            return []
        if header.op == Op.PROCESS_EXIT:
            exits.append(header.va)
        return [reply_to(header, va=77)]

    element = Element(name="c1", id=1, kind="compute", port=1)
    local_os = LocalOs(element, "nowhere", ScriptedWire(answer), tmp_path, QUICK)
    local_os.start()
    with socket.socket(socket.AF_UNIX) as process:
        process.connect(str(local_os.path))
        process.sendall(b'{"create": "kv"}\n')
        assert json.loads(process.makefile("rb").readline()) == {"pid": 77, "element": 1, "interface": "nowhere"}
        present.clear()
        process.shutdown(socket.SHUT_RDWR)
    time.sleep(3 * QUICK.budget)
    assert exits == []
    present.set()
    wait_for(lambda: exits == [77])
    local_os.close()


def test_a_thousand_that_end_together_leave_room_for_one_that_begins(tmp_path: Path) -> None:
    """They are reported a few at a time: the controller, slow here, has no queue of them that others must wait behind."""
    pids = iter(range(10, 2000))
    waiting: queue.Queue[Header] = queue.Queue()
    ended: set[int] = set()
    most = 0

    def answer(header: Header, _: bytes) -> list[bytes]:
        nonlocal most
        if header.op == Op.PROCESS_CREATE:
            return [reply_to(header, va=next(pids))]
        if header.op == Op.PROCESS_EXIT:
            waiting.put(header)
            most = max(most, waiting.qsize())
        return []

    link = ScriptedWire(answer)
    element = Element(name="c1", id=1, kind="compute", port=1)
    local_os = LocalOs(element, "nowhere", link, tmp_path, RetryPolicy(first=5, longest=5, budget=20))
    local_os._settled.set()
    local_os.start()
    processes = [socket.socket(socket.AF_UNIX) for _ in range(200)]
    for process in processes:
        process.connect(str(local_os.path))
        process.sendall(b'{"create": "kv"}\n')
        assert "pid" in json.loads(process.makefile("rb").readline())
    for process in processes:
        process.shutdown(socket.SHUT_RDWR)
    while len(ended) < len(processes):
        header = waiting.get(timeout=30)
        ended.add(header.va)
        time.sleep(0.001)
        link.replies.put(reply_to(header))
    assert most <= REPORTS
    local_os.close()
    for process in processes:
        process.close()


def test_a_process_that_does_not_read_holds_up_nobody(tmp_path: Path) -> None:
    """Thousands of notices to a stopped process: all are acknowledged, and the local OS still creates processes."""
    acknowledged: set[int] = set()

    def answer(header: Header, _: bytes) -> list[bytes]:
        if header.op == Op.NOTIFY | wire.REPLY:
            acknowledged.add(header.request_id)
            return []
        return [reply_to(header, va=77)]

    link = ScriptedWire(answer)
    local_os = LocalOs(Element(name="c1", id=1, kind="compute", port=1), "nowhere", link, tmp_path, QUICK)
    local_os.start()
    stopped, other = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)
    stopped.connect(str(local_os.path))
    stopped.sendall(b'{"create": "stopped"}\n')
    wait_for(lambda: 77 in local_os._processes)
    payload = wire.NOTIFY_ARGS.pack(NotifyCode.REVOKED, 0, 101, 0, 77 << 48, 1)
    for number in range(4000):
        link.replies.put(bytes(14) + Header(Op.NOTIFY, pid=77, request_id=number, length=len(payload)).pack() + payload)
    wait_for(lambda: len(acknowledged) == 4000)
    other.settimeout(60)
    other.connect(str(local_os.path))
    other.sendall(b'{"create": "other"}\n')
    assert other.recv(1000)
    for end in (stopped, other):
        end.close()
    local_os.close()


def test_zeroing_a_large_range_is_exact() -> None:
    pages = 600  # more than two pieces of 256 pages
    memory = bytearray(b"\xff" * pages * PAGE_SIZE)
    element = MemoryElement(101, memoryview(memory), PageTable(pages))
    header = Header(Op.PT_SET, dst=101, va=9 << 48, pa=PAGE_SIZE, generation=1, request_id=1)
    payload = wire.PT_ARGS.pack(pages - 2, 9, Perm.RW, 1, 0, 0)
    frame = wire.element_mac(101) + wire.element_mac(0) + b"\x88\xb5" + header.pack() + payload
    reply = element.handle(frame)
    assert reply is not None
    assert Header.unpack(reply, 14).status == Status.OK
    assert memory[:PAGE_SIZE] == memory[-PAGE_SIZE:] == b"\xff" * PAGE_SIZE
    assert not any(memory[PAGE_SIZE:-PAGE_SIZE])
