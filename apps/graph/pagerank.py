"""PageRank of a part of a graph: pure functions on arrays. Nodes are numbers; a part is a range of them and their edges."""

from __future__ import annotations

import itertools
import struct
from array import array
from collections.abc import Sequence
from dataclasses import dataclass

DAMPING = 0.85
_MASS = struct.Struct("<d")  # before the contributions of a parcel: the rank of nodes that lead nowhere
INT, FLOAT = "i", "d"
FLOAT_SIZE = 8


def bounds(nodes: int, parts: int) -> list[int]:
    """Part i has nodes from ``bounds[i]`` to before ``bounds[i + 1]``."""
    return [i * nodes // parts for i in range(parts + 1)]


@dataclass(frozen=True)
class Part:
    """Edges that leave a range of nodes: ``sources`` counted within it, ``targets`` in the whole graph; its ``degrees``."""

    sources: array[int]
    targets: array[int]
    degrees: array[int]

    @classmethod
    def of(cls, edges: Sequence[tuple[int, int]], low: int, high: int) -> Part:
        """The part with nodes from ``low`` to before ``high``; edges that leave others are left out."""
        own = [(source - low, target) for source, target in edges if low <= source < high]
        degrees = array(INT, bytes(array(INT).itemsize * (high - low)))
        for source, _ in own:
            degrees[source] += 1
        return cls(array(INT, (source for source, _ in own)), array(INT, (target for _, target in own)), degrees)


def scatter(part: Part, ranks: array[float], nodes: int, limits: Sequence[int]) -> list[bytes]:
    """What the nodes of a part contribute to those of each: the mass of those that lead nowhere, and a number for each node."""
    share = array(FLOAT, (rank / degree if degree else 0.0 for rank, degree in zip(ranks, part.degrees, strict=True)))
    mass = sum(rank for rank, degree in zip(ranks, part.degrees, strict=True) if not degree)
    given: array[float] = array(FLOAT, bytes(FLOAT_SIZE * nodes))
    for source, target in zip(part.sources, part.targets, strict=True):
        given[target] += share[source]
    head = _MASS.pack(mass)
    return [head + given[low:high].tobytes() for low, high in itertools.pairwise(limits)]


def gather(parcels: Sequence[bytes], nodes: int) -> array[float]:
    """New ranks of a part from what all parts contribute to it."""
    mass = sum(_MASS.unpack_from(parcel)[0] for parcel in parcels)
    sums: list[float] | None = None
    for parcel in parcels:
        given = array(FLOAT)
        given.frombytes(parcel[_MASS.size :])
        sums = list(given) if sums is None else [a + b for a, b in zip(sums, given, strict=True)]
    base = (1 - DAMPING) / nodes + DAMPING * mass / nodes
    return array(FLOAT, (base + DAMPING * x for x in sums or ()))
