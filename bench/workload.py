"""What is measured: a program, the entries in its tables, the frames that are sent and what comes back.

Port 1 is the source's side, port 2 the sink's.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from p4switch.dataplane.binding import Op, Update
from p4switch.dataplane.layout import Layout
from protocol import wire

LEFT_PORT, RIGHT_PORT = 1, 2
HERE = Path(__file__).parent
ROOT = HERE.parent


@dataclass(frozen=True)
class Row:
    """An entry by names: the last component of the table's and the action's; ``masks`` None for exact keys."""

    table: str
    values: tuple[int, ...]
    action: str
    arguments: tuple[int, ...] = ()
    masks: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Workload:
    """``sizes`` are of whole frames without FCS; ``there`` goes left to right, ``back`` is the answer to it."""

    name: str
    program: Path
    sizes: tuple[int, ...]
    rows: list[Row] = field(repr=False)

    def there(self, size: int) -> bytes:
        """Frames of ``size`` bytes from the source, one after the other."""
        return b"".join(_rack_requests(size) if self.name == "rack" else _l2_frames(size, LEFT_PORT, RIGHT_PORT))

    def back(self, size: int) -> bytes:
        """One frame from the sink."""
        return _rack_reply(size) if self.name == "rack" else next(_l2_frames(size, RIGHT_PORT, LEFT_PORT))


def updates(layout: Layout, rows: list[Row]) -> list[Update]:
    """The rows as inserts into a loaded program."""
    tables = {name.rpartition(".")[2]: table for name, table in layout.tables.items()}
    made = []
    for row in rows:
        table = tables[row.table]
        action = next(a for a in table.actions if a.name.rpartition(".")[2] == row.action)
        mask = table.keys.full_mask() if row.masks is None else table.keys.pack(row.masks)
        data = action.params.pack(row.arguments)
        made.append(Update(Op.INSERT, table.index, table.keys.pack(row.values), mask, action=action.index, data=data))
    return made


# --------------------------------------------------------------------------------------------------- plain switching

_STATIONS = 1000


def _station(port: int, number: int) -> int:
    return 0x02_00_00_00_00_00 | port << 24 | number


def _l2_frames(size: int, source: int, target: int) -> Iterator[bytes]:
    for number in range(64):
        head = _station(target, number * 7 % _STATIONS).to_bytes(6, "big") + _station(source, number).to_bytes(6, "big")
        yield (head + wire.ETHERTYPE.to_bytes(2, "big")).ljust(size, b"\0")


def l2() -> Workload:
    """1,000 stations a port, exact match."""
    rows = [
        Row("station", (_station(p, n),), "forward", (p,)) for p in (LEFT_PORT, RIGHT_PORT) for n in range(_STATIONS)
    ]
    return Workload("l2", HERE / "l2.p4", (100, 4200), rows)


# ----------------------------------------------------------------------------------------------------------- the rack

_PROCESSES = 64
_SEGMENTS = 8  # a process, of 256 MiB each
_PAGES = 100  # a process, placed one by one
_COMPUTE, _MEMORY = 1, 2  # element ids
_ALL64 = (1 << 64) - 1


def _prefix(length: int) -> int:
    return _ALL64 ^ (_ALL64 >> length)


def _address(process: int, segment: int, page: int) -> int:
    return process << wire.PID_SHIFT | segment << 28 | page << wire.PAGE_SHIFT


def _rack_rows() -> Iterator[Row]:
    yield Row("element", (LEFT_PORT,), "attach", (_COMPUTE, 1))
    yield Row("element", (RIGHT_PORT,), "attach", (_MEMORY, 2))
    yield Row("liveness", (_MEMORY,), "alive", (RIGHT_PORT,))
    yield Row("reply_route", (_COMPUTE,), "route", (LEFT_PORT,))
    for process in range(1, _PROCESSES + 1):
        yield Row("binding", (_COMPUTE, process), "bind")
        prefixes = [(_address(process, s, 0), 36) for s in range(_SEGMENTS)]
        prefixes += [(_address(process, p % _SEGMENTS, 3 * p), 52) for p in range(_PAGES)]
        for address, length in prefixes:
            mask = _prefix(length)
            yield Row("translation", (address,), "map_page", (_MEMORY, -(process << wire.PID_SHIFT) & _ALL64), (mask,))
            yield Row("protection", (process, address), "allow", (3, 1), (0xFFFF, mask))


def _rmem_frame(size: int, op: int, process: int, address: int, length: int, number: int) -> bytes:
    reply = bool(op & wire.REPLY)
    source, target = (_MEMORY, _COMPUTE) if reply else (_COMPUTE, 0)
    ethernet = wire.element_mac(0) + wire.element_mac(source) + wire.ETHERTYPE.to_bytes(2, "big")
    header = wire.HEADER.pack(wire.VERSION, op, 0, 0, source, target, process, length, 1, address, 0, number)
    return (ethernet + header).ljust(size, b"\0")


def _rack_requests(size: int) -> Iterator[bytes]:
    """Reads, or page writes where the frame has room for a page, of all processes, coarse and page-wise mappings in turn."""
    write = size >= 54 + wire.PAGE_SIZE
    op, length = (wire.Op.WRITE, wire.PAGE_SIZE) if write else (wire.Op.READ, 64)
    for number in range(256):
        process = 1 + number * 11 % _PROCESSES
        own = number % _PAGES
        page = 3 * own if number % 2 else 5000 + number
        yield _rmem_frame(size, op, process, _address(process, own % _SEGMENTS, page), length, number)


def _rack_reply(size: int) -> bytes:
    return _rmem_frame(size, wire.Op.READ | wire.REPLY, 1, _address(1, 0, 0), max(size - 54, 0), 1)


def rack(program: Path = ROOT / "p4src" / "rack_mmu.p4") -> Workload:
    """The Rack MMU with 64 processes: 512 segments and 6,400 single pages, translated and protected."""
    return Workload("rack", program, (100, 54 + wire.PAGE_SIZE), list(_rack_rows()))


WORKLOADS = {"l2": l2, "rack": rack}
