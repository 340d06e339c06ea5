"""Crash points on a real rack: controller, switch, memory elements and local OSes are killed at one step after the other.

For each operation and each victim the victim is started with ``--crash-at N``, the operation is begun, the victim kills itself
at its Nth step and is started again; then N grows, until the operation is over before the victim dies. The switch is killed
before the controller's Nth step: between any two of its commits, writes and messages. After every run the operation must be done
or undone, done if it was answered; switch and controller must agree; and memory must hold what it held.

The exit status is 0 only if every run held.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import random
import signal
import sys
import threading
import time
import urllib.error
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from experiments.workers import Worker, WorkerError
from protocol.rack import RackError
from protocol.wire import PAGE_SIZE
from topologies import targets
from topologies.__main__ import add_rack_arguments, rack_of
from topologies.launch import LaunchOptions, RackLauncher
from topologies.processes import StartError
from topologies.state import RackRunning

console = Console(highlight=False, soft_wrap=True)
PAGES = 24  # of an allocation, spread over all memory elements
VICTIMS = "controller,switch,n1,m1,c1,c2"
RANGE = range(0, PAGES * PAGE_SIZE, PAGE_SIZE)
MOST_STEPS = 64
GIVE_UP = 60.0  # seconds
SOURCE = "/usr/bin/python3"  # contents for the memory


@dataclass
class Run:
    """One crash."""

    operation: str
    victim: str
    step: int
    outcome: str  # done, undone
    answered: bool
    seconds: float  # from the death until everybody agreed
    problems: list[str] = field(default_factory=list)


@dataclass
class Report:
    """What is written to crashes.json."""

    seed: int
    runs: list[Run] = field(default_factory=list)
    held: bool = False


class Crashes:
    """The runs, on one rack."""

    def __init__(self, rack: RackLauncher, seed: int):
        self.rack = rack
        self.report = Report(seed)
        self.rng = random.Random(seed)
        self.lossy = {e.name for e in rack.rack.memory if e.media != "nvm"}
        self.owner, self.other = Worker(rack, "c1", "owner"), Worker(rack, "c2", "other")
        group = rack.post("/v1/groups", {"name": f"crashes{seed}"})
        self.group, self.secret = group["id"], group["secret"]
        source = Path(SOURCE).read_bytes()
        self.va, self.contents = 0, [hashlib.sha256(source[n : n + PAGE_SIZE]).hexdigest() for n in RANGE]
        self.fresh: list[Worker] = []

    def close(self) -> None:
        """End the processes."""
        for worker in (self.owner, self.other, *self.fresh):
            worker.close()

    # ------------------------------------------------------------------------------------------------------- operations

    def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        try:
            self.rack.post(path, body)
        except urllib.error.HTTPError as error:
            return {"refused": True, "error": str(json.load(error).get("error", error.code))}
        except OSError:
            return {"refused": True, "error": "RequestTimeout"}  # the answer died with the controller
        return {"refused": False}

    def _recover(self) -> dict[str, Any]:
        """A memory element that stood still for too long goes on."""
        child = self.rack.children.get("n1")
        if child is not None:  # otherwise it is the victim, and has died of its own start

            def is_in(state: str) -> bool:
                return child.popen.poll() is not None or self._state("n1") == state

            with contextlib.suppress(StartError, OSError):  # the controller may die meanwhile
                self.rack.wait_for(lambda: is_in("alive"), "n1 to have started", GIVE_UP / 2)
                child.popen.send_signal(signal.SIGSTOP)
                self.rack.wait_for(lambda: is_in("failed"), "n1 to be missed", GIVE_UP / 2)
            child.popen.send_signal(signal.SIGCONT)
            with contextlib.suppress(StartError, OSError):
                self.rack.wait_for(lambda: is_in("alive"), "n1 to be back", GIVE_UP / 2)
        return {"refused": True, "error": "RequestTimeout"}  # nobody is answered

    def _process(self) -> dict[str, Any]:
        """A process begins and ends."""
        try:
            made = Worker(self.rack, "c1", f"fresh{len(self.fresh)}")
        except WorkerError:
            return {"refused": True, "error": "RequestTimeout"}  # its local OS has died
        self.fresh.append(made)
        made.close()
        return {"refused": False}

    def _state(self, name: str) -> str:
        return str(next(e for e in self.rack.get("/v1/elements")["elements"] if e["name"] == name)["state"])

    # --------------------------------------------------------------------------------------------------------------- runs

    def sweep(self, operation: str, victim: str, steps: Sequence[int]) -> None:
        """The operation once for each of these steps, until one is beyond its end."""
        for step in steps:
            run, died = self.run(operation, victim, step)
            if died or run.problems:
                self.report.runs.append(run)
            if not died:
                return

    def run(self, operation: str, victim: str, step: int) -> tuple[Run, bool]:
        """One run, and whether the victim died."""
        lossy = victim in self.lossy  # it forgets what it had: its steps are counted from here on, not from its start
        if not lossy:
            self._prepare(operation)
        self._arm(victim, step, *(["--crash-from-signal"] if lossy else []))
        if lossy:
            self._prepare(operation)
            self.rack.children[victim].popen.send_signal(signal.SIGUSR1)
        answer: dict[str, Any] = {}
        working = threading.Thread(target=lambda: answer.update(OPERATIONS[operation](self)), daemon=True)
        working.start()
        deadline = time.monotonic() + GIVE_UP
        died = False
        while time.monotonic() < deadline and not died:
            died = self.rack.has_died(victim)
            if not working.is_alive():
                time.sleep(0.3)  # what comes after the answer
                died = died or self.rack.has_died(victim)
                break
            time.sleep(0.005)
        at = time.monotonic()
        self._disarm(victim, died)
        working.join(GIVE_UP)
        run = Run(operation, victim, step, "", answer.get("refused") is False, 0.0)
        if working.is_alive():
            run.problems.append("never answered")
        error = str(answer.get("error", ""))
        excused = {
            "RequestTimeout",
            "ElementFailed",
            "element_failed",
            *(("MemoryLost", "memory_lost") if lossy else ()),
            *(("switch",) if victim == "switch" else ()),
        }
        if error and error not in excused:
            run.problems.append(f"refused: {error}")
        try:
            self.rack.wait_for(self._settled, "everybody to agree", GIVE_UP)
        except StartError as failed:
            run.problems.append(str(failed))
        run.seconds = time.monotonic() - at
        self._judge(run, lossy)
        self._clean()
        return run, died

    def _arm(self, victim: str, step: int, *more: str) -> None:
        """The victim is started again, to die at a step."""
        options = ["--crash-at", str(step), *more]
        if victim == "switch":  # it has no steps of its own; its controller has
            options += ["--crash-pid", str(self.rack.children["switch"].popen.pid)]
        killer = "controller" if victim == "switch" else victim
        self.rack.kill(killer)
        with contextlib.suppress(StartError):  # it may die before it is ready
            self._start(killer, *options)

    def _disarm(self, victim: str, died: bool) -> None:
        """The victim, dead or not, is started again as usual."""
        if died:
            self._start(victim)
            return
        killer = "controller" if victim == "switch" else victim
        self.rack.kill(killer)
        self._start(killer)

    def _start(self, name: str, *more: str) -> None:
        if name == "controller":
            self.rack.start_controller(*more)
        elif name == "switch":
            self.rack.start_switch()
        else:
            self.rack.start_element(name, *more)

    def _prepare(self, operation: str) -> None:
        self.rack.wait_for(self._settled, "the rack to be in order", GIVE_UP)
        self.va = self.owner.call("alloc", size=PAGES * PAGE_SIZE, group=self.group)["va"]
        self.owner.call("load", va=self.va, path=SOURCE, limit=PAGES * PAGE_SIZE)
        if operation == "unfence":
            self.rack.post("/v1/fence", {"element": "c3"})

    def _settled(self) -> bool:
        try:
            status = self.rack.get("/v1/status")
            if status["switch"]["error"] is not None or status["operations_under_way"]:
                return False
            return self.rack._all_alive() and self.rack.get("/v1/map")["agrees"]
        except OSError:
            return False

    def _judge(self, run: Run, lossy: bool) -> None:
        """Done or undone, and nothing lost."""
        views = [self._look(self.va + n * PAGE_SIZE) for n in range(PAGES)]
        alike = {view for view in views if not (lossy and view[0] == "lost")}
        at = next((n for n, view in enumerate(views) if view in alike), 0)
        kind, owner, permissions = views[at]
        fenced = next(e for e in self.rack.get("/v1/elements")["elements"] if e["name"] == "c3")["fenced"]
        done = {
            "free": kind == "gone",
            "protect": permissions == 1,
            "grant": owner == self.other.pid,
            "steal": owner == self.other.pid,
            "revoke": kind == "revoked",
            "migrate": run.operation == "migrate" and self._places() == {"n1"},
            "fence": fenced,
            "unfence": not fenced,
        }.get(run.operation, True)
        run.outcome = "done" if done else "undone"
        if run.answered and not done:
            run.problems.append("answered, but not done")
        if len(alike) > 1:
            run.problems.append(f"pages differ: {sorted(alike)}")
        holder, stranger = (self.other, self.owner) if owner == self.other.pid else (self.owner, self.other)
        kept = [n for n, view in enumerate(views) if view[0] == "owned"]
        if wrong := [n for n in kept if self._hash(holder, n) != self.contents[n]]:
            run.problems.append(f"the contents of pages {wrong} are lost")
        gone = {self._at(n) for n, view in enumerate(views) if view[0] == "lost"}
        if gone - ({run.victim} if lossy else set()):
            run.problems.append(f"pages of {gone} are lost")
        if not stranger.call("access", va=self.va + at * PAGE_SIZE)["refused"]:
            run.problems.append("it can be read by a process that does not own it")
        known = {p["pid"] for p in self.rack.get("/v1/processes")["processes"]}
        left = {w.pid for w in self.fresh} & known
        deadline = time.monotonic() + 5
        while left and time.monotonic() < deadline:  # its end is reported in its own time
            time.sleep(0.05)
            left &= {p["pid"] for p in self.rack.get("/v1/processes")["processes"]}
        if left:
            run.problems.append(f"processes {left} have ended and are there")

    def _look(self, va: int) -> tuple[str, int, int]:
        try:
            told = self.rack.get(f"/v1/stat?va={va}")
        except urllib.error.HTTPError:
            return "gone", 0, 0
        return told["kind"], told["owner"], told["permissions"]

    def _places(self) -> set[str]:
        """The memory elements of its pages."""
        return {self._at(n) for n in range(PAGES)}

    def _at(self, page: int) -> str:
        return str(self.rack.get(f"/v1/stat?va={self.va + page * PAGE_SIZE}")["element"])

    def _hash(self, holder: Worker, page: int) -> str:
        return str(holder.call("hash", va=self.va + page * PAGE_SIZE, size=PAGE_SIZE)["sha256"])

    def _clean(self) -> None:
        """As before the run, for the next one."""
        self._post("/v1/unfence", {"element": "c3"})
        for allocation in [a for p in self.rack.get("/v1/processes")["processes"] for a in p["allocations"]]:
            self._post("/v1/free", {"va": allocation["va"]})


OPERATIONS: dict[str, Callable[[Crashes], dict[str, Any]]] = {
    "alloc": lambda c: c.owner.call("try_alloc", size=PAGES * PAGE_SIZE),
    "free": lambda c: c.owner.call("free", va=c.va),
    "protect": lambda c: c.owner.call("protect", va=c.va, pages=PAGES, permissions=1),
    "grant": lambda c: c.owner.call("grant", va=c.va, pages=PAGES, to=c.other.pid),
    "steal": lambda c: c.other.call("steal", va=c.va, pages=PAGES, source=c.owner.pid, group=c.group, secret=c.secret),
    "revoke": lambda c: c._post("/v1/revoke", {"va": c.va, "pages": PAGES}),
    "migrate": lambda c: c._post("/v1/migrate", {"va": c.va, "pages": PAGES, "target": "n1"}),
    "fence": lambda c: c._post("/v1/fence", {"element": "c3"}),
    "unfence": lambda c: c._post("/v1/unfence", {"element": "c3"}),
    "recovery": Crashes._recover,
    "process": Crashes._process,
}


def show(report: Report, operation: str, victim: str) -> None:
    """A line for an operation and a victim."""
    runs = [r for r in report.runs if (r.operation, r.victim) == (operation, victim)]
    if runs:
        done = sum(r.outcome == "done" for r in runs)
        slowest = max((r.seconds for r in runs), default=0.0)
        bad = [r for r in runs if r.problems]
        word = "[red]VIOLATED[/]" if bad else "[green]held[/]"
        console.print(
            f"  {word}  {operation}, {victim} killed at {len(runs)} steps: {done} done, {len(runs) - done} undone, "
            f"in order again after {slowest:.1f} s at most"
        )
        for run in bad:
            console.print(f"    [red]step {run.step}: {'; '.join(run.problems)}[/]")


def save(report: Report, out: Path) -> None:
    """Write crashes.json."""
    report.held = bool(report.runs) and not any(r.problems for r in report.runs)
    (out / "crashes.json").write_text(json.dumps(asdict(report), indent=2) + "\n")


def parse_arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """Options."""
    parser = argparse.ArgumentParser(prog="python -m experiments.crashes", description=__doc__)
    add_rack_arguments(parser)
    parser.add_argument("--out", type=Path, default=Path("out/crashes"), help="directory for the report and logs")
    parser.add_argument("--operations", default="", help="some of them, separated by commas (default: all)")
    parser.add_argument("--victims", default=VICTIMS, help=f"whom to kill (default {VICTIMS})")
    parser.add_argument("--seed", type=int, default=1, help="of the steps that --quick chooses (default 1)")
    parser.add_argument("--quick", action="store_true", help="one step of each operation and victim")
    arguments = parser.parse_args(given)
    arguments.operations = [n for n in arguments.operations.split(",") if n] or list(OPERATIONS)
    arguments.victims = arguments.victims.split(",")
    if unknown := [n for n in arguments.operations if n not in OPERATIONS]:
        parser.error(f"--operations: there is no operation {unknown[0]!r}; there are {', '.join(OPERATIONS)}")
    return arguments


# Victims other than controller and switch have a part in these only.
CONCERNED = {
    "n1": ("alloc", "free", "protect", "grant", "steal", "revoke", "migrate", "fence", "unfence", "recovery"),
    "m1": ("alloc", "free", "protect", "grant", "steal", "revoke", "migrate", "fence", "unfence"),
    "c1": ("process", "revoke", "steal", "migrate"),
    "c2": ("grant",),
}


def main() -> int:
    """Exit status 0 when every run held."""
    arguments = parse_arguments()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    options = LaunchOptions(
        target=arguments.target,
        out=arguments.out,
        controller_options=("--placement", "balance", "--largest-block", "8"),
        progress=lambda text: console.print(f"  {text}"),
    )
    try:
        described = rack_of(arguments)
        there = ("controller", "switch", *(e.name for e in described.elements))
        if unknown := [v for v in arguments.victims if v not in there]:
            console.print(f"[red]crashes: --victims: there is no {unknown[0]!r}; there are {', '.join(there)}[/]")
            return 2
        with (
            RackLauncher(described, options) as rack,
            contextlib.closing(Crashes(rack, arguments.seed)) as crashes,
        ):
            for victim in arguments.victims:
                for name in arguments.operations:
                    if name not in CONCERNED.get(victim, arguments.operations):
                        continue
                    first = (
                        crashes.rng.randint(1, 4 if victim in ("controller", "switch") else 1) if arguments.quick else 1
                    )
                    try:
                        crashes.sweep(name, victim, range(first, first + 1 if arguments.quick else MOST_STEPS))
                    finally:  # what was done counts, also when it is interrupted
                        show(crashes.report, name, victim)
                        save(crashes.report, arguments.out)
            report = crashes.report
    except (RackError, StartError, RackRunning, targets.TargetError, WorkerError, OSError) as error:
        console.print(f"[red]crashes: {error}[/]")
        return 1
    except KeyboardInterrupt:
        console.print("interrupted; the rack is down")
        return 130
    console.print(f"{len(report.runs)} crashes; {arguments.out / 'crashes.json'}")
    return 0 if report.held else 1


if __name__ == "__main__":
    sys.exit(main())
