"""Run the fuzz target of programs with libFuzzer, one after the other; keep corpora, report coverage, keep what crashes.

``build/fuzz/corpus/PROGRAM`` grows from run to run. An input that crashes goes to ``build/fuzz/crashes/PROGRAM``; ``--reproduce``
runs one such file again and says what each of its steps does.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fuzz.packets import rack
from fuzz.packets.build import BUILD, ROOT, ToolError, build_target
from fuzz.packets.seeds import write_seeds
from p4switch import native
from p4switch.cli.compile import REFUSED
from p4switch.codegen import CodegenError
from p4switch.compiler import ir
from p4switch.compiler.diagnostics import CompileError, render
from p4switch.compiler.driver import compile_source

RACK = ROOT / "p4src" / "rack_mmu.p4"
PROGRAMS = (RACK, *sorted((ROOT / "fuzz" / "programs").glob("*.p4")))
STF_CPU_PORT = 64
FOUND = 1

_ENVIRONMENT = {
    "ASAN_OPTIONS": "malloc_context_size=8:detect_stack_use_after_return=1:allocator_may_return_null=0",
    "UBSAN_OPTIONS": "print_stacktrace=1",
}
_PACKETS = (b"", b"\0", bytes(14), bytes(64), b"\xff" * 64, bytes(range(256)))
_COVERAGE = re.compile(r"cov: (\d+) ft: (\d+) corp: (\d+)")
_COUNTERS = re.compile(r"\((\d+) inline 8-bit counters\)")
_FIGURES = re.compile(r"^fuzz: (inputs=.*)$", re.MULTILINE)
_FINDING = re.compile(
    r"^(=+\n==\d+==ERROR: .*?SUMMARY: [^\n]*|fuzz: broken invariant: [^\n]*|[^\n]*: runtime error: .*?SUMMARY: [^\n]*)",
    re.MULTILINE | re.DOTALL,
)
_ARTIFACT = re.compile(r"Test unit written to (\S+)")


@dataclass(frozen=True)
class Outcome:
    """One run. ``edges`` of ``all_edges`` were reached; ``figures`` are the harness's counts; ``crash`` is the input found."""

    program: str
    edges: int
    all_edges: int
    features: int
    corpus: int
    figures: Mapping[str, int] = field(default_factory=dict)
    crash: Path | None = None
    report: str = ""

    @property
    def finding(self) -> str:
        """What is wrong, without libFuzzer's own lines."""
        found = _FINDING.search(self.report)
        return found.group(0) if found else self.report[-3000:]

    def __str__(self) -> str:
        share = 100 * self.edges / max(self.all_edges, 1)
        counts = ", ".join(f"{value:,} {name.replace('_', ' ')}" for name, value in self.figures.items())
        text = (
            f"{self.program}: {self.edges:,} of {self.all_edges:,} edges ({share:.0f} %), {self.features:,} features, "
        )
        text += f"corpus of {self.corpus:,}; {counts or 'no figures'}"
        return text + (f"\n{self.program}: CRASH, input kept in {self.crash}" if self.crash else "")


def cpu_port(program: Path) -> int:
    """The port of the controller: the rack's own, the .stf tests' otherwise."""
    return rack.CPU_PORT if program.resolve() == RACK else STF_CPU_PORT


def seed(folder: Path, path: Path, program: ir.Program) -> int:
    """Put the seeds of a program into a directory; returns how many."""
    test = path.with_suffix(".stf")
    script = rack.script() if path.resolve() == RACK else test.read_text() if test.exists() else None
    shared_object = native.build(program, optimise=False)
    return write_seeds(folder, shared_object, script, _PACKETS, cpu_port=cpu_port(path))


def parse_report(program: str, text: str) -> Outcome:
    """What libFuzzer and the harness printed."""
    coverage, counters = _COVERAGE.findall(text), _COUNTERS.findall(text)
    figures = _FIGURES.findall(text)
    artifact = _ARTIFACT.search(text)
    edges, features, corpus = map(int, coverage[-1]) if coverage else (0, 0, 0)
    return Outcome(
        program=program,
        edges=edges,
        all_edges=sum(map(int, counters)),
        features=features,
        corpus=corpus,
        figures={name: int(value) for name, value in (item.split("=") for item in figures[-1].split())}
        if figures
        else {},
        crash=Path(artifact.group(1)) if artifact else None,
        report=text,
    )


def fuzz(
    target: Path, program: str, *, seconds: int, corpora: Sequence[Path], crashes: Path, seed_number: int = 0
) -> Outcome:
    """Run a target for some seconds; new inputs go to the first of ``corpora``. ``seed_number`` 0: a random one."""
    crashes.mkdir(parents=True, exist_ok=True)
    command = [
        str(target),
        f"-max_total_time={seconds}",
        f"-seed={seed_number}",
        "-max_len=4096",
        "-timeout=25",
        "-rss_limit_mb=2048",
        "-print_final_stats=1",
        f"-artifact_prefix={crashes}/",
        *map(str, corpora),
    ]
    done = subprocess.run(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        env=os.environ | _ENVIRONMENT,
        timeout=seconds + 120,
        check=False,
    )
    outcome = parse_report(program, done.stderr)
    if done.returncode != 0 and outcome.crash is None:
        raise ToolError(f"{target.name} ended with status {done.returncode}:\n{done.stderr[-3000:]}")
    return outcome


def fuzz_program(path: Path, program: ir.Program, seconds: int) -> Outcome:
    """Build, seed and run in ``build/fuzz``."""
    target = build_target(program, cpu_port=cpu_port(path))
    corpus, seeds = BUILD / "corpus" / program.name, BUILD / "seeds" / program.name
    corpus.mkdir(parents=True, exist_ok=True)
    seed(seeds, path, program)
    return fuzz(
        target, program.name, seconds=seconds, corpora=[corpus, seeds], crashes=BUILD / "crashes" / program.name
    )


def reproduce(path: Path, program: ir.Program, file: Path) -> int:
    """Run one input with everything it does on standard error; 1 when it crashes."""
    target = build_target(program, cpu_port=cpu_port(path))
    done = subprocess.run([str(target), str(file)], env=os.environ | _ENVIRONMENT | {"FUZZ_VERBOSE": "1"}, check=False)
    return FOUND if done.returncode else 0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the subcommand."""
    names = ", ".join(p.stem for p in PROGRAMS)
    parser.add_argument("program", nargs="*", type=Path, metavar="PROG.p4", help=f"default: {names}")
    parser.add_argument("--seconds", type=int, default=60, help="for each program (default 60)")
    parser.add_argument(
        "--reproduce", type=Path, metavar="INPUT", help="run one input of one program and say what it does"
    )


def run(arguments: argparse.Namespace) -> int:
    """Exit status 0, 1 when something crashed, 2 when a program is refused or a tool is missing."""
    paths: list[Path] = arguments.program or list(PROGRAMS)
    if arguments.reproduce and len(paths) != 1:
        print("fuzz: --reproduce needs one program", file=sys.stderr)
        return REFUSED
    found = False
    for path in paths:
        try:
            program = compile_source(path).program
            if arguments.reproduce:
                return reproduce(path, program, arguments.reproduce)
            outcome = fuzz_program(path, program, arguments.seconds)
        except CompileError as error:
            print("\n".join(render(d) for d in error.diagnostics), file=sys.stderr)
            return REFUSED
        except (CodegenError, ToolError, native.BuildError) as error:
            print(f"fuzz: {path}: {error}", file=sys.stderr)
            return REFUSED
        if outcome.crash:
            print(outcome.finding, file=sys.stderr)
        print(outcome, flush=True)
        if outcome.crash:
            found = True
            print(f"again: python -m fuzz packets {path} --reproduce {outcome.crash}")
    return FOUND if found else 0
