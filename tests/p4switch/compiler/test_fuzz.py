"""Broken programs: the compiler refuses them with diagnostics, and never with a traceback; what it accepts is valid IR."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from fuzz.sources.mutate import tokens
from p4switch.codegen import CodegenError, generate
from p4switch.compiler import ir
from p4switch.compiler.diagnostics import CompileError, render
from p4switch.compiler.driver import compile_source
from p4switch.compiler.validate import validate

FEATURES = Path(__file__).parent.parent / "features"
SOURCES = sorted(path for path in FEATURES.glob("*.p4") if path.stem != "skeleton")


def attempt(path: Path) -> bool:
    """Whether the program is accepted. Anything but CompileError and CodegenError comes through."""
    try:
        program = compile_source(path, [FEATURES]).program
    except CompileError as error:
        assert error.diagnostics
        assert all(render(d) for d in error.diagnostics)
        return False
    validate(ir.loads(ir.dumps(program)))
    try:
        generate(program)
    except CodegenError:
        return False
    return True


@pytest.mark.parametrize("seed", range(4))
def test_broken_programs_get_diagnostics(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    accepted = 0
    for _ in range(50):
        path = tmp_path / "broken.p4"
        text = rng.choice(SOURCES).read_text()
        path.write_text(tokens(text, rng, text))
        accepted += attempt(path)
    assert accepted < 45, "the mutations hardly change anything"


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b"\x00" * 100, b"(" * 5000, b"{" * 100_000, b"/* ", b'"'])
def test_garbage_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "garbage.p4"
    path.write_bytes(content)
    assert not attempt(path)


@pytest.mark.parametrize("number", ["0x", "0b_", "8w0x_", "0d", "1" * 5000, "1" * 5000 + "w1", "8w" + "9" * 5000])
def test_impossible_numbers_are_refused(tmp_path: Path, number: str) -> None:
    path = tmp_path / "number.p4"
    path.write_text((FEATURES / "shifts.p4").read_text().replace("hdr.h.a >> 3 << 1", number))
    assert not attempt(path)


def test_deep_nesting_is_refused(tmp_path: Path) -> None:
    text = (FEATURES / "shifts.p4").read_text()
    path = tmp_path / "deep.p4"
    path.write_text(text.replace("hdr.h.a >> 3 << 1", "(" * 3000 + "hdr.h.a" + ")" * 3000))
    assert not attempt(path)
