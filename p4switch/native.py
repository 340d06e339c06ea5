"""IR to native code that the data plane loads, through a cache of what was compiled before.

A config is known by its bytes and by the compiler: its source, the C compiler, its flags. Then the generator is not even
imported; that is why imports are inside functions here.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING

from p4switch import cache
from p4switch.dataplane.build import (
    BuildError,
    Sanitizer,
    build_program,
    cached_program,
    program_identity,
)

if TYPE_CHECKING:
    from p4switch.compiler import ir

__all__ = ["BuildError", "InvalidConfigError", "build", "build_config", "toolchain"]

HERE = Path(__file__).resolve().parent
_COMPILER = ("compiler", "codegen")  # directories with all that decides what comes of a source


class InvalidConfigError(ValueError):
    """A pipeline config is not the IR of a program; the message says what is wrong with it."""


def build(program: ir.Program, *, optimise: bool = True, sanitize: Sanitizer | None = None) -> Path:
    """The shared object of a program.

    ``optimise`` False compiles faster, for tests that run a few packets. Raises :class:`p4switch.codegen.CodegenError` for what
    cannot be generated and :class:`BuildError` when the C compiler is missing or fails.
    """
    from p4switch import codegen

    return build_program(
        codegen.generate(program), program.name, include=[codegen.INCLUDE_DIR], optimise=optimise, sanitize=sanitize
    )


def build_config(device_config: bytes) -> Path:
    """The shared object of a pipeline config.

    Raises :class:`InvalidConfigError` when it is none and :class:`BuildError` when it cannot be compiled. A config that passed
    once is not validated again: the cache has it by all of its bytes.
    """
    try:
        name = f"config-{cache.key([toolchain(), device_config])}"
        known = cache.read(name)
        shared_object = None if known is None else cached_program(known.decode())
        if shared_object is None:
            shared_object = _build_config(device_config)
            cache.write(name, shared_object.name.encode())
    except cache.CacheError as error:
        raise BuildError(str(error)) from error
    return shared_object


def _build_config(device_config: bytes) -> Path:
    import msgspec

    from p4switch.codegen import CodegenError
    from p4switch.compiler import ir
    from p4switch.compiler.validate import validate
    from p4switch.compiler.validate_code import IrError

    try:
        program = ir.loads(device_config)
        validate(program)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, IrError) as error:
        raise InvalidConfigError(str(error)) from None
    try:
        return build(program)
    except CodegenError as error:
        raise BuildError(str(error)) from error


@functools.cache
def toolchain() -> str:
    """Digest of everything but the program that decides what comes of it."""
    sources = [path for folder in _COMPILER for path in sorted((HERE / folder).rglob("*.py"))]
    headers = [path for folder in _COMPILER for path in sorted((HERE / folder).rglob("*.h"))]
    parts = [item for path in (*sources, *headers, Path(__file__)) for item in (path.name, path.read_bytes())]
    return cache.key([program_identity(), *parts])
