"""``python -m p4switch conformance P4C``: p4c's own test programs for v1model, from a copy of p4c that the user has.

Two suites: every program with an .stf test is run against it, and every program's P4Info is compared with p4c's, order aside;
each in a process of its own. What is known not to pass is listed here with its reason; whatever else does not is an error.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from p4switch.cli import options

SAMPLES = Path("testdata/p4_16_samples")
OUTPUTS = Path("testdata/p4_16_samples_outputs")
V1MODEL = "v1model.p4"
PASSED, FAILED, REFUSED = "passed", "failed", "refused"
_STATUS = {0: PASSED, 1: FAILED, 2: REFUSED}
_OTHER = "another architecture than v1model: main is no V1Switch"
KNOWN_MISSES = {
    "extern-funcs-bmv2": "an extern of the program's own, which comes as native code for bmv2",
    "elimActRun1": _OTHER,
    "issue5035": _OTHER,
    "issue3091": "match kinds as values",
    "parser-unroll-test1": "a cast of a run-time value to int, the type without width",
}


@dataclass(frozen=True)
class Result:
    """What came out for one program. ``detail`` is the first thing that was wrong."""

    suite: str
    program: str
    status: str
    detail: str = ""

    @property
    def known(self) -> str | None:
        """Why it was to be expected that it does not pass."""
        return None if self.status == PASSED else KNOWN_MISSES.get(Path(self.program).stem)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the subcommand."""
    parser.add_argument("p4c", type=Path, metavar="P4C", help="a copy of p4c's sources")
    parser.add_argument("--suite", choices=("stf", "p4info"), help="only one of the two")
    parser.add_argument("--only", metavar="TEXT", default="", help="only programs whose path has this text")
    parser.add_argument("--jobs", type=options.number(1), default=2, metavar="N", help="programs at a time (default 2)")
    parser.add_argument(
        "--timeout", type=options.seconds, default=120, metavar="S", help="for one program (default 120 s)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all results")


def stf_programs(p4c: Path) -> list[Path]:
    """v1model programs with an .stf test, relative to the folder of the samples."""
    samples = p4c / SAMPLES
    tests = (test.with_suffix(".p4") for test in samples.rglob("*.stf"))
    found = (p for p in tests if p.is_file() and V1MODEL in p.read_text(encoding="utf-8", errors="replace"))
    return sorted(p.relative_to(samples) for p in found)


def p4info_programs(p4c: Path) -> list[Path]:
    """Programs with a source and an expected P4Info for v1model, relative to the folder of the samples."""
    outputs, end = p4c / OUTPUTS, ".p4info.txtpb"
    found = (g.relative_to(outputs) for g in outputs.rglob(f"*.p4{end}") if 'arch: "v1model"' in g.read_text())
    sources = (path.with_name(path.name.removesuffix(end)) for path in found)
    return sorted(p for p in sources if (p4c / SAMPLES / p).is_file())


def run_stf(p4c: Path, program: Path, timeout: float) -> Result:
    """One program against its .stf test."""
    source = p4c / SAMPLES / program
    command = [sys.executable, "-m", "p4switch", "stf", str(source), str(source.with_suffix(".stf"))]
    command += ["-I", str(source.parent)]
    return _outcome("stf", program, command, timeout)


def run_p4info(p4c: Path, program: Path, timeout: float) -> Result:
    """One program's P4Info against p4c's."""
    source, golden = p4c / SAMPLES / program, p4c / OUTPUTS / f"{program}.p4info.txtpb"
    command = [sys.executable, "-m", "p4switch.p4info_diff", str(source), str(golden)]
    return _outcome("p4info", program, command, timeout)


def _outcome(suite: str, program: Path, command: Sequence[str], timeout: float) -> Result:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout)
    except subprocess.TimeoutExpired:
        return Result(suite, str(program), FAILED, f"no end after {timeout:g} s")
    status = _STATUS.get(done.returncode, FAILED)
    lines = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
    errors = [line for line in lines if "error" in line.lower()] or lines
    detail = "" if status == PASSED else (errors[0] if errors else f"exit status {done.returncode}")
    if done.returncode not in _STATUS:
        detail = f"exit status {done.returncode}: {lines[-1] if lines else 'nothing was printed'}"
    return Result(suite, str(program), status, detail)


def results(arguments: argparse.Namespace) -> Iterator[Result]:
    """Results as they come, with progress on standard error."""
    from rich.console import Console
    from rich.progress import track

    jobs: list[tuple[Callable[[Path, Path, float], Result], Path]] = []
    if arguments.suite in (None, "stf"):
        jobs += [(run_stf, p) for p in stf_programs(arguments.p4c) if arguments.only in str(p)]
    if arguments.suite in (None, "p4info"):
        jobs += [(run_p4info, p) for p in p4info_programs(arguments.p4c) if arguments.only in str(p)]
    with ThreadPoolExecutor(max(1, arguments.jobs)) as pool:
        waiting = [pool.submit(function, arguments.p4c, p, arguments.timeout) for function, p in jobs]
        try:
            for future in track(waiting, description="conformance", console=Console(stderr=True)):
                yield future.result()
        finally:
            for future in waiting:
                future.cancel()


def summary(found: Sequence[Result]) -> str:
    """Counts for each suite, then every program that did not pass."""
    lines = []
    for suite in ("stf", "p4info"):
        own = [r for r in found if r.suite == suite]
        if own:
            counts = Counter(r.status for r in own)
            lines.append(f"{suite}: {len(own)} programs, " + ", ".join(f"{counts[s]} {s}" for s in _STATUS.values()))
            for r in own:
                if r.status != PASSED:
                    lines.append(f"  {r.status} {r.program}: {f'known: {r.known}' if r.known else r.detail}")
    return "\n".join(lines)


def run(arguments: argparse.Namespace) -> int:
    """Exit status 0, 1 when a program does not pass that is not known for it, 2 when there is no copy of p4c to test with."""
    for folder in (SAMPLES, OUTPUTS):
        if not (arguments.p4c / folder).is_dir():
            print(f"p4switch: {arguments.p4c} is no copy of p4c: it has no {folder}", file=sys.stderr)
            return 2
    found = list(results(arguments))
    if not found:
        print(f"p4switch: no program of {arguments.p4c} has {arguments.only!r} in its path", file=sys.stderr)
        return 2
    print(summary(found))
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(r) for r in found], indent=1) + "\n")
    return 1 if any(r.status != PASSED and not r.known for r in found) else 0
