"""Frames built and read with Scapy, through the pipeline: what a person at an interactive prompt would see."""

from __future__ import annotations

from scapy.layers.l2 import Ether

from protocol import layers, wire
from protocol.wire import Flag, Op, Status
from tests.p4src.harness import CPU_PORT, RackSwitch
from tests.p4src.world import BASE, C1, M1


def test_a_request_and_its_reply(switch: RackSwitch) -> None:
    add = layers.element_frame(C1, Op.FETCH_ADD, layers.Word(word=3), pid=5, va=BASE + 8, request_id=9)
    (out,) = switch.inject(1, bytes(add))
    request = Ether(out.frame)
    assert (out.port, request.dst, request[layers.RMem].dst) == (4, wire.mac_text(wire.element_mac(M1)), M1)
    assert request[layers.Word].word == 3
    answer = layers.element_frame(
        M1, Op.FETCH_ADD | wire.REPLY, layers.Word(word=40), dst=request[layers.RMem].src, request_id=9
    )
    (back,) = switch.inject(out.port, bytes(answer))
    assert back.port == 1
    assert Ether(back.frame)[layers.RMem].answers(add[layers.RMem])
    assert Ether(back.frame)[layers.Word].word == 40


def test_a_refusal_answers_the_request(switch: RackSwitch) -> None:
    read = layers.element_frame(C1, Op.READ, length=64, pid=6, va=6 << 48, request_id=10)
    (out,) = switch.inject(1, bytes(read))
    reply = Ether(out.frame)[layers.RMem]
    assert reply.answers(read[layers.RMem])
    assert (reply.status, int(reply.flags)) == (Status.PERMISSION, Flag.BY_SWITCH)
    assert reply.sprintf("%RMem.op% %RMem.status%") == "READ_REPLY PERMISSION"
    assert len(reply.payload) == 0


def test_control_requests_reach_the_controller(switch: RackSwitch) -> None:
    hello = layers.Hello(kind=1, incarnation=77)
    (out,) = switch.inject(1, bytes(layers.element_frame(C1, Op.HELLO, hello, src=999)))
    assert out.port == CPU_PORT
    packet = layers.PacketIn(out.frame)
    assert (packet.ingress_port, packet.pad, packet.element) == (1, 0, C1)
    assert packet[layers.RMem].src == C1 and packet[layers.Hello].incarnation == 77


def test_the_controller_reaches_elements(switch: RackSwitch) -> None:
    change = layers.controller_frame(4, M1, Op.PT_SET, layers.PageTableChange(pages=8, pid=5), va=BASE, generation=3)
    (out,) = switch.inject(CPU_PORT, bytes(change))
    assert out.port == 4
    packet = Ether(out.frame)
    assert bytes(packet) == bytes(change[Ether])
    assert (packet[layers.RMem].generation, packet[layers.PageTableChange].pages) == (3, 8)
