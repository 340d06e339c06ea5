"""Flow analysis of statements and of whole blocks: values that are read before they are written, ``out`` parameters that are
not written, fields of invalid headers, code that is never reached, functions without ``return``.

A control is followed from its ``apply``, a parser from its start state to a fixed point, a function for itself. Actions are
followed where they are called and where a table that is applied may run them; other controls, parsers, functions and externs
are taken to write all their ``out`` and ``inout`` arguments.
"""

from __future__ import annotations

from collections.abc import Sequence

from p4switch.compiler import ast
from p4switch.compiler.warn import shapes as s
from p4switch.compiler.warn.calls import Calls
from p4switch.compiler.warn.names import LoopVar
from p4switch.compiler.warn.state import State, Validity, join, join_branches

_MAX_LOOPS = 5  # nested loops followed to a fixed point
_FINAL = ("accept", "reject")


class Flow(Calls):
    """Follows one block after another; :meth:`start` forgets the one before."""

    returns: list[State]
    exits: list[State]
    breaks: list[State]
    continues: list[State]
    loops: int = 0

    def start(self) -> None:
        """Begin a block."""
        self.state = State()
        self.steps = 0
        self.returns, self.exits, self.breaks, self.continues = [], [], [], []

    # ------------------------------------------------------------------------------------------------------ statements

    def sequence(self, items: Sequence[ast.Stmt | ast.Declaration]) -> None:
        """Statements in order; those behind the end of all paths are reported once."""
        was_reachable = self.state is not None
        for item in items:
            if self.state is None:
                if was_reachable and not isinstance(item, ast.EmptyStmt | ast.ConstDecl):
                    self.report("unreachable", item.loc, "this is never reached")
                return
            if isinstance(item, ast.Stmt):
                self.statement(item)
            elif isinstance(item, ast.VarDecl):
                self.variable(item)

    def variable(self, item: ast.VarDecl) -> None:
        """A local variable."""
        self.read(item.init)
        self.fresh(item, item.init is None, Validity.NO)
        if item.init is not None:
            self.copy_validity([(id(item),)], self.shapes.of_declaration(item), item.init)

    def statement(self, item: ast.Stmt) -> None:
        """Any statement."""
        self.step()
        assert self.state is not None
        match item:
            case ast.BlockStmt(body=body):
                self.sequence(body)
            case ast.Assignment():
                self.assignment(item)
            case ast.CallStmt(call=call):
                self.call(call)
            case ast.IfStmt(cond=cond, then=then, otherwise=otherwise):
                before = self.state.copy()
                yes, no = self.condition(cond)
                self.state = yes
                self.branch(then)
                yes, self.state = self.state, no
                self.branch(otherwise)
                self.state = join_branches(before, yes, self.state)
            case ast.SwitchStmt():
                self.switch(item)
            case ast.ReturnStmt(value=value):
                self.read(value)
                self.leave(self.returns)
            case ast.ExitStmt():
                self.leave(self.exits)
            case ast.BreakStmt():
                self.leave(self.breaks)
            case ast.ContinueStmt():
                self.leave(self.continues)
            case ast.ForStmt(init=init, cond=cond, update=update, body=body):
                self.sequence(init)
                self.loop(cond, body, update, None)
            case ast.ForInStmt(collection=collection, body=body):
                self.read(collection)
                self.loop(None, body, [], item)

    def branch(self, item: ast.Stmt | None) -> None:
        """A statement that is executed on some paths."""
        if item is not None and self.state is not None:
            self.statement(item)

    def leave(self, target: list[State]) -> None:
        """A jump."""
        if self.state is not None:
            target.append(self.state)
        self.state = None

    def assignment(self, item: ast.Assignment) -> None:
        """``left = right`` and ``left op= right``."""
        if item.op is not None:
            self.read(item.left)
        self.read(item.right)
        self.write(item.left)
        if item.op is None and not isinstance(item.left, ast.SliceExpr):
            shape = self.shapes.of(item.left)
            if isinstance(shape, s.Record) and shape.kind == "header" and isinstance(item.left, ast.Dot):
                self.copy_header(item.left, item.right)
            else:
                self.copy_validity(self.places(item.left), shape, item.right)

    def copy_header(self, left: ast.Dot, right: ast.Expr) -> None:
        """A header is assigned; a valid one makes the others of its union invalid."""
        source = self.places(right)
        if isinstance(right, ast.InvalidExpr):
            self.set_header(left, Validity.NO)
        elif isinstance(right, ast.RecordExpr | ast.ListExpr):
            self.set_header(left, Validity.YES)
        elif len(source) == 1 and self.state is not None:
            self.set_header(left, self.state.of(source[0]))
        else:
            self.set_header(left, Validity.UNKNOWN)

    def switch(self, item: ast.SwitchStmt) -> None:
        """Over ``action_run``, where every arm starts behind its actions, or over an expression."""
        subject = item.subject
        table = None
        if isinstance(subject, ast.Dot) and isinstance(subject.base, ast.Call):
            table = self.table(subject.base)
        if table is None:
            self.read(subject)
            outcomes = []
        else:
            outcomes = self.outcomes(table)
        before = self.state
        if before is None:
            return
        named = {c.label.name for c in item.cases if isinstance(c.label, ast.Name)}
        after: State | None = None
        entry: State | None = None
        has_default = False
        for case in item.cases:
            is_default = isinstance(case.label, ast.DontCare)
            has_default = has_default or is_default
            if table is None:
                entry = before
            else:
                label = case.label.name if isinstance(case.label, ast.Name) else None
                here = [o for o in outcomes if (o[0] not in named if is_default else o[0] == label)]
                entry = join(entry, self._joined(here))
            if case.body is not None:
                self.state = None if entry is None else entry.copy()
                self.branch(case.body)
                after, entry = join(after, self.state), None
        if not has_default:
            rest = before if table is None else self._joined([o for o in outcomes if o[0] not in named])
            after = join(after, rest)
        self.state = after if item.cases or table is None else self._joined(outcomes)

    def loop(
        self, cond: ast.Expr | None, body: ast.Stmt, update: Sequence[ast.Stmt], each: ast.ForInStmt | None
    ) -> None:
        """A loop to its fixed point: silently until nothing changes, then once more with reports."""
        outer = self.breaks, self.continues
        self.loops += 1
        head = self.state
        if self.loops <= _MAX_LOOPS:
            with self.silently():
                while head is not None:
                    known = head.copy()
                    self.turn(known.copy(), cond, body, update, each)
                    head = join(known.copy(), self.state)
                    if head == known:
                        break
        out = self.turn(None if head is None else head.copy(), cond, body, update, each)
        for state in self.breaks:
            out = join(out, state)
        self.loops -= 1
        self.breaks, self.continues = outer
        self.state = out

    def turn(
        self,
        head: State | None,
        cond: ast.Expr | None,
        body: ast.Stmt,
        update: Sequence[ast.Stmt],
        each: ast.ForInStmt | None,
    ) -> State | None:
        """One turn of a loop, ``state`` is then the one behind it; the result is the state in which the loop ends."""
        self.breaks, self.continues = [], []
        self.state = head
        if each is not None:
            out = None if head is None else head.copy()
            variable = self.names.of(each)
            if isinstance(variable, LoopVar | ast.VarDecl | ast.ParamDecl):
                self.fresh(variable, False, Validity.UNKNOWN)
        else:
            assert cond is not None
            self.state, out = self.condition(cond)
        self.branch(body)
        for state in self.continues:
            self.state = join(self.state, state)
        self.sequence(update)
        return out

    # ---------------------------------------------------------------------------------------------------------- blocks

    def enter_action(self, action: ast.ActionDecl) -> None:
        """The body of an action, with its own ``return`` but the control's ``exit``."""
        outer, self.returns = self.returns, []
        loops = self.breaks, self.continues
        with self.inside(action):
            self.sequence(action.body.body)
            for state in self.returns:
                self.state = join(self.state, state)
            self.check_out(action.params, "action", action.name)
        self.returns = outer
        self.breaks, self.continues = loops

    def check_out(self, params: Sequence[ast.ParamDecl], kind: str, name: str) -> None:
        """``out`` parameters must have a value at the end, all but headers."""
        if self.state is None:
            return
        for param in params:
            if param.direction != "out":
                continue
            shape = self.shapes.of_declaration(param)
            if any((id(param), *leaf) in self.state.unwritten for leaf in shape.plain_leaves):
                self.report(
                    "uninitialized-out-param",
                    param.loc,
                    f"out parameter '{param.name}' may not have a value when {kind} '{name}' ends",
                )

    def params(self, params: Sequence[ast.ParamDecl]) -> None:
        """The parameters of a block."""
        for param in params:
            out = param.direction == "out"
            self.fresh(param, out, Validity.NO if out else Validity.UNKNOWN)

    def control(self, control: ast.ControlDecl, invalid: Sequence[s.Path] = ()) -> State | None:
        """A control; ``invalid`` are headers of its first parameter that are invalid when it starts. Gives its end."""
        self.start()
        self.params(control.params)
        if self.state is not None:
            for header in invalid:
                self.state.validity[(id(control.params[0]), *header)] = Validity.NO
        self.sequence([d for d in control.locals if isinstance(d, ast.VarDecl)])
        if control.body is not None:
            self.sequence(control.body.body)
        for state in (*self.returns, *self.exits):
            self.state = join(self.state, state)
        self.check_out(control.params, "control", control.name)
        return self.state

    def function(self, function: ast.FunctionDecl) -> bool:
        """A function. False when its end can be reached without the ``return`` that it needs."""
        self.start()
        self.params(function.params)
        if function.body is not None:
            self.sequence(function.body.body)
        is_void = isinstance(function.result, ast.BaseType) and function.result.name == "void"
        returns = is_void or self.state is None
        for state in self.returns:
            self.state = join(self.state, state)
        self.check_out(function.params, "function", function.name)
        return returns

    def parser(self, parser: ast.ParserDecl) -> State | None:
        """A parser: to the fixed point over its states, then each state once with reports. Gives the state at its end."""
        self.start()
        self.params(parser.params)
        self.sequence([d for d in parser.locals if isinstance(d, ast.VarDecl)])
        states = {state.name: state for state in parser.states or []}
        entry: dict[str, State] = {} if self.state is None or "start" not in states else {"start": self.state}
        work = list(entry)
        with self.silently():
            while work:
                name = work.pop()
                if name not in states:
                    continue
                after = self.parser_state(states[name], entry[name])
                for target in targets(states[name]):
                    known = entry.get(target)
                    joined = join(known, after)
                    if joined is not None and joined != known:
                        entry[target] = joined
                        work.append(target)
        end: State | None = None
        for name, state in entry.items():
            if name in states:
                self.parser_state(states[name], state)
            else:
                end = join(end, state)
        self.state = end
        self.check_out(parser.params, "parser", parser.name)
        return end

    def parser_state(self, state: ast.StateDecl, entry: State) -> State | None:
        """One state of a parser, up to its transition."""
        self.state = entry.copy()
        with self.inside(state):
            self.sequence(state.body)
            for expr in state.transition.select if state.transition is not None else []:
                self.read(expr)
        return self.state


def targets(state: ast.StateDecl) -> list[str]:
    """Where a state may go; without a transition to ``reject``."""
    if state.transition is None:
        return ["reject"]
    if state.transition.state is not None:
        return [state.transition.state]
    return list(dict.fromkeys(case.state for case in state.transition.cases))
