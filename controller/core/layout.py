"""Who owns which pages of an allocation: segments, and overrides on top of them. Pure functions.

Overrides are in normal form: sorted, not overlapping, blocks that are powers of two and aligned, and as few as there can be.
Neighbours that are alike are joined; what is as its segment says is none; one as large as its segment becomes what the
segment says. A change looks only at the overrides that it concerns and at their neighbours.

What is joined has one generation, the largest of its pages'. Elements accept that: generations only grow, and a page is reached
with the one of its last change or a later one (``hosts.memory.page_table``).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, TypeVar

from immutables import Map

from controller.core.blocks import aligned_blocks
from controller.core.records import replaced
from controller.core.state import Allocation, Operation, Override, OverrideKind, Segment
from protocol.wire import PAGE_SIZE

GONE = (OverrideKind.FREED,)  # pages that may belong to another allocation by now
NOT_KEPT = (OverrideKind.FREED, OverrideKind.FREEING, OverrideKind.LOST)  # pages without contents that anybody wants
_UNDER_WAY = (OverrideKind.MOVING, OverrideKind.MIGRATING, OverrideKind.FREEING)  # their generation has a meaning
_Block = TypeVar("_Block", Segment, Override)


def _va(block: Segment | Override) -> int:
    return block.va


def _end(block: Segment | Override) -> int:
    return block.end


def _window(blocks: Sequence[_Block], start: int, end: int) -> tuple[int, int]:
    """Where the blocks that a range touches begin and end in this sorted sequence."""
    return bisect_right(blocks, start, key=_end), bisect_left(blocks, end, key=_va)


def segments_in(allocation: Allocation, start: int, end: int) -> tuple[Segment, ...]:
    """The segments that a range of addresses touches."""
    low, high = _window(allocation.segments, start, end)
    return allocation.segments[low:high]


def overrides_in(allocation: Allocation, start: int, end: int) -> tuple[Override, ...]:
    """The overrides that a range of addresses touches."""
    low, high = _window(allocation.overrides, start, end)
    return allocation.overrides[low:high]


def base(segment: Segment) -> Override:
    """What holds for all of a segment that no override covers, as a piece."""
    s = segment
    return Override(s.va, s.pages, s.element, s.pa, OverrideKind.OWNED, s.pid, s.permissions, s.generation)


def runs(allocation: Allocation, va: int = 0, pages: int = 1 << 52) -> Iterator[Override]:
    """A range of an allocation, or all of it, as pieces that are alike and physically contiguous, in the order of addresses.

    What no override covers is the segment's owner's.
    """
    va, end = max(va, allocation.va), min(va + pages * PAGE_SIZE, allocation.end)
    low, high = _window(allocation.overrides, va, end)
    for s in segments_in(allocation, va, end):
        at, stop = max(s.va, va), min(s.end, end)
        while at < stop:
            override = allocation.overrides[low] if low < high else None
            if override is not None and override.va <= at:
                piece = override
                low += 1
            else:
                limit = stop if override is None else min(stop, override.va)
                piece = cut(base(s), at, limit)
            yield cut(piece, max(va, piece.va), min(end, piece.end))
            at = piece.end


def cut(piece: Override, start: int, end: int) -> Override:
    """The part of a piece from ``start`` to ``end``."""
    if (start, end) == (piece.va, piece.end):
        return piece
    return replaced(piece, va=start, pages=(end - start) // PAGE_SIZE, pa=piece.pa + start - piece.va)


def blocks(piece: Override) -> Iterator[Override]:
    """A piece as aligned powers of two: one LPM entry each."""
    for va, pages in aligned_blocks(piece.va, piece.pages):
        yield cut(piece, va, va + pages * PAGE_SIZE)


class Change(NamedTuple):
    """An allocation as it is now, and the range of addresses outside of which its overrides are as before."""

    allocation: Allocation
    start: int
    end: int


def overridden(allocation: Allocation, changed: Iterable[Override]) -> Change:
    """The allocation with these pieces as they are now, instead of what they were. None reaches over a segment's end."""
    new = sorted(changed, key=_va)
    segments, overrides, granted = list(allocation.segments), list(allocation.overrides), allocation.granted
    start, end = allocation.end, allocation.va
    while new:
        number = bisect_right(segments, new[0].va, key=_va) - 1
        segment = segments[number]
        count = bisect_left(new, segment.end, key=_va)
        low, high = _window(overrides, new[0].va, new[count - 1].end)
        pieces = [*_kept(overrides[low:high], new[:count]), *(_plain(segment, p) for p in new[:count])]
        while low and segment.va < overrides[low - 1].end and _touch(overrides[low - 1], pieces):
            low -= 1
            pieces.append(overrides[low])
        while high < len(overrides) and overrides[high].va < segment.end and _touch(overrides[high], pieces):
            pieces.append(overrides[high])
            high += 1
        start = min(start, new[0].va, *(o.va for o in overrides[low:high]))
        end = max(end, new[count - 1].end, *(o.end for o in overrides[low:high]))
        segments[number], normal = _normal(segment, sorted(pieces, key=_va))
        granted += _granted(normal, segment) - _granted(overrides[low:high], segment)
        overrides[low:high] = normal
        if any(_place(o) != _place(segment) for o in normal):  # perhaps these were the last to move
            low, high = _window(overrides, segment.va, segment.end)
            moved = _elsewhere(segments[number], overrides[low:high])
            if moved is not None:
                segments[number], normal = _normal(moved, [_plain(moved, o) for o in overrides[low:high]])
                granted += _granted(normal, segment) - _granted(overrides[low:high], segment)
                overrides[low:high] = normal
                start, end = min(start, segment.va), max(end, segment.end)
        del new[:count]
    now = replaced(allocation, segments=tuple(segments), overrides=tuple(overrides), granted=granted)
    return Change(now, start, end)


def _kept(old: Iterable[Override], new: Sequence[Override]) -> Iterator[Override]:
    """What is left of old pieces beside the new ones."""
    for piece in old:
        at = piece.va
        for other in new[bisect_right(new, piece.va, key=_end) : bisect_left(new, piece.end, key=_va)]:
            if at < other.va:
                yield cut(piece, at, other.va)
            at = other.end
        if at < piece.end:
            yield cut(piece, at, piece.end)


def _plain(segment: Segment, piece: Override) -> Override:
    """The piece without what means nothing: what is freed is nobody's and nowhere, all of it is alike."""
    if piece.kind is not OverrideKind.FREED:
        return piece
    freed = cut(base(segment), piece.va, piece.end)
    return replaced(freed, kind=OverrideKind.FREED, permissions=0, generation=0)


def _touch(neighbour: Override, pieces: Iterable[Override]) -> bool:
    """Whether an override is next to one of the pieces and like it."""
    return any(_joins(neighbour, p) or _joins(p, neighbour) for p in pieces)


def _joins(left: Override, right: Override) -> bool:
    """Whether two pieces are neighbours that one block could stand for."""
    if left.end != right.va or left.kind is not right.kind:
        return False
    if left.kind in _UNDER_WAY and left.generation != right.generation:
        return False
    follows = (left.pid, left.permissions, left.element, left.pa + right.va - left.va)
    return follows == (right.pid, right.permissions, right.element, right.pa)


def _normal(segment: Segment, pieces: Iterable[Override]) -> tuple[Segment, list[Override]]:
    """Sorted pieces of a segment in normal form, and what the segment itself says from now on."""
    whole: list[Override] = []
    generation = segment.generation
    for piece in pieces:
        as_segment = piece.kind is OverrideKind.OWNED and _place(piece) == _place(segment)
        if as_segment and (piece.pid, piece.permissions) == (segment.pid, segment.permissions):
            generation = max(generation, piece.generation)
        elif whole and _joins(whole[-1], piece):
            last, newest = whole[-1], max(whole[-1].generation, piece.generation)
            whole[-1] = replaced(last, pages=last.pages + piece.pages, generation=newest)
        else:
            whole.append(piece)
    segment = replaced(segment, generation=generation)
    if [(p.pages, p.kind) for p in whole] == [(segment.pages, OverrideKind.OWNED)]:
        p = whole[0]
        return Segment(p.va, p.pages, p.element, p.pa, p.pid, p.permissions, p.generation), []
    return segment, [block for piece in whole for block in blocks(piece)]


def _place(block: Segment | Override) -> tuple[int, int]:
    """What translates its addresses."""
    return block.element, block.pa - block.va


def _elsewhere(segment: Segment, overrides: Sequence[Override]) -> Segment | None:
    """The segment at another place, if all of it is there by now, whoever owns it."""
    places = {_place(o) for o in overrides if o.kind is not OverrideKind.FREED}
    if len(places) != 1 or sum(o.pages for o in overrides) != segment.pages:
        return None
    ((element, offset),) = places
    return replaced(segment, element=element, pa=segment.va + offset)


def _granted(overrides: Iterable[Override], segment: Segment) -> int:
    """How many of these need an entry for their owner besides the one that keeps the segment's owner out."""
    return sum(o.pid != segment.pid for o in overrides)


def changed(piece: Override, kind: OverrideKind, generation: int) -> Override:
    """The piece in another condition, in which nobody has access, with the generation of the operation that brings it there."""
    return replaced(piece, kind=kind, permissions=0, generation=generation)


def arrived(piece: Override, operation: Operation) -> Override:
    """A piece that was on its way to an owner, as that owner's: without its contents if its element has lost them meanwhile."""
    owned = replaced(piece, kind=OverrideKind.OWNED)
    return changed(owned, OverrideKind.LOST, piece.generation) if piece.element in operation.emptied else owned


def joined(pieces: Iterable[Override]) -> list[Override]:
    """Neighbours in both address spaces that are the same, as one: fewer messages."""
    result: list[Override] = []
    for piece in pieces:
        if result and _joins(result[-1], piece) and result[-1].generation == piece.generation:
            result[-1] = replaced(result[-1], pages=result[-1].pages + piece.pages)
        else:
            result.append(piece)
    return result


def without(allocation: Allocation, *kinds: OverrideKind) -> list[Override]:
    """The pieces that are of none of these kinds."""
    return [piece for piece in runs(allocation) if piece.kind not in kinds]


def holders(allocation: Allocation) -> set[int]:
    """The processes that own some of it, or owned it last."""
    return {s.pid for s in allocation.segments} | {o.pid for o in allocation.overrides}


def rules(allocation: Allocation) -> int:
    """Entries of the larger of `translation` and `protection` that an allocation may need."""
    return len(allocation.segments) + len(allocation.overrides) + allocation.granted


def assembled(allocations: Mapping[int, Allocation], overrides: Iterable[Override]) -> Map[int, Allocation]:
    """Allocations as they are stored, with the overrides that are stored apart."""
    starts = sorted(allocations)
    found: dict[int, list[Override]] = {}
    for o in sorted(overrides, key=_va):
        found.setdefault(starts[bisect_right(starts, o.va) - 1], []).append(o)
    return Map({va: replaced(a, overrides=tuple(found.get(va, ()))) for va, a in allocations.items()})
