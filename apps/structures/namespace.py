"""A root namespace: paths like a file system's that say where structures are, so that who takes over memory finds them."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from apps.structures.memory import Corrupt, Memory
from apps.structures.tree import Tree

_ENTRY = struct.Struct("<QQ16s")


class PathError(ValueError):
    """A path that cannot be, is not there, or is there already."""


@dataclass(frozen=True)
class Entry:
    """``size`` bytes from ``va`` on that hold a structure of this kind (a short name, such as log)."""

    va: int
    size: int
    kind: str


class Namespace:
    """Names of structures; a :class:`Tree` underneath, so every change is whole. One writer at a time."""

    def __init__(self, tree: Tree):
        self._tree = tree

    @classmethod
    def create(cls, memory: Memory, va: int, size: int) -> Namespace:
        """An empty namespace, in place of whatever was there."""
        return cls(Tree.create(memory, va, size))

    @classmethod
    def open(cls, memory: Memory, va: int) -> Namespace:
        """The namespace at ``va``. Raises NotFormatted, Corrupt."""
        return cls(Tree.open(memory, va))

    def lookup(self, path: str) -> Entry:
        """What is at a path. Raises PathError."""
        found = self._tree.get(_key(path))
        if found is None:
            raise PathError(f"nothing is called {path!r}")
        return _entry(found, path)

    def bind(self, path: str, entry: Entry, *, replace: bool = False) -> None:
        """Name a structure. Raises PathError when the name is taken, unless it may be replaced."""
        key, kind = _key(path), entry.kind.encode()
        if len(kind) > 16:
            raise PathError(f"kind {entry.kind!r} has more than 16 bytes")
        if not replace and self._tree.get(key) is not None:
            raise PathError(f"{path!r} is taken")
        self._tree.set(key, _ENTRY.pack(entry.va, entry.size, kind))

    def unbind(self, path: str) -> None:
        """Forget a name. Raises PathError."""
        if not self._tree.delete(_key(path)):
            raise PathError(f"nothing is called {path!r}")

    def list(self, directory: str = "/") -> Iterator[tuple[str, Entry]]:
        """(path, entry) of everything below a directory, in order."""
        prefix = b"/" if directory.rstrip("/") == "" else _key(directory.rstrip("/")) + b"/"
        for key, value in self._tree.items(prefix):
            yield key.decode(), _entry(value, key.decode())


def _key(path: str) -> bytes:
    parts = path.split("/")
    if parts[0] != "" or len(parts) < 2 or any(part in ("", ".", "..") for part in parts[1:]) or "\0" in path:
        raise PathError(f"{path!r} is no path; expected /name or /directory/name")
    key = path.encode()
    if len(key) > 512:
        raise PathError(f"a path of {len(key)} bytes; at most 512 are possible")
    return key


def _entry(data: bytes, path: str) -> Entry:
    try:
        va, size, kind = _ENTRY.unpack(data)
    except struct.error:
        raise Corrupt(f"the entry {path!r} is damaged") from None
    return Entry(va, size, kind.rstrip(b"\0").decode())
