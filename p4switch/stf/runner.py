"""Running of .stf commands on a switch in this process, and the comparison of what comes out with what was expected.

Frames are compared per port in order at the end, or before, at a ``no_packet``; a frame that nobody expected is a failure. Tables
need every exact key; others that are left out match anything.
"""

from __future__ import annotations

import operator
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from p4switch.dataplane.binding import (
    Code,
    DataplaneError,
    EntryKind,
    EventKind,
    MeterConfig,
    Op,
    Replica,
    Switch,
    Update,
)
from p4switch.dataplane.layout import Action, Extern, ExternKind, Field, FieldError, MatchKind, Table
from p4switch.stf import script
from p4switch.stf.explain import Mismatch
from p4switch.stf.script import StfError

CONDITIONS: dict[str, Callable[[int, int], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


@dataclass(frozen=True)
class Failure:
    """An expectation that did not hold; ``line`` is that of the expectation, 0 where there was none. ``mismatch`` is set where a
    frame came that was not as expected."""

    line: int
    message: str
    mismatch: Mismatch | None = None

    def __str__(self) -> str:
        return f"line {self.line}: {self.message}" if self.line else self.message


def find(names: Iterable[str], wanted: str, what: str, line: int) -> str:
    """The name that ``wanted`` means: itself, or the only one that ends with it after a dot, or whose last parts agree."""
    known = list(names)
    if wanted in known:
        return wanted
    for fits in (
        [n for n in known if n.endswith("." + wanted)],
        [n for n in known if wanted.endswith("." + n)],
        [n for n in known if n.rpartition(".")[2] == wanted.rpartition(".")[2]],
    ):
        if len(fits) == 1:
            return fits[0]
    raise StfError(line, f"{what} {wanted!r} is not one of {', '.join(known) or 'none'}")


def key_field(table: Table, name: str, line: int) -> Field:
    """The key that a script calls ``name``; validity of a header is ``h.$valid$``."""
    names = {f.name.replace(".isValid()", ".$valid$"): f for f in table.keys.fields}
    return names[find(names, name.replace(".isValid()", ".$valid$"), f"key of {table.name}", line)]


class Runner:
    """One run of a script."""

    def __init__(self, switch: Switch):
        self.switch = switch
        self.layout = switch.layout
        self.failures: list[Failure] = []
        self.expected: dict[int | None, list[script.Expect]] = defaultdict(list)
        self.found: dict[int | None, list[bytes]] = defaultdict(list)
        self.digests: list[tuple[int, bytes]] = []
        self.nodes: list[tuple[int, tuple[int, ...]]] = []  # instance and ports
        self.groups: dict[int, list[int]] = {}  # their nodes
        self.added: list[tuple[int, int]] = []  # table and handle of entries that were added
        self.names: dict[str, tuple[int, int]] = {}  # of those that have been given one
        self.compared: dict[int | None, int] = defaultdict(int)  # frames of each port that were compared before
        self.known: set[tuple[int, str, int]] = set()  # members and groups of profiles

    def run(self, commands: Sequence[script.Command]) -> list[Failure]:
        """Execute all commands; raises StfError for one that cannot be."""
        for command in commands:
            try:
                self.execute(command)
            except (DataplaneError, FieldError, ValueError) as error:
                raise StfError(command.line, str(error)) from error
        self.compare()
        if self.digests:
            self.failures.append(Failure(0, f"{len(self.digests)} digests that were not expected"))
        return self.failures

    def execute(self, command: script.Command) -> None:
        """One command."""
        match command:
            case script.Packet(port=port, data=data):
                if port is None:
                    self.switch.packet_out(data)
                else:
                    self.switch.inject(port, data)
                self.collect()
            case script.Expect(port=port):
                self.expected[port].append(command)
            case script.NoPacket():
                self.compare()
            case script.AddEntry():
                self.entry(command)
            case script.RemoveAll():
                self.remove_all(command.line)
            case script.CheckCounter():
                self.check_counter(command)
            case script.SetRates():
                self.set_rates(command)
            case script.SetDefault():
                table = self.table(command.table, command.line)
                action = self.action(table.actions, command.action, command.line)
                data = self.data(action, command.action, command.line)
                self.apply(Update(Op.SET_DEFAULT, table.index, action=action.index, data=data), command.line)
            case script.Member():
                extern = self.extern(command.profile, command.line)
                action = self.action(self.layout.actions, command.action, command.line)
                data = self.data(action, command.action, command.line)
                known = (extern.index, "member", command.member) in self.known
                self.switch.set_member(extern.index, command.member, action.index, data, must_exist=known)
                self.known.add((extern.index, "member", command.member))
            case script.Group():
                extern = self.extern(command.profile, command.line)
                known = (extern.index, "group", command.group) in self.known
                self.switch.set_group(extern.index, command.group, command.members, must_exist=known)
                self.known.add((extern.index, "group", command.group))
            case script.SetValues():
                self.value_set(command)
            case script.ExpectDigest():
                self.digest(command)
            case script.Numbers():
                self.numbers(command)

    # --------------------------------------------------------------------------------------------------------- lookups

    def table(self, name: str, line: int) -> Table:
        """A table by name."""
        return self.layout.tables[find(self.layout.tables, name, "table", line)]

    def extern(self, name: str, line: int) -> Extern:
        """An extern instance by name."""
        return self.layout.externs[find(self.layout.externs, name, "extern instance", line)]

    def action(self, actions: Sequence[Action], call: script.ActionCall, line: int) -> Action:
        """An action by name."""
        name = find((a.name for a in actions), call.name, "action", line)
        return next(a for a in actions if a.name == name)

    def data(self, action: Action, call: script.ActionCall, line: int) -> bytes:
        """The action data of arguments by name or position."""
        fields = action.params.fields
        if len(call.args) != len(fields):
            raise StfError(line, f"{action.name} takes {len(fields)} arguments, {len(call.args)} given")
        named = {name: value for name, value in call.args if name is not None}
        values = []
        for position, field in enumerate(fields):
            if named and field.name not in named:
                raise StfError(line, f"{action.name} has no argument for {field.name!r}, but for {', '.join(named)}")
            values.append(named[field.name] if named else call.args[position][1])
        return action.params.pack(values)

    # ---------------------------------------------------------------------------------------------------------- tables

    def apply(self, update: Update, line: int) -> int:
        """Apply an update that must succeed; the entry's handle."""
        (result,) = self.switch.apply([update])
        if result.code != Code.OK:
            raise StfError(line, f"{update.op.name.lower()}: {self.switch.error_text(result.code)}")
        return result.handle

    def entry(self, command: script.AddEntry) -> None:
        """``add`` and ``remove``."""
        table, line = self.table(command.table, command.line), command.line
        given = {key_field(table, match.name, line).name: match for match in command.keys}
        keys, masks = [], []
        for field in table.keys.fields:
            key, mask = self.key(table, field, given.get(field.name), line)
            keys.append(key)
            masks.append(mask)
        op = Op.DELETE if command.remove else Op.INSERT
        kind, number, data = EntryKind.ACTION, 0, b""
        if command.action is not None:
            call = command.action
            if table.implementation is not None and call.name in ("member", "group"):
                kind = EntryKind.MEMBER if call.name == "member" else EntryKind.GROUP
                number = call.args[0][1]
            else:
                action = self.action(table.actions, call, line)
                number, data = action.index, self.data(action, call, line)
        priority = command.priority if table.has_priority else 0
        key_bytes, mask_bytes = table.keys.pack(keys), table.keys.pack(masks)
        handle = self.apply(Update(op, table.index, key_bytes, mask_bytes, priority, kind, number, data), line)
        if op == Op.INSERT:
            self.added.append((table.index, handle))
            if command.name is not None:
                self.names[command.name] = (table.index, handle)

    def remove_all(self, line: int) -> None:
        """Remove what was added and is still there."""
        for table, handle in self.added:
            entry = self.switch.entry(table, handle)
            if entry is not None:
                self.apply(Update(Op.DELETE, table, entry.key, entry.mask, entry.priority), line)
        self.added.clear()

    def key(self, table: Table, field: Field, match: script.Match | None, line: int) -> tuple[int, int]:
        """Value and mask, or lower and upper bound, of one key."""
        full = field.maximum
        if match is None:
            if field.kind == MatchKind.EXACT:
                raise StfError(line, f"key {field.name!r} of {table.name} is exact: it needs a value")
            return 0, full if field.kind == MatchKind.RANGE else 0
        if match.prefix is not None:
            if not 0 <= match.prefix <= field.width:
                raise StfError(line, f"key {field.name!r} has {field.width} bits, not {match.prefix}")
            mask = full >> (field.width - match.prefix) << (field.width - match.prefix)
            return match.value & mask, mask
        if field.kind == MatchKind.RANGE:
            return match.value, match.value if match.upper is None else match.upper
        if match.mask is not None:
            return match.value & full, match.mask & full
        return match.value, full

    def value_set(self, command: script.SetValues) -> None:
        """Replace the members of a value set."""
        sets = self.layout.value_sets
        found = sets[find(sets, command.name, "value set", command.line)]
        if len(found.keys.fields) != 1:
            raise StfError(command.line, f"value set {found.name} has {len(found.keys.fields)} fields, expected one")
        full = found.keys.fields[0].maximum
        members = [
            (found.keys.pack([v]), found.keys.pack([full if mask is None else mask])) for v, mask in command.members
        ]
        self.switch.write_value_set(found.index, members)

    # --------------------------------------------------------------------------------------------------------- numbers

    def numbers(self, command: script.Numbers) -> None:
        """Replication, queues, registers, counters, meters."""
        values, line = command.values, command.line
        actions: dict[str, Callable[[], None]] = {
            "mc_mgrp_create": lambda: self.multicast(values[0], []),
            "mc_node_create": lambda: self.nodes.append((values[0], values[1:])),
            "mc_node_update": lambda: self.update_node(values[0], values[1:], line),
            "mc_node_associate": lambda: self.associate(values[0], values[1], line),
            "mirroring_add": lambda: self.switch.set_clone_session(values[0], [Replica(values[1])]),
            "mirroring_add_mc": lambda: self.switch.set_clone_session(values[0], self.replicas(values[1])),
            "mirroring_delete": lambda: self.switch.delete_clone_session(values[0]),
            "mirroring_get": lambda: None,  # prints, in BMv2's command line
        }
        queues = self.switch.queues
        actions |= {
            "set_priority_queues": lambda: queues.set_priorities(*values),
            "set_queue_depth": lambda: queues.set_depth(*values),
            "set_queue_rate": lambda: queues.set_rate(*values),
            "set_port_rate": lambda: queues.set_port_rate(*values),
            "set_time": lambda: self.set_time(values[0]),
        }
        if command.word in actions:
            actions[command.word]()
            return
        if command.word in ("check_direct_counter", "direct_meter_set_rates"):
            self.direct(command)
            return
        extern = self.extern(command.name, line)
        if command.word == "register_write":
            self.switch.write_register(extern.index, values[0], values[1])
        elif command.word == "meter_set_rates":
            self.switch.write_meter(extern.index, values[0], MeterConfig(*values[1:]))
        elif command.word == "register_reset":
            for cell in range(extern.size):
                self.switch.write_register(extern.index, cell, 0)
        elif command.word == "counter_write":
            self.switch.write_counter(extern.index, values[0], values[1], values[2])
        elif (
            command.word == "register_read"
        ):  # these print, in BMv2's command line; a name or an index that is wrong is found
            self.switch.read_register(extern.index, values[0])
        elif command.word == "counter_read":
            self.switch.read_counter(extern.index, values[0])
        elif command.word == "meter_get_rates":
            self.switch.read_meter(extern.index, values[0])
        elif command.word == "check_register":
            self.check(self.switch.read_register(extern.index, values[0]), values[1], command)
        elif command.word == "check_counter":
            self.check(self.switch.read_counter(extern.index, values[0]), values[1:], command)

    def set_time(self, microseconds: int) -> None:
        """Set the switch's clock; packets whose time comes leave their queues."""
        self.switch.set_time(microseconds * 1000)
        self.collect()

    def direct(self, command: script.Numbers) -> None:
        """The counter or meter of a table's entry; entries count from 0 in the order in which they were added."""
        table, line = self.table(command.name, command.line), command.line
        entries = sorted(self.switch.entries(table.index), key=lambda e: e.handle)
        number, *values = command.values
        if number >= len(entries):
            raise StfError(line, f"entry {number} of {table.name}: it has {len(entries)}")
        entry = entries[number]
        if command.word == "direct_meter_set_rates":
            self.switch.write_direct_meter(table.index, entry.handle, MeterConfig(*values))
        else:
            self.check((entry.packets, entry.bytes), tuple(values), command)

    def check_counter(self, command: script.CheckCounter) -> None:
        """A cell's counts, or those of an entry by its name, against a condition."""
        extern, line = self.extern(command.name, command.line), command.line
        if extern.kind not in (ExternKind.COUNTER, ExternKind.DIRECT_COUNTER):
            raise StfError(line, f"{extern.name} is a {extern.kind.name.lower()}, not a counter")
        if isinstance(command.index, int):
            if extern.kind == ExternKind.DIRECT_COUNTER:
                raise StfError(line, f"{extern.name} counts a table's entries: name one (add ... = NAME)")
            counts = self.switch.read_counter(extern.index, command.index)
        else:
            table, handle = self.names.get(command.index, (None, 0))
            entry = self.switch.entry(table, handle) if table is not None else None
            if table is None or entry is None:
                raise StfError(line, f"no entry is called {command.index!r} (add ... = NAME)")
            if table not in (t.index for t in self.layout.tables.values() if t.counter == extern):
                raise StfError(line, f"entry {command.index} is not of a table that {extern.name} counts")
            counts = (entry.packets, entry.bytes)
        found = counts[command.unit == "bytes"]
        if command.unit is not None and not CONDITIONS[command.condition](found, command.number):
            what = f"{command.name}({command.index}) {command.unit}"
            self.failures.append(Failure(line, f"{what} is {found}, expected {command.condition} {command.number}"))

    def set_rates(self, command: script.SetRates) -> None:
        """The committed rate and the peak rate of one cell or all, from units a microsecond."""
        extern = self.extern(command.name, command.line)
        (cir, cburst), (pir, pburst) = command.rates
        config = MeterConfig(round(cir * 1e6), cburst, round(pir * 1e6), pburst)
        for cell in range(extern.size) if command.index is None else (command.index,):
            self.switch.write_meter(extern.index, cell, config)

    def check(self, found: object, wanted: object, command: script.Numbers) -> None:
        """Note a difference."""
        if found != wanted:
            where = f"{command.name}[{command.values[0]}]"
            self.failures.append(Failure(command.line, f"{where} is {found}, expected {wanted}"))

    def node(self, number: int, line: int) -> int:
        """The number of a node that exists."""
        if number >= len(self.nodes):
            raise StfError(line, f"node {number}: {len(self.nodes)} have been created")
        return number

    def associate(self, group: int, node: int, line: int) -> None:
        """Add a node to a group."""
        self.multicast(group, [self.node(node, line)])

    def update_node(self, node: int, ports: tuple[int, ...], line: int) -> None:
        """Give a node other ports, in all groups that have it."""
        instance, _ = self.nodes[self.node(node, line)]
        self.nodes[node] = (instance, ports)
        for group, nodes in self.groups.items():
            if node in nodes:
                self.multicast(group, [])

    def replicas(self, group: int) -> list[Replica]:
        """What a multicast group makes."""
        nodes = (self.nodes[node] for node in self.groups.get(group, ()))
        return [Replica(port, instance) for instance, ports in nodes for port in ports]

    def multicast(self, group: int, nodes: Sequence[int]) -> None:
        """Extend a multicast group."""
        exists = group in self.groups
        self.groups.setdefault(group, []).extend(nodes)
        self.switch.set_multicast_group(group, self.replicas(group), must_exist=exists)

    # ------------------------------------------------------------------------------------------------------ comparison

    def collect(self) -> None:
        """What a packet caused."""
        for output in self.switch.outputs():
            self.found[output.port].append(output.data)
        while (event := self.switch.event(0)) is not None:
            if event.kind == EventKind.PACKET_IN:
                self.found[None].append(event.data)
            elif event.kind == EventKind.DIGEST:
                self.digests.append((event.index, event.data))

    def digest(self, command: script.ExpectDigest) -> None:
        """The next digest message."""
        digests = self.layout.digests
        wanted = digests[find(digests, command.name, "digest", command.line)]
        if not self.digests:
            self.failures.append(Failure(command.line, f"no digest {wanted.name} was sent"))
            return
        index, data = self.digests.pop(0)
        values = wanted.fields.unpack(data) if index == wanted.index else None
        if values != command.values:
            self.failures.append(Failure(command.line, f"expected {wanted.name} {command.values}, found {values}"))

    def compare(self) -> None:
        """Compare what came out with what was expected, port by port, and forget both."""
        for port in sorted({*self.expected, *self.found}, key=lambda p: -1 if p is None else p):
            expected, found = self.expected.pop(port, []), self.found.pop(port, [])
            where = "the controller" if port is None else f"port {port}"
            for position, wanted in enumerate(expected):
                if position >= len(found):
                    self.failures.append(Failure(wanted.line, f"nothing came to {where}"))
                elif not agrees(wanted, found[position]):
                    tail = "$" if wanted.exact else ""
                    message = f"to {where} came {found[position].hex()}, expected {wanted.digits}{tail}"
                    cpu = self.switch.cpu_port
                    at = cpu if port is None else port
                    mismatch = None
                    if at is not None and wanted.digits is not None:
                        mismatch = Mismatch(at, self.compared[port] + position, found[position], wanted.digits)
                    self.failures.append(Failure(wanted.line, message, mismatch))
            self.compared[port] += len(found)
            for extra in found[len(expected) :]:
                self.failures.append(Failure(0, f"to {where} came {extra.hex()}, which was not expected"))


def agrees(wanted: script.Expect, data: bytes) -> bool:
    """Whether a frame is as expected; bytes after the expected ones are allowed unless it is exact."""
    if wanted.digits is None:
        return True
    digits = data.hex()
    if len(digits) < len(wanted.digits) or (wanted.exact and len(digits) != len(wanted.digits)):
        return False
    return all(w in ("*", d) for w, d in zip(wanted.digits, digits, strict=False))


def run_script(switch: Switch, text: str) -> list[Failure]:
    """Run a script on a switch that has its program loaded. Raises StfError for a line that cannot be executed."""
    return Runner(switch).run(script.parse_script(text))
