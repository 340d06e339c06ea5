"""What a memory element remembers of requests: no late effects, none twice when pages move, and no more than needed."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hosts.memory.dedup import WINDOW, Outcomes
from hosts.memory.element import FORGET_AFTER, MemoryElement
from hosts.memory.page_table import PageTable
from protocol import wire
from protocol.wire import PAGE_SIZE, Header, Op, Perm, Status

PID, VA, ONE = 5, 5 << 48, (1).to_bytes(8, "big")
OTHER = 1 << 32  # what another process adds
OTHERS = OTHER.to_bytes(8, "big")
EPOCH = 1_700_000_000_000_000_000  # request ids count on from the clock


def make(number: int, generation: int | None = 7) -> MemoryElement:
    """An element of two pages, of which the process has the first (generation None: none)."""
    element = MemoryElement(number, memoryview(bytearray(2 * PAGE_SIZE)), PageTable(2))
    element.table.adopt(1)
    if generation is not None:
        element.table.set(0, 1, VA, PID, Perm.RW, generation)
    return element


def ask(
    element: MemoryElement, op: Op, number: int, payload: bytes = b"", age: int = 0, generation: int = 7, pid: int = PID
) -> tuple[Status, bytes]:
    header = Header(op, status=age, src=1, dst=element.element, pid=pid, length=8, generation=generation, va=VA)
    header = header._replace(request_id=EPOCH + number)
    reply = element.handle(bytes(12) + b"\x88\xb5" + header.pack() + payload)
    assert reply is not None
    return Status(Header.unpack(reply, 14).status), reply[54:]


@pytest.mark.parametrize("op", [Op.READ, Op.WRITE, Op.FETCH_ADD, Op.CHECKSUM])
def test_a_write_that_was_given_up_takes_no_effect_behind_the_next_request(op: Op) -> None:
    element = make(101)
    assert ask(element, Op.WRITE, 1, b"before  ", age=1)[0] == Status.OK
    # Request 2, a WRITE, is held back by the network; its caller has heard of a timeout. The next one says so.
    assert ask(element, op, 3, b"newer   ", age=1)[0] == Status.OK
    contents = bytes(element.memory[:8])
    for _ in range(2):
        assert ask(element, Op.WRITE, 2, b"too late", age=2)[0] == Status.BAD_REQUEST
    assert bytes(element.memory[:8]) == contents


def test_what_may_still_be_repeated_is_not_refused() -> None:
    element = make(101)
    assert ask(element, Op.FETCH_ADD, 5, ONE, age=1 + 3) == (Status.OK, bytes(8))  # 2 to 4 are on their way
    for number, age in ((2, 1), (4, 3), (3, 2), (5, 4), (2, 1)):
        assert ask(element, Op.FETCH_ADD, number, ONE, age=age)[0] == Status.OK
    assert int.from_bytes(element.memory[:8], "big") == 4


def test_a_refused_request_moves_no_floor() -> None:
    """Who has no page here cannot silence a process: its floor moves with requests that were carried out."""
    element = make(101)
    assert ask(element, Op.WRITE, 1 << 40, b"forged  ", age=1, generation=6)[0] == Status.STALE_GENERATION
    assert ask(element, Op.WRITE, 1 << 41, b"forged  ", age=1, pid=6)[0] == Status.PERMISSION
    assert ask(element, Op.WRITE, 2, b"honest  ", age=1)[0] == Status.OK


def test_outcomes_that_nobody_asks_for_are_forgotten() -> None:
    element = make(101)
    for number in range(5000):
        assert ask(element, Op.FETCH_ADD, number, ONE, age=min(number + 1, 33))[0] == Status.OK
    assert len(element.outcomes[PID]) <= 33
    silent = make(102)
    for number in range(5000):
        ask(silent, Op.FETCH_ADD, number, ONE)
    assert len(silent.outcomes[PID]) == WINDOW


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 1 << 32), st.booleans())
def test_no_effect_is_doubled_when_a_page_moves(seed: int, ages: bool) -> None:
    """FETCH_ADDs are lost, repeated and late while their page moves from element to element, with what is known of them, and is
    granted away, written there and granted back."""
    rng = random.Random(seed)
    elements = [make(101), make(102, None)]
    at, generation, unanswered = 0, 7, {}
    olds: dict[int, int] = {}
    others = 0
    flying: list[tuple[int, int, int, int]] = []  # number, age, element and generation that the switch stamped
    for number in range(80):
        unanswered[number] = 1 + number - min(unanswered, default=number) if ages else 0
        flying.append((number, unanswered[number], at, generation))
        for again in rng.sample(sorted(unanswered), min(len(unanswered), rng.randrange(3))):
            flying.append((again, unanswered[again], at, generation))
        rng.shuffle(flying)
        for _ in range(rng.randrange(4)):
            if flying:
                which, age, element, stamp = flying.pop()
                status, old = ask(elements[element], Op.FETCH_ADD, which, ONE, age, stamp)
                if status is Status.OK:
                    value = int.from_bytes(old, "big") % OTHER
                    assert olds.setdefault(which, value) == value, "a repetition got another answer"
                    if rng.random() < 0.7:  # the reply arrives
                        unanswered.pop(which, None)
        if rng.random() < 0.15:
            source, target = elements[at], elements[1 - at]
            source.table.clear(0, 1, generation + 1)
            target.memory[:PAGE_SIZE] = source.memory[:PAGE_SIZE]
            target.import_outcomes(PID, source.export_outcomes(PID))
            generation += 2
            target.table.set(0, 1, VA, PID, Perm.RW, generation)
            at = 1 - at
        elif rng.random() < 0.15:
            table = elements[at].table
            table.set(0, 1, VA, 6, Perm.RW, generation + 1)
            assert ask(elements[at], Op.FETCH_ADD, number, OTHERS, 0, generation + 1, pid=6)[0] is Status.OK
            others += 1
            for which, age, element, stamp in flying[:3]:  # what comes meanwhile is refused, or was known
                status, _ = ask(elements[element], Op.FETCH_ADD, which, ONE, age, stamp)
                assert status is not Status.OK or which in olds
            generation += 2
            table.set(0, 1, VA, PID, Perm.RW, generation)
    for number in sorted(unanswered):  # all are repeated until they are answered
        status, old = ask(elements[at], Op.FETCH_ADD, number, ONE, unanswered[number], generation)
        assert status is Status.OK, number
        assert olds.setdefault(number, int.from_bytes(old, "big") % OTHER) == int.from_bytes(old, "big") % OTHER
    assert int.from_bytes(elements[at].memory[:8], "big") == others * OTHER + 80
    assert sorted(olds.values()) == list(range(80)), "an effect was lost or doubled"


def test_what_does_not_fit_is_refused_at_the_new_place() -> None:
    source, target = make(101), make(102)
    for number in range(600):
        ask(source, Op.FETCH_ADD, number, ONE)
    exported = source.export_outcomes(PID)
    assert len(exported) <= PAGE_SIZE
    target.import_outcomes(PID, exported)
    statuses = [ask(target, Op.FETCH_ADD, number, ONE)[0] for number in range(600)]
    kept = statuses.count(Status.OK)
    assert statuses == [Status.BAD_REQUEST] * (600 - kept) + [Status.OK] * kept and kept > 255
    assert bytes(target.memory[:8]) == bytes(8), "a repetition took effect"


@given(st.binary(max_size=100))
def test_what_is_no_export_is_refused_whole(data: bytes) -> None:
    outcomes = Outcomes()
    outcomes.remember(EPOCH, b"x")
    before = outcomes.export(PAGE_SIZE)
    try:
        outcomes.merge(data)
    except ValueError:
        assert outcomes.export(PAGE_SIZE) == before


def test_processes_that_have_nothing_here_are_forgotten() -> None:
    element = make(101)
    element.table.set(PAGE_SIZE, 1, 6 << 48, 6, Perm.RW, 7)
    ask(element, Op.WRITE, 1, b"contents")
    element.tidy(0.0)
    element.tidy(FORGET_AFTER + 1)
    assert PID in element.outcomes, "it has a page: a late repetition could still take effect"
    element.table.clear(0, 1, 8)
    ask(element, Op.WRITE, 1, b"contents")
    element.tidy(FORGET_AFTER + 2)
    element.tidy(2 * FORGET_AFTER)
    assert PID in element.outcomes, "not long enough ago"
    element.tidy(2 * FORGET_AFTER + 2)
    assert PID not in element.outcomes
    assert element.counts["processes forgotten"] == 1
    assert wire.Status(ask(element, Op.WRITE, 1, b"contents")[0]) == Status.STALE_GENERATION
