"""Grant against copying through the network: time, bytes and packets on the interconnect, round trips, and where they cross.

A copy crosses the Rack MMU twice (read and written) and the IP network once; a grant is a request, page-table messages and
notices. Packets are the switch's own counts; what the IP network carries is the payload.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any

from bench.mmu.setting import KIB, MIB, Setting, size_text
from bench.report import Figure, Goal, against
from experiments.workers import Worker
from protocol import wire
from protocol.wire import PAGE_SIZE
from topologies.processes import StartError

PART = "grant"
ROOT = True
CROSSOVER_GOAL = 64 * KIB
NOTICES = 0.1  # seconds in which the processes' local OSes have heard of a grant, and answered
SPEED_UP = 20.0  # of a grant of 64 MiB to copying it
_LARGEST_CONTROL_FRAME = wire.FRAME_OVERHEAD + wire.NOTIFY_ARGS.size  # of those that a grant takes
_ON_THE_WIRE = ("forwarded_request", "forwarded_reply", "to_controller", "from_controller")


def _sizes(setting: Setting) -> tuple[int, ...]:
    if setting.quick:
        return (4 * KIB, 64 * KIB, MIB)
    return (4 * KIB, 16 * KIB, 64 * KIB, 256 * KIB, MIB, 4 * MIB, 16 * MIB, 64 * MIB, 256 * MIB)


def steps(setting: Setting) -> int:
    """Of the progress bar."""
    return setting.repetitions * len(_sizes(setting))


@dataclass(frozen=True)
class Transfer:
    """Milliseconds; frames at the Rack MMU; round trips to memory elements and over the IP network, overlapping or not."""

    took: float
    packets: float
    round_trips: float
    counted: bool = True  # or only timed


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

    def close(self) -> None:
        """End them."""
        self.source.close()
        self.target.close()

    def copy(self, size: int, counted: bool) -> Transfer:
        """Copy, and check what arrived."""
        va = _filled(self.source, size)
        to = self.target.call("alloc", size=size)["va"]
        port = self.target.call("listen")["port"]

        def act() -> dict[str, Any]:
            self.target.start("receive", va=to, size=size)
            answer = self.source.call("send", va=va, size=size, address=self.address, port=port)
            self.target.finish()
            return answer

        result = self._measured(act, counted, exchanges=1)
        self._check(to, size, va)
        self.source.call("free", va=va)
        self.target.call("free", va=to)
        return result

    def grant(self, size: int, counted: bool) -> Transfer:
        """Grant, and check what arrived."""
        va = _filled(self.source, size)
        result = self._measured(lambda: self.source.call("grant", va=va, size=size, to=self.target.pid), counted)
        self._check(va, size, va)
        self.setting.rack.post("/v1/free", {"va": va})
        return result

    def _measured(self, act: Callable[[], dict[str, Any]], counted: bool, exchanges: int = 0) -> Transfer:
        before = self._counters() if counted else (0, 0)
        answer = act()
        if answer["error"]:
            raise StartError(answer["error"])
        time.sleep(NOTICES if counted else 0)
        after = self._counters() if counted else (0, 0)
        packets, replies = (b - a for a, b in zip(before, after, strict=True))
        return Transfer(float(answer["ms"]), float(packets), float(replies + exchanges), counted)

    def _counters(self) -> tuple[int, int]:
        """Frames that the switch passed on, and those that memory elements answered with."""
        counters = self.setting.rack.get("/v1/counters")
        elements = [counters["elements"].get(e.name, {"packets": 0}) for e in self.setting.rack.rack.memory]
        return sum(counters["verdicts"].get(n, 0) for n in _ON_THE_WIRE), sum(e["packets"] for e in elements)

    def _check(self, va: int, size: int, was: int) -> None:
        if not self.target.call("holds", va=va, size=size, was=was)["same"]:
            raise StartError(f"{size_text(size)} did not arrive as they were")


def _filled(worker: Worker, size: int) -> int:
    va: int = worker.call("alloc", size=size)["va"]
    worker.call("fill", va=va, size=size)
    return va


def run(setting: Setting) -> list[Figure]:
    """The figures. Both ways and all sizes take turns within a repetition."""
    transfers = Transfers(setting)
    sizes = _sizes(setting)
    found: dict[str, dict[int, list[Transfer]]] = {"grant": {}, "copy": {}}
    transfers.grant(PAGE_SIZE, False)  # warms up
    transfers.copy(PAGE_SIZE, False)
    for _ in range(setting.repetitions):
        for size in sizes:
            setting.step(f"{PART}: {size_text(size)}")
            for how, act in (("grant", transfers.grant), ("copy", transfers.copy)):
                for number in range(6 if size <= MIB else 1):
                    # Reading counters takes longer than what is measured: it would disturb the others.
                    found[how].setdefault(size, []).append(act(size, number == 0))
    transfers.close()
    return figures(found["grant"], found["copy"])


def figures(granted: dict[int, list[Transfer]], copied: dict[int, list[Transfer]]) -> list[Figure]:
    """From what was measured, by size."""
    found: list[Figure] = []

    def compare(what: str, size: int, of: Callable[[Transfer], float], unit: str, goal: Goal | None = None) -> None:
        copies, grants = ([of(t) for t in way[size] if not what or t.counted] for way in (copied, granted))
        subject = size_text(size)
        found.append(Figure(PART, f"copy{what}", subject, unit, copies))
        found.append(Figure(PART, f"grant{what}", subject, unit, grants, {}, "copy", against(grants, copies), goal))

    for size in copied:
        goal = {64 * MIB: Goal("<=", 1 / SPEED_UP), PAGE_SIZE: Goal("<=", 5.0, absolute=True)}.get(size)
        compare("", size, lambda t: t.took, "ms", goal)
    for size in copied:
        compare(", packets", size, lambda t: t.packets, "")
        # The payload of a copy crosses three links: out of a memory element, between elements, into a memory element.
        bytes_copied = [t.packets * wire.FRAME_OVERHEAD + 3 * size for t in copied[size] if t.counted]
        found.append(Figure(PART, "copy, bytes", size_text(size), "B", bytes_copied))
        bytes_granted = [t.packets * _LARGEST_CONTROL_FRAME for t in granted[size] if t.counted]
        ratios = against(bytes_granted, bytes_copied)
        found.append(Figure(PART, "grant, bytes at most", size_text(size), "B", bytes_granted, {}, "copy", ratios))
    compare(", round trips", min(copied), lambda t: t.round_trips, "", Goal("<=", 1.0, absolute=True))
    crossing = crossover(granted, copied)
    if crossing is not None:
        goal = Goal("<=", float(CROSSOVER_GOAL), absolute=True)
        found.append(Figure(PART, "a grant is faster", "from this size on", "B", [float(crossing)], {}, goal=goal))
    return found


def crossover(granted: dict[int, list[Transfer]], copied: dict[int, list[Transfer]]) -> int | None:
    """The smallest size from which on grants are faster, by medians; None when there is none."""
    crossing = None
    for size in sorted(copied, reverse=True):
        if median(t.took for t in granted[size]) >= median(t.took for t in copied[size]):
            break
        crossing = size
    return crossing
