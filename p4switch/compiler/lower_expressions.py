"""Expressions: types them, folds constants, and moves side effects out into statements in order of evaluation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from p4switch.compiler import ast, ir
from p4switch.compiler import types as t
from p4switch.compiler.diagnostics import Loc
from p4switch.compiler.lower_base import Typed
from p4switch.compiler.lower_operators import BIT32, OperatorLowering
from p4switch.compiler.scope import ActionSymbol, Symbol, ValueSymbol

MAX_DEPTH = 200  # of an expression; chains such as a + b + c are as deep as they are long


class ExpressionLowering(OperatorLowering):
    """Rules for expressions but calls."""

    _depth = 0  # of the expression that is being lowered

    def expression(self, expr: ast.Expr) -> Typed:
        """Lower an expression."""
        self._depth += 1
        try:
            if self._depth > MAX_DEPTH:
                self.fail(expr.loc, f"an expression nested more than {MAX_DEPTH} levels deep")
            self.here = expr.loc
            value = self._expression(expr)
        finally:
            self._depth -= 1
        if value.loc is None:
            value.loc = expr.loc
        return value

    def _expression(self, expr: ast.Expr) -> Typed:
        match expr:
            case ast.Number(value=value, width=None):
                return Typed(t.INT, const=value)
            case ast.Number(value=value, width=width, signed=signed):
                type_ = t.BitsT(width, signed)  # type: ignore[arg-type]
                self.check_fits(value, type_, expr.loc)
                return self.constant(type_, value)
            case ast.Boolean(value=value):
                return Typed(t.BOOL, const=value)
            case ast.String(value=text):
                return Typed(t.STRING, const=text)
            case ast.Name():
                return self.name(expr)
            case ast.Dot():
                return self.dot(expr)
            case ast.IndexExpr():
                return self.index(expr)
            case ast.SliceExpr():
                return self.slice(expr)
            case ast.UnaryExpr():
                return self.unary(expr)
            case ast.BinaryExpr():
                return self.binary(expr)
            case ast.Ternary():
                return self.ternary(expr)
            case ast.CastExpr(type=type_ref, arg=arg):
                return self.cast(self.expression(arg), self.resolve(type_ref), expr.loc)
            case ast.ListExpr(items=items, rest=rest):
                values = self.in_order([self._thunk(item) for item in items])
                return Typed(t.TupleT(tuple(v.type for v in values)), items=values, rest=rest)
            case ast.RecordExpr(fields=fields, rest=rest):
                values = self.in_order([self._thunk(item) for _, item in fields])
                names = [n for n, _ in fields]
                if len(set(names)) != len(names):
                    self.fail(expr.loc, "a field is given twice")
                record = t.RecordT(tuple((n, v.type) for n, v in zip(names, values, strict=True)))
                return Typed(record, items=values, rest=rest)
            case ast.InvalidExpr():
                return Typed(t.InvalidT())
            case ast.Call():
                return self.call(expr)
            case ast.TypeExpr():
                self.fail(expr.loc, "expected a value, found a type")
            case ast.Dots():
                return Typed(t.DefaultT())
            case ast.DontCare():
                self.fail(expr.loc, "'_' is not a value")
        self.fail(expr.loc, f"a {type(expr).__name__.lower()} is not possible here")

    def call(self, expr: ast.Call) -> Typed:
        """A call with a result."""
        raise NotImplementedError

    def _thunk(self, expr: ast.Expr) -> Callable[[], Typed]:
        return lambda: self.expression(expr)

    def in_order(self, thunks: Sequence[Callable[[], Typed]]) -> list[Typed]:
        """Evaluate from left to right: a value is kept in a temporary if evaluating a later one has effects."""
        values: list[Typed] = []
        for thunk in thunks:
            with self.capture() as effects:
                value = thunk()
            if effects:
                values = [v if self.is_stable(v) else self.keep(v) for v in values]
                self.out.extend(effects)
            values.append(value)
        return values

    def keep(self, value: Typed) -> Typed:
        """A value as it is now; what is copied out stays the place it is."""
        if value.place is not None:
            if value.place == "inout" and value.kept is None:
                value.kept = self.temporary(Typed(value.type, value.expr)).expr
            return value
        if value.items is not None:
            return Typed(value.type, items=[self.keep(v) for v in value.items], rest=value.rest, loc=value.loc)
        if self.is_stable(value) or value.expr is None:
            return value
        kept = self.temporary(value)
        kept.loc = value.loc
        return kept

    # ---------------------------------------------------------------------------------------------------------- names

    def symbol(self, name: str, loc: Loc, absolute: bool = False) -> Symbol:
        """What a name stands for, or an error with a suggestion."""
        scope = self.root if absolute else self.scope
        found = scope.lookup(name, loc.offset)
        if found is None:
            if scope.lookup(name) is not None:
                self.fail(loc, f"'{name}' is declared only further down; P4 needs a declaration before the first use")
            self.fail(loc, f"unknown name '{name}'{scope.suggestion(name)}")
        if isinstance(found, ActionSymbol) and any(found is other for other in self.open_actions):
            # In its own body, an action's name is what it was outside of it.
            return (found.scope.parent.lookup(name) if found.scope.parent else None) or found
        return found

    def name(self, expr: ast.Name) -> Typed:
        """A variable or constant."""
        symbol = self.symbol(expr.name, expr.loc, expr.absolute)
        if not isinstance(symbol, ValueSymbol):
            self.fail(expr.loc, f"'{expr.name}' is not a value")
        if symbol.expr is not None:
            return Typed(symbol.type, symbol.expr)
        if isinstance(symbol.const, Typed):
            return Typed(symbol.type, symbol.const.expr, symbol.const.const, symbol.const.items)
        raise AssertionError(expr.name)

    def dot(self, expr: ast.Dot) -> Typed:
        """A member: of a value, an enum, ``error`` or a stack."""
        member = expr.member
        if isinstance(expr.base, ast.Name) and expr.base.name == "error":
            if member not in self.errors:
                self.fail(expr.loc, f"no error '{member}'; declared are {', '.join(self.errors)}")
            return Typed(t.ERROR, const=self.errors.index(member))
        if isinstance(expr.base, ast.TypeExpr):
            type_ = self.resolve(expr.base.type)
            if isinstance(type_, t.EnumT):
                return self.enum_member(type_, member, expr.loc)
            if member in ("minSizeInBits", "minSizeInBytes", "maxSizeInBits", "maxSizeInBytes"):
                self.fail(expr.loc, f"'{member}' is a method: call it with ()")
            self.fail(expr.loc, f"{type_} has no member '{member}'")
        if isinstance(expr.base, ast.Call):
            special = self.apply_result(expr.base, member)
            if special is not None:
                return special
        base = self.expression(expr.base)
        type_ = t.strip(base.type)
        if isinstance(type_, t.StackT):
            return self.stack_member(base, type_, member, expr.loc)
        if isinstance(type_, t.StructT):
            field = type_.field_type(member)
            if field is None and type_.kind != "struct" and member in ("isValid", "setValid", "setInvalid"):
                self.fail(expr.loc, f"'{member}' is a method: call it with ()")
            if field is None:
                names = ", ".join(n for n, _ in type_.fields)
                self.fail(expr.loc, f"{type_} has no field '{member}'; it has {names or 'none'}")
            if base.items is not None:
                base = self.coerce_items(base, type_, expr.loc)
            return self.part(base, [n for n, _ in type_.fields].index(member), field, member)
        if base.items is not None and isinstance(base.type, t.RecordT):
            for (n, _), item in zip(base.type.fields, base.items, strict=True):
                if n == member:
                    return item
        self.fail(expr.loc, f"{base.type} has no member '{member}'")

    def part(self, base: Typed, position: int, type_: t.Type, name: str) -> Typed:
        """A member of a struct, header or tuple; that of a constant is a constant."""
        whole = self.rvalue(base)
        if isinstance(whole, ir.StructExpr):
            known = whole.fields[position]
            if isinstance(known, ir.Const):
                return self.constant(type_, int(known.value))
            if isinstance(known, ir.StructExpr):
                return Typed(type_, known)
        return Typed(type_, ir.Member(type=self.ir_type(type_), base=whole, field=name))

    def apply_result(self, call: ast.Call, member: str) -> Typed | None:
        """``t.apply().hit`` and ``.miss``; None for other calls."""
        raise NotImplementedError

    def enum_member(self, type_: t.EnumT, member: str, loc: Loc) -> Typed:
        """``Enum.member``."""
        if member not in type_.members:
            self.fail(loc, f"{type_} has no member '{member}'; it has {', '.join(type_.members)}")
        index = type_.members.index(member)
        return Typed(type_, const=type_.values[index] if type_.base is not None else index)

    def stack_member(self, base: Typed, type_: t.StackT, member: str, loc: Loc) -> Typed:
        """``next``, ``last``, ``lastIndex``, ``size`` of a header stack."""
        if member == "size":
            return self.constant(BIT32, type_.size)
        expr = self.rvalue(base)
        if member in ("next", "last"):
            if self.unit.kind != "parser":
                self.fail(loc, f"'{member}' of a header stack is possible only in parsers")
            element = self.ir_type(type_.element)
            if member == "next":
                return Typed(type_.element, ir.StackNext(type=element, base=expr))
            return Typed(type_.element, ir.StackLast(type=element, base=expr))
        if member == "lastIndex":
            if self.unit.kind != "parser":
                self.fail(loc, "'lastIndex' of a header stack is possible only in parsers")
            return Typed(BIT32, ir.StackLastIndex(type=ir.Bits(width=32), base=expr))
        self.fail(loc, f"a header stack has no member '{member}'; it has next, last, lastIndex, size")

    def index(self, expr: ast.IndexExpr) -> Typed:
        """``stack[i]`` or ``tuple[i]``."""
        base = self.expression(expr.base)
        outer, self.assigning = self.assigning, False
        with self.capture() as effects:
            index = self.expression(expr.index)
        self.assigning = outer
        if effects and base.expr is not None:
            # The base may be part of an l-value: it stays the place it is, only its own indices are evaluated before.
            base.expr = self.freeze_indices(base.expr)
        self.out.extend(effects)
        type_ = t.strip(base.type)
        if isinstance(type_, t.TupleT) and type_.array and index.const is None:
            return self.array_element(base, type_, index, expr.loc)
        if isinstance(type_, t.TupleT):
            if not isinstance(index.const, int) or not 0 <= index.const < len(type_.items):
                self.fail(expr.index.loc, f"the index of {type_} must be a constant in 0..{len(type_.items) - 1}")
            if base.items is not None:
                return base.items[index.const]
            element = type_.items[index.const]
            return self.part(base, index.const, element, f"f{index.const}")
        if not isinstance(type_, t.StackT):
            self.fail(expr.loc, f"{base.type} cannot be indexed; header stacks, arrays and tuples can")
        if isinstance(index.const, int):
            if not 0 <= index.const < type_.size:
                self.fail(expr.index.loc, f"index {index.const} is outside of a stack of {type_.size} elements")
            index = self.constant(BIT32, index.const)
        elif not isinstance(t.strip(index.type), t.BitsT):
            self.fail(expr.index.loc, f"the index of a stack is a number, not {index.type}")
        return Typed(
            type_.element,
            ir.Index(type=self.ir_type(type_.element), base=self.rvalue(base), index=self.rvalue(index)),
        )

    def array_element(self, base: Typed, array: t.TupleT, index: Typed, loc: Loc) -> Typed:
        """The value of an element by a variable index; zero where there is none."""
        if self.assigning:
            self.fail(loc, "an element of an array by a variable index is assigned to as a whole, with '='")
        element = array.items[0]
        result = self.new_variable("element", element, self.default_value(element, loc))
        self.emit(self.each_element(base, array, index, loc, lambda place: ir.Assign(left=result, right=place)))
        return Typed(element, result)

    def each_element(
        self, base: Typed, array: t.TupleT, index: Typed, loc: Loc, act: Callable[[ir.Expression], ir.Statement]
    ) -> ir.Switch:
        """A switch over the index of an array that does something with the element."""
        index = self.as_number(index)
        if not isinstance(index.type, t.BitsT):
            self.fail(loc, f"the index of an array is a number, not {index.type}")
        count = min(len(array.items), 1 << index.type.width)
        cases = []
        for number in range(count):
            item = ir.Member(type=self.ir_type(array.items[0]), base=self.rvalue(base), field=f"f{number}")
            value = ir.Const(type=self.ir_type(index.type), value=str(number))
            cases.append(ir.Case(values=[value], body=[act(item)]))
        return ir.Switch(subject=self.rvalue(index), cases=cases, loc=self.location(loc))

    def slice(self, expr: ast.SliceExpr) -> Typed:
        """``value[hi:lo]``."""
        base = self.as_number(self.expression(expr.base))
        hi, lo = self.constant_int(expr.hi, "a slice bound"), self.constant_int(expr.lo, "a slice bound")
        type_ = base.type
        if type_ == t.INT:
            self.fail(expr.loc, "a slice of an integer without width")
        if not isinstance(type_, t.BitsT):
            self.fail(expr.loc, f"{base.type} has no bits to slice", self.cast_note(base.type))
        if not 0 <= lo <= hi < type_.width:
            self.fail(expr.loc, f"slice [{hi}:{lo}] is outside of {type_}; it needs {type_.width} > {hi} >= {lo} >= 0")
        result = t.BitsT(hi - lo + 1)
        if isinstance(base.const, int):
            return self.constant(result, base.const >> lo)
        return Typed(result, ir.Slice(type=self.ir_type(result), base=self.rvalue(base), hi=hi, lo=lo))

    # ----------------------------------------------------------------------------------------------------- operations

    def condition(self, expr: ast.Expr) -> Typed:
        """An expression that must be bool."""
        value = self.expression(expr)
        if value.type != t.BOOL:
            self.fail(
                expr.loc, f"expected bool, found {value.type}", "P4 does not convert numbers to bool: compare with 0"
            )
        return value

    def unary(self, expr: ast.UnaryExpr) -> Typed:
        """``- + ~ !``."""
        if expr.op == "!":
            arg = self.condition(expr.arg)
            if arg.const is not None:
                return Typed(t.BOOL, const=not arg.const)
            return Typed(t.BOOL, ir.Unary(type=ir.Bool(), op="!", arg=self.rvalue(arg)))
        arg = self.as_number(self.expression(expr.arg))
        if arg.type == t.INT and isinstance(arg.const, int):
            if expr.op == "~":
                self.fail(expr.loc, "'~' needs an operand with a width")
            return Typed(t.INT, const=-arg.const if expr.op == "-" else arg.const)
        if not isinstance(arg.type, t.BitsT):
            self.fail(expr.loc, f"'{expr.op}' is not defined for {arg.type}", self.cast_note(arg.type))
        if expr.op == "+":
            return arg
        if isinstance(arg.const, int):
            return self.constant(arg.type, -arg.const if expr.op == "-" else ~arg.const)
        op: ir.UnaryOp = "-" if expr.op == "-" else "~"
        return Typed(arg.type, ir.Unary(type=self.ir_type(arg.type), op=op, arg=self.rvalue(arg)))

    def binary(self, expr: ast.BinaryExpr) -> Typed:
        """Any binary operation."""
        op = expr.op
        if op in ("&&", "||"):
            return self.logical(expr)
        left, right = self.in_order([self._thunk(expr.left), self._thunk(expr.right)])
        return self.combine(op, left, right, expr.loc)

    def logical(self, expr: ast.BinaryExpr) -> Typed:
        """``&&`` and ``||``: the right side is evaluated only when it is needed."""
        left = self.condition(expr.left)
        with self.capture() as effects:
            right = self.condition(expr.right)
        if left.const is not None:
            if bool(left.const) == (expr.op == "||"):
                return left
            self.out.extend(effects)
            return right
        if not effects:
            if right.const is not None:
                return left if bool(right.const) == (expr.op == "&&") else Typed(t.BOOL, const=right.const)
            return Typed(t.BOOL, self._binary(expr.op, t.BOOL, left, right))
        result = self.temporary(left)
        assert result.expr is not None
        effects.append(ir.Assign(left=result.expr, right=self.rvalue(right)))
        wanted: ir.Expression = result.expr
        if expr.op == "||":
            wanted = ir.Unary(type=ir.Bool(), op="!", arg=wanted)
        self.emit(ir.If(cond=wanted, then=effects))
        return result

    @contextmanager
    def unless(self, dead: bool) -> Iterator[None]:
        """Code inside is checked; if it is ``dead``, the tables that only it applies are not part of the program."""
        yield

    def ternary(self, expr: ast.Ternary) -> Typed:
        """``cond ? then : otherwise``; only the chosen side is evaluated."""
        cond = self.condition(expr.cond)
        with self.capture() as then_effects, self.unless(cond.const is not None and not cond.const):
            then = self.expression(expr.then)
        with self.capture() as else_effects, self.unless(bool(cond.const)):
            otherwise = self.expression(expr.otherwise)
        if then.items is not None or otherwise.items is not None:
            other = otherwise.type if then.items is not None else then.type
            then, otherwise = self.coerce(then, other, expr.loc), self.coerce(otherwise, other, expr.loc)
        elif then.type == t.INT == otherwise.type and cond.const is None:
            self.fail(expr.loc, "both sides are integers without width: give one a width, as in 8w1")
        else:
            then, otherwise = self.unify_operands("?:", then, otherwise, expr.loc)
        if cond.const is not None:
            self.out.extend(then_effects if cond.const else else_effects)
            return then if cond.const else otherwise
        if not then_effects and not else_effects:
            return Typed(
                then.type,
                ir.Conditional(
                    type=self.ir_type(then.type),
                    cond=self.rvalue(cond),
                    then=self.rvalue(then),
                    otherwise=self.rvalue(otherwise),
                ),
            )
        result = self.new_variable("tmp", then.type)
        then_effects.append(ir.Assign(left=result, right=self.rvalue(then)))
        else_effects.append(ir.Assign(left=result, right=self.rvalue(otherwise)))
        self.emit(ir.If(cond=self.rvalue(cond), then=then_effects, otherwise=else_effects))
        return Typed(then.type, result)

    # ------------------------------------------------------------------------------------------------------- l-values

    def lvalue(self, expr: ast.Expr, why: str = "") -> Typed:
        """An expression that can be assigned to, with its indices evaluated once. ``why`` it must be one, for the message."""
        outer, self.assigning = self.assigning, True
        value = self.expression(expr)
        self.assigning = outer
        if not self.is_lvalue(value.expr, expr.loc, expr):
            self.fail(expr.loc, f"{why} this cannot be assigned to".strip())
        assert value.expr is not None
        return Typed(value.type, self.freeze_indices(value.expr))

    def freeze_indices(self, expr: ir.Expression) -> ir.Expression:
        """Indices of stacks in an l-value, evaluated now."""
        match expr:
            case ir.Member(base=base):
                return ir.Member(type=expr.type, base=self.freeze_indices(base), field=expr.field)
            case ir.Slice(base=base):
                return ir.Slice(type=expr.type, base=self.freeze_indices(base), hi=expr.hi, lo=expr.lo)
            case ir.Index(base=base, index=index) if not isinstance(index, ir.Const):
                name = self.unit.unique("index")
                if self.unit.locals is not None:
                    self.unit.locals.append(ir.Declare(name=name, type=index.type))
                    self.emit(ir.Assign(left=ir.Var(type=index.type, name=name), right=index))
                else:
                    self.emit(ir.Declare(name=name, type=index.type, init=index))
                kept = ir.Var(type=index.type, name=name)
                return ir.Index(type=expr.type, base=self.freeze_indices(base), index=kept)
        return expr

    def is_lvalue(self, expr: ir.Expression | None, loc: Loc, source: ast.Expr) -> bool:
        """Whether the expression is an l-value; refuses read-only ones by name."""
        root = source
        while isinstance(root, ast.Dot | ast.IndexExpr | ast.SliceExpr):
            root = root.base
        if not isinstance(root, ast.Name):
            return False
        symbol = self.scope.lookup(root.name)
        if isinstance(symbol, ValueSymbol) and symbol.expr is None:
            self.fail(loc, f"'{root.name}' is a constant")
        if isinstance(symbol, ValueSymbol) and not symbol.writable:
            self.fail(loc, f"'{root.name}' is read-only here")
        while isinstance(expr, ir.Member | ir.Index | ir.Slice | ir.StackNext | ir.StackLast):
            expr = expr.base
        return isinstance(expr, ir.Var)

    def overlaps(self, a: ir.Expression, b: ir.Expression) -> bool:
        """Whether two l-values may share storage."""
        path_a, path_b = self._path(a), self._path(b)
        return all(x == y or "*" in (x, y) for x, y in zip(path_a, path_b, strict=False))

    def _path(self, expr: ir.Expression) -> list[str]:
        match expr:
            case ir.Var(name=name):
                return [name]
            case ir.Member(base=base, field=field):
                return [*self._path(base), field]
            case ir.Index(base=base, index=ir.Const(value=value)):
                return [*self._path(base), value]
            case ir.Index(base=base) | ir.StackNext(base=base) | ir.StackLast(base=base):
                return [*self._path(base), "*"]
            case ir.Slice(base=base):
                return self._path(base)
        return ["*"]
