"""Fills an empty state with many items at once, page by page in order, instead of one command after the other.

A large state takes long to make; as an image (a file of its pages) it is made once, for every replica that begins with it.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

from apps.kv.machine import Machine
from apps.kv.pages import LocalPages, Pages
from apps.kv.table import bucket_of, pack_page
from apps.structures.memory import PAGE, Full

VALUE_BYTES = 1000
_CHUNK = 256  # pages written by one call
_ROOM = PAGE - 8
_BLOCK = 1 << 16


def key_of(number: int) -> bytes:
    """The key of an item."""
    return b"item/%010d" % number


class _Items:
    """Item by number; the same for the same seed."""

    def __init__(self, size: int, seed: int):
        self._block = random.Random(seed).randbytes(_BLOCK + VALUE_BYTES)
        self.count = max(1, size // (VALUE_BYTES + len(key_of(0))))

    def __getitem__(self, number: int) -> tuple[bytes, bytes]:
        at = number * 7919 % _BLOCK
        return key_of(number), number.to_bytes(8, "big") + self._block[at : at + VALUE_BYTES - 8]


def items(size: int, seed: int = 1) -> Iterator[tuple[bytes, bytes]]:
    """Items of ``size`` bytes of keys and values in all, nearly; the same for the same seed."""
    made = _Items(size, seed)
    return (made[number] for number in range(made.count))


def preload(pages: Pages, size: int, seed: int = 1) -> Machine:
    """A state with these items in zeroed pages; the machine still has to be kept. Raises Full."""
    machine = Machine.create(pages)
    space = machine.table.space
    made = _Items(size, seed)
    buckets: list[list[int]] = [[] for _ in range(space.buckets)]  # numbers of items
    for number in range(made.count):
        buckets[bucket_of(key_of(number), space) - space.first].append(number)
    space.items = made.count
    further: list[bytes] = []
    chunk: list[bytes] = []
    start = space.first
    for bucket in buckets:
        parts = _cut([made[number] for number in bucket])
        for part in reversed(parts[1:]):
            following = space.unused + len(further) - 1 if part is not parts[-1] else 0
            further.append(pack_page(part, following))
        chunk.append(pack_page(parts[0], space.unused + len(further) - 1 if len(parts) > 1 else 0))
        if len(chunk) == _CHUNK:
            pages.load(start, b"".join(chunk))
            start += _CHUNK
            chunk.clear()
    if chunk:
        pages.load(start, b"".join(chunk))
    if space.unused + len(further) > space.end:
        raise Full(f"{size} bytes of items do not fit {pages.count} pages")
    for at in range(0, len(further), _CHUNK):
        pages.load(space.unused + at, b"".join(further[at : at + _CHUNK]))
    space.unused += len(further)
    return machine


def write_image(path: Path, count: int, size: int, seed: int = 1) -> None:
    """A file with the pages of a state of ``count`` pages with these items. Raises Full, OSError."""
    pages = LocalPages(count)
    machine = preload(pages, size, seed)
    machine.keep()
    with path.open("wb") as file:
        for first in range(0, machine.used_pages, _CHUNK):
            numbers = list(range(first, min(first + _CHUNK, machine.used_pages)))
            file.writelines(data for _, data in pages.read_many(numbers))


def load_image(pages: Pages, path: Path) -> Machine:
    """The state in such a file, in as many zeroed pages. Raises Full, OSError; NotFormatted when it is another one or none."""
    number = 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK * PAGE):
            if number + len(chunk) // PAGE > pages.count:
                raise Full(f"{path} has more than {pages.count} pages")
            pages.load(number, chunk)
            number += len(chunk) // PAGE
    return Machine.open(pages)


def _cut(bucket: list[tuple[bytes, bytes]]) -> list[list[tuple[bytes, bytes]]]:
    """The items by page."""
    parts: list[list[tuple[bytes, bytes]]] = [[]]
    used = 0
    for key, value in bucket:
        size = 4 + len(key) + len(value)
        if used + size > _ROOM:
            parts.append([])
            used = 0
        parts[-1].append((key, value))
        used += size
    return parts
