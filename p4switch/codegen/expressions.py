"""C for expressions.

Types are checked on the way, so that inconsistent IR is refused and never becomes C that means something else. An expression may
need statements in front of it (a value that must have an address, a check in a parser): they go to the current buffer, and under
``&&``, ``||`` and ``?:`` they stay conditional.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from p4switch.codegen.arithmetic import Value, literal
from p4switch.codegen.code import Code
from p4switch.codegen.context import Context, Scope
from p4switch.codegen.errors import CodegenError
from p4switch.codegen.types import is_wide, show
from p4switch.compiler import ir

BOOL = ir.Bool()
BIT32 = ir.Bits(width=32)
SCALARS = (ir.Bits, ir.Bool, ir.Error, ir.Enum)


class ExpressionGenerator:
    """Expressions of one C function; ``block`` is the parser or control that it belongs to, or "function"."""

    def __init__(self, context: Context, block: str, code: Code, scope: Scope):
        self.context = context
        self.types = context.types
        self.arithmetic = context.arithmetic
        self.block = block
        self.code = code
        self.scope = scope
        self.loc: ir.Location | None = None
        self._temporaries = 0

    # ---------------------------------------------------------------------------------------------------------- support

    def refuse(self, construct: str, reason: str) -> NoReturn:
        """Refuse the program at the current statement."""
        raise CodegenError(construct, reason, self.loc)

    def name(self, prefix: str) -> str:
        """A C identifier that is new in this function."""
        self._temporaries += 1
        return f"{prefix}_{self._temporaries}"

    def temporary(self, value: Value) -> str:
        """A C variable that holds the value."""
        name = self.name("t")
        self.code(f"{self.types.value_type(value.type)} {name} = {value.code};")
        return name

    @contextmanager
    def capture(self) -> Iterator[Code]:
        """Collect the statements that are generated inside."""
        saved, self.code = self.code, Code(self.code.depth)
        try:
            yield self.code
        finally:
            self.code = saved

    def expect(self, found: ir.Type, wanted: ir.Type, what: str) -> None:
        """Refuse inconsistent types."""
        if found != wanted:
            self.refuse(what, f"its type is {show(found)}, expected {show(wanted)}")

    def parser_error(self, name: str) -> str:
        """A statement that ends the parser with an error."""
        if self.block != "parser":
            self.refuse("parser operation", f"it can raise error.{name}, which is possible in a parser only")
        return f"{{ sm->parser_error = {self.context.error_index(name)}u; goto rejected; }}"

    # ---------------------------------------------------------------------------------------------------------- values

    def value(self, expr: ir.Expression) -> Value:
        """The value of an expression."""
        value = self._value(expr)
        self.expect(value.type, expr.type, f"{type(expr).__name__} expression")
        return value

    def typed(self, expr: ir.Expression, type_: ir.Type, what: str) -> Value:
        """The value of an expression that must have this type."""
        value = self.value(expr)
        self.expect(value.type, type_, what)
        return value

    def _value(self, expr: ir.Expression) -> Value:
        match expr:
            case ir.Const():
                return self.constant(expr)
            case ir.Var() | ir.Member() | ir.Index() | ir.StackNext() | ir.StackLast():
                return self.load(self.path(expr))
            case ir.StackLastIndex(base=base):
                stack = self.path(base)
                self.stack_type(stack)
                return Value(f"({stack.code}.next - 1u)", BIT32)
            case ir.StackSize(base=base):
                return Value(f"{self.stack_type(self.path(base)).size}u", BIT32)
            case ir.Slice(base=base, hi=hi, lo=lo):
                inner = self.value(base)
                if not isinstance(inner.type, ir.Bits) or not 0 <= lo <= hi < inner.type.width:
                    self.refuse(f"slice [{hi}:{lo}]", f"it does not lie within {show(inner.type)}")
                return self.arithmetic.slice(inner, hi, lo)
            case ir.IsValid(base=base):
                return self.validity(self.path(base))
            case ir.Unary(op=op, arg=arg):
                value = self.value(arg)
                if isinstance(value.type, ir.Bool) != (op == "!"):
                    self.refuse(f"operator {op!r}", f"it does not apply to {show(value.type)}")
                return self.arithmetic.unary(op, value)
            case ir.Binary():
                return self.binary(expr)
            case ir.Conditional():
                return self.conditional(expr)
            case ir.Cast():
                return self.cast(self.value(expr.arg), expr.type)
            case ir.StructExpr():
                return self.struct(expr)
            case ir.InvalidHeader(type=type_):
                if not isinstance(type_, ir.Header | ir.Union | ir.Stack):
                    self.refuse("{#}", f"it is an invalid header, which {show(type_)} cannot be")
                return Value(f"(({self.types.value_type(type_)}){{}})", type_)
            case ir.StringConst():
                self.refuse("string", "strings are possible only as the format of log_msg")
            case ir.Lookahead():
                self.refuse("lookahead", "it must be the whole right-hand side of an assignment in a parser")
        self.refuse(type(expr).__name__, "it is not an expression of the IR")

    def constant(self, expr: ir.Const) -> Value:
        """A literal."""
        try:
            number = expr.number
        except ValueError:
            self.refuse(f"constant {expr.value[:40]!r}", "it is not a decimal number")
        match expr.type:
            case ir.Bits(width=width, signed=signed):
                return self.arithmetic.constant(number, width, signed)
            case ir.Bool() if number in (0, 1):
                return Value("true" if number else "false", BOOL)
            case ir.Error() if 0 <= number < len(self.context.program.errors):
                return Value(f"{number}u", expr.type)
            case ir.Enum(name=name) if 0 <= number < len(self.types.enum_members(name)):
                return Value(f"{number}u", expr.type)
        self.refuse(f"constant {number}", f"it is no value of {show(expr.type)}")

    def load(self, place: Value) -> Value:
        """The value at a place; fields of at most 16 bits are kept narrower than C should compute with them."""
        if isinstance(place.type, ir.Bits) and place.type.width <= 16:
            return Value(f"((uint32_t){place.code})", place.type)
        return place

    def path(self, expr: ir.Expression) -> Value:
        """A C l-value to read from: of a variable or part of it, else of a temporary."""
        match expr:
            case ir.Var(name=name):
                found = self.scope.lookup(name)
                if found is None:
                    self.refuse(f"variable {name!r}", "it is not declared here")
                self.expect(found.type, expr.type, f"variable {name!r}")
                return Value(found.code, found.type)
            case ir.Member(base=base, field=field):
                return self.member(self.path(base), field)
            case ir.Index(base=base, index=index):
                stack = self.path(base)
                type_ = self.stack_type(stack)
                if isinstance(index, ir.Const) and 0 <= index.number < type_.size:
                    return Value(f"{stack.code}.e[{index.number}]", type_.element)
                position = self.arithmetic.amount(self.value(index))
                return Value(f"(*{self.types.element_reader(type_)}(&{stack.code}, {position}))", type_.element)
            case ir.StackNext(base=base):
                return self.next_element(self.path(base))
            case ir.StackLast(base=base):
                stack = self.path(base)
                type_ = self.stack_type(stack)
                if self.block == "parser":
                    self.code(f"if ({stack.code}.next == 0) {self.parser_error('StackOutOfBounds')}")
                reader = self.types.element_reader(type_)
                return Value(f"(*{reader}(&{stack.code}, {stack.code}.next - 1u))", type_.element)
        value = self.value(expr)
        return Value(self.temporary(value), value.type)

    def member(self, base: Value, field: str) -> Value:
        """A field of a place."""
        if not isinstance(base.type, ir.Struct | ir.Header | ir.Union):
            self.refuse(f"field {field!r}", f"{show(base.type)} has no fields")
        info = self.types.composite(base.type).field(field)
        if info is None:
            self.refuse(f"field {field!r}", f"{show(base.type)} has no such field")
        return Value(f"{base.code}.{info.c_name}", info.type)

    def stack_type(self, value: Value) -> ir.Stack:
        """The type of a place that must be a stack."""
        if not isinstance(value.type, ir.Stack):
            self.refuse("header stack", f"found a value of type {show(value.type)}")
        return value.type

    def next_element(self, stack: Value) -> Value:
        """``stack.next``, after the check that there is one."""
        type_ = self.stack_type(stack)
        self.code(f"if ({stack.code}.next >= {type_.size}u) {self.parser_error('StackOutOfBounds')}")
        return Value(f"{stack.code}.e[{stack.code}.next]", type_.element)

    def validity(self, place: Value) -> Value:
        """``isValid()``."""
        if isinstance(place.type, ir.Header):
            return Value(f"{place.code}.valid", BOOL)
        if isinstance(place.type, ir.Union):
            members = self.types.composite(place.type).fields
            any_valid = " || ".join(f"{place.code}.{f.c_name}.valid" for f in members)
            return Value(f"({any_valid or 'false'})", BOOL)
        self.refuse("isValid", f"{show(place.type)} has no validity")

    # ------------------------------------------------------------------------------------------------------- operations

    def binary(self, expr: ir.Binary) -> Value:
        """A binary operation."""
        op = expr.op
        if op in ("&&", "||"):
            return self.logical(expr)
        if op in ("==", "!=") and not isinstance(expr.left.type, SCALARS):
            left, right = self.path(expr.left), self.path(expr.right)
            self.expect(left.type, expr.left.type, "left operand")
            self.expect(right.type, left.type, "right operand")
            call = f"{self.types.equal(left.type)}(&{left.code}, &{right.code})"
            return Value(call if op == "==" else f"(!{call})", BOOL)
        a, b = self.value(expr.left), self.value(expr.right)
        if op not in ("<<", ">>", "++"):
            self.expect(b.type, a.type, f"right operand of {op!r}")
        if op in ("==", "!="):
            return self.arithmetic.equal(a, b, op == "!=")
        if not isinstance(a.type, ir.Bits) or not isinstance(b.type, ir.Bits):
            self.refuse(f"operator {op!r}", f"it needs numbers, found {show(a.type)} and {show(b.type)}")
        if op == "++":
            self.types.value_type(ir.Bits(width=a.type.width + b.type.width))
        try:
            return self.arithmetic.binary(op, a, b)
        except CodegenError as error:
            self.refuse(error.construct, error.reason)

    def logical(self, expr: ir.Binary) -> Value:
        """``&&`` and ``||``."""
        left = self.typed(expr.left, BOOL, f"left operand of {expr.op!r}")
        with self.capture() as before:
            right = self.typed(expr.right, BOOL, f"right operand of {expr.op!r}")
        if not before.lines:
            return Value(f"({left.code} {expr.op} {right.code})", BOOL)
        result = self.temporary(left)
        with self.code.block(f"if ({'' if expr.op == '&&' else '!'}{result})"):
            self.code.splice(before)
            self.code(f"{result} = {right.code};")
        return Value(result, BOOL)

    def conditional(self, expr: ir.Conditional) -> Value:
        """``cond ? then : otherwise``."""
        cond = self.typed(expr.cond, BOOL, "condition of ?:")
        with self.capture() as before_then:
            then = self.value(expr.then)
        with self.capture() as before_otherwise:
            otherwise = self.value(expr.otherwise)
        self.expect(otherwise.type, then.type, "third operand of ?:")
        if not before_then.lines and not before_otherwise.lines:
            return Value(f"({cond.code} ? {then.code} : {otherwise.code})", then.type)
        result = self.name("t")
        self.code(f"{self.types.value_type(then.type)} {result};")
        with self.code.block(f"if ({cond.code})"):
            self.code.splice(before_then)
            self.code(f"{result} = {then.code};")
        with self.code.block("else"):
            self.code.splice(before_otherwise)
            self.code(f"{result} = {otherwise.code};")
        return Value(result, then.type)

    def cast(self, value: Value, type_: ir.Type) -> Value:
        """Between numbers, and between bool and a number of one bit."""
        if value.type == type_:
            return value
        match value.type, type_:
            case ir.Bits(), ir.Bits():
                return self.arithmetic.resize(value, type_)
            case ir.Bool(), ir.Bits(width=1):
                return Value(f"((uint32_t){value.code})", type_)
            case ir.Bits(width=1), ir.Bool():
                return Value(f"({value.code} != 0)", type_)
        self.refuse("cast", f"there is none from {show(value.type)} to {show(type_)}")

    def struct(self, expr: ir.StructExpr) -> Value:
        """A struct or header from its fields."""
        if not isinstance(expr.type, ir.Struct | ir.Header):
            self.refuse("struct expression", f"its type is {show(expr.type)}, expected a struct or header")
        info = self.types.composite(expr.type)
        if len(info.fields) != len(expr.fields):
            self.refuse(f"value of {show(expr.type)}", f"it has {len(info.fields)} fields, {len(expr.fields)} given")
        parts = []
        for f, inner in zip(info.fields, expr.fields, strict=True):
            parts.append(f".{f.c_name} = {self.typed(inner, f.type, f'field {f.name!r}').code}")
        if isinstance(expr.type, ir.Header):
            parts.append(f".valid = {'true' if expr.valid else 'false'}")
        return Value(f"(({info.c_type}){{{', '.join(parts)}}})", expr.type)

    def number(self, value: Value) -> str:
        """A number of any width as a uint64_t; more than 64 bits are cut to the lowest."""
        type_ = value.type
        if not isinstance(type_, ir.Bits):
            self.refuse("argument", f"expected a number, found {show(type_)}")
        return f"(uint64_t){self.arithmetic.resize(value, ir.Bits(width=min(type_.width, 64))).code}"

    def index64(self, value: Value) -> str:
        """An index as a uint64_t that does not become small by being cut."""
        if not isinstance(value.type, ir.Bits):
            self.refuse("index", f"expected a number, found {show(value.type)}")
        return value.code if value.type.width <= 64 else self.arithmetic.amount(value)

    def bits_of(self, value: Value) -> Value:
        """A scalar as an unsigned number of its width outside the program."""
        width = self.types.scalar_width(value.type)
        if isinstance(value.type, ir.Bool):
            return Value(f"((uint32_t){value.code})", ir.Bits(width=1))
        return Value(value.code, ir.Bits(width=width))

    def from_bits(self, code: str, type_: ir.Type) -> Value:
        """The reverse of ``bits_of``: a scalar from C of the number's value type."""
        if isinstance(type_, ir.Bool):
            return Value(f"({code} != 0)", type_)
        return Value(code, type_)

    def zero_value(self, type_: ir.Type) -> str:
        """C for the zero of a type."""
        if isinstance(type_, ir.Bits) and not is_wide(type_):
            return literal(0, type_.width)
        if isinstance(type_, ir.Bool):
            return "false"
        if isinstance(type_, ir.Error | ir.Enum):
            return "0u"
        return f"(({self.types.value_type(type_)}){{}})"
