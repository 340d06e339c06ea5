"""Where memory comes from: placement policies, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from controller.core.blocks import Extents

# A policy gets the free extents of the usable elements and a number of pages (a power of two), and chooses
# (element, first page) or None when no extent is large enough.
Policy = Callable[[Mapping[int, Extents], int], tuple[int, int] | None]


def _fitting(free: Mapping[int, Extents], pages: int) -> list[tuple[int, int, int]]:
    """(size of extent, element, first page) of all extents that are large enough."""
    return [(count, element, first) for element, extents in free.items() for first, count in extents if count >= pages]


def first_fit(free: Mapping[int, Extents], pages: int) -> tuple[int, int] | None:
    """The first extent that is large enough, by element and address: fills one element after the other."""
    chosen = min(_fitting(free, pages), key=lambda x: x[1:], default=None)
    return None if chosen is None else (chosen[1], chosen[2])


def worst_fit(free: Mapping[int, Extents], pages: int) -> tuple[int, int] | None:
    """The largest extent: what is left of it is still of use."""
    chosen = min(_fitting(free, pages), key=lambda x: (-x[0], *x[1:]), default=None)
    return None if chosen is None else (chosen[1], chosen[2])


def best_fit(free: Mapping[int, Extents], pages: int) -> tuple[int, int] | None:
    """The smallest extent that is large enough: keeps large ones whole."""
    chosen = min(_fitting(free, pages), default=None)
    return None if chosen is None else (chosen[1], chosen[2])


def balance(free: Mapping[int, Extents], pages: int) -> tuple[int, int] | None:
    """The element with the most free pages: spreads load and failures."""
    totals = {element: sum(n for _, n in extents) for element, extents in free.items()}
    chosen = min(_fitting(free, pages), key=lambda x: (-totals[x[1]], x[1], x[0], x[2]), default=None)
    return None if chosen is None else (chosen[1], chosen[2])


POLICIES: dict[str, Policy] = {
    "balance": balance,
    "best-fit": best_fit,
    "first-fit": first_fit,
    "worst-fit": worst_fit,
}
