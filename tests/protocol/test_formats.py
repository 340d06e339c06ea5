"""The three definitions of the wire format (P4, Scapy, structs) agree field by field."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from scapy.layers.l2 import Ether
from scapy.packet import Raw

from p4switch.compiler import ir
from p4switch.compiler.driver import compile_source
from protocol import layers, wire
from protocol.rack import Rack

PROGRAM = Path(__file__).resolve().parents[2] / "p4src" / "rack_mmu.p4"


@pytest.fixture(scope="module")
def headers() -> dict[str, list[tuple[str, int]]]:
    program = compile_source(PROGRAM).program
    result = {}
    for header in program.headers:
        result[header.name] = [(f.name, f.type.width) for f in header.fields if isinstance(f.type, ir.Bits)]
    return result


def bits(field: object) -> int:
    size = getattr(field, "size", None)
    return int(size) if isinstance(size, int) else int(field.sz * 8)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("layer", "header"), [(layers.RMem, "rmem_t"), (layers.PacketIn, "packet_in_t"), (layers.PacketOut, "packet_out_t")]
)
def test_scapy_and_p4(layer: type, header: str, headers: dict[str, list[tuple[str, int]]]) -> None:
    assert [(f.name, bits(f)) for f in layer.fields_desc] == headers[header]


def test_structs_and_p4(headers: dict[str, list[tuple[str, int]]]) -> None:
    names = ["version", "op", "flags", "status", "src", "dst", "pid", "length", "generation", "va", "pa", "request_id"]
    assert [n for n, _ in headers["rmem_t"]] == names
    offset = 0
    for name, width in headers["rmem_t"]:
        header = wire.Header(**({"op": 0, "version": 0} | {name: (1 << width) - 1}))
        expected = bytes(offset) + b"\xff" * (width // 8) + bytes(40 - offset - width // 8)
        assert header.pack() == expected, name
        offset += width // 8
    assert offset == wire.HEADER_SIZE


def test_structs_and_scapy() -> None:
    header = wire.Header(
        wire.Op.CAS, 1, 2, 3, 4, 5, 8, generation=9, va=0x0005000000001000, pa=0x2000, request_id=0xABCDEF
    )
    packet = layers.RMem(header.pack())
    for name in ("op", "status", "src", "dst", "pid", "length", "generation", "va", "pa", "request_id", "version"):
        assert getattr(packet, name) == getattr(header, name)
    assert int(packet.flags) == header.flags
    assert bytes(packet) == header.pack() == wire.Header.unpack(bytes(packet)).pack()


@pytest.mark.parametrize(
    ("layer", "packed", "values"),
    [
        (
            layers.Hello,
            wire.HELLO_ARGS.pack(2, 1, 0, 0, 4096, 77),
            {"kind": 2, "media": 1, "pages": 4096, "incarnation": 77},
        ),
        (layers.CompareAndSwap, wire.CAS_ARGS.pack(1, 2), {"expected": 1, "desired": 2}),
        (layers.Word, wire.WORD.pack(1 << 63), {"word": 1 << 63}),
        (layers.HelloReply, wire.HELLO_REPLY.pack(101, 100, 0), {"element": 101, "heartbeat_ms": 100}),
        (layers.ProcessCreate, wire.PROCESS_CREATE_ARGS.pack(b"kv"), {"process_name": b"kv" + bytes(30)}),
        (layers.Alloc, wire.ALLOC_ARGS.pack(1 << 20, 3, 0), {"size": 1 << 20, "permissions": 3}),
        (layers.AllocReply, wire.ALLOC_REPLY.pack(5, 6, 7, 0), {"va": 5, "size": 6, "generation": 7}),
        (layers.Free, wire.FREE_ARGS.pack(5, 6), {"va": 5, "size": 6}),
        (
            layers.PageTableChange,
            wire.PT_ARGS.pack(8, 5, 3, 1, 4, 6),
            {"pages": 8, "pid": 5, "permissions": 3, "zero": 1, "epoch": 4, "incarnation": 6},
        ),
        (
            layers.TranslateReply,
            wire.TRANSLATE_REPLY.pack(8, 0x2000, 9, 101, 1),
            {"pages": 8, "physical": 0x2000, "generation": 9, "element": 101, "permissions": 1},
        ),
        (
            layers.Notify,
            wire.NOTIFY_ARGS.pack(9, 0, 101, 7, 5, 6),
            {"code": 9, "element": 101, "group": 7, "va": 5, "pages": 6},
        ),
        (layers.Watch, wire.WATCH_ARGS.pack(5, 6), {"source": 5, "group": 6}),
        (layers.Ranges, wire.RANGES_ARGS.pack(5, 6), {"source": 5, "group": 6}),
        (layers.RangesReply, wire.RANGES_REPLY.pack(4096, 3), {"next": 4096, "count": 3}),
        (layers.Heartbeat, wire.HEARTBEAT_ARGS.pack(250), {"interval_ms": 250}),
    ],
)
def test_control_messages(layer: type, packed: bytes, values: dict[str, object]) -> None:
    packet = layer(packed)
    assert {name: getattr(packet, name) for name in values} == values
    assert bytes(packet) == packed


def test_layers_are_found_in_a_frame() -> None:
    payload = wire.PT_ARGS.pack(1, 5, 3, 0, 0, 0)
    frame = Ether() / layers.RMem(op=wire.Op.PT_SET) / payload
    assert layers.PageTableChange in Ether(bytes(frame))
    data = Ether(bytes(Ether() / layers.RMem(op=wire.Op.WRITE, length=4) / b"data"))
    assert bytes(data[layers.RMem].payload) == b"data"


PAYLOAD_OF = {
    (wire.Op.CAS, False): layers.CompareAndSwap,
    (wire.Op.CAS, True): layers.Word,
    (wire.Op.FETCH_ADD, False): layers.Word,
    (wire.Op.FETCH_ADD, True): layers.Word,
    (wire.Op.HELLO, False): layers.Hello,
    (wire.Op.HELLO, True): layers.HelloReply,
    (wire.Op.PROCESS_CREATE, False): layers.ProcessCreate,
    (wire.Op.ALLOC, False): layers.Alloc,
    (wire.Op.ALLOC, True): layers.AllocReply,
    (wire.Op.FREE, False): layers.Free,
    (wire.Op.CHECKSUM, True): layers.Word,
    (wire.Op.GRANT, False): layers.Grant,
    (wire.Op.STEAL, False): layers.Steal,
    (wire.Op.PROTECT, False): layers.Protect,
    (wire.Op.STAT, True): layers.StatReply,
    (wire.Op.TRANSLATE, True): layers.TranslateReply,
    (wire.Op.TAKE_ADDRESS, False): layers.TakeAddress,
    (wire.Op.WATCH, False): layers.Watch,
    (wire.Op.RANGES, False): layers.Ranges,
    (wire.Op.RANGES, True): layers.RangesReply,
    (wire.Op.HEARTBEAT, False): layers.Heartbeat,
    (wire.Op.MIGRATE, False): layers.Migrate,
    (wire.Op.REVOKE, False): layers.Revoke,
    (wire.Op.FENCE, False): layers.Fence,
    (wire.Op.POISON, False): layers.Poison,
    (wire.Op.COPY, False): layers.Copy,
    (wire.Op.RECEIVE, False): layers.Receive,
    (wire.Op.PT_SET, False): layers.PageTableChange,
    (wire.Op.PT_CLEAR, False): layers.PageTableChange,
    (wire.Op.NOTIFY, False): layers.Notify,
}


@pytest.mark.parametrize("op", [pytest.param(op, id=op.name) for op in wire.Op])
@pytest.mark.parametrize("reply", [False, True])
def test_payload_of_every_operation(op: wire.Op, reply: bool) -> None:
    """Each operation's payload has its layer, a shorter one is Raw; operations without payload or with bare data have none."""
    code = op | wire.REPLY if reply else op
    expected = PAYLOAD_OF.get((op, reply), Raw)
    packet = layers.RMem(bytes(layers.RMem(op=code) / bytes(64)))
    assert type(packet.payload) is expected
    assert type(layers.RMem(bytes(layers.RMem(op=code) / b"short")).payload) is Raw
    refused = layers.RMem(bytes(layers.RMem(op=op | wire.REPLY, status=7) / bytes(64)))
    assert type(refused.payload) is Raw, "a reason in words"
    assert packet.sprintf("%RMem.op%") == (f"{op.name}_REPLY" if reply else op.name)


def test_builders() -> None:
    write = layers.element_frame(3, wire.Op.WRITE, b"abcd", pid=5, va=0x1000)
    assert (write.src, write.dst, write.type) == ("02:00:00:00:00:03", "02:00:00:00:00:00", wire.ETHERTYPE)
    assert wire.Header.unpack(bytes(write), 14) == wire.Header(wire.Op.WRITE, pid=5, length=4, va=0x1000)
    cas = layers.element_frame(3, wire.Op.CAS, layers.CompareAndSwap(expected=1, desired=2))
    assert (cas[layers.RMem].length, bytes(cas)[54:]) == (8, wire.CAS_ARGS.pack(1, 2))
    assert layers.element_frame(3, wire.Op.READ, length=64)[layers.RMem].length == 64
    out = layers.controller_frame(4, 101, wire.Op.PT_SET, layers.PageTableChange(pages=2), generation=9)
    again = layers.PacketOut(bytes(out))
    assert (again.egress_port, again[Ether].dst, again[layers.RMem].dst) == (4, "02:00:00:00:00:65", 101)
    assert again[layers.PageTableChange].pages == 2


def test_a_reply_answers_its_request() -> None:
    request = layers.RMem(op=wire.Op.READ, request_id=7)
    assert layers.RMem(op=0x81, request_id=7).answers(request)
    assert not layers.RMem(op=0x81, request_id=8).answers(request)
    assert not layers.RMem(op=0x82, request_id=7).answers(request)


def members(name: str) -> dict[str, int]:
    (found,) = (e for e in compile_source(PROGRAM).program.enums if e.name == name)
    return {member: int(value) for member, value in zip(found.members, found.values, strict=True)}


def test_numbers_of_the_program_are_those_of_the_protocol() -> None:
    """The enumerations of p4src/constants.p4, as far as the switch knows them, against wire.py."""
    ops = members("Op")
    assert ops.pop("NOTIFY_REPLY") == wire.Op.NOTIFY | wire.REPLY
    assert ops == {name: wire.Op[name] for name in ops}
    assert set(ops) >= {op.name for op in wire.DATA_OPS}
    assert {op for op in wire.CONTROL_OPS if op & 0xE0 != 0x20} == set(), "control requests are 0x20 to 0x3F"
    status = members("Status")
    assert status == {name: wire.Status[name] for name in status}
    permission = members("Permission")
    assert (permission["READ"], permission["WRITE"], permission["READ_WRITE"]) == tuple(
        wire.Perm[n] for n in ("READ", "WRITE", "RW")
    )
    kinds = members("Kind")
    assert kinds.pop("NONE") == 0
    assert kinds == {k.name: int(k) for k in wire.ElementKind}


def test_constants_of_the_program_are_those_of_the_protocol() -> None:
    text = (PROGRAM.parent / "constants.p4").read_text()
    found = {m[1]: int(m[2], 0) for m in re.finditer(r"const \S+ (\w+) = (\w+);", text)}
    expected = {
        "ETHERTYPE_RMEM": wire.ETHERTYPE,
        "RMEM_VERSION": wire.VERSION,
        "CPU_PORT": Rack(name="", elements=()).cpu_port,
        "ELEMENT_MAC_BASE": int.from_bytes(wire.element_mac(0), "big"),
        "CONTROLLER": wire.CONTROLLER_ELEMENT,
        "REPLY_BIT": wire.REPLY,
        "FLAG_BY_SWITCH": wire.Flag.BY_SWITCH,
        "FLAG_BY_ELEMENT": wire.Flag.BY_ELEMENT,
        "FLAG_RETRY": wire.Flag.RETRY,
        "FLAG_CACHED": wire.Flag.CACHED,
        "PAGE_SIZE": wire.PAGE_SIZE,
        "WORD_SIZE": wire.WORD.size,
        "FRAME_OVERHEAD": wire.FRAME_OVERHEAD,
        "MAX_FRAME": wire.MAX_FRAME,
        "ELEMENTS": wire.MAX_ELEMENT + 1,
        "PROCESSES": wire.MAX_PID + 1,
    }
    assert {name: found[name] for name in expected} == expected
    assert set(found) - set(expected) == {"VERDICTS", "CONTROL_CLASS", "CLASS_MASK"}


def test_the_controller_names_every_verdict() -> None:
    from controller.api import _VERDICTS

    verdicts = members("Verdict")
    assert verdicts.pop("REFUSED") == 16
    assert {number: name.lower() for name, number in verdicts.items()} == _VERDICTS
