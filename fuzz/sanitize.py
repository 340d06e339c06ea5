"""Run the tests of the data plane and of generated code under the sanitizers, and say what each group gave.

Runtime and generated programs are built with AddressSanitizer and UBSan, or with ThreadSanitizer (``P4SWITCH_SANITIZE``), and the
sanitizer's library is loaded before everything else. AddressSanitizer and UBSan end a process at their first finding;
ThreadSanitizer goes on, and makes the process fail at its end.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from p4switch.dataplane.build import BuildError, Sanitizer, build_runtime, sanitizer_preload

ROOT = Path(__file__).resolve().parents[1]
TIMEOUT = 1800.0  # seconds for a group
FAILED, REFUSED = 1, 2

_SWITCH = "tests/p4switch"
_DATAPLANE = tuple(f"{_SWITCH}/dataplane/test_{n}.py" for n in ("externs", "io", "paths", "queues", "tables"))
_RACK = tuple(f"tests/p4src/test_{n}.py" for n in ("counters", "decisions", "fuzz", "safety", "scapy"))
# (what it is, sanitizer, arguments of pytest). The server is not run under ThreadSanitizer: gRPC's library is not built for it.
GROUPS: tuple[tuple[str, Sanitizer, tuple[str, ...]], ...] = (
    ("feature programs", "address", (f"{_SWITCH}/features", f"{_SWITCH}/stf", f"{_SWITCH}/golden")),
    ("data plane", "address", _DATAPLANE),
    ("generated code", "address", (f"{_SWITCH}/codegen/test_programs.py", f"{_SWITCH}/codegen/test_expressions.py")),
    ("rack program", "address", _RACK),
    ("P4Runtime server", "address", (f"{_SWITCH}/server/test_protocol.py", f"{_SWITCH}/server/test_entities.py")),
    ("packet I/O, threads", "thread", (f"{_SWITCH}/dataplane/test_io.py", f"{_SWITCH}/dataplane/test_queues.py")),
)

_FINDING = re.compile(
    r"^(?:=+\n)?(?:==\d+==)?\s*(?:ERROR: \w+Sanitizer|WARNING: ThreadSanitizer|[^\n]*: runtime error)[^\n]*(?:\n[^\n]+){0,25}",
    re.MULTILINE,
)
_SUMMARY = re.compile(
    r"^(?:=+ )?((?:\d+ (?:passed|failed|skipped|error|errors|deselected|warnings?)(?:, )?)+ in [\d.:() ]+s?)",
    re.MULTILINE,
)


@dataclass(frozen=True)
class Outcome:
    """One group. ``findings`` are the sanitizers' reports, ``tests`` is pytest's summary."""

    name: str
    sanitizer: Sanitizer
    status: int
    tests: str
    findings: tuple[str, ...]
    seconds: float
    output: str

    @property
    def clean(self) -> bool:
        """No report, and every test passed."""
        return self.status == 0 and not self.findings

    def __str__(self) -> str:
        verdict = "clean" if self.clean else f"{len(self.findings)} findings, exit status {self.status}"
        return f"{self.name:20} {self.sanitizer:8} {verdict:28} {self.tests or 'no summary'} ({self.seconds:.0f} s)"


def environment(sanitizer: Sanitizer) -> dict[str, str]:
    """Environment of a sanitized process; ``PRELOAD`` is for its shell (see :func:`run_group`)."""
    return os.environ | {
        "P4SWITCH_SANITIZE": sanitizer,
        "PYTHONPATH": str(ROOT),
        "PRELOAD": sanitizer_preload(sanitizer),
        "ASAN_OPTIONS": "detect_leaks=0",  # the interpreter keeps what it allocates; make fuzz looks for leaks
        "UBSAN_OPTIONS": "print_stacktrace=1",
        "TSAN_OPTIONS": "exitcode=66:second_deadlock_stack=1",
    }


def run_group(name: str, sanitizer: Sanitizer, arguments: Sequence[str], timeout: float = TIMEOUT) -> Outcome:
    """Run pytest with these arguments in a sanitized process. Raises :class:`p4switch.dataplane.build.BuildError`."""
    build_runtime(sanitizer)
    # setarch -R: the thread sanitizer of gcc 12 cannot cope with the address randomisation of some kernels.
    shell = ["setarch", "-R", "sh", "-c", 'LD_PRELOAD="$PRELOAD" exec "$@"', "sh"]
    pytest = [sys.executable, "-m", "pytest", "-q", "-s", "-p", "no:cacheprovider", "-o", "timeout=900", *arguments]
    started = time.monotonic()
    try:
        done = subprocess.run(
            [*shell, *pytest],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env=environment(sanitizer),
            cwd=ROOT,
            timeout=timeout,
            check=False,
        )
        status, output = done.returncode, done.stdout
    except subprocess.TimeoutExpired as error:
        status, output = -1, f"no end after {timeout:.0f} s\n{error.stdout!r}"
    summaries = _SUMMARY.findall(output)
    return Outcome(
        name=name,
        sanitizer=sanitizer,
        status=status,
        tests=summaries[-1] if summaries else "",
        findings=tuple(_FINDING.findall(output)),
        seconds=time.monotonic() - started,
        output=output,
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the subcommand."""
    parser.add_argument("group", nargs="*", help=f"parts of names; all are {', '.join(repr(g[0]) for g in GROUPS)}")


def run(arguments: argparse.Namespace) -> int:
    """Exit status 0, 1 when a group is not clean, 2 when a group is unknown or the runtime cannot be built."""
    wanted = [g for g in GROUPS if not arguments.group or any(part in g[0] for part in arguments.group)]
    if not wanted:
        print(f"sanitize: no group is called {arguments.group}", file=sys.stderr)
        return REFUSED
    outcomes = []
    for name, sanitizer, tests in wanted:
        try:
            outcome = run_group(name, sanitizer, tests)
        except BuildError as error:
            print(f"sanitize: {error}", file=sys.stderr)
            return REFUSED
        if not outcome.clean:
            print("\n\n".join(outcome.findings) or outcome.output[-4000:], file=sys.stderr)
        print(outcome, flush=True)
        outcomes.append(outcome)
    unclean = sum(not o.clean for o in outcomes)
    print(f"sanitize: {len(outcomes)} groups, {unclean} not clean")
    return FAILED if unclean else 0
