"""Parsers: states, transitions, value sets, and sub-parsers inlined between the halves of the state that applies them."""

from __future__ import annotations

from collections.abc import Sequence

from p4switch.compiler import ast, ir
from p4switch.compiler import notes as note_text
from p4switch.compiler import types as t
from p4switch.compiler.diagnostics import Loc
from p4switch.compiler.lower_base import Typed, Unit
from p4switch.compiler.lower_controls import ControlLowering
from p4switch.compiler.scope import InstanceSymbol, PacketSymbol, ValueSetSymbol, ValueSymbol


class ParserLowering(ControlLowering):
    """Rules for parsers."""

    states: list[ir.State]
    state_names: set[str]
    state_body: list[ir.Statement] | None
    state: ir.State
    value_sets: dict[str, ir.ValueSet]

    def top_parser(self, symbol: InstanceSymbol) -> tuple[ir.Parser, t.Type, t.Type]:
        """V1Switch's parser; also gives the types of headers and metadata."""
        declaration = symbol.declaration
        if not isinstance(declaration, ast.ParserDecl) or declaration.states is None:
            self.fail(declaration.loc, f"{declaration.name} is not a parser")
        directions = ("", "out", "inout", "inout")
        if len(declaration.params) != 4:
            self.fail(
                declaration.loc, f"v1model's parser has 4 parameters, {declaration.name} {len(declaration.params)}"
            )
        self.elaborated_blocks.add(id(declaration))
        unit = Unit("parser", "parser", locals=[])
        self.current_path = symbol.path
        scope = symbol.scope.child()
        names, types = [], []
        self.states, self.state_names = [], {"accept", "reject"}
        with self.in_unit(unit), self.in_scope(scope):
            for parameter, direction in zip(declaration.params, directions, strict=True):
                if not direction:
                    scope.names[parameter.name] = PacketSymbol("packet_in")
                    continue
                if parameter.direction != direction:
                    self.fail(parameter.loc, f"parameter '{parameter.name}' of the parser must be {direction}")
                type_ = self.resolve(parameter.type)
                types.append(type_)
                unique = unit.unique(parameter.name)
                names.append(unique)
                scope.names[parameter.name] = ValueSymbol(type_, ir.Var(type=self.ir_type(type_), name=unique))
            with self.in_scope(scope.child()), self.capture() as prologue:
                self.declare_locals(declaration.locals, symbol.path, prologue)
                self.active.append(symbol.path)
                start = self.lower_states(declaration, prologue, "accept", keep_names=True)
                self.active.pop()
        assert unit.locals is not None
        self.states.sort(key=lambda s: s.name != start)
        parser = ir.Parser(name=symbol.path, params=names, locals=unit.locals, states=self.states)
        return parser, types[0], types[1]

    def lower_states(
        self, declaration: ast.ParserDecl, prologue: list[ir.Statement], accept: str, keep_names: bool
    ) -> str:
        """Lower all states of a parser; returns the IR name of its start state, before which ``prologue`` runs."""
        assert declaration.states is not None
        names: dict[str, str] = {"accept": accept, "reject": "reject"}
        for state in declaration.states:
            if state.name in names:
                self.fail(state.loc, f"state '{state.name}' is declared twice or has a reserved name")
            names[state.name] = self.unique_state(state.name if keep_names else f"{declaration.name}_{state.name}")
        if "start" not in names:
            self.fail(declaration.loc, f"parser '{declaration.name}' has no state 'start'")
        if not can_end(declaration):
            self.fail(
                declaration.loc, f"parser '{declaration.name}' never ends: no path from start reaches accept or reject"
            )
        start = names["start"]
        if prologue:
            entry = self.unique_state("init" if keep_names else f"{declaration.name}_init")
            self.states.append(
                ir.State(name=entry, body=list(prologue), transition=go_to(start), inside=self.active[1:])
            )
            start = entry
        for state in declaration.states:
            self.lower_state(state, names)
        return start

    def unique_state(self, name: str) -> str:
        """A state name that is not used yet."""
        candidate, n = name, 0
        while candidate in self.state_names:
            n += 1
            candidate = f"{name}_{n}"
        self.state_names.add(candidate)
        return candidate

    def lower_state(self, declaration: ast.StateDecl, names: dict[str, str]) -> None:
        """One state; applying a sub-parser ends it and goes on in another."""
        self.state = self.open_state(names[declaration.name], declaration.name, declaration.loc)
        saved_out, saved_body = self.out, getattr(self, "state_body", None)
        self.out = self.state_body = []
        with self.in_scope(self.scope.child()):
            for item in declaration.body:
                self.item(item)
            transition = self.transition(declaration, names)
        self.state.body, self.state.transition = self.out, transition
        self.out, self.state_body = saved_out, saved_body

    def open_state(self, name: str, source_name: str, loc: Loc) -> ir.State:
        """A state to be filled."""
        state = ir.State(
            name=name,
            body=[],
            transition=go_to("reject"),
            source_name=source_name,
            inside=self.active[1:],
            loc=self.location(loc),
        )
        self.states.append(state)
        return state

    def apply_instance(self, symbol: InstanceSymbol, expr: ast.Call) -> None:
        """Inline a sub-parser; controls as ControlLowering does."""
        declaration = symbol.declaration
        if self.unit.block != "parser" or isinstance(declaration, ast.ControlDecl):
            super().apply_instance(symbol, expr)
            return
        if self.out is not self.state_body:
            self.fail(expr.loc, "a parser cannot be applied in a loop or switch")
        args = self.block_arguments(symbol, expr)
        self.within.append(declaration)
        elaborated, back = self.bind_block(symbol, args, expr.loc)
        calling, source_name = self.state, self.state.source_name or ""
        after = self.unique_state(f"{calling.name}_after_{declaration.name}")
        calling.body = self.out
        self.active.append(symbol.path)
        saved_path, self.current_path = self.current_path, symbol.path
        with self.in_scope(elaborated.scope):
            start = self.lower_states(declaration, elaborated.resets, after, keep_names=False)
        self.current_path = saved_path
        self.active.pop()
        self.within.pop()
        calling.transition = go_to(start)
        self.state = self.open_state(after, source_name, expr.loc)
        self.out = self.state_body = [*back]

    def statement(self, statement: ast.Stmt) -> None:
        """A conditional or block that applies a parser divides the state; everything else is as in controls."""
        whole = self.unit.kind == "parser" and self.out is self.state_body
        if whole and isinstance(statement, ast.BlockStmt | ast.IfStmt) and self.applies_parser(statement):
            if isinstance(statement, ast.BlockStmt):
                self.block(statement)
            else:
                self.divide(statement)
            return
        super().statement(statement)

    def applies_parser(self, statement: ast.Stmt | ast.Declaration | None) -> bool:
        """Whether the statement applies a parser."""
        match statement:
            case ast.BlockStmt(body=body):
                return any(self.applies_parser(item) for item in body)
            case ast.IfStmt(then=then, otherwise=otherwise):
                return self.applies_parser(then) or self.applies_parser(otherwise)
            case ast.CallStmt(call=ast.Call(function=ast.Dot(base=base, member="apply"))):
                if isinstance(base, ast.Name):
                    return isinstance(self.scope.lookup(base.name), InstanceSymbol)
                return isinstance(base, ast.TypeExpr)
        return False

    def divide(self, statement: ast.IfStmt) -> None:
        """``if`` as states: one for each side, and one that goes on after them."""
        cond = self.condition(statement.cond)
        source = self.state.source_name or ""
        name = self.state.name
        sides = [self.unique_state(f"{name}_{side}") for side in ("then", "else")]
        after = self.unique_state(f"{name}_endif")
        yes = ir.ValueKey(value=ir.Const(type=ir.Bool(), value="1"))
        cases = [ir.SelectCase(keys=[yes], state=sides[0]), ir.SelectCase(keys=[ir.AnyKey()], state=sides[1])]
        self.state.body = self.out
        self.state.transition = ir.Select(exprs=[self.rvalue(cond)], cases=cases, loc=self.location(statement.loc))
        for side, body in zip(sides, (statement.then, statement.otherwise), strict=True):
            self.state = self.open_state(side, source, statement.loc)
            self.out = self.state_body = []
            if body is not None:
                with self.in_scope(self.scope.child()):
                    self.statement(body)
            self.state.body, self.state.transition = self.out, go_to(after)
        self.state = self.open_state(after, source, statement.loc)
        self.out = self.state_body = []

    # ------------------------------------------------------------------------------------------------------ transitions

    def transition(self, declaration: ast.StateDecl, names: dict[str, str]) -> ir.Select:
        """``transition`` of a state; none means reject."""
        node = declaration.transition
        if node is None:
            return go_to("reject")
        if node.state is not None:
            return go_to(self.target(node.state, names, node.loc))
        values = self.in_order([self._thunk(e) for e in node.select])
        flat = [leaf for value in values for leaf in leaves(value)]
        for value in flat:
            if not isinstance(t.strip(value.type), t.BitsT | t.EnumT) and value.type not in (t.BOOL, t.ERROR):
                self.fail(value.loc or node.loc, f"select over a value of type {value.type} is not possible")
        cases = []
        for case in node.cases:
            state = self.target(case.state, names, case.loc)
            cases.append(ir.SelectCase(keys=self.select_keys(case, values), state=state))
        return ir.Select(exprs=[self.rvalue(v) for v in flat], cases=cases, loc=self.location(node.loc))

    def target(self, name: str, names: dict[str, str], loc: Loc) -> str:
        """The IR name of a state."""
        if name not in names:
            self.fail(loc, f"unknown state '{name}'; there are {', '.join(names)}")
        return names[name]

    def select_keys(self, case: ast.SelectCase, values: Sequence[Typed]) -> list[ir.Keyset]:
        """The keyset of a case, one part for each selected value."""
        keys = case.keys
        if len(keys) == 1 and isinstance(keys[0], ast.Name):
            symbol = self.scope.lookup(keys[0].name)
            if isinstance(symbol, ValueSetSymbol):
                flat = [leaf for value in values for leaf in leaves(value)]
                return [ir.ValueSetKey(value_set=self.use_value_set(symbol, flat, case.loc))]
        if len(values) == 1 and values[0].items is not None:  # select({a, b}) is select(a, b)
            values = values[0].items
        if len(keys) == 1 and isinstance(keys[0], ast.DontCare):
            return [ir.AnyKey() for value in values for _ in leaves(value)]
        if len(keys) == 1 and isinstance(keys[0], ast.ListExpr):
            keys = keys[0].items
        return self.keys_of(keys, values, case.loc)

    def keys_of(self, keys: Sequence[ast.Expr], values: Sequence[Typed], loc: Loc) -> list[ir.Keyset]:
        """One key for each value; a list for a list, or one that takes all of it."""
        if len(keys) != len(values):
            self.fail(loc, f"the select has {len(values)} values, this keyset {len(keys)}")
        result: list[ir.Keyset] = []
        for key, value in zip(keys, values, strict=True):
            if value.items is None:
                result.append(self.select_key(key, value.type))
            elif isinstance(key, ast.DontCare):
                result.extend(ir.AnyKey() for _ in leaves(value))
            elif isinstance(key, ast.ListExpr):
                result.extend(self.keys_of(key.items, value.items, key.loc))
            else:
                self.fail(key.loc, f"the select has a list here: expected one of {len(value.items)} keys, or default")
        return result

    def select_key(self, key: ast.Expr, type_: t.Type) -> ir.Keyset:
        """One part of a keyset."""
        match key:
            case ast.DontCare():
                return ir.AnyKey()
            case ast.Mask(value=value, mask=mask):
                return ir.MaskKey(value=self.key_constant(value, type_), mask=self.key_constant(mask, type_))
            case ast.Range(lo=lo, hi=hi):
                return ir.RangeKey(lo=self.key_constant(lo, type_), hi=self.key_constant(hi, type_))
        return ir.ValueKey(value=self.key_constant(key, type_))

    def key_constant(self, expr: ast.Expr, type_: t.Type) -> ir.Const:
        """A constant of a keyset; masks of new types and enums are plain numbers."""
        if isinstance(expr, ast.Name) and isinstance(self.scope.lookup(expr.name), ValueSetSymbol):
            self.fail(expr.loc, f"value set '{expr.name}' must be the whole case: it holds all values of the select")
        value = self.expression(expr)
        base = t.strip(type_)
        if value.type != type_ and isinstance(base, t.BitsT) and isinstance(value.const, int) and value.type != t.BOOL:
            if value.type != t.INT and t.strip(value.type) != base:
                self.fail(expr.loc, f"expected {type_}, found {value.type}")
            value = self.constant(type_, value.const)
        value = self.coerce(value, type_, expr.loc)
        if value.const is None:
            self.fail(expr.loc, "a select key must be a compile-time constant")
        constant = self.rvalue(value)
        assert isinstance(constant, ir.Const)
        return constant

    def use_value_set(self, symbol: ValueSetSymbol, values: Sequence[Typed], loc: Loc) -> str:
        """The IR value set, declared on first use."""
        if symbol.name in self.value_sets:
            return symbol.name
        base = t.strip(symbol.type)
        fields: list[ir.KeyField] = []
        if isinstance(base, t.StructT):
            assert base.declaration is not None
            notes = {f.name: f.annotations for f in base.declaration.fields}
            for name, type_ in base.fields:
                kind = note_text.find(notes[name], "match")
                fields.append(
                    ir.KeyField(
                        name=note_text.name_of(notes[name]) or name,
                        type=self.ir_type(type_),
                        kind=(kind.body or "exact").strip() if kind else "exact",  # type: ignore[arg-type]
                        type_name=t.type_name(type_),
                        annotations=self.notes(notes[name]),
                    )
                )
        elif isinstance(base, t.TupleT):
            fields = [ir.KeyField(name=f"f{i}", type=self.ir_type(x), kind="exact") for i, x in enumerate(base.items)]
        else:
            note = note_text.find(symbol.declaration.annotations, "match")
            kind_name = (note.body or "exact").strip() if note else "exact"
            fields = [
                ir.KeyField(
                    name="",
                    type=self.ir_type(symbol.type),
                    kind=kind_name,  # type: ignore[arg-type]
                    type_name=t.type_name(symbol.type),
                )
            ]
        if [f.type for f in fields] != [self.ir_type(v.type) for v in values]:
            self.fail(loc, f"value set '{symbol.name}' holds {symbol.type}, which the select does not give")
        size, what = symbol.declaration.size, "the size of a value set"
        self.value_sets[symbol.name] = ir.ValueSet(
            name=symbol.name,
            fields=fields,
            size=self.check_size(self.constant_int(size, what), size.loc, what),
            annotations=self.notes(symbol.declaration.annotations),
        )
        return symbol.name


def go_to(state: str) -> ir.Select:
    """An unconditional transition."""
    return ir.Select(cases=[ir.SelectCase(keys=[], state=state)])


def can_end(declaration: ast.ParserDecl) -> bool:
    """Whether some path from the start leaves the parser. No matching case, and no transition at all, lead to reject."""
    states = {state.name: state for state in declaration.states or []}
    work, reached = ["start"], set[str]()
    while work:
        name = work.pop()
        if name in reached:
            continue
        reached.add(name)
        if name not in states:  # accept, reject
            return True
        transition = states[name].transition
        if transition is None:
            return True
        if transition.state is not None:
            work.append(transition.state)
            continue
        if not any(isinstance(case.keys[0], ast.DontCare) for case in transition.cases):
            return True
        work.extend(case.state for case in transition.cases)
    return False


def leaves(value: Typed) -> list[Typed]:
    """The values in a list expression, however deep."""
    return [value] if value.items is None else [leaf for item in value.items for leaf in leaves(item)]
