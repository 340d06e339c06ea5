"""Was a recorded history of operations on shared words linearizable? (Wing and Gong's search, with Lowe's memory of states seen.)

Each operation has a time of call and of return. There must be one order of all operations of a word that respects those times
(what returned before another was called comes before it) and in which each returned what the ones before it imply. An operation
without a return (a timeout, a crash) may have taken effect at any time after its call, or never.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar

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


def _apply(operation: Operation, value: int) -> tuple[int] | None:
    """The word's value afterwards; None when the operation cannot have returned what it did."""
    kind, arguments = operation.kind, operation.arguments
    if kind != "write" and not operation.is_open and operation.result != value:
        return None
    match kind:
        case "write":
            return (arguments[0],)
        case "cas":
            return (arguments[1] if value == arguments[0] else value,)
        case "fetch_add":
            return ((value + arguments[0]) & MASK,)
    return (value,)


def _check_word(word: int, history: Sequence[Operation], initial: int) -> Violation | None:
    found = explain(history, _apply, initial)
    return None if found is None else Violation(word, *found)


class Timed(Protocol):
    """What the search needs of an operation."""

    @property
    def called(self) -> float:
        """When it was called."""

    @property
    def returned(self) -> float:
        """When it returned; infinite when that is not known."""


Op = TypeVar("Op", bound=Timed)
State = TypeVar("State", bound=Hashable)


def explain(
    history: Sequence[Op], apply: Callable[[Op, State], tuple[State] | None], initial: State
) -> tuple[tuple[Op, ...], tuple[Op, ...]] | None:
    """None if one order of the operations on an object explains what they returned; otherwise the longest order found, and what
    could not follow it. ``apply`` gives the object's state after an operation, None if the operation cannot have returned what it
    did there.

    Depth first: take any operation that was called before every other one left has returned; go back where none fits."""
    order = sorted(history, key=lambda o: o.called)
    left = sum(1 for o in order if not math.isinf(o.returned))  # that must have a place and have none yet
    # What is taken: all before ``first``, and those whose bits, counted from there, are set.
    first, taken, state = 0, 0, initial
    seen = {(first, taken, state)}
    path: list[tuple[int, int, int, State]] = []  # (operation, what was taken before it, state before it)
    longest: list[int] = []
    candidates = [_candidates(order, first, taken)]
    while left:
        for i in candidates[-1]:
            after = apply(order[i], state)
            if after is None:
                continue
            then, mask = first, taken | 1 << (i - first)
            while mask & 1:
                then, mask = then + 1, mask >> 1
            if (then, mask, after[0]) not in seen:
                seen.add((then, mask, after[0]))
                path.append((i, first, taken, state))
                first, taken, state = then, mask, after[0]
                left -= not math.isinf(order[i].returned)
                candidates.append(_candidates(order, first, taken))
                break
        else:
            if len(path) > len(longest):
                longest = [p[0] for p in path]
            if not path:
                placed = set(longest)
                others = [o for i, o in enumerate(order) if i not in placed]
                end = min((o.returned for o in others), default=math.inf)
                stuck = tuple(o for o in others if o.called <= end)
                return tuple(order[i] for i in longest), stuck
            candidates.pop()
            i, first, taken, state = path.pop()
            left += not math.isinf(order[i].returned)
    return None


def _candidates(order: Sequence[Timed], first: int, taken: int) -> list[int]:
    """What may come next: operations not taken that were called before any other of them returned."""
    result: list[int] = []
    end = math.inf
    for i in range(first, len(order)):
        operation = order[i]
        if operation.called > end:
            break
        if not taken >> (i - first) & 1:
            result.append(i)
            end = min(end, operation.returned)
    return [i for i in result if order[i].called <= end]


def _text(o: Operation) -> str:
    arguments = ", ".join(str(a) for a in o.arguments)
    end = "?" if o.is_open else f"{o.returned:.6f}"
    return f"{o.process}: {o.kind}({arguments}) = {o.result} [{o.called:.6f}, {end}]"
