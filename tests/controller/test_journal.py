"""Events for people: numbered, waited for, and no more than they can read."""

from __future__ import annotations

import threading
import time

from controller import journal
from controller.journal import EventLog, RateLimit


def test_events_are_numbered_and_the_last_are_kept() -> None:
    log = EventLog()
    for number in range(journal.KEPT_EVENTS + 10):
        log.add("x", {"n": number})
    assert len(log.since(0)) == journal.KEPT_EVENTS
    assert [e["n"] for e in log.since(log.last - 2)] == [journal.KEPT_EVENTS + 8, journal.KEPT_EVENTS + 9]
    assert log.since(log.last) == []


def test_who_waits_gets_the_next_event() -> None:
    log = EventLog()
    threading.Timer(0.05, lambda: log.add("late", {})).start()
    start = time.monotonic()
    assert [e["event"] for e in log.since(0, wait=100)] == ["late"]
    assert time.monotonic() - start < 90


def test_a_flood_of_one_kind_becomes_one_event_a_second() -> None:
    limit = RateLimit(interval=1.0, most=3)
    assert [limit.heard("a", 0.1 * n) for n in range(21)] == [0, *[None] * 9, 9, *[None] * 9, 9]
    assert limit.heard("b", 2.0) == 0, "another kind is not concerned"
    assert limit.heard("c", 2.0) == 0
    assert limit.heard("d", 2.0) is None, "too many kinds at a time"
    assert limit.heard("d", 3.5) == 0
