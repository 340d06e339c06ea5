"""The cache of what was compiled: files that are whole, and that nobody else can have put there.

What lies here is executed, so the directory is not trusted blindly. It and its files must belong to this user (or the one who
called sudo) and be writable by nobody else, and nobody else may be able to replace the directory. Each file ends with the digest
of what comes before it: a file that was cut short or damaged counts as absent and is made again. Files appear by an atomic
rename, so any number of processes may use the cache at once. Names hold a digest of everything that determines the content
(:func:`key`), so nothing ever goes stale; what was not used for a month, and the oldest of too many,
is removed when something is added.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

_SEAL = b"p4switch"  # before the digest at the end of a file; ELF files may have anything there
_TRAILER = len(_SEAL) + hashlib.sha256().digest_size
_UNUSED_SECONDS = 30 * 86400.0
_MOST_FILES = 2000  # clients send programs, too
_ABANDONED_SECONDS = 3600.0  # a scratch directory whose process was killed
_SCRATCH = ".build-"


class CacheError(RuntimeError):
    """The cache directory cannot be used; the message says why, and what would help."""


def directory() -> Path:
    """``$P4SWITCH_CACHE``, else ``$XDG_CACHE_HOME/p4switch``, else ``~/.cache/p4switch``; made if absent.

    Raises :class:`CacheError` when somebody else could put code there.
    """
    chosen = os.environ.get("P4SWITCH_CACHE")
    if chosen:
        path = Path(chosen)
    else:
        base = os.environ.get("XDG_CACHE_HOME")
        path = (Path(base) if base else Path.home() / ".cache") / "p4switch"
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        real = path.resolve(strict=True)
        status = real.stat()
        if not stat.S_ISDIR(status.st_mode) or not _ours(status):
            raise CacheError(
                f"cache directory {path}: only uid {os.geteuid()} may own and write it, because it holds native code"
            )
        for parent in real.parents:
            mode = parent.stat().st_mode
            if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
                raise CacheError(
                    f"cache directory {path}: everybody may write {parent}, and so replace it; P4SWITCH_CACHE names another"
                )
    except OSError as error:
        raise CacheError(f"cache directory {path}: {error.strerror}; P4SWITCH_CACHE names another") from error
    return path


def _ours(status: os.stat_result) -> bool:
    """Nobody else could have written it."""
    trusted = {str(os.geteuid()), os.environ.get("SUDO_UID", str(os.geteuid()))}
    return str(status.st_uid) in trusted and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def key(parts: Sequence[bytes | str]) -> str:
    """A digest of all parts and of where each ends, for the name of a file."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "big") + data)
    return digest.hexdigest()[:32]


def read(name: str) -> bytes | None:
    """The content of a file; None when it is absent, damaged, or may be somebody else's. Raises :class:`CacheError`."""
    path = directory() / name
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode) or not _ours(status):
                return None
            data = file.read()
    except OSError:
        return None
    content = data[:-_TRAILER]
    if data[-_TRAILER:] != _sealed(content):
        return None
    with contextlib.suppress(OSError):
        os.utime(path)  # used
    return content


def find(name: str) -> Path | None:
    """Where a file is that :func:`read` would return."""
    return None if read(name) is None else directory() / name


def _sealed(content: bytes) -> bytes:
    return _SEAL + hashlib.sha256(content).digest()


def write(name: str, content: bytes) -> Path:
    """Put a file into the cache; returns where it is. Raises :class:`CacheError`."""
    place = directory()
    path = place / name
    try:
        with tempfile.NamedTemporaryFile(dir=place, prefix=_SCRATCH, delete=False) as file:
            file.write(content + _sealed(content))
            os.fchmod(file.fileno(), 0o700)
        Path(file.name).replace(path)
    except OSError as error:
        raise CacheError(f"cache directory {place}: {error.strerror}; P4SWITCH_CACHE names another") from error
    _remove_unused(place)
    return path


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """A directory beside the cache's files to build in."""
    with tempfile.TemporaryDirectory(dir=directory(), prefix=_SCRATCH) as place:
        yield Path(place)


def _remove_unused(place: Path) -> None:
    """A program that has loaded a file keeps it, so removing one is harmless."""
    now = time.time()
    with contextlib.suppress(OSError):
        entries = sorted(os.scandir(place), key=_last_used, reverse=True)
        for number, entry in enumerate(entries):
            temporary = entry.name.startswith(_SCRATCH)
            age = now - _last_used(entry)
            if (age < _ABANDONED_SECONDS) if temporary else (age < _UNUSED_SECONDS and number < _MOST_FILES):
                continue
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path, ignore_errors=True)
            else:
                with contextlib.suppress(OSError):
                    Path(entry.path).unlink()


def _last_used(entry: os.DirEntry[str]) -> float:
    with contextlib.suppress(OSError):
        return entry.stat(follow_symlinks=False).st_mtime
    return time.time()
