"""The second stage of a campaign: what bystanders notice of others' losses (S5), and late writes in number."""

from __future__ import annotations

import os
import statistics
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from experiments.campaign_check import add, persist
from experiments.workers import Worker
from protocol.wire import PAGE_SIZE
from topologies.launch import RackLauncher

BURST = 20_000  # late requests at a time
LOST = 256  # pages of the intruder
_WORKING = ("controller", "switch")  # on the machine's CPUs like the bystanders, which are never idle


@dataclass
class QuietReport:
    """Figures of all bystanders together; latencies in microseconds."""

    revocations: int = 0
    rate: float = 0.0  # revocations a second
    requests: int = 0
    retries: int = 0
    lost: int = 0  # packets without an answer
    not_counted: int = 0  # packets that were sent and that the switch did not count
    failures: list[str] = field(default_factory=list)
    p50_quiet: float = 0.0
    p50_busy: float = 0.0
    p99_quiet: float = 0.0
    p99_busy: float = 0.0
    p99_ratio: float = 0.0  # the median of the slices'
    ratios: list[float] = field(default_factory=list)
    control: list[float] = field(
        default_factory=list
    )  # the same ratios of two quiet times: what the machine does by itself
    cpu_ms: dict[str, float] = field(default_factory=dict)  # CPU time of a revocation, by part of the rack
    revoke_ms: float = 0.0  # median, as the API's caller sees it
    late: dict[str, int] = field(default_factory=dict)

    @property
    def held(self) -> bool:
        """No bystander noticed anything, and no late write was accepted."""
        noticed = self.lost or self.not_counted or self.failures
        return not noticed and not self.late["accepted"] and self.revocations > 0


@dataclass(frozen=True)
class Load:
    """What the third stage does to the rack, and how often it turns between quiet and busy."""

    slices: int
    rate: float  # revocations a second, at most
    pause: float  # seconds between a bystander's accesses


class Quiet:
    """Bystanders on other elements than the intruder's."""

    def __init__(self, rack: RackLauncher, intruder: Worker, elements: list[str]):
        self.rack, self.intruder = rack, intruder
        self.report = QuietReport()
        self.bystanders = [Worker(rack, e, f"bystander-{e}", "experiments.campaign_player") for e in elements]

    def run(self, revocations: int, load: Load, late: int, tell: Callable[[str], None]) -> QuietReport:
        """The stage."""
        try:
            self._bystand(revocations, load, tell)
        finally:
            for worker in self.bystanders:
                worker.close()
        tell(f"{late} late writes")
        self._late(late)
        return self.report

    # --------------------------------------------------------------------------------------------------------- bystanders

    def _bystand(self, revocations: int, load: Load, tell: Callable[[str], None]) -> None:
        slices, pause = load.slices, load.pause
        each = -(-revocations // slices)
        seconds = max(each / load.rate, 0.5)
        homes = [worker.call("alloc", pages=16)["va"] for worker in self.bystanders]
        tell(
            f"{len(homes)} bystanders, {slices} times {2 * seconds:.1f} s quiet and {seconds:.1f} s with {each} revocations"
        )
        before = self._packets()
        quiet: list[float] = []
        busy: list[float] = []
        took: list[float] = []
        self._measure(homes, 0.3, pause)  # warms up
        spent, busy_seconds = dict.fromkeys(_WORKING, 0.0), 0.0
        for _ in range(slices):
            before_that = self._measure(homes, seconds, pause)
            idle = self._cpu()
            still = self._measure(homes, seconds, pause)
            rested = self._cpu()
            taken = self.intruder.call("alloc", pages=each)["va"]
            started, at = self._cpu(), time.monotonic()
            thread = threading.Thread(target=self._revoke, args=(taken, each, seconds, took))
            thread.start()
            moved = self._measure(homes, seconds, pause)
            thread.join()
            busy_seconds += time.monotonic() - at
            ended = self._cpu()
            for name in _WORKING:
                spent[name] += (ended[name] - started[name]) - (rested[name] - idle[name])
            quiet += still
            busy += moved
            self.report.ratios.append(percentile(moved, 99) / percentile(still, 99))
            self.report.control.append(percentile(still, 99) / percentile(before_that, 99))
        sent = self._packets() - before
        self.report.not_counted = self.report.requests + self.report.retries - sent
        self.report.p50_quiet, self.report.p99_quiet = percentile(quiet, 50), percentile(quiet, 99)
        self.report.p50_busy, self.report.p99_busy = percentile(busy, 50), percentile(busy, 99)
        self.report.p99_ratio = statistics.median(self.report.ratios)
        self.report.revoke_ms = statistics.median(took) * 1e3
        self.report.revocations, self.report.rate = len(took), len(took) / busy_seconds
        self.report.cpu_ms = {name: seconds * 1e3 / max(1, len(took)) for name, seconds in spent.items()}

    def _cpu(self) -> dict[str, float]:
        """CPU time that parts of the rack have used so far, in seconds."""
        return {name: cpu_seconds(self.rack.children[name].popen.pid) for name in _WORKING}

    def _revoke(self, va: int, pages: int, seconds: float, took: list[float]) -> None:
        """One page after the other, evenly over the slice."""
        started = time.monotonic()
        for number in range(pages):
            time.sleep(max(0.0, started + number * seconds / pages - time.monotonic()))
            asked = time.monotonic()
            try:
                self.rack.post("/v1/revoke", {"va": va + number * PAGE_SIZE, "pages": 1})
            except OSError as error:
                self.report.failures.append(f"revocation: {error}")
                return
            took.append(time.monotonic() - asked)

    def _measure(self, homes: list[int], seconds: float, pause: float) -> list[float]:
        for worker, va in zip(self.bystanders, homes, strict=True):
            worker.start("latency", va=va, seconds=seconds, pause=pause)
        samples: list[float] = []
        for worker in self.bystanders:
            answer = worker.finish()
            samples += answer["samples"]
            self.report.requests += answer["requests"]
            self.report.retries += answer["retries"]
            self.report.lost += answer["lost"]
            self.report.failures += answer["failures"]
        return samples

    def _packets(self) -> int:
        """Packets of the bystanders, as the switch counts them."""
        pids = "".join(f"&pid={w.pid}" for w in self.bystanders)
        counted = self.rack.get(f"/v1/counters?kind=processes{pids}")["processes"]
        return sum(counted.get(str(w.pid), {"packets": 0})["packets"] for w in self.bystanders)

    # -------------------------------------------------------------------------------------------------------- late writes

    def _late(self, count: int) -> None:
        """A tenth past the switch, straight to the elements; the rest at the switch."""
        made = self.intruder.call("alloc", pages=LOST)
        places: list[Any] = made["places"]
        self.rack.post("/v1/revoke", {"va": made["va"], "pages": LOST // 2})
        self.rack.post("/v1/free", {"va": made["va"] + LOST // 2 * PAGE_SIZE, "size": LOST // 2 * PAGE_SIZE})
        past = -(-count // 10)
        persist(partial(self._attempt, "inject", places=places), past, "late writes past the switch")
        persist(partial(self._attempt, "late", pages=[p[0] for p in places]), count - past, "late writes")

    def _attempt(self, how: str, missing: int, **arguments: Any) -> dict[str, Any]:
        answer = self.intruder.call(how, count=min(BURST, missing), **arguments)
        add(self.report.late, answer["answers"] | {k: answer[k] for k in ("sent", "answered", "accepted")})
        return answer


def cpu_seconds(pid: int) -> float:
    """CPU time of a process and its threads (proc(5))."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def percentile(samples: list[float], n: int) -> float:
    """The n-th percentile."""
    return statistics.quantiles(samples, n=100, method="inclusive")[n - 1]
