"""Calls: binding of arguments, inference of type arguments, copy-in and copy-out, functions, externs, built-in methods."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from p4switch.compiler import ast, ir
from p4switch.compiler import types as t
from p4switch.compiler.diagnostics import Loc
from p4switch.compiler.lower_base import Typed, Unit
from p4switch.compiler.lower_expressions import ExpressionLowering
from p4switch.compiler.lower_operators import BIT32
from p4switch.compiler.scope import (
    ActionSymbol,
    FunctionSymbol,
    Scope,
    Symbol,
    TypeSymbol,
    ValueSymbol,
)

# Where v1model allows its functions to be called (BMv2 simple_switch documentation), by block.
_BLOCKS: dict[str, tuple[str, ...]] = {
    "verify_checksum": ("verify_checksum",),
    "verify_checksum_with_payload": ("verify_checksum",),
    "update_checksum": ("compute_checksum",),
    "update_checksum_with_payload": ("compute_checksum",),
    "resubmit": ("ingress",),
    "resubmit_preserving_field_list": ("ingress",),
    "recirculate": ("egress",),
    "recirculate_preserving_field_list": ("egress",),
    "clone": ("ingress", "egress"),
    "clone3": ("ingress", "egress"),
    "clone_preserving_field_list": ("ingress", "egress"),
}
_CONTROL_ONLY = ("digest", "truncate", "mark_to_drop", "random", "hash")
_SUPPORTED = frozenset(_BLOCKS) | frozenset(_CONTROL_ONLY) | {"assert", "assume", "log_msg"}
CHECKSUM16 = "Checksum16"
EXTERN_KINDS = frozenset(
    ("counter", "direct_counter", "meter", "direct_meter", "register", "action_profile", "action_selector")
)
_WITH_DATA = {"clone3": 2, "resubmit": 0, "recirculate": 0}  # position of the deprecated functions' field list


class CallLowering(ExpressionLowering):
    """Rules for calls."""

    functions: dict[tuple[int, tuple[t.Type, ...]], str]
    open_functions: set[tuple[int, tuple[t.Type, ...]]]
    lowered_functions: list[ir.Function]

    def call(self, expr: ast.Call) -> Typed:
        """Any call; ``void`` results have type VOID."""
        function = expr.function
        if isinstance(function, ast.Name):
            symbol = self.symbol(function.name, function.loc, function.absolute)
            if isinstance(symbol, FunctionSymbol):
                return self.call_function(symbol, expr)
            if isinstance(symbol, ActionSymbol):
                self.call_action(symbol, expr)
                return Typed(t.VOID)
            self.fail(expr.loc, f"'{function.name}' cannot be called")
        if isinstance(function, ast.Dot):
            return self.call_method(function, expr)
        self.fail(expr.loc, "this cannot be called here; an instance is declared on its own, with a name")

    def call_method(self, function: ast.Dot, expr: ast.Call) -> Typed:
        """``base.method(...)``."""
        raise NotImplementedError

    def call_action(self, symbol: ActionSymbol, expr: ast.Call) -> None:
        """A direct call of an action."""
        raise NotImplementedError

    # -------------------------------------------------------------------------------------------------------- arguments

    def bind(
        self, params: Sequence[ast.ParamDecl], args: Sequence[ast.Argument], loc: Loc, what: str
    ) -> list[tuple[ast.ParamDecl, ast.Argument | None]]:
        """Pairs parameters with arguments, by position or by name; None where the default or ``_`` stands."""
        if len(args) > len(params):
            self.fail(loc, f"{what} takes {len(params)} arguments, {len(args)} given")
        by_name = any(a.name for a in args)
        if by_name and not all(a.name for a in args):
            self.fail(loc, f"either all arguments of {what} are named or none")
        given: dict[str, ast.Argument] = {}
        for position, argument in enumerate(args):
            name = argument.name or params[position].name
            if name in given:
                self.fail(argument.loc, f"argument '{name}' of {what} is given twice")
            given[name] = argument
        unknown = set(given) - {p.name for p in params}
        if unknown:
            self.fail(loc, f"{what} has no parameter '{min(unknown)}'; it has {', '.join(p.name for p in params)}")
        pairs: list[tuple[ast.ParamDecl, ast.Argument | None]] = []
        for parameter in params:
            bound = given.get(parameter.name)
            optional = parameter.default is not None or is_optional(parameter)
            if bound is None and not optional:
                self.fail(loc, f"no argument for parameter '{parameter.name}' of {what}")
            pairs.append((parameter, bound))
        return pairs

    def choose(self, overloads: Sequence[ast.FunctionDecl], args: Sequence[ast.Argument], loc: Loc) -> ast.FunctionDecl:
        """The overload that takes as many (or these named) arguments."""
        fitting = []
        for candidate in overloads:
            names = {p.name for p in candidate.params}
            required = {p.name for p in candidate.params if p.default is None and not is_optional(p)}
            if any(a.name for a in args):
                given = {a.name for a in args}
                fits = given <= names and required <= given
            else:
                fits = len(required) <= len(args) <= len(names)
            if fits:
                fitting.append(candidate)
        if not fitting and len(overloads) == 1:
            self.bind(overloads[0].params, args, loc, overloads[0].name)  # says what is wrong
        if not fitting:
            counts = " or ".join(str(len(o.params)) for o in overloads)
            self.fail(loc, f"{overloads[0].name} takes {counts} arguments, {len(args)} given")
        return fitting[0]

    def infer(self, pattern: t.Type, found: Typed, bindings: dict[str, t.Type], loc: Loc) -> None:
        """Bind type variables of ``pattern`` so that it becomes the type of ``found``."""
        if isinstance(pattern, t.TypeVar):
            type_ = found.type
            if type_ == t.INT:
                if pattern.name in bindings:
                    return
                width = max(32, int(found.const or 0).bit_length())
                type_ = t.BitsT(width)
            known = bindings.setdefault(pattern.name, type_)
            if known != type_ and found.type != t.INT and found.items is None:
                self.fail(loc, f"type parameter {pattern.name} would be both {known} and {type_}")
        elif isinstance(pattern, t.TupleT) and isinstance(found.type, t.TupleT):
            for inner, item in zip(pattern.items, found.type.items, strict=False):
                self.infer(inner, Typed(item), bindings, loc)
        elif isinstance(pattern, t.StructT) and isinstance(found.type, t.StructT) and pattern.args and found.type.args:
            for inner, item in zip(pattern.args, found.type.args, strict=False):
                self.infer(inner, Typed(item), bindings, loc)

    def evaluate_arguments(
        self,
        function: ast.FunctionDecl,
        expr: ast.Call,
        outer: Scope,
        what: str,
    ) -> tuple[list[tuple[ast.ParamDecl, t.Type, Typed | None]], Scope]:
        """Arguments in order, with the type parameters inferred or given.

        Returns (parameter, its type, value; None for an ignored ``out``) and the scope with the type parameters bound.
        """
        pairs = self.bind(function.params, expr.args, expr.loc, what)
        bindings: dict[str, t.Type] = {}
        if expr.type_args:
            if len(expr.type_args) != len(function.type_params):
                self.fail(
                    expr.loc, f"{what} takes {len(function.type_params)} type arguments, {len(expr.type_args)} given"
                )
            for name, ref in zip(function.type_params, expr.type_args, strict=True):
                given = self.resolve(ref)
                if given != t.DONT_CARE:
                    bindings[name] = given
        pattern_scope = outer.child()
        for name in function.type_params:
            pattern_scope.names[name] = TypeSymbol(t.TypeVar(name))
        thunks: list[Callable[[], Typed]] = []
        for parameter, argument in pairs:
            thunks.append(self._argument_thunk(parameter, argument, outer))
        values = self.in_order(thunks)
        for (parameter, argument), value in zip(pairs, values, strict=True):
            with self.in_scope(pattern_scope):
                pattern = self.resolve(parameter.type)
            if value.type != t.DONT_CARE:
                self.infer(pattern, value, bindings, argument.loc if argument else expr.loc)
        scope = outer.child()
        for name in function.type_params:
            scope.names[name] = TypeSymbol(bindings.get(name, t.VOID))
        result: list[tuple[ast.ParamDecl, t.Type, Typed | None]] = []
        for (parameter, argument), value in zip(pairs, values, strict=True):
            with self.in_scope(scope):
                type_ = self.resolve(parameter.type)
            loc = argument.loc if argument else expr.loc
            if value.type == t.DONT_CARE:
                if parameter.direction != "out" and not (argument is None and is_optional(parameter)):
                    self.fail(loc, f"'_' is possible only for out parameters; '{parameter.name}' of {what} is not")
                result.append((parameter, type_, None))
            elif parameter.direction in ("out", "inout"):
                if t.strip(value.type) != t.strip(type_):
                    self.fail(loc, f"parameter '{parameter.name}' of {what} is {type_}, found {value.type}")
                result.append((parameter, type_, value))
            else:
                if not parameter.direction and argument is not None and not self.is_known(value, argument.value):
                    self.fail(loc, f"'{parameter.name}' of {what} has no direction: it takes a compile-time constant")
                result.append((parameter, type_, self.coerce(value, type_, loc)))
        return result, scope

    def is_known(self, value: Typed, source: ast.Expr | None) -> bool:
        """Whether a value is known at compile time, or is itself a parameter without direction."""
        if value.items is not None:
            return all(self.is_known(item, None) for item in value.items)
        if isinstance(source, ast.Name):
            symbol = self.scope.lookup(source.name)
            return not (isinstance(symbol, ValueSymbol) and symbol.expr is not None and symbol.writable)
        return value.expr is None or not any(isinstance(node, ir.Var) for node in ir.walk(value.expr))

    def _argument_thunk(
        self, parameter: ast.ParamDecl, argument: ast.Argument | None, outer: Scope
    ) -> Callable[[], Typed]:
        def evaluate() -> Typed:
            if argument is None:
                if parameter.default is None:
                    return Typed(t.DONT_CARE)
                with self.in_scope(outer):
                    return self.expression(parameter.default)
            if argument.value is None:
                return Typed(t.DONT_CARE)
            if parameter.direction in ("out", "inout"):
                target = self.lvalue(
                    argument.value,
                    f"parameter '{parameter.name}' is {parameter.direction}: its argument is assigned to, and",
                )
                target.place = parameter.direction
                return target
            return self.expression(argument.value)

        return evaluate

    def pass_arguments(
        self, bound: Sequence[tuple[ast.ParamDecl, t.Type, Typed | None]], by_temporary: bool
    ) -> tuple[list[ir.Expression], list[ir.Assign]]:
        """IR arguments, and the copies back that must follow the call.

        With ``by_temporary`` every out argument goes through a variable of its own; else only where storage might be shared.
        """
        lvalues = [
            v.expr for p, _, v in bound if p.direction in ("out", "inout") and v is not None and v.expr is not None
        ]
        args: list[ir.Expression] = []
        back: list[ir.Assign] = []
        for parameter, type_, value in bound:
            if parameter.direction not in ("out", "inout"):
                assert value is not None
                shares = value.expr is not None and any(self.overlaps(value.expr, x) for x in lvalues)
                args.append(
                    self.rvalue(self.keep(value) if shares and isinstance(type_, t.StructT | t.StackT) else value)
                )
                continue
            if value is None:
                args.append(self.new_variable("ignored", type_))
                continue
            assert value.expr is not None
            if value.kept is not None:
                args.append(value.kept)
                back.append(ir.Assign(left=value.expr, right=value.kept))
                continue
            alone = sum(self.overlaps(value.expr, x) for x in lvalues) == 1 and not isinstance(value.expr, ir.Slice)
            if alone and not by_temporary and isinstance(value.expr, ir.Var | ir.Member):
                args.append(value.expr)
                continue
            init = Typed(type_, value.expr) if parameter.direction == "inout" else None
            copy = self.new_variable(parameter.name, type_, init)
            args.append(copy)
            back.append(ir.Assign(left=value.expr, right=copy))
        return args, back

    # -------------------------------------------------------------------------------------------------------- functions

    def call_function(self, symbol: FunctionSymbol, expr: ast.Call) -> Typed:
        """A function of the program, or an extern function."""
        declaration = self.choose(symbol.overloads, expr.args, expr.loc)
        if declaration.body is None:
            return self.call_extern_function(declaration, symbol.scope, expr)
        bound, scope = self.evaluate_arguments(declaration, expr, symbol.scope, declaration.name)
        with self.in_scope(scope):
            result_type = self.resolve(declaration.result)
        type_args = tuple(symbol_type(scope.names[n]) for n in declaration.type_params)
        name = self.function_name(declaration, scope, type_args, expr.loc)
        args, back = self.pass_arguments(bound, by_temporary=False)
        where = self.location(expr.loc)
        if result_type == t.VOID:
            self.emit(ir.CallFunction(function=name, args=args, loc=where))
            self.out.extend(back)
            return Typed(t.VOID)
        result = self.new_variable("result", result_type)
        self.emit(ir.CallFunction(function=name, args=args, result=result, loc=where))
        self.out.extend(back)
        return Typed(result_type, result)

    def function_name(
        self, declaration: ast.FunctionDecl, scope: Scope, type_args: tuple[t.Type, ...], loc: Loc
    ) -> str:
        """The IR function for these type arguments, lowered on first use."""
        key = (id(declaration), type_args)
        if key in self.open_functions:
            self.fail(loc, f"'{declaration.name}' calls itself: P4 has no recursion")
        if key in self.functions:
            return self.functions[key]
        self.open_functions.add(key)
        name, n = declaration.name, 0
        while name in self.functions.values():
            n += 1
            name = f"{declaration.name}_{n}"
        self.functions[key] = name
        unit = Unit("function", self.unit.block)
        with self.in_scope(scope.child()) as inner, self.in_unit(unit), self.capture() as body:
            unit.result = self.resolve(declaration.result)
            params = []
            for p in declaration.params:
                type_ = self.resolve(p.type)
                unique = unit.unique(p.name)
                direction = p.direction or "in"
                params.append(ir.Param(name=unique, type=self.ir_type(type_), direction=direction))
                expr = ir.Var(type=self.ir_type(type_), name=unique)
                inner.names[p.name] = ValueSymbol(type_, expr, writable=direction != "in")
            assert declaration.body is not None
            self.block(declaration.body)
            result = None if unit.result == t.VOID else self.ir_type(unit.result)
        self.open_functions.discard(key)
        self.lowered_functions.append(ir.Function(name=name, params=params, result=result, body=body))
        return name

    def block(self, block: ast.BlockStmt) -> None:
        """Lower a block."""
        raise NotImplementedError

    def call_extern_function(self, declaration: ast.FunctionDecl, outer: Scope, expr: ast.Call) -> Typed:
        """A function of core.p4 or v1model.p4."""
        name, block = declaration.name, self.unit.block
        if name == "static_assert":
            return self.static_assert(expr)
        if name == "verify":
            if block != "parser":
                self.fail(expr.loc, "'verify' can be called only in parsers")
            bound, _ = self.evaluate_arguments(declaration, expr, outer, name)
            cond, error = (self.rvalue(v) for _, _, v in bound if v is not None)
            self.emit(ir.Verify(cond=cond, error=error, loc=self.location(expr.loc)))
            return Typed(t.VOID)
        if name not in _SUPPORTED:
            return self.call_foreign(name, None, declaration, outer, expr)
        allowed = _BLOCKS.get(name, ("ingress", "egress") if name in _CONTROL_ONLY else ())
        if allowed and block not in allowed and self.unit.kind != "function":
            self.fail(expr.loc, f"'{name}' can be called only in {' and '.join(allowed)}, not in {block}")
        bound, _ = self.evaluate_arguments(declaration, expr, outer, name)
        if name in _WITH_DATA:
            return self.call_with_field_list(name, bound, expr)
        if name in ("clone_preserving_field_list", "clone"):
            kind = bound[0][2]
            wanted = {"ingress": 0, "egress": 1}.get(block)
            if kind is None or kind.const is None or (wanted is not None and kind.const != wanted):
                self.fail(expr.loc, f"in {block} the clone type must be CloneType.{'I2E' if wanted == 0 else 'E2E'}")
        args, back = self.pass_arguments(bound, by_temporary=False)
        if name == "digest":
            self.note_digest(bound[1][1])
        self.emit(ir.CallExtern(name=name, args=args, loc=self.location(expr.loc)))
        self.out.extend(back)
        return Typed(t.VOID)

    def call_foreign(
        self, name: str, instance: str | None, declaration: ast.FunctionDecl, outer: Scope, expr: ast.Call
    ) -> Typed:
        """An extern of the program's own. It compiles, so that its P4Info can be had; the code generator refuses it."""
        bound, scope = self.evaluate_arguments(declaration, expr, outer, name)
        with self.in_scope(scope):
            type_ = self.resolve(declaration.result)
        given = [b for b in bound if b[2] is not None or b[0].direction == "out"]  # without optional ones left out
        args, back = self.pass_arguments(given, by_temporary=False)
        result = None if type_ == t.VOID else self.new_variable("result", type_)
        where = self.location(expr.loc)
        self.emit(ir.CallExtern(name=name, instance=instance, args=args, result=result, foreign=True, loc=where))
        self.out.extend(back)
        return Typed(t.VOID) if result is None else Typed(type_, result)

    def checksum16(self, bound: Sequence[tuple[ast.ParamDecl, t.Type, Typed | None]], expr: ast.Call) -> Typed:
        """``Checksum16.get(data)`` of v1model's first version: the 16-bit ones' complement sum."""
        data = bound[0][2]
        assert data is not None
        result = self.new_variable("checksum", t.BitsT(16))
        enum = self.resolve(ast.NamedType(loc=expr.loc, name="HashAlgorithm"))
        assert isinstance(enum, t.EnumT)
        algorithm = Typed(enum, const=enum.members.index("csum16"))
        base, limit = self.constant(t.BitsT(16), 0), self.constant(BIT32, 1 << 16)
        args = [result, *(self.rvalue(v) for v in (algorithm, base, data, limit))]
        self.emit(ir.CallExtern(name="hash", args=args, loc=self.location(expr.loc)))
        return Typed(t.BitsT(16), result)

    def note_digest(self, type_: t.Type) -> None:
        """Remember a digest message for the control plane."""
        raise NotImplementedError

    def static_assert(self, expr: ast.Call) -> Typed:
        """Checked at compile time."""
        values = [self.expression(a.value) for a in expr.args if a.value is not None]
        if not values or values[0].const is None:
            self.fail(expr.loc, "static_assert needs a compile-time constant")
        if not values[0].const:
            self.fail(expr.loc, str(values[1].const) if len(values) > 1 else "static_assert failed")
        return Typed(t.BOOL, const=True)

    def call_with_field_list(
        self, name: str, bound: Sequence[tuple[ast.ParamDecl, t.Type, Typed | None]], expr: ast.Call
    ) -> Typed:
        """The deprecated functions that list their fields: as a field list of its own."""
        data = bound[_WITH_DATA[name]][2]
        assert data is not None
        index = self.anonymous_field_list(data, expr.loc)
        args = [self.rvalue(v) for i, (_, _, v) in enumerate(bound) if v is not None and i != _WITH_DATA[name]]
        args.append(ir.Const(type=ir.Bits(width=8), value=str(index)))
        modern = {"clone3": "clone_preserving_field_list"}.get(name, f"{name}_preserving_field_list")
        self.emit(ir.CallExtern(name=modern, args=args, loc=self.location(expr.loc)))
        return Typed(t.VOID)

    def anonymous_field_list(self, data: Typed, loc: Loc) -> int:
        """The index of a field list that holds these metadata fields."""
        raise NotImplementedError


def is_optional(parameter: ast.ParamDecl) -> bool:
    """Whether it carries ``@optional``: calls may leave it out."""
    return any(a.name == "optional" for a in parameter.annotations)


def symbol_type(symbol: Symbol) -> t.Type:
    """The type that a bound type parameter stands for."""
    assert isinstance(symbol, TypeSymbol)
    return symbol.type
