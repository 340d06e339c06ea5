"""Native code of a program: C from its IR, compiled into a shared object that the data plane loads.

The shared object comes from the cache of :mod:`p4switch.dataplane.build` when the same C was compiled before by the same
compiler.
"""

from __future__ import annotations

from pathlib import Path

from p4switch import codegen
from p4switch.compiler import ir
from p4switch.dataplane.build import BuildError, Sanitizer, build_program

__all__ = ["BuildError", "build"]


def build(program: ir.Program, *, optimise: bool = True, sanitize: Sanitizer | None = None) -> Path:
    """The shared object of a program.

    ``optimise`` False compiles faster, for tests that run a few packets. Raises :class:`p4switch.codegen.CodegenError` for what
    cannot be generated and :class:`BuildError` when the C compiler is missing or fails.
    """
    return build_program(
        codegen.generate(program), program.name, include=[codegen.INCLUDE_DIR], optimise=optimise, sanitize=sanitize
    )
