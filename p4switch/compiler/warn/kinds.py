"""The kinds of warnings, by which each can be switched off with ``--Wno-KIND``.

``@noWarn("kind")`` at a declaration does so for what is in it (block, function, action, parser state), or for itself (``unused``,
``shadow``).
"""

from __future__ import annotations

from collections.abc import Container

from p4switch.compiler.diagnostics import Diagnostic

KINDS = {
    "uninitialized-use": "a value is read that some path has not written",
    "uninitialized-out-param": "an out parameter that some path has not written",
    "invalid-header": "a field of a header that is not valid, or not on every path",
    "unused": "a declaration that nothing names",
    "unreachable": "statements and parser states that no path reaches",
    "parser-transition": "a state without transition, a select whose cases cannot matter",
    "shadow": "a declaration that hides one of an outer scope",
    "duplicate-name": "two keys of a table with one name",
    "keys": "an entry of a table that another takes all packets from",
    "ordering": "an l-value that gets the results of two parameters of a call",
    "mismatch": "constant keys, entries with bits outside their mask, negative numbers for unsigned types",
    "overflow": "a number that does not fit into its type, a shift of all bits out of a value",
    "duplicate-priorities": "two entries of a table with one priority",
    "entries-out-of-priority-order": "an entry behind one of lower priority",
    "foreign-extern": "an extern that is none of v1model's: no switch runs the program",
    "ignored-property": "a table property without meaning in v1model",
}


def without(messages: list[Diagnostic], kinds: Container[str]) -> list[Diagnostic]:
    """The messages but for warnings of these kinds; ``all`` stands for every kind."""
    if "all" in kinds:
        return [m for m in messages if m.severity != "warning"]
    return [m for m in messages if m.severity != "warning" or m.kind not in kinds]
