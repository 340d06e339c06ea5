"""The judge of campaigns finds every kind of violation."""

from __future__ import annotations

import math

from experiments.campaign_check import Fence, Loss, Outage, Record, judge
from experiments.history import Operation

PID = 7
WORD = (PID << 48) + 0x3000


def write(called: float, ended: float, error: str = "", value: int = 1, word: int = WORD) -> Record:
    operation = Operation("7.0", "write", word, (value,), None, called, math.inf if error else ended)
    return Record(PID, operation, ended, error)


def read(called: float, ended: float, result: int | None, error: str = "") -> Record:
    return Record(PID, Operation("7.1", "read", WORD, (), result, called, math.inf if error else ended), ended, error)


def loss(asked: float, acknowledged: float, until: float = math.inf) -> Loss:
    return Loss("revoked", PID, WORD - WORD % 4096, 1, asked, acknowledged, until)


def test_what_is_right_is_not_objected_to() -> None:
    records = [write(0, 1), read(1, 2, 1), write(2, 3.5, "PermissionDenied", 2), read(4, 5, None, "PermissionDenied")]
    assert judge(records, [loss(2.5, 3)], []).held


def test_a_write_that_began_before_the_acknowledgement_may_be_carried_out() -> None:
    assert judge([write(2, 4)], [loss(1, 3)], []).held


def test_a_late_effect() -> None:
    verdict = judge([write(3.1, 4)], [loss(2, 3)], [])
    assert len(verdict.late_effects) == 1
    assert "0.1" in verdict.late_effects[0]
    assert not verdict.held


def test_what_was_given_back_may_be_written() -> None:
    assert judge([write(6, 7)], [loss(2, 3, until=5)], []).held
    assert judge([write(4, 5.1)], [loss(2, 3, until=5)], []).held, "it ended after the page may have come back"
    assert not judge([write(3.5, 4)], [loss(2, 3, until=5)], []).held


def test_the_loss_of_another_process_or_page_is_nothing_to_it() -> None:
    other = Loss("revoked", PID + 1, WORD - WORD % 4096, 1, 0, 0)
    next_page = Loss("revoked", PID, WORD - WORD % 4096 + 4096, 1, 0, 0)
    assert judge([write(3, 4)], [other, next_page], []).held
    assert judge([write(3, 4, "PermissionDenied")], [other, next_page], []).false_refusals


def test_a_refusal_before_the_loss_was_asked_for() -> None:
    assert judge([write(0, 1, "PermissionDenied")], [loss(2, 3)], []).false_refusals
    assert judge([write(0, 2.5, "PermissionDenied")], [loss(2, 3)], []).held


def test_fences() -> None:
    fences = [Fence(frozenset({PID}), 10, 11, 20, 21), Fence(frozenset({PID}), 30, 31, 40, 41)]
    assert judge([write(12, 13)], [], fences).late_effects
    assert judge([write(35, 36)], [], fences).late_effects
    for called, ended in ((5, 6), (10.5, 13), (19, 20.5), (25, 26), (50, 51)):
        assert judge([write(called, ended)], [], fences).held, (called, ended)
    assert judge([write(12, 13, "Fenced")], [], fences).held
    assert judge([write(22, 23, "Fenced")], [], fences).false_refusals
    assert judge([write(12, 13)], [], [Fence(frozenset({PID + 1}), 10, 11, 20, 21)]).held


def test_any_other_error_is_unexpected() -> None:
    assert judge([write(0, 8, "RequestTimeout")], [], []).unexpected


def test_a_lost_effect_and_a_refused_write_that_took_effect() -> None:
    assert judge([write(0, 1), read(2, 3, 0)], [], []).not_linearizable
    refused = [write(0, 1, "PermissionDenied", 5), read(0.5, 0.7, 5)]
    assert judge(refused, [loss(0, 2)], []).held, "its first frame came through, and the answer was lost"


def test_outages_excuse_what_is_heard_while_they_last() -> None:
    outages = [Outage(10, 12), Outage(20, 22, emptied=True)]
    for error in ("ElementFailed", "RequestTimeout"):
        assert judge([write(11, 13, error)], [], [], outages).held
        assert judge([write(9, 10.5, error)], [], [], outages).held
        assert judge([write(12.5, 13, error)], [], [], outages).unexpected
        assert judge([write(5, 9, error)], [], [], outages).unexpected
    assert judge([write(30, 31, "MemoryLost")], [], [], outages).held, "it stays lost"
    assert judge([write(13, 14, "MemoryLost")], [], [], outages).false_refusals
    assert judge([write(11, 11.5, "PermissionDenied")], [], [], outages).false_refusals
