"""Ranges of pages: power-of-two blocks (LPM prefixes) and lists of free extents."""

from __future__ import annotations

from collections.abc import Iterator

from protocol.wire import PAGE_SIZE, VA_BITS

Extents = tuple[tuple[int, int], ...]  # (first page, pages), sorted, not touching


def aligned_blocks(va: int, pages: int) -> Iterator[tuple[int, int]]:
    """A range cut into the fewest blocks that are powers of two and aligned to their size: (va, pages)."""
    page = va // PAGE_SIZE
    while pages:
        size = 1 << (pages.bit_length() - 1)
        if page:
            size = min(size, page & -page)
        yield page * PAGE_SIZE, size
        page += size
        pages -= size


def prefix_length(pages: int) -> int:
    """LPM prefix length of a block of this many pages (a power of two)."""
    return VA_BITS - (pages * PAGE_SIZE).bit_length() + 1


def round_up_power(pages: int) -> int:
    """The smallest power of two that is no smaller."""
    return 1 << (pages - 1).bit_length()


def take(extents: Extents, first: int, pages: int) -> Extents:
    """Free extents without this range, which must lie inside one of them."""
    result: list[tuple[int, int]] = []
    for start, count in extents:
        if start <= first and first + pages <= start + count:
            if first > start:
                result.append((start, first - start))
            if first + pages < start + count:
                result.append((first + pages, start + count - first - pages))
        else:
            result.append((start, count))
    return tuple(result)


def give_back(extents: Extents, first: int, pages: int) -> Extents:
    """Free extents with this range, joined with its neighbours. Raises ValueError when some of it is free already."""
    result: list[tuple[int, int]] = []
    for start, count in sorted((*extents, (first, pages))):
        if result and start < result[-1][0] + result[-1][1]:
            raise ValueError(f"pages {first} to {first + pages - 1} are free already")
        if result and start == result[-1][0] + result[-1][1]:
            result[-1] = (result[-1][0], result[-1][1] + count)
        else:
            result.append((start, count))
    return tuple(result)


def cut_out(extents: Extents, first: int, pages: int) -> Extents:
    """Extents without whatever of this range is in them."""
    end = first + pages
    result: list[tuple[int, int]] = []
    for start, count in extents:
        before, behind = min(start + count, first), max(start, end)
        if start < before:
            result.append((start, before - start))
        if behind < start + count:
            result.append((behind, start + count - behind))
    return tuple(result)
