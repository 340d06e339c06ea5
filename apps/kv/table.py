"""A hash table in pages: each bucket is a page and a chain of further ones when it is full. No change touches more than a few."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from apps.kv.pages import Pages
from apps.structures.memory import PAGE, Corrupt, Full

_HEAD = struct.Struct("<IHH")  # page that continues the bucket (0: none), number of items, bytes used with this head
_ITEM = struct.Struct("<HH")  # bytes of key and value
LARGEST_ITEM = PAGE - _HEAD.size - _ITEM.size  # bytes of key and value together
OVERFLOW_SHARE = 4  # one page of so many continues buckets


@dataclass
class Space:
    """Where the table lies, and which of its pages are in use: part of the state, kept by its owner."""

    first: int  # the first bucket's page
    buckets: int
    end: int  # behind the last page
    unused: int  # no page from here on was ever used
    freed: int = 0  # the last page that was given back, which names the one before; 0: none
    items: int = 0

    @classmethod
    def over(cls, first: int, end: int) -> Space:
        """An empty table in zeroed pages. Raises ValueError when there are too few."""
        if end - first < OVERFLOW_SHARE:
            raise ValueError(f"a table of {end - first} pages; at least {OVERFLOW_SHARE} are needed")
        buckets = (end - first) * (OVERFLOW_SHARE - 1) // OVERFLOW_SHARE
        return cls(first, buckets, end, first + buckets)


class Table:
    """A map of byte strings; key and value have at most LARGEST_ITEM bytes together."""

    def __init__(self, pages: Pages, space: Space):
        self._pages, self.space = pages, space

    def _chain(self, key: bytes) -> Iterator[int]:
        """The pages of the key's bucket."""
        number = bucket_of(key, self.space)
        for _ in range(self.space.end):
            yield number
            number = _HEAD.unpack_from(self._pages.read(number))[0]
            if not number:
                return
            if not self.space.first + self.space.buckets <= number < self.space.unused:
                break
        raise Corrupt(f"a bucket of the table is continued by page {number}")

    def get(self, key: bytes) -> bytes | None:
        """The value of a key; None if there is none."""
        for number in self._chain(key):
            page = self._pages.read(number)
            found = _find(page, key)
            if found is not None:
                at, end = found
                return bytes(page[at + _ITEM.size + len(key) : end])
        return None

    def set(self, key: bytes, value: bytes) -> None:
        """Add or replace. Raises Full, and then nothing is changed."""
        need = _ITEM.size + len(key) + len(value)
        if need > PAGE - _HEAD.size:
            raise ValueError(f"{len(key)} + {len(value)} bytes; key and value together have at most {LARGEST_ITEM}")
        old: tuple[int, int, int] | None = None
        room = None
        number = 0
        for number in self._chain(key):
            page = self._pages.read(number)
            used = _HEAD.unpack_from(page)[2] or _HEAD.size
            found = _find(page, key) if old is None else None
            if found is not None:
                old = (number, *found)
                used -= found[1] - found[0]
            if room is None and used + need <= PAGE:
                room = number
        if room is None:
            room = self._take_page()
            _HEAD.pack_into(self._pages.change(room), 0, 0, 0, _HEAD.size)
            page = self._pages.change(number)
            _HEAD.pack_into(page, 0, room, *_HEAD.unpack_from(page)[1:])
        if old is not None:
            self._cut(*old)
        page = self._pages.change(room)
        following, count, used = _HEAD.unpack_from(page)
        used = used or _HEAD.size
        page[used : used + need] = _ITEM.pack(len(key), len(value)) + key + value
        _HEAD.pack_into(page, 0, following, count + 1, used + need)
        self.space.items += old is None

    def delete(self, key: bytes) -> bool:
        """Remove a key; whether it was there."""
        before = 0
        for number in self._chain(key):
            found = _find(self._pages.read(number), key)
            if found is not None:
                self._cut(number, *found)
                self.space.items -= 1
                if before and not _HEAD.unpack_from(self._pages.read(number))[1]:
                    self._give_page(before, number)
                return True
            before = number
        return False

    def _cut(self, number: int, at: int, end: int) -> None:
        page = self._pages.change(number)
        following, count, used = _HEAD.unpack_from(page)
        page[at : used - (end - at)] = bytes(page[end:used])
        page[used - (end - at) : used] = bytes(end - at)
        _HEAD.pack_into(page, 0, following, count - 1, used - (end - at))

    def _take_page(self) -> int:
        number = self.space.freed
        if number:
            self.space.freed = _HEAD.unpack_from(self._pages.read(number))[0]
        elif self.space.unused < self.space.end:
            number = self.space.unused
            self.space.unused += 1
        else:
            raise Full(f"the table's {self.space.end - self.space.first} pages are used up")
        return number

    def _give_page(self, before: int, number: int) -> None:
        """Take an empty page out of its chain."""
        following = _HEAD.unpack_from(self._pages.read(number))[0]
        page = self._pages.change(before)
        _HEAD.pack_into(page, 0, following, *_HEAD.unpack_from(page)[1:])
        _HEAD.pack_into(self._pages.change(number), 0, self.space.freed, 0, 0)
        self.space.freed = number

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """All keys with their values, in no order. Reads the whole table."""
        for bucket in range(self.space.first, self.space.first + self.space.buckets):
            number = bucket
            while True:
                page = self._pages.read(number)
                for at, end in _items(page):
                    key_length, _ = _ITEM.unpack_from(page, at)
                    yield (
                        bytes(page[at + _ITEM.size : at + _ITEM.size + key_length]),
                        bytes(page[at + _ITEM.size + key_length : end]),
                    )
                number = _HEAD.unpack_from(page)[0]
                if not number:
                    break


def bucket_of(key: bytes, space: Space) -> int:
    """The first page of the key's bucket."""
    return space.first + zlib.crc32(key) % space.buckets


def pack_page(items: list[tuple[bytes, bytes]], following: int) -> bytes:
    """A page with these items, which must fit."""
    body = b"".join(_ITEM.pack(len(k), len(v)) + k + v for k, v in items)
    used = _HEAD.size + len(body)
    return (_HEAD.pack(following, len(items), used) + body).ljust(PAGE, b"\0")


def _items(page: bytes | bytearray | memoryview) -> Iterator[tuple[int, int]]:
    """Where items begin and end."""
    _, count, _ = _HEAD.unpack_from(page)
    at = _HEAD.size
    for _ in range(count):
        key_length, value_length = _ITEM.unpack_from(page, at)
        end = at + _ITEM.size + key_length + value_length
        if end > PAGE:
            raise Corrupt("an item of the table reaches beyond its page")
        yield at, end
        at = end


def _find(page: bytes | bytearray | memoryview, key: bytes) -> tuple[int, int] | None:
    """Where the key's item begins and ends."""
    length = len(key)
    for at, end in _items(page):
        if _ITEM.unpack_from(page, at)[0] == length and page[at + _ITEM.size : at + _ITEM.size + length] == key:
            return at, end
    return None
