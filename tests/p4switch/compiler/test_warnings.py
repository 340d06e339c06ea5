"""What the compiler warns of, word for word, and what it must not warn of.

After a deliberate change of a message ``python tests/p4switch/compiler/test_warnings.py`` writes the golden files; read them.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from p4switch.compiler.diagnostics import render
from p4switch.compiler.driver import compile_source
from p4switch.compiler.warn.kinds import KINDS

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
WARNINGS = HERE / "warnings"
FEATURES = HERE.parent / "features"
PROGRAMS = sorted(path for path in WARNINGS.glob("*.p4") if path.stem != "guarded")
FEATURE_PROGRAMS = sorted(path for path in FEATURES.glob("*.p4") if path.stem != "skeleton")


def messages(path: Path) -> str:
    """The warnings of a program, as the command line prints them, with names relative to its directory."""
    before = Path.cwd()
    os.chdir(path.parent)
    try:
        return "".join(render(d) + "\n" for d in compile_source(Path(path.name), [FEATURES]).diagnostics.messages)
    finally:
        os.chdir(before)


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda p: p.stem)
def test_message(path: Path) -> None:
    found = messages(path)
    assert f" [{path.stem.replace('_', '-')}]\n" in found, "the file is named after the kind of warning that it shows"
    assert found == path.with_suffix(".warn").read_text()


def test_every_kind_has_a_program() -> None:
    assert {path.stem.replace("_", "-") for path in PROGRAMS} == set(KINDS)


@pytest.mark.parametrize("path", [WARNINGS / "guarded.p4", *FEATURE_PROGRAMS], ids=lambda p: p.stem)
def test_no_warning_without_reason(path: Path) -> None:
    assert messages(path) == ""


def compile_command(*options: str) -> subprocess.CompletedProcess[str]:
    """``python -m p4switch compile`` over a program with warnings of one kind."""
    command = [
        sys.executable,
        "-m",
        "p4switch",
        "compile",
        "-I",
        str(FEATURES),
        *options,
        str(WARNINGS / "mismatch.p4"),
    ]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_options(tmp_path: Path) -> None:
    plain = compile_command()
    assert plain.returncode == 0
    assert set(re.findall(r"\[([a-z-]+)\]$", plain.stderr, re.MULTILINE)) == {"mismatch"}
    output = tmp_path / "out"
    refused = compile_command("--Werror", "-o", str(output))
    assert refused.returncode == 2 and not output.exists()
    assert "--Werror" in refused.stderr
    for option in ("--Wno-mismatch", "--Wno-all"):
        silent = compile_command(option, "--Werror")
        assert (silent.returncode, silent.stderr) == (0, "")
    assert compile_command("--Wno-unused").stderr == plain.stderr
    unknown = compile_command("--Wno-colour")
    assert unknown.returncode == 2 and "--Wno-colour" in unknown.stderr


def test_work_is_bounded(tmp_path: Path) -> None:
    """Actions that call each other twice, and nested loops: analysis gives up instead of taking for ever."""
    calls = "".join(f"action a{n}() {{ a{n - 1}(); a{n - 1}(); }}\n" for n in range(1, 40))
    loops = "".join(f"for (bit<8> v{n} = 0; v{n} < 3; v{n} = v{n} + 1) {{\n" for n in range(12))
    text = (WARNINGS / "overflow.p4").read_text()
    head, _, _ = text.partition("    apply")
    path = tmp_path / "large.p4"
    path.write_text(
        f"{head} action a0() {{ hdr.h.a = 1; }}\n{calls}"
        f'apply {{ bit<8> u; {loops} hdr.h.a = u; {"}" * 12} a39(); }} }}\n#include "skeleton.p4"\n'
    )
    compile_source(path, [FEATURES])


if __name__ == "__main__":
    for program in PROGRAMS:
        program.with_suffix(".warn").write_text(messages(program))
