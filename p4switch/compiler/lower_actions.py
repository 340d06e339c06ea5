"""Actions, and calls of them."""

from __future__ import annotations

from collections.abc import Sequence

from p4switch.compiler import ast, ir
from p4switch.compiler import types as t
from p4switch.compiler.diagnostics import Loc
from p4switch.compiler.lower_base import Typed, Unit
from p4switch.compiler.lower_statements import StatementLowering
from p4switch.compiler.scope import ActionSymbol, ValueSymbol


class ActionLowering(StatementLowering):
    """Rules for actions."""

    actions: dict[tuple[str, str], ir.Action]
    action_symbols: dict[tuple[str, str], list[tuple[ActionSymbol, ir.Action]]]  # what a control-plane name stands for

    def use_action(self, symbol: ActionSymbol) -> ir.Action:
        """The IR action for the block being lowered, lowered on first use."""
        key = (self.unit.block, symbol.path)
        known = self.actions.get(key)
        if known is None:
            self.actions[key] = known = self.new_action(symbol)
            self.action_symbols[key] = [(symbol, known)]
            self.lower_action(symbol, known)
            return known
        for other, action in self.action_symbols[key]:
            if other is symbol:
                return action
        return self.namesake(symbol, key)

    def namesake(self, symbol: ActionSymbol, key: tuple[str, str]) -> ir.Action:
        """The action of a control-plane name that another one has: a copy of that, or a variant with a body of its own."""
        twin = self.new_action(symbol)
        self.lower_action(symbol, twin)
        found = next((a for _, a in self.action_symbols[key] if _canonical(a) == _canonical(twin)), None)
        if found is None:
            first, known = self.action_symbols[key][0]
            data = [[p.type for p in a.params if p.direction == "data"] for a in (known, twin)]
            if data[0] != data[1]:
                self.fail(
                    symbol.declaration.loc,
                    f"action '{symbol.declaration.name}' is '{symbol.path}' to the control plane, and so is "
                    f"'{first.declaration.name}' of line {first.declaration.loc.line}, which has other parameters",
                    "give each a name of its own with @name",
                )
            twin.name, twin.variant_of = f"{symbol.path} ({len(self.action_symbols[key]) + 1})", symbol.path
            self.actions[key[0], twin.name] = found = twin
        self.action_symbols[key].append((symbol, found))
        return found

    def new_action(self, symbol: ActionSymbol) -> ir.Action:
        """An action that is still to be lowered."""
        return ir.Action(
            name=symbol.path,
            control=self.unit.block,
            params=[],
            body=[],
            annotations=self.notes(symbol.declaration.annotations),
            loc=self.location(symbol.declaration.loc),
        )

    def lower_action(self, symbol: ActionSymbol, action: ir.Action) -> None:
        """Lower parameters and body."""
        declaration = symbol.declaration
        self.open_actions.append(symbol)
        unit = Unit("action", self.unit.block, names=set(self.unit.names))
        with self.in_scope(symbol.scope.child()) as scope, self.in_unit(unit), self.capture() as body:
            data_seen = False
            for p in declaration.params:
                type_ = self.resolve(p.type)
                if type_ == t.INT:
                    self.fail(p.loc, f"action parameter '{p.name}' needs a width")
                if not p.direction:
                    data_seen = True
                    if not isinstance(t.strip(type_), t.BitsT) and t.strip(type_) != t.BOOL:
                        if not isinstance(t.strip(type_), t.EnumT | t.Simple):
                            self.fail(p.loc, f"the control plane cannot supply a {type_}; bits, bools and enums it can")
                elif data_seen:
                    self.fail(p.loc, "parameters with a direction come before those of the control plane")
                unique = unit.unique(p.name)
                direction = p.direction or "data"
                action.params.append(
                    ir.Param(
                        name=unique,
                        type=self.ir_type(type_, p.loc),
                        direction=direction,
                        type_name=t.type_name(type_),
                        annotations=self.notes(p.annotations),
                    )
                )
                if unique != p.name:
                    action.params[-1].annotations.append(ir.Annotation(name="source_name", body=p.name))
                variable = ir.Var(type=self.ir_type(type_), name=unique)
                scope.names[p.name] = ValueSymbol(type_, variable, writable=direction in ("out", "inout"))
            self.block(declaration.body)
        self.open_actions.pop()
        action.body = body

    def action_symbol(self, name: ast.Name) -> ActionSymbol:
        """The action that a name means."""
        symbol = self.symbol(name.name, name.loc, name.absolute)
        if not isinstance(symbol, ActionSymbol):
            self.fail(name.loc, f"'{name.name}' is not an action")
        return symbol

    def call_action(self, symbol: ActionSymbol, expr: ast.Call) -> None:
        """A direct call: all parameters are given by the caller."""
        if self.unit.kind not in ("control", "action"):
            self.fail(expr.loc, "an action can be called only in a control")
        if any(symbol is other for other in self.open_actions):
            self.fail(expr.loc, f"action '{symbol.declaration.name}' calls itself: P4 has no recursion")
        action = self.use_action(symbol)
        bound = self.action_arguments(symbol, symbol.declaration.params, expr.args, expr.loc)
        # The body may reach the same variables by their own names: out arguments always go through a copy.
        args, back = self.pass_arguments(bound, by_temporary=True)
        self.emit(ir.CallAction(action=action.name, args=args, back=back, loc=self.location(expr.loc)))

    def action_arguments(
        self, symbol: ActionSymbol, params: Sequence[ast.ParamDecl], args: Sequence[ast.Argument], loc: Loc
    ) -> list[tuple[ast.ParamDecl, t.Type, Typed | None]]:
        """Parameters of an action with their types and arguments; None for an ignored ``out``."""
        name = symbol.declaration.name
        pairs = self.bind(params, args, loc, name)
        values = self.in_order([self._argument_thunk(p, a, symbol.scope) for p, a in pairs])
        bound: list[tuple[ast.ParamDecl, t.Type, Typed | None]] = []
        for (parameter, argument), value in zip(pairs, values, strict=True):
            with self.in_scope(symbol.scope):
                type_ = self.resolve(parameter.type)
            where = argument.loc if argument else loc
            if value.type == t.DONT_CARE:
                if parameter.direction != "out":
                    self.fail(where, f"'_' is possible only for out parameters; '{parameter.name}' of {name} is not")
                bound.append((parameter, type_, None))
            elif parameter.direction in ("out", "inout"):
                if value.type != type_:
                    self.fail(where, f"parameter '{parameter.name}' of {name} is {type_}, found {value.type}")
                bound.append((parameter, type_, value))
            else:
                bound.append((parameter, type_, self.coerce(value, type_, where)))
        return bound


def _canonical(action: ir.Action) -> object:
    """An action apart from places and from the names of its own variables."""
    names = [p.name for p in action.params] + [n.name for n in ir.walk(action.body) if isinstance(n, ir.Declare)]
    renamed = {name: str(number) for number, name in enumerate(names)}

    def strip(item: object) -> object:
        if isinstance(item, dict):
            kept = {k: strip(v) for k, v in item.items() if k not in ("loc", "annotations")}
            if kept.get("k") in ("var", "declare"):
                kept["name"] = renamed.get(str(kept["name"]), kept["name"])
            return kept
        return [strip(x) for x in item] if isinstance(item, list) else item

    params = [strip(ir.plain(p.type)) for p in action.params], [p.direction for p in action.params]
    return params, strip(ir.plain(action.body))
