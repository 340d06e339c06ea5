"""The page table of a memory element: for each physical page who may do what to it, and in which generation.

This is the second enforcement (paper, section 2): it refuses alone, whatever the switch let through.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

from protocol.wire import PAGE_SHIFT, Perm, Status

FREE = 0  # owner of a page that belongs to nobody: pid 0 owns no memory


@dataclass(frozen=True)
class Page:
    """One entry, for people and tests."""

    pid: int
    va: int
    permissions: Perm
    generation: int


class PageTable:
    """``pages`` entries, indexed by physical page number. What is kept of a range is the same for all its pages, so that it is
    set at the speed of slices: instead of the virtual page, how far that is from the physical one."""

    def __init__(self, pages: int):
        self.pages = pages
        self.epoch = 0  # of the generations
        self.pid = array("H", bytes(2 * pages))
        self.distance = array("q", bytes(8 * pages))  # from the physical to the virtual page, in pages
        self.permissions = bytearray(pages)
        self.generation = array("I", bytes(4 * pages))
        self.bad: bytearray | memoryview = bytearray(pages)  # poisoned pages
        self.judged = array("I", bytes(4 * pages))  # generation of the last word about whether a page is bad

    def check(self, pid: int, va: int, pa: int, need: int, generation: int) -> Status:
        """Whether this access may happen: OK or the reason why not."""
        page = pa >> PAGE_SHIFT
        if page >= self.pages or (va ^ pa) & 0xFFF:
            return Status.UNMAPPED
        owner = self.pid[page]
        if owner == FREE:
            if not self.epoch:  # it has just (re)started: the controller has not told it anything yet
                return Status.ELEMENT_FAILED
            # A page that was taken away keeps its generation: an access from before must learn that it came late.
            return Status.STALE_GENERATION if generation < self.generation[page] else Status.UNMAPPED
        if generation < self.generation[page]:  # a block has the largest generation of its pages, no page a larger one
            return Status.STALE_GENERATION
        if owner != pid or self.distance[page] + page != va >> PAGE_SHIFT or self.permissions[page] & need != need:
            return Status.PERMISSION
        return Status.PAGE_FAILED if self.bad[page] else Status.OK

    def judge(self, pa: int, pages: int, bad: bool, generation: int) -> None:
        """Note which pages are bad, or are not any more; for each page the newest word counts."""
        first = pa >> PAGE_SHIFT
        for page in range(first, first + pages):
            if self.judged[page] <= generation:
                self.judged[page], self.bad[page] = generation, bad

    def owns(self, pid: int) -> bool:
        """Whether any page is this process's."""
        return pid in self.pid

    def in_range(self, pa: int, pages: int) -> bool:
        """Whether the element has all these pages."""
        return pages > 0 and pa & 0xFFF == 0 and (pa >> PAGE_SHIFT) + pages <= self.pages

    def taken(self, first: int, pages: int, generation: int) -> bool:
        """Whether all these pages (the first by its number) are nobody's, and since this very generation."""
        end = first + pages
        return not any(self.pid[first:end]) and all(g == generation for g in self.generation[first:end])

    def adopt(self, epoch: int) -> bool:
        """Accept generations of this epoch; False when it is older than one seen before. A new epoch means that the controller
        lost its store and counts generations anew: it knows of no owner, so there is none."""
        if epoch > self.epoch:
            self.clear(0, self.pages, 0)
            self.epoch = epoch
        return epoch == self.epoch

    def outdated(self, pa: int, pages: int, generation: int) -> Iterator[tuple[int, int]]:
        """The parts (pa, pages) of a range for which a change with this generation is news. A change may be overtaken by a newer
        one of some of its pages: page by page the newest wins, so that order and repetitions do not matter."""
        first = pa >> PAGE_SHIFT
        held = self.generation[first : first + pages]
        alike = held.tobytes() == array("I", held[:1]).tobytes() * pages  # as a rule: of a large range at once
        if (held[0] if alike else max(held)) < generation:
            yield pa, pages
            return
        at = 0
        for is_news, run in groupby(held, key=lambda g: g < generation):
            count = sum(1 for _ in run)
            if is_news:
                yield (first + at) << PAGE_SHIFT, count
            at += count

    def set(self, pa: int, pages: int, va: int, pid: int, permissions: int, generation: int) -> None:
        """Give the pages to a process, at consecutive virtual addresses."""
        first = pa >> PAGE_SHIFT
        end = first + pages
        self.pid[first:end] = array("H", [pid]) * pages
        self.distance[first:end] = array("q", [(va >> PAGE_SHIFT) - first]) * pages
        self.permissions[first:end] = bytes([permissions]) * pages
        self.generation[first:end] = array("I", [generation]) * pages

    def clear(self, pa: int, pages: int, generation: int) -> None:
        """Take the pages from their owner."""
        self.set(pa, pages, 0, FREE, 0, generation)

    def entry(self, pa: int) -> Page:
        """The entry of one page."""
        page = pa >> PAGE_SHIFT
        va = (self.distance[page] + page) << PAGE_SHIFT if self.pid[page] != FREE else 0
        return Page(self.pid[page], va, Perm(self.permissions[page]), self.generation[page])


class TrustingTable(PageTable):
    """Refuses no access to its pages: what the switch refuses alone is seen with it. For tests."""

    def check(self, pid: int, va: int, pa: int, need: int, generation: int) -> Status:
        """Whether there is such a page."""
        return Status.OK if pa >> PAGE_SHIFT < self.pages else Status.UNMAPPED
