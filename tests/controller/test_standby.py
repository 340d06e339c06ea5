"""The rack monitor's thresholds, and standbys: who is told when what is cut off, and what a fenced element can still do."""

from __future__ import annotations

import random
import re
import time

import pytest
from world import World

from controller.core import events, monitor
from controller.core.memory import Config
from controller.core.state import MONITOR, Liveness, Thresholds
from protocol import capability, wire
from protocol.wire import PAGE_SIZE, NotifyCode, Op, Perm, Status
from topologies.racks import small_rack

RNG = random.Random(3)
SECRET = bytes(range(16))
LIMITS = Thresholds(0.1, 0.3, 0.6)


class Standby:
    """Two processes of a group on two elements: ``source`` has memory of it, ``other`` stands by."""

    def __init__(self) -> None:
        self.world = World(small_rack(), Config(thresholds=LIMITS))
        self.world.ask(lambda t: events.GroupRequest(t, "kv", SECRET, 0, 0))
        self.source, self.other = self.world.create_process(1), self.world.create_process(2)
        self.va = self.alloc(self.source, 8, 1)

    def alloc(self, pid: int, pages: int, group: int) -> int:
        element = self.world.state.processes[pid].element
        payload = wire.ALLOC_ARGS.pack(pages * PAGE_SIZE, int(Perm.RW), group << wire.GROUP_SHIFT)
        return self.in_band(element, pid, Op.ALLOC, payload).va

    def in_band(self, element: int, pid: int, op: Op, payload: bytes = b"", va: int = 0):
        number = self.world.new_number()
        self.world.feed(events.ControlRequest(element, pid, number, op, va, payload, time.time()))
        self.world.settle(RNG)
        return next(r for r in self.world.replies if r.request_id == number)

    def watch(self, source: int, group: int = 1, secret: bytes = SECRET):
        token = capability.mint(secret, group, self.other, int(time.time()) + 60)
        payload = wire.WATCH_ARGS.pack(source, group) + capability.pack(token)
        return self.in_band(2, self.other, Op.WATCH, payload)

    def told(self) -> list[tuple[int, int, int, int, int]]:
        """Notices of takeovers: who, about whom, first address, pages, group."""
        found = [n for n in self.world.notices if n.code == NotifyCode.TAKEOVER]
        return [(n.pid, n.about, n.va, n.pages, n.group) for n in {n.id: n for n in found}.values()]

    def at(self, now: float, *silent: int) -> None:
        """Time goes on; all but these elements are heard."""
        self.world.now = now
        for element in self.world.state.elements:
            if element not in silent:
                self.world.heartbeat(element)
        self.world.feed(events.Tick())

    def published(self, kind: str) -> list[dict]:
        return [p.data for p in self.world.published if p.kind == kind]

    def ask(self, make) -> events.Answer:
        token = self.world.ask(make)
        self.world.settle(RNG)
        return self.world.answers[token]


@pytest.fixture
def rack() -> Standby:
    return Standby()


# ---------------------------------------------------------------------------------------------------------- suspicion


def test_suspicion_comes_first_is_reported_and_taken_back(rack: Standby) -> None:
    for start, element in ((1.0, 1), (2.0, 101)):
        rack.at(start)
        rack.at(start + 0.4, element)
        assert rack.published("element_suspected")[-1]["element"] == element
        assert rack.world.state.elements[element].liveness is Liveness.ALIVE
        assert rack.world.stamp(rack.source, rack.va) is not None, "nothing is done about a suspicion"
        count = len(rack.published("element_suspected"))
        rack.at(start + 0.45, element)
        assert len(rack.published("element_suspected")) == count, "it is reported once"
        rack.at(start + 0.5)
        assert rack.published("element_trusted")[-1]["element"] == element
        assert not rack.world.state.suspected


def test_thresholds_are_adjusted_at_run_time_and_kept(rack: Standby) -> None:
    rack.at(1.0)
    answer = rack.ask(lambda t: events.ThresholdsRequest(t, None, 1.0, 2.0))
    assert answer.result == {"interval": 0.1, "suspect": 1.0, "fail": 2.0}
    rack.at(2.9, 101)
    assert rack.world.state.elements[101].liveness is Liveness.ALIVE
    rack.world.restart()
    assert monitor.thresholds(rack.world.state, rack.world.config) == Thresholds(0.1, 1.0, 2.0)
    rack.at(5.0, 101)
    assert rack.world.state.elements[101].liveness is Liveness.FAILED


@pytest.mark.parametrize(
    ("interval", "suspect", "fail", "says"),
    [
        (0.001, None, None, "10 ms at least"),
        (61.0, 200.0, 300.0, "60000 ms at most"),
        (0.2, 0.3, None, "two heartbeats .400 ms. at least"),
        (None, None, 0.2, "suspicion .300 ms. at least"),
        (None, 0.7, None, "suspicion .700 ms. at least"),
        (None, None, 4000.0, "3.6e.06 ms at most"),
        (float("nan"), None, None, "at least"),
        (None, float("nan"), None, "at least"),
        (None, None, float("inf"), "at most"),
    ],
)
def test_thresholds_that_make_no_sense_change_nothing(rack: Standby, interval, suspect, fail, says: str) -> None:
    answer = rack.ask(lambda t: events.ThresholdsRequest(t, interval, suspect, fail))
    assert answer.error is not None
    assert answer.error.code == "bad_request"
    assert re.search(says, answer.error.message), answer.error.message
    assert not rack.world.state.settings


def test_an_element_is_told_of_another_interval_until_it_keeps_to_it(rack: Standby) -> None:
    def welcomes() -> list[int]:
        said = [r.payload for r in rack.world.replies if r.op == Op.HELLO and r.element == 101]
        return [wire.HELLO_REPLY.unpack(p)[1] for p in said]

    rack.ask(lambda t: events.ThresholdsRequest(t, 0.05, 0.1, 0.2))
    rack.world.feed(events.Heartbeat(101, 1, 0.1))
    rack.world.feed(events.Heartbeat(101, 1, 0.1))
    assert welcomes() == [50, 50]
    rack.world.feed(events.Heartbeat(101, 1, 0.05))
    assert len(welcomes()) == 2


def test_an_element_that_has_not_heard_of_a_shorter_interval_is_not_blamed(rack: Standby) -> None:
    rack.world.feed(events.Heartbeat(101, 1, 1.0))
    rack.ask(lambda t: events.ThresholdsRequest(t, 0.05, 0.1, 0.2))
    rack.at(1.0, 101)
    assert rack.world.state.elements[101].liveness is Liveness.ALIVE
    rack.at(3.0, 101)
    assert rack.world.state.elements[101].liveness is Liveness.FAILED, "but not for ever"


# -------------------------------------------------------------------------------------------------- fencing by the monitor


def test_a_silent_element_is_fenced_for_certain_before_its_standby_is_told(rack: Standby) -> None:
    assert rack.watch(rack.source).status == Status.OK
    rack.at(1.0)
    late = rack.world.send_write(rack.source, rack.va)
    assert late is not None
    rack.at(1.7, 1)
    element = rack.world.state.elements[1]
    assert (element.liveness, element.fenced, element.fenced_by) == (Liveness.FAILED, True, MONITOR)
    assert rack.world.send_write(rack.source, rack.va) is None, "nothing new passes"
    assert rack.told() == [], "what is under way may still take effect"
    assert not rack.published("element_failed")
    # One after the other answers its barrier; the top-of-rack switch is the last.
    for number in sorted(rack.world.channels, reverse=True):
        while rack.world.channels[number]:
            assert rack.told() == []
            rack.world.deliver_to(number, RNG)
    assert late.number in rack.world.landed
    assert rack.told() == [(rack.other, rack.source, rack.va, 8, 1)]
    assert [e["element"] for e in rack.published("element_failed")] == [1]


def test_nobody_is_fenced_for_nobody(rack: Standby) -> None:
    rack.at(1.0)
    rack.at(2.0, 1)
    element = rack.world.state.elements[1]
    assert (element.liveness, element.fenced) == (Liveness.FAILED, False)
    assert rack.world.send_write(rack.source, rack.va) is not None, "a process goes on without its local OS"
    assert [e["element"] for e in rack.published("element_failed")] == [1]
    # Somebody comes to stand by: the element is still silent.
    rack.watch(rack.source)
    rack.at(2.1, 1)
    rack.world.settle(RNG)
    assert rack.world.state.elements[1].fenced
    assert [t[1] for t in rack.told()] == [rack.source]


def test_a_fenced_element_that_was_only_slow_stays_fenced_until_an_operator_says_otherwise(rack: Standby) -> None:
    rack.watch(rack.source)
    rack.at(1.0)
    rack.at(2.0, 1)
    rack.world.settle(RNG)
    rack.at(2.1)
    element = rack.world.state.elements[1]
    assert (element.liveness, element.fenced) == (Liveness.ALIVE, True)
    assert rack.world.send_write(rack.source, rack.va) is None
    rack.at(3.0, 1)
    rack.world.settle(RNG)
    assert len(rack.told()) == 1, "they have been told"
    rack.at(3.1)
    assert rack.ask(lambda t: events.FenceRequest(t, 1, False)).result == {"element": 1, "fenced": False}
    assert rack.world.send_write(rack.source, rack.va) is not None
    rack.at(4.0, 1)
    rack.world.settle(RNG)
    assert len(rack.told()) == 2, "it has fallen silent again"


def test_an_element_that_registers_anew_begins_anew(rack: Standby) -> None:
    rack.watch(rack.source)
    private = rack.alloc(rack.source, 2, 0)
    rack.at(1.0)
    rack.at(2.0, 1)
    rack.world.settle(RNG)
    rack.world.incarnations[1] = 2
    rack.at(2.1)
    rack.world.settle(RNG)
    element = rack.world.state.elements[1]
    assert (element.liveness, element.fenced, element.incarnation) == (Liveness.ALIVE, False, 2)
    assert rack.source not in rack.world.state.processes, "its processes are over"
    assert rack.va in rack.world.state.allocations, "what may be stolen is kept"
    assert private not in rack.world.state.allocations
    assert rack.world.send_write(rack.source, rack.va) is None
    assert rack.world.create_process(1) not in (rack.source, rack.other)


def test_what_an_operator_has_fenced_no_restart_lets_in(rack: Standby) -> None:
    rack.watch(rack.source)
    rack.ask(lambda t: events.FenceRequest(t, 1, True))
    assert [t[1] for t in rack.told()] == [rack.source], "a fence is a fence"
    rack.world.incarnations[1] = 2
    rack.at(1.0)
    assert rack.world.state.elements[1].fenced
    assert rack.source in rack.world.state.processes


def test_a_restart_while_the_fence_is_under_way_waits_for_it(rack: Standby) -> None:
    rack.watch(rack.source)
    rack.at(1.0)
    rack.at(2.0, 1)
    rack.world.incarnations[1] = 2
    rack.at(2.1)
    assert rack.world.state.elements[1].fenced
    rack.world.settle(RNG)
    rack.at(2.2)
    assert not rack.world.state.elements[1].fenced
    assert rack.told()[0][:2] == (rack.other, rack.source)


def test_the_controller_dies_over_a_fence(rack: Standby) -> None:
    """At every step: whoever stands by is told, once, and not before the fence is certain."""
    for effects in range(12):
        rack = Standby()
        rack.watch(rack.source)
        rack.at(1.0)
        rack.world.crash_after = effects
        rack.at(1.7, 1)
        rack.world.settle(RNG)
        rack.at(rack.world.now + 0.1, 1)
        rack.at(rack.world.now + 0.7, 1)
        rack.world.settle(RNG)
        rack.world.crash_after = None
        notices = {(n.pid, n.about) for n in rack.world.state.notices.values() if n.code == NotifyCode.TAKEOVER}
        assert notices == {(rack.other, rack.source)}, effects
        assert len([n for n in rack.world.state.notices.values() if n.code == NotifyCode.TAKEOVER]) == 1
        assert rack.world.state.elements[1].fenced


def test_a_standby_on_the_same_element_is_no_reason_to_fence_it(rack: Standby) -> None:
    neighbour = rack.world.create_process(1)
    rack.ask(lambda t: events.WatchRequest(t, neighbour, rack.source, 1))
    rack.at(1.0)
    rack.at(2.0, 1)
    assert not rack.world.state.elements[1].fenced


# -------------------------------------------------------------------------------------------------------------- watches


def test_a_crash_is_told_with_what_may_be_stolen(rack: Standby) -> None:
    second = rack.alloc(rack.source, 3, 1)
    rack.alloc(rack.source, 5, 0)
    rack.watch(0)
    rack.in_band(1, 0, Op.PROCESS_EXIT, wire.PROCESS_EXIT_ARGS.pack(1), rack.source)
    assert rack.told() == [(rack.other, rack.source, rack.va, 11, 1)]
    reply = rack.in_band(2, rack.other, Op.RANGES, wire.RANGES_ARGS.pack(rack.source, 1))
    more, count = wire.RANGES_REPLY.unpack_from(reply.payload)
    assert (reply.status, more, count) == (Status.OK, 0, 2)
    listed = list(wire.RANGE.iter_unpack(reply.payload[wire.RANGES_REPLY.size :]))
    assert listed == [(rack.va, 8), (second, 3)]
    later = rack.in_band(2, rack.other, Op.RANGES, wire.RANGES_ARGS.pack(rack.source, 1), second)
    assert wire.RANGES_REPLY.unpack_from(later.payload) == (0, 1)
    assert rack.watch(rack.source).status == Status.OK, "also who comes late"
    assert len(rack.told()) == 2


def test_long_lists_come_in_pieces(rack: Standby, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "MAX_RANGES", 2)
    rack.watch(0)
    starts = [rack.va, *(rack.alloc(rack.source, 1, 1) for _ in range(4))]
    found: list[int] = []
    at = 0
    for _ in range(3):
        reply = rack.in_band(2, rack.other, Op.RANGES, wire.RANGES_ARGS.pack(rack.source, 1), at)
        at, count = wire.RANGES_REPLY.unpack_from(reply.payload)
        assert count == (2 if at else 1)
        found += [va for va, _ in wire.RANGE.iter_unpack(reply.payload[wire.RANGES_REPLY.size :])]
    assert (found, at) == (starts, 0)


def test_a_clean_end_is_nobodys_business(rack: Standby) -> None:
    rack.watch(rack.source)
    rack.watch(0)
    rack.in_band(1, 0, Op.PROCESS_EXIT, wire.PROCESS_EXIT_ARGS.pack(0), rack.source)
    assert rack.told() == []
    assert [w.source for w in rack.world.state.watches.values()] == [0]
    rack.in_band(2, 0, Op.PROCESS_EXIT, b"", rack.other)
    assert not rack.world.state.watches, "nor is what a process watched that is no more"


def test_who_may_stand_by(rack: Standby) -> None:
    assert rack.watch(rack.source, secret=bytes(16)).status == Status.BAD_CAPABILITY
    assert rack.watch(rack.source, group=9).status == Status.BAD_CAPABILITY
    assert rack.watch(999).status == Status.NO_SUCH_PROCESS
    assert rack.watch(rack.other).status == Status.BAD_REQUEST
    denied = rack.in_band(2, rack.other, Op.RANGES, wire.RANGES_ARGS.pack(rack.source, 1))
    assert denied.status == Status.PERMISSION
    assert not rack.world.state.watches
    number = rack.watch(rack.source).va
    assert rack.watch(rack.source).va == number, "a repetition"
    assert rack.in_band(1, rack.source, Op.UNWATCH, va=number).status == Status.NOT_FOUND, "another's"
    assert rack.in_band(2, rack.other, Op.UNWATCH, va=number).status == Status.OK
    assert rack.in_band(2, rack.other, Op.UNWATCH, va=number).status == Status.NOT_FOUND
    assert rack.in_band(2, rack.other, Op.WATCH, b"").status == Status.BAD_REQUEST


def test_watches_are_bounded(rack: Standby) -> None:
    pids = [rack.world.create_process(1) for _ in range(65)]
    statuses = [rack.watch(pid).status for pid in pids]
    assert statuses == [Status.OK] * 64 + [Status.BUSY]


def test_the_api_stands_by_without_capability(rack: Standby) -> None:
    made = rack.ask(lambda t: events.WatchRequest(t, rack.other, rack.source, 1)).result
    assert (made["pid"], made["source"], made["group"]) == (rack.other, rack.source, 1)
    for request in (
        lambda t: events.WatchRequest(t, 99, rack.source, 1),
        lambda t: events.WatchRequest(t, rack.other, rack.source, 7),
        lambda t: events.UnwatchRequest(t, 999),
    ):
        assert rack.ask(request).error is not None
    assert rack.ask(lambda t: events.UnwatchRequest(t, made["watch"])).error is None
    assert not rack.world.state.watches
