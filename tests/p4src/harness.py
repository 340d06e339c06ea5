"""A switch running the rack's program, for packet-level tests: entries by name, frames in, frames out, counters and digests.

The interface is narrow on purpose: install, inject, counter, digests. The switch is the real pipeline, in process.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

from p4switch import native
from p4switch.compiler.driver import compile_source
from p4switch.dataplane.binding import EventKind, Op, Switch, Update
from p4switch.dataplane.layout import MatchKind

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = ROOT / "p4src" / "rack_mmu.p4"
CPU_PORT = 510


@functools.cache
def shared_object() -> Path:
    """The compiled program."""
    return native.build(compile_source(PROGRAM).program)


@dataclass(frozen=True)
class Out:
    """A frame that left the switch."""

    port: int
    frame: bytes


class RackSwitch:
    """The pipeline."""

    def __init__(self) -> None:
        self.switch = Switch(cpu_port=CPU_PORT, seed=1)
        self.layout = self.switch.load(shared_object())
        self._tables = {name.rpartition(".")[2]: table for name, table in self.layout.tables.items()}
        self._externs = {name.rpartition(".")[2]: extern for name, extern in self.layout.externs.items()}

    def close(self) -> None:
        self.switch.close()

    def _update(
        self, op: Op, table: str, match: dict[str, int | tuple[int, int]], action: str, params: dict[str, int]
    ) -> Update:
        info = self._tables[table]
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
        if op is Op.DELETE:
            return Update(op, info.index, info.keys.pack(values), info.keys.pack(masks))
        chosen = next(a for a in info.actions if a.name.rpartition(".")[2] == action)
        data = chosen.params.pack([params[f.name] for f in chosen.params.fields])
        return Update(op, info.index, info.keys.pack(values), info.keys.pack(masks), action=chosen.index, data=data)

    def install(self, table: str, match: dict[str, int | tuple[int, int]], action: str, **params: int) -> None:
        """Insert an entry; LPM values are (value, prefix length)."""
        (result,) = self.switch.apply([self._update(Op.INSERT, table, match, action, params)])
        assert result.code == 0, result

    def change(self, table: str, match: dict[str, int | tuple[int, int]], action: str, **params: int) -> None:
        """Modify an entry."""
        (result,) = self.switch.apply([self._update(Op.MODIFY, table, match, action, params)])
        assert result.code == 0, result

    def remove(self, table: str, match: dict[str, int | tuple[int, int]]) -> None:
        """Delete an entry."""
        (result,) = self.switch.apply([self._update(Op.DELETE, table, match, "", {})])
        assert result.code == 0, result

    def inject(self, port: int, frame: bytes) -> list[Out]:
        """One frame in; what comes out. Frames for the controller come from the CPU port, with their packet-in header."""
        out = [Out(o.port, o.data) for o in self.switch.process(port, frame)]
        self._digests: list[bytes] = getattr(self, "_digests", [])
        while (event := self.switch.event(0.0)) is not None:
            if event.kind is EventKind.PACKET_IN:
                out.append(Out(CPU_PORT, event.data))
            elif event.kind is EventKind.DIGEST:
                self._digests.append(event.data)
        return out

    def digests(self) -> list[tuple[int, ...]]:
        """Digest messages so far, and forget them."""
        found, self._digests = getattr(self, "_digests", []), []
        fields = next(iter(self.layout.digests.values())).fields
        return [fields.unpack(d) for d in found]

    def counter(self, name: str, cell: int) -> int:
        """Packets of a counter cell."""
        return self.switch.read_counter(self._externs[name].index, cell)[0]

    def verdicts(self) -> dict[int, int]:
        """All verdict counters that are not zero."""
        cells = {cell: self.counter("verdicts", cell) for cell in range(64)}
        return {cell: count for cell, count in cells.items() if count}
