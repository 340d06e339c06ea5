"""One transfer between two processes of a rack: through the transparent path, directly, and by grant."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from apps.dataflow.exchange import WAYS
from experiments.framework.measure import QUIET, Meter, rack_ports, since
from experiments.framework.model import Chart, Claim, Context, Experiment, Finding, Network, Row, Traffic
from experiments.framework.summary import select, value
from experiments.transfer_worker import NEAR
from experiments.workers import PATIENCE, Worker
from topologies.racks import small_rack

KIB = 1 << 10


VERIFY = (NEAR, "by reading it")


@dataclass(frozen=True)
class Options:
    """``sizes`` of the transfers in KiB."""

    sizes: tuple[int, ...]


def weight(size: int) -> float:
    """Seconds or so that a size takes in all ways, with the making of the data."""
    return 0.5 + size / 4000


def steps(options: Options, repetitions: int) -> float:
    """Of the progress bar."""
    return 1 + repetitions * sum(map(weight, options.sizes))


def run(context: Context[Options]) -> Iterator[Row]:
    """All ways of a size take turns within a repetition."""
    context.step("booting a rack")
    rack = small_rack(compute=2, dram=2, nvm=0, memory_mib=4 * max(context.options.sizes) // KIB + 16, name="transfer")
    with context.rack(rack, "rack", controller_options=QUIET) as launched:
        addresses = [element.ip.split("/")[0] for element in rack.compute]
        source, target = (
            Worker(
                launched, element.name, name, "experiments.transfer_worker", ("--address", address), patience=PATIENCE
            )
            for element, name, address in zip(rack.compute, ("source", "target"), addresses, strict=True)
        )
        try:
            source.call("connect", address=addresses[1], port=target.call("address")["port"], pid=target.pid)
            meter = Meter(rack_ports(rack))
            for repetition in range(context.repetitions):
                for size in context.options.sizes:
                    context.step(f"{size} KiB", weight(size))
                    for way in WAYS:
                        yield from _transfer(source, target, meter, way, size, repetition, context.seed)
        finally:
            source.close()
            target.close()


def _transfer(
    source: Worker, target: Worker, meter: Meter, way: str, size: int, repetition: int, seed: int
) -> Iterator[Row]:
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
    if way == "grant":
        yield from _verified(target, meter, size, repetition)
    got = target.call("take", name="parcel", free=way == "grant")
    right = got["checksum"] == made["checksum"]
    yield Row(
        case={"way": way, "KiB": size},
        values={"ms": sent["ms"], "MiB on the interconnect": counted["interconnect"].size / (1 << 20)},
        counts={n: Traffic(round_trips[n], counted[n].messages, counted[n].size) for n in round_trips},
        repetition=repetition,
        problem="" if right else f"{size} KiB did not arrive as they were sent ({way})",
    )


def _verified(target: Worker, meter: Meter, size: int, repetition: int) -> Iterator[Row]:
    """Who was granted the pages computes their checksums in both ways, which have to agree."""
    sums: list[list[int]] = []
    for how in VERIFY:
        before = meter.read()
        found = target.call("verify", name="parcel", how=how)
        counted = since(before, meter.read())["interconnect"]
        sums.append(found["checksums"])
        yield Row(
            case={"checksums": how, "KiB": size},
            values={"verify ms": found["ms"], "MiB to verify": counted.size / (1 << 20)},
            counts={"interconnect": Traffic(found["interconnect"], counted.messages, counted.size)},
            repetition=repetition,
            problem="" if sums[-1] == sums[0] else f"{size} KiB: checksums by the memory are not those of what is read",
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
        *_verification(rows, most),
    ]


def _verification(rows: Sequence[Row], size: int) -> Iterator[Finding]:
    """The largest that was verified."""
    took, moved = (
        [value(rows, what, checksums=how, KiB=size) for how in VERIFY] for what in ("verify ms", "MiB to verify")
    )
    if took[0] is None or took[1] is None:
        return
    text = f"{size} KiB verified with {moved[0]:.3g} MiB on the interconnect against {moved[1]:.3g} by reading it"
    yield Finding("checksums move less", 3 * (moved[0] or 0.0) <= (moved[1] or 0.0), text)
    text = f"{size} KiB verified in {took[0]:.3g} ms against {took[1]:.3g} by reading it"
    yield Finding("checksums are faster", took[0] < took[1], text)


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
    "through the network. Grant: the pages change hands and a message says so; then their new owner verifies them by checksums "
    "that the memory element computes, and by reading them. Bytes are counted on every link they cross.",
    claims=(
        Claim(
            "three round trips", "5", "A transfer on a transparent rack forces three network and memory round trips."
        ),
        Claim("one round trip", "5", "A grant makes it one round trip on the interconnect and a control message."),
        Claim("less data", "5", "Grants eliminate unnecessary data movement (here: 3 times less on the interconnect)."),
        Claim("faster", "5", "Grants make data transfer faster."),
        Claim(
            "checksums move less",
            "3.1",
            "Checksums of reassigned data can be deferred to memory elements: less is moved.",
        ),
        Claim("checksums are faster", "3.1", "And that reduces the time that it takes to verify them."),
    ),
    scales={"quick": Options((4, 256, 1024)), "full": Options((4, 16, 64, 256, 1024, 4096, 16384, 65536))},
    run=run,
    steps=steps,
    judge=judge,
    charts=(
        Chart("transfer", "Time of one transfer", "KiB", "ms", "way", log=(True, True)),
        Chart("transfer-edr", "The same on InfiniBand EDR", "KiB", "", "way", log=(True, True), link="InfiniBand EDR"),
        Chart("verify", "Checksums of what was granted", "KiB", "verify ms", "checksums", log=(True, True)),
        Chart("transfer-bytes", "Bytes on the interconnect", "KiB", "MiB on the interconnect", "way", log=(True, True)),
    ),
    repetitions={"quick": 1, "full": 3},
)
