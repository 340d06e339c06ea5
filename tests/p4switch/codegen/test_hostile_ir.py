"""IR that no compiler made: it is refused by a typed error, or becomes C that compiles without a warning about its meaning."""

from __future__ import annotations

import json
import random
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest

from p4switch.codegen import INCLUDE_DIR, CodegenError, generate
from p4switch.compiler import ir
from p4switch.compiler.driver import compile_source
from p4switch.compiler.validate import validate
from p4switch.compiler.validate_code import IrError
from p4switch.dataplane.build import INCLUDE

FEATURES = Path(__file__).parent.parent / "features"
SOURCES = (
    "action_parameters",
    "header_stack",
    "header_union",
    "select_keys",
    "varbit",
    "const_entries",
    "types",
    "loops",
)
STRAY: list[Any] = [
    0,
    1,
    -1,
    7,
    9,
    64,
    129,
    2049,
    1 << 40,
    "",
    "0",
    "-5",
    "x",
    "hdr",
    'a"b',
    "*/",
    True,
    False,
    None,
    [],
    {},
]


def places(node: Any, found: list[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
    """Every (container, key) in a JSON value."""
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in list(items):
        found.append((node, key))
        places(value, found)
    return found


def mutate(text: bytes, rng: random.Random) -> bytes:
    """Replace some parts by parts from elsewhere of the same kind, or by stray values."""
    tree = json.loads(text)
    for _ in range(rng.choice((1, 1, 2, 3))):
        every = places(tree, [])
        container, key = rng.choice(every)
        old = container[key]
        alike = [c[k] for c, k in every if type(c[k]) is type(old)]
        replacement = rng.choice(alike) if rng.random() < 0.8 else rng.choice(STRAY)
        container[key] = json.loads(json.dumps(replacement))
    return json.dumps(tree).encode()


def c_problem(text: str) -> str:
    """What gcc has against generated C."""
    flags = ["-std=gnu11", "-fsyntax-only", "-Wall", "-Wextra", "-Wno-unused", "-Wno-unused-parameter"]
    tolerated = ["-Wno-type-limits", "-Wno-missing-field-initializers", "-Wno-tautological-compare"]
    command = ["gcc", *flags, *tolerated, f"-I{INCLUDE_DIR}", f"-I{INCLUDE}", "-x", "c", "-"]
    return subprocess.run(command, input=text, capture_output=True, text=True, check=False).stderr


def attempt(text: bytes) -> str:
    """What became of IR: 'shape', 'refused' or 'generated'. Anything but the typed errors comes through."""
    try:
        program = ir.loads(text)
    except msgspec.MsgspecError:
        return "shape"
    try:
        validate(program)
        valid = True
    except IrError:
        valid = False
    try:
        source = generate(program)  # the generator does not rely on the check before it
    except CodegenError:
        return "refused"
    if valid:
        assert c_problem(source) == ""
    return "generated"


@pytest.mark.parametrize("name", SOURCES)
def test_mutated_programs(name: str) -> None:
    text = ir.dumps(compile_source(FEATURES / f"{name}.p4").program)
    rng = random.Random(name)
    outcomes = {attempt(mutate(text, rng)) for _ in range(40)}
    assert outcomes >= {"generated"} and len(outcomes) > 1
