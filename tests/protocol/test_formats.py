"""The three definitions of the wire format (P4, Scapy, structs) agree field by field."""

from __future__ import annotations

from pathlib import Path

import pytest
from scapy.layers.l2 import Ether

from p4switch.compiler import ir
from p4switch.compiler.driver import compile_source
from protocol import layers, wire

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
        (layers.HelloReply, wire.HELLO_REPLY.pack(101, 100, 0), {"element": 101, "heartbeat_ms": 100}),
        (layers.ProcessCreate, wire.PROCESS_CREATE_ARGS.pack(b"kv"), {"process_name": b"kv" + bytes(30)}),
        (layers.Alloc, wire.ALLOC_ARGS.pack(1 << 20, 3, 0), {"size": 1 << 20, "permissions": 3}),
        (layers.AllocReply, wire.ALLOC_REPLY.pack(5, 6, 7, 0), {"va": 5, "size": 6, "generation": 7}),
        (layers.Free, wire.FREE_ARGS.pack(5, 6), {"va": 5, "size": 6}),
        (
            layers.PageTableChange,
            wire.PT_ARGS.pack(8, 5, 3, 1, 4, 0),
            {"pages": 8, "pid": 5, "permissions": 3, "zero": 1},
        ),
        (layers.Notify, wire.NOTIFY_ARGS.pack(1, 0, 101, 0, 5, 6), {"code": 1, "element": 101, "va": 5, "pages": 6}),
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
