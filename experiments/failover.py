"""A replica of a key-value service fails with its compute element: its memory is taken over, or it is replaced as usual."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from experiments.failover_cluster import Cluster, Timeouts, Way, newcomer
from experiments.failover_net import stopped_by_fence
from experiments.failover_scenario import Observer, Planned, carried_out, steps_of
from experiments.failover_timeline import first, stages
from experiments.framework.model import Case, Chart, Claim, Context, Experiment, Finding, Row, ScenarioFailed
from experiments.framework.summary import value
from topologies.site_launch import SiteLauncher

WAYS: tuple[Way, ...] = ("memory", "ordinary")
LAG = 5.0  # seconds after which a switch in user space has counted what it dropped
TIMES_FASTER = 10.0  # what is to be reached at 256 MiB
FLAT = 1.5  # times the recovery of the smallest state


@dataclass(frozen=True)
class Options:
    """``sizes`` of the state in MiB; ``slow``: those for which the old element stands still and comes back, in ``slow_ways``;
    ``large`` sizes are not repeated."""

    sizes: tuple[int, ...]
    slow: tuple[int, ...]
    large: tuple[int, ...] = ()
    slow_ways: tuple[Way, ...] = WAYS
    clients: int = 4
    timeouts: Timeouts = field(default_factory=Timeouts)


def cases(options: Options, repetition: int) -> list[tuple[str, int, Way]]:
    """(what happens, MiB, way)."""
    sizes = options.sizes + (options.large if repetition == 0 else ())
    dead: list[tuple[str, int, Way]] = [("dies", size, way) for size in sizes for way in WAYS]
    return dead + [("stands still", size, way) for size in options.slow for way in options.slow_ways]


def weight(size: int, way: Way) -> float:
    """Seconds or so that a scenario takes, with the loading of its state."""
    return 7 + size / 10 if way == "memory" else 12 + size / 7


def plan(options: Options, repetitions: int) -> list[Planned]:
    """Both ways of a size take turns."""
    return [
        Planned(
            {"element": what, "MiB": size, "way": way},
            repetition,
            f"element {what}, {size} MiB, {way}",
            weight(size, way),
        )
        for repetition in range(repetitions)
        for what, size, way in cases(options, repetition)
    ]


def steps(options: Options, repetitions: int) -> float:
    """Of the progress bar."""
    return steps_of(plan(options, repetitions))


def run(context: Context[Options]) -> Iterator[Row]:
    """What is planned."""
    options = context.options

    def scenario(launched: SiteLauncher, case: dict[str, Case], out: Path, seed: int, repetition: int) -> Row:
        return Scenario(launched, options, case, out, seed).run(repetition)

    yield from carried_out(context, options.timeouts, plan(options, context.repetitions), scenario)


class Scenario:
    """One failure of the leader's compute element, in one way."""

    def __init__(self, launched: SiteLauncher, options: Options, case: dict[str, Case], out: Path, seed: int):
        self.site, self.case = launched, case
        self.way: Way = "memory" if case["way"] == "memory" else "ordinary"
        self.cluster = Cluster(launched, self.way, int(case["MiB"]), out, options.timeouts)
        self.observer = Observer(self.cluster, options.clients, seed)
        self.rack = launched.racks[1]
        self.host = self.cluster.host(1, 1)
        self.port = next(e.tor_port for e in self.rack.rack.compute if e.name == self.host)

    def run(self, repetition: int) -> Row:
        """Fail, recover, and judge what clients saw."""
        dies = self.case["element"] == "dies"
        values: dict[str, float] = {}
        with self.cluster as cluster:
            try:
                with self.observer.under_load():
                    failed = self.observer.begin(cluster.kill_element if dies else cluster.freeze_element, self.host)
                    full = self.observer.until(self._is_full, "the service to be complete again")
                    if not dies:
                        values |= self._come_back()
            finally:
                cluster.mend_element(self.host)
        seen = self.observer.judge()
        said = [e.what for e in self.observer.events if e.at >= failed]
        values["replicas that stood for election"] = float(sum(what.startswith("candidate") for what in said))
        values |= {"complete again s": full - failed, **seen.values, **self._stages(failed, seen.gap.end, full)}
        return Row(self.case, values, seen.counted, repetition, seen.problem)

    def _is_full(self) -> bool:
        status = self.cluster.leader_status()
        here = 1 if self.way == "memory" else newcomer(1)
        return bool(status.get("full")) and here in status["members"] and (here == 1 or 1 not in status["members"])

    def _come_back(self) -> dict[str, float]:
        """The old element goes on where it stood: what it tries, and what comes of it."""
        refused, stopped, sent = self._refused(), self._stopped(), self._sent()
        self.cluster.thaw_element(self.host)
        child = self.cluster.replicas[self.host].child
        self.cluster.wait(lambda: child.popen.poll() is not None, "the old replica to see that it is out", 90)
        time.sleep(1.0)  # what its kernel still has to send
        last = time.monotonic() + LAG
        while self._sent() - sent > self._stopped() - stopped and time.monotonic() < last and self.way == "memory":
            time.sleep(0.1)
        values = {
            "memory accesses refused": float(self._refused() - refused),
            "frames sent": float(self._sent() - sent),
            "frames stopped at its switch": float(self._stopped() - stopped),
        }
        if self.way == "memory":
            if not values["memory accesses refused"] and "deposed" not in str(self.cluster.replicas[self.host].said()):
                raise ScenarioFailed("the old element was not refused its memory")
            passed = values["frames sent"] - values["frames stopped at its switch"]
            if passed > 0:
                raise ScenarioFailed(f"{passed:.0f} frames of the old element passed its switch")
        return values

    def _refused(self) -> int:
        verdicts = self.rack.get("/v1/counters")["verdicts"]
        return sum(count for name, count in verdicts.items() if name in ("refused_fenced", "refused_permission"))

    def _stopped(self) -> int:
        return stopped_by_fence(self.site.flows(self.rack.tor_name), self.port)

    def _sent(self) -> int:
        counters = Path("/sys/class/net") / f"{self.rack.tor_name}-eth{self.port}" / "statistics"
        return int((counters / "rx_packets").read_text())

    def _stages(self, failed: float, answered: float, full: float) -> dict[str, float]:
        """Seconds for each stage of the recovery."""
        events = self.observer.events
        if self.way == "memory":
            moments = {
                "suspected s": first(events, failed, "element_suspected"),
                "fenced s": first(events, failed, "fence_certain"),
                "taken over s": first(events, failed, "stolen"),
                "address s": first(events, failed, "address_taken"),
                "answers again s": answered,
                "caught up s": full,
            }
        else:
            moments = {
                "elected s": first(events, failed, "elected with"),
                "answers again s": answered,
                "replaced s": first(events, failed, "replaces replica 1"),
                "transferred s": first(events, failed, "transfer of the state ended"),
                "caught up s": full,
            }
        return stages(failed, moments)


def judge(rows: Sequence[Row]) -> list[Finding]:
    """How much faster, how flat, what clients saw, and what an element that came back could do."""
    dead = [row for row in rows if row.case["element"] == "dies" and not row.problem]
    sizes = sorted({int(row.case["MiB"]) for row in dead})
    findings: list[Finding] = []
    if not sizes:
        return findings

    def of(name: str, way: Way, size: int) -> float | None:
        return value(dead, name, way=way, MiB=size)

    for size in sizes:
        memory, ordinary = (of("complete again s", way, size) for way in WAYS)
        if memory is None or ordinary is None:
            continue
        waited = sum(of(name, "ordinary", size) or 0.0 for name in ("elected s", "answers again s", "replaced s"))
        text = (
            f"{size} MiB: complete again after {memory:.2f} s against {ordinary:.2f} s ({ordinary / memory:.1f} times"
        )
        text += f"), {ordinary - waited:.2f} s of it behind all timeouts ({(ordinary - waited) / memory:.1f} times)"
        held = ordinary >= TIMES_FASTER * memory if size >= 256 else None
        findings.append(Finding("full health faster", held, text))
    least, most = (of("complete again s", "memory", size) for size in (sizes[0], sizes[-1]))
    if least is not None and most is not None and sizes[-1] >= 4 * sizes[0]:
        text = f"{least:.2f} s with {sizes[0]} MiB, {most:.2f} s with {sizes[-1]} MiB"
        findings.append(Finding("flat", most <= FLAT * least, text))
    else:
        findings.append(Finding("flat", None, "too few sizes to tell"))
    out = [of("unavailable s", way, sizes[-1]) for way in WAYS]
    if out[0] is not None and out[1] is not None:
        text = f"no answer for {out[0]:.2f} s against {out[1]:.2f} s"
        findings.append(Finding("faster than timeouts", out[0] < out[1], text))
    back = [row for row in rows if row.case["element"] == "stands still" and row.case["way"] == "memory"]
    if back and not any(row.problem for row in back):
        refused, sent, stopped = (
            sum(row.values[name] for row in back)
            for name in ("memory accesses refused", "frames sent", "frames stopped at its switch")
        )
        text = f"{refused:.0f} accesses to memory, all refused; {sent:.0f} frames sent, {stopped:.0f} of them stopped"
        findings.append(Finding("the old element is out", sent <= stopped, text, essential=True))
    return findings


EXPERIMENT = Experiment(
    name="failover",
    title="Failover of a replicated service",
    about="Three replicas of a key-value service (multi-Paxos) in three racks; clients write and read all the time. The compute "
    "element of the leader dies, or stands still and comes back. Memory: the rack monitor fences it, a standby in its rack takes "
    "over its memory and its service address, and goes on as the same replica. Ordinary: the others elect a leader when the "
    "election timeout is over (1 to 2 s, as etcd's default), and put in a new replica when the old one has been silent for 5 s "
    "(in a quick run 2), which copies the state from a peer. 5 s are few: systems in use wait for minutes (CockroachDB 5, TiKV "
    "30, HDFS 10 by default), so the stages show how much of a recovery is waiting, and how much transfer. Round trips are those "
    "that a standby or new replica waited for until it was complete: with its memory (theft, address and its first commands "
    "included), and between racks for each window of the state that it copied; elections are not in them. Every history of the "
    "clients is checked for linearizability.",
    claims=(
        Claim(
            "full health faster",
            "4.1",
            "Taking over memory returns the group to full health faster (10 times at 256 MiB).",
        ),
        Claim("flat", "4.1", "There is no need to fetch the state: recovery does not depend on its size."),
        Claim("faster than timeouts", "4.1", "A rack monitor detects failures faster than end-to-end timeouts."),
        Claim(
            "the old element is out",
            "4.1",
            "An element that returns can neither corrupt memory nor send to other racks.",
        ),
    ),
    scales={
        "quick": Options(sizes=(4,), slow=(4,), slow_ways=("memory",), timeouts=Timeouts(replace=2000)),
        "full": Options(sizes=(1, 16, 256), slow=(16,), large=(64, 1024)),
    },
    repetitions={"quick": 1, "full": 3},
    run=run,
    steps=steps,
    judge=judge,
    charts=(
        Chart(
            "recovery",
            "Until the group is complete again",
            "MiB",
            "complete again s",
            "way",
            where={"element": "dies"},
            log=(True, True),
        ),
        Chart(
            "unavailability",
            "Longest time without an answer",
            "MiB",
            "unavailable s",
            "way",
            where={"element": "dies"},
            log=(True, False),
        ),
        Chart(
            "moved",
            "Moved between racks until the group was complete",
            "MiB",
            "cross_rack MiB",
            "way",
            where={"element": "dies"},
            log=(True, True),
        ),
    ),
)
