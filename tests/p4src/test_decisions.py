"""Every row of docs/protocol.md, "What the switch does with a frame", on the real pipeline."""

from __future__ import annotations

import pytest

from protocol import wire
from protocol.wire import Flag, Header, Op, Status
from tests.p4src.harness import CPU_PORT, RackSwitch
from tests.p4src.model import Rack, decide
from tests.p4src.world import BASE, C1, C2, M1, M2, PAGE, frame

SWITCH_MAC = wire.element_mac(0)


def reply_of(out: list, port: int) -> Header:
    assert [o.port for o in out] == [port]
    return Header.unpack(out[0].frame, 14)


def test_read_is_forwarded_with_translation_and_generation(switch: RackSwitch) -> None:
    out = switch.inject(1, frame(Header(Op.READ, src=99, pid=5, va=BASE + PAGE + 8, length=64, request_id=77)))
    header = reply_of(out, 4)
    assert out[0].frame[:12] == wire.element_mac(M1) + wire.element_mac(C1)
    assert header == Header(
        Op.READ, src=C1, dst=M1, pid=5, length=64, generation=7, va=BASE + PAGE + 8, pa=0x11008, request_id=77
    )
    assert switch.verdicts() == {0: 1}
    assert switch.counter("process_traffic", 5) == switch.counter("element_traffic", C1) == (1, wire.FRAME_OVERHEAD)


def test_a_longer_prefix_overrides(switch: RackSwitch) -> None:
    header = reply_of(switch.inject(1, frame(Header(Op.READ, pid=5, va=BASE + 3 * PAGE, length=8))), 5)
    assert (header.dst, header.pa, header.generation) == (M2, 0x7000, 9)


@pytest.mark.parametrize(
    ("header", "payload", "status"),
    [
        (Header(Op.READ, pid=6, va=6 << 48, length=8), b"", Status.PERMISSION),  # c2's process claimed on c1
        (Header(Op.READ, pid=99, va=BASE, length=8), b"", Status.PERMISSION),  # no such process
        (Header(Op.READ, pid=5, va=9 << 48, length=8), b"", Status.UNMAPPED),
        (Header(Op.READ, pid=5, va=8 << 48, length=8), b"", Status.UNMAPPED),  # protection without translation
        (Header(Op.READ, pid=5, va=6 << 48, length=8), b"", Status.PERMISSION),  # another's page
        (Header(Op.READ, pid=5, va=BASE + 2 * PAGE, length=8), b"", Status.PERMISSION),  # revoked page
        (Header(Op.WRITE, pid=5, va=BASE + 3 * PAGE, length=2), b"ab", Status.PERMISSION),  # read-only page
        (Header(Op.CAS, pid=5, va=BASE + 3 * PAGE, length=8), bytes(16), Status.PERMISSION),
        (Header(Op.READ, pid=5, va=7 << 48, length=8), b"", Status.ELEMENT_FAILED),
        (Header(Op.READ, pid=5, va=BASE, length=0), b"", Status.BAD_REQUEST),
        (Header(Op.READ, pid=5, va=BASE, length=4097), b"", Status.BAD_REQUEST),
        (Header(Op.READ, pid=5, va=BASE + 4095, length=2), b"", Status.BAD_REQUEST),  # crosses a page
        (Header(Op.WRITE, pid=5, va=BASE, length=9), b"12345678", Status.BAD_REQUEST),  # shorter than it says
        (Header(Op.WRITE, pid=5, va=BASE, length=8), bytes(4097), Status.BAD_REQUEST),  # oversized
        (Header(Op.CAS, pid=5, va=BASE + 4, length=8), bytes(16), Status.BAD_REQUEST),  # unaligned
        (Header(Op.CAS, pid=5, va=BASE, length=4), bytes(16), Status.BAD_REQUEST),
        (Header(Op.CAS, pid=5, va=BASE, length=8), bytes(15), Status.BAD_REQUEST),
        (Header(Op.FETCH_ADD, pid=5, va=BASE, length=8), bytes(7), Status.BAD_REQUEST),
        (Header(0x55, pid=5, va=BASE, length=8), b"", Status.BAD_REQUEST),  # unknown operation
        (Header(Op.PT_SET, pid=5, va=BASE, length=8), bytes(16), Status.BAD_REQUEST),  # the controller's alone
    ],
)
def test_refusals_are_typed_and_turned_around(
    switch: RackSwitch, header: Header, payload: bytes, status: Status
) -> None:
    header = header._replace(request_id=0x1234)
    out = switch.inject(1, frame(header, payload))
    reply = reply_of(out, 1)
    assert len(out[0].frame) == wire.FRAME_OVERHEAD
    assert out[0].frame[:12] == wire.element_mac(C1) + SWITCH_MAC
    assert (reply.status, reply.flags, reply.dst, reply.src) == (status, Flag.BY_SWITCH, C1, 0)
    assert (reply.op, reply.request_id, reply.va) == (header.op | wire.REPLY, 0x1234, header.va)
    assert switch.verdicts() == {16 + status: 1}


def test_the_largest_write_passes(switch: RackSwitch) -> None:
    out = switch.inject(1, frame(Header(Op.WRITE, pid=5, va=BASE, length=4096), bytes(range(256)) * 16))
    assert out[0].frame[54:] == bytes(range(256)) * 16


def test_failed_element_sends_a_digest(switch: RackSwitch) -> None:
    switch.inject(1, frame(Header(Op.READ, pid=5, va=7 << 48, length=8)))
    assert switch.digests() == [(103, 5, 7 << 48, C1)]


def test_a_dead_element_is_refused_at_once(switch: RackSwitch) -> None:
    switch.change("liveness", {"element": M1}, "failed")
    assert (
        reply_of(switch.inject(1, frame(Header(Op.READ, pid=5, va=BASE, length=8))), 1).status == Status.ELEMENT_FAILED
    )
    assert reply_of(switch.inject(1, frame(Header(Op.READ, pid=5, va=BASE + 3 * PAGE, length=8))), 5).dst == M2


def test_fenced_element(switch: RackSwitch) -> None:
    switch.change("element", {"port": 1}, "fence", element=C1, kind=1)
    for op in (Op.READ, Op.ALLOC):
        assert reply_of(switch.inject(1, frame(Header(op, pid=5, va=BASE, length=8))), 1).status == Status.FENCED
    assert [o.port for o in switch.inject(1, frame(Header(Op.HEARTBEAT)))] == [CPU_PORT]
    switch.change("element", {"port": 1}, "attach", element=C1, kind=1)
    assert reply_of(switch.inject(1, frame(Header(Op.READ, pid=5, va=BASE, length=8))), 4).src == C1


def test_replies(switch: RackSwitch) -> None:
    answer = Header(Op.READ | wire.REPLY, src=1, dst=C1, pid=5, length=4)
    out = switch.inject(4, frame(answer, b"data", M1))
    assert (out[0].port, out[0].frame[54:], Header.unpack(out[0].frame, 14).src) == (1, b"data", M1)
    assert switch.inject(1, frame(answer._replace(dst=C2))) == []  # a compute element forges a reply
    assert switch.inject(4, frame(answer._replace(dst=55), source=M1)) == []  # nobody
    assert [o.port for o in switch.inject(4, frame(Header(Op.PT_SET | wire.REPLY), source=M1))] == [CPU_PORT]
    assert [o.port for o in switch.inject(1, frame(Header(Op.NOTIFY | wire.REPLY)))] == [CPU_PORT]
    assert switch.inject(1, frame(Header(Op.PT_SET | wire.REPLY))) == []  # not an answer that it may give
    switch.change("element", {"port": 4}, "fence", element=M1, kind=2)
    assert switch.inject(4, frame(answer, b"data", M1)) == []
    # The controller still hears a fenced memory element: it may be only slow, and is made safe before it serves again.
    for to_controller in (Header(Op.PT_CLEAR | wire.REPLY), Header(Op.BARRIER | wire.REPLY), Header(Op.HEARTBEAT)):
        assert [o.port for o in switch.inject(4, frame(to_controller, source=M1))] == [CPU_PORT]
    assert switch.verdicts() == {1: 1, 36: 2, 38: 1, 2: 5, 40: 1}


def test_control_requests_and_their_source(switch: RackSwitch) -> None:
    (out,) = switch.inject(2, frame(Header(Op.ALLOC, src=1, pid=6, length=16), bytes(16), C2))
    assert out.port == CPU_PORT
    assert out.frame[:4] == (2 << 7).to_bytes(2, "big") + C2.to_bytes(2, "big")
    assert Header.unpack(out.frame, 4 + 14).src == C2
    assert (
        reply_of(switch.inject(2, frame(Header(Op.ALLOC, pid=5, length=16), bytes(16), C2)), 2).status
        == Status.PERMISSION
    )


def test_packet_out_leaves_as_it_came(switch: RackSwitch) -> None:
    inner = frame(Header(Op.PT_SET, src=0, dst=M1, generation=5), bytes(20), 0)
    assert [(o.port, o.frame) for o in switch.inject(CPU_PORT, (4 << 7).to_bytes(2, "big") + inner)] == [(4, inner)]
    assert switch.inject(CPU_PORT, b"\0") == []
    assert switch.verdicts() == {3: 1, 39: 1}


def test_what_does_not_belong_is_dropped_and_counted(switch: RackSwitch) -> None:
    request = frame(Header(Op.READ, pid=5, va=BASE, length=8))
    assert switch.inject(1, request[:53]) == []
    assert switch.inject(1, request[:12] + b"\x08\x00" + request[14:]) == []
    assert switch.inject(1, b"") == []
    assert switch.inject(1, frame(Header(Op.READ, pid=5, va=BASE, length=8, version=2))) == []
    assert switch.inject(9, request) == []
    assert switch.inject(4, frame(Header(Op.READ, pid=5, va=BASE, length=8), source=M1)) == []
    assert switch.verdicts() == {33: 1, 32: 2, 34: 1, 35: 1, 37: 1}


def test_a_replayed_frame_from_another_port_is_a_spoof(switch: RackSwitch) -> None:
    request = frame(Header(Op.WRITE, pid=5, va=BASE, length=4), b"evil")
    assert [o.port for o in switch.inject(1, request)] == [4]
    assert reply_of(switch.inject(2, request), 2).status == Status.PERMISSION


def test_the_model_agrees_on_a_plain_read(rack: Rack, switch: RackSwitch) -> None:
    request = frame(Header(Op.READ, pid=5, va=BASE, length=8))
    decision = decide(rack, 1, request)
    assert [(o.port, o.frame) for o in switch.inject(1, request)] == [(decision.port, decision.frame)]
