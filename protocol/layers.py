"""The rmem protocol as Scapy layers, for tests and tools: headers, payloads, packet-in and packet-out.

``Ether(frame)`` dissects a frame as it is on the wire, ``PacketIn(frame)`` one that the switch hands to the controller.
:func:`element_frame` and :func:`controller_frame` build frames as elements and the controller send them.
"""

from __future__ import annotations

from typing import Any

from scapy.fields import (
    BitField,
    ByteEnumField,
    ByteField,
    FlagsField,
    IntField,
    IPField,
    LongField,
    ShortField,
    StrField,
    StrFixedLenField,
    XIntField,
    XLongField,
    XShortField,
)
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw, bind_layers

from protocol import wire

_OPS = {int(op): op.name for op in wire.Op} | {int(op) | wire.REPLY: f"{op.name}_REPLY" for op in wire.Op}
_STATUS = {int(s): s.name for s in wire.Status}


class RMem(Packet):
    """The rmem header (docs/protocol.md)."""

    name = "rmem"
    fields_desc = [
        ByteField("version", wire.VERSION),
        ByteEnumField("op", wire.Op.READ, _OPS),
        FlagsField("flags", 0, 8, ["BY_SWITCH", "BY_ELEMENT", "BY_CONTROLLER", "RETRY", "CACHED"]),
        ByteEnumField("status", 0, _STATUS),
        ShortField("src", 0),
        ShortField("dst", 0),
        XShortField("pid", 0),
        ShortField("length", 0),
        IntField("generation", 0),
        XLongField("va", 0),
        XLongField("pa", 0),
        XLongField("request_id", 0),
    ]

    def guess_payload_class(self, payload: bytes) -> type[Packet]:
        """Control messages have layers of their own; data is Raw."""
        if self.op & wire.REPLY and self.status:  # of a refusal at most words
            return Raw
        kind = _PAYLOADS.get((self.op & ~wire.REPLY, bool(self.op & wire.REPLY)))
        return kind if kind is not None and len(payload) >= len(kind()) else Raw

    def answers(self, other: Packet) -> bool:
        """Whether this is the reply to ``other``."""
        return bool(
            isinstance(other, RMem) and self.op == other.op | wire.REPLY and self.request_id == other.request_id
        )


class _Payload(Packet):
    def extract_padding(self, data: bytes) -> tuple[bytes, bytes]:
        """Nothing follows a control message."""
        return b"", data


class CompareAndSwap(_Payload):
    """CAS: two words."""

    name = "rmem CAS"
    fields_desc = [XLongField("expected", 0), XLongField("desired", 0)]


class Word(_Payload):
    """FETCH_ADD's addend; the old value in its and in CAS's reply; CHECKSUM's result."""

    name = "rmem word"
    fields_desc = [XLongField("word", 0)]


class Grant(_Payload):
    """GRANT: how many pages, and to whom."""

    name = "rmem GRANT"
    fields_desc = [
        LongField("pages", 1),
        ShortField("to_pid", 0),
        ByteField("permissions", 3),
        ByteField("reserved", 0),
        IntField("reserved2", 0),
    ]


class Steal(_Payload):
    """STEAL: how many pages, from whom, and by which capability (``protocol.capability``)."""

    name = "rmem STEAL"
    fields_desc = [
        LongField("pages", 1),
        ShortField("from_pid", 0),
        ByteField("permissions", 3),
        ByteField("reserved", 0),
        IntField("group", 0),
        StrField("capability", b""),
    ]


class TakeAddress(_Payload):
    """TAKE_ADDRESS: which one, which group may take it over, and the capability (``protocol.capability``) if another has it."""

    name = "rmem TAKE_ADDRESS"
    fields_desc = [IPField("address", "0.0.0.0"), IntField("group", 0), StrField("capability", b"")]


class Protect(_Payload):
    """PROTECT: how many pages get which permissions."""

    name = "rmem PROTECT"
    fields_desc = [LongField("pages", 1), ByteField("permissions", 3), BitField("reserved", 0, 56)]


class StatReply(_Payload):
    """STAT: what is at an address, and for how many pages on."""

    name = "rmem STAT reply"
    fields_desc = [
        LongField("pages", 1),
        IntField("generation", 0),
        ShortField("owner", 0),
        ShortField("element", 0),
        IntField("group", 0),
        ByteField("permissions", 3),
        ByteEnumField("media", 0, {int(m): m.name for m in wire.Media}),
        ShortField("reserved", 0),
    ]


class TranslateReply(_Payload):
    """TRANSLATE: where an address is, and for how many pages on."""

    name = "rmem TRANSLATE reply"
    fields_desc = [
        LongField("pages", 1),
        XLongField("physical", 0),
        IntField("generation", 0),
        ShortField("element", 0),
        ByteField("permissions", 3),
        ByteField("reserved", 0),
    ]


class Watch(_Payload):
    """WATCH: whom to watch; a packed capability follows."""

    name = "rmem WATCH"
    fields_desc = [ShortField("source", 0), ShortField("reserved", 0), IntField("group", 0)]


class Ranges(_Payload):
    """RANGES: of whom to list what may be stolen."""

    name = "rmem RANGES"
    fields_desc = [ShortField("source", 0), ShortField("reserved", 0), IntField("group", 0)]


class RangesReply(_Payload):
    """What may be stolen; ``count`` pairs of address and pages follow."""

    name = "rmem RANGES reply"
    fields_desc = [XLongField("next", 0), IntField("count", 0), IntField("reserved", 0)]


class Heartbeat(_Payload):
    """HEARTBEAT: how often this element sends one."""

    name = "rmem HEARTBEAT"
    fields_desc = [IntField("interval_ms", 100), IntField("reserved", 0)]


class Poison(_Payload):
    """POISON: how many pages of a memory element fail, or are healed."""

    name = "rmem POISON"
    fields_desc = [IntField("pages", 1), ByteField("bad", 1), BitField("reserved", 0, 24)]


class Copy(_Payload):
    """COPY: which element gets the pages, in which transfer."""

    name = "rmem COPY"
    fields_desc = [
        IntField("pages", 1),
        ShortField("target", 0),
        ShortField("pid", 0),
        LongField("transfer", 0),
        IntField("epoch", 1),
        IntField("incarnation", 0),
    ]


class Receive(_Payload):
    """RECEIVE: which element sends pages, and whose they are to be."""

    name = "rmem RECEIVE"
    fields_desc = [
        IntField("pages", 1),
        ShortField("pid", 0),
        ShortField("source", 0),
        ByteField("permissions", 0),
        BitField("reserved", 0, 24),
        IntField("epoch", 1),
        IntField("incarnation", 0),
    ]


class Migrate(_Payload):
    """MIGRATE: how many pages, and where to."""

    name = "rmem MIGRATE"
    fields_desc = [LongField("pages", 1), ShortField("target", 0), BitField("reserved", 0, 48)]


class Revoke(_Payload):
    """REVOKE: how many pages."""

    name = "rmem REVOKE"
    fields_desc = [LongField("pages", 1)]


class Fence(_Payload):
    """FENCE: which element, and whether it is fenced or let in; an operator's token follows."""

    name = "rmem FENCE"
    fields_desc = [ByteField("fenced", 1), BitField("reserved", 0, 56), StrFixedLenField("element", b"", 32)]


class Hello(_Payload):
    """HELLO: what an element is."""

    name = "rmem HELLO"
    fields_desc = [
        ByteEnumField("kind", 1, {int(k): k.name for k in wire.ElementKind}),
        ByteEnumField("media", 0, {int(m): m.name for m in wire.Media}),
        ShortField("reserved", 0),
        IntField("reserved2", 0),
        LongField("pages", 0),
        LongField("incarnation", 0),
    ]


class HelloReply(_Payload):
    """The controller's answer to HELLO."""

    name = "rmem HELLO reply"
    fields_desc = [ShortField("element", 0), ShortField("heartbeat_ms", 100), IntField("reserved", 0)]


class ProcessCreate(_Payload):
    """PROCESS_CREATE: the process's name."""

    name = "rmem PROCESS_CREATE"
    fields_desc = [StrFixedLenField("process_name", b"", length=32)]


class Alloc(_Payload):
    """ALLOC."""

    name = "rmem ALLOC"
    fields_desc = [
        LongField("size", 0),
        FlagsField("permissions", 3, 32, ["READ", "WRITE"]),
        IntField("alloc_flags", 0),
    ]


class AllocHint(_Payload):
    """Where ALLOC wishes the memory to be."""

    name = "rmem ALLOC hint"
    fields_desc = [
        XLongField("near", 0),
        ByteEnumField("placement", 0, {int(p): p.name for p in wire.Placement}),
        FlagsField("hint_flags", 0, 8, ["STRICT"]),
        BitField("reserved", 0, 48),
        StrFixedLenField("on_element", b"", length=32),
    ]


class AllocReply(_Payload):
    """What was allocated."""

    name = "rmem ALLOC reply"
    fields_desc = [XLongField("va", 0), LongField("size", 0), IntField("generation", 0), IntField("reserved", 0)]


class Free(_Payload):
    """FREE."""

    name = "rmem FREE"
    fields_desc = [XLongField("va", 0), LongField("size", 0)]


class PageTableChange(_Payload):
    """PT_SET and PT_CLEAR."""

    name = "rmem page-table change"
    fields_desc = [
        IntField("pages", 1),
        XShortField("pid", 0),
        FlagsField("permissions", 0, 8, ["READ", "WRITE"]),
        ByteField("zero", 0),
        IntField("epoch", 0),
        XIntField("incarnation", 0),
    ]


class Notify(_Payload):
    """NOTIFY."""

    name = "rmem NOTIFY"
    fields_desc = [
        ByteEnumField("code", 1, {int(c): c.name for c in wire.NotifyCode}),
        ByteField("reserved", 0),
        ShortField("element", 0),
        IntField("group", 0),
        XLongField("va", 0),
        LongField("pages", 0),
    ]


class PacketIn(Packet):
    """What the switch puts in front of a frame for the controller (on the CPU port)."""

    name = "packet-in"
    fields_desc = [BitField("ingress_port", 0, 9), BitField("pad", 0, 7), ShortField("element", 0)]


class PacketOut(Packet):
    """What the controller puts in front of a frame for an element (on the CPU port)."""

    name = "packet-out"
    fields_desc = [BitField("egress_port", 0, 9), BitField("pad", 0, 7)]


_PAYLOADS: dict[tuple[int, bool], type[Packet]] = {
    (wire.Op.CAS, False): CompareAndSwap,
    (wire.Op.CAS, True): Word,
    (wire.Op.FETCH_ADD, False): Word,
    (wire.Op.FETCH_ADD, True): Word,
    (wire.Op.HELLO, False): Hello,
    (wire.Op.HELLO, True): HelloReply,
    (wire.Op.PROCESS_CREATE, False): ProcessCreate,
    (wire.Op.ALLOC, False): Alloc,
    (wire.Op.ALLOC, True): AllocReply,
    (wire.Op.FREE, False): Free,
    (wire.Op.CHECKSUM, True): Word,
    (wire.Op.GRANT, False): Grant,
    (wire.Op.STEAL, False): Steal,
    (wire.Op.PROTECT, False): Protect,
    (wire.Op.STAT, True): StatReply,
    (wire.Op.TRANSLATE, True): TranslateReply,
    (wire.Op.TAKE_ADDRESS, False): TakeAddress,
    (wire.Op.WATCH, False): Watch,
    (wire.Op.RANGES, False): Ranges,
    (wire.Op.RANGES, True): RangesReply,
    (wire.Op.HEARTBEAT, False): Heartbeat,
    (wire.Op.MIGRATE, False): Migrate,
    (wire.Op.REVOKE, False): Revoke,
    (wire.Op.FENCE, False): Fence,
    (wire.Op.POISON, False): Poison,
    (wire.Op.COPY, False): Copy,
    (wire.Op.RECEIVE, False): Receive,
    (wire.Op.PT_SET, False): PageTableChange,
    (wire.Op.PT_CLEAR, False): PageTableChange,
    (wire.Op.NOTIFY, False): Notify,
}

bind_layers(Ether, RMem, type=wire.ETHERTYPE)
bind_layers(PacketIn, Ether)
bind_layers(PacketOut, Ether)


def _header_fields(op: int, length: int, fields: dict[str, int]) -> dict[str, Any]:
    return {"op": op, "length": length} | fields


def element_frame(element: int, op: int, payload: Packet | bytes = b"", **fields: int) -> Packet:
    """A frame as an element sends it to the switch. ``fields`` are header fields; ``length`` is that of the payload, unless
    it is given, or the operation has a length of its own (READ has none to take it from; a word's is 8)."""
    data = bytes(payload)
    length = wire.WORD.size if op in (wire.Op.CAS, wire.Op.FETCH_ADD) else len(data)
    header = RMem(**_header_fields(op, length, fields))
    mac = wire.mac_text(wire.element_mac(element))
    return Ether(dst=wire.mac_text(wire.element_mac(0)), src=mac) / header / data


def controller_frame(port: int, element: int, op: int, payload: Packet | bytes = b"", **fields: int) -> Packet:
    """A frame as the controller gives it to the switch's CPU port, for an element on ``port``."""
    data = bytes(payload)
    header = RMem(**_header_fields(op, len(data), {"dst": element} | fields))
    dst, src = (wire.mac_text(wire.element_mac(e)) for e in (element, wire.CONTROLLER_ELEMENT))
    return PacketOut(egress_port=port) / Ether(dst=dst, src=src) / header / data


__all__ = [
    "Alloc",
    "AllocReply",
    "CompareAndSwap",
    "Free",
    "Hello",
    "HelloReply",
    "Notify",
    "PacketIn",
    "PacketOut",
    "PageTableChange",
    "ProcessCreate",
    "RMem",
    "Word",
    "controller_frame",
    "element_frame",
]
