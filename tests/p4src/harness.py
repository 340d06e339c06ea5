"""A switch running the rack's program, for packet-level tests: entries by name, frames in, frames out, counters and digests.

:class:`Target` is all that the tests ask of a switch, narrow on purpose; :class:`RackSwitch` is the real pipeline, in process.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from p4switch import native
from p4switch.compiler import ir
from p4switch.compiler.driver import compile_source
from p4switch.dataplane.binding import EventKind, Op, Switch, Update
from p4switch.dataplane.layout import MatchKind, Table

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = ROOT / "p4src" / "rack_mmu.p4"
CPU_PORT = 510
VERDICTS = 64

Match = dict[str, int | tuple[int, int]]  # LPM values are (value, prefix length)


@dataclass(frozen=True)
class Out:
    """A frame that left the switch."""

    port: int
    frame: bytes


class Target(Protocol):
    """A switch that runs the rack's program. Tables, actions, keys, parameters and counters by their alias."""

    def install(self, table: str, match: Match, action: str, **params: int) -> None:
        """Insert an entry."""

    def change(self, table: str, match: Match, action: str, **params: int) -> None:
        """Modify an entry."""

    def remove(self, table: str, match: Match) -> None:
        """Delete an entry."""

    def inject(self, port: int, frame: bytes) -> list[Out]:
        """One frame in; what comes out, on the CPU port with the packet-in header."""

    def counter(self, name: str, cell: int) -> tuple[int, int]:
        """Packets and bytes of a counter cell."""

    def entry_counter(self, table: str, match: Match) -> int:
        """Packets of an entry's direct counter."""

    def digests(self) -> list[tuple[int, ...]]:
        """Digest messages since the last call."""


@functools.cache
def program() -> ir.Program:
    """The program as the compiler understands it."""
    return compile_source(PROGRAM).program


@functools.cache
def shared_object() -> Path:
    """The compiled program."""
    return native.build(program())


def entry_actions(table: str) -> set[str]:
    """The actions that entries of a table may have (not those of the default entry alone)."""
    (found,) = (t for t in program().tables if t.name.rpartition(".")[2] == table)
    return {a.name.rpartition(".")[2] for a in found.actions if not a.default_only}


class RackSwitch:
    """The pipeline, in process."""

    def __init__(self) -> None:
        self.switch = Switch(cpu_port=CPU_PORT, seed=1)
        self.layout = self.switch.load(shared_object())
        self._tables = {name.rpartition(".")[2]: table for name, table in self.layout.tables.items()}
        self._externs = {name.rpartition(".")[2]: extern for name, extern in self.layout.externs.items()}
        self._digests: list[bytes] = []

    def close(self) -> None:
        self.switch.close()

    @staticmethod
    def _key(info: Table, match: Match) -> tuple[bytes, bytes]:
        assert match.keys() == {f.name for f in info.keys.fields}, f"{info.name} has other keys than {sorted(match)}"
        values, masks = [], []
        for field in info.keys.fields:
            value = match[field.name]
            if isinstance(value, tuple):
                assert field.kind is MatchKind.LPM
                values.append(value[0])
                masks.append(((1 << value[1]) - 1) << (field.width - value[1]))
            else:
                values.append(value)
                masks.append(field.maximum)
        return info.keys.pack(values), info.keys.pack(masks)

    def _update(self, op: Op, table: str, match: Match, action: str, params: dict[str, int]) -> None:
        info = self._tables[table]
        assert action in entry_actions(table), f"{table} takes {sorted(entry_actions(table))}, not {action}"
        chosen = next(a for a in info.actions if a.name.rpartition(".")[2] == action)
        data = chosen.params.pack([params[f.name] for f in chosen.params.fields])
        (result,) = self.switch.apply([Update(op, info.index, *self._key(info, match), action=chosen.index, data=data)])
        assert result.code == 0, result

    def install(self, table: str, match: Match, action: str, **params: int) -> None:
        self._update(Op.INSERT, table, match, action, params)

    def change(self, table: str, match: Match, action: str, **params: int) -> None:
        self._update(Op.MODIFY, table, match, action, params)

    def remove(self, table: str, match: Match) -> None:
        info = self._tables[table]
        (result,) = self.switch.apply([Update(Op.DELETE, info.index, *self._key(info, match))])
        assert result.code == 0, result

    def inject(self, port: int, frame: bytes) -> list[Out]:
        out = [Out(o.port, o.data) for o in self.switch.process(port, frame)]
        while (event := self.switch.event(0.0)) is not None:
            if event.kind is EventKind.PACKET_IN:
                out.append(Out(CPU_PORT, event.data))
            elif event.kind is EventKind.DIGEST:
                self._digests.append(event.data)
        return out

    def digests(self) -> list[tuple[int, ...]]:
        found, self._digests = self._digests, []
        fields = next(iter(self.layout.digests.values())).fields
        return [fields.unpack(d) for d in found]

    def counter(self, name: str, cell: int) -> tuple[int, int]:
        packets, octets = self.switch.read_counter(self._externs[name].index, cell)
        return packets, octets

    def entry_counter(self, table: str, match: Match) -> int:
        info = self._tables[table]
        entry = self.switch.find_entry(Update(Op.DELETE, info.index, *self._key(info, match)))
        assert entry is not None, f"{table} has no entry {match}"
        return entry.packets

    def verdicts(self) -> dict[int, int]:
        """All verdict counters that are not zero."""
        cells = {cell: self.counter("verdicts", cell)[0] for cell in range(VERDICTS)}
        return {cell: packets for cell, packets in cells.items() if packets}
