"""``python -m p4switch compile``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from p4switch import sources
from p4switch.compiler.diagnostics import CompileError, Diagnostic, render
from p4switch.compiler.warn.kinds import KINDS, without

if TYPE_CHECKING:
    from p4switch.compiler.driver import CompileResult

REFUSED = 2
T = TypeVar("T")


def add_source_arguments(parser: argparse.ArgumentParser) -> None:
    """The source file and preprocessor options, shared by all that compile."""
    parser.add_argument("program", type=Path, metavar="PROG.p4", help="the P4_16 program (v1model)")
    parser.add_argument(
        "-I", dest="include", type=Path, action="append", default=[], metavar="DIR", help="include path"
    )
    parser.add_argument(
        "-D", dest="define", action="append", default=[], metavar="NAME[=VALUE]", help="preprocessor define"
    )
    add_check_arguments(parser)


def add_check_arguments(parser: argparse.ArgumentParser) -> None:
    """What to refuse beyond errors, and what to do about warnings."""
    parser.add_argument("--strict-bmv2", action="store_true", help="refuse what p4c refuses for the target bmv2")
    group = parser.add_argument_group("warnings", "on standard error; they never change the exit status by themselves")
    group.add_argument("--Werror", action="store_true", help="refuse a program that has warnings")
    group.add_argument(
        "--Wno-all", dest="without", action="append_const", const="all", default=[], help="no warnings at all"
    )
    for kind, text in KINDS.items():
        group.add_argument(f"--Wno-{kind}", dest="without", action="append_const", const=kind, help=f"not: {text}")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the subcommand."""
    add_source_arguments(parser)
    parser.add_argument("-o", dest="output", type=Path, metavar="FILE", help="write the IR (a P4Runtime device config)")
    parser.add_argument("--p4info", type=Path, metavar="FILE", help="write the P4Info as protobuf text")
    parser.add_argument(
        "--entries-out",
        type=Path,
        metavar="FILE",
        help="write const and initial entries as a P4Runtime WriteRequest, as text",
    )


def compile_or_explain(arguments: argparse.Namespace) -> CompileResult | None:
    """Compile, with diagnostics on standard error; None when the program is refused."""
    from p4switch.compiler.driver import compile_source  # who runs a program from the cache does without the compiler

    def compile_it() -> CompileResult:
        files = (arguments.program, arguments.include, arguments.define)
        return compile_source(*files, strict_bmv2=arguments.strict_bmv2)

    return _explain(arguments, compile_it, lambda result: result.diagnostics.messages)


def build_or_explain(arguments: argparse.Namespace) -> sources.Compiled | None:
    """Compile to native code or take it from the cache, with diagnostics on standard error; None when the program is refused.

    Raises :class:`p4switch.dataplane.build.BuildError`.
    """

    def compile_it() -> sources.Compiled:
        files = (arguments.program, arguments.include, arguments.define)
        return sources.compile_file(*files, strict_bmv2=arguments.strict_bmv2)

    return _explain(arguments, compile_it, lambda compiled: list(compiled.warnings))


def _explain(
    arguments: argparse.Namespace, compile_it: Callable[[], T], warnings: Callable[[T], list[Diagnostic]]
) -> T | None:
    result: T | None = None
    try:
        result = compile_it()
        messages = warnings(result)
    except CompileError as error:
        messages = error.diagnostics
    messages = without(messages, arguments.without)
    for message in messages:
        print(render(message), file=sys.stderr)
    if result is not None and arguments.Werror and messages:
        print(f"{arguments.program}: refused for its warnings (--Werror)", file=sys.stderr)
        return None
    return result


def run(arguments: argparse.Namespace) -> int:
    """Exit status 0, or 2 when the program is refused."""
    result = compile_or_explain(arguments)
    if result is None:
        return REFUSED
    from p4switch.compiler import ir

    if arguments.output:
        arguments.output.write_bytes(ir.dumps(result.program))
    if arguments.p4info or arguments.entries_out:
        from p4switch.compiler import entries, p4info  # protobuf is slow to import

        info = p4info.build(result.program)
        if arguments.p4info:
            arguments.p4info.write_text(p4info.to_text(info))
        if arguments.entries_out:
            arguments.entries_out.write_text(entries.to_text(entries.build(result.program, info)))
    return 0
