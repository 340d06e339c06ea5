"""Pages go from one memory element to another through the switch: real elements, real packets."""

from __future__ import annotations

from hosts.memory.element import MemoryElement
from hosts.memory.page_table import PageTable
from protocol import wire
from protocol.wire import Header, Op, Perm, Status
from tests.p4src.harness import CPU_PORT, RackSwitch
from tests.p4src.world import BASE, M1, M2, PAGE, PORTS

TAKEN, GIVEN = 20, 21  # generations


def told(element: int, op: Op, payload: bytes, **fields: int) -> bytes:
    """A frame of the controller, as it leaves the switch."""
    addresses = wire.element_mac(element) + wire.element_mac(0) + wire.ETHERTYPE.to_bytes(2, "big")
    return addresses + Header(op, dst=element, va=BASE, request_id=77, **fields).pack() + payload


def test_pages_of_an_element_reach_another_one(switch: RackSwitch) -> None:
    source, target = (MemoryElement(n, memoryview(bytearray(8 * PAGE)), PageTable(8)) for n in (M1, M2))
    source.table.set(PAGE, 2, BASE, 5, Perm.RW, 7)
    source.memory[PAGE : 3 * PAGE] = bytes(range(256)) * (2 * PAGE // 256)
    answers: list[Header] = []

    def carry(element: int, frame: bytes | None) -> None:
        for out in switch.inject(PORTS[element], frame) if frame is not None else ():
            if out.port == PORTS[M2]:
                carry(M2, target.handle(out.frame))
            else:
                assert out.port == CPU_PORT
                answers.append(Header.unpack(out.frame, 4 + 14))

    source.copying.send = lambda frame: carry(M1, frame)
    carry(
        M2,
        target.handle(told(M2, Op.RECEIVE, wire.RECEIVE_ARGS.pack(2, 5, M1, 3, 0, 0), pa=4 * PAGE, generation=GIVEN)),
    )
    carry(M1, source.handle(told(M1, Op.PT_CLEAR, wire.PT_ARGS.pack(2, 0, 0, 0, 0, 0), pa=PAGE, generation=TAKEN)))
    copy = told(M1, Op.COPY, wire.COPY_ARGS.pack(2, M2, 5, 77, 0, 0), pa=PAGE, generation=TAKEN)
    assert source.handle(copy) is None
    assert [a.op for a in answers] == [Op.PT_CLEAR | wire.REPLY], (
        "the controller has said of no memory element where it is"
    )
    for element in (M1, M2):
        switch.install("reply_route", {"element": element}, "route", port=PORTS[element])
    switch.change("element", {"port": PORTS[M1]}, "fence", element=M1, kind=2)
    source.handle(copy)
    assert len(answers) == 1, "nothing comes from a fenced element"
    switch.change("element", {"port": PORTS[M1]}, "attach", element=M1, kind=2)
    source.handle(copy)
    assert [(a.op, a.src, a.status, a.request_id) for a in answers[1:]] == [
        (Op.RECEIVE | wire.REPLY, M2, Status.OK, 77)
    ]
    assert bytes(target.memory[4 * PAGE : 6 * PAGE]) == bytes(range(256)) * (2 * PAGE // 256)
    entry = target.table.entry(5 * PAGE)
    assert (entry.pid, entry.va, entry.permissions, entry.generation) == (5, BASE + PAGE, Perm.RW, GIVEN)
