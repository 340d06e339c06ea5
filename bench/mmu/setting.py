"""What every part of the benchmark is given, and the rack that those who need one share."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from experiments.workers import Worker
from protocol.rack import Rack
from topologies.launch import LaunchOptions, RackLauncher
from topologies.racks import small_rack

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
MEMORY_MIB = 320  # of each memory element: more than the largest range, and what it is copied to
# Signs of life are packets, too: hardly any, while packets are counted.
CONTROLLER = ("--heartbeat-interval", "20000", "--heartbeat-timeout", "100000")


def size_text(size: int) -> str:
    """``64 MiB``."""
    for unit, name in ((GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")):
        if size >= unit and size % unit == 0:
            return f"{size // unit} {name}"
    return f"{size} B"


@dataclass
class Setting:
    """``step`` is called with what is begun, as often as the parts' ``steps`` say. The rack boots when it is first asked for."""

    quick: bool
    repetitions: int
    seed: int
    out: Path
    step: Callable[[str], None]
    stack: contextlib.ExitStack
    notes: list[str] = field(default_factory=list)  # what could not be measured, and why
    _rack: RackLauncher | None = None

    @property
    def rack(self) -> RackLauncher:
        """The rack: no faults, large memory elements."""
        if self._rack is None:
            options = LaunchOptions(out=self.out / "rack", name="bench-mmu", controller_options=CONTROLLER)
            self._rack = self.stack.enter_context(RackLauncher(described(), options))
        return self._rack

    def worker(self, element: str, name: str, module: str = "experiments.worker", *options: str) -> Worker:
        """A process on a compute element, until the benchmark ends or it is closed."""
        made = Worker(self.rack, element, name, module, options)
        self.stack.callback(made.close)
        return made

    def can(self, operation: str) -> bool:
        """Whether the controller's API has this operation."""
        return f"/v1/{operation}" in self.rack.get("/openapi.json")["paths"]

    def rules(self) -> Counter[str]:
        """Entries of `translation` and `protection` in the switch."""
        return Counter(entry["table"] for entry in self.rack.get("/v1/map")["entries"])


def described() -> Rack:
    """The rack of the benchmark."""
    return small_rack(compute=2, dram=2, nvm=0, memory_mib=MEMORY_MIB, name="bench-mmu")
