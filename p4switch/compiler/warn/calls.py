"""Flow analysis of calls: actions and tables are followed, all else reads its ``in`` and writes its ``out`` arguments."""

from __future__ import annotations

from collections.abc import Sequence

from p4switch.compiler import ast
from p4switch.compiler.source_text import text_of
from p4switch.compiler.warn.shapes import Record, Stack
from p4switch.compiler.warn.state import Place, State, Validity, join_outcomes
from p4switch.compiler.warn.values import Values, span

Outcome = tuple[str, State | None]  # an action of a table, and the state behind it

_MISS = ""  # no action of the table ran


def property_of(table: ast.TableDecl, name: str) -> ast.TableProperty | None:
    """A property of a table."""
    return next((p for p in table.properties if p.name == name), None)


class Calls(Values):
    """Evaluates calls."""

    def call(self, expr: ast.Call) -> None:
        """Any call."""
        if self.state is None:
            return
        self.step()
        function = expr.function
        if isinstance(function, ast.Dot):
            self.method(expr, function)
            return
        declaration = self.names.of(function) if isinstance(function, ast.Name) else None
        if isinstance(declaration, ast.ActionDecl):
            self.action(declaration, [a.value for a in expr.args])
        elif isinstance(declaration, ast.FunctionDecl):
            self.pass_arguments(expr.args, self.names.signature(declaration, len(expr.args)).params, Validity.UNKNOWN)
        else:
            self.pass_arguments(expr.args, None, Validity.UNKNOWN)

    def method(self, expr: ast.Call, function: ast.Dot) -> None:
        """``base.method(...)``."""
        base, name = function.base, function.member
        shape = self.shapes.of(base)
        if isinstance(shape, Record | Stack) and name in ("isValid", "setValid", "setInvalid"):
            self.follow(base)
            if name != "isValid":
                self.set_header(base, Validity.YES if name == "setValid" else Validity.NO)
            return
        if isinstance(shape, Stack) and name in ("push_front", "pop_front"):
            self.follow(base)
            places = self.places(base)
            self.written(places, shape)
            self.set_all(places, shape, Validity.UNKNOWN)
            return
        table = self.table(expr)
        if table is not None:
            self.state = self._joined(self.outcomes(table))
            return
        params = self.method_params(base, name, len(expr.args))
        self.pass_arguments(expr.args, params, Validity.YES if name == "extract" else Validity.UNKNOWN)

    def method_params(self, base: ast.Expr, name: str, count: int) -> list[ast.ParamDecl] | None:
        """The parameters of a control's or parser's apply or of an extern's method; None when they are not known."""
        type_: ast.TypeRef | None = None
        if isinstance(base, ast.TypeExpr):
            type_ = base.type
        elif isinstance(base, ast.Name):
            declaration = self.names.of(base)
            if isinstance(declaration, ast.Instantiation | ast.ParamDecl):
                type_ = declaration.type
        owner = self.names.of(type_) if isinstance(type_, ast.NamedType) else None
        while isinstance(owner, ast.TypedefDecl) and isinstance(owner.type, ast.NamedType):
            owner = self.names.of(owner.type)
        if isinstance(owner, ast.ControlDecl | ast.ParserDecl):
            return owner.params
        if isinstance(owner, ast.ExternDecl):
            return next((m.params for m in owner.methods if m.name == name and len(m.params) == count), None)
        return None

    def pass_arguments(
        self, args: Sequence[ast.Argument], params: Sequence[ast.ParamDecl] | None, result: Validity
    ) -> None:
        """Read what goes in, then write what comes out; headers that come out have the validity ``result``.

        Where the parameters are not known (None) all arguments are taken to be written."""
        if params is None:
            for argument in args:
                if argument.value is not None and self.places(argument.value):
                    self.write(argument.value)
            return
        named = {p.name: p for p in params}
        pairs = [
            (a.value, named.get(a.name) if a.name else params[i] if i < len(params) else None)
            for i, a in enumerate(args)
        ]
        for value, param in pairs:
            if value is not None and (param is None or param.direction != "out"):
                self.read(value)
        self.check_order(pairs)
        for value, param in pairs:
            if value is not None and param is not None and param.direction in ("out", "inout"):
                self.write(value)
                places = self.places(value)
                shape = self.shapes.of(value)
                if isinstance(shape, Record) and shape.kind == "header":
                    self.set_header(value, result)
                else:
                    self.set_all(places, shape, result)

    def check_order(self, pairs: Sequence[tuple[ast.Expr | None, ast.ParamDecl | None]]) -> None:
        """Two results that go to the same place: the later parameter wins, whatever the callee meant."""
        seen: list[Place] = []
        for value, param in pairs:
            if value is None or param is None or param.direction not in ("out", "inout"):
                continue
            places = self.places(value) if not isinstance(value, ast.SliceExpr) else []
            if len(places) == 1:
                if any(p[: len(q)] == q or q[: len(p)] == p for p in places for q in seen):
                    text = text_of(value)
                    self.report(
                        "ordering",
                        span(value),
                        f"'{text}' gets the result of two parameters; that of the last one stays",
                    )
                seen += places

    def write(self, target: ast.Expr) -> None:
        """An l-value gets a value; a slice reads the rest of its base."""
        if isinstance(target, ast.SliceExpr):
            self.read(target.base)
            target = target.base
        self.follow(target)
        self.written(self.places(target), self.shapes.of(target))

    # ---------------------------------------------------------------------------------------------- actions and tables

    def action(self, action: ast.ActionDecl, args: Sequence[ast.Expr | None]) -> None:
        """An action with its arguments; the control plane gives those that are missing."""
        for value, param in zip(args, action.params, strict=False):
            if value is not None and param.direction != "out":
                self.read(value)
        for index, param in enumerate(action.params):
            value = args[index] if index < len(args) else None
            out = param.direction == "out"
            self.fresh(param, out, Validity.NO if out else Validity.UNKNOWN)
            if value is not None and not out:
                self.copy_validity([(id(param),)], self.shapes.of_declaration(param), value)
        self.check_order(list(zip(args, action.params, strict=False)))
        self.enter_action(action)
        for value, param in zip(args, action.params, strict=False):
            if value is not None and param.direction in ("out", "inout"):
                self.write(value)
                self.copy_places(self.places(value), self.shapes.of(value), [(id(param),)])

    def enter_action(self, action: ast.ActionDecl) -> None:
        """Follow the body of an action."""
        raise NotImplementedError

    def table(self, call: ast.Call) -> ast.TableDecl | None:
        """The table of ``table.apply()``."""
        match call.function:
            case ast.Dot(base=ast.Name() as name, member="apply"):
                declaration = self.names.of(name)
                return declaration if isinstance(declaration, ast.TableDecl) else None
        return None

    def outcomes(self, table: ast.TableDecl) -> list[Outcome]:
        """Apply a table: the state behind each action that it may run."""
        keys, actions, default = (property_of(table, n) for n in ("key", "actions", "default_action"))
        for key in keys.keys if keys is not None else []:
            self.read(key.expr)
        before = self.state
        if before is None:
            return []
        found: list[Outcome] = []
        for element in actions.actions if actions is not None else []:
            declaration = self.names.of(element.action)
            self.state = before.copy()
            if isinstance(declaration, ast.ActionDecl):
                self.action(declaration, [a.value for a in element.args or []])
            found.append((element.action.name, self.state))
        if default is None and "NoAction" not in (name for name, _ in found):
            found.append((_MISS, before))
        self.state = before
        return found

    def table_result(self, call: ast.Call) -> tuple[State | None, State | None]:
        """The states after a hit and after a miss: a constant default action is the only one after a miss."""
        table = self.table(call)
        if table is None:
            self.call(call)
            return self.state, None if self.state is None else self.state.copy()
        self.step()
        outcomes = self.outcomes(table)
        default = property_of(table, "default_action")
        name = None
        if default is None:
            name = _MISS
        elif default.is_const:
            function = default.value.function if isinstance(default.value, ast.Call) else default.value
            name = function.name if isinstance(function, ast.Name) else None
        missed = [o for o in outcomes if o[0] == name]
        hit = self._joined([o for o in outcomes if o[0] != _MISS])
        miss = self._joined(missed or outcomes)
        return hit, miss.copy() if miss is not None else None

    @staticmethod
    def _joined(outcomes: Sequence[Outcome]) -> State | None:
        state: State | None = None
        for _, after in outcomes:
            state = join_outcomes(state, after)
        return state
