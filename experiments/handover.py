"""A key-value store hands part of its key space to a new instance: by grant, against copying."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from apps.dataflow.exchange import Way
from apps.shards.part import LEAST
from experiments.framework.measure import QUIET, Meter, rack_ports, since
from experiments.framework.model import Chart, Claim, Context, Experiment, Finding, Network, Row, Traffic
from experiments.framework.summary import value
from experiments.workers import PATIENCE, Worker
from protocol.wire import PAGE_SIZE
from topologies.racks import small_rack

KIB, MIB = 1 << 10, 1 << 20
WAYS: tuple[Way, ...] = ("transparent", "grant")
SHARE = 0.5  # of a part's table that is filled
BEFORE, AFTER = 0.3, 0.3  # seconds of a client's work around a hand-over


@dataclass(frozen=True)
class Options:
    """``sizes`` of the parts in KiB, beside their least size; ``large`` ones are not repeated."""

    sizes: tuple[int, ...]
    large: tuple[int, ...] = ()

    def of(self, repetition: int) -> tuple[int, ...]:
        """The sizes of a repetition."""
        return self.sizes + (self.large if repetition == 0 else ())


def weight(size: int) -> float:
    """Seconds or so that a size takes in both ways, with the filling of its parts."""
    return 1 + size / 1000


def steps(options: Options, repetitions: int) -> float:
    """Of the progress bar."""
    return 1 + sum(weight(size) for number in range(repetitions) for size in options.of(number))


@dataclass(frozen=True)
class Cast:
    """Who takes part."""

    old: Worker
    new: Worker
    client: Worker
    meter: Meter


def run(context: Context[Options]) -> Iterator[Row]:
    """Both ways of a size take turns within a repetition."""
    context.step("booting a rack")
    room = 5 * max(context.options.of(0)) // KIB + 16
    rack = small_rack(compute=3, dram=2, nvm=0, memory_mib=room, name="handover")
    with context.rack(rack, "rack", controller_options=QUIET) as launched:
        addresses = [element.ip.split("/")[0] for element in rack.compute]
        module = "experiments.handover_worker"
        old, new = (
            Worker(launched, element.name, name, module, ("--address", address), patience=PATIENCE)
            for element, name, address in zip(rack.compute, ("old", "new"), addresses, strict=False)
        )
        client = Worker(launched, rack.compute[2].name, "client", module, patience=PATIENCE)
        try:
            there, here = new.call("address"), old.call("address")
            old.call("connect", address=addresses[1], pid=new.pid, **there)
            client.call("connect", address=addresses[0], port=here["clients"])
            cast = Cast(old, new, client, Meter(rack_ports(rack)))
            for repetition in range(context.repetitions):
                for size in context.options.of(repetition):
                    context.step(f"{size} KiB", weight(size))
                    for way in WAYS:
                        yield _handed_over(cast, way, size, repetition, context.seed + repetition)
        finally:
            for worker in (client, old, new):
                worker.close()


def _handed_over(cast: Cast, way: Way, size: int, repetition: int, seed: int) -> Row:
    """One part without clients, whose packets are counted, and one under a client's work."""
    whole = -(-(LEAST + size * KIB) // PAGE_SIZE) * PAGE_SIZE
    filled = int(SHARE * size * KIB)
    names = [f"{what} {way} {size} {repetition}" for what in ("quiet", "busy")]
    for name in names:
        cast.old.call("create", name=name, size=whole, filled=filled, seed=seed)
        if way == "transparent":
            cast.new.call("reserve", size=whole)  # outside of what is timed
    before, waited = cast.meter.read(), cast.new.call("round_trips")["interconnect"]
    quiet = cast.old.call("hand_over", name=names[0], way=way)
    waited = cast.new.call("round_trips")["interconnect"] - waited
    counted = since(before, cast.meter.read())
    cast.client.call("load", name=names[1], filled=filled, seed=seed)
    time.sleep(BEFORE)
    busy = cast.old.call("hand_over", name=names[1], way=way)
    time.sleep(AFTER)
    client = cast.client.call("stop")
    problems = [client["problem"]]
    problems += [cast.new.call("check", name=name, filled=filled, seed=seed)["problem"] for name in names]
    round_trips: dict[Network, int] = {"interconnect": quiet["interconnect"] + waited, "rack": quiet["network"]}
    return Row(
        case={"way": way, "KiB": size},
        values={
            "ms": quiet["ms"],
            "ms under load": busy["ms"],
            "longest operation ms": client["longest"],
            "median operation ms": client["median"],
            "operations": client["operations"],
            "MiB moved": sum(traffic.size for traffic in counted.values()) / MIB,
        },
        counts={n: Traffic(round_trips[n], counted[n].messages, counted[n].size) for n in round_trips},
        repetition=repetition,
        problem="; ".join(problem for problem in problems if problem),
    )


def judge(rows: Sequence[Row]) -> list[Finding]:
    """Bytes and pauses of the largest part, and how they grow."""
    sizes = sorted({int(row.case["KiB"]) for row in rows})
    least, most = sizes[0], sizes[-1]
    moved, pause = (
        {way: value(rows, what, way=way, KiB=most) or 0.0 for way in WAYS}
        for what in ("MiB moved", "longest operation ms")
    )
    small = value(rows, "ms", way="grant", KiB=least) or 0.0
    large = value(rows, "ms", way="grant", KiB=most) or 0.0
    failed = [row.problem for row in rows if row.problem]
    return [
        Finding(
            "sans copying",
            moved["grant"] * 10 < moved["transparent"],
            f"a part of {most} KiB: {moved['transparent']:.3g} MiB moved by copying, {moved['grant']:.3g} MiB by grant",
        ),
        Finding(
            "shorter pause",
            pause["grant"] < pause["transparent"],
            f"the longest operation of a client took {pause['transparent']:.0f} ms while a part of {most} KiB was copied, "
            f"{pause['grant']:.0f} ms while it was granted; granting {least} KiB took {small:.1f} ms, {most} KiB {large:.1f} ms",
        ),
        Finding(
            "nothing lost",
            not failed,
            "all items were there afterwards, and clients met no error" if not failed else failed[0],
            essential=True,
        ),
    ]


EXPERIMENT = Experiment(
    name="handover",
    title="A key-value store hands part of its key space to a new instance",
    about="An instance of a store in parts gives a part (a table with its journal in rack memory, half filled with items of "
    "about 1 KiB) to a new instance on another compute element, while a client goes on with it. By grant: the pages change hands "
    "and a message names them. By copying: read from rack memory, sent through the rack's network, written to rack "
    "memory that was allocated beforehand. Requests wait meanwhile, and are then told where the part is.",
    claims=(
        Claim(
            "sans copying",
            "1",
            "Scalable data stores could use memory grants to delegate part of their key space to new instances sans copying.",
        ),
        Claim("shorter pause", "1", "So that clients hardly notice."),
        Claim("nothing lost", "3.1", "Granted pages are attached at the same addresses with their contents."),
    ),
    scales={"quick": Options((256, 2048)), "full": Options((256, 1024, 4096, 16384), (65536,))},
    run=run,
    steps=steps,
    judge=judge,
    charts=(
        Chart("handover", "Time to hand a part over", "KiB", "ms", "way", log=(True, True)),
        Chart(
            "handover-pause",
            "The longest operation of a client meanwhile",
            "KiB",
            "longest operation ms",
            "way",
            log=(True, True),
        ),
        Chart("handover-bytes", "Moved through the rack's networks", "KiB", "MiB moved", "way", log=(True, True)),
    ),
    repetitions={"quick": 1, "full": 3},
)
