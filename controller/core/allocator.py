"""Turns a number of pages into segments: virtual blocks with physical pages behind them."""

from __future__ import annotations

from collections.abc import Mapping

from controller.core.blocks import Extents, aligned_blocks, round_up_power, take
from controller.core.placement import Policy
from controller.core.state import Segment
from protocol.wire import PAGE_SIZE


def place(
    va: int, pages: int, free: Mapping[int, Extents], policy: Policy, largest_block: int, owned: tuple[int, int, int]
) -> tuple[tuple[Segment, ...], dict[int, Extents]] | None:
    """Segments for ``pages`` pages at ``va``, and the free extents that are left; None when there is not enough.

    Blocks are as large as alignment, ``largest_block`` and the free extents allow; a block that fits nowhere is halved.
    ``owned`` is what each segment says: pid, permissions, generation.
    """
    left = dict(free)
    if sum(n for extents in left.values() for _, n in extents) < pages:
        return None
    segments: list[Segment] = []
    todo = list(reversed(list(aligned_blocks(va, pages))))
    while todo:
        block_va, size = todo.pop()
        chosen = policy(left, size) if size <= largest_block else None
        if chosen is None:
            if size == 1:
                return None
            half = size // 2
            todo.append((block_va + half * PAGE_SIZE, half))
            todo.append((block_va, half))
            continue
        element, first = chosen
        left[element] = take(left[element], first, size)
        segments.append(Segment(block_va, size, element, first * PAGE_SIZE, *owned))
    return tuple(segments), left


def align_va(va: int, pages: int) -> int:
    """The next address where an allocation of this size becomes few prefixes."""
    alignment = round_up_power(pages) * PAGE_SIZE
    return -(-va // alignment) * alignment
