"""Rules of the switch per GiB: fresh, and after k random pages of it were revoked, or freed; checked against a real switch."""

from __future__ import annotations

import random
from collections.abc import Sequence

from bench.mmu.setting import GIB, MIB, Setting
from bench.mmu.simulated import SimulatedController
from bench.report import Figure, Goal, against
from protocol.wire import PAGE_SIZE

PART = "rules"
ROOT = True
SIZE = 64 * MIB  # what is compared with the switch
TAKEN = 100  # pages of it


def _after(setting: Setting) -> tuple[int, ...]:
    return (10, 100) if setting.quick else (1, 10, 100, 400)


def steps(setting: Setting) -> int:
    """Of the progress bar."""
    return 2 * len(_after(setting)) + 2


def run(setting: Setting) -> list[Figure]:
    """The figures."""
    figures: list[Figure] = []
    fresh = _rules(setting, "revoked", 0, 0)
    figures.append(_figure("fresh", "revoked", 0, [float(fresh)]))
    for how in ("revoked", "freed"):
        for k in _after(setting):
            setting.step(f"{PART}: {k} pages {how}")
            found = [float(_rules(setting, how, k, seed)) for seed in range(setting.repetitions)]
            figures.append(_figure(how, how, k, found, against(found, [float(fresh)] * len(found))))
    setting.step(f"{PART}: in the switch")
    figures.append(_in_the_switch(setting))
    setting.step(f"{PART}: granted and returned")
    return figures + _returned(setting)


def _figure(what: str, how: str, k: int, found: list[float], ratios: Sequence[float] = ()) -> Figure:
    conditions: dict[str, str | int] = {"random pages " + how: k} if k else {}
    return Figure(PART, what, "1 GiB", "rules", found, conditions, "fresh" if ratios else "", ratios)


def _rules(setting: Setting, how: str, k: int, seed: int) -> int:
    """`translation` and `protection` together."""
    controller = SimulatedController(2, GIB // PAGE_SIZE)
    va = controller.alloc(controller.create(), GIB)
    for page in random.Random(f"{setting.seed} {seed}").sample(range(GIB // PAGE_SIZE), k):
        (controller.revoke if how == "revoked" else controller.free)(va + page * PAGE_SIZE, 1)
    return controller.rules().total()


def _in_the_switch(setting: Setting) -> Figure:
    """The same, in small, in the tables of a switch: what is computed is what is there."""
    pages = random.Random(setting.seed).sample(range(SIZE // PAGE_SIZE), TAKEN)
    simulated = SimulatedController(2, 2 * SIZE // PAGE_SIZE)
    va = simulated.alloc(simulated.create(), SIZE)
    fresh = simulated.rules().total()
    for page in pages:
        simulated.revoke(va + page * PAGE_SIZE)
    computed = simulated.rules().total() - fresh
    worker = setting.worker(setting.rack.rack.compute[0].name, "rules")
    va = worker.call("alloc", size=SIZE)["va"]
    before = setting.rules().total()
    for page in pages:
        setting.rack.post("/v1/revoke", {"va": va + page * PAGE_SIZE})
    more = setting.rules().total() - before
    worker.close()
    setting.rack.wait_for(lambda: not setting.rules().total(), "the pages to be freed", 30)
    conditions: dict[str, str | int] = {"random pages revoked": TAKEN}
    ratios = against([float(more)], [float(computed)])
    return Figure(PART, "more rules in the switch", "64 MiB", "rules", [float(more)], conditions, "computed", ratios)


def _returned(setting: Setting) -> list[Figure]:
    """Random pages are granted to another process and come back in another order: rules must fall to what they were."""
    pages = random.Random(setting.seed).sample(range(SIZE // PAGE_SIZE), TAKEN)
    owner, other = (setting.worker(e.name, f"rules-{e.name}") for e in setting.rack.rack.compute[:2])
    va = owner.call("alloc", size=SIZE)["va"]
    fresh = setting.rules().total()
    for page in pages:
        setting.rack.post("/v1/grant", {"va": va + page * PAGE_SIZE, "to": other.pid})
    away = setting.rules().total()
    for page in sorted(pages):
        setting.rack.post("/v1/grant", {"va": va + page * PAGE_SIZE, "to": owner.pid})
    back = setting.rules().total()
    owner.close()
    other.close()
    conditions: dict[str, str | int] = {"random pages": TAKEN}
    ratio = [float(back) / fresh]
    return [
        Figure(PART, "in the switch, granted", "64 MiB", "rules", [float(away)], conditions, "fresh", [away / fresh]),
        Figure(
            PART,
            "in the switch, returned",
            "64 MiB",
            "rules",
            [float(back)],
            conditions,
            "fresh",
            ratio,
            Goal("<=", 1.0),
        ),
    ]
