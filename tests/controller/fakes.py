"""A switch in memory, with the faults a real one has: it refuses, it vanishes, it comes back empty."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from controller.core.entries import Entry, Write, WriteOp
from controller.core.memory import Config
from controller.core.state import State
from controller.shell import Shell
from controller.store import Store
from controller.switch import Deposed, SwitchError


class FakeSwitch:
    """As strict as P4Runtime: an insert of what is there, or a change of what is not, is refused."""

    address = "fake:1"

    def __init__(self) -> None:
        self.entries: dict[tuple, Entry] = {}
        self.frames: list[tuple[int, bytes]] = []  # packet-outs
        self.is_connected = False
        self.refuse_writes = 0
        self.reachable = True
        self.deposed = False
        self.program = False
        self.connections = 0

    def connect(self, timeout: float = 30.0) -> None:
        if self.deposed:
            raise Deposed("another controller is in charge")
        if not self.reachable:
            raise SwitchError("no P4Runtime server")
        self.is_connected = True
        self.connections += 1

    def die(self) -> None:
        """The process ends: its tables are gone, nobody answers."""
        self.reachable = self.is_connected = self.program = False
        self.entries.clear()

    def close(self) -> None:
        self.is_connected = False

    def has_pipeline(self) -> bool:
        return self.program

    def push_pipeline(self) -> None:
        self.program = True

    def subscribe_digest(self, name: str) -> None:
        assert name == "failed_access_t"

    def read_entries(self) -> list[Entry]:
        if not self.is_connected:
            raise SwitchError("not connected")
        return list(self.entries.values())

    def write(self, writes: Iterable[Write]) -> None:
        if not self.is_connected:
            raise SwitchError("not connected")
        if self.refuse_writes:
            self.refuse_writes -= 1
            raise SwitchError("refused, for a test")
        for write in writes:
            key = write.entry.key
            if (key in self.entries) == (write.op is WriteOp.INSERT):
                raise SwitchError(f"{write.op.name} of {key}")
            if write.op is WriteOp.DELETE:
                del self.entries[key]
            else:
                self.entries[key] = write.entry

    def read_counter(self, name: str, cells: Iterable[int] | None = None) -> dict[int, tuple[int, int]]:
        processes, elements = {1: (2, 200), 9: (5, 500)}, {101: (1, 100)}
        found = {"verdicts": {0: (3, 300)}, "process_traffic": processes, "element_traffic": elements}[name]
        return found if cells is None else {cell: found[cell] for cell in cells if cell in found}

    def read_direct_counter(self, table: str) -> list[tuple[Entry, int, int]]:
        return [(e, 1, 64) for e in self.entries.values() if e.table == table]

    def packet_out(self, port: int, frame: bytes) -> None:
        if self.is_connected:
            self.frames.append((port, frame))


def make_shell(tmp_path: Path, state: State, switch: FakeSwitch, config: Config | None = None) -> Shell:
    """A shell over this state; not started."""
    store = Store(tmp_path / "controller.db")
    return Shell(store.load(state), store, config or Config(), switch)
