"""A switch with the hand-written program loaded, and helpers to look keys up through it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from p4switch.dataplane.binding import Op, Result, Switch, Update
from p4switch.dataplane.build import build_program
from p4switch.dataplane.layout import Layout, Table

CPU_PORT = 64
NO_ACTION = 255  # how op 0x20 writes a hit without an action


@dataclass(frozen=True)
class Looked:
    """What a lookup gave: action data as a number."""

    hit: bool
    action: int
    data: int


@dataclass(frozen=True)
class Bench:
    """A switch that runs ``testprog.c``."""

    switch: Switch
    layout: Layout

    def table(self, name: str) -> Table:
        return self.layout.tables[name]

    def run(self, op: int, arg: int = 0, word: int = 0, rest: bytes = b"") -> bytes:
        """One packet on port 0; exactly one comes out, on port 1."""
        (output,) = self.switch.process(0, bytes([op, arg]) + word.to_bytes(2, "big") + rest)
        assert output.port == 1
        return output.data

    def lookup(self, table: str, *values: int) -> Looked:
        """Look values (one a key field) up."""
        found = self.table(table)
        out = self.run(0x20, found.index, 0, found.keys.pack(values))
        size = self.layout.actions[out[1]].params.size if out[1] != NO_ACTION else 0
        return Looked(bool(out[0]), out[1], int.from_bytes(out[2 : 2 + size], "big"))

    def update(
        self,
        op: Op,
        table: str,
        values: tuple[int, ...],
        masks: tuple[int, ...] | None = None,
        value: int = 0,
        priority: int = 0,
        cookie: int = 0,
    ) -> Update:
        """An update with action ``set_value(value)``."""
        keys = self.table(table).keys
        mask = None if masks is None else keys.pack(masks)
        data = b"" if op == Op.DELETE else value.to_bytes(4, "big")
        key = keys.pack(values)
        return Update(op, self.table(table).index, key, mask, priority, action=1, data=data, cookie=cookie)

    def apply(self, update: Update) -> Result:
        (result,) = self.switch.apply([update])
        return result


@pytest.fixture(scope="session")
def program_file() -> Path:
    return build_program((Path(__file__).parent / "testprog.c").read_text(), "testprog")


@pytest.fixture
def bench(program_file: Path) -> Iterator[Bench]:
    with Switch(cpu_port=CPU_PORT, seed=1) as switch:
        yield Bench(switch, switch.load(program_file))
