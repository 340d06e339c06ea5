"""Runs the C preprocessor (gcc, as p4c does) over a P4 source; its line markers keep diagnostics in the user's files."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

from p4switch.compiler.diagnostics import UNKNOWN, CompileError, Diagnostic, Loc

INCLUDE_DIR = Path(__file__).resolve().parent.parent / "p4include"
_CPP_ERROR = re.compile(
    r"^(?P<file>[^:\n]+):(?P<line>\d+):(?P<column>\d+): (?:fatal )?error: (?P<text>.*)$", re.MULTILINE
)


def preprocess(path: Path, include_dirs: Sequence[Path] = (), defines: Sequence[str] = ()) -> str:
    """The preprocessed text of ``path``. Raises CompileError with the preprocessor's own diagnostics."""
    if not path.is_file():
        raise CompileError(
            [Diagnostic("error", Loc(str(path), 0, 0), "it is a directory" if path.is_dir() else "no such file")]
        )
    # As p4c does: as for assembler, so that quotes need no partner; with comments, since a string may hold what looks like one.
    command = ["gcc", "-E", "-x", "assembler-with-cpp", "-C", "-undef", "-nostdinc", "-ftrack-macro-expansion=0"]
    command += [f"-I{d}" for d in (*include_dirs, INCLUDE_DIR)]
    command += [f"-D{d}" for d in ("__p4c__=1", "__P4_16__=1", *defines)]
    command += [str(path)]
    try:
        result = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False, timeout=60)
    except FileNotFoundError:
        raise CompileError([Diagnostic("error", UNKNOWN, "gcc is not in PATH; it preprocesses P4 sources")]) from None
    if result.returncode:
        found = [
            Diagnostic("error", Loc(m["file"], int(m["line"]), int(m["column"])), m["text"])
            for m in _CPP_ERROR.finditer(result.stderr)
        ]
        raise CompileError(
            found or [Diagnostic("error", Loc(str(path), 0, 0), f"preprocessor failed: {result.stderr}")]
        )
    return result.stdout
