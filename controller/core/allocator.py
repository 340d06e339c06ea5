"""Turns a number of pages into segments: virtual blocks with physical pages behind them."""

from __future__ import annotations

from collections.abc import Mapping

from controller.core.blocks import Extents, aligned_blocks, round_up_power, take
from controller.core.placement import Policy, Tiers
from controller.core.state import Segment
from protocol.wire import PAGE_SIZE


def place(
    va: int,
    pages: int,
    free: Mapping[int, Extents],
    policy: Policy,
    largest_block: int,
    owned: tuple[int, int, int],
    tiers: Tiers | None = None,
) -> tuple[tuple[Segment, ...], dict[int, Extents]] | None:
    """Segments for ``pages`` pages at ``va``, and the free extents that are left; None when there is not enough.

    Blocks are as large as alignment, ``largest_block`` and the free extents allow; a block that fits nowhere is halved.
    ``owned`` is what each segment says: pid, permissions, generation. ``tiers`` are the elements that may be used, the nearest
    first (None: all, alike). Of these no more are used than have room for all of it; among them each block is in the nearest
    where it fits whole.
    """
    wanted = [list(free)] if tiers is None else tiers
    enough, room = [], 0
    for tier in wanted:
        enough.append(tier)
        room += sum(n for element in tier for _, n in free[element])
        if room >= pages:
            break
    else:
        return None
    left = dict(free)
    segments: list[Segment] = []
    todo = list(reversed(list(aligned_blocks(va, pages))))
    while todo:
        block_va, size = todo.pop()
        chosen = _choose(left, enough, policy, size) if size <= largest_block else None
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


def _choose(free: Mapping[int, Extents], tiers: Tiers, policy: Policy, pages: int) -> tuple[int, int] | None:
    """Where a block goes: the nearest tier in which it fits whole."""
    for tier in tiers:
        chosen = policy({element: free[element] for element in tier}, pages)
        if chosen is not None:
            return chosen
    return None


def align_va(va: int, pages: int) -> int:
    """The next address where an allocation of this size becomes few prefixes."""
    alignment = round_up_power(pages) * PAGE_SIZE
    return -(-va // alignment) * alignment
