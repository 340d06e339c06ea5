"""A real graph, made of text that packages ship: which word follows which. And PageRank of it, computed in another way."""

from __future__ import annotations

import itertools
import re

from experiments import job_text

_WORD = re.compile(rb"[a-z_]+")
Edges = list[tuple[int, int]]


def graph(size: int) -> tuple[int, Edges]:
    """From ``size`` bytes of text: nodes are pairs of words that follow each other, an edge leads from a pair to the
    one that begins with its second word and comes next. (number of nodes, edges without repetition, in order of first
    occurrence)."""
    words = _WORD.findall(job_text.corpus(size).lower())
    numbers: dict[tuple[bytes, bytes], int] = {}
    path = [numbers.setdefault(pair, len(numbers)) for pair in itertools.pairwise(words)]
    return len(numbers), list(dict.fromkeys(itertools.pairwise(path)))


def expected(nodes: int, edges: Edges, rounds: int, damping: float = 0.85) -> list[float]:
    """Ranks after so many rounds: every node pulls from those that lead to it."""
    leads_to: list[list[int]] = [[] for _ in range(nodes)]
    follows: list[list[int]] = [[] for _ in range(nodes)]
    for source, target in edges:
        leads_to[source].append(target)
        follows[target].append(source)
    ranks = [1.0 / nodes] * nodes
    for _ in range(rounds):
        lost = sum(rank for rank, targets in zip(ranks, leads_to, strict=True) if not targets)
        ranks = [
            (1 - damping + damping * lost) / nodes + damping * sum(ranks[s] / len(leads_to[s]) for s in sources)
            for sources in follows
        ]
    return ranks
