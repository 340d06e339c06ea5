"""The flow of a control as a part of the graph: tables, conditions, switches, loops, exits, inlined controls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from p4switch.compiler import ir
from p4switch.graph.model import ActionNote, Edge, EdgeKind, Node, NodeKind, Part, Section
from p4switch.graph.text import Words, place, type_text


@dataclass(frozen=True, slots=True)
class _Open:
    """An edge that has no target yet."""

    source: str
    label: str | None = None


@dataclass(slots=True)
class _Loop:
    """Edges that leave the innermost loop, and that go on with it."""

    breaks: list[_Open] = field(default_factory=list)
    continues: list[_Open] = field(default_factory=list)


def control_part(program: ir.Program, name: str, control: ir.Control) -> Part:
    """The flow of one control; ``name`` is its place in the architecture."""
    return _Flow(program, name, control).part()


class _Flow:
    """Walks the statements of a control. Every method takes the edges that lead to what it adds and returns those that leave it;
    no edges means that the place is never reached, and what stands there is drawn without a way to it."""

    def __init__(self, program: ir.Program, name: str, control: ir.Control):
        self.program, self.name, self.control = program, name, control
        self.tables = {t.name: t for t in program.tables if t.control == name}
        self.words = Words(program, control.name, _hit_variables(control))
        self.short = self.words.short
        self.exiting = _exiting([a for a in program.actions if a.control == name])
        self.nodes: list[Node] = []
        self.edges: dict[tuple[str, str, EdgeKind], list[str]] = {}
        self.inside: list[str] = []
        self.leaves: dict[str, list[_Open]] = {}  # label of a block: edges to its end
        self.loops: list[_Loop] = []
        self.returns: list[_Open] = []
        self.exits: list[str] = []

    def part(self) -> Part:
        """The whole control, from start to end."""
        start = self.add("start", self.control.name)
        after = self.sequence(self.control.body, [_Open(start)])
        after += self.returns
        actions = [self.action(a) for a in self.program.actions if a.control == self.name]
        if len(self.nodes) == 1:
            self.nodes, self.edges = [], {}
            only = self.add("empty", "nothing to do")
            return self.finished(only, [only], actions)
        end = self.add("end", "end", after)
        return self.finished(start, [end, *self.exits], actions)

    def finished(self, entry: str, exits: list[str], actions: list[ActionNote]) -> Part:
        """The part as data."""
        edges = [Edge(source=s, target=t, labels=labels, kind=k) for (s, t, k), labels in self.edges.items()]
        return Part(
            name=self.name,
            title=self.control.name,
            nodes=self.nodes,
            edges=edges,
            entry=entry,
            exits=exits,
            actions=actions,
        )

    # ------------------------------------------------------------------------------------------------------------ pieces

    def add(
        self,
        kind: NodeKind,
        title: str,
        before: Sequence[_Open] = (),
        *,
        name: str | None = None,
        sections: list[Section] | None = None,
        actions: list[str] | None = None,
        loc: ir.Location | None = None,
    ) -> str:
        """A node, with the edges that were open before it; returns its id."""
        node = Node(
            id=f"{self.name}.{len(self.nodes)}",
            kind=kind,
            title=title,
            name=name,
            sections=sections or [],
            actions=actions or [],
            inside=list(self.inside),
            source=place(loc),
        )
        self.nodes.append(node)
        self.connect(before, node.id, "exit" if kind == "exit" else "flow")
        return node.id

    def connect(self, before: Sequence[_Open], target: str, kind: EdgeKind = "flow") -> None:
        """Close open edges. Edges between the same nodes become one with several labels."""
        for edge in before:
            labels = self.edges.setdefault((edge.source, target, kind), [])
            if edge.label is not None and edge.label not in labels:
                labels.append(edge.label)

    # -------------------------------------------------------------------------------------------------------- statements

    def sequence(self, body: Sequence[ir.Statement], before: list[_Open]) -> list[_Open]:
        """Statements one after the other; runs of plain ones share a node."""
        plain: list[ir.Statement] = []
        for statement in _flat(body):
            if _is_flow(statement):
                before = self.statement(statement, self.plain(plain, before))
                plain = []
            elif not isinstance(statement, ir.Declare) or statement.init is not None:
                plain.append(statement)
        return self.plain(plain, before)

    def plain(self, body: list[ir.Statement], before: list[_Open]) -> list[_Open]:
        """A box of assignments and calls."""
        if not body:
            return before
        called = dict.fromkeys(s.action for s in body if isinstance(s, ir.CallAction))
        sections = [Section(lines=list(self.words.lines(body)))]
        node = self.add("statements", "", before, sections=sections, actions=list(called), loc=body[0].loc)
        self.leave(node, list(called))
        return [_Open(node)]

    def statement(self, statement: ir.Statement, before: list[_Open]) -> list[_Open]:
        """A statement that branches, jumps or applies something."""
        match statement:
            case ir.ApplyTable():
                return self.table(statement, before)
            case ir.If(cond=cond, then=then, otherwise=otherwise, loc=loc):
                node = self.add("condition", self.words.expression(cond), before, loc=loc)
                yes = self.sequence(then, [_Open(node, "true")])
                return yes + self.sequence(otherwise, [_Open(node, "false")])
            case ir.Switch():
                return self.switch(statement, before)
            case ir.Loop():
                return self.loop(statement, before)
            case ir.Block():
                return self.block(statement, before)
            case ir.Exit(loc=loc):
                self.exits.append(self.add("exit", "exit", before, loc=loc))
            case ir.LeaveBlock(label=label):
                self.leaves[label] += before
            case ir.Return():
                self.returns += before
            case ir.Break():
                self.loops[-1].breaks += before
            case ir.Continue():
                self.loops[-1].continues += before
        return []

    def table(self, apply: ir.ApplyTable, before: list[_Open]) -> list[_Open]:
        """A table and, for a switch over the action that ran, its arms."""
        table = self.tables[apply.table]
        actions = [ref.name for ref in table.actions]
        node = self.add(
            "table",
            self.short(table.name),
            before,
            name=table.name,
            sections=self.table_sections(table),
            actions=actions,
            loc=apply.loc or table.loc,
        )
        self.leave(node, actions)
        if not apply.cases:
            return [_Open(node)]
        after: list[_Open] = []
        for case in apply.cases:
            labels = [*map(self.short, case.actions), *(["default"] if case.is_default else [])]
            after += self.sequence(case.body, [_Open(node, " | ".join(labels))])
        named = {a for c in apply.cases for a in c.actions}
        if not any(c.is_default for c in apply.cases) and any(a.name not in named for a in table.actions):
            after.append(_Open(node, "other"))
        return after

    def leave(self, node: str, actions: Sequence[str]) -> None:
        """The way out of a node whose actions may exit."""
        leaving = [_Open(node, self.short(name)) for name in actions if name in self.exiting]
        if leaving:
            self.exits.append(self.add("exit", "exit", leaving))

    def table_sections(self, table: ir.Table) -> list[Section]:
        """Keys, actions, default action, and what else there is to know of a table."""
        actions = []
        for ref in table.actions:
            notes = [
                text for flag, text in ((ref.default_only, "default only"), (ref.table_only, "table only")) if flag
            ]
            params = [p.source_name for p in self.data_params(ref.name)]
            actions.append(f"{self.short(ref.name)}({', '.join(params)})" + "".join(f" @{n}" for n in notes))
        default = table.default_action
        default_text = f"{self.short(default.action)}{self.words.arguments(default.args)}"
        facts = [f"size {table.size}"]
        if table.entries:
            facts.append(f"{len(table.entries)} {'const ' if table.const_entries else ''}entries")
        resources = (table.implementation, table.counter, table.meter)
        facts += [self.short(resource) for resource in resources if resource]
        facts += ["idle timeout"] if table.idle_timeout else []
        return [
            Section(name="key", lines=[f"{k.name}: {k.kind}" for k in table.keys] or ["(none)"]),
            Section(name="actions", lines=actions),
            Section(name="const default" if table.const_default else "default", lines=[default_text]),
            Section(lines=[", ".join(facts)]),
        ]

    def data_params(self, action: str) -> list[ir.Param]:
        """The parameters of an action that the control plane gives."""
        found = (a for a in self.program.actions if a.name == action and a.control == self.name)
        return [p for a in found for p in a.params if p.direction == "data"]

    def switch(self, switch: ir.Switch, before: list[_Open]) -> list[_Open]:
        """A switch over an expression."""
        node = self.add("switch", self.words.expression(switch.subject), before, loc=switch.loc)
        after: list[_Open] = []
        for case in switch.cases:
            after += self.sequence(case.body, [_Open(node, self.words.case_label(case))])
        if not any(case.is_default for case in switch.cases):
            after.append(_Open(node, "other"))
        return after

    def loop(self, loop: ir.Loop, before: list[_Open]) -> list[_Open]:
        """A loop: its condition, its body, its step, and back."""
        node = self.add("condition", self.words.expression(loop.cond), before, loc=loop.loc)
        self.loops.append(_Loop())
        after = self.sequence(loop.body, [_Open(node, "true")])
        after = self.sequence(loop.step, after + self.loops[-1].continues)
        jumps = self.loops.pop()
        self.connect(after, node)
        return [_Open(node, "false"), *jumps.breaks]

    def block(self, block: ir.Block, before: list[_Open]) -> list[_Open]:
        """An inlined control (a block without a label is flattened before)."""
        assert block.label is not None
        self.leaves[block.label] = []
        self.inside.append(block.instance or block.label)
        self.words.scopes.append(self.inside[-1])
        after = self.sequence(block.body, before)
        after += self.leaves.pop(block.label)
        after = self.sequence(block.back, after)
        self.inside.pop()
        self.words.scopes.pop()
        return after

    def action(self, action: ir.Action) -> ActionNote:
        """An action's signature and body."""
        params = ", ".join(
            f"{'' if p.direction == 'data' else p.direction + ' '}{type_name} {p.source_name}"
            for p in action.params
            for type_name in [p.type_name or type_text(p.type)]
        )
        return ActionNote(
            name=action.name,
            signature=f"{self.short(action.name)}({params})",
            body=list(self.words.lines(action.body)),
            source=place(action.loc),
        )


def _flat(body: Sequence[ir.Statement]) -> list[ir.Statement]:
    """Without the braces that nothing jumps out of."""
    flat: list[ir.Statement] = []
    for statement in body:
        if isinstance(statement, ir.Block) and statement.label is None:
            flat += _flat([*statement.body, *statement.back])
        else:
            flat.append(statement)
    return flat


def _is_flow(statement: ir.Statement) -> bool:
    return isinstance(
        statement,
        ir.ApplyTable
        | ir.If
        | ir.Switch
        | ir.Loop
        | ir.Block
        | ir.Exit
        | ir.LeaveBlock
        | ir.Return
        | ir.Break
        | ir.Continue,
    )


def _hit_variables(control: ir.Control) -> dict[str, str]:
    """Variables that hold nothing but whether one table hit, and which."""
    names: dict[str, str] = {}
    assigned: set[str] = set()
    for node in ir.walk(control.body):
        if isinstance(node, ir.ApplyTable) and node.hit is not None:
            target = node.hit.name
            if target in names:
                assigned.add(target)
            names[target] = node.table
        elif isinstance(node, ir.Assign) and isinstance(node.left, ir.Var):
            assigned.add(node.left.name)
        elif isinstance(node, ir.CallFunction | ir.CallExtern) and node.result is not None:
            assigned.add(node.result.name)
    return {name: table for name, table in names.items() if name not in assigned}


def _exiting(actions: Sequence[ir.Action]) -> set[str]:
    """Names of the actions that may exit, themselves or through one that they call."""
    names: set[str] = set()
    while True:
        more = {
            action.name
            for action in actions
            for node in ir.walk(action.body)
            if isinstance(node, ir.Exit) or (isinstance(node, ir.CallAction) and node.action in names)
        }
        if more == names:
            return names
        names = more
