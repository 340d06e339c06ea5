"""Every replica of a service is replaced under load, one after the other: by handing memory over, against copying the state."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from experiments.failover_cluster import CONTROL_PORT, FOUNDERS, Cluster, Replica, Timeouts, Way, newcomer
from experiments.failover_net import ask
from experiments.failover_scenario import Observer, Planned, carried_out, steps_of
from experiments.framework.model import Case, Chart, Claim, Context, Experiment, Finding, Row
from experiments.framework.summary import value
from topologies.site_launch import SiteLauncher

WAYS: tuple[Way, ...] = ("memory", "ordinary")
ORDER = (2, 3, 1)  # racks; the leader comes last


@dataclass(frozen=True)
class Options:
    """``sizes`` of the state in MiB, of which ``large`` ones are not repeated; ``full`` of the three racks have a Rack MMU, so
    that memory can change hands in them."""

    sizes: tuple[int, ...]
    full: int
    large: tuple[int, ...] = ()
    ways: tuple[Way, ...] = WAYS
    clients: int = 4
    timeouts: Timeouts = field(default_factory=lambda: Timeouts(replace=0))


def weight(size: int) -> float:
    """Seconds or so that a scenario takes, with the loading of its state."""
    return 10 + size / 4


def plan(options: Options, repetitions: int) -> list[Planned]:
    """Both ways of a size take turns."""
    return [
        Planned({"MiB": size, "way": way}, repetition, f"{size} MiB, {way}", weight(size))
        for repetition in range(repetitions)
        for size in options.sizes + (options.large if repetition == 0 else ())
        for way in options.ways
    ]


def steps(options: Options, repetitions: int) -> float:
    """Of the progress bar."""
    return steps_of(plan(options, repetitions))


def run(context: Context[Options]) -> Iterator[Row]:
    """What is planned."""
    options = context.options
    planned = plan(options, context.repetitions)
    yield from carried_out(context, options.timeouts, planned, partial(_roll, options), options.full)


def _roll(
    options: Options, launched: SiteLauncher, case: dict[str, Case], out: Path, seed: int, repetition: int
) -> Row:
    way: Way = "memory" if case["way"] == "memory" else "ordinary"
    cluster = Cluster(launched, way, int(case["MiB"]), out, options.timeouts, all_spares=True)
    observer = Observer(cluster, options.clients, seed)
    took: dict[str, float] = {}
    with cluster, observer.under_load():
        started = observer.begin(lambda _: time.monotonic(), "")
        for rack in ORDER:
            began = time.monotonic()
            if way == "memory" and rack in launched.racks:
                _hand_over(cluster, rack)
            else:
                _replace(cluster, rack)
            took[f"replica {rack} s"] = time.monotonic() - began
        full = observer.until(lambda: bool(cluster.leader_status().get("full")), "the service to be complete")
    seen = observer.judge()
    changed = sum(took[f"replica {rack} s"] for rack in launched.racks)
    values = {"all replaced s": full - started, "in full racks s": changed, **took, **seen.values}
    values["full racks"] = float(len(launched.racks))
    return Row(case, values, seen.counted, repetition, seen.problem)


def _hand_over(cluster: Cluster, rack: int) -> None:
    """The replica stops with its state kept, and the standby takes its memory."""
    old, new = (cluster.replicas[cluster.host(rack, n)] for n in (1, 2))
    held = ask(old.child.popen.pid, CONTROL_PORT, {"do": "hand_over"}, 30)
    old.stopped = True
    where = {name: held[name] for name in ("pid", "va", "size")}
    ask(new.child.popen.pid, CONTROL_PORT, {"do": "take_over", "replica": rack, **where}, 30)
    cluster.wait(lambda: _has_caught_up(cluster, new), f"replica {rack} to go on elsewhere", 120)
    old.child.stop()


def _has_caught_up(cluster: Cluster, replica: Replica) -> bool:
    """Whether a replica knows of all that the leader knows to be chosen; then the next one may stop."""
    leader = cluster.leader_status()
    own = replica.status()
    return (
        bool(leader.get("full")) and own["role"] in ("leader", "follower") and own["committed"] >= leader["committed"]
    )


def _replace(cluster: Cluster, rack: int) -> None:
    """A new replica gets the state of the others, and takes the place of the old one."""
    change = {"do": "replace", "remove": rack, "add": cluster.newcomer(rack)}
    ask(cluster.leader().child.popen.pid, CONTROL_PORT, change, 30)
    old = cluster.replicas[cluster.host(rack, 1)]
    old.stopped = True  # it ends when it hears of it

    def is_done() -> bool:
        status = cluster.leader_status()
        return bool(status.get("full")) and newcomer(rack) in status["members"] and rack not in status["members"]

    cluster.wait(is_done, f"replica {rack} to be replaced", 240)
    old.child.stop()


def judge(rows: Sequence[Row]) -> list[Finding]:
    """How long it takes where memory can change hands, what clients notice, and what is moved."""
    findings: list[Finding] = []
    for size in sorted({int(row.case["MiB"]) for row in rows if not row.problem}):
        own = [row for row in rows if row.case["MiB"] == size and not row.problem]
        count = int(own[0].values["full racks"])
        names = ("in full racks s", "cross_rack MiB", "unavailable s")
        found = [[value(own, name, way=way) for way in WAYS] for name in names]
        (memory, ordinary), *_ = found
        text = f"{size} MiB: {count} of {FOUNDERS} replicas by memory, after {_against(found[0])} s; "
        text += f"{_against(found[1])} MiB between racks; longest time without an answer {_against(found[2])} s"
        held = None if memory is None or ordinary is None else memory < ordinary
        findings.append(Finding("rolling", held, text))
    return findings


def _against(pair: Sequence[float | None]) -> str:
    """In the one way and the other."""
    return " against ".join("none" if found is None else f"{found:.2f}" for found in pair)


EXPERIMENT = Experiment(
    name="failover_rolling",
    title="Rolling replacement of all replicas",
    about="All three replicas are replaced under load, the leader last. Memory: in a rack with a Rack MMU a replica stops with "
    "its state kept and a standby takes its memory and address, so that no state is copied. Ordinary: a new replica is added for "
    "the old one and copies the state from a peer. Every history of the clients is checked for linearizability.",
    claims=(Claim("rolling", "4.1", "Replacing a replica by taking its memory is faster than by copying the state."),),
    scales={"quick": Options(sizes=(4,), full=1), "full": Options(sizes=(1, 16), full=3, large=(64, 256))},
    repetitions={"quick": 1, "full": 3},
    run=run,
    steps=steps,
    judge=judge,
    charts=(
        Chart("rolling", "Until all replicas are replaced", "MiB", "all replaced s", "way", log=(True, True)),
        Chart("rolling-moved", "Moved between racks", "MiB", "cross_rack MiB", "way", log=(True, True)),
        Chart("rolling-silent", "Longest time without an answer", "MiB", "unavailable s", "way", log=(True, False)),
    ),
)
