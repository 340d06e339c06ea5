"""A memory element fails under a replica whose compute element lives: it says so, against peers that have to wait."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

from experiments.failover_cluster import Cluster, Spoilt, Timeouts, newcomer
from experiments.failover_scenario import Observer, Planned, carried_out, steps_of
from experiments.failover_timeline import first, stages
from experiments.framework.model import Case, Chart, Claim, Context, Experiment, Finding, Row
from experiments.framework.summary import value
from topologies.site_launch import SiteLauncher

Dies = Literal["memory element", "whole machine"]
KINDS: tuple[Dies, ...] = ("memory element", "whole machine")


@dataclass(frozen=True)
class Options:
    """``sizes`` of the state in MiB; ``large`` ones are not repeated."""

    sizes: tuple[int, ...]
    large: tuple[int, ...] = ()
    kinds: tuple[Dies, ...] = KINDS
    clients: int = 4
    timeouts: Timeouts = field(default_factory=Timeouts)


def weight(size: int) -> float:
    """Seconds or so that a scenario takes, with the loading of its state."""
    return 12 + size / 4


def plan(options: Options, repetitions: int) -> list[Planned]:
    """Both kinds of failure take turns."""
    return [
        Planned({"dies": dies, "MiB": size}, repetition, f"{dies} dies, {size} MiB", weight(size))
        for repetition in range(repetitions)
        for size in options.sizes + (options.large if repetition == 0 else ())
        for dies in options.kinds
    ]


def steps(options: Options, repetitions: int) -> float:
    """Of the progress bar."""
    return steps_of(plan(options, repetitions))


def run(context: Context[Options]) -> Iterator[Row]:
    """What is planned."""
    options = context.options
    planned = plan(options, context.repetitions)
    yield from carried_out(context, options.timeouts, planned, partial(_fail, options))


def _fail(
    options: Options, launched: SiteLauncher, case: dict[str, Case], out: Path, seed: int, repetition: int
) -> Row:
    cluster = Cluster(launched, "memory", int(case["MiB"]), out, options.timeouts, spare_has_rack_memory=True)
    observer, rack = Observer(cluster, options.clients, seed), launched.racks[1]

    def fail(host: str) -> float:
        at = time.monotonic()
        if case["dies"] == "whole machine":
            # Compute first: a large memory element takes some 0.3 s to end, and nobody shall hear of it.
            cluster.kill_element(host)
        cluster.replicas[host].stopped = True  # it cannot go on
        rack.kill(cluster.memory_element)
        return at

    def is_full() -> bool:
        status = cluster.leader_status()
        return bool(status.get("full")) and newcomer(1) in status["members"] and 1 not in status["members"]

    try:
        with cluster:
            if cluster.memory_of(cluster.replicas[cluster.host(1, 2)]) == cluster.memory_element:
                raise Spoilt(f"the spare's memory is in {cluster.memory_element}, too")
            try:
                with observer.under_load():
                    failed = observer.begin(fail, cluster.host(1, 1))
                    full = observer.until(is_full, "the service to be complete again")
            finally:
                cluster.mend_element(cluster.host(1, 1))
    finally:
        _mend(launched, cluster.memory_element)
    seen = observer.judge()
    replaced = first(observer.events, failed, "replaces replica 1")
    moments = {
        "told s": first(observer.events, failed, "memory lost"),
        "elected s": first(observer.events, failed, "elected with"),
        "answers again s": seen.gap.end,
        "replaced s": replaced,
        "transferred s": first(observer.events, failed, "transfer of the state ended"),
        "caught up s": full,
    }
    values = {"complete again s": full - failed, **seen.values, **stages(failed, moments)}
    values |= {"reconfiguration begins s": replaced - failed} if replaced is not None else {}
    return Row(case, values, seen.counted, repetition, seen.problem)


def _mend(launched: SiteLauncher, element: str) -> None:
    """The memory element starts again, empty; it serves when nobody relies on what it had."""
    rack = launched.racks[1]
    if element and element not in rack.children:
        rack.start_element(element)
        rack.wait_for(lambda: _is_alive(launched, element), f"{element} to serve again", 90)


def _is_alive(launched: SiteLauncher, element: str) -> bool:
    elements = launched.racks[1].get("/v1/elements")["elements"]
    return any(e["name"] == element and e["state"] == "alive" for e in elements)


def judge(rows: Sequence[Row]) -> list[Finding]:
    """How much sooner reconfiguration begins, and the service answers."""
    findings: list[Finding] = []
    for size in sorted({int(row.case["MiB"]) for row in rows if not row.problem}):
        begins = [value(rows, "reconfiguration begins s", dies=dies, MiB=size) for dies in KINDS]
        silent = [value(rows, "unavailable s", dies=dies, MiB=size) for dies in KINDS]
        findings.append(_against("told at once", f"{size} MiB: reconfiguration begins after", begins))
        findings.append(_against("answers sooner", f"{size} MiB: no answer for", silent))
    return findings


def _against(claim: str, what: str, seconds: Sequence[float | None]) -> Finding:
    told, timeouts = seconds
    if told is None or timeouts is None:
        return Finding(claim, None, f"{what} {told:.2f} s" if told is not None else "nothing to compare")
    return Finding(claim, told < timeouts, f"{what} {told:.2f} s against {timeouts:.2f} s")


EXPERIMENT = Experiment(
    name="failover_memory",
    title="A replica loses its memory",
    about="The memory element that holds log and state of the leader dies. Alone: its compute element hears of it from the rack "
    "and tells the others, which elect a leader and put in a new replica at once. With the whole machine, as where compute and "
    "memory fail together: nobody is told; they wait for the election timeout (1 to 2 s) and for the silence after which a "
    "member is replaced (5 s; in a quick run 2 s). The state is copied from a peer in both.",
    claims=(
        Claim("told at once", "4.1", "Live compute detects failed memory: reconfiguration need not wait for timeouts."),
        Claim("answers sooner", "4.1", "And so the service is back sooner."),
    ),
    scales={
        "quick": Options(sizes=(1,), timeouts=Timeouts(replace=2000)),
        "full": Options(sizes=(1, 16), large=(64, 256)),
    },
    repetitions={"quick": 1, "full": 3},
    run=run,
    steps=steps,
    judge=judge,
    charts=(
        Chart("begins", "Until reconfiguration begins", "MiB", "reconfiguration begins s", "dies", kind="bar"),
        Chart("complete", "Until the group is complete again", "MiB", "complete again s", "dies", log=(True, True)),
        Chart("silent", "Longest time without an answer", "MiB", "unavailable s", "dies", log=(True, False)),
        Chart(
            "moved",
            "Moved between racks until the group was complete",
            "MiB",
            "cross_rack MiB",
            "dies",
            log=(True, True),
        ),
    ),
)
