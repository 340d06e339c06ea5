"""What the compiler says about wrong programs, word for word: file, line, column, caret and what would be valid.

After a deliberate change of a message: ``python tests/p4switch/compiler/test_errors.py`` writes the golden files anew; read them.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from p4switch.compiler.diagnostics import CompileError, render
from p4switch.compiler.driver import compile_source

HERE = Path(__file__).parent
ERRORS = HERE / "errors"
PROGRAMS = sorted(ERRORS.glob("*.p4"))


def messages(path: Path) -> str:
    """The diagnostics of a program, as the command line prints them, with names relative to its directory."""
    before = Path.cwd()
    os.chdir(path.parent)
    try:
        compile_source(Path(path.name), [HERE.parent / "features"])
    except CompileError as error:
        return "\n".join(render(d) for d in error.diagnostics) + "\n"
    finally:
        os.chdir(before)
    return ""


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda p: p.stem)
def test_message(path: Path) -> None:
    found = messages(path)
    assert found, "the program was accepted"
    assert found == path.with_suffix(".err").read_text()


if __name__ == "__main__":
    for program in PROGRAMS:
        program.with_suffix(".err").write_text(messages(program))
