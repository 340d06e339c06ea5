"""Where memory comes from: placement policies, by name.

Every memory element is one hop from every compute element, so *locality* is not about latency here. It is about how many elements
something depends on: a process whose memory is in one element is hurt by the failure of one, hands memory over with messages to
one, and finds its contiguous pages in fewer entries of the switch. What is near is, in this order: the element that a request
names, or that of an address it names; and for the policy ``locality`` the elements that hold most of the memory of the same group
(or of the same process, if the memory is to be of no group).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from controller.core.blocks import Extents
from protocol.wire import Placement

# A policy gets the free extents of the usable elements and a number of pages (a power of two), and chooses
# (element, first page) or None when no extent is large enough.
Policy = Callable[[Mapping[int, Extents], int], tuple[int, int] | None]
Tiers = Sequence[Collection[int]]  # elements, the nearest first

LOCALITY = "locality"


@dataclass(frozen=True)
class Wish:
    """Where an allocation wishes to be; all of it may be left open. ``policy`` is by name; ``strict``: there or nowhere."""

    policy: str = ""
    element: str = ""  # by name
    near: int = 0  # an address
    strict: bool = False


NO_WISH = Wish()


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


# ``locality`` is about which elements are near (:func:`tiers`): what is near to nothing yet begins where there is most room.
POLICIES: dict[str, Policy] = {
    "balance": balance,
    "best-fit": best_fit,
    "first-fit": first_fit,
    LOCALITY: balance,
    "worst-fit": worst_fit,
}


def policy_name(placement: Placement) -> str:
    """The name of a placement of the protocol; empty: the controller's own."""
    return "" if placement is Placement.DEFAULT else placement.name.lower().replace("_", "-")


def tiers(usable: Collection[int], wished: int | None, kin: Mapping[int, int]) -> Tiers:
    """The usable elements, the nearest first: the one that is wished (None: none is), then those that hold memory of the same kin
    (element: pages), those with most of it first, then the others, among which there is no difference."""
    found: list[Collection[int]] = [(wished,)] if wished in usable and wished is not None else []
    near = sorted((e for e in kin if e in usable and e != wished and kin[e]), key=lambda e: (-kin[e], e))
    found += [(element,) for element in near]
    taken = {element for tier in found for element in tier}
    rest = [element for element in usable if element not in taken]
    return [*found, rest] if rest else found
