"""Who owns which pages of an allocation: segments, and overrides on top of them. Pure functions."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator

from controller.core.blocks import aligned_blocks
from controller.core.state import Allocation, Operation, Override, OverrideKind
from protocol.wire import PAGE_SIZE

GONE = (OverrideKind.FREED,)  # pages that may belong to another allocation by now
NOT_KEPT = (OverrideKind.FREED, OverrideKind.FREEING, OverrideKind.LOST)  # pages without contents that anybody wants


def runs(allocation: Allocation, va: int = 0, pages: int = 1 << 52) -> Iterator[Override]:
    """A range of an allocation, or all of it, as pieces that are alike and physically contiguous, in the order of addresses.

    What no override covers is the owner's, as the allocation has it.
    """
    end = va + pages * PAGE_SIZE
    overrides = iter(allocation.overrides)
    override = next(overrides, None)
    for s in allocation.segments:
        at, stop = s.va, s.va + s.pages * PAGE_SIZE
        while at < stop:
            if override is not None and override.va == at:
                piece, override = override, next(overrides, None)
            else:
                limit = stop if override is None else min(stop, override.va)
                if limit <= va or end <= at:  # not asked for
                    at = limit
                    continue
                owned = (OverrideKind.OWNED, allocation.pid, allocation.permissions, allocation.generation)
                piece = Override(at, (limit - at) // PAGE_SIZE, s.element, s.pa + at - s.va, *owned)
            at = piece.end
            if piece.va < end and va < piece.end:
                yield cut(piece, max(va, piece.va), min(end, piece.end))


def cut(piece: Override, start: int, end: int) -> Override:
    """The part of a piece from ``start`` to ``end``."""
    if (start, end) == (piece.va, piece.end):
        return piece
    return dataclasses.replace(piece, va=start, pages=(end - start) // PAGE_SIZE, pa=piece.pa + start - piece.va)


def blocks(piece: Override) -> Iterator[Override]:
    """A piece as aligned powers of two: one LPM entry each."""
    for va, pages in aligned_blocks(piece.va, piece.pages):
        yield cut(piece, va, va + pages * PAGE_SIZE)


def overridden(allocation: Allocation, changed: Iterable[Override]) -> Allocation:
    """The allocation with these pieces as they are now, instead of what they were."""
    new = sorted(changed, key=lambda o: o.va)
    kept: list[Override] = []
    for old in allocation.overrides:
        at = old.va
        for piece in new:
            if piece.va < old.end and at < piece.end:
                if at < piece.va:
                    kept += blocks(cut(old, at, piece.va))
                at = piece.end
        if at < old.end:
            kept += [old] if at == old.va else blocks(cut(old, at, old.end))
    both = [*kept, *(block for piece in new for block in blocks(piece))]
    return dataclasses.replace(allocation, overrides=tuple(sorted(both, key=lambda o: o.va)))


def changed(piece: Override, kind: OverrideKind, generation: int) -> Override:
    """The piece in another condition, with the generation of the operation that brings it there."""
    return dataclasses.replace(piece, kind=kind, generation=generation)


def arrived(piece: Override, operation: Operation) -> Override:
    """A piece that was on its way to an owner, as that owner's: without its contents if its element has lost them meanwhile."""
    kind = OverrideKind.LOST if piece.element in operation.emptied else OverrideKind.OWNED
    return dataclasses.replace(piece, kind=kind, pid=operation.pid, permissions=operation.permissions)


def joined(pieces: Iterable[Override]) -> list[Override]:
    """Neighbours in both address spaces that are alike, as one: fewer messages."""
    result: list[Override] = []
    for piece in pieces:
        last = result[-1] if result else None
        if last is not None:
            whole = dataclasses.replace(last, pages=last.pages + piece.pages)
            if cut(whole, piece.va, piece.end) == piece and last.end == piece.va:
                result[-1] = whole
                continue
        result.append(piece)
    return result


def without(allocation: Allocation, *kinds: OverrideKind) -> list[Override]:
    """The pieces that are of none of these kinds."""
    return [piece for piece in runs(allocation) if piece.kind not in kinds]
