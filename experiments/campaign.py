"""A campaign: do the safety rules hold on a real rack while links lose, copy, delay and reorder frames, and memory changes hands?

First stage, with faults on the links of processes and memory elements: players do random operations on shared words of their
memory while it is granted, stolen, revoked, freed and allocated anew, elements are fenced, and the controller, memory elements,
the switch and local OSes are killed and started again; an intruder writes to what it lost, until ``--late`` attempts have been
answered. Every operation is recorded and judged (``experiments.campaign_check``). Second stage: the switch alone refuses late
writes, with memory elements that refuse nothing (the first stage has shown the same of the elements alone, behind the switch's
back). Third stage, without faults: bystanders must not notice a thousand revocations.

The exit status is 0 only if every rule held.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import signal
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from rich.console import Console

from experiments.campaign_alone import Alone, AloneReport
from experiments.campaign_check import Verdict, add
from experiments.campaign_quiet import Load, Quiet, QuietReport
from experiments.campaign_storm import Storm, StormReport
from experiments.workers import Worker, WorkerError
from hosts.faults import Faults, FaultsError
from protocol import rack as racks
from topologies import targets
from topologies.__main__ import add_rack_arguments, rack_of
from topologies.launch import LaunchOptions, RackLauncher
from topologies.processes import StartError
from topologies.state import RackRunning

console = Console(highlight=False, soft_wrap=True)
P99_GOAL = 1.5  # of a bystander, while others lose memory, to its quiet value
TIMEOUT_MS = 20_000  # without a sign of life: heartbeats are lost, too, and no element fails here


@dataclass
class Summary:
    """What is written to summary.json."""

    target: str
    seed: int
    faults: str
    storm: StormReport | None = None
    alone: AloneReport | None = None
    quiet: QuietReport | None = None
    late: dict[str, int] = field(default_factory=dict)  # attempts and their answers, of all stages
    seconds: float = 0.0
    held: bool = False


def options(arguments: argparse.Namespace, faults: str, name: str, trusting: bool = False) -> LaunchOptions:
    """A rack whose memory elements have these faults, or trust the switch."""
    rack = rack_of(arguments)
    agents: dict[str, tuple[str, ...]] = {}
    for e in rack.memory:
        agents[e.name] = ("--faults", f"{faults},seed={arguments.seed + e.id}") if faults else ()
        agents[e.name] += ("--trust-switch",) if trusting else ()
    return LaunchOptions(
        target=arguments.target,
        out=arguments.out / name,
        controller_options=("--placement", "balance", "--largest-block", "64", "--heartbeat-timeout", str(TIMEOUT_MS)),
        element_options=agents,
        progress=lambda text: None,
    )


@contextlib.contextmanager
def intruder(rack: RackLauncher, element: str, seed: int, faults: str = "") -> Iterator[Worker]:
    """The intruder, with a socket on the switch's port of every memory element."""
    with contextlib.ExitStack() as stack:
        ports: list[str] = []
        descriptors: list[int] = []
        for memory in rack.rack.memory:
            port = stack.enter_context(socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0))
            port.bind((f"mmu-eth{memory.port}", 0))
            descriptors.append(port.fileno())
            ports += ("--port", f"{memory.id}={port.fileno()}")
        command = ("--interface", f"{element}-rack", "--seed", str(seed), *ports)
        command += ("--faults", f"{faults},seed={seed}") if faults else ()
        made = Worker(rack, element, "intruder", "experiments.campaign_intruder", command, descriptors)
        stack.callback(made.close)
        yield made


def campaign(arguments: argparse.Namespace, summary: Summary) -> None:
    """All stages."""
    rack = rack_of(arguments)
    if len(rack.compute) < 2 or len(rack.memory) < 2:
        raise StartError("a campaign needs at least two compute and two memory elements")
    home = rack.compute[0].name
    console.print(f"booting a rack with faults on its links: {summary.faults}")
    faulty, sound = options(arguments, summary.faults, "storm"), options(arguments, "", "quiet")
    with RackLauncher(rack, faulty) as launched, intruder(launched, home, arguments.seed, summary.faults) as late:
        more = arguments.players, summary.faults, arguments.seed, arguments.crash_every
        storm = Storm(launched, late, home, *more)
        summary.storm = storm.run(arguments.seconds, arguments.late, arguments.longest, tell)
    add(summary.late, summary.storm.late)
    show_storm(summary.storm)
    console.print("booting a rack whose memory elements refuse nothing")
    trusting = options(arguments, "", "alone", trusting=True)
    with RackLauncher(rack, trusting) as launched, intruder(launched, home, arguments.seed, summary.faults) as late:
        summary.alone = Alone(launched, late, rack.compute[1].name).run(max(arguments.late // 20, 2000))
    add(summary.late, summary.alone.late)
    show_alone(summary.alone, summary.storm)
    console.print("booting a rack without faults")
    with RackLauncher(rack, sound) as launched, intruder(launched, home, arguments.seed) as late:
        load = Load(arguments.slices, arguments.rate, arguments.pause / 1e3)
        quiet = Quiet(launched, late, [e.name for e in rack.compute[1:]])
        summary.quiet = quiet.run(arguments.revocations, load, 1000, tell)
    add(summary.late, summary.quiet.late)
    show_quiet(summary.quiet)


def tell(text: str) -> None:
    """Progress."""
    console.print(f"  {text}")


def mark(held: bool) -> str:
    """How a rule came out."""
    return "[green]held[/]" if held else "[red]VIOLATED[/]"


def show_storm(report: StormReport) -> None:
    """The first stage."""
    verdict = Verdict(**report.verdict)
    done = ", ".join(f"{n} {what}" for what, n in report.actions.items())
    console.print(f"  {report.operations} operations on {report.words} words; {done}")
    outcomes = ", ".join(f"{n} {what or 'carried out'}" for what, n in report.outcomes.items())
    console.print(f"  outcomes: {outcomes}; {report.retries} retries")
    console.print("  late writes answered, by the loss: " + ", ".join(f"{n} {k}" for k, n in report.late_after.items()))
    console.print(f"  {mark(not verdict.not_linearizable)}  linearizable word by word, no effect lost or doubled")
    console.print(f"  {mark(not verdict.late_effects)}  nothing took effect after its loss was acknowledged")
    console.print(f"  {mark(not verdict.false_refusals)}  nobody was refused what is its own")
    console.print(f"  {mark(not verdict.unexpected and not report.problems)}  no other error")
    for texts in (*asdict(verdict).values(), report.problems):
        for text in texts[:5]:
            console.print(f"    [red]{text}[/]")


def show_alone(report: AloneReport, storm: StormReport) -> None:
    """The second stage."""
    past = f"{report.control['accepted']} of {report.control['answered']} past it were, as they should be"
    answered, accepted = report.late["answered"], report.late["accepted"]
    console.print(
        f"  {mark(report.held)}  the switch alone: {answered} late writes answered, {accepted} accepted; {past}"
    )
    alone = sum(n for what, n in storm.late.items() if what.endswith(" element"))
    accepted = sum(n for what, n in storm.late.items() if " OK " in what)
    console.print(
        f"  {mark(not accepted)}  the elements alone: {alone} late writes past the switch, {accepted} accepted"
    )


def show_quiet(report: QuietReport) -> None:
    """The third stage."""
    console.print(
        f"  {mark(report.held)}  bystanders during {report.revocations} revocations ({report.rate:.0f} a second): "
        f"{report.requests} requests, "
        f"{len(report.failures)} errors, {report.lost} packets lost, {report.retries} retries"
    )
    console.print(
        f"  p99 of 64 B: {report.p99_busy:.0f} us, {report.p99_ratio:.2f} of its value in the quiet time just before "
        f"({min(report.ratios):.2f}..{max(report.ratios):.2f}); goal {P99_GOAL}"
    )
    control = sorted(report.control)
    used = ", ".join(f"{name} {milliseconds:.1f} ms" for name, milliseconds in report.cpu_ms.items())
    console.print(f"  two quiet times differ by {control[0]:.2f}..{control[-1]:.2f}; CPU of a revocation: {used}")


def parse_arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """Options; ``faults`` among them is what becomes of four of them."""
    parser = argparse.ArgumentParser(prog="python -m experiments.campaign", description=__doc__)
    add_rack_arguments(parser)
    parser.add_argument("--out", type=Path, default=Path("out/campaign"), help="directory for the summary and logs")
    parser.add_argument(
        "--seconds", type=float, default=120.0, help="of the first stage, or until it has done all (default 120)"
    )
    parser.add_argument("--seed", type=int, default=1, help="of everything random (default 1)")
    parser.add_argument("--players", type=int, default=4, help="processes that play (default 4)")
    parser.add_argument("--loss", type=float, default=0.03, help="probability that a link loses a frame (default 0.03)")
    parser.add_argument("--copies", type=float, default=0.03, help="that it doubles one (default 0.03)")
    parser.add_argument("--reorder", type=float, default=0.1, help="that it holds one back (default 0.1)")
    parser.add_argument("--delay", type=float, default=0.02, help="for how long at most, in seconds (default 0.02)")
    parser.add_argument("--late", type=int, default=1_000_000, help="late writes in the first stage (default 1000000)")
    parser.add_argument("--longest", type=float, default=480.0, help="seconds of the first stage at most (default 480)")
    parser.add_argument("--crash-every", type=float, default=6.0, help="seconds between crashes (default 6; 0: none)")
    parser.add_argument("--revocations", type=int, default=1000, help="that bystanders live through (default 1000)")
    parser.add_argument("--slices", type=int, default=5, help="of quiet and busy time in turn (default 5)")
    parser.add_argument("--rate", type=float, default=20.0, help="revocations a second (default 20)")
    parser.add_argument(
        "--pause",
        type=float,
        default=2.0,
        metavar="MS",
        help="between a bystander's accesses (default 2 ms; 0: none, which leaves two CPUs no time for anything else)",
    )
    parser.add_argument("--strict", action="store_true", help=f"fail also when the p99 ratio is above {P99_GOAL}")
    arguments = parser.parse_args(given)
    if arguments.seconds <= 0 or arguments.players < 1 or arguments.late < 0:
        parser.error("--seconds and --players are above 0, --late is not negative")
    if arguments.crash_every < 0 or arguments.longest < arguments.seconds:
        parser.error("--crash-every is not negative, --longest not below --seconds")
    if arguments.rate <= 0 or arguments.pause < 0:
        parser.error("--rate is above 0, --pause is not negative")
    if arguments.slices < 1 or arguments.revocations < arguments.slices:
        parser.error("there is at least one slice, and at least one revocation in each")
    faults = f"loss={arguments.loss},copies={arguments.copies},late={arguments.reorder},delay={arguments.delay}"
    try:
        Faults.parse(faults)
    except FaultsError as error:
        parser.error(str(error))
    arguments.faults = faults
    return arguments


def main() -> int:
    """Exit status 0 when every rule held, 1 when one did not or the rack did not come up."""
    arguments = parse_arguments()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    start = time.perf_counter()
    summary = Summary(arguments.target, arguments.seed, arguments.faults)
    arguments.out.mkdir(parents=True, exist_ok=True)
    try:
        campaign(arguments, summary)
    except (StartError, RackRunning, targets.TargetError, racks.RackError, WorkerError, OSError) as error:
        console.print(f"[red]campaign: {error}[/]")
        return 1
    except KeyboardInterrupt:
        console.print("interrupted; the rack is down")
        return 130
    assert summary.storm is not None and summary.alone is not None and summary.quiet is not None
    accepted = summary.late.get("accepted", 0)
    summary.held = summary.storm.held and summary.alone.held and summary.quiet.held and not accepted
    summary.seconds = time.perf_counter() - start
    (arguments.out / "summary.json").write_text(json.dumps(asdict(summary), indent=2) + "\n")
    answers = ", ".join(
        f"{n} {k}" for k, n in sorted(summary.late.items()) if k not in ("sent", "answered", "accepted")
    )
    late = f"{summary.late['answered']} late writes of {summary.late['sent']} answered, {accepted} accepted"
    console.print(f"  {mark(not accepted)}  {late}: {answers}")
    if summary.storm.missing:
        console.print(f"  [red]not come about in {arguments.longest:.0f} s: {'; '.join(summary.storm.missing)}[/]")
    console.print(f"{mark(summary.held)} in {summary.seconds:.0f} s; {arguments.out / 'summary.json'}")
    slow = arguments.strict and summary.quiet.p99_ratio > P99_GOAL
    return 0 if summary.held and not slow else 1


if __name__ == "__main__":
    sys.exit(main())
