"""Synthetic traces of allocations, by seed: what processes of three kinds allocate from the rack, and free.

``server``: sizes are log-normal around some KiB, as caches and request buffers, with a long tail, and most are freed again;
the process gets memory from its rack in arenas and large blocks, as malloc does of its system. ``arrays``: few allocations of
megabytes to gigabytes. ``mixed``: both.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
MMAP_THRESHOLD = 128 * KIB  # glibc's: larger blocks come from the system one by one
ARENA = MIB  # what malloc asks of the system for smaller ones (glibc grows by 132 KiB, jemalloc by 2 MiB)


@dataclass(frozen=True)
class Allocate:
    """Allocation number ``name``."""

    name: int
    size: int


@dataclass(frozen=True)
class Free:
    """Free allocation number ``name``."""

    name: int


Trace = Iterator[Allocate | Free]


def server(seed: int, events: int) -> Trace:
    """Objects of a key-value server: small ones fill arenas (the rack sees whole ones, and few get empty); half of the
    large ones are freed again."""
    rng = random.Random(f"server {seed}")
    live: list[int] = []
    arenas: list[int] = []
    left = 0  # bytes of the current arena
    name = 0
    while name < events:
        size = int(rng.lognormvariate(9.0, 2.2)) + 16
        if size < MMAP_THRESHOLD:
            left -= size
            if left >= 0:
                continue
            left = ARENA - size
            arenas.append(name)
            yield Allocate(name, ARENA)
        elif live and rng.random() < 0.5:
            yield Free(live.pop(rng.randrange(len(live))))
        elif arenas and rng.random() < 0.05:
            yield Free(arenas.pop(rng.randrange(len(arenas))))
        else:
            live.append(name)
            yield Allocate(name, min(size, 64 * MIB))
        name += 1


def arrays(seed: int, events: int) -> Trace:
    """Matrices and columns: megabytes to a gigabyte, seldom powers of two, some freed."""
    rng = random.Random(f"arrays {seed}")
    live: list[int] = []
    for name in range(events):
        if live and rng.random() < 0.35:
            yield Free(live.pop(rng.randrange(len(live))))
        else:
            live.append(name)
            yield Allocate(name, int(2 ** rng.uniform(21, 30)))


def mixed(seed: int, events: int) -> Trace:
    """Nine events of a server to one of arrays."""
    rng = random.Random(f"mixed {seed}")
    parts = (server(seed, events), arrays(seed, events))
    for _ in range(events):
        which = int(rng.random() < 0.1)
        event = next(parts[which], None)
        if event is None:
            return
        yield (
            Allocate(2 * event.name + which, event.size)
            if isinstance(event, Allocate)
            else Free(2 * event.name + which)
        )


TRACES: dict[str, Callable[[int, int], Trace]] = {"server": server, "arrays": arrays, "mixed": mixed}
