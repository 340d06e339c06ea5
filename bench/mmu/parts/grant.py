"""Grant against copying through the network: time, frames, bytes and round trips on each network, and where they cross.

A copy crosses the Rack MMU twice (read and written) and the IP network once; a grant is a request, page-table messages and
notices. Transfers that are timed are not captured, and those whose frames are counted are not timed.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import Any

from bench.mmu.capture import Counts, Network, capturing, total
from bench.mmu.setting import KIB, MIB, Setting, size_text
from bench.report import Figure, Goal, against
from experiments.workers import Worker
from protocol.wire import PAGE_SIZE
from topologies.processes import StartError

PART = "grant"
FRAMES = "frames"  # what is counted, not timed
ROOT = True
CROSSOVER_GOAL = 64 * KIB
NOTICES = 0.1  # seconds in which the processes' local OSes have heard of a grant, and answered
SPEED_UP = 20.0  # of a grant of 64 MiB to copying it
TRIES = 20  # of small transfers in a repetition: their times scatter
SMALL = MIB
SHARED = 20  # grants of which the controller's share is taken
Samples = dict[int, list[float]]  # milliseconds, by size


def _sizes(setting: Setting) -> tuple[int, ...]:
    if setting.quick:
        return (4 * KIB, 64 * KIB, 256 * KIB, MIB)
    return (4 * KIB, 16 * KIB, 32 * KIB, 64 * KIB, 256 * KIB, MIB, 4 * MIB, 16 * MIB, 64 * MIB, 256 * MIB)


def steps(setting: Setting) -> int:
    """Of the progress bar."""
    return (setting.repetitions + 1) * len(_sizes(setting)) + 1


class Transfers:
    """Two processes on two elements."""

    def __init__(self, setting: Setting):
        self.setting = setting
        first, second = setting.rack.rack.compute[:2]
        addresses = [e.ip.split("/")[0] for e in (first, second)]
        self.address = addresses[1]
        module = "bench.mmu.copier"
        self.source = setting.worker(first.name, "source", module, "--address", addresses[0])
        self.target = setting.worker(second.name, "target", module, "--address", addresses[1])
        self.span = (0.0, 0.0)  # of the last transfer, with what came of it; seconds since 1970

    def close(self) -> None:
        """End them."""
        self.source.close()
        self.target.close()

    def copy(self, size: int, pause: float = 0.0) -> float:
        """Copy, and check what arrived; milliseconds. ``pause`` seconds afterwards still belong to its span."""
        va = _filled(self.source, size)
        to = self.target.call("alloc", size=size)["va"]
        port = self.target.call("listen")["port"]

        def act() -> dict[str, Any]:
            self.target.start("receive", va=to, size=size)
            answer = self.source.call("send", va=va, size=size, address=self.address, port=port)
            self.target.finish()
            return answer

        took = self._timed(act, pause)
        self._check(to, size, va)
        self.source.call("free", va=va)
        self.target.call("free", va=to)
        return took

    def grant(self, size: int, pause: float = 0.0) -> float:
        """Grant, and check what arrived; milliseconds."""
        va = _filled(self.source, size)
        took = self._timed(lambda: self.source.call("grant", va=va, size=size, to=self.target.pid), pause)
        self._check(va, size, va)
        self.setting.rack.post("/v1/free", {"va": va})
        return took

    def _timed(self, act: Callable[[], dict[str, Any]], pause: float) -> float:
        start = time.time()
        answer = act()
        if answer["error"]:
            raise StartError(answer["error"])
        time.sleep(pause)
        self.span = start, time.time()
        return float(answer["ms"])

    def _check(self, va: int, size: int, was: int) -> None:
        if not self.target.call("holds", va=va, size=size, was=was)["same"]:
            raise StartError(f"{size_text(size)} did not arrive as they were")

    def shares(self) -> dict[str, float]:
        """Milliseconds of a grant of a page that the controller works, and waits for its store and for the switch."""
        va = self.source.call("alloc", size=PAGE_SIZE)["va"]
        before = self._statistics()
        for number in range(SHARED):
            giver, taker = (self.source, self.target) if number % 2 == 0 else (self.target, self.source)
            answer = giver.call("grant", va=va, size=PAGE_SIZE, to=taker.pid)
            if answer["error"]:
                raise StartError(answer["error"])
        after = self._statistics()
        self.setting.rack.post("/v1/free", {"va": va})
        spent = {name: (after[name] - before[name]) * 1e3 / SHARED for name in before}
        waited = spent["commit_seconds"] + spent["write_seconds"]
        return {
            "of a grant: controller's work": spent["step_seconds"] - waited,
            "of a grant: commits": spent["commit_seconds"],
            "of a grant: writes to the switch": spent["write_seconds"],
        }

    def _statistics(self) -> dict[str, float]:
        found = self.setting.rack.get("/v1/status")["statistics"]
        return {name: float(found[name]) for name in ("step_seconds", "commit_seconds", "write_seconds")}


def _filled(worker: Worker, size: int) -> int:
    va: int = worker.call("alloc", size=size)["va"]
    worker.call("fill", va=va, size=size)
    return va


def run(setting: Setting) -> list[Figure]:
    """The figures. Both ways and all sizes take turns within a repetition."""
    transfers = Transfers(setting)
    sizes = _sizes(setting)
    ways: dict[str, Callable[..., float]] = {"grant": transfers.grant, "copy": transfers.copy}
    for act in ways.values():
        act(PAGE_SIZE)  # warms up
    counts = _counted(setting, transfers, ways, sizes)
    took: dict[str, Samples] = {way: {size: [] for size in sizes} for way in ways}
    shares: dict[str, list[float]] = {}
    for _ in range(setting.repetitions):
        for size in sizes:
            setting.step(f"{PART}: {size_text(size)}")
            for _ in range(TRIES if size <= SMALL else 1):
                for way, act in ways.items():
                    took[way][size].append(act(size))
        for name, milliseconds in transfers.shares().items():
            shares.setdefault(name, []).append(milliseconds)
    transfers.close()
    parts = [Figure(PART, name, size_text(PAGE_SIZE), "ms", samples) for name, samples in shares.items()]
    return [*times(took["grant"], took["copy"]), *parts, *frames(counts["grant"], counts["copy"])]


Counted = dict[int, dict[Network, Counts]]  # by size and network


def _counted(
    setting: Setting, transfers: Transfers, ways: dict[str, Callable[..., float]], sizes: tuple[int, ...]
) -> dict[str, Counted]:
    """One transfer of each size and way, captured."""
    spans: dict[tuple[str, int], tuple[float, float]] = {}
    with capturing(setting.rack.rack, setting.out / "captures" / "grant.pcap") as capture:
        for size in sizes:
            setting.step(f"{PART}: {size_text(size)}, captured")
            for way, act in ways.items():
                act(size, NOTICES)
                spans[way, size] = transfers.span
    setting.step(f"{PART}: reading the capture")
    capture.load()
    return {way: {size: capture.between(*spans[way, size]) for size in sizes} for way in ways}


def times(granted: Samples, copied: Samples) -> list[Figure]:
    """How long, and where a grant becomes faster."""
    found: list[Figure] = []
    goals = {64 * MIB: Goal("<=", 1 / SPEED_UP), PAGE_SIZE: Goal("<=", 5.0, absolute=True)}
    for size in copied:
        ratios = against(granted[size], copied[size])
        found.append(Figure(PART, "copy", size_text(size), "ms", copied[size]))
        found.append(Figure(PART, "grant", size_text(size), "ms", granted[size], {}, "copy", ratios, goals.get(size)))
    crossing = crossover(granted, copied)
    if crossing is not None:
        goal = Goal("<=", float(CROSSOVER_GOAL), absolute=True)
        found.append(Figure(PART, "a grant is faster", "from this size on", "B", [float(crossing)], {}, goal=goal))
    return found


def frames(granted: Counted, copied: Counted) -> list[Figure]:
    """What crosses each network, counted once where it enters a switch, and how often somebody waited for an answer."""
    found: list[Figure] = []

    def compare(what: str, size: int, of: Callable[[dict[Network, Counts]], int], goal: Goal | None = None) -> None:
        copy, grant = float(of(copied[size])), float(of(granted[size]))
        ratios = [grant / copy] if copy else ()
        unit = "B" if what.startswith("bytes") else ""
        found.append(Figure(FRAMES, f"{what}, copy", size_text(size), unit, [copy]))
        found.append(Figure(FRAMES, f"{what}, grant", size_text(size), unit, [grant], {}, "copy", ratios, goal))

    for size in copied:
        for network in copied[size]:
            compare(f"frames on the {network}", size, lambda c, n=network: c[n].frames)  # type: ignore[misc]
            compare(f"bytes on the {network}", size, lambda c, n=network: c[n].size)  # type: ignore[misc]
    one = Goal("<=", 1.0, absolute=True)
    compare("round trips of data", min(copied), lambda c: total(list(c.values())).round_trips, one)
    return found


def crossover(granted: Samples, copied: Samples) -> int | None:
    """The smallest size from which on grants are faster, by medians; None when there is none."""
    crossing = None
    for size in sorted(copied, reverse=True):
        if median(granted[size]) >= median(copied[size]):
            break
        crossing = size
    return crossing
