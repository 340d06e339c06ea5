"""Access latency with 1,000 processes in the rack against 1: the tables are larger, and requests hit more of them."""

from __future__ import annotations

import statistics

from bench.mmu.setting import Setting
from bench.report import Figure, Goal, against
from protocol.wire import PAGE_SIZE
from topologies.processes import StartError

PART = "processes"
ROOT = True


def _many(setting: Setting) -> int:
    return 200 if setting.quick else 1000


def steps(setting: Setting) -> int:
    """Of the progress bar."""
    return 2 * setting.repetitions


def run(setting: Setting) -> list[Figure]:
    """The figures. Alone and among many take turns: the many are made and ended in every repetition."""
    many, rounds = _many(setting), 1000 if setting.quick else 3000
    element = setting.rack.rack.compute[0].name
    pinger = setting.worker(element, "pinger", "bench.mmu.pinger", "--interface", f"{element}-rack")
    home = (pinger.pid, pinger.call("alloc", size=PAGE_SIZE)["va"])
    found: dict[str, dict[int, list[float]]] = {}

    def ping(what: str, targets: list[tuple[int, int]]) -> None:
        answer = pinger.call("ping", targets=targets, rounds=rounds)
        if answer["error"]:
            raise StartError(f"{what}: {answer['error']}")
        cuts = statistics.quantiles(answer["samples"], n=100, method="inclusive")
        for percentile in (50, 99):
            found.setdefault(what, {}).setdefault(percentile, []).append(cuts[percentile - 1])

    ping("warm up", [home])
    for _ in range(setting.repetitions):
        setting.step(f"{PART}: 1")
        ping("1 process", [home])
        setting.step(f"{PART}: {many}")
        made = pinger.call("create", count=many - 1)
        if made["error"]:
            raise StartError(made["error"])
        pids = made["pids"]
        all_ = [home] + [(p, setting.rack.post("/v1/alloc", {"pid": p, "size": PAGE_SIZE})["va"]) for p in pids]
        ping(f"1 of {many} processes", [home])
        ping(f"{many} processes in turn", all_)
        pinger.call("end")
        setting.rack.wait_for(lambda: _count(setting) == 1, "the processes to end", 60)
    pinger.close()
    found.pop("warm up")
    figures = []
    for what, values in found.items():
        for percentile, samples in values.items():
            base = found["1 process"][percentile]
            ratios = against(samples, base) if what != "1 process" else ()
            goal = Goal("<=", 1.2) if ratios and percentile == 50 else None
            name = f"p{percentile} of a 64 B read"
            figures.append(Figure(PART, name, what, "us", samples, {}, "1 process" if ratios else "", ratios, goal))
    return figures


def _count(setting: Setting) -> int:
    """Processes in the rack."""
    return len(setting.rack.get("/v1/processes")["processes"])
