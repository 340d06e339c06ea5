"""What is measured: two programs, the entries of their tables, the frames that are sent and what comes back.

Port 1 is the source's side, port 2 the sink's. Entries are by name and without P4Runtime; :mod:`bench.client` writes them. A
series numbers the entries of one table, so that any number of them, at any place, can be written and deleted.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar

from protocol import wire

ENTRIES = 30_000  # of a table that is full
LEFT_PORT, RIGHT_PORT = 1, 2
CPU_PORT = 510
SIZES = (100, 4200)  # bytes of a frame, without FCS; the largest that a program takes where that is less
FLOWS = (1, 1000)
HERE = Path(__file__).parent
ROOT = HERE.parent

Match = (
    int | tuple[int, int] | None
)  # exact, optional: value; lpm: value, length; ternary: value, mask; range: low, high


@dataclass(frozen=True)
class Row:
    """An entry by aliases of P4Info, its key in the order of the table's fields; None leaves a field out."""

    table: str
    match: tuple[Match, ...]
    action: str
    arguments: tuple[int, ...] = ()
    priority: int = 0


@dataclass(frozen=True)
class Workload(ABC):
    """A program with entries and traffic; ``entries`` is how many a large table holds when it is full."""

    name: ClassVar[str]
    program: ClassVar[Path]
    kinds: ClassVar[Mapping[str, str]]  # series and the kinds of its table's keys
    entries: int = ENTRIES

    @property
    @abstractmethod
    def full(self) -> Mapping[str, int]:
        """Entries of each series when the tables are full."""

    @abstractmethod
    def base(self) -> list[Row]:
        """The fewest entries with which every frame of :meth:`frames` reaches the other side."""

    @abstractmethod
    def row(self, series: str, number: int) -> Row:
        """An entry of a series. It changes the way of no frame but those of full tables."""

    @abstractmethod
    def frames(self, size: int, flows: int, full: bool) -> list[bytes]:
        """A frame of each flow from left to right. With ``full``, entries of the series decide on them."""

    @abstractmethod
    def reply(self, size: int) -> bytes:
        """A frame from right to left."""

    def rows(self, series: str, first: int, count: int) -> Iterator[Row]:
        """Entries of a series."""
        return (self.row(series, number) for number in range(first, first + count))

    def all_rows(self, full: bool) -> Iterator[Row]:
        """What lies in the tables while frames are sent."""
        yield from self.base()
        if full:
            for series, count in self.full.items():
                yield from self.rows(series, 0, count)


# ------------------------------------------------------------------------------------------------------------ the rack

_COMPUTE, _MEMORY = 1, 2  # element ids
_KIND_COMPUTE, _KIND_MEMORY = 1, 2
_SEGMENT, _PAGE = 36, 52  # prefix lengths: 256 MiB and 4 KiB
_FIRST = 2  # process of the series; process 1 is the base's


def _address(process: int, page: int) -> int:
    return process << wire.PID_SHIFT | page << wire.PAGE_SHIFT


def _own_page(process: int) -> int:
    """The page of a process that has an entry of its own."""
    return process * 7 % 65536


@dataclass(frozen=True)
class Rack(Workload):
    """The Rack MMU. Processes with a segment each, and a page of it that is placed on its own."""

    name = "rack"
    program = ROOT / "p4src" / "rack_mmu.p4"
    kinds = MappingProxyType({"binding": "exact", "translation": "lpm", "protection": "exact and lpm"})

    @property
    def full(self) -> Mapping[str, int]:
        """All tables that can be large."""
        return dict.fromkeys(self.kinds, self.entries)

    def base(self) -> list[Row]:
        """Two elements and one process with one segment."""
        return [
            Row("element", (LEFT_PORT,), "attach", (_COMPUTE, _KIND_COMPUTE)),
            Row("element", (RIGHT_PORT,), "attach", (_MEMORY, _KIND_MEMORY)),
            Row("liveness", (_MEMORY,), "alive", (RIGHT_PORT,)),
            Row("reply_route", (_COMPUTE,), "route", (LEFT_PORT,)),
            Row("binding", (_COMPUTE, 1), "bind"),
            Row("translation", ((_address(1, 0), _SEGMENT),), "map_page", (_MEMORY, 0)),
            Row("protection", (1, (_address(1, 0), _SEGMENT)), "allow", (3, 1)),
        ]

    def row(self, series: str, number: int) -> Row:
        """Two entries a process in ``translation`` and ``protection``, one in ``binding``."""
        if series == "binding":
            return Row("binding", (_COMPUTE, _FIRST + number), "bind")
        process = _FIRST + number // 2
        prefix = (_address(process, _own_page(process)), _PAGE) if number % 2 else (_address(process, 0), _SEGMENT)
        if series == "translation":
            return Row("translation", (prefix,), "map_page", (_MEMORY, -(process << wire.PID_SHIFT) & (1 << 64) - 1))
        if series == "protection":
            return Row("protection", (process, prefix), "allow", (3, 1))
        raise KeyError(series)

    def frames(self, size: int, flows: int, full: bool) -> list[bytes]:
        """Reads, or page writes where a frame has room for a page: a flow is a page of a process."""
        size = min(size, wire.MAX_FRAME)
        write = size >= wire.MAX_FRAME
        op, length = (wire.Op.WRITE, wire.PAGE_SIZE) if write else (wire.Op.READ, 64)
        made = []
        for flow in range(flows):
            process = _FIRST + flow * (self.entries // 2) // flows if full else 1
            page = _own_page(process) if full and flow % 2 else flow * 11 % 65536
            made.append(_rmem(size, op, process, _address(process, page), length, flow))
        return made

    def reply(self, size: int) -> bytes:
        """What a memory element answers."""
        size = min(size, wire.MAX_FRAME)
        return _rmem(size, wire.Op.READ | wire.REPLY, 1, _address(1, 0), size - wire.FRAME_OVERHEAD, 1)


def _rmem(size: int, op: int, process: int, address: int, length: int, number: int) -> bytes:
    reply = bool(op & wire.REPLY)
    source, target = (_MEMORY, _COMPUTE) if reply else (_COMPUTE, 0)
    ethernet = wire.element_mac(0) + wire.element_mac(source) + wire.ETHERTYPE.to_bytes(2, "big")
    header = wire.HEADER.pack(wire.VERSION, op, 0, 0, source, target, process, length, 1, address, 0, number)
    return (ethernet + header).ljust(size, b"\0")


# ---------------------------------------------------------------------------------------------------------- the router

_LENGTHS = (24,) * 12 + (22,) * 3 + (23, 23, 20, 16, 28)  # of 20 routes; the mix of the Internet's table, roughly
_ODD = 0x9E37_79B1  # multiplying by an odd number permutes the numbers of n bits
_LEFT_HOST, _SOURCE = 0xC000_0201, 0x6440_0001  # 192.0.2.1, 100.64.0.1
_FULL32 = (1 << 32) - 1
_ETHERTYPE_IPV4, _UDP = 0x0800, 17
_LEFT_HOP, _RIGHT_HOP, _FIRST_HOP = 1, 2, 3


def _prefix_mask(length: int) -> int:
    return _FULL32 ^ (_FULL32 >> length)


def _route(number: int) -> tuple[int, int]:
    """A prefix of a series without repetitions."""
    group, slot = divmod(number, len(_LENGTHS))
    length = _LENGTHS[slot]
    nth = group * _LENGTHS.count(length) + _LENGTHS[:slot].count(length)
    return (nth * _ODD + 1) % (1 << length) << (32 - length), length


@dataclass(frozen=True)
class L3(Workload):
    """A router with access lists: routes as in the Internet, filters with 32 different masks that the traffic passes."""

    name = "l3"
    program = HERE / "l3.p4"
    kinds = MappingProxyType({"neighbour": "exact", "route": "lpm", "acl": "ternary", "service": "range and optional"})

    @property
    def full(self) -> Mapping[str, int]:
        """A thirtieth of ternary entries, a few ranges."""
        return {"neighbour": self.entries, "route": self.entries, "acl": self.entries // 30, "service": 16}

    def base(self) -> list[Row]:
        """One host on the left, all others on the right."""
        return [
            Row("neighbour", (_LEFT_HOP,), "send", (LEFT_PORT, 0x02_00_00_00_00_01)),
            Row("neighbour", (_RIGHT_HOP,), "send", (RIGHT_PORT, 0x02_00_00_00_00_02)),
            Row("route", ((_LEFT_HOST, 32),), "set_next_hop", (_LEFT_HOP,)),
            Row("route", ((0, 1),), "set_next_hop", (_RIGHT_HOP,)),
            Row("route", ((1 << 31, 1),), "set_next_hop", (_RIGHT_HOP,)),
        ]

    def row(self, series: str, number: int) -> Row:
        """Routes to next hops that all are on the right; filters of sources that send nothing here."""
        if series == "neighbour":
            return Row("neighbour", (_FIRST_HOP + number,), "send", (RIGHT_PORT, 0x02_00_01_00_00_00 + number))
        if series == "route":
            return Row("route", (_route(number),), "set_next_hop", (_FIRST_HOP + number,))
        if series == "acl":
            source_mask = _prefix_mask((8, 16, 24, 32)[number % 4])
            target_mask = _prefix_mask((0, 8, 16, 24)[number // 4 % 4])
            port_mask = (0, 0xFFFF)[number // 16 % 2]
            source = (1 + number % 90) << 24 | number * _ODD & 0xFF_FFFF  # 100.64.0.1 is not among them
            target, port = number * _ODD & _FULL32 & target_mask, number * 13 & port_mask
            match = (
                (source & source_mask, source_mask),
                (target, target_mask) if target_mask else None,
                (_UDP, 0xFF),
                (port, port_mask) if port_mask else None,
            )
            return Row("acl", match, "deny", (), 1 + number)
        if series == "service":
            low = number * 15 % 60_000
            return Row("service", (_UDP if number % 2 else None, (low, low + 9)), "set_class", (8,), 1 + number)
        raise KeyError(series)

    def frames(self, size: int, flows: int, full: bool) -> list[bytes]:
        """UDP: a flow is a destination, below a route of its own when the tables are full."""
        made = []
        for flow in range(flows):
            prefix = _route(flow * self.entries // flows)[0] if full else 0x0A00_0000 + flow * 257
            made.append(_udp(size, _SOURCE, prefix + 1, flow))
        return made

    def reply(self, size: int) -> bytes:
        """To the host on the left."""
        return _udp(size, _SOURCE + 1, _LEFT_HOST, 0)


def _udp(size: int, source: int, target: int, flow: int) -> bytes:
    addresses = source.to_bytes(4, "big") + target.to_bytes(4, "big")
    lengths = (size - 14).to_bytes(2, "big"), (size - 34).to_bytes(2, "big")
    start = b"\x45\0" + lengths[0] + bytes(4) + bytes((64, _UDP))
    words = memoryview(start + bytes(2) + addresses).cast("B")
    total = sum(words[at] << 8 | words[at + 1] for at in range(0, 20, 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    header = start + (total ^ 0xFFFF).to_bytes(2, "big") + addresses
    udp = (20_000 + flow % 10_000).to_bytes(2, "big") + (4_791).to_bytes(2, "big") + lengths[1] + bytes(2)
    macs = bytes.fromhex("0200000000ff") + bytes.fromhex("0200000000fe")
    return (macs + _ETHERTYPE_IPV4.to_bytes(2, "big") + header + udp).ljust(size, b"\0")


WORKLOADS: dict[str, type[Workload]] = {work.name: work for work in (Rack, L3)}
