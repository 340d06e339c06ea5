"""``python -m p4switch bench``: how fast a program's pipeline is on one core, without packet I/O."""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections.abc import Iterator
from typing import Any

from p4switch import native
from p4switch.cli.compile import REFUSED, add_source_arguments, compile_or_explain
from p4switch.codegen import CodegenError
from p4switch.dataplane.binding import Code, DataplaneError, Op, Switch, Update
from p4switch.dataplane.build import BuildError
from p4switch.dataplane.layout import Field, MatchKind, Table

_BATCH = 20_000  # packets between two looks at the clock
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


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the subcommand."""
    add_source_arguments(parser)
    parser.add_argument("--packet", type=packet_option, metavar="HEX", help="the packet (default: 100 zero bytes)")
    parser.add_argument("--port", type=int, default=1, metavar="N", help="the port it arrives on (default 1)")
    parser.add_argument("--fill", type=int, default=0, metavar="COUNT", help="random entries in every table")
    parser.add_argument(
        "--fill-table", type=fill_option, action="append", default=[], metavar="TABLE=COUNT", help="in one table"
    )
    parser.add_argument("--seconds", type=float, default=2.0, help="how long to measure (default 2)")
    parser.add_argument("--seed", type=int, default=1, help="of the random entries (default 1)")
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
        "bytes_per_entry": round(switch.table_bytes(table.index) / inserted) if inserted else 0,
    }


def measure(switch: Switch, port: int, packet: bytes, seconds: float) -> float:
    """Nanoseconds a packet: the best of the batches that fit into the time, which is the one that was disturbed least."""
    best = switch.bench(port, packet, _BATCH)
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        best = min(best, switch.bench(port, packet, _BATCH))
    return best / _BATCH * 1e9


def run(arguments: argparse.Namespace) -> int:
    """Exit status 0, 1 when a table or port does not exist, 2 when the program is refused."""
    compiled = compile_or_explain(arguments)
    if compiled is None:
        return REFUSED
    packet = arguments.packet if arguments.packet is not None else bytes(100)
    try:
        shared_object = native.build(compiled.program)
        with Switch(cpu_port=510, seed=arguments.seed) as switch:
            layout = switch.load(shared_object)
            wanted = {t.name: arguments.fill for t in layout.tables.values() if arguments.fill}
            for name, count in arguments.fill_table:
                if name not in layout.tables:
                    print(f"bench: no table {name!r}; there are {', '.join(layout.tables) or 'none'}", file=sys.stderr)
                    return 1
                wanted[name] = count
            filled = {}
            for name, count in wanted.items():
                table = layout.tables[name]
                if table.keys.fields and not table.const_entries and table.implementation is None:
                    filled[name] = _fill(switch, table, count, arguments.seed)
            outputs = switch.process(arguments.port, packet)
            nanoseconds = measure(switch, arguments.port, packet, arguments.seconds)
    except (DataplaneError, BuildError, CodegenError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    result = {
        "program": layout.name,
        "packet_bytes": len(packet),
        "outputs": [o.port for o in outputs],
        "ns_per_packet": round(nanoseconds, 1),
        "packets_per_second": round(1e9 / nanoseconds),
        "tables": filled,
    }
    if arguments.json:
        print(json.dumps(result, indent=2))
        return 0
    ports = ", ".join(str(p) for p in outputs) or "none (dropped or to the CPU)"
    print(
        f"{layout.name}: {result['packets_per_second']:,} packets/s, {nanoseconds:.1f} ns each; output ports: {ports}"
    )
    for name, numbers in filled.items():
        print(f"  {name}: " + ", ".join(f"{value:,} {what.replace('_', ' ')}" for what, value in numbers.items()))
    return 0
