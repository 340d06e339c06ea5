"""Remote memory whose owner can be robbed at any request: of the write that is under way, any of its pages may have landed."""

from __future__ import annotations

import random
import zlib
from collections.abc import Sequence

PAGE = 4096


class Stolen(Exception):
    """The writer's pages are somebody else's from here on."""


class FakeMemory:
    def __init__(self, pages: int, base: int = 5 << 48):
        self.base = base
        self.bytes = bytearray(pages * PAGE)
        self.requests_left: int | None = None
        self.rng = random.Random(0)

    def _pieces(self, va: int, length: int) -> list[tuple[int, int]]:
        pieces = []
        while length:
            size = min(PAGE - va % PAGE, length)
            pieces.append((va - self.base, size))
            va, length = va + size, length - size
        assert all(at >= 0 and at + size <= len(self.bytes) for at, size in pieces), "outside of the area"
        return pieces

    def read(self, va: int, length: int) -> bytes:
        return b"".join(bytes(self.bytes[at : at + size]) for at, size in self._pieces(va, length))

    def checksums(self, va: int, length: int) -> list[int]:
        return [zlib.crc32(self.bytes[at : at + size]) for at, size in self._pieces(va, length)]

    def write(self, va: int, data: bytes) -> None:
        self.write_all([(va, data)])

    def write_all(self, writes: Sequence[tuple[int, bytes]]) -> None:
        pieces = []
        for va, data in writes:
            done = 0
            for at, size in self._pieces(va, len(data)):
                pieces.append((at, data[done : done + size]))
                done += size
        robbed = self.requests_left is not None and self.requests_left < len(pieces)
        if robbed:
            pieces = [piece for piece in pieces if self.rng.random() < 0.5]
        elif self.requests_left is not None:
            self.requests_left -= len(pieces)
        for at, part in pieces:
            self.bytes[at : at + len(part)] = part
        if robbed:
            raise Stolen

    def rob_after(self, requests: int, seed: int) -> None:
        self.requests_left, self.rng = requests, random.Random(seed)

    def give_to_the_next(self) -> None:
        self.requests_left = None
