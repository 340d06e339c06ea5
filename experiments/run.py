"""The main job: boots a rack, has two processes use memory on other machines, and shows what the Rack MMU is for, step by step.

Every step has an outcome that was checked; the exit status is 0 only if all of them held.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from experiments.workers import Worker, WorkerError
from protocol import rack as racks
from topologies import targets
from topologies.__main__ import add_rack_arguments, rack_of
from topologies.launch import LaunchOptions, RackLauncher
from topologies.processes import StartError
from topologies.state import RackRunning

DEFAULT_FILE = Path("/usr/bin/python3")  # every Debian machine that runs this has it; several MiB
MIB = 1 << 20
FAILURE_LIMIT = 20.0  # seconds within which the users of a dead element must know, on the slowest machine
PATIENCE = ("--budget", "50")  # seconds, of a request: longer than that, so that they are told, and do not give up
console = Console(highlight=False)


class StepFailed(RuntimeError):
    """A step did not come out as it must."""


@dataclass
class Outcome:
    """One step."""

    name: str
    held: bool
    text: str
    data: dict[str, Any] = field(default_factory=dict)


@dataclass
class Report:
    """What is written to summary.json."""

    target: str
    rack: dict[str, Any] = field(default_factory=dict)
    steps: list[Outcome] = field(default_factory=list)
    latency_us: dict[str, dict[str, float]] = field(default_factory=dict)
    traffic: dict[str, Any] = field(default_factory=dict)
    rules: dict[str, int] = field(default_factory=dict)
    verdicts: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    held: bool = False


def need(condition: bool, message: str) -> None:
    """Raise StepFailed unless the condition holds."""
    if not condition:
        raise StepFailed(message)


class Run:
    """The job on a running rack."""

    def __init__(self, rack: RackLauncher, report: Report, file: Path, rounds: int):
        self.rack, self.report, self.file, self.rounds = rack, report, file, rounds
        compute = rack.rack.compute
        self.elements = [e.name for e in compute]
        self.workers: dict[str, Worker] = {}
        self.size = file.stat().st_size
        self.va = 0
        self.own_va = 0

    def step(self, name: str, action: Callable[[], tuple[str, dict[str, Any]]]) -> None:
        """Carry out a step and note how it came out."""
        start = time.perf_counter()
        try:
            text, data = action()
            held = True
        except (StepFailed, WorkerError, OSError) as error:
            text, data, held = str(error), {}, False
        data["seconds"] = round(time.perf_counter() - start, 3)
        self.report.steps.append(Outcome(name, held, text, data))
        console.print(f"  {'[green]held[/]' if held else '[red]FAILED[/]'}  {name}: {text}", soft_wrap=True)

    def all_steps(self) -> None:
        """All steps, in order."""
        self.step("two processes allocate", self.allocate)
        if not self.report.steps[-1].held:
            return  # nothing to go on with
        self.step("a file goes into remote memory while the other process works", self.load)
        self.step("everything is read back", self.read_back)
        self.step("latency", self.latency)
        self.step("another's page", self.foreign_page)
        self.step("a spoofed process id", self.spoof)
        self.step("a page is revoked while its owner writes", self.revoke)
        self.step("a memory element is killed", self.kill_element)
        self.step("an element is fenced", self.fence)
        self.step("the others go on", self.others)

    # ------------------------------------------------------------------------------------------------------------ steps

    def allocate(self) -> tuple[str, dict[str, Any]]:
        """Two processes on two compute elements; the loader's memory spans several memory elements."""
        self.workers = {
            "loader": Worker(self.rack, self.elements[0], "loader", options=PATIENCE),
            "worker": Worker(self.rack, self.elements[1], "worker", options=PATIENCE),
        }
        self.va = self.workers["loader"].call("alloc", size=self.size)["va"]
        self.own_va = self.workers["worker"].call("alloc", size=MIB)["va"]
        spans = self.segments("loader")
        elements = {s["element"] for s in spans}
        need(len(elements) > 1, f"the loader's memory is on {elements} only")
        text = f"{self.size / MIB:.1f} MiB in {len(spans)} segments on {', '.join(sorted(elements))}"
        return text, {"elements": sorted(elements), "segments": len(spans)}

    def segments(self, name: str) -> list[dict[str, Any]]:
        """The segments of a worker's memory, from the controller."""
        pid = self.workers[name].pid
        found = next(p for p in self.rack.get("/v1/processes")["processes"] if p["pid"] == pid)
        return [s for a in found["allocations"] for s in a["segments"]]

    def load(self) -> tuple[str, dict[str, Any]]:
        """One loads the file, the other does checked random work, at the same time."""
        self.workers["loader"].start("load", va=self.va, path=str(self.file))
        self.workers["worker"].start("mixed", va=self.own_va, size=MIB // 4, operations=1500, seed=1)
        loaded, mixed = self.workers["loader"].finish(), self.workers["worker"].finish()
        need(mixed["ok"], f"the worker's memory is wrong: {mixed.get('error')}")
        need(loaded["bytes"] == self.size, f"{loaded['bytes']} of {self.size} bytes loaded")
        self.report.traffic["load"] = {k: loaded[k] for k in ("bytes", "seconds")}
        rate = loaded["bytes"] / loaded["seconds"] / MIB
        text = f"{self.file} at {rate:.1f} MiB/s; {mixed['operations']} random operations of the other checked"
        return text, {"loaded": loaded, "mixed": mixed}

    def read_back(self) -> tuple[str, dict[str, Any]]:
        """Both read everything back and compare SHA-256."""
        with self.file.open("rb") as source:
            expected = hashlib.file_digest(source, "sha256").hexdigest()
        self.workers["loader"].start("hash", va=self.va, size=self.size)
        self.workers["worker"].start("hash", va=self.own_va, size=MIB // 4)
        found, own = self.workers["loader"].finish(), self.workers["worker"].finish()
        mixed = self.report.steps[-1].data.get("mixed", {})
        need(found["sha256"] == expected, f"SHA-256 {found['sha256']} instead of {expected}")
        need(own["sha256"] == mixed.get("sha256"), "the worker's memory differs from its model")
        self.report.traffic["read back"] = {k: found[k] for k in ("bytes", "seconds")}
        return f"SHA-256 {expected[:16]}... equal for both", {"sha256": expected}

    def latency(self) -> tuple[str, dict[str, Any]]:
        """Round trips of single requests."""
        samples = self.workers["worker"].call("latency", va=self.own_va, rounds=self.rounds)["samples"]
        for name, values in samples.items():
            cuts = statistics.quantiles(values, n=100, method="inclusive")
            self.report.latency_us[name] = {"p50": cuts[49], "p90": cuts[89], "p99": cuts[98], "samples": len(values)}
        return f"p50 of a 64 B read {self.report.latency_us['read 64']['p50']:.0f} us", {}

    def foreign_page(self) -> tuple[str, dict[str, Any]]:
        """The worker reads the loader's memory: refused by the switch."""
        answer = self.workers["worker"].call("access", va=self.va)
        need(answer["refused"], "the read of another's page was NOT refused")
        need(answer["error"] == "PermissionDenied" and answer["by"] == "switch", f"refused as {answer}")
        return f"PERMISSION by the {answer['by']} after {answer['ms']:.1f} ms", answer

    def spoof(self) -> tuple[str, dict[str, Any]]:
        """A frame from the worker's element claims the loader's process id."""
        element = self.elements[1]
        command = [*self.rack.namespace(element), sys.executable, "-m", "experiments.spoof"]
        command += ["--interface", f"{element}-rack", "--pid", str(self.workers["loader"].pid), "--va", str(self.va)]
        result = subprocess.run(command, cwd=targets.ROOT, capture_output=True, text=True, timeout=120, check=False)
        need(bool(result.stdout), f"no result: {result.stderr.strip()[-300:]}")
        answer = json.loads(result.stdout)
        need(answer["status"] == "PERMISSION" and answer["by_switch"], f"the switch answered {answer}")
        return f"process {self.workers['loader'].pid} claimed on {element}: PERMISSION by the switch", answer

    def revoke(self) -> tuple[str, dict[str, Any]]:
        """The owner writes without pause; the controller takes the page away."""
        loader, page = self.workers["loader"], self.va + 4096
        loader.call("write_until_refused", va=page, limit=90)
        time.sleep(0.3)
        asked = time.time()
        self.rack.post("/v1/revoke", {"va": page, "pages": 1})
        acknowledged = time.time()
        outcome = loader.call("join")
        need(outcome["refused"], "the owner was never refused")
        need(outcome["writes"] > 0, "the owner had not written when the page was revoked")
        need(outcome["error"] in ("PermissionDenied", "StaleGeneration", "Unmapped"), f"refused as {outcome}")
        need(outcome["last_ok"] <= acknowledged, "a write was acknowledged after the revocation was")
        delay = (outcome["at"] - asked) * 1e3
        need(delay < 1e3 * FAILURE_LIMIT, f"the refusal took {delay:.0f} ms")
        again = loader.call("access", va=page, write=True)
        need(again["refused"] and again["by"] == "switch", f"a later write: {again}")
        text = f"{outcome['writes']} writes, then {outcome['error']} by the {outcome['by']} {delay:.1f} ms after it was asked for"
        return text, {**outcome, "delay_ms": delay, "revoke_ms": (acknowledged - asked) * 1e3}

    def kill_element(self) -> tuple[str, dict[str, Any]]:
        """SIGKILL a memory element that holds the loader's memory, while the loader uses it."""
        segment = next(s for s in self.segments("loader") if s["va"] != self.va)
        name, va = segment["element"], segment["va"]
        before = self.workers["loader"].call("access", va=va)
        need(not before["refused"], f"the memory was not accessible before: {before}")
        timer = threading.Timer(0.2, lambda: self.rack.kill(name))
        self.workers["loader"].start("write_until_refused", va=va, limit=90)
        self.workers["loader"].finish()
        timer.start()
        timer.join()
        killed = time.time()
        outcome = self.workers["loader"].call("join")
        need(outcome["refused"], "the users were never told")
        need(outcome["error"] == "ElementFailed" and outcome["by"] == "switch", f"they heard {outcome}")
        delay = outcome["at"] - killed
        need(delay < FAILURE_LIMIT, f"they heard of it after {delay:.2f} s")
        at_once = self.workers["loader"].call("access", va=va)
        need(at_once["refused"] and at_once["error"] == "ElementFailed", f"the next access: {at_once}")
        ends = time.monotonic() + FAILURE_LIMIT
        while not any("ELEMENT_FAILED" in n["notice"] for n in self.workers["loader"].call("notices")["notices"]):
            need(time.monotonic() < ends, f"no notice of the failure within {FAILURE_LIMIT} s")
            time.sleep(0.02)
        notices = self.workers["loader"].call("notices")["notices"]
        self.dead = name
        text = f"{name} killed: ELEMENT_FAILED by the switch after {delay * 1e3:.0f} ms, from then on in {at_once['ms']:.1f} ms"
        return text, {"element": name, "delay_ms": delay * 1e3, "then_ms": at_once["ms"], "notices": len(notices)}

    def fence(self) -> tuple[str, dict[str, Any]]:
        """Fence the loader's compute element, then let it in again."""
        element = self.elements[0]
        self.rack.post("/v1/fence", {"element": element})
        answer = self.workers["loader"].call("access", va=self.va)
        need(answer["refused"] and answer["error"] == "Fenced" and answer["by"] == "switch", f"its access: {answer}")
        self.rack.post("/v1/unfence", {"element": element})
        after = self.alive_page()
        need(not after["refused"], f"after unfencing: {after}")
        return f"{element}: FENCED by the {answer['by']} in {answer['ms']:.1f} ms; served again when unfenced", answer

    def alive_page(self) -> dict[str, Any]:
        """Access a page of the loader that is on a living element."""
        segment = next(s for s in self.segments("loader") if s["element"] != getattr(self, "dead", None))
        return self.workers["loader"].call("access", va=segment["va"])

    def others(self) -> tuple[str, dict[str, Any]]:
        """The other process has seen nothing of all this, unless its own memory was on the dead element."""
        dead = getattr(self, "dead", None)
        mine = {s["element"] for s in self.segments("worker")}
        need(dead not in mine, f"the worker's memory was on {dead}: choose a larger rack")
        answer = self.workers["worker"].call("mixed", va=self.own_va, size=MIB // 4, operations=500, seed=2)
        need(answer["ok"], f"{answer.get('error')}")
        return f"{answer['operations']} more operations of the other process checked", answer

    def collect(self) -> None:
        """Figures from the controller and the workers."""
        counters = self.rack.get("/v1/counters")
        self.report.verdicts = counters["verdicts"]
        entries = self.rack.get("/v1/map")["entries"]
        for entry in entries:
            self.report.rules[entry["table"]] = self.report.rules.get(entry["table"], 0) + 1
        for name, worker in self.workers.items():
            self.report.traffic[name] = worker.call("statistics")

    def close(self) -> None:
        """End the processes."""
        for worker in self.workers.values():
            worker.close()


def show(report: Report, out: Path) -> None:
    """The summary on the terminal."""
    table = Table("operation", "p50", "p90", "p99", title="latency of single requests, us", title_justify="left")
    for name, row in report.latency_us.items():
        table.add_row(name + " B", *(f"{row[p]:.0f}" for p in ("p50", "p90", "p99")))
    console.print(table)
    table = Table("process", "operations", "bytes", "refused", "retries", title="traffic", title_justify="left")
    for name in ("loader", "worker"):
        t = report.traffic.get(name)
        if t:
            operations = sum(v for k, v in t.items() if k.endswith("operations"))
            size = sum(v for k, v in t.items() if k.endswith("bytes"))
            table.add_row(name, str(operations), f"{size / MIB:.1f} MiB", str(t["refusals"]), str(t["retries"]))
    console.print(table)
    table = Table("verdict of the switch", "packets", title_justify="left")
    for name, count in report.verdicts.items():
        table.add_row(name, str(count))
    console.print(table)
    rules = ", ".join(f"{count} in {table}" for table, count in report.rules.items())
    console.print(f"rules installed: {rules or 'none'}")
    held = sum(s.held for s in report.steps)
    verdict = "[green]all steps held[/]" if report.held else f"[red]{len(report.steps) - held} steps FAILED[/]"
    console.print(f"{verdict} ({held} of {len(report.steps)}) in {report.seconds:.0f} s; {out / 'summary.json'}")


def parse_arguments() -> argparse.Namespace:
    """Options."""
    parser = argparse.ArgumentParser(prog="python -m experiments.run", description=__doc__)
    add_rack_arguments(parser)
    parser.add_argument("--file", type=Path, default=DEFAULT_FILE, help=f"what to load (default {DEFAULT_FILE})")
    parser.add_argument("--out", type=Path, default=Path("out/run"), help="directory for summary, logs and pcaps")
    parser.add_argument("--rounds", type=int, default=1000, help="samples of each latency (default 1000)")
    parser.add_argument("--no-pcap", action="store_true", help="write no pcaps")
    arguments = parser.parse_args()
    if arguments.rounds < 100:
        parser.error(f"--rounds {arguments.rounds}: percentiles need at least 100 samples")
    return arguments


def main() -> int:
    """Exit status 0 when every step held, 1 when one did not or the rack did not come up."""
    arguments = parse_arguments()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    start = time.perf_counter()
    report = Report(arguments.target)
    try:
        rack = rack_of(arguments)
        if not arguments.file.is_file() or not arguments.file.stat().st_size:
            raise StartError(f"--file {arguments.file}: no such file, or it is empty")
        if len(rack.compute) < 2 or len(rack.memory) < 2:
            raise StartError("the job needs at least two compute and two memory elements")
        options = LaunchOptions(
            target=arguments.target,
            out=arguments.out,
            pcap=not arguments.no_pcap,
            # Blocks of at most 1 MiB, spread over the elements: a few MiB are to span several of them.
            controller_options=("--placement", "balance", "--largest-block", "256"),
            progress=lambda text: console.print(f"  {text}"),
        )
        console.print(f"booting a rack of {len(rack.elements)} elements, target {arguments.target}")
        with RackLauncher(rack, options) as launched:
            report.rack = {e.name: e.kind for e in rack.elements}
            console.print(f"the rack is up after {time.perf_counter() - start:.1f} s")
            run = Run(launched, report, arguments.file, arguments.rounds)
            try:
                run.all_steps()
                run.collect()
            finally:
                run.close()
    except (StartError, RackRunning, targets.TargetError, racks.RackError, WorkerError, OSError) as error:
        console.print(f"[red]run: {error}[/]", soft_wrap=True)
        return 1
    except KeyboardInterrupt:
        console.print("interrupted; the rack is down")
        return 130
    report.held = bool(report.steps) and all(s.held for s in report.steps)
    report.seconds = time.perf_counter() - start
    (arguments.out / "summary.json").write_text(json.dumps(asdict(report), indent=2) + "\n")
    show(report, arguments.out)
    return 0 if report.held else 1


if __name__ == "__main__":
    sys.exit(main())
