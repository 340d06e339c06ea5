"""``python -m p4switch bench``: how fast a program's pipeline is on one core, without packet I/O."""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from p4switch.cli import options
from p4switch.cli.compile import REFUSED, add_source_arguments, build_or_explain
from p4switch.dataplane.binding import Code, DataplaneError, Op, Switch, Update
from p4switch.dataplane.build import BuildError
from p4switch.dataplane.layout import Field, MatchKind, Table
from p4switch.server import entries_file, pipeline
from p4switch.server.device import Device
from p4switch.server.errors import P4RuntimeError

_BATCH = 2000  # packets between two looks at the clock: shorter than the time slices of other processes
_UPDATES = 1000


def fill_option(text: str) -> tuple[str, int]:
    """TABLE=COUNT."""
    name, equals, count = text.rpartition("=")
    if not equals or not name or not count.isdigit():
        raise argparse.ArgumentTypeError(f"expected TABLE=COUNT, found {text!r}")
    return name, int(count)


def packet_option(text: str) -> bytes:
    """Hexadecimal digits; spaces are ignored."""
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected hexadecimal digits, found {text!r}") from None


def read_packets(file: Path) -> list[bytes]:
    """A packet a line. Raises ValueError with the line's number."""
    packets = []
    for number, line in enumerate(file.read_text().splitlines(), 1):
        try:
            packets.append(packet_option(line))
        except argparse.ArgumentTypeError as error:
            raise ValueError(f"{file}:{number}: {error}") from None
    if not packets:
        raise ValueError(f"{file}: no packets")
    return packets


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the subcommand."""
    add_source_arguments(parser)
    parser.add_argument(
        "--packet", type=packet_option, action="append", metavar="HEX", help="a packet (default: 100 zero bytes)"
    )
    parser.add_argument(
        "--packets", type=Path, metavar="FILE", help="packets in hexadecimal, one a line, taken in turn"
    )
    parser.add_argument("--port", type=options.port, default=1, metavar="N", help="the port it arrives on (default 1)")
    parser.add_argument("--entries", type=Path, metavar="FILE", help="a P4Runtime WriteRequest to carry out first")
    parser.add_argument(
        "--fill", type=options.number(0), default=0, metavar="COUNT", help="random entries in every table"
    )
    parser.add_argument(
        "--fill-table", type=fill_option, action="append", default=[], metavar="TABLE=COUNT", help="in one table"
    )
    parser.add_argument(
        "--seconds", type=options.seconds, default=2.0, metavar="S", help="how long to measure (default 2)"
    )
    parser.add_argument(
        "--seed", type=options.number(0, 2**64 - 1), default=1, metavar="N", help="of the random entries (default 1)"
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def _random_match(rng: random.Random, field: Field) -> tuple[int, int]:
    value = rng.getrandbits(field.width)
    if field.kind == MatchKind.LPM:
        mask = field.maximum ^ (field.maximum >> rng.randint(1, field.width))
    elif field.kind == MatchKind.TERNARY:
        mask = field.maximum ^ (1 << rng.randrange(field.width))
    elif field.kind == MatchKind.RANGE:
        return value, rng.randint(value, field.maximum)
    else:
        mask = field.maximum
    return value & mask, mask


def random_entries(rng: random.Random, table: Table, count: int) -> Iterator[Update]:
    """Random entries with random actions; equal keys may occur."""
    for _ in range(count):
        pairs = [_random_match(rng, f) for f in table.keys.fields]
        action = rng.choice(table.actions)
        data = action.params.pack([rng.getrandbits(f.width) for f in action.params.fields])
        key, mask = table.keys.pack([v for v, _ in pairs]), table.keys.pack([m for _, m in pairs])
        priority = rng.randint(1, 1 << 16) if table.has_priority else 0
        yield Update(Op.INSERT, table.index, key, mask, priority, action=action.index, data=data)


def _fill(switch: Switch, table: Table, count: int, seed: int) -> dict[str, Any]:
    """Fill a table and say how it went. Not every key is new in small tables."""
    updates = list(random_entries(random.Random(seed), table, min(count, table.size)))
    started = time.perf_counter()
    results = [r for at in range(0, len(updates), _UPDATES) for r in switch.apply(updates[at : at + _UPDATES])]
    seconds = time.perf_counter() - started
    inserted = sum(r.code == Code.OK for r in results)
    return {
        "entries": inserted,
        "updates_per_second": round(len(updates) / seconds),
    }


def measure(switch: Switch, port: int, packets: Sequence[bytes], seconds: float) -> float:
    """Nanoseconds a packet: the best of the batches that fit into the time, which is the one that was disturbed least."""
    batch = max(_BATCH, len(packets))
    best = switch.bench(port, packets, batch)
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        best = min(best, switch.bench(port, packets, batch))
    return best / batch * 1e9


def _packets(arguments: argparse.Namespace) -> list[bytes]:
    packets: list[bytes] = list(arguments.packet or ())
    if arguments.packets:
        packets += read_packets(arguments.packets)
    return packets or [bytes(100)]


def _measure_program(arguments: argparse.Namespace, prepared: pipeline.Pipeline) -> dict[str, Any]:
    """Fill the tables and measure. Raises ValueError, DataplaneError, P4RuntimeError."""
    packets = _packets(arguments)
    with Switch(cpu_port=510, seed=arguments.seed) as switch:
        device = Device(0, switch)
        device.load(prepared)
        layout = switch.layout
        written = entries_file.install(device, arguments.entries) if arguments.entries else 0
        wanted = {t.name: arguments.fill for t in layout.tables.values() if arguments.fill}
        for name, count in arguments.fill_table:
            if name not in layout.tables:
                raise ValueError(f"no table {name!r}; there are {', '.join(layout.tables) or 'none'}")
            wanted[name] = count
        filled: dict[str, dict[str, Any]] = {}
        for name, count in wanted.items():
            table = layout.tables[name]
            if table.keys.fields and not table.const_entries and table.implementation is None:
                filled[name] = _fill(switch, table, count, arguments.seed)
        for name, table in layout.tables.items():
            if entries := switch.entry_count(table.index):
                own = {"entries": entries, "bytes_per_entry": round(switch.table_bytes(table.index) / entries)}
                filled.setdefault(name, {}).update(own)
        outputs = [output.port for packet in packets for output in switch.process(arguments.port, packet)]
        nanoseconds = measure(switch, arguments.port, packets, arguments.seconds)
    return {
        "program": layout.name,
        "packet_bytes": max(map(len, packets)),
        "packets": len(packets),
        "entries_written": written,
        "outputs": {port: outputs.count(port) for port in sorted(set(outputs))},
        "ns_per_packet": round(nanoseconds, 1),
        "packets_per_second": round(1e9 / nanoseconds),
        "tables": filled,
    }


def run(arguments: argparse.Namespace) -> int:
    """Exit status 0, 1 when a file, table or port is not usable, 2 when the program is refused."""
    try:
        compiled = build_or_explain(arguments)
        if compiled is None:
            return REFUSED
        result = _measure_program(
            arguments, pipeline.trusted(compiled.p4info, compiled.device_config, compiled.shared_object)
        )
    except OSError as error:
        print(f"p4switch bench: {options.explain(error)}", file=sys.stderr)
        return 1
    except (BuildError, DataplaneError, P4RuntimeError, ValueError) as error:
        print(f"p4switch bench: {error}", file=sys.stderr)
        return 1
    if arguments.json:
        print(json.dumps(result, indent=2))
        return 0
    ports = ", ".join(f"{port}: {count:,}" for port, count in result["outputs"].items()) or "none (dropped, to the CPU)"
    print(
        f"{result['program']}: {result['packets_per_second']:,} packets/s, {result['ns_per_packet']} ns each; "
        f"copies of {result['packets']:,} packets by output port: {ports}"
    )
    for name, numbers in result["tables"].items():
        print(f"  {name}: " + ", ".join(f"{value:,} {what.replace('_', ' ')}" for what, value in numbers.items()))
    return 0
