"""C for l-values and assignments to them.

Writing to an element that a stack does not have goes to a sink. A member of a header union that becomes valid makes the other
members invalid (P4_16 section 8.19); one that becomes invalid leaves them as they are, as in BMv2.
"""

from __future__ import annotations

from dataclasses import dataclass

from p4switch.codegen.arithmetic import Value
from p4switch.codegen.expressions import ExpressionGenerator
from p4switch.codegen.types import show
from p4switch.compiler import ir


@dataclass(frozen=True)
class Target:
    """Something that can be assigned to: a C l-value, its type, and where it applies the other members of its union and the
    bits of a slice."""

    code: str
    type: ir.Type
    others: tuple[str, ...] = ()  # C l-values of the other headers of the union
    slice: tuple[int, int] | None = None


class LvalueGenerator(ExpressionGenerator):
    """L-values."""

    def target(self, expr: ir.Expression) -> Target:
        """Where an l-value leads."""
        found = self._target(expr)
        type_ = found.type if found.slice is None else ir.Bits(width=found.slice[0] - found.slice[1] + 1)
        self.expect(type_, expr.type, "l-value")
        return found

    def _target(self, expr: ir.Expression) -> Target:
        match expr:
            case ir.Var():
                place = self.path(expr)
                return Target(place.code, place.type)
            case ir.Member(base=base_expr, field=field):
                base = self.whole_target(base_expr)
                place = self.member(Value(base.code, base.type), field)
                others: tuple[str, ...] = ()
                if isinstance(base.type, ir.Union):
                    members = self.types.composite(base.type).fields
                    others = tuple(f"{base.code}.{f.c_name}" for f in members if f.name != field)
                return Target(place.code, place.type, others)
            case ir.Index(base=base_expr, index=index):
                base = self.whole_target(base_expr)
                type_ = self.stack_type(Value(base.code, base.type))
                if isinstance(index, ir.Const) and 0 <= index.number < type_.size:
                    return Target(f"{base.code}.e[{index.number}]", type_.element)
                position = self.arithmetic.amount(self.value(index))
                return Target(self.element(base.code, type_, position), type_.element)
            case ir.StackNext(base=base_expr):
                base = self.whole_target(base_expr)
                place = self.next_element(Value(base.code, base.type))
                return Target(place.code, place.type)
            case ir.StackLast(base=base_expr):
                base = self.whole_target(base_expr)
                type_ = self.stack_type(Value(base.code, base.type))
                if self.block == "parser":
                    self.code(f"if ({base.code}.next == 0) {self.parser_error('StackOutOfBounds')}")
                return Target(self.element(base.code, type_, f"{base.code}.next - 1u"), type_.element)
            case ir.Slice(base=base_expr, hi=hi, lo=lo):
                base = self.target(base_expr)
                width = hi - lo + 1
                if not isinstance(base_expr.type, ir.Bits) or not 0 <= lo <= hi < base_expr.type.width:
                    self.refuse(f"slice [{hi}:{lo}]", f"it does not lie within {show(base_expr.type)}")
                start = lo + (base.slice[1] if base.slice is not None else 0)
                return Target(base.code, base.type, slice=(start + width - 1, start))
        self.refuse(type(expr).__name__, "it cannot be assigned to")

    def whole_target(self, expr: ir.Expression) -> Target:
        """A target that parts can be taken of."""
        found = self.target(expr)
        if found.slice is not None:
            self.refuse("l-value", "a slice has no parts")
        return found

    def element(self, stack: str, type_: ir.Stack, position: str) -> str:
        """An element by a computed index, or a sink; evaluated once, here."""
        sink, pointer = self.name("sink"), self.name("e")
        element = self.types.value_type(type_.element)
        self.code(f"{element} {sink} = {{}};")
        self.code(f"{element} *const {pointer} = {self.types.element_writer(type_)}(&{stack}, {position}, &{sink});")
        return f"(*{pointer})"

    def store(self, target: Target, value: Value) -> None:
        """``target = value``."""
        if target.slice is not None:
            hi, lo = target.slice
            self.expect(value.type, ir.Bits(width=hi - lo + 1), "assigned value")
            old = self.load(Value(target.code, target.type))
            self.code(f"{target.code} = {self.arithmetic.with_slice(old, hi, lo, value).code};")
            return
        self.expect(value.type, target.type, "assigned value")
        self.code(f"{target.code} = {value.code};")
        if target.others:
            with self.code.block(f"if ({target.code}.valid)"):
                self.invalidate(target.others)

    def invalidate(self, headers: tuple[str, ...]) -> None:
        """Make these headers invalid."""
        for header in headers:
            self.code(f"{header}.valid = false;")

    def set_validity(self, target: Target, valid: bool) -> None:
        """``setValid`` and ``setInvalid``; in a union, a valid header leaves no other one valid."""
        if not isinstance(target.type, ir.Header):
            self.refuse("setValid" if valid else "setInvalid", f"{show(target.type)} is not a header")
        self.code(f"{target.code}.valid = {'true' if valid else 'false'};")
        if valid:
            self.invalidate(target.others)
