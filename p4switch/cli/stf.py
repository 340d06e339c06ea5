"""``python -m p4switch stf``."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from p4switch import native
from p4switch.cli import options
from p4switch.cli.compile import REFUSED, add_source_arguments, compile_or_explain
from p4switch.codegen import CodegenError
from p4switch.compiler import ir
from p4switch.dataplane.binding import DataplaneError, Switch
from p4switch.stf import Failure, StfError, run_script
from p4switch.stf.explain import emitted, explain

FAILED = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the subcommand."""
    add_source_arguments(parser)
    parser.add_argument("test", type=Path, nargs="?", metavar="TEST.stf", help="default: PROG.stf beside the program")
    parser.add_argument("--cpu-port", type=options.port, metavar="PORT", help="frames sent there go to the controller")
    parser.add_argument("--trace", type=Path, metavar="FILE", help="write what happens to every packet")
    parser.add_argument("--trace-format", default="text", choices=("text", "json"), help="json: one object a line")
    parser.add_argument(
        "--seed", type=options.number(0, 2**64 - 1), default=1, metavar="N", help="of random numbers (default 1)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Exit status 0 when all expectations hold, 1 when one does not, 2 when the program or the test is refused."""
    result = compile_or_explain(arguments)
    if result is None:
        return REFUSED
    test: Path = arguments.test or arguments.program.with_suffix(".stf")
    try:
        shared_object = native.build(result.program, optimise=False)
        script = test.read_text(encoding="utf-8")
        failures = _play(arguments, shared_object, script, arguments.trace, arguments.trace_format == "json")
        fields = _fields(arguments, result.program, shared_object, script, failures)
    except OSError as error:
        print(f"p4switch stf: {options.explain(error)}", file=sys.stderr)
        return REFUSED
    except (CodegenError, native.BuildError, StfError, DataplaneError, UnicodeDecodeError) as error:
        print(f"{test}: {error}", file=sys.stderr)
        return REFUSED
    for failure in failures:
        print(f"{test}: {failure}", file=sys.stderr)
        for line in fields.get(failure, ()):
            print(f"    {line}", file=sys.stderr)
    print(f"{test}: {'FAIL' if failures else 'pass'}")
    return FAILED if failures else 0


def _play(
    arguments: argparse.Namespace, shared_object: Path, script: str, trace: Path | None, json: bool
) -> list[Failure]:
    with Switch(cpu_port=arguments.cpu_port, seed=arguments.seed) as switch:
        switch.load(shared_object)
        switch.trace(trace, json=json)
        return run_script(switch, script)


def _fields(
    arguments: argparse.Namespace, program: ir.Program, shared_object: Path, script: str, failures: list[Failure]
) -> dict[Failure, list[str]]:
    """Field by field what was wrong with frames. The same test runs again for the headers that were emitted."""
    result: dict[Failure, list[str]] = {}
    mismatches = {failure: failure.mismatch for failure in failures if failure.mismatch is not None}
    if not mismatches:
        return result
    with tempfile.NamedTemporaryFile("r", suffix=".json", encoding="utf-8") as trace:
        _play(arguments, shared_object, script, Path(trace.name), True)
        frames = emitted(trace)
    for failure, mismatch in mismatches.items():
        headers = frames.get(mismatch.port, [])
        if mismatch.index < len(headers):
            result[failure] = explain(program, mismatch, headers[mismatch.index])
    return result
