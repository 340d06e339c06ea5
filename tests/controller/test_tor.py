"""Fences at the top-of-rack switch: what it is told, when it comes and goes, what an answer means. A recorder stands for it."""

from __future__ import annotations

from typing import Any

import pytest
from os_ken.ofproto import ofproto_v1_3, ofproto_v1_3_parser

from controller.tor import FENCE_PRIORITY, ElementFences, Fences

PORTS = {port: f"02:00:00:00:01:{port:02x}" for port in range(1, 6)}


class Switch:
    """A datapath as os-ken gives it; it carries out what it is told when it is told to answer."""

    ofproto, ofproto_parser = ofproto_v1_3, ofproto_v1_3_parser

    def __init__(self, fences: Fences, number: int = 2):
        self.id, self.fences = number, fences
        self.sent: list[Any] = []
        self.xid = 0

    def set_xid(self, message: Any) -> None:
        self.xid += 1
        message.set_xid(self.xid)

    def send_msg(self, message: Any) -> None:
        self.sent.append(message)

    def answer(self) -> None:
        """Every probe that it was sent."""
        for message in list(self.sent):
            if isinstance(message, ofproto_v1_3_parser.OFPPacketOut):
                assert message.in_port == ofproto_v1_3.OFPP_CONTROLLER
                self.fences.returned(self, message.data)

    def fenced(self) -> tuple[set[int], set[int]]:
        """The ports that are fenced after all that was sent: inwards, outwards."""
        inwards: set[int] = set()
        outwards: set[int] = set()
        for message in self.sent:
            if isinstance(message, ofproto_v1_3_parser.OFPFlowMod):
                port = message.match.get("in_port")
                if message.command == ofproto_v1_3.OFPFC_DELETE:
                    inwards.clear()
                elif message.command == ofproto_v1_3.OFPFC_DELETE_STRICT:
                    assert message.priority == FENCE_PRIORITY
                    inwards.discard(port)
                else:
                    assert (message.priority, message.instructions) == (FENCE_PRIORITY, [])
                    inwards.add(port)
            elif isinstance(message, ofproto_v1_3_parser.OFPPortMod):
                assert message.hw_addr == PORTS[message.port_no], "a switch refuses another address"
                assert message.mask == ofproto_v1_3.OFPPC_NO_FWD
                (outwards.add if message.config else outwards.discard)(message.port_no)
        return inwards, outwards


def connect(fences: Fences, number: int = 2) -> Switch:
    switch = Switch(fences, number)
    fences.connected(switch)
    fences.described(switch, PORTS)
    return switch


@pytest.fixture
def fences() -> Fences:
    return Fences()


def test_ports_are_fenced_both_ways_and_let_in_again(fences: Fences) -> None:
    switch = connect(fences)
    fences.set(frozenset({1, 3}))
    assert switch.fenced() == ({1, 3}, {1, 3})
    before = len(switch.sent)
    fences.set(frozenset({3, 4}))
    assert switch.fenced() == ({3, 4}, {3, 4})
    assert len(switch.sent) == before + 4, "what has not changed is not touched"
    fences.set(frozenset())
    assert switch.fenced() == (set(), set())


def test_a_switch_that_connects_later_is_told(fences: Fences) -> None:
    fences.set(frozenset({2}))
    first = connect(fences)
    assert first.fenced() == ({2}, {2})
    again = connect(fences)
    fences.disconnected(first)  # the old connection ends late
    fences.described(first, {})
    fences.set(frozenset({2, 5}))
    assert again.fenced() == ({2, 5}, {2, 5})
    assert first.fenced() == ({2}, {2})


def test_what_an_earlier_controller_left_is_undone(fences: Fences) -> None:
    switch = connect(fences)
    opened = [m for m in switch.sent if isinstance(m, ofproto_v1_3_parser.OFPPortMod)]
    assert sorted(m.port_no for m in opened) == sorted(PORTS)
    assert not any(m.config for m in opened)


def test_a_switch_is_settled_when_it_has_done_all_that_it_was_told_when_it_came(fences: Fences) -> None:
    tor = ElementFences(2, {}, fences)
    switch = Switch(fences)
    fences.connected(switch)
    assert not tor.is_connected, "its ports are not known"
    fences.described(switch, PORTS)
    assert not tor.is_connected, "it has not answered"
    switch.answer()
    assert tor.is_connected
    assert fences.settled() == {2}
    assert not ElementFences(3, {}, fences).is_connected, "another switch is meant"
    again = connect(fences)
    assert not tor.is_connected, "that was of an earlier connection"
    again.answer()
    assert tor.is_connected
    fences.disconnected(again)
    assert not tor.is_connected


def test_a_barrier_is_answered_by_all_switches_and_only_then(fences: Fences) -> None:
    done: list[int] = []
    fences.when_done(1, lambda: done.append(1))
    assert not done, "no switch is connected"
    first = Switch(fences, 2)
    fences.connected(first)
    fences.when_done(1, lambda: done.append(1))
    assert not [m for m in first.sent if isinstance(m, ofproto_v1_3_parser.OFPPacketOut)], "its ports are not known"
    fences.described(first, PORTS)
    second = connect(fences, 3)
    fences.when_done(1, lambda: done.append(1))
    first.answer()
    assert not done
    second.answer()
    assert done == [1]
    second.answer()
    fences.returned(second, bytes(60))
    assert done == [1]


def test_a_barrier_that_is_repeated_is_done_once(fences: Fences) -> None:
    done: list[int] = []
    switch = connect(fences)
    for _ in range(3):
        fences.when_done(1, lambda: done.append(1))
    fences.when_done(2, lambda: done.append(2))
    switch.answer()
    assert done == [1, 2]


def test_a_switch_that_is_slower_than_the_questions_answers_all_the_same(fences: Fences) -> None:
    done: list[int] = []
    switch = connect(fences)
    fences.when_done(1, lambda: done.append(1))
    first = list(switch.sent)
    for _ in range(3):
        fences.when_done(1, lambda: done.append(1))
    switch.sent = first
    switch.answer()
    assert done == [1]


def test_an_answer_of_an_earlier_connection_counts_for_nothing(fences: Fences) -> None:
    done: list[int] = []
    switch = connect(fences)
    fences.when_done(1, lambda: done.append(1))
    again = connect(fences)
    switch.answer()
    assert not done
    fences.when_done(1, lambda: done.append(1))
    again.answer()
    assert done == [1]


def test_probes_follow_the_changes_behind_a_barrier(fences: Fences) -> None:
    switch = connect(fences)
    before = len(switch.sent)
    fences.set(frozenset({1}))
    fences.when_done(1, lambda: None)
    kinds = [type(message).__name__ for message in switch.sent[before:]]
    assert kinds == ["OFPFlowMod", "OFPPortMod", "OFPBarrierRequest", "OFPPacketOut"]


def test_what_a_fenced_port_has_sent_before_is_not_sent_on(fences: Fences) -> None:
    sent: list[int] = []
    fences.set(frozenset({1}))
    for port in (1, 2):
        fences.forward(port, lambda port=port: sent.append(port))  # type: ignore[misc]
    assert sent == [2]


def test_elements_are_fenced_at_their_ports(fences: Fences) -> None:
    switch = connect(fences)
    done: list[int] = []
    tor = ElementFences(2, {1: 3, 2: 4}, fences)
    tor.fence(frozenset({2, 101}))
    assert switch.fenced() == ({4}, {4}), "memory elements have no port there"
    tor.barrier(7, lambda: done.append(7))
    switch.answer()
    assert done == [7]
