"""Fences at the top-of-rack switch: what it is told, when it comes and goes, what an answer means. A recorder stands for it."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from os_ken.ofproto import ofproto_v1_3, ofproto_v1_3_parser

from controller import tor
from controller.tor import FENCE_PRIORITY, Fences


class Switch:
    """A datapath as os-ken gives it; it answers barriers unless it is deaf."""

    ofproto, ofproto_parser = ofproto_v1_3, ofproto_v1_3_parser

    def __init__(self, fences: Fences, deaf: bool = False):
        self.id, self.fences, self.deaf = 2, fences, deaf
        self.sent: list[Any] = []
        self.xid = 0

    def set_xid(self, message: Any) -> None:
        self.xid += 1
        message.set_xid(self.xid)

    def send_msg(self, message: Any) -> None:
        self.sent.append(message)
        if isinstance(message, ofproto_v1_3_parser.OFPBarrierRequest) and not self.deaf:
            threading.Thread(target=self.fences.barrier_reply, args=(self, message.xid)).start()

    def fenced(self) -> set[int]:
        """The ports that are fenced after all that was sent."""
        ports: set[int] = set()
        for message in self.sent:
            if isinstance(message, ofproto_v1_3_parser.OFPFlowMod):
                port = message.match.get("in_port")
                if message.command == ofproto_v1_3.OFPFC_DELETE:
                    ports.clear()
                elif message.command == ofproto_v1_3.OFPFC_DELETE_STRICT:
                    assert message.priority == FENCE_PRIORITY
                    ports.discard(port)
                else:
                    assert (message.priority, message.instructions) == (FENCE_PRIORITY, [])
                    ports.add(port)
        return ports


@pytest.fixture
def fences() -> Fences:
    return Fences()


def test_ports_are_fenced_and_let_in_again(fences: Fences) -> None:
    switch = Switch(fences)
    fences.connected(switch)
    assert fences.set(frozenset({1, 3}))
    assert switch.fenced() == {1, 3}
    before = len(switch.sent)
    assert fences.set(frozenset({3, 4}))
    assert switch.fenced() == {3, 4}
    assert len(switch.sent) == before + 3, "one flow goes, one comes, and a barrier behind them"
    assert fences.set(frozenset())
    assert switch.fenced() == set()


def test_a_switch_that_connects_later_is_told(fences: Fences) -> None:
    assert not fences.set(frozenset({2})), "no switch has done it"
    first = Switch(fences)
    fences.connected(first)
    assert first.fenced() == {2}
    again = Switch(fences)
    fences.connected(again)
    fences.disconnected(first)  # the old connection ends late
    assert fences.set(frozenset({2, 5}))
    assert again.fenced() == {2, 5}
    assert first.fenced() == {2}
    fences.disconnected(again)
    assert not fences.set(frozenset())


def test_no_answer_is_said(fences: Fences, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tor, "BARRIER_TIMEOUT", 0.05)
    switch = Switch(fences, deaf=True)
    fences.connected(switch)
    assert not fences.set(frozenset({1}))
    fences.barrier_reply(switch, 99)  # of nobody
    switch.deaf = False
    assert fences.set(frozenset())
