"""Native code of a program: generate C, compile it with gcc into a shared object, and keep that in a cache.

The cache is ``$P4SWITCH_CACHE`` or ``~/.cache/p4switch``. A name in it is a hash of everything the result depends on: the IR, the
generator, the headers, the compiler and its options. Results appear by rename, so that processes may share the cache; nobody
else may write to it, because what lies in it is executed.
"""

from __future__ import annotations

import hashlib
import os
import stat
import subprocess
import tempfile
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from p4switch import codegen
from p4switch.compiler import ir

BOUNDARY_DIR = Path(__file__).parent / "dataplane" / "include"
FLAGS = (
    "-std=gnu11",
    "-O2",
    "-w",
    "-fPIC",
    "-shared",
    "-fvisibility=hidden",
    "-fno-semantic-interposition",
    "-fno-plt",
)
_TIMEOUT_S = 300


class NativeError(Exception):
    """The compiler is missing, failed, or the cache cannot be used."""


def compiler() -> str:
    """The C compiler: ``$P4SWITCH_CC`` or gcc."""
    return os.environ.get("P4SWITCH_CC", "gcc")


def cache_dir() -> Path:
    """The cache directory, made if need be. Raises NativeError when other users could put code into it."""
    configured = os.environ.get("P4SWITCH_CACHE")
    path = Path(configured) if configured else Path.home() / ".cache" / "p4switch"
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = path.stat()
    except OSError as error:
        raise NativeError(f"cache directory {path}: {error.strerror}; set P4SWITCH_CACHE to one that is writable") from error
    if status.st_uid != os.geteuid() or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise NativeError(f"cache directory {path} must belong to uid {os.geteuid()} and be writable by nobody else")
    return path


@lru_cache(maxsize=4)
def compiler_version(command: str) -> str:
    """The compiler's own description of itself."""
    try:
        done = subprocess.run([command, "--version"], capture_output=True, text=True, timeout=30, check=True)
    except FileNotFoundError:
        raise NativeError(f"the C compiler {command!r} is not installed; install gcc or set P4SWITCH_CC") from None
    except (OSError, subprocess.SubprocessError) as error:
        raise NativeError(f"the C compiler {command!r} does not run: {error}") from error
    return done.stdout


@lru_cache(maxsize=1)
def _generator_hash() -> bytes:
    """A hash of the generator's own sources and of all headers that generated code includes."""
    digest = hashlib.sha256()
    package = Path(codegen.__file__).parent
    for path in sorted([*package.glob("*.py"), *codegen.INCLUDE_DIR.glob("*.h"), BOUNDARY_DIR / "p4prog.h"]):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.digest()


def cache_key(program: ir.Program, flags: Sequence[str]) -> str:
    """The name in the cache of a program compiled with these flags."""
    digest = hashlib.sha256(_generator_hash())
    for part in (str(codegen.GENERATOR_VERSION), compiler(), compiler_version(compiler()), *flags):
        digest.update(part.encode() + b"\0")
    digest.update(ir.dumps(program))
    return digest.hexdigest()[:40]


def compile_c(source: Path, target: Path, flags: Sequence[str] = FLAGS) -> None:
    """Compile one C file into a shared object. Raises NativeError with what the compiler said."""
    command = [compiler(), *flags, f"-I{codegen.INCLUDE_DIR}", f"-I{BOUNDARY_DIR}", "-o", str(target), str(source)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    except FileNotFoundError:
        raise NativeError(f"the C compiler {command[0]!r} is not installed; install gcc or set P4SWITCH_CC") from None
    except subprocess.TimeoutExpired:
        raise NativeError(f"{command[0]} took more than {_TIMEOUT_S} s for {source}") from None
    if done.returncode != 0:
        raise NativeError(f"{' '.join(command)} failed:\n{done.stderr[:4000]}")


def build(program: ir.Program, extra_flags: Sequence[str] = ()) -> Path:
    """The shared object of a program, from the cache or compiled now; the C lies beside it.

    Raises CodegenError for a program that cannot be expressed and NativeError when compiling fails.
    """
    flags = (*FLAGS, *extra_flags)
    directory = cache_dir()
    name = cache_key(program, flags)
    target = directory / f"{name}.so"
    if target.exists():
        return target
    text = codegen.generate(program)
    with tempfile.TemporaryDirectory(prefix="build-", dir=directory) as scratch:
        source, result = Path(scratch) / f"{name}.c", Path(scratch) / f"{name}.so"
        source.write_text(text, encoding="utf-8")
        compile_c(source, result, flags)
        source.rename(directory / source.name)
        result.rename(target)
    return target
