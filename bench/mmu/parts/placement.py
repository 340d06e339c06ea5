"""Placement policies side by side, for traces of allocations by several processes: computed with the controller's own core.

The rack is small enough for the traces to fill it, so that what a policy leaves free matters. Rules are those of the switch for
an allocation; what a process depends on is the number of elements that hold its memory: it is hurt when any of them fails.
"""

from __future__ import annotations

import contextlib
from statistics import mean

from bench.mmu import traces
from bench.mmu.setting import Setting
from bench.mmu.simulated import SimulatedController
from bench.report import Figure, against
from controller.core.memory import Config
from controller.core.placement import POLICIES
from protocol.wire import PAGE_SIZE

PART = "placement"
ROOT = False
ELEMENTS = 4
FILLED = 0.9  # of the rack's memory, at the fullest moment of a trace
PROCESSES = 6
BASELINE = "best-fit"
UNITS = {
    "elements a process depends on": "elements",
    "rules of an allocation": "rules",
    "largest free block of the free memory": "%",
    "fullest element against the emptiest": "percentage points",
}


def _events(setting: Setting) -> int:
    return 300 if setting.quick else 1200


def steps(setting: Setting) -> int:
    """Of the progress bar."""
    return len(traces.TRACES) * len(POLICIES)


def run(setting: Setting) -> list[Figure]:
    """The figures."""
    figures: list[Figure] = []
    for name in traces.TRACES:
        found: dict[str, list[dict[str, float]]] = {}
        for policy in sorted(POLICIES):
            setting.step(f"{PART}: {name}, {policy}")
            seeds = [setting.seed + i for i in range(setting.repetitions)]
            found[policy] = [measure(name, policy, seed, _events(setting)) for seed in seeds]
        for what, unit in UNITS.items():
            base = [f[what] for f in found[BASELINE]]
            for policy, runs in found.items():
                samples = [f[what] for f in runs]
                ratios = against(samples, base) if policy != BASELINE and all(base) else ()
                conditions: dict[str, str | int] = {"policy": policy, "events": _events(setting)}
                figures.append(Figure(PART, what, name, unit, samples, conditions, BASELINE if ratios else "", ratios))
    return figures


def measure(name: str, policy: str, seed: int, events: int) -> dict[str, float]:
    """What a policy has made of a trace, at its end. The processes take turns."""
    pages = int(peak(name, seed, events) / FILLED / ELEMENTS)
    controller = SimulatedController(ELEMENTS, pages, Config(placement=policy))
    pids = [controller.create(f"p{i}") for i in range(PROCESSES)]
    held: dict[int, int] = {}
    for event in traces.TRACES[name](seed, events):
        if isinstance(event, traces.Free):
            if event.name in held:  # it was not refused
                controller.free(held.pop(event.name))
            continue
        with contextlib.suppress(MemoryError):
            held[event.name] = controller.alloc(pids[event.name % PROCESSES], event.size)
    allocations = list(controller.state.allocations.values())
    needs = [{s.element for a in allocations if a.pid == pid for s in a.segments} for pid in pids]
    extents = [count for element in controller.state.free.values() for _, count in element]
    used = [1 - controller.state.free_pages(e.id) / pages for e in controller.state.elements.values() if e.pages]
    return {
        "elements a process depends on": mean(len(n) for n in needs),
        "rules of an allocation": mean(len(a.segments) for a in allocations),
        "largest free block of the free memory": 100 * max(extents, default=0) / max(1, sum(extents)),
        "fullest element against the emptiest": 100 * (max(used) - min(used)),
    }


def peak(name: str, seed: int, events: int) -> int:
    """The most pages that a trace holds at a time."""
    held: dict[int, int] = {}
    now = most = 0
    for event in traces.TRACES[name](seed, events):
        if isinstance(event, traces.Free):
            now -= held.pop(event.name)
        else:
            held[event.name] = -(-event.size // PAGE_SIZE)
            now += held[event.name]
        most = max(most, now)
    return most
