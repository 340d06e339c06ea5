"""What caching translations at compute elements costs and buys: rules of the switch, latencies, and what a change costs."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from experiments.framework.measure import Meter, rack_ports, since
from experiments.framework.model import Chart, Claim, Context, Experiment, Finding, Row, Traffic
from experiments.framework.summary import value
from experiments.workers import PATIENCE, Worker
from protocol.wire import PAGE_SIZE
from topologies.launch import RackLauncher
from topologies.racks import small_rack

MIB = 1 << 20
SWITCH, BOTH, CACHE = "switch translates", "cached, switch confirms", "cached, switch has none"
WAYS = (SWITCH, BOTH, CACHE)
# Blocks of 256 KiB, so that an allocation is more than a rule; signs of life are packets, too: hardly any while they are counted.
CONTROLLER = ("--heartbeat-interval", "20000", "--heartbeat-timeout", "100000", "--largest-block", "64")


@dataclass(frozen=True)
class Options:
    """``mib`` of each process's memory; ``accesses`` of a burst (reads, and as many writes); ``changed`` pages between two
    bursts, granted away and back; ``replayed`` accesses by translations from before a grant."""

    mib: tuple[int, ...]
    accesses: int
    changed: int
    replayed: int


def steps(options: Options, repetitions: int) -> int:
    """Of the progress bar."""
    return 1 + len(options.mib) * len(WAYS) * (1 + repetitions)


def run(context: Context[Options]) -> Iterator[Row]:
    """The ways take turns within a repetition."""
    options = context.options
    context.step("booting a rack")
    rack = small_rack(compute=2, dram=2, nvm=0, memory_mib=2 * sum(options.mib) * len(WAYS) + 16, name="translations")
    with context.rack(rack, "rack", controller_options=CONTROLLER) as launched:
        first, second = (element.name for element in rack.compute)
        taker = _worker(launched, second, "taker", BOTH)
        workers = {way: _worker(launched, first, f"way {number}", way) for number, way in enumerate(WAYS)}
        meter = Meter(rack_ports(launched.rack))
        try:
            for mib in options.mib:
                vas = {}
                for way, worker in workers.items():
                    context.step(f"{mib} MiB, {way}: first accesses")
                    alloc = "alloc_cached" if way == CACHE else "alloc"
                    vas[way] = worker.call(alloc, size=mib * MIB)["va"]
                    worker.call("hash", va=vas[way], size=mib * MIB)
                for repetition in range(context.repetitions):
                    for way, worker in workers.items():
                        context.step(f"{mib} MiB, {way}")
                        yield _measured(launched, meter, worker, taker, way, mib, vas[way], repetition, context)
        finally:
            for worker in (*workers.values(), taker):
                worker.close()


def _worker(launched: RackLauncher, element: str, name: str, way: str) -> Worker:
    more = ("--no-cache",) if way == SWITCH else ()
    options = ("--interface", f"{element}-rack", *more)
    return Worker(launched, element, name, "experiments.translation_worker", options, patience=PATIENCE)


def _pages(mib: int) -> int:
    return mib * MIB // PAGE_SIZE


def _measured(
    launched: RackLauncher,
    meter: Meter,
    worker: Worker,
    taker: Worker,
    way: str,
    mib: int,
    va: int,
    repetition: int,
    context: Context[Options],
) -> Row:
    options, problems = context.options, []
    rng = random.Random(f"{context.seed} {repetition} {mib}")
    fresh = _rules(launched, va, mib)
    before = meter.read()
    quiet = worker.call("burst", va=va, pages=_pages(mib), count=options.accesses, seed=rng.randrange(1 << 30))
    counted = since(before, meter.read())["interconnect"]
    problems += _replayed(launched, worker, taker, way, va, rng.randrange(_pages(mib)), options.replayed)
    for page in rng.sample(range(_pages(mib)), options.changed):
        for to in (taker.pid, worker.pid):
            launched.post("/v1/grant", {"va": va + page * PAGE_SIZE, "pages": 1, "to": to})
    changed = worker.call("burst", va=va, pages=_pages(mib), count=options.accesses, seed=rng.randrange(1 << 30))
    operations = 2 * options.accesses
    asked, stale = (changed["did"].get(f"translation {what}", 0) for what in ("asked", "stale"))
    return Row(
        case={"way": way, "MiB": mib},
        values={
            "read us": median(quiet["samples"]["read"]),
            "write us": median(quiet["samples"]["write"]),
            "read us, changes before": median(changed["samples"]["read"]),
            "hits %": _hits(quiet),
            "hits %, changes before": _hits(changed),
            "refused as stale": stale,
            "translations asked for": asked,
            "V2P rules": fresh["translation"],
            "rules": fresh["translation"] + fresh["protection"],
        },
        counts={
            "interconnect": Traffic(1.0, counted.messages / operations, counted.size / operations),
        },
        repetition=repetition,
        problem="; ".join(problems),
    )


def _hits(burst: dict[str, Any]) -> float:
    hits, misses = (burst["did"].get(f"translation {what}", 0) for what in ("hits", "misses"))
    return 100.0 * hits / (hits + misses) if hits + misses else 0.0


def _rules(launched: RackLauncher, va: int, mib: int) -> dict[str, int]:
    """Entries of an allocation in the switch, by table."""
    rows = [r for r in launched.get("/v1/map")["entries"] if va <= r["va"] < va + mib * MIB]
    return {table: sum(r["table"] == table for r in rows) for table in ("translation", "protection")}


def _replayed(
    launched: RackLauncher, worker: Worker, taker: Worker, way: str, va: int, page: int, count: int
) -> list[str]:
    """A page is granted away; its owner goes on by the translation that it had. What went wrong."""
    if way == SWITCH:
        return []
    at = va + page * PAGE_SIZE
    worker.call("access", va=at)
    places = worker.call("places", va=at, pages=1)["places"]
    launched.post("/v1/grant", {"va": at, "pages": 1, "to": taker.pid})
    contents = taker.call("hash", va=at, size=PAGE_SIZE)["sha256"]
    answer = worker.call("replay", places=places, count=count)
    after = taker.call("hash", va=at, size=PAGE_SIZE)["sha256"]
    launched.post("/v1/grant", {"va": at, "pages": 1, "to": worker.pid})
    problems = [] if places else [f"{way}: the cache does not know a page that was just accessed"]
    if answer["carried_out"] or answer["answered"] != count:
        problems.append(f"{way}: of {count} stale accesses {answer['answers']}")
    return problems if contents == after else [*problems, f"{way}: a stale access changed a page"]


def judge(rows: Sequence[Row]) -> list[Finding]:
    """Rules and latencies of the largest memory; stale accesses in all rows."""
    most = max(int(row.case["MiB"]) for row in rows)
    rules, v2p, read = (
        {way: value(rows, what, way=way, MiB=most) or 0.0 for way in WAYS} for what in ("rules", "V2P rules", "read us")
    )
    hits = value(rows, "hits %, changes before", way=CACHE, MiB=most) or 0.0
    ratio = read[CACHE] / read[SWITCH]
    failed = [row.problem for row in rows if row.problem]
    return [
        Finding(
            "coarse table",
            rules[CACHE] < rules[SWITCH] and not v2p[CACHE],
            f"{most} MiB: {rules[SWITCH]:.0f} rules with translations in the switch, {rules[CACHE]:.0f} without",
        ),
        Finding(
            "cached locally",
            hits > 50,
            f"{hits:.1f} % of accesses found their translation although pages had just changed hands and come back; reads "
            f"took {ratio:.2f} times as long as by the switch's translations",
        ),
        Finding(
            "invalidated",
            not failed,
            "no access by a translation from before a grant was carried out" if not failed else failed[0],
            essential=True,
        ),
    ]


EXPERIMENT = Experiment(
    name="translations",
    title="Translations cached at compute elements",
    about="Three processes work on memory of the same size. One leaves translating to the switch; one sends requests by cached "
    "translations, which the switch, having them too, confirms; of the third's memory the switch has no translations. "
    "Single accesses of 64 bytes at random pages, before and after pages were granted away and back. Then a page is granted "
    "to another process while its owner goes on by what it had cached.",
    claims=(
        Claim("coarse table", "2", "The V2P table can be coarse-grained to preserve Rack MMU memory."),
        Claim("cached locally", "2", "Compute elements look up mappings and may cache them locally to route accesses."),
        Claim(
            "invalidated", "3.1", "Memory is reassigned by invalidating any cached V2P mappings at compute elements."
        ),
    ),
    scales={"quick": Options((4,), 150, 5, 100), "full": Options((4, 16), 500, 10, 500)},
    run=run,
    steps=steps,
    judge=judge,
    charts=(
        Chart("translations-rules", "Rules of the switch", "MiB", "rules", "way", log=(True, True)),
        Chart("translations-reads", "A read of 64 bytes, median", "MiB", "read us", "way", log=(True, False)),
    ),
)
