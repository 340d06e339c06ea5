"""Was a recorded history of a key-value store linearizable? Key by key, with the search of :mod:`experiments.history`.

Operations are get, put, delete and cas, as ``python -m apps.paxos load --history`` records them. A key has a value or none.
An operation that never returned may have taken effect at any time after its call, or never.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from experiments.history import explain

Kind = Literal["get", "put", "delete", "cas"]
_ARGUMENTS = {"get": 0, "put": 1, "delete": 0, "cas": 2}


class HistoryError(ValueError):
    """A line that is no recorded operation."""


@dataclass(frozen=True)
class KvOperation:
    """An operation on a key. ``arguments``: the value put; (expected, new) of cas, None for no value. ``result``: what get
    found, None for nothing; whether delete found something and cas swapped. ``returned`` is infinite when it never did."""

    process: str
    kind: Kind
    key: str
    arguments: tuple[str | None, ...]
    result: str | bool | None
    called: float
    returned: float = math.inf

    def __str__(self) -> str:
        arguments = ", ".join("nothing" if a is None else repr(a[:24]) for a in self.arguments)
        end = "?" if math.isinf(self.returned) else f"{self.returned:.6f}"
        result = "?" if math.isinf(self.returned) else repr(self.result)[:32]
        return f"{self.process}: {self.kind}({arguments}) = {result} [{self.called:.6f}, {end}]"


@dataclass(frozen=True)
class KvViolation:
    """No order explains what was seen of this key. ``longest`` is the longest order found, ``stuck`` what could not follow it."""

    key: str
    longest: tuple[KvOperation, ...]
    stuck: tuple[KvOperation, ...]

    def __str__(self) -> str:
        after = "".join(f"\n  {o}" for o in self.longest[-5:])
        return f"key {self.key!r}: after ...{after}\nnone of these fits:" + "".join(f"\n  {o}" for o in self.stuck)


def check(operations: Iterable[KvOperation], initial: Mapping[str, str] | None = None) -> list[KvViolation]:
    """The keys whose history is not linearizable. ``initial`` are the values that keys had before."""
    keys: dict[str, list[KvOperation]] = defaultdict(list)
    for operation in operations:
        keys[operation.key].append(operation)
    violations = []
    for key, history in sorted(keys.items()):
        found = explain(history, _apply, (initial or {}).get(key))
        if found is not None:
            violations.append(KvViolation(key, *found))
    return violations


def _apply(operation: KvOperation, value: str | None) -> tuple[str | None] | None:
    """The key's value afterwards; None when the operation cannot have returned what it did."""
    is_open, result = math.isinf(operation.returned), operation.result
    match operation.kind:
        case "put":
            return (operation.arguments[0],)
        case "get":
            return (value,) if is_open or result == value else None
        case "delete":
            return (None,) if is_open or result == (value is not None) else None
    expected, new = operation.arguments
    swaps = value == expected
    return (new if swaps else value,) if is_open or result == swaps else None


def load(path: Path) -> list[KvOperation]:
    """The operations in a file, one JSON object a line. Raises HistoryError."""
    operations = []
    with path.open() as file:
        for number, line in enumerate(file, 1):
            try:
                operations.append(_operation(json.loads(line)))
            except (ValueError, KeyError, TypeError) as error:
                raise HistoryError(f"{path}:{number}: no operation: {error!r}") from None
    return operations


def _operation(data: Any) -> KvOperation:
    kind, arguments, returned = data["kind"], tuple(data["arguments"]), data["returned"]
    if len(arguments) != _ARGUMENTS[kind]:
        raise ValueError(f"{kind} with {len(arguments)} arguments; {_ARGUMENTS[kind]} expected")
    end = math.inf if returned is None else float(returned)
    return KvOperation(str(data["process"]), kind, data["key"], arguments, data["result"], float(data["called"]), end)


def main() -> int:
    """Exit status 0 for a linearizable history, 1 for another one, 2 for a file that is none."""
    parser = argparse.ArgumentParser(prog="python -m experiments.kv_history", description=__doc__)
    parser.add_argument("file", type=Path, help="a recorded history")
    arguments = parser.parse_args()
    try:
        operations = load(arguments.file)
    except (OSError, HistoryError) as error:
        print(f"kv_history: {error}", file=sys.stderr)
        return 2
    violations = check(operations)
    for violation in violations:
        print(violation)
    keys = len({o.key for o in operations})
    print(
        f"{len(operations)} operations on {keys} keys: "
        + (f"{len(violations)} NOT linearizable" if violations else "ok")
    )
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
