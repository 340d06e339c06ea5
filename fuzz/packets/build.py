"""Build the fuzz target of a program with clang: runtime, generated C and harness, each file compiled once for each content.

Everything goes to ``build/fuzz`` of the repository. clang is used here alone (libFuzzer is part of it); gcc stays the compiler of
the product.
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from p4switch import codegen
from p4switch.compiler import ir
from p4switch.dataplane.build import INCLUDE, RUNTIME

HARNESS = Path(__file__).resolve().parent
ROOT = HARNESS.parents[1]
BUILD = ROOT / "build" / "fuzz"

_SANITIZERS = "address,undefined"
_FLAGS = (
    "-std=gnu11",
    "-g",
    "-O1",
    "-fno-omit-frame-pointer",
    f"-fsanitize={_SANITIZERS}",
    "-fno-sanitize-recover=all",
    *(f"-I{folder}" for folder in (INCLUDE, codegen.INCLUDE_DIR, HARNESS)),
)
_COVERAGE = "-fsanitize=fuzzer-no-link"
_TIMEOUT = 300.0  # seconds for one compiler run
_UNUSED_SECONDS = 7 * 86400.0


class ToolError(RuntimeError):
    """clang is missing, or refuses a file; the message holds what it said."""


def _clang(arguments: Sequence[str]) -> None:
    path = shutil.which("clang")
    if path is None:
        raise ToolError("clang is not in PATH (Debian: apt-get install clang libclang-rt-14-dev)")
    try:
        done = subprocess.run([path, *arguments], capture_output=True, text=True, timeout=_TIMEOUT, check=False)
    except subprocess.TimeoutExpired as error:
        raise ToolError(f"clang ran for more than {_TIMEOUT:.0f} s on {arguments[-1]}") from error
    if done.returncode != 0:
        raise ToolError(f"clang {' '.join(arguments[-3:])} failed:\n{done.stderr.strip()}")


def _header_key() -> bytes:
    digest = hashlib.sha256()
    for folder in (INCLUDE, RUNTIME, codegen.INCLUDE_DIR, HARNESS):
        for path in sorted(folder.glob("*.h")):
            digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.digest()


def _object(name: str, text: str, flags: Sequence[str], headers: bytes) -> Path:
    key = hashlib.sha256(headers + "\0".join([*_FLAGS, *flags, text]).encode()).hexdigest()[:24]
    target = BUILD / "objects" / f"{name}-{key}.o"
    if target.exists():
        target.touch()  # used
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        source = target.with_suffix(".c")
        source.write_text(text)
        made = target.with_suffix(".new")
        _clang([*_FLAGS, *flags, "-c", str(source), "-o", str(made)])
        made.replace(target)
    return target


def _remove_unused() -> None:
    """Objects and targets of a week ago; every change of a header makes all of them anew."""
    oldest = time.time() - _UNUSED_SECONDS
    for path in (p for folder in ("objects", "targets") for p in (BUILD / folder).glob("*")):
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_mtime < oldest:
                path.unlink()


def build_target(program: ir.Program, *, cpu_port: int, runtime_changes: Mapping[str, str] | None = None) -> Path:
    """The fuzz target of a program, an executable with libFuzzer's options.

    ``runtime_changes`` replaces files of the runtime (name to text): tests plant faults with it. Raises :class:`ToolError`, and
    :class:`p4switch.codegen.CodegenError` for what cannot be generated.
    """
    headers = _header_key()
    changes = dict(runtime_changes or {})
    runtime_flags = (_COVERAGE, "-DDP_GROUPS=512u", "-include", str(HARNESS / "runtime_names.h"), f"-I{RUNTIME}")
    parts = []
    for path in sorted(RUNTIME.glob("*.c")):
        text = changes.pop(path.name, None) or path.read_text()
        parts.append(_object(path.stem, f'#line 1 "{path}"\n{text}', runtime_flags, headers))
    if changes:
        raise ValueError(f"{', '.join(changes)}: the runtime has no such file")
    program_flags = (_COVERAGE, "-w", "-include", str(HARNESS / "program_names.h"))
    parts.append(_object(program.name, codegen.generate(program), program_flags, headers))
    for path in sorted(HARNESS.glob("*.c")):
        flags = ("-Wall", "-Wextra", "-Werror", f"-DCPU_PORT={cpu_port}u")
        parts.append(_object(f"harness-{path.stem}", f'#line 1 "{path}"\n{path.read_text()}', flags, headers))
    key = hashlib.sha256("\0".join(p.name for p in parts).encode()).hexdigest()[:24]
    target = BUILD / "targets" / f"{program.name}-{key}"
    if target.exists():
        target.touch()
    else:
        _remove_unused()
        target.parent.mkdir(parents=True, exist_ok=True)
        made = target.with_suffix(".new")
        _clang([f"-fsanitize=fuzzer,{_SANITIZERS}", *map(str, parts), "-lpthread", "-o", str(made)])
        made.replace(target)
    return target
