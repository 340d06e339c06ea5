"""How a refusal is collected, and what of a program the rules look through."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from p4switch.compiler import ast, ir
from p4switch.compiler.diagnostics import UNKNOWN, Diagnostics, Loc
from p4switch.compiler.warn.names import Names, children

KIND = "strict-bmv2"


@dataclass
class Refusals:
    """Collects errors: why bmv2 does not take something, and what to write instead. Each place is refused once."""

    diagnostics: Diagnostics
    names: Names
    seen: set[tuple[Loc, str]] = field(default_factory=set)

    def refuse(self, loc: Loc, why: str, instead: str) -> None:
        """One refusal."""
        if (loc, why) not in self.seen:
            self.seen.add((loc, why))
            self.diagnostics.error(loc, why, instead, KIND)

    def refused(self, loc: Loc) -> bool:
        """Whether something at this place is refused already."""
        return any(loc.line == other.line and loc.file == other.file for other, _ in self.seen)

    def declaration(self, kind: type[ast.Declaration], name: str) -> Loc:
        """The place of a declaration by its source name, or by the last part of its control-plane name."""
        last = name.rpartition(".")[2]
        for item, _ in self.names.declared:
            if isinstance(item, kind) and item.name == last:
                return item.loc
        return UNKNOWN


def below(node: ast.Node) -> Iterator[ast.Node]:
    """A node of the syntax tree and all below it."""
    stack = [node]
    while stack:
        item = stack.pop()
        yield item
        stack.extend(reversed(list(children(item))))


def called(program: ir.Program, root: object) -> list[ir.Function]:
    """The functions that a body calls, also through others."""
    known = {f.name: f for f in program.functions}
    found: dict[str, ir.Function] = {}
    work = [root]
    while work:
        for node in ir.walk(work.pop()):
            if isinstance(node, ir.CallFunction) and node.function in known and node.function not in found:
                found[node.function] = known[node.function]
                work.append(known[node.function].body)
    return list(found.values())
