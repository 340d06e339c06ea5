"""Compile C: the runtime, once for each version of its sources, and programs that the compiler generated.

Shared objects go to a cache directory (``$P4SWITCH_CACHE``, else ``$XDG_CACHE_HOME/p4switch``, else ``~/.cache/p4switch``) under
the hash of everything that determines them: sources, flags, compiler version. A file appears there by an atomic rename, so
concurrent builds are harmless. ``python -m p4switch.dataplane.build [--sanitize]`` builds the runtime and prints its path.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import os
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

HERE = Path(__file__).resolve().parent
INCLUDE = HERE / "include"
RUNTIME = HERE / "runtime"

Sanitizer = Literal["address", "thread"]

_WARNINGS = ("-Wall", "-Wextra", "-Werror", "-Wshadow", "-Wstrict-prototypes", "-Wmissing-prototypes")
_COMMON = ("-std=gnu11", "-fPIC", "-shared", "-g", "-fno-plt")
_OPTIMISED = ("-O2", "-march=native", "-DNDEBUG")
_SANITIZE: dict[Sanitizer, tuple[str, ...]] = {
    "address": ("-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined", "-fno-omit-frame-pointer"),
    "thread": ("-O1", "-fsanitize=thread", "-fno-omit-frame-pointer"),
}
_TIMEOUT = 300.0  # seconds for one compiler run; a large generated program takes a few


class BuildError(RuntimeError):
    """The C compiler is missing or refused a source; the message holds what it said."""


def cache_directory() -> Path:
    """Where shared objects are kept; made if absent.

    Raises :class:`BuildError` when somebody else could put code there, for what lies there is executed: it must belong to
    this user (or the one who called sudo) and be writable by nobody else.
    """
    chosen = os.environ.get("P4SWITCH_CACHE")
    if chosen:
        path = Path(chosen)
    else:
        base = os.environ.get("XDG_CACHE_HOME")
        path = (Path(base) if base else Path.home() / ".cache") / "p4switch"
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = path.stat()
    except OSError as error:
        raise BuildError(f"cache directory {path}: {error.strerror}; P4SWITCH_CACHE names another") from error
    trusted = {str(os.geteuid()), os.environ.get("SUDO_UID", str(os.geteuid()))}
    if str(status.st_uid) not in trusted or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise BuildError(
            f"cache directory {path}: only uid {os.geteuid()} may own and write it, because it holds native code"
        )
    return path


@functools.cache
def _compiler() -> tuple[str, str]:
    """The C compiler and what identifies it (version, and the CPU that ``-march=native`` means)."""
    name = os.environ.get("CC") or "gcc"
    path = shutil.which(name)
    if path is None:
        raise BuildError(f"no C compiler: {name!r} is not in PATH (Debian: apt-get install gcc libc6-dev)")
    version = _run([path, "--version"]).splitlines()[0]
    target = _run([path, "-march=native", "-E", "-v", "-x", "c", "/dev/null"], both=True)
    flags = next((line for line in target.splitlines() if "cc1 " in line), "")
    return path, f"{version} {flags}"


def _run(command: Sequence[str], *, both: bool = False) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT, check=False)
    except subprocess.TimeoutExpired as error:
        raise BuildError(f"{command[0]} ran for more than {_TIMEOUT:.0f} s") from error
    if done.returncode != 0:
        raise BuildError(f"{' '.join(command[:3])} ... failed:\n{done.stderr.strip()}")
    return done.stdout + done.stderr if both else done.stdout


def _key(parts: Sequence[bytes | str]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "big") + data)
    return digest.hexdigest()[:32]


def _compile(name: str, inputs: Sequence[Path | str], arguments: Sequence[str], hashed: Sequence[bytes | str]) -> Path:
    """``name-<hash>.so`` in the cache, compiled if it is not there. Inputs are files, or C text passed on standard input."""
    compiler, identity = _compiler()
    target = cache_directory() / f"{name}-{_key([identity, *arguments, *hashed])}.so"
    if target.exists():
        return target
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".build-") as scratch:
        files: list[str] = []
        for number, item in enumerate(inputs):
            if isinstance(item, Path):
                files.append(str(item))
            else:
                path = Path(scratch) / f"{name}{number}.c"
                path.write_text(item)
                files.append(str(path))
        made = Path(scratch) / "out.so"
        _run([compiler, *arguments, "-o", str(made), *files])
        made.replace(target)
    return target


def build_runtime(sanitize: Sanitizer | None = None) -> Path:
    """The runtime's shared object, for the address (and undefined behaviour) or thread sanitizer if asked.

    A sanitized build must be the first library of its process: start Python with :func:`sanitizer_preload` in LD_PRELOAD.
    Raises :class:`BuildError`.
    """
    sources = sorted(RUNTIME.glob("*.c"))
    headers = sorted([*RUNTIME.glob("*.h"), *INCLUDE.glob("*.h")])
    hashed = [text for path in (*sources, *headers) for text in (path.name, path.read_bytes())]
    mode = _SANITIZE[sanitize] if sanitize else (*_OPTIMISED, "-flto")
    arguments = [*_COMMON, *_WARNINGS, *mode, "-fvisibility=hidden", "-pthread", "-ldl"]
    return _compile(f"runtime-{sanitize}" if sanitize else "runtime", sources, arguments, hashed)


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
    packets. Raises :class:`BuildError` with the compiler's message.
    """
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
