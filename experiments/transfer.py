"""One transfer between two processes of a rack: through the transparent path, directly, and by grant."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from apps.dataflow.exchange import WAYS
from experiments.framework.measure import QUIET, Meter, rack_ports, since
from experiments.framework.model import Chart, Claim, Context, Experiment, Finding, Network, Row, Traffic
from experiments.framework.summary import select, value
from experiments.workers import Worker
from topologies.racks import small_rack

KIB = 1 << 10


@dataclass(frozen=True)
class Options:
    """``sizes`` of the transfers in KiB."""

    sizes: tuple[int, ...]


def steps(options: Options, repetitions: int) -> int:
    """Of the progress bar."""
    return len(options.sizes) * repetitions + 1


def run(context: Context[Options]) -> Iterator[Row]:
    """All ways of a size take turns within a repetition."""
    context.step("booting a rack")
    rack = small_rack(compute=2, dram=2, nvm=0, memory_mib=4 * max(context.options.sizes) // KIB + 16, name="transfer")
    with context.rack(rack, "rack", controller_options=QUIET) as launched:
        addresses = [element.ip.split("/")[0] for element in rack.compute]
        source, target = (
            Worker(launched, element.name, name, "experiments.transfer_worker", ("--address", address))
            for element, name, address in zip(rack.compute, ("source", "target"), addresses, strict=True)
        )
        try:
            source.call("connect", address=addresses[1], port=target.call("address")["port"], pid=target.pid)
            meter = Meter(rack_ports(rack))
            for repetition in range(context.repetitions):
                for size in context.options.sizes:
                    context.step(f"{size} KiB")
                    for way in WAYS:
                        yield _transfer(source, target, meter, way, size, repetition, context.seed)
        finally:
            source.close()
            target.close()


def _transfer(source: Worker, target: Worker, meter: Meter, way: str, size: int, repetition: int, seed: int) -> Row:
    made = source.call("make", name="parcel", size=size * KIB, way=way, seed=seed + repetition)
    if way == "transparent":
        target.call("reserve", size=size * KIB)  # outside of what is timed
    before, waited = meter.read(), target.call("round_trips")["interconnect"]
    sent = source.call("send", way=way)
    counted = since(before, meter.read())
    waited = target.call("round_trips")["interconnect"] - waited
    round_trips: dict[Network, int] = {"interconnect": sent["interconnect"] + waited, "rack": sent["network"]}
    if way == "transparent":
        source.call("drop")
    got = target.call("take", name="parcel", free=way == "grant")
    right = got["checksum"] == made["checksum"]
    return Row(
        case={"way": way, "KiB": size},
        values={"ms": sent["ms"], "MiB on the interconnect": counted["interconnect"].size / (1 << 20)},
        counts={n: Traffic(round_trips[n], counted[n].messages, counted[n].size) for n in round_trips},
        repetition=repetition,
        problem="" if right else f"{size} KiB did not arrive as they were sent ({way})",
    )


def judge(rows: Sequence[Row]) -> list[Finding]:
    """Round trips of the smallest transfer, bytes of the largest, and where grants begin to be faster."""
    sizes = sorted({int(row.case["KiB"]) for row in rows})
    least, most = sizes[0], sizes[-1]
    trips = {way: _round_trips(rows, way, least) for way in WAYS}
    few = "one" if trips["grant"] <= 2 else f"{trips['grant']:.0f}"
    bytes_of = {way: value(rows, "MiB on the interconnect", way=way, KiB=most) or 0.0 for way in WAYS}
    return [
        Finding(
            "three round trips",
            trips["transparent"] >= 3,
            f"a transparent copy of {least} KiB waited for {trips['transparent']:.0f} round trips",
        ),
        Finding("one round trip", trips["grant"] <= 2, f"a grant waits for {few} on the interconnect and one message"),
        Finding(
            "less data",
            bytes_of["grant"] * 3 <= bytes_of["transparent"],
            f"{most} KiB: {bytes_of['transparent']:.3g} MiB against {bytes_of['grant']:.3g} MiB on the interconnect",
        ),
        crossover(rows, sizes),
    ]


def _round_trips(rows: Sequence[Row], way: str, size: int) -> float:
    own = select(rows, {"way": way, "KiB": size})
    return sum(traffic.round_trips for traffic in own[0].counts.values())


def crossover(rows: Sequence[Row], sizes: Sequence[int]) -> Finding:
    """From which size on grants are faster than the transparent copy, by medians."""
    crossing = None
    for size in reversed(sizes):
        granted, copied = (value(rows, "ms", way=way, KiB=size) for way in ("grant", "transparent"))
        if granted is None or copied is None or granted >= copied:
            break
        crossing = size
    text = "at no size measured" if crossing is None else f"from {crossing} KiB on"
    return Finding("faster", crossing is not None, f"a grant is faster than the transparent copy {text}")


EXPERIMENT = Experiment(
    name="transfer",
    title="One transfer between two processes",
    about="A source moves data to a destination on another compute element and waits until it has it. Transparent: read from "
    "remote memory, sent through the rack's network, written to remote memory. Direct: from local memory to local memory "
    "through the network. Grant: the pages change hands and a message says so. Bytes are counted on every link they cross.",
    claims=(
        Claim(
            "three round trips", "5", "A transfer on a transparent rack forces three network and memory round trips."
        ),
        Claim("one round trip", "5", "A grant makes it one round trip on the interconnect and a control message."),
        Claim("less data", "5", "Grants eliminate unnecessary data movement (here: 3 times less on the interconnect)."),
        Claim("faster", "5", "Grants make data transfer faster."),
    ),
    scales={"quick": Options((4, 256, 1024)), "full": Options((4, 16, 64, 256, 1024, 4096, 16384, 65536))},
    run=run,
    steps=steps,
    judge=judge,
    charts=(
        Chart("transfer", "Time of one transfer", "KiB", "ms", "way", log=(True, True)),
        Chart("transfer-edr", "The same on InfiniBand EDR", "KiB", "", "way", log=(True, True), link="InfiniBand EDR"),
        Chart("transfer-bytes", "Bytes on the interconnect", "KiB", "MiB on the interconnect", "way", log=(True, True)),
    ),
    repetitions={"quick": 1, "full": 3},
)
