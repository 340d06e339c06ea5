"""Operators and casts on operands that have been lowered: which types they take, what they give, and constants folded."""

from __future__ import annotations

from p4switch.compiler import fold, ir
from p4switch.compiler import types as t
from p4switch.compiler.diagnostics import Loc
from p4switch.compiler.lexer import MAX_WIDTH
from p4switch.compiler.lower_base import LoweringBase, Typed

_ARITHMETIC = ("+", "-", "*", "/", "%", "|+|", "|-|", "&", "|", "^")
_COMPARISONS = ("<", "<=", ">", ">=")
BIT32 = t.BitsT(32)


class OperatorLowering(LoweringBase):
    """Rules for binary operators and casts. Nothing here evaluates an operand."""

    def combine(self, op: str, left: Typed, right: Typed, loc: Loc) -> Typed:
        """A binary operation, other than ``&&`` and ``||``, on operands that have been evaluated."""
        if op in ("<<", ">>"):
            return self.shift(op, left, right, loc)
        if op == "++":
            return self.concat(left, right, loc)
        if op in ("==", "!="):
            return self.equality(op, left, right, loc)
        if op in ("/", "%"):
            for side in (left, right):
                if side.type == t.INT and isinstance(side.const, int) and side.const < 0:
                    self.fail(loc, f"'{op}' is not defined for negative numbers, here {side.const}")
        left, right = self.unify_operands(op, left, right, loc)
        bits = left.type if isinstance(left.type, t.BitsT) else None
        if bits is None and left.type != t.INT:
            self.fail(loc, f"'{op}' is not defined for {left.type}", self.cast_note(left.type))
        if op in ("/", "%") and bits is not None and bits.signed:
            self.fail(loc, f"'{op}' is not defined for signed operands")
        if isinstance(left.const, int) and isinstance(right.const, int):
            if op in _COMPARISONS:
                return Typed(t.BOOL, const=fold.compare(op, left.const, right.const))
            try:
                return Typed(left.type, const=fold.arithmetic(op, left.const, right.const, bits))
            except fold.FoldError as error:
                self.fail(loc, str(error))
        if op in ("/", "%") and right.const == 0:
            self.fail(loc, "division by zero")
        result = t.BOOL if op in _COMPARISONS else left.type
        return Typed(result, self._binary(op, result, left, right))

    def _binary(self, op: str, result: t.Type, left: Typed, right: Typed) -> ir.Binary:
        return ir.Binary(type=self.ir_type(result), op=op, left=self.rvalue(left), right=self.rvalue(right))  # type: ignore[arg-type]

    def unify_operands(self, op: str, left: Typed, right: Typed, loc: Loc) -> tuple[Typed, Typed]:
        """Both sides as one type: a serialisable enum is its number, an integer without width takes the other's type."""
        if op != "?:" or left.type != right.type:
            left, right = self.as_number(left), self.as_number(right)
        if left.type == t.INT and isinstance(right.type, t.BitsT):
            left = self.coerce(left, right.type, loc)
        elif right.type == t.INT and isinstance(left.type, t.BitsT):
            right = self.coerce(right, left.type, loc)
        if left.type != right.type:
            new = next((x for x in (left.type, right.type) if isinstance(x, t.NewT)), None)
            if new is not None and op not in ("==", "!=", "?:"):
                self.fail(loc, f"'{op}' is not defined for {new}", self.cast_note(new))
            numbers = all(isinstance(x, t.BitsT | t.NewT) or x == t.INT for x in (left.type, right.type))
            note = "cast one of them" if numbers else None
            self.fail(loc, f"'{op}' needs operands of one type, found {left.type} and {right.type}", note)
        return left, right

    def shift(self, op: str, left: Typed, right: Typed, loc: Loc) -> Typed:
        """``<<`` and ``>>``: the result has the type of the left side."""
        left, right = self.as_number(left), self.as_number(right)
        if isinstance(right.type, t.BitsT) and right.type.signed and not isinstance(right.const, int):
            self.fail(loc, f"the shift amount must be unsigned, found {right.type}")
        if not isinstance(right.type, t.BitsT) and right.type != t.INT:
            self.fail(loc, f"the shift amount must be a number, found {right.type}", self.cast_note(right.type))
        bits = left.type if isinstance(left.type, t.BitsT) else None
        if bits is None and left.type != t.INT:
            self.fail(loc, f"'{op}' is not defined for {left.type}", self.cast_note(left.type))
        if isinstance(right.const, int):
            try:
                if isinstance(left.const, int):
                    return Typed(left.type, const=fold.shift(op, left.const, right.const, bits))
                fold.shift(op, 0, right.const, bits)
            except fold.FoldError as error:
                self.fail(loc, str(error))
            right = self.constant(BIT32, min(right.const, 0xFFFFFFFF))
        if bits is None:
            self.fail(loc, f"'{op}' of an integer without width by an amount that is not constant")
        return Typed(left.type, self._binary(op, left.type, left, right))

    def concat(self, left: Typed, right: Typed, loc: Loc) -> Typed:
        """``++``: the result has the sign of the left side."""
        left, right = self.as_number(left), self.as_number(right)
        a, b = left.type, right.type
        if left.type == t.STRING and right.type == t.STRING:
            return Typed(t.STRING, const=str(left.const) + str(right.const))
        if not isinstance(a, t.BitsT) or not isinstance(b, t.BitsT):
            self.fail(
                loc, f"'++' needs operands with a width, found {a} and {b}", self.cast_note(a) or self.cast_note(b)
            )
        if a.width + b.width > MAX_WIDTH:
            self.fail(loc, f"a result of {a.width + b.width} bits; at most {MAX_WIDTH} are supported")
        result = t.BitsT(a.width + b.width, a.signed)
        if isinstance(left.const, int) and isinstance(right.const, int):
            return self.constant(result, (left.const << b.width) | (right.const & ((1 << b.width) - 1)))
        return Typed(result, self._binary("++", result, left, right))

    def equality(self, op: str, left: Typed, right: Typed, loc: Loc) -> Typed:
        """``==`` and ``!=``, also of structs, headers, stacks, tuples and lists."""
        if right.items is not None or isinstance(right.type, t.InvalidT):
            right = self.coerce(right, left.type, loc) if left.items is None else right
        elif left.items is not None or isinstance(left.type, t.InvalidT):
            left = self.coerce(left, right.type, loc)
        else:
            left, right = self.unify_operands(op, left, right, loc)
        if isinstance(left.type, t.VarbitT) and left.type != right.type:
            self.fail(loc, f"varbits of different sizes: {left.type} and {right.type}")
        if left.const is not None and right.const is not None:
            return Typed(t.BOOL, const=(left.const == right.const) == (op == "=="))
        return Typed(t.BOOL, self._binary(op, t.BOOL, left, right))

    def cast(self, value: Typed, target: t.Type, loc: Loc) -> Typed:
        """An explicit cast (specification, section 8.11.1)."""
        if isinstance(target, t.ListT):
            return self.list_of(value, target, loc)
        if value.items is not None or isinstance(value.type, t.InvalidT):
            return self.coerce(value, target, loc)
        source, base = t.strip(value.type), t.strip(target)
        if value.type == target:
            return value
        if not self.castable(value, target):
            self.fail(loc, f"{value.type} cannot be cast to {target}", self.two_casts_note(value.type, target))
        if (
            isinstance(base, t.BitsT)
            and isinstance(value.const, int)
            and (source == t.INT or isinstance(source, t.BitsT))
        ):
            return self.constant(target, value.const)
        if target == t.INT and isinstance(value.const, int) and isinstance(source, t.BitsT):
            return Typed(t.INT, const=value.const)
        if base == t.BOOL and isinstance(value.const, int) and (source == t.INT or source == t.BitsT(1)):
            if source == t.INT and value.const not in (0, 1):
                self.fail(loc, f"{value.const} as bool; only 0 and 1 can be cast")
            return Typed(target, const=bool(value.const))
        if source == base:
            return Typed(target, value.expr, value.const)
        if base == t.BitsT(1) and source == t.BOOL and value.const is not None:
            return self.constant(target, int(value.const))
        return Typed(target, ir.Cast(type=self.ir_type(target), arg=self.rvalue(value)))

    @staticmethod
    def castable(value: Typed, target: t.Type) -> bool:
        """Whether the cast is among those of section 8.11.1; one step through a ``type`` or enum at a time."""
        source = value.type
        if (isinstance(target, t.NewT) and target.base == source) or (
            isinstance(source, t.NewT) and source.base == target
        ):
            return True
        if isinstance(value.const, int) and source == t.INT:
            return isinstance(t.strip(target), t.BitsT) or target in (t.INT, t.BOOL)
        if isinstance(source, t.EnumT) and source.base is not None:
            return target == source.base or (isinstance(target, t.EnumT) and target.base == source.base)
        if isinstance(target, t.EnumT):
            return target.base is not None and target.base == source
        if isinstance(source, t.BitsT) and isinstance(target, t.BitsT):
            return source.width == target.width or source.signed == target.signed
        if target == t.INT:
            return isinstance(source, t.BitsT) and isinstance(value.const, int)
        return {source, target} == {t.BOOL, t.BitsT(1)}

    @staticmethod
    def two_casts_note(source: t.Type, target: t.Type) -> str | None:
        """How to do in two casts what one cannot."""
        if isinstance(source, t.NewT | t.EnumT) and source.base is not None and t.strip(target) != source.base:
            return f"cast to {source.base} first"
        if isinstance(source, t.BitsT) and isinstance(target, t.BitsT):
            return f"a cast changes the sign or the width: cast to {t.BitsT(target.width, source.signed)} first"
        return "compare with 0" if target == t.BOOL else None

    @staticmethod
    def cast_note(type_: t.Type) -> str | None:
        """What to do with a value of a ``type``, on which no operators but == and != are defined."""
        return f"cast it to {t.strip(type_)}" if isinstance(type_, t.NewT) else None

    @staticmethod
    def as_number(value: Typed) -> Typed:
        """A value as operators see it: serialisable enums as their numbers."""
        type_ = t.number(value.type)
        return value if type_ is value.type else Typed(type_, value.expr, value.const, loc=value.loc)

    def list_of(self, value: Typed, target: t.ListT, loc: Loc) -> Typed:
        """``(list<T>) { ... }``."""
        if value.type == target:
            return value
        if value.items is None or isinstance(value.type, t.RecordT) or value.rest:
            self.fail(loc, f"{value.type} cannot be cast to {target}; {{ values }} can")
        items = [self.coerce(item, target.element, item.loc or loc) for item in value.items]
        return Typed(target, items=items)
