"""``--strict-bmv2``: what stock p4c refuses for bmv2, with the place, the reason and what to write instead, word for word.

After a deliberate change of a message ``python tests/p4switch/compiler/test_strict.py`` writes the golden files; read them.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from p4switch.compiler.diagnostics import CompileError, render
from p4switch.compiler.driver import compile_source

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
STRICT = HERE / "strict"
FEATURES = HERE.parent / "features"
REFUSED = sorted(path for path in STRICT.glob("*.p4") if path.stem != "accepted")
# Feature programs of what only this compiler takes.
OWN_FEATURES = {
    "arrays",
    "checksum16",
    "collections",
    "key_effects",
    "loops",
    "padded_header",
    "random_numbers",
    "register_types",
    "table_effects",
}
PORTABLE = sorted(path for path in FEATURES.glob("*.p4") if path.stem not in OWN_FEATURES | {"skeleton"})


def refusals(path: Path) -> str:
    """The errors of a program under the option, with names relative to its directory."""
    before = Path.cwd()
    os.chdir(path.parent)
    try:
        compile_source(Path(path.name), [FEATURES], strict_bmv2=True)
    except CompileError as error:
        return "".join(render(d) + "\n" for d in error.diagnostics if d.severity == "error")
    finally:
        os.chdir(before)
    return ""


@pytest.mark.parametrize("path", REFUSED, ids=lambda p: p.stem)
def test_refusal(path: Path) -> None:
    compile_source(path, [FEATURES])  # without the option it is fine
    assert refusals(path) == path.with_suffix(".err").read_text()


@pytest.mark.parametrize("path", REFUSED, ids=lambda p: p.stem)
def test_each_refusal_says_where_and_what_instead(path: Path) -> None:
    with pytest.raises(CompileError) as caught:
        compile_source(path, [FEATURES], strict_bmv2=True)
    errors = [d for d in caught.value.diagnostics if d.severity == "error"]
    assert errors and all(d.kind == "strict-bmv2" and d.note and d.loc.line > 0 for d in errors)


@pytest.mark.parametrize("path", [STRICT / "accepted.p4", *PORTABLE], ids=lambda p: p.stem)
def test_portable_programs_are_accepted(path: Path) -> None:
    assert refusals(path) == ""


@pytest.mark.parametrize("name", sorted(OWN_FEATURES))
def test_own_features_are_refused(name: str) -> None:
    assert refusals(FEATURES / f"{name}.p4")


@pytest.mark.parametrize("command", [["compile"], ["run", "--p4"], ["stf"]], ids=lambda c: c[0])
def test_command_line(command: list[str]) -> None:
    """Exit status 2 and the diagnostics; ``run`` does not come to serve anything."""
    program = [sys.executable, "-m", "p4switch", command[0], "--strict-bmv2", "-I", str(FEATURES), *command[1:]]
    result = subprocess.run(
        [*program, str(STRICT / "lpm_keys.p4")], cwd=ROOT, capture_output=True, text=True, check=False, timeout=400
    )
    assert result.returncode == 2
    assert "lpm" in result.stderr and "[strict-bmv2]" in result.stderr and not result.stdout


if __name__ == "__main__":
    for program in REFUSED:
        program.with_suffix(".err").write_text(refusals(program))
