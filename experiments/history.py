"""Was a recorded history of operations on shared words linearizable? (Wing and Gong's search, with Lowe's memory of states seen.)

Each operation has a time of call and of return. There must be one order of all operations of a word that respects those times
(what returned before another was called comes before it) and in which each returned what the ones before it imply. An operation
without a return (a timeout, a crash) may have taken effect at any time after its call, or never.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

Kind = Literal["read", "write", "cas", "fetch_add"]
MASK = (1 << 64) - 1


@dataclass(frozen=True)
class Operation:
    """An operation on a word. ``arguments``: the value written; (expected, desired) of cas; the addend. ``result``: what was
    read, the old value of cas and fetch_add, None of a write. ``returned`` is infinite when it is not known how it ended."""

    process: str
    kind: Kind
    word: int
    arguments: tuple[int, ...]
    result: int | None
    called: float
    returned: float = math.inf

    @property
    def is_open(self) -> bool:
        """Whether it never returned."""
        return math.isinf(self.returned)


@dataclass(frozen=True)
class Violation:
    """No order explains this word. ``longest`` is the longest order found, ``stuck`` what could not follow it."""

    word: int
    longest: tuple[Operation, ...]
    stuck: tuple[Operation, ...]

    def __str__(self) -> str:
        after = "".join(f"\n  {_text(o)}" for o in self.longest[-5:])
        return f"word {self.word:#x}: after ...{after}\nnone of these fits:" + "".join(
            f"\n  {_text(o)}" for o in self.stuck
        )


def check(operations: Iterable[Operation], initial: int = 0) -> list[Violation]:
    """The words whose history is not linearizable; they begin with the value ``initial``."""
    words: dict[int, list[Operation]] = defaultdict(list)
    for operation in operations:
        words[operation.word].append(operation)
    violations = (_check_word(word, history, initial) for word, history in sorted(words.items()))
    return [v for v in violations if v is not None]


def _apply(operation: Operation, value: int) -> int | None:
    """The word's value afterwards; None when the operation cannot have returned what it did."""
    kind, arguments = operation.kind, operation.arguments
    if kind != "write" and not operation.is_open and operation.result != value:
        return None
    match kind:
        case "write":
            return arguments[0]
        case "cas":
            return arguments[1] if value == arguments[0] else value
        case "fetch_add":
            return (value + arguments[0]) & MASK
    return value


def _check_word(word: int, history: Sequence[Operation], initial: int) -> Violation | None:
    """Depth first: take any operation that was called before every other one left has returned; go back where none fits."""
    order = sorted(history, key=lambda o: o.called)
    must = sum(1 << i for i, o in enumerate(order) if not o.is_open)
    taken, value = 0, initial
    seen = {(taken, value)}
    path: list[tuple[int, int]] = []  # (operation, value before it)
    longest: list[int] = []
    candidates = [_candidates(order, taken)]
    while taken & must != must:
        for i in candidates[-1]:
            after = _apply(order[i], value)
            if after is not None and (taken | 1 << i, after) not in seen:
                seen.add((taken | 1 << i, after))
                path.append((i, value))
                taken, value = taken | 1 << i, after
                candidates.append(_candidates(order, taken))
                if len(path) > len(longest):
                    longest = [p for p, _ in path]
                break
        else:
            if not path:
                left = [o for i, o in enumerate(order) if i not in set(longest)]
                end = min((o.returned for o in left), default=math.inf)
                stuck = tuple(o for o in left if o.called <= end)
                return Violation(word, tuple(order[i] for i in longest), stuck)
            candidates.pop()
            i, value = path.pop()
            taken &= ~(1 << i)
    return None


def _candidates(order: Sequence[Operation], taken: int) -> list[int]:
    """What may come next: operations not taken that were called before any other of them returned."""
    result: list[int] = []
    end = math.inf
    first = (~taken & (taken + 1)).bit_length() - 1  # all before it are taken
    for i in range(first, len(order)):
        operation = order[i]
        if operation.called > end:
            break
        if not taken >> i & 1:
            result.append(i)
            end = min(end, operation.returned)
    return [i for i in result if order[i].called <= end]


def _text(o: Operation) -> str:
    arguments = ", ".join(str(a) for a in o.arguments)
    end = "?" if o.is_open else f"{o.returned:.6f}"
    return f"{o.process}: {o.kind}({arguments}) = {o.result} [{o.called:.6f}, {end}]"
