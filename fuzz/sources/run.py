"""Fuzz the front end: mutated sources of this repository (or of other directories), and grown programs.

A source may be refused with diagnostics, or accepted; then its IR must survive being read back, its P4Info must be written, and
gcc must take its C (worker.py). Anything else is a fault: a traceback, a crash, more than 3 GiB of memory, or no answer in time.
Grown programs are valid by construction: for them a refusal is a fault as well. Sources with faults are kept in
``build/fuzz/sources``.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import select
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from fuzz.sources.grow import grow
from fuzz.sources.mutate import mutate

ROOT = Path(__file__).resolve().parents[2]
KEPT = ROOT / "build" / "fuzz" / "sources"
OWN = ("p4src", "fuzz/programs", "bench", "tests/p4switch")
LIMIT = 30.0  # seconds for one source
FOUND = 1


@dataclass(frozen=True)
class Verdict:
    """``status`` as in worker.py, or ``fault`` for a worker that died or did not answer."""

    status: str
    messages: tuple[str, ...] = ()


class Worker:
    """A process that judges sources; started anew when it dies or hangs."""

    def __init__(self, include: Sequence[Path] = (), limit: float = LIMIT, command: Sequence[str] = ()):
        self._command = list(command) or [sys.executable, "-m", "fuzz.sources.worker", *map(str, include)]
        self._limit = limit
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def _end(self) -> int:
        """End the process; returns its exit status."""
        process, self._process = self._process, None
        if process is None:
            return 0
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()
        if process.poll() is None:
            process.kill()
        return process.wait()

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            environment = os.environ | {"PYTHONPATH": str(ROOT)}
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
            )
        return self._process

    def judge(self, path: Path) -> Verdict:
        """The verdict on one source."""
        process = self._started()
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(f"{path}\n".encode())
        process.stdin.flush()
        end, answer = time.monotonic() + self._limit, b""
        while not answer.endswith(b"\n"):
            ready, _, _ = select.select([process.stdout], [], [], max(0.0, end - time.monotonic()))
            if not ready:
                self._end()
                return Verdict("fault", (f"no answer within {self._limit:.0f} s",))
            more = os.read(process.stdout.fileno(), 1 << 16)
            if not more:
                process.wait()
                return Verdict("fault", (f"the compiler's process ended with status {self._end()}",))
            answer += more
        found = json.loads(answer)
        return Verdict(found["status"], tuple(found["messages"]))


@dataclass
class Tally:
    """What became of the sources; ``faults`` by kind, with the first source of each."""

    counts: Counter[str] = field(default_factory=Counter)
    faults: dict[str, Path] = field(default_factory=dict)
    diagnostics: set[str] = field(default_factory=set)

    def __str__(self) -> str:
        counts = ", ".join(f"{count:,} {status}" for status, count in sorted(self.counts.items()))
        return f"{self.counts.total():,} sources: {counts}; {len(self.diagnostics):,} kinds of diagnostics"


def kind_of(message: str) -> str:
    """A fault without what differs from source to source: the exception and where it was raised, gcc's words."""
    places = re.findall(r'File "[^"]*/(\w+\.py)", line (\d+)', message)
    lines = [line for line in message.strip().splitlines() if "error:" in line] or message.strip().splitlines()[-1:]
    text = re.sub(r"'[^']*'|‘[^’]*’|\d+", "_", lines[0] if lines else "")
    return f"{':'.join(places[-1])} {text}" if places else text


def sources_of(places: Sequence[Path]) -> list[Path]:
    """The .p4 files in these directories, and these files."""
    found = {p for place in places for p in (place.rglob("*.p4") if place.is_dir() else [place])}
    return sorted(found)


def cases(files: Sequence[Path], rng: random.Random) -> Iterator[tuple[str, str, Path | None]]:
    """(kind, source, file it came from) without end; ``grown`` ones must be accepted."""
    texts = {path: path.read_text(errors="replace") for path in files}
    while True:
        chance = rng.random()
        if chance < 0.2 or not files:
            yield "grown", grow(rng), None
        elif chance < 0.35:
            yield "mutated", mutate(grow(rng), rng, list(texts.values())), None
        else:
            path = rng.choice(files)
            yield "mutated", mutate(texts[path], rng, list(texts.values())), path


def fuzz(
    files: Sequence[Path], folder: Path, *, seed: int, count: int, seconds: float, include: Sequence[Path] = ()
) -> Tally:
    """Judge up to ``count`` sources within some seconds; sources with faults stay in ``folder``."""
    rng, tally = random.Random(seed), Tally()
    folder.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + seconds
    scratch = folder / f"current-{os.getpid()}.p4"
    with Worker([*include, *sorted({p.parent for p in files})]) as worker:
        for number, (kind, text, _) in enumerate(cases(files, rng)):
            if number >= count or time.monotonic() >= end:
                break
            scratch.write_text(text, errors="surrogatepass")
            verdict = worker.judge(scratch)
            status = verdict.status
            if kind == "grown" and status in ("refused", "no code"):
                status, verdict = "fault", Verdict("fault", (f"a valid program is refused: {verdict.messages}",))
            tally.counts[status] += 1
            if status == "refused":
                tally.diagnostics.update(re.sub(r"'[^']*'|\d+", "_", m) for m in verdict.messages)
            if status == "fault":
                name = kind_of(verdict.messages[-1])
                if name not in tally.faults:
                    tally.faults[name] = folder / f"fault-{seed}-{number}.p4"
                    tally.faults[name].write_text(text, errors="surrogatepass")
    scratch.unlink(missing_ok=True)
    return tally


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the subcommand."""
    parser.add_argument(
        "place", nargs="*", type=Path, help="files and directories to mutate (default: this repository's)"
    )
    parser.add_argument(
        "-I", dest="include", type=Path, action="append", default=[], metavar="DIR", help="include path"
    )
    parser.add_argument("--seconds", type=float, default=120, help="how long (default 120)")
    parser.add_argument("--count", type=int, default=1 << 30, help="how many sources at most")
    parser.add_argument("--seed", type=int, help="repeat a run (default: a new one, which is printed)")
    parser.add_argument("--judge", type=Path, metavar="FILE", help="say what becomes of one source")


def run(arguments: argparse.Namespace) -> int:
    """Exit status 0, 1 when there was a fault, 2 when a place is not there."""
    if missing := [place for place in arguments.place if not place.exists()]:
        print(f"fuzz sources: {missing[0]}: no such file or directory", file=sys.stderr)
        return 2
    files = sources_of(arguments.place or [ROOT / place for place in OWN])
    include = [*arguments.include, *sorted({p.parent for p in files})]
    if arguments.judge:
        with Worker(include) as worker:
            verdict = worker.judge(arguments.judge)
        print(verdict.status, *verdict.messages, sep="\n")
        return FOUND if verdict.status == "fault" else 0
    seed = random.randrange(1 << 30) if arguments.seed is None else arguments.seed
    print(f"{len(files)} files, seed {seed}", flush=True)
    tally = fuzz(files, KEPT, seed=seed, count=arguments.count, seconds=arguments.seconds, include=arguments.include)
    print(tally)
    for name, path in tally.faults.items():
        print(f"FAULT {name}\n  again: python -m fuzz sources --judge {path}")
    return FOUND if tally.faults else 0
