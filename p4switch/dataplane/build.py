"""Compile C: the runtime, once for each version of its sources, and programs that the compiler generated.

Shared objects go to the cache (:mod:`p4switch.cache`) under the digest of everything that determines them: sources, flags,
compiler and CPU. ``python -m p4switch.dataplane.build [--sanitize]`` builds the runtime and prints its path.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import os
import platform
import shutil
import subprocess
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

from p4switch import cache

HERE = Path(__file__).resolve().parent
INCLUDE = HERE / "include"
RUNTIME = HERE / "runtime"

Sanitizer = Literal["address", "thread"]

_WARNINGS = ("-Wall", "-Wextra", "-Werror", "-Wshadow", "-Wstrict-prototypes", "-Wmissing-prototypes")
_COMMON = ("-std=gnu11", "-fPIC", "-fno-plt")
_OPTIMISED = ("-O2", "-march=native", "-DNDEBUG", "-g1")
_SANITIZE: dict[Sanitizer, tuple[str, ...]] = {
    "address": (
        "-O1",
        "-g",
        "-fsanitize=address,undefined",
        "-fno-sanitize-recover=undefined",
        "-fno-omit-frame-pointer",
    ),
    "thread": ("-O1", "-g", "-fsanitize=thread", "-fno-omit-frame-pointer"),
}
_COMPILER_ENVIRONMENT = ("CPATH", "C_INCLUDE_PATH", "LIBRARY_PATH", "COMPILER_PATH", "GCC_EXEC_PREFIX")
_TIMEOUT = 300.0  # seconds for one compiler run; a large generated program takes a few


_runtime_lock = threading.Lock()  # who asks while it is being built waits instead of building it again


class BuildError(RuntimeError):
    """The C compiler is missing or refused a source; the message holds what it said."""


@functools.cache
def _compiler() -> tuple[str, str]:
    """The C compiler and what identifies it: version, the CPU that ``-march=native`` means, and what changes its search paths.

    Asking the compiler takes longer than starting a cached program, so the answer is kept for as long as its file and the CPU
    are the same.
    """
    name = os.environ.get("CC") or "gcc"
    path = shutil.which(name)
    if path is None:
        raise BuildError(f"no C compiler: {name!r} is not in PATH (Debian: apt-get install gcc libc6-dev)")
    real = Path(path).resolve()
    status = real.stat()
    paths = [f"{variable}={os.environ.get(variable)}" for variable in _COMPILER_ENVIRONMENT]
    file = f"compiler-{cache.key([path, str(real), str(status.st_size), str(status.st_mtime_ns), _cpu(), *paths])}"
    known = cache.read(file)
    if known is not None:
        return path, known.decode()
    version = _run([path, "--version"]).splitlines()[0]
    target = _run([path, "-march=native", "-E", "-v", "-x", "c", "/dev/null"], both=True)
    flags = next((line for line in target.splitlines() if "cc1 " in line), "")
    identity = f"{version} {flags} {paths}"
    cache.write(file, identity.encode())
    return path, identity


def _cpu() -> str:
    """What ``/proc/cpuinfo`` says of the first CPU, without what changes from moment to moment."""
    with contextlib.suppress(OSError):
        first = Path("/proc/cpuinfo").read_text().partition("\n\n")[0]
        return "\n".join(line for line in first.splitlines() if "MHz" not in line and "bogomips" not in line.lower())
    return platform.processor()


def _run(command: Sequence[str], *, both: bool = False) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT, check=False)
    except subprocess.TimeoutExpired as error:
        raise BuildError(f"{command[0]} ran for more than {_TIMEOUT:.0f} s") from error
    if done.returncode != 0:
        raise BuildError(f"{' '.join(command[:3])} ... failed:\n{done.stderr.strip()}")
    return done.stdout + done.stderr if both else done.stdout


def _compile(name: str, units: Sequence[Path | str], arguments: Sequence[str], hashed: Sequence[bytes | str]) -> Path:
    """``name-<digest>.so`` in the cache, compiled if it is not there. Units are files, or C text."""
    try:
        return _compile_cached(name, units, arguments, hashed)
    except cache.CacheError as error:
        raise BuildError(str(error)) from error


def _compile_cached(
    name: str, units: Sequence[Path | str], arguments: Sequence[str], hashed: Sequence[bytes | str]
) -> Path:
    """Several units are compiled side by side, one on each CPU, and then linked."""
    compiler, identity = _compiler()
    name = f"{name}-{cache.key([identity, *arguments, *hashed])}.so"
    known = cache.find(name)
    if known is not None:
        return known
    with cache.scratch() as scratch:
        files = [unit if isinstance(unit, Path) else scratch / f"unit{n}.c" for n, unit in enumerate(units)]
        for file, unit in zip(files, units, strict=True):
            if isinstance(unit, str):
                file.write_text(unit)
        made = scratch / "made.so"
        if len(files) > 1:
            objects = [scratch / f"{n}.o" for n in range(len(files))]
            jobs = [[compiler, *arguments, "-c", "-o", str(o), str(f)] for f, o in zip(files, objects, strict=True)]
            with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
                list(pool.map(_run, jobs))
            files = objects
        _run([compiler, *arguments, "-shared", "-o", str(made), *map(str, files), "-ldl"])
        return cache.write(name, made.read_bytes())


def chosen_sanitizer() -> Sanitizer | None:
    """What ``P4SWITCH_SANITIZE=address|thread`` asks for. Raises ValueError for anything else."""
    wanted = os.environ.get("P4SWITCH_SANITIZE")
    if not wanted:
        return None
    choices: dict[str, Sanitizer] = {"address": "address", "thread": "thread"}
    if wanted not in choices:
        raise ValueError(f"P4SWITCH_SANITIZE={wanted!r}: valid are {', '.join(choices)}")
    return choices[wanted]


def build_runtime(sanitize: Sanitizer | None = None) -> Path:
    """The runtime's shared object, for the address (and undefined behaviour) or thread sanitizer if asked.

    A sanitized build must be the first library of its process: start Python with :func:`sanitizer_preload` in LD_PRELOAD.
    Raises :class:`BuildError`.
    """
    sources = sorted(RUNTIME.glob("*.c"))
    headers = sorted([*RUNTIME.glob("*.h"), *INCLUDE.glob("*.h")])
    hashed = [text for path in (*sources, *headers) for text in (path.name, path.read_bytes())]
    mode = _SANITIZE[sanitize] if sanitize else _OPTIMISED
    arguments = [*_COMMON, *_WARNINGS, *mode, "-fvisibility=hidden", "-pthread"]
    with _runtime_lock:
        return _compile(f"runtime-{sanitize}" if sanitize else "runtime", sources, arguments, hashed)


def program_identity() -> str:
    """Everything but its source that decides what comes of a program: C compiler, flags, headers of the runtime.

    Raises :class:`BuildError`.
    """
    headers = [item for path in sorted(INCLUDE.glob("*.h")) for item in (path.name, path.read_bytes())]
    try:
        return cache.key([_compiler()[1], *_COMMON, *_OPTIMISED, chosen_sanitizer() or "", *headers])
    except cache.CacheError as error:
        raise BuildError(str(error)) from error


def cached_program(name: str) -> Path | None:
    """The shared object of that file name, if the cache still has it whole."""
    return cache.find(name)


def build_program(
    source: str,
    name: str = "program",
    *,
    include: Sequence[Path] = (),
    optimise: bool = True,
    sanitize: Sanitizer | None = None,
) -> Path:
    """The shared object of a generated program; ``source`` is C that includes ``p4prog.h`` and headers in ``include``.

    ``name`` only makes the file recognisable. ``optimise`` False compiles several times faster, for tests that run a few
    packets. ``sanitize`` is that of the runtime (:func:`chosen_sanitizer`) unless it is given. Raises :class:`BuildError` with
    the compiler's message.
    """
    sanitize = sanitize or chosen_sanitizer()
    safe = "".join(c if (c.isascii() and c.isalnum()) or c in "-_" else "_" for c in name)[:40] or "program"
    headers = [INCLUDE / "p4prog.h", *(path for folder in include for path in sorted(folder.glob("*.h")))]
    hashed = [text for path in headers for text in (path.name, path.read_bytes())]
    mode = _SANITIZE[sanitize] if sanitize else _OPTIMISED if optimise else ("-O0",)
    arguments = [*_COMMON, *mode, *(f"-I{folder}" for folder in (INCLUDE, *include))]
    return _compile(safe, [source], arguments, [source, *hashed])


def sanitizer_preload(sanitize: Sanitizer) -> str:
    """The sanitizer's run-time library, for LD_PRELOAD."""
    compiler, _ = _compiler()
    library = {"address": "libasan.so", "thread": "libtsan.so"}[sanitize]
    return str(Path(_run([compiler, f"-print-file-name={library}"]).strip()).resolve())


def main() -> None:
    """Build the runtime and print where it is."""
    parser = argparse.ArgumentParser(prog="python -m p4switch.dataplane.build", description=__doc__)
    parser.add_argument("--sanitize", action="store_true", help="with the address and undefined behaviour sanitizers")
    parser.add_argument("--thread", action="store_true", help="with the thread sanitizer")
    options = parser.parse_args()
    print(build_runtime("thread" if options.thread else "address" if options.sanitize else None))


if __name__ == "__main__":
    main()
