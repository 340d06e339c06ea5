"""What a rack's V2P rules are against page tables, for traces of allocations: computed with the controller's own core.

A page table has an entry for every page that is in use; tables of 4 KiB pages are radix trees of four levels with 512 entries
a node, as x86-64's. Large pages are mapped whole, so they hold memory that nobody asked for: that is counted, too.
"""

from __future__ import annotations

from bench.mmu import traces
from bench.mmu.setting import GIB, Setting
from bench.mmu.simulated import SimulatedController
from bench.report import Figure, against
from controller.core.state import AllocationStatus
from protocol.wire import PAGE_SIZE

PART = "tables"
ROOT = False
ELEMENTS, ELEMENT_PAGES = 4, 16 * GIB // PAGE_SIZE
NODE = 512  # entries of a radix node
PAGES = {"4 KiB": 12, "2 MiB": 21, "1 GiB": 30}


def _events(setting: Setting) -> int:
    return 300 if setting.quick else 1500


def steps(setting: Setting) -> int:
    """Of the progress bar."""
    return len(traces.TRACES)


def run(setting: Setting) -> list[Figure]:
    """The figures."""
    figures: list[Figure] = []
    for name in traces.TRACES:
        setting.step(f"{PART}: {name}")
        found = [measure(name, setting.seed + i, _events(setting)) for i in range(setting.repetitions)]
        conditions: dict[str, str | int] = {"events": _events(setting)}
        per_gib = {key: [f[key] / f["GiB"] for f in found] for key in found[0]}
        rules = per_gib["rules"]
        for key in (f"entries of {page} pages" for page in PAGES):
            figures.append(Figure(PART, key, name, "per GiB", per_gib[key], conditions))
        figures.append(Figure(PART, "radix nodes", name, "per GiB", per_gib["radix nodes"], conditions))
        for page in ("2 MiB", "1 GiB"):
            ratios = against(rules, per_gib[f"entries of {page} pages"])
            figures.append(Figure(PART, "V2P rules", name, "per GiB", rules, conditions, f"{page} pages", ratios))
        for page in ("2 MiB", "1 GiB"):
            mapped = [f[f"mapped by {page}"] / f["GiB"] for f in found]
            figures.append(Figure(PART, f"memory that {page} pages map", name, "x asked for", mapped, conditions))
    return figures


def measure(name: str, seed: int, events: int) -> dict[str, float]:
    """Rules and entries at the end of a trace."""
    controller = SimulatedController(ELEMENTS, ELEMENT_PAGES)
    pid = controller.create()
    held: dict[int, int] = {}
    refused: set[int] = set()
    for event in traces.TRACES[name](seed, events):
        if isinstance(event, traces.Free):
            if event.name in refused:
                refused.remove(event.name)
            else:
                controller.free(held.pop(event.name))
        else:
            try:
                held[event.name] = controller.alloc(pid, event.size)
            except MemoryError:
                refused.add(event.name)
    ranges = [(a.va, a.size) for a in controller.state.allocations.values() if a.status is AllocationStatus.READY]
    found = {"GiB": sum(size for _, size in ranges) / GIB, "rules": float(controller.rules()["translation"])}
    for page, shift in PAGES.items():
        numbers = pages_of(ranges, shift)
        found[f"entries of {page} pages"] = float(len(numbers))
        found[f"mapped by {page}"] = len(numbers) * (1 << shift) / GIB
    found["radix nodes"] = float(1 + sum(len(pages_of(ranges, shift)) for shift in (21, 30, 39)))
    return found


def pages_of(ranges: list[tuple[int, int]], shift: int) -> set[int]:
    """The numbers of the pages of this size that the ranges touch."""
    touched: set[int] = set()
    for va, size in ranges:
        touched.update(range(va >> shift, ((va + size - 1) >> shift) + 1))
    return touched
