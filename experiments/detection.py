"""How soon the rack monitor finds what is dead, how often it is wrong on a busy machine, and how soon all is in order again."""

from __future__ import annotations

import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from experiments.framework.model import Chart, Claim, Context, Experiment, Finding, Row
from experiments.workers import PATIENCE, Worker
from topologies.launch import RackLauncher
from topologies.racks import small_rack

PERCENTILES = (0, 10, 25, 50, 75, 90, 95, 99, 100)
VICTIMS = {"memory element": "m1", "NVM element": "n1", "local OS": "c2"}
HEARTBEAT = 50  # ms
LIMIT = 90.0  # seconds that anything may take
_SPIN = "import sys, time\nends = time.monotonic() + float(sys.argv[1])\nwhile time.monotonic() < ends: pass"


DEATH = 3.0  # seconds or so that a death takes, until all is as before


@dataclass(frozen=True)
class Options:
    """``thresholds`` in ms of silence; ``deaths`` of each victim at each; ``loads``: processes that compute without a pause, for
    ``seconds`` at each threshold; ``restarts`` of the controller."""

    thresholds: tuple[int, ...]
    deaths: int
    loads: tuple[int, ...]
    seconds: float
    restarts: int


def steps(options: Options, repetitions: int) -> float:
    """Of the progress bar."""
    each = len(VICTIMS) * options.deaths * DEATH + len(options.loads) * (options.seconds + 1)
    return 2 + repetitions * (len(options.thresholds) * each + options.restarts * DEATH)


def run(context: Context[Options]) -> Iterator[Row]:
    """Thresholds take turns within a repetition."""
    context.step("booting a rack")
    options = context.options
    samples: dict[str, list[float]] = defaultdict(list)
    with context.rack(small_rack(compute=2, dram=2, nvm=1, name="detection"), "rack") as rack:
        user = Worker(rack, "c1", "user", patience=PATIENCE)
        try:
            for repetition in range(context.repetitions):
                for threshold in options.thresholds:
                    _set(rack, threshold)
                    for who in VICTIMS:
                        context.step(f"killing a {who}, {threshold} ms", options.deaths * DEATH)
                        for _ in range(options.deaths):
                            found = _death(rack, user, who, threshold)
                            for what, ms in found.items():
                                samples[f"{what}, {threshold} ms" if what == f"{who} found" else what].append(ms)
                                yield Row({"what": what, "threshold ms": threshold}, {"ms": ms}, repetition=repetition)
                    for load in options.loads:
                        context.step(f"{load} busy processes, {threshold} ms", options.seconds + 1)
                        wrong = _wrong(rack, load, options.seconds)
                        yield Row({"busy processes": load, "threshold ms": threshold}, wrong, repetition=repetition)
                context.step("killing the controller", options.restarts * DEATH)
                _set(rack, 600)
                for _ in range(options.restarts):
                    ms = _restart(rack, user)
                    samples["controller serves again"].append(ms)
                    yield Row(
                        {"what": "controller serves again", "threshold ms": 600}, {"ms": ms}, repetition=repetition
                    )
        finally:
            user.close()
    context.step("percentiles")
    for what, times in samples.items():
        for p in PERCENTILES:
            yield Row({"distribution": what, "percentile": p}, {"at percentile ms": percentile(times, p)})
        text = ", ".join(f"p{p} {percentile(times, p):.0f}" for p in (50, 90, 99))
        context.note(f"{what}: {text} ms ({len(times)} samples)")


def _set(rack: RackLauncher, threshold: int) -> None:
    rack.post(
        "/v1/monitor",
        {"heartbeat_ms": HEARTBEAT, "suspect_ms": max(threshold // 2, 2 * HEARTBEAT), "fail_ms": threshold},
    )
    time.sleep(0.2)  # elements are told


def _events(rack: RackLauncher, since: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = rack.get(f"/v1/events?since={since}")["events"]
    return found


def _last(rack: RackLauncher) -> int:
    return max((int(e["id"]) for e in _events(rack, 0)), default=0)


def _death(rack: RackLauncher, user: Worker, who: str, threshold: int) -> dict[str, float]:
    """SIGKILL, until it is found; started again, until it serves. Milliseconds."""
    name = VICTIMS[who]
    rack.wait_for(rack._all_alive, "every element to be alive", LIMIT)
    since = _last(rack)
    found: list[float] = []

    def is_found() -> bool:
        found[:] = [e["time"] for e in _events(rack, since) if e["event"] == "element_failed" and e["name"] == name]
        return bool(found)

    result = {}
    va = 0
    if who == "memory element":
        va = user.call("alloc", size=1 << 20)["va"]
        page = next(s["va"] for s in _segments(rack, user.pid) if s["element"] == name)
        user.call("write_until_refused", va=page, limit=LIMIT)
        time.sleep(0.05)
    killed = time.time()
    rack.kill(name)
    rack.wait_for(is_found, f"{name} to be found dead", LIMIT)
    result[f"{who} found"] = (found[0] - killed) * 1e3
    if va:
        outcome = user.call("join")
        assert outcome["refused"], outcome
        result["its user hears of it"] = (outcome["at"] - killed) * 1e3
    started = time.monotonic()
    rack.start_element(name)
    rack.wait_for(rack._all_alive, f"{name} to serve again", LIMIT)
    result[f"{who} serves again"] = (time.monotonic() - started) * 1e3
    if va:
        user.call("free", va=va)
    return result


def _segments(rack: RackLauncher, pid: int) -> list[dict[str, Any]]:
    processes = rack.get("/v1/processes")["processes"]
    return [s for p in processes if p["pid"] == pid for a in p["allocations"] for s in a["segments"]]


def _wrong(rack: RackLauncher, load: int, seconds: float) -> dict[str, float]:
    """Elements that were suspected, or said to have failed, though none was dead: a minute and element."""
    since = _last(rack)
    busy = [subprocess.Popen([sys.executable, "-c", _SPIN, str(seconds)]) for _ in range(load)]
    try:
        time.sleep(seconds)
    finally:
        for process in busy:
            process.kill()
            process.wait()
    seen = [e["event"] for e in _events(rack, since)]
    minutes = seconds / 60 * len(rack.rack.elements)
    return {
        "suspected a minute": seen.count("element_suspected") / minutes,
        "failed a minute": seen.count("element_failed") / minutes,
    }


def _restart(rack: RackLauncher, user: Worker) -> float:
    """SIGKILL the controller and start it, until a process has been given memory by it. Milliseconds."""
    killed = time.monotonic()
    rack.kill("controller")
    rack.start_controller()
    va = user.call("alloc", size=4096)["va"]
    took = (time.monotonic() - killed) * 1e3
    user.call("free", va=va)
    return took


def percentile(samples: Sequence[float], p: int) -> float:
    """The p-th percentile, between samples linearly."""
    ordered = sorted(samples)
    at = (len(ordered) - 1) * p / 100
    low = int(at)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (at - low)


def judge(rows: Sequence[Row]) -> list[Finding]:
    """Whether what is dead is found within its threshold and little more, and what is alive is left alone."""
    found: dict[int, list[float]] = defaultdict(list)
    for row in rows:
        if str(row.case.get("what", "")).endswith(" found"):
            found[int(row.case["threshold ms"])].append(row.values["ms"])
    late = {t: percentile(values, 90) - t for t, values in found.items()}
    texts = [f"{t} ms: p50 {percentile(v, 50):.0f}, p90 {percentile(v, 90):.0f} ms" for t, v in sorted(found.items())]
    wrong = [row for row in rows if "failed a minute" in row.values]
    usual = [row for row in wrong if int(row.case["threshold ms"]) >= 600]
    mistaken, mistaken_usual = ([r for r in some if r.values["failed a minute"] > 0] for some in (wrong, usual))
    text = f"{len(mistaken)} of {len(wrong)} busy times saw an element failed that was alive"
    text += f" ({len(mistaken_usual)} of {len(usual)} with 600 ms and more)"
    return [
        Finding("found", all(ms <= 250 for ms in late.values()), "; ".join(texts), essential=False),
        Finding("left alone", not mistaken_usual if usual else None, text),
    ]


EXPERIMENT = Experiment(
    name="detection",
    title="Detection of failures, and recovery",
    about="Elements are killed and started again, the controller too; the rack monitor's threshold varies. Then other processes "
    "keep the machine's CPUs busy, nothing dies, and what the monitor suspects is wrong.",
    claims=(
        Claim(
            "found", "3.3", "A rack monitor finds failures soon: after its threshold, and at most 250 ms more (p90)."
        ),
        Claim(
            "left alone", "3.3", "Elements that are alive are not taken for dead on a busy machine (600 ms and more)."
        ),
    ),
    scales={
        "quick": Options((600,), 1, (2,), 2.0, 1),
        "full": Options((150, 300, 600, 1200), 6, (0, 1, 2, 4), 8.0, 10),
    },
    run=run,
    steps=steps,
    judge=judge,
    repetitions={"quick": 1, "full": 1},
    charts=(
        Chart("detection", "From a death to its detection", "threshold ms", "ms", "what"),
        Chart("distributions", "Distributions", "percentile", "at percentile ms", "distribution", log=(False, True)),
        Chart("suspected", "Wrong suspicions", "busy processes", "suspected a minute", "threshold ms"),
        Chart("failed", "Wrong failures", "busy processes", "failed a minute", "threshold ms"),
    ),
)
