"""The order of tables: bmv2 gives each table one successor, whatever path led to it, and never goes back to it."""

from __future__ import annotations

from dataclasses import dataclass, field

from p4switch.compiler import ir
from p4switch.compiler.places import located, place
from p4switch.compiler.strict.refusals import Refusals, called

_EXIT = -1


@dataclass
class _Graph:
    """Nodes are numbers; ``tables`` says which of them apply a table, ``after`` where each goes."""

    tables: dict[int, ir.ApplyTable] = field(default_factory=dict)
    after: dict[int, set[int]] = field(default_factory=dict)

    def add(self, before: set[int]) -> int:
        """A new node behind others."""
        node = len(self.after)
        self.after[node] = set()
        self.link(before, node)
        return node

    def link(self, before: set[int], node: int) -> None:
        """Edges to a node."""
        for previous in before:
            self.after[previous].add(node)

    def reachable(self, start: int) -> set[int]:
        """All nodes behind a node."""
        found: set[int] = set()
        work = [start]
        while work:
            for following in self.after.get(work.pop(), ()):
                if following not in found:
                    found.add(following)
                    work.append(following)
        return found

    def successors(self, node: int) -> set[int | str]:
        """The nodes directly behind, tables by their names."""
        return {self.tables[n].table if n in self.tables else n for n in self.after[node]}


class _Builder:
    """Follows a control; a frontier is the set of nodes that lead to the next one."""

    def __init__(self) -> None:
        self.graph = _Graph()
        self.left: dict[str, set[int]] = {}
        self.breaks: list[set[int]] = []
        self.continues: list[set[int]] = []

    def body(self, statements: list[ir.Statement], frontier: set[int]) -> set[int]:
        """Statements in order; the frontier behind them."""
        for statement in statements:
            frontier = self.statement(statement, frontier)
        return frontier

    def statement(self, s: ir.Statement, frontier: set[int]) -> set[int]:
        """One statement."""
        match s:
            case ir.Declare():
                return frontier
            case ir.ApplyTable(cases=cases):
                node = self.graph.add(frontier)
                self.graph.tables[node] = s
                if not cases:
                    return {node}
                ends = [self.body(case.body, {node}) for case in cases]
                return set().union({node}, *ends)
            case ir.If(then=then, otherwise=otherwise):
                node = self.graph.add(frontier)
                return self.body(then, {node}) | self.body(otherwise, {node})
            case ir.Switch(cases=cases):
                node = self.graph.add(frontier)
                return set().union({node}, *(self.body(case.body, {node}) for case in cases))
            case ir.Block(body=body, label=label, back=back):
                frontier = self.body(body, frontier)
                if label is not None:
                    frontier = frontier | self.left.pop(label, set())
                return {self.graph.add(frontier)} if back else frontier
            case ir.LeaveBlock(label=label):
                self.left.setdefault(label, set()).update(frontier)
                return set()
            case ir.Return() | ir.Exit():
                self.graph.link(frontier, _EXIT)
                return set()
            case ir.Loop():
                return self.loop(s, frontier)
            case ir.Break() if self.breaks:
                self.breaks[-1] |= frontier
                return set()
            case ir.Continue() if self.continues:
                self.continues[-1] |= frontier
                return set()
        return {self.graph.add(frontier)}

    def loop(self, s: ir.Loop, frontier: set[int]) -> set[int]:
        """A loop with its way back."""
        head = self.graph.add(frontier)
        self.breaks.append(set())
        self.continues.append(set())
        end = self.body(s.body, {head}) | self.continues.pop()
        self.graph.link(self.body(s.step, end), head)
        return {head} | self.breaks.pop()


def check_order(control: ir.Control, refusals: Refusals) -> None:
    """Refuse a table that is applied twice on one path, or twice with different things to follow."""
    builder = _Builder()
    graph = builder.graph
    start = graph.add(set())
    graph.link(builder.body(control.body, {start}), _EXIT)
    applied: dict[str, list[int]] = {}
    for node, statement in graph.tables.items():
        applied.setdefault(statement.table, []).append(node)
    for name, nodes in applied.items():
        again = next((n for n in nodes if graph.reachable(n) & set(nodes)), None)
        if again is not None:
            second = min(graph.reachable(again) & set(nodes), key=lambda n: (n == again, n))
            refusals.refuse(
                place(graph.tables[second].loc),
                f"table '{name}' is applied on a path on which it was applied before; bmv2 never comes back to a table",
                "declare a second table with the same keys and actions, or apply it once behind where the paths meet",
            )
        elif len({frozenset(graph.successors(n)) for n in nodes}) > 1:
            refusals.refuse(
                place(graph.tables[nodes[1]].loc),
                f"table '{name}' is applied on several paths that go on differently; bmv2 gives a table one successor",
                "apply it once where the paths meet and branch afterwards, or declare a table for each path",
            )


def check_loops(program: ir.Program, control: ir.Control, refusals: Refusals) -> None:
    """Refuse loops outside of actions: bmv2 has jumps only within an action."""
    bodies: list[object] = [control.body, *(f.body for f in called(program, control.body))]
    for body in bodies:
        for node, where in located(body):
            if isinstance(node, ir.Loop) and not refusals.refused(place(where)):  # a for-in loop may be
                refusals.refuse(
                    place(where),
                    "a loop outside of an action; bmv2 can only jump back within an action",
                    "put the loop into an action and call that",
                )
