"""The soak: 24 hours at 10,000 packets a second, accelerated, with table churn, digests, clones, recirculation and reconnects.

864 million packets go through the pipelines of three switches in this process (pipeline.py), whose clocks move on by 24 hours;
two million frames go over real interfaces through a switch process, while controllers come and go (wire.py). Resident memory and
what malloc has given out are sampled; a straight line through the samples after the first quarter must not rise by more than the
bound over the rest of the run. Any leak per packet, entry, event or connection that matters in a month shows up.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

from fuzz.soak.growth import MIB, Growth, Sample, growth
from fuzz.soak.pipeline import MINUTE, Outcome, soak

ROOT = Path(__file__).resolve().parents[2]
DAY = 24 * 60 * MINUTE
FRAMES = 2_000_000
GREW, REFUSED = 1, 2

# Most that memory may grow, in bytes. What is resident of the server goes up and down by ten MiB between two collections of the
# interpreter's garbage; its address space moves in steps of a thread's stack (8 MiB), of which the C library keeps some, and
# grows to its size until some 500,000 frames and 200 controllers have passed, so short runs are allowed more.
PIPELINE_RESIDENT = 2 * MIB
PIPELINE_ALLOCATED = MIB // 4
WIRE_RESIDENT = 12 * MIB
WIRE_ALLOCATED = 24 * MIB
WIRE_ALLOCATED_AT_FIRST = 40 * MIB
WIRE_SETTLED = FRAMES


def _say(sample: Sample) -> None:
    """Progress, every tenth of the way."""
    if round(sample.progress * 60) % 6 == 0:
        sizes = f"resident {sample.resident / MIB:.1f} MiB, allocated {sample.allocated / MIB:.2f} MiB"
        print(f"  {sample.progress:4.0%}  {sizes}", flush=True)


def soak_pipeline(packets: int, seed: int) -> tuple[Growth, Outcome]:
    """The share in this process."""
    outcome = soak(packets, seed=seed, watch=_say)
    judged = growth("pipeline", outcome.samples, most_resident=PIPELINE_RESIDENT, most_allocated=PIPELINE_ALLOCATED)
    return judged, outcome


def soak_wire(frames: int, timeout: float) -> tuple[Growth, dict[str, int]]:
    """The share over interfaces; needs root. Raises RuntimeError with what the process said when it fails."""
    command = ["unshare", "-n", sys.executable, "-m", "fuzz.soak.wire", str(frames)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, env=environment, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"the switch on interfaces failed:\n{done.stderr[-3000:]}")
    seen = json.loads(done.stdout)
    samples = [Sample(*values) for values in seen.pop("samples")]
    most = WIRE_ALLOCATED if frames >= WIRE_SETTLED else WIRE_ALLOCATED_AT_FIRST
    return growth("interfaces", samples, most_resident=WIRE_RESIDENT, most_allocated=most), seen


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the subcommand."""
    parser.add_argument("--packets", type=int, default=DAY, help=f"through the pipelines (default {DAY:,})")
    parser.add_argument("--frames", type=int, default=FRAMES, help=f"over interfaces, 0: none (default {FRAMES:,})")
    parser.add_argument("--seed", type=int, help="repeat a run (default: a new one, which is printed)")
    parser.add_argument(
        "--timeout", type=float, default=3600, help="seconds for the share on interfaces (default 3600)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Exit status 0, 1 when memory grows, 2 when the soak cannot run."""
    if arguments.packets < 0 or arguments.frames < 0:
        print("soak: --packets and --frames are not negative", file=sys.stderr)
        return REFUSED
    if arguments.frames and os.geteuid() != 0:
        print("soak: frames over interfaces need root (--frames 0 leaves them out)", file=sys.stderr)
        return REFUSED
    seed = random.randrange(1 << 30) if arguments.seed is None else arguments.seed
    print(f"seed {seed}; {arguments.packets:,} packets, {arguments.frames:,} frames", flush=True)
    judged: list[Growth] = []
    started = time.monotonic()
    if arguments.packets:
        found, outcome = soak_pipeline(arguments.packets, seed)
        seconds = time.monotonic() - started
        judged.append(found)
        events = ", ".join(f"{count:,} {name.lower()}" for name, count in outcome.events.items())
        print(found)
        print(
            f"  {outcome.packets:,} packets in {seconds:.0f} s ({outcome.packets / seconds / 1e6:.2f} million a second), "
            f"events: {events}; {outcome.lost:,} lost",
            flush=True,
        )
    if arguments.frames:
        try:
            found, seen = soak_wire(arguments.frames, arguments.timeout)
        except (RuntimeError, subprocess.TimeoutExpired) as error:
            print(f"soak: {error}", file=sys.stderr)
            return REFUSED
        judged.append(found)
        print(found)
        print(
            f"  {seen['sent']:,} frames sent, {seen['received']:,} came back; {seen['sessions']:,} controllers came and went"
        )
    grew = [g.what for g in judged if not g.within]
    print(f"soak: {'memory grows: ' + ', '.join(grew) if grew else 'memory does not grow'}")
    return GREW if grew else 0
