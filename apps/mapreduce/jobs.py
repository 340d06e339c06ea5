"""The jobs: pure functions from text to intermediate data for each reducer, and from that to results.

``map`` gets a batch of whole lines and its offset in the whole text; ``reduce`` all that mappers made for one
partition. Both are lines of text, so that a part of them can be concatenated with another in any order.
"""

from __future__ import annotations

import re
import zlib
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

_WORD = re.compile(rb"[a-z_]+")
DOCUMENT = 4096  # bytes of text that a posting of the index names: the page in which a line begins


class Job(Protocol):
    """A job for a number of partitions."""

    @property
    def partitions(self) -> int:
        """How many results there are."""

    def map(self, text: bytes, offset: int) -> list[bytes]:
        """Intermediate data of a batch, one for each partition."""

    def reduce(self, parts: Iterable[bytes]) -> bytes:
        """The result of one partition."""


class JobError(ValueError):
    """No such job, or options that it does not have."""


def _partition(word: bytes, partitions: int) -> int:
    return zlib.crc32(word) % partitions


@dataclass(frozen=True)
class WordCount:
    """How often each word occurs: ``word count`` a line, sorted. Counts of a batch are combined before they are sent."""

    partitions: int

    def map(self, text: bytes, offset: int) -> list[bytes]:
        """``word count`` of this batch."""
        parts: list[list[bytes]] = [[] for _ in range(self.partitions)]
        for word, count in Counter(_WORD.findall(text.lower())).items():
            parts[_partition(word, self.partitions)].append(b"%s %d\n" % (word, count))
        return [b"".join(part) for part in parts]

    def reduce(self, parts: Iterable[bytes]) -> bytes:
        """Sums."""
        sums: Counter[bytes] = Counter()
        for part in parts:
            for line in part.splitlines():
                word, _, count = line.partition(b" ")
                sums[word] += int(count)
        return b"".join(b"%s %d\n" % item for item in sorted(sums.items()))


@dataclass(frozen=True)
class Sort:
    """The lines of the text in order; partition i has what lies between ``splitters`` i - 1 and i."""

    partitions: int
    splitters: Sequence[bytes]

    def map(self, text: bytes, offset: int) -> list[bytes]:
        """A sorted run for each partition."""
        lines = text.splitlines(keepends=True)
        lines.sort()
        cuts = [0, *(bisect_left(lines, splitter) for splitter in self.splitters), len(lines)]
        return [b"".join(lines[cuts[i] : cuts[i + 1]]) for i in range(self.partitions)]

    def reduce(self, parts: Iterable[bytes]) -> bytes:
        """All runs, merged."""
        lines = [line for part in parts for line in part.splitlines(keepends=True)]
        lines.sort()
        return b"".join(lines)


@dataclass(frozen=True)
class InvertedIndex:
    """In which pages of the text each word occurs: ``word page page ...`` a line, sorted."""

    partitions: int

    def map(self, text: bytes, offset: int) -> list[bytes]:
        """``word page page ...`` of this batch."""
        pages: dict[int, set[bytes]] = defaultdict(set)
        for line in text.lower().splitlines(keepends=True):
            pages[offset // DOCUMENT].update(_WORD.findall(line))
            offset += len(line)
        found: dict[bytes, list[bytes]] = defaultdict(list)
        for page, words in pages.items():
            text_of_page = b"%d" % page
            for word in words:
                found[word].append(text_of_page)
        parts: list[list[bytes]] = [[] for _ in range(self.partitions)]
        for word, where in found.items():
            parts[_partition(word, self.partitions)].append(word + b" " + b" ".join(where) + b"\n")
        return [b"".join(part) for part in parts]

    def reduce(self, parts: Iterable[bytes]) -> bytes:
        """Pages of each word, in order, once."""
        found: dict[bytes, set[int]] = defaultdict(set)
        for part in parts:
            for line in part.splitlines():
                word, *where = line.split(b" ")
                found[word].update(map(int, where))
        lines = []
        for word, pages in sorted(found.items()):
            lines.append(word + b" " + b" ".join(b"%d" % page for page in sorted(pages)) + b"\n")
        return b"".join(lines)


def make(description: dict[str, Any]) -> Job:
    """A job from its description: ``name``, ``partitions``, for a sort ``splitters`` (Latin-1). Raises JobError."""
    name, partitions = description.get("name"), int(description.get("partitions", 0))
    if partitions < 1:
        raise JobError(f"a job has at least one partition, not {partitions}")
    if name == "word count":
        return WordCount(partitions)
    if name == "inverted index":
        return InvertedIndex(partitions)
    if name == "sort":
        splitters = [text.encode("latin-1") for text in description.get("splitters", ())]
        if len(splitters) != partitions - 1:
            raise JobError(f"a sort of {partitions} partitions has {partitions - 1} splitters, not {len(splitters)}")
        return Sort(partitions, splitters)
    raise JobError(f"no job {name!r}; there are word count, sort, inverted index")


def describe(name: str, partitions: int, text: bytes, samples: int = 1000) -> dict[str, Any]:
    """The description of a job for this text; a sort's splitters come from lines spread evenly over it."""
    description: dict[str, Any] = {"name": name, "partitions": partitions}
    if name == "sort":
        lines = text.splitlines(keepends=True)
        sample = sorted(lines[:: max(1, len(lines) // samples)])
        cuts = [sample[i * len(sample) // partitions] for i in range(1, partitions)]
        description["splitters"] = [line.decode("latin-1") for line in cuts]
    return description


def splits(text: bytes, count: int) -> list[tuple[int, int]]:
    """``count`` ranges (start, end) of about the same length that end behind lines."""
    ends = []
    for i in range(1, count):
        newline = text.find(b"\n", i * len(text) // count)
        ends.append(len(text) if newline < 0 else newline + 1)
    starts = [0, *ends]
    return list(zip(starts, [*ends, len(text)], strict=True))
