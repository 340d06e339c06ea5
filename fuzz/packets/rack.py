"""The rack program's seed: a small rack in its tables, and a frame of every operation, as an .stf script made with Scapy."""

from __future__ import annotations

from protocol import wire
from protocol.layers import (
    Alloc,
    CompareAndSwap,
    Hello,
    PageTableChange,
    ProcessCreate,
    Word,
    controller_frame,
    element_frame,
)

CPU_PORT = 510  # p4src/constants.p4
_COMPUTE, _MEMORY = 1, 101
_BASE = 5 << 48

_TABLES = f"""\
add attachment.element port:1 attach(element:{_COMPUTE}, kind:1)
add attachment.element port:4 attach(element:{_MEMORY}, kind:2)
add attachment.element port:3 fence(element:2, kind:1)
add reply_route element:{_COMPUTE} route(port:1)
add binding element:{_COMPUTE} pid:5 bind()
add translation va:{_BASE}/48 map_page(element:{_MEMORY}, offset:0x10000)
add protection pid:5 va:{_BASE}/48 allow(permissions:3, generation:7)
add protection pid:5 va:{_BASE + 8192}/52 deny()
add liveness element:{_MEMORY} alive(port:4)
"""


def script() -> str:
    """Table entries, then packets; nothing is expected."""
    request = {"pid": 5, "va": _BASE, "request_id": 1}
    cached = {"flags": int(wire.Flag.CACHED), "dst": _MEMORY, "length": 64, "generation": 7, "pid": 5}
    place = (_BASE + 0x10000) % (1 << 64)
    frames = [
        (1, element_frame(_COMPUTE, wire.Op.READ, b"", length=64, **request)),
        (1, element_frame(_COMPUTE, wire.Op.WRITE, b"page" * 16, **request)),
        (1, element_frame(_COMPUTE, wire.Op.CAS, CompareAndSwap(expected=1, desired=2), **request)),
        (1, element_frame(_COMPUTE, wire.Op.FETCH_ADD, Word(word=1), **request)),
        (1, element_frame(_COMPUTE, wire.Op.READ, length=64, pid=5, va=_BASE + 8192)),
        (1, element_frame(_COMPUTE, wire.Op.READ, length=64, pid=6, va=_BASE)),
        (1, element_frame(_COMPUTE, wire.Op.READ, b"", **cached, va=_BASE, pa=place)),
        (1, element_frame(_COMPUTE, wire.Op.READ, b"", **cached, va=_BASE, pa=place + 4096)),
        (3, element_frame(2, wire.Op.READ, b"", length=64, **request)),
        (4, element_frame(_MEMORY, wire.Op.READ | wire.REPLY, b"page" * 16, dst=_COMPUTE, **request)),
        (1, element_frame(_COMPUTE, wire.Op.HELLO, Hello())),
        (1, element_frame(_COMPUTE, wire.Op.PROCESS_CREATE, ProcessCreate(process_name=b"a"))),
        (1, element_frame(_COMPUTE, wire.Op.ALLOC, Alloc(size=4096), pid=5)),
        (4, element_frame(_MEMORY, wire.Op.HEARTBEAT)),
    ]
    lines = [f"packet {port} {bytes(frame).hex()}" for port, frame in frames]
    change = controller_frame(4, _MEMORY, wire.Op.PT_SET, PageTableChange(pages=1, pid=5), va=_BASE)
    return "\n".join([_TABLES, *lines, f"packet_out {bytes(change).hex()}", ""])
