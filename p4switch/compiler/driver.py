"""The compiler as a library: source file in, IR out."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from p4switch.compiler import ir
from p4switch.compiler.diagnostics import CompileError, Diagnostic, Diagnostics, Loc
from p4switch.compiler.lower import lower_program
from p4switch.compiler.parser_declarations import parse
from p4switch.compiler.preprocess import preprocess
from p4switch.compiler.strict.check import check_strict
from p4switch.compiler.warn.check import check

_RECURSION_LIMIT = 20_000  # the parser bounds nesting; its bound needs more than Python's default


@dataclass(frozen=True)
class CompileResult:
    """A compiled program and the warnings that it gave."""

    program: ir.Program
    diagnostics: Diagnostics


def compile_source(
    path: Path, include_dirs: Sequence[Path] = (), defines: Sequence[str] = (), *, strict_bmv2: bool = False
) -> CompileResult:
    """Compile a P4_16 file for v1model; with ``strict_bmv2`` only what p4c takes for bmv2.

    Raises CompileError, which carries all diagnostics, when it is refused.
    """
    return compile_text(preprocess(path, include_dirs, defines), path, strict_bmv2=strict_bmv2)


def compile_text(text: str, path: Path, *, strict_bmv2: bool = False) -> CompileResult:
    """Compile what the preprocessor made of a file. Raises CompileError."""
    sys.setrecursionlimit(max(sys.getrecursionlimit(), _RECURSION_LIMIT))
    try:
        return _compile(text, path, strict_bmv2)
    except RecursionError:
        message = "nested too deeply for this compiler"
        raise CompileError([Diagnostic("error", Loc(str(path), 0, 0), message)]) from None


def _compile(text: str, path: Path, strict_bmv2: bool) -> CompileResult:
    diagnostics = Diagnostics()
    tree = parse(text, str(path))
    try:
        program = lower_program(tree, diagnostics, path.stem)
    except CompileError as error:
        # Parts of the front end that know no Diagnostics (the lexer, say) raise what they found alone.
        raise CompileError(
            diagnostics.messages + [d for d in error.diagnostics if d not in diagnostics.messages]
        ) from None
    check(tree, program, diagnostics)
    if strict_bmv2:
        check_strict(tree, program, diagnostics)
    diagnostics.raise_errors()
    return CompileResult(program, diagnostics)
