"""Rules of the switch per GiB: fresh, after k random pages of it were granted, revoked or freed, and after those that were
granted came back. Computed with the controller's own core, and compared with the tables of a switch."""

from __future__ import annotations

import random
from collections.abc import Callable

from bench.mmu.setting import GIB, MIB, Setting
from bench.mmu.simulated import SimulatedController
from bench.report import Figure, Goal, against
from protocol.wire import PAGE_SIZE

PART = "rules"
ROOT = True
HOW = ("granted", "returned", "revoked", "freed")
SIZE = 64 * MIB  # what is compared with the switch
TAKEN = 100  # pages of it


def _after(setting: Setting) -> tuple[int, ...]:
    return (10, 100) if setting.quick else (1, 10, 100, 1000)


def steps(setting: Setting) -> int:
    """Of the progress bar."""
    return len(HOW) * len(_after(setting)) + 1


def run(setting: Setting) -> list[Figure]:
    """The figures."""
    fresh = float(Computed(GIB).rules())
    figures = [Figure(PART, "fresh", "1 GiB", "rules", [fresh])]
    for how in HOW:
        for k in _after(setting):
            setting.step(f"{PART}: {k} pages {how}")
            found = [float(_rules(how, k, f"{setting.seed} {seed}")) for seed in range(setting.repetitions)]
            conditions: dict[str, str | int] = {"random pages": k}
            goal = Goal("<=", 1.0) if how == "returned" else None
            ratios = against(found, [fresh] * len(found))
            figures.append(Figure(PART, how, "1 GiB", "rules", found, conditions, "fresh", ratios, goal))
    setting.step(f"{PART}: in the switch")
    return figures + _in_the_switch(setting)


class Computed:
    """Two processes; the first has memory."""

    def __init__(self, size: int):
        self.controller = SimulatedController(2, 2 * size // PAGE_SIZE)
        self.owner, self.other = self.controller.create(), self.controller.create()
        self.va = self.controller.alloc(self.owner, size)

    def rules(self) -> int:
        """`translation` and `protection` together."""
        return self.controller.rules().total()


def _rules(how: str, k: int, seed: str) -> int:
    rng = random.Random(seed)
    made = Computed(GIB)
    pages = [made.va + page * PAGE_SIZE for page in rng.sample(range(GIB // PAGE_SIZE), k)]
    act: dict[str, Callable[[int], None]] = {
        "granted": lambda va: made.controller.grant(va, made.other),
        "revoked": made.controller.revoke,
        "freed": lambda va: made.controller.free(va, 1),
    }
    for va in pages:
        act["granted" if how == "returned" else how](va)
    if how == "returned":
        for va in rng.sample(pages, k):
            made.controller.grant(va, made.owner)
    return made.rules()


def _in_the_switch(setting: Setting) -> list[Figure]:
    """The same, in small, in the tables of a switch: what is computed is what is there."""
    rng = random.Random(setting.seed)
    pages = [page * PAGE_SIZE for page in rng.sample(range(SIZE // PAGE_SIZE), TAKEN)]
    back = rng.sample(pages, TAKEN)
    computed = Computed(SIZE)
    owner, other = (setting.worker(e.name, f"rules-{e.name}") for e in setting.rack.rack.compute[:2])
    va = owner.call("alloc", size=SIZE)["va"]
    found = {"fresh": (setting.rules().total(), computed.rules())}
    for offset in pages:
        setting.rack.post("/v1/grant", {"va": va + offset, "to": other.pid})
        computed.controller.grant(computed.va + offset, computed.other)
    found["granted"] = setting.rules().total(), computed.rules()
    for offset in back:
        setting.rack.post("/v1/grant", {"va": va + offset, "to": owner.pid})
        computed.controller.grant(computed.va + offset, computed.owner)
    found["returned"] = setting.rules().total(), computed.rules()
    owner.close()
    other.close()
    setting.rack.wait_for(lambda: not setting.rules().total(), "the pages to be freed", 30)
    figures = []
    for what, (there, expected) in found.items():
        conditions: dict[str, str | int] = {"random pages": TAKEN} if what != "fresh" else {}
        samples, name = [float(there)], f"{what}, in a switch"
        ratios = against(samples, [float(expected)])
        figures.append(Figure(PART, name, "64 MiB", "rules", samples, conditions, "computed", ratios, Goal("<=", 1.0)))
    return figures
