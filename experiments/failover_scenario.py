"""What failover experiments have in common: racks to run on, load around a failure, and what became of it."""

from __future__ import annotations

import contextlib
import math
import shutil
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments import kv_history
from experiments.failover_cluster import IMAGES, Cluster, Spoilt, Timeouts
from experiments.failover_net import ControlError, ports_of
from experiments.failover_timeline import Event, Gap, of_controller, outage, show, usual_gap
from experiments.framework.measure import Meter, captured, since
from experiments.framework.model import IN_A_ROW, Case, Context, Network, Row, ScenarioFailed, Traffic
from experiments.framework.runner import CAPTURES
from topologies.site import site
from topologies.site_launch import SiteLauncher, SiteOptions

BEFORE, AFTER = 1.5, 1.0  # seconds of load before the failure and after the recovery, at least
WARM = 50  # operations until it has begun
ANSWERED = 60.0  # seconds in which as many are carried out after the recovery, on however slow a machine
LIMIT, LIMIT_PER_MIB = 120.0, 0.4  # seconds until a recovery counts as failed
MIB = 1 << 20
BOOT = 12.0  # seconds or so that three racks take
ATTEMPTS = 3  # at a scenario that was spoilt before its failure


@dataclass(frozen=True)
class Planned:
    """A repetition of a case. ``weight``: seconds or so that it takes."""

    case: dict[str, Case]
    repetition: int
    text: str
    weight: float


def steps_of(planned: Sequence[Planned]) -> float:
    """Of the progress bar, with the racks' start."""
    return BOOT + sum(p.weight for p in planned)


def carried_out(
    context: Context[Any],
    timeouts: Timeouts,
    planned: Sequence[Planned],
    scenario: Callable[[SiteLauncher, dict[str, Case], Path, int, int], Row],
    full: int = 1,
) -> Iterator[Row]:
    """The rows of scenarios, which are given racks, case, directory, seed and repetition. Racks in which one went wrong are not
    used again. Raises ScenarioFailed after three in a row."""
    context.step("booting three racks", BOOT)
    pending = deque(planned)
    boots = failed = 0
    while pending:
        boots += 1
        with three_racks(context, timeouts, max(int(p.case["MiB"]) for p in planned), full, boots) as launched:
            while pending:
                now = pending.popleft()
                context.step(now.text, now.weight)

                def attempt(out: Path, seed: int, now: Planned = now, racks: SiteLauncher = launched) -> Row:
                    return scenario(racks, now.case, out, seed, now.repetition)

                def measure(now: Planned = now, attempt: Callable[[Path, int], Row] = attempt) -> Row:
                    return attempted(context, now.case, now.repetition, attempt)

                row = context.row(now.case, now.repetition, measure)
                yield row
                failed = failed + 1 if row.problem else 0
                if failed == IN_A_ROW:
                    raise ScenarioFailed(f"{failed} scenarios in a row went wrong")
                if failed:
                    break


@contextlib.contextmanager
def three_racks(
    context: Context[Any], timeouts: Timeouts, state_mib: int, full: int = 1, boot: int = 1
) -> Iterator[SiteLauncher]:
    """One full rack (or more) and simple ones, with room for a state of this size in each element of memory, and captures."""
    monitor = (
        *("--heartbeat-interval", str(timeouts.rack_heartbeat)),
        *("--suspect-timeout", str(timeouts.rack_suspect)),
        *("--heartbeat-timeout", str(timeouts.rack_fail)),
    )
    described = site(racks=3, full=full, compute=2, dram=2, memory_mib=2 * state_mib + 48, servers=2, clients=1)
    where = context.out if boot == 1 else context.out / f"boot-{boot}"
    options = SiteOptions(
        target=context.target, out=where / "racks", name="experiment-site", rack={"controller_options": monitor}
    )
    with SiteLauncher(described, options) as launched, captured(ports_of(launched), where / CAPTURES):
        try:
            yield launched
        finally:
            shutil.rmtree(launched.out / IMAGES, ignore_errors=True)


def attempted(
    context: Context[Any], case: dict[str, Case], repetition: int, scenario: Callable[[Path, int], Row]
) -> Row:
    """The row of a scenario, which is given its directory and seed; or one that says what went wrong. A scenario that is spoilt
    before its failure (a rack monitor of a starved machine has failed what was alive, say) is tried again, and that is noted."""
    name = "-".join(str(varied).replace(" ", "-") for varied in (*case.values(), repetition))
    problem = ""
    for attempt in range(ATTEMPTS):
        try:
            return scenario(context.out / (f"{name}-again-{attempt}" if attempt else name), context.seed + repetition)
        except Spoilt as error:
            context.note(f"{name}: spoilt before it began: {error}")
            problem = f"{name}: spoilt {ATTEMPTS} times before it began: {error}"
        except ScenarioFailed as error:
            problem = f"{name}: {error}"
            break
    return Row(case, {}, repetition=repetition, problem=problem)


@dataclass(frozen=True)
class Seen:
    """What became of a failure: the time without answers, what crossed the links until the service was complete, figures of
    both, and what was wrong with the history."""

    gap: Gap
    counted: dict[Network, Traffic]
    values: dict[str, float]
    problem: str


class Observer:
    """Watches a cluster: load before, during and after a failure, links meanwhile, and what everybody says."""

    def __init__(self, cluster: Cluster, clients: int, seed: int):
        self.cluster, self._clients, self._seed = cluster, clients, seed
        self.events: list[Event] = []
        self.failed = self.full = self._ended = math.inf
        self._counted: dict[Network, Traffic] = {}
        self._before: dict[Network, Traffic] = {}
        self._trips: dict[Network, float] = {}
        self._meter = Meter(ports_of(cluster.site))

    @contextlib.contextmanager
    def under_load(self) -> Iterator[None]:
        """Clients work before, during and after the body; then everybody is asked what happened."""
        heard = {n: _last_event(r.get("/v1/events")["events"]) for n, r in self.cluster.site.racks.items()}
        self.cluster.begin_load(self._clients, self._seed)
        self.cluster.wait(lambda: self._carried_out() > WARM, "the load to begin", 90)
        time.sleep(BEFORE)
        if self.cluster.leader_status().get("id") != 1:
            raise Spoilt("replica 1 does not lead")
        try:
            yield
        except BaseException:
            self._collect(heard)
            self._write_timeline()
            raise
        carried_out = self._carried_out()
        time.sleep(AFTER)
        self.cluster.wait(lambda: self._carried_out() > carried_out + WARM, "operations after the recovery", ANSWERED)
        self._ended = time.monotonic()
        self.cluster.end_load()
        self._collect(heard)

    def _carried_out(self) -> int:
        return int(self.cluster.leader_status().get("counts", {}).get("commands", 0))

    def begin(self, fail: Callable[[str], float], what: str) -> float:
        """The failure; when (monotonic seconds)."""
        self._trips = self.cluster.round_trips()
        self._before = self._meter.read()
        self.cluster.begun = True
        self.failed = fail(what)
        return self.failed

    def until(self, condition: Callable[[], bool], what: str) -> float:
        """The recovery is over when this is so; when that was. Raises ScenarioFailed when it does not come."""
        self.full = self.cluster.wait(condition, what, LIMIT + LIMIT_PER_MIB * self.cluster.state_mib)
        self._counted = since(self._before, self._meter.read())
        for network, trips in self.cluster.round_trips().items():
            self._counted[network] += Traffic(trips - self._trips[network])
        return self.full

    def _collect(self, heard: dict[int, int]) -> None:
        offset = time.monotonic() - time.time()
        for number, rack in self.cluster.site.racks.items():
            told = rack.get(f"/v1/events?since={heard[number]}")["events"]
            self.events += of_controller(told, offset, f"rack {number}")
        for replica in self.cluster.replicas.values():
            if replica.child.popen.poll() is None:
                who = f"{replica.kind} on {replica.host}"
                with contextlib.suppress(ControlError):  # it ends just now
                    self.events += [Event(at, who, text) for at, text in replica.status().get("events", [])]

    def _write_timeline(self) -> None:
        shown = [e for e in self.events if e.at >= self.failed]
        (self.cluster.out / "timeline.txt").write_text(show(shown, self.failed))

    def judge(self) -> Seen:
        """What clients saw, checked; the timeline and violations are written down. Raises ScenarioFailed."""
        out = self.cluster.out
        self._write_timeline()
        history = kv_history.load(self.cluster.history)
        answers = [o.returned for o in history if not math.isinf(o.returned)]
        try:
            gap = outage(answers, self.failed, self._ended)
        except ValueError as error:
            raise ScenarioFailed(str(error)) from None
        if not any(self.full < at < self._ended for at in answers):
            raise ScenarioFailed(
                f"the service said that it was complete, and gave no answer for {self._ended - self.full:.1f} s"
            )
        violations = kv_history.check(history)
        (out / "violations.txt").write_text("".join(f"{v}\n" for v in violations))
        values = {
            "unavailable s": gap.seconds,
            "usual gap s": usual_gap(answers, self.failed),
            "answers": float(len(answers)),
        }
        values |= {f"{network} MiB": traffic.size / MIB for network, traffic in self._counted.items()}
        problem = f"{out.name}: the history of {len(violations)} keys is not linearizable" if violations else ""
        return Seen(gap, self._counted, values, problem)


def _last_event(events: list[dict[str, Any]]) -> int:
    return max((int(e["id"]) for e in events), default=0)
