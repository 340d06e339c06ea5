"""Fills an empty state with many items at once, page by page in order, instead of one command after the other."""

from __future__ import annotations

import random
from collections.abc import Iterator

from apps.kv.machine import Machine
from apps.kv.pages import Pages
from apps.kv.table import bucket_of, pack_page
from apps.structures.memory import PAGE, Full

VALUE_BYTES = 1000
_CHUNK = 256  # pages written by one call
_ROOM = PAGE - 8
_BLOCK = 1 << 16


def key_of(number: int) -> bytes:
    """The key of an item."""
    return b"item/%010d" % number


def items(size: int, seed: int = 1) -> Iterator[tuple[bytes, bytes]]:
    """Items of ``size`` bytes of keys and values in all, nearly; the same for the same seed."""
    block = random.Random(seed).randbytes(_BLOCK + VALUE_BYTES)
    for number in range(max(1, size // (VALUE_BYTES + len(key_of(0))))):
        at = number * 7919 % _BLOCK
        yield key_of(number), number.to_bytes(8, "big") + block[at : at + VALUE_BYTES - 8]


def preload(pages: Pages, size: int, seed: int = 1) -> Machine:
    """A state with these items in zeroed pages; the machine still has to be kept. Raises Full."""
    machine = Machine.create(pages)
    space = machine.table.space
    buckets: list[list[tuple[bytes, bytes]]] = [[] for _ in range(space.buckets)]
    for key, value in items(size, seed):
        buckets[bucket_of(key, space) - space.first].append((key, value))
        space.items += 1
    further: list[bytes] = []
    chunk: list[bytes] = []
    start = space.first
    for bucket in buckets:
        parts = _cut(bucket)
        for part in reversed(parts[1:]):
            following = space.unused + len(further) - 1 if part is not parts[-1] else 0
            further.append(pack_page(part, following))
        chunk.append(pack_page(parts[0], space.unused + len(further) - 1 if len(parts) > 1 else 0))
        bucket.clear()
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
