"""A map of byte strings by shadow paging: pages are never changed, only new ones written; the last write names the new root.

A B+ tree whose nodes fill one page. A change copies the nodes from the leaf to the root into free pages and then writes one of
two root records, whichever is older. A reader takes the younger record that is whole. Which pages are free follows from the tree.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field

from apps.structures.memory import PAGE, Corrupt, Full, Memory, NotFormatted, check_area, checksum

_HEAD = struct.Struct("<8sQ")  # magic, size of the area
_ROOT = struct.Struct("<QQI")  # version, page number of the root, checksum
_NODE = struct.Struct("<IBxH")  # checksum of the rest, is it a leaf, number of items
_MAGIC = b"rmemtre1"
_ROOTS_AT = (64, 128)  # in the first page
_LENGTHS = struct.Struct("<HH")
LARGEST_ITEM = 1000  # bytes of key and value together: three fit a node


@dataclass
class _Node:
    """``items`` are (key, value) in a leaf; (first key, page number as 8 bytes) in an inner node."""

    leaf: bool
    items: list[tuple[bytes, bytes]] = field(default_factory=list)

    def size(self) -> int:
        return _NODE.size + sum(_LENGTHS.size + len(k) + len(v) for k, v in self.items)

    def pack(self) -> bytes:
        rest = struct.pack("<BxH", self.leaf, len(self.items))
        rest += b"".join(_LENGTHS.pack(len(k), len(v)) + k + v for k, v in self.items)
        return (struct.pack("<I", checksum(rest)) + rest).ljust(PAGE, b"\0")

    @classmethod
    def unpack(cls, page: bytes, number: int) -> _Node:
        found, leaf, count = _NODE.unpack_from(page)
        node, at = cls(bool(leaf)), _NODE.size
        try:
            for _ in range(count):
                key_length, value_length = _LENGTHS.unpack_from(page, at)
                at += _LENGTHS.size
                node.items.append((page[at : at + key_length], page[at + key_length : at + key_length + value_length]))
                at += key_length + value_length
        except struct.error:
            at = 0
        if not _NODE.size <= at <= PAGE or found != checksum(page[4:at]):
            raise Corrupt(f"page {number} of the tree is damaged")
        return node


class Tree:
    """A map in ``size`` bytes from ``va`` on. One writer at a time. Keys and values are bytes, at most LARGEST_ITEM together."""

    def __init__(self, memory: Memory, va: int, size: int):
        self._memory, self._va, self._pages = memory, va, size // PAGE
        self._version, self._root = 0, 0
        self._free: list[int] = []

    @classmethod
    def create(cls, memory: Memory, va: int, size: int) -> Tree:
        """An empty map, in place of whatever was there. Raises ValueError for an area that is too small."""
        check_area(va, size, 4 * PAGE)
        tree = cls(memory, va, size)
        tree._free = list(range(tree._pages - 1, 1, -1))
        memory.write(va, bytes(_ROOTS_AT[1] + _ROOT.size))  # no root of an earlier tree may stand beside the new head
        memory.write(va + PAGE, _Node(leaf=True).pack())
        tree._root = 1
        tree._write_root()
        memory.write(va, _HEAD.pack(_MAGIC, size))
        return tree

    @classmethod
    def open(cls, memory: Memory, va: int) -> Tree:
        """The map at ``va`` after its last finished change. Raises NotFormatted, Corrupt."""
        first = memory.read(va, _ROOTS_AT[1] + _ROOT.size)
        magic, size = _HEAD.unpack_from(first)
        roots = []
        for at in _ROOTS_AT:
            version, page, found = _ROOT.unpack_from(first, at)
            if version and found == checksum(first[at : at + 16]):
                roots.append((version, page))
        if magic != _MAGIC or not roots:
            raise NotFormatted(f"no tree at {va:#x}")
        tree = cls(memory, va, size)
        tree._version, tree._root = max(roots)
        used = set(tree._reachable(tree._root))
        tree._free = [n for n in range(tree._pages - 1, 0, -1) if n not in used]
        return tree

    def _reachable(self, number: int) -> Iterator[int]:
        yield number
        node = self._read(number)
        if not node.leaf:
            for _, child in node.items:
                yield from self._reachable(int.from_bytes(child, "little"))

    # ------------------------------------------------------------------------------------------------------------ reading

    def _read(self, number: int) -> _Node:
        if not 0 < number < self._pages:
            raise Corrupt(f"the tree at {self._va:#x} refers to page {number} of {self._pages}")
        return _Node.unpack(self._memory.read(self._va + number * PAGE, PAGE), number)

    def _path(self, key: bytes) -> list[tuple[int, _Node, int]]:
        """(page number, node, position of the child taken) from the root to the leaf."""
        path, number = [], self._root
        while True:
            node = self._read(number)
            position = max(0, bisect_right([k for k, _ in node.items], key) - 1)
            path.append((number, node, position))
            if node.leaf:
                return path
            number = int.from_bytes(node.items[position][1], "little")

    def get(self, key: bytes) -> bytes | None:
        """The value of a key; None if there is none."""
        return dict(self._path(key)[-1][1].items).get(key)

    def items(self, prefix: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """(key, value) in order of the keys, those that begin with ``prefix``."""
        yield from self._items(self._root, prefix)

    def _items(self, number: int, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        node = self._read(number)
        for position, (key, value) in enumerate(node.items):
            if node.leaf:
                if key.startswith(prefix):
                    yield key, value
                continue
            following = node.items[position + 1][0] if position + 1 < len(node.items) else None
            if (following is None or following >= prefix) and (key <= prefix or key.startswith(prefix)):
                yield from self._items(int.from_bytes(value, "little"), prefix)

    def __len__(self) -> int:
        return sum(1 for _ in self.items())

    # ------------------------------------------------------------------------------------------------------------ changing

    def set(self, key: bytes, value: bytes) -> None:
        """Add or replace; when it returns the change is durable. Raises ValueError for an item that is too large, Full."""
        if len(key) + len(value) > LARGEST_ITEM:
            raise ValueError(f"{len(key)} + {len(value)} bytes; key and value together have at most {LARGEST_ITEM}")
        path = self._path(key)
        _, leaf, _ = path[-1]
        items = {**dict(leaf.items), key: value}
        self._replace(path, [_Node(True, sorted(items.items()))])

    def delete(self, key: bytes) -> bool:
        """Remove a key; whether it was there. Raises Full: a deletion, too, needs free pages for the copies."""
        path = self._path(key)
        _, leaf, _ = path[-1]
        items = [(k, v) for k, v in leaf.items if k != key]
        if len(items) == len(leaf.items):
            return False
        self._replace(path, [_Node(True, items)] if items else [])
        return True

    def _replace(self, path: list[tuple[int, _Node, int]], nodes: list[_Node]) -> None:
        """Put new nodes in the place of the path's last one, up to a new root."""
        taken: list[int] = []
        obsolete = [number for number, _, _ in path]
        children: list[tuple[bytes, bytes]] = []
        try:
            for depth in range(len(path) - 1, -1, -1):
                _, node, position = path[depth]
                if depth < len(path) - 1:
                    items = [*node.items[:position], *children, *node.items[position + 1 :]]
                    nodes = [_Node(False, items)] if items else []
                children = [self._store(part, taken) for node_ in nodes for part in _split(node_)]
            while len(children) > 1:
                children = [self._store(part, taken) for part in _split(_Node(False, children))]
            if not children:
                children = [self._store(_Node(leaf=True), taken)]
        except Full:
            self._free += reversed(taken)
            raise
        self._root = int.from_bytes(children[0][1], "little")
        self._write_root()
        self._free += obsolete

    def _store(self, node: _Node, taken: list[int]) -> tuple[bytes, bytes]:
        if not self._free:
            raise Full(f"the tree at {self._va:#x} has no free page left of {self._pages}")
        number = self._free.pop()
        taken.append(number)
        self._memory.write(self._va + number * PAGE, node.pack())
        return (node.items[0][0] if node.items else b""), number.to_bytes(8, "little")

    def _write_root(self) -> None:
        self._version += 1
        body = struct.pack("<QQ", self._version, self._root)
        self._memory.write(self._va + _ROOTS_AT[self._version % 2], body + struct.pack("<I", checksum(body)))


def _split(node: _Node) -> list[_Node]:
    """The node, or two halves of about the same size, as often as it takes to fit a page."""
    if node.size() <= PAGE:
        return [node]
    half, at = node.size() // 2, 0
    left = _Node(node.leaf)
    while left.size() < half:
        left.items.append(node.items[at])
        at += 1
    return [*_split(left), *_split(_Node(node.leaf, node.items[at:]))]
