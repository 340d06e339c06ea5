"""The cache of translations, and processes that use one over a switch that is the tests' model of it."""

from __future__ import annotations

import itertools
import random
import threading
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hosts import errors
from hosts.memory.element import MemoryElement
from hosts.memory.page_table import PageTable
from hosts.notices import Notice
from hosts.process import Process
from hosts.requester import RetryPolicy
from hosts.translations import Translation, Translations, marked, of_page, unmarked
from protocol import wire
from protocol.wire import PAGE_SIZE, Flag, Header, NotifyCode, Op, Perm, Status
from tests.hosts.wires import Inbox
from tests.p4src.model import COMPUTE, CPU_PORT, MEMORY, Rack, decide

PID, VA, PAGES = 5, 5 << 48, 64
M1, M2 = 101, 102
QUICK = RetryPolicy(first=0.02, longest=0.05, budget=20.0)
PATIENT = RetryPolicy(first=20.0, longest=20.0, budget=30.0)  # repeats nothing, however slow the machine is

pages = st.integers(0, 30)


@given(
    st.lists(
        st.tuples(
            st.booleans(), pages, st.integers(1, 8), st.sampled_from((M1, M2)), st.integers(0, 3), st.integers(0, 5)
        )
    )
)
def test_it_holds_what_was_learnt_and_not_invalidated(
    history: list[tuple[bool, int, int, int, int, int]],
) -> None:
    """Against a dictionary of pages: newer generations replace older ones, never the other way round."""
    cache, model = Translations(), dict[int, tuple[int, int, int]]()
    for learn, first, count, element, base, generation in history:
        covered = range(first, first + count)
        if not learn:
            cache.invalidate(VA + first * PAGE_SIZE, count * PAGE_SIZE)
            for page in covered:
                model.pop(page, None)
            continue
        pa = (base * 100 + first) * PAGE_SIZE
        cache.learn(Translation(VA + first * PAGE_SIZE, count * PAGE_SIZE, element, pa, generation))
        if all(model.get(page, (0, 0, -1))[2] <= generation for page in covered):
            model.update({p: (element, pa + (p - first) * PAGE_SIZE, generation) for p in covered})
        for page in range(40):
            found = cache.find(VA + page * PAGE_SIZE + 17)
            expected = model.get(page)
            assert (found is None) == (expected is None)
            if found is not None and expected is not None:
                offset = VA + page * PAGE_SIZE - found.va
                assert (found.element, found.pa + offset, found.generation) == expected
    ranges = cache.ranges()
    assert all(a.end <= b.va for a, b in itertools.pairwise(ranges))
    assert sum(r.size for r in ranges) == len(model) * PAGE_SIZE


def test_neighbours_become_one_range_and_the_first_learnt_goes_first() -> None:
    cache = Translations(capacity=2)
    for page in (0, 2, 1, 3):
        cache.learn(Translation(VA + page * PAGE_SIZE, PAGE_SIZE, M1, page * PAGE_SIZE, 1))
    assert cache.ranges() == [Translation(VA, 4 * PAGE_SIZE, M1, 0, 1)]
    for page in (10, 12):
        cache.learn(Translation(VA + page * PAGE_SIZE, PAGE_SIZE, M1, page * PAGE_SIZE, 1))
    assert [r.va for r in cache.ranges()] == [VA + 10 * PAGE_SIZE, VA + 12 * PAGE_SIZE]
    with pytest.raises(ValueError, match="0 translations"):
        Translations(0)
    with pytest.raises(ValueError, match="whole pages"):
        cache.learn(Translation(VA + 1, PAGE_SIZE, M1, 0, 1))


def test_requests_are_marked_and_unmarked() -> None:
    header = Header(Op.READ, flags=Flag.RETRY, pid=PID, length=8, va=VA + PAGE_SIZE + 24, request_id=3, status=2)
    carried = marked(header, Translation(VA, 4 * PAGE_SIZE, M1, 0x10000, 9))
    assert (carried.dst, carried.pa, carried.generation) == (M1, 0x11000 + 24, 9)
    assert carried.flags == Flag.RETRY | Flag.CACHED
    assert unmarked(carried) == header
    assert of_page(carried._replace(src=M1)) == Translation(VA + PAGE_SIZE, PAGE_SIZE, M1, 0x11000, 9)
    assert of_page(carried._replace(pa=8)) is None, "made up by a hostile element"


class ModelRack(Inbox):
    """A link to a switch as the model has it, two memory elements, and of the controller what answers TRANSLATE."""

    def __init__(self, resident: bool) -> None:
        super().__init__()
        self.tables = Rack(ports={1: (1, COMPUTE, False), 4: (M1, MEMORY, False), 5: (M2, MEMORY, False)})
        self.tables.bindings = {(1, PID)}
        self.tables.alive, self.tables.routes = {M1: 4, M2: 5}, {1: 1}
        self.elements = {
            number: MemoryElement(number, memoryview(bytearray(PAGES * PAGE_SIZE)), PageTable(PAGES))
            for number in (M1, M2)
        }
        for element in self.elements.values():
            element.table.adopt(1)
        self.resident = resident
        self.element, self.generation = M1, 1
        self.forwarded: list[tuple[Header, Status]] = []  # requests that reached an element, and what it said
        self.refused: list[tuple[Header, Status]] = []  # by the switch
        self.asked: list[int] = []
        self.controller: Callable[[Header], tuple[Status, bytes]] = self.translation
        self.lose_reply: Callable[[Header], bool] = lambda header: False
        self.lock = threading.Lock()
        self.place(M1)

    def place(self, element: int, pid: int = PID) -> None:
        """The pages of VA are in this element now, with their contents, and belong to this process."""
        with self.lock:
            old, self.generation = self.element, self.generation + 2
            self.elements[old].table.clear(0, PAGES, self.generation - 1)
            if element != old:
                self.elements[element].memory[:] = self.elements[old].memory
                self.elements[element].import_outcomes(PID, self.elements[old].export_outcomes(PID))
            self.elements[element].table.set(0, PAGES, VA, pid, Perm.RW, self.generation)
            self.element = element
            self.tables.protections = {(pid, VA, 46): (3, self.generation)}
            self.tables.translations = {(VA, 46): (element, -VA % (1 << 64))} if self.resident else {}

    def translation(self, asked: Header) -> tuple[Status, bytes]:
        page = (asked.va - VA) // PAGE_SIZE
        if not 0 <= page < PAGES:
            return Status.NOT_FOUND, b""
        if (PID, VA, 46) not in self.tables.protections:
            return Status.PERMISSION, b""
        run = 16 - page % 16  # as if every 16 pages were a block of their own
        return Status.OK, wire.TRANSLATE_REPLY.pack(run, page * PAGE_SIZE, self.generation, self.element, 3)

    def send(self, frame: bytes) -> None:
        with self.lock:
            sent = Header.unpack(frame, 14)
            decision = decide(self.tables, 1, frame)
            if decision.port == CPU_PORT:
                self.asked.append(sent.va)
                status, payload = self.controller(sent)
                flags = 0 if status is Status.OK else Flag.BY_CONTROLLER
                answer = sent._replace(op=sent.op | wire.REPLY, status=status, flags=flags, va=sent.va & -PAGE_SIZE)
                self.replies.put(bytes(14) + answer.pack() + payload)
            elif decision.port == 1:
                self.refused.append((sent, Status(Header.unpack(decision.frame, 14).status)))
                self.replies.put(decision.frame)
            else:
                header = Header.unpack(decision.frame, 14)
                reply = self.elements[header.dst].handle(decision.frame)
                assert reply is not None
                self.forwarded.append((header, Status(Header.unpack(reply, 14).status)))
                if not self.lose_reply(header):
                    self.replies.put(decide(self.tables, self.tables.alive[header.dst], reply).frame)


def process(resident: bool, policy: RetryPolicy = QUICK) -> tuple[Process, ModelRack]:
    link = ModelRack(resident)
    return Process(PID, 1, link, None, policy, Translations()), link


def test_what_replies_tell_is_used_from_then_on() -> None:
    p, link = process(resident=True, policy=PATIENT)
    for _ in range(10):
        p.write(VA + 8, b"contents")
        assert p.read(VA + 8, 8) == b"contents"
    assert [bool(h.flags & Flag.CACHED) for h, _ in link.forwarded] == [False] + [True] * 19
    figures = p.statistics()
    assert (figures["translation hits"], figures["translation misses"], figures["translation stale"]) == (19, 1, 0)
    assert link.asked == []
    p.close()


@pytest.mark.parametrize("resident", [True, False])
def test_memory_moves_under_a_process_that_is_not_told(resident: bool) -> None:
    """No access by the old translation is carried out; each is refused, asked again, and succeeds within its call."""
    p, link = process(resident)
    data = random.Random(1).randbytes(40 * PAGE_SIZE)
    p.write(VA, data)
    stale = link.generation
    link.place(M2)
    link.forwarded.clear()
    p.write(VA + 100, b"after")
    expected = data[:100] + b"after" + data[105:]
    assert p.read(VA, len(expected)) == expected
    assert all(h.dst == M2 for h, _ in link.forwarded)
    assert {s for h, s in link.refused if h.flags & Flag.CACHED and h.generation == stale} == {Status.STALE_GENERATION}
    assert p.statistics()["translation stale"] >= 1
    assert p.statistics()["refusals"] == p.statistics()["timeouts"] == 0
    p.close()


def test_the_controller_is_asked_where_the_switch_has_no_translation() -> None:
    # Nothing is repeated: a late refusal of a repetition would be taken for one of the translation, and be asked about again.
    p, link = process(resident=False, policy=PATIENT)
    data = random.Random(2).randbytes(PAGES * PAGE_SIZE)
    p.write(VA, data)
    assert p.read(VA, len(data)) == data
    assert len(set(link.asked)) <= PAGES // 16, "once a block, however many requests wait"
    assert p.statistics()["translation asked"] == len(link.asked)
    p.close()


def test_typed_errors_are_the_same_with_a_cache() -> None:
    p, link = process(resident=False)
    with pytest.raises(errors.Unmapped) as unmapped:
        p.read(VA + PAGES * PAGE_SIZE, 8)
    assert unmapped.value.by == "switch"
    p.write(VA, b"mine")
    link.place(M1, pid=6)
    with pytest.raises(errors.PermissionDenied) as cached:
        p.write(VA, b"gone")
    assert cached.value.by == "switch"
    assert p.translations is not None
    p.translations.invalidate(VA, PAGES * PAGE_SIZE)
    with pytest.raises(errors.PermissionDenied) as asked:
        p.write(VA, b"gone")
    assert asked.value.by == "controller"
    assert asked.value.op & ~wire.REPLY == Op.WRITE
    assert bytes(link.elements[M1].memory[:4]) == b"mine"
    p.close()


def test_a_controller_that_does_not_answer_costs_no_more_than_the_budget() -> None:
    link = ModelRack(resident=False)
    p = Process(PID, 1, link, None, RetryPolicy(first=0.02, longest=0.05, budget=0.3), Translations())
    answers = iter([(Status.BUSY, b"")] * 1000)
    link.controller = lambda header: next(answers)
    with pytest.raises(errors.RemoteMemoryError):
        p.write(VA, bytes(3 * PAGE_SIZE))
    assert not any(status is Status.OK for _, status in link.forwarded)
    link.controller = link.translation
    p.write(VA, b"later")
    p.close()


def test_a_notice_invalidates_at_once() -> None:
    p, link = process(resident=True)
    p.write(VA, bytes(2 * PAGE_SIZE))
    link.place(M2)
    p._deliver(b'{"code": %d, "about": 0, "va": %d, "pages": %d}' % (NotifyCode.MOVED, VA, PAGES))
    link.refused.clear()
    assert p.read(VA, 8) == bytes(8)
    assert link.refused == []
    assert p.statistics()["translation invalidated"] == 1
    assert Notice(NotifyCode.MOVED, 0, VA, PAGES).code is NotifyCode.MOVED
    p.close()


@pytest.mark.parametrize("resident", [True, False])
def test_an_atomic_whose_reply_is_lost_is_not_doubled_when_its_page_moves(resident: bool) -> None:
    p, link = process(resident)
    moved = threading.Event()

    def lose(header: Header) -> bool:
        if header.op == Op.FETCH_ADD and not moved.is_set():
            threading.Thread(target=lambda: (link.place(M2), moved.set())).start()
            return True
        return False

    assert p.fetch_add(VA, 0) == 0
    link.lose_reply = lose
    assert p.fetch_add(VA, 5) == 0
    assert moved.is_set() and p.fetch_add(VA, 0) == 5
    assert p.read(VA, 8) == (5).to_bytes(8, "big")
    carried_out = [h.request_id for h, s in link.forwarded if h.op == Op.FETCH_ADD and s is Status.OK]
    assert len(carried_out) > len(set(carried_out)), "the repetition was answered at the new place"
    assert link.elements[M2].counts["repetitions answered from memory"] == 1
    p.close()


def test_only_a_process_with_a_cache_can_allocate_memory_that_the_switch_does_not_translate() -> None:
    p = Process(PID, 1, ModelRack(resident=True), None, QUICK)
    with pytest.raises(ValueError, match="cache of translations"):
        p.alloc(PAGE_SIZE, cached=True)
    p.close()
