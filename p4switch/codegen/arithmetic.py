"""C for operations on numbers: each takes and gives values whose bits above their width are zero (P4_16 sections 8.6, 8.8).

Numbers of up to 128 bits are C integers and their operations are C's, masked where a result can exceed its width;
beyond that they are calls of the functions in ``p4wide.h``.
"""

from __future__ import annotations

from dataclasses import dataclass

from p4switch.codegen.errors import CodegenError
from p4switch.codegen.types import TypeTable, is_wide, machine_width, show
from p4switch.compiler import ir


@dataclass(frozen=True)
class Value:
    """A C expression without side effects, fit to stand as an operand, and the P4 type of its value."""

    code: str
    type: ir.Type


def literal(number: int, width: int) -> str:
    """A C constant of the type that holds ``width`` bits."""
    number &= (1 << width) - 1
    if width <= 32:
        return f"{hex(number)}u"
    if width <= 64:
        return f"UINT64_C({hex(number)})"
    if width <= 128:
        return f"P4_U128({hex(number >> 64)}ull, {hex(number & (1 << 64) - 1)}ull)"
    words = [f"{hex(number >> 64 * i & (1 << 64) - 1)}ull" for i in range((width + 63) // 64)]
    return f"((p4_w{len(words)}){{{{{', '.join(words)}}}}})"


class Arithmetic:
    """Operations on values. Types have been checked by the caller only as far as the methods say."""

    def __init__(self, types: TypeTable):
        self.types = types

    def constant(self, number: int, width: int, signed: bool = False) -> Value:
        """A number."""
        type_ = ir.Bits(width=width, signed=signed)
        self.types.value_type(type_)
        return Value(literal(number, width), type_)

    @staticmethod
    def bits(value: Value) -> ir.Bits:
        """The type of a value that must be a number."""
        if not isinstance(value.type, ir.Bits):
            raise CodegenError("arithmetic", f"it needs numbers, found {show(value.type)}")
        return value.type

    @staticmethod
    def mask(code: str, width: int) -> str:
        """``code`` without the bits above ``width``."""
        return code if width == machine_width(width) else f"({code} & {literal(-1, width)})"

    # ------------------------------------------------------------------------------------------------------------ unary

    def unary(self, op: str, value: Value) -> Value:
        """``-``, ``~`` and ``!``."""
        if op == "!":
            return Value(f"(!{value.code})", ir.Bool())
        type_ = self.bits(value)
        c_type = self.types.value_type(type_)
        width = type_.width
        if is_wide(type_):
            if op == "~":
                return Value(f"{c_type}_not({value.code}, {width}u)", type_)
            return Value(f"{c_type}_sub({literal(0, width)}, {value.code}, {width}u)", type_)
        code = f"(~{value.code})" if op == "~" else f"(({c_type})0 - {value.code})"
        return Value(self.mask(code, width), type_)

    # ----------------------------------------------------------------------------------------------------------- binary

    def binary(self, op: str, a: Value, b: Value) -> Value:
        """All binary operations on numbers but ``&&`` and ``||``; operands of one type except for shifts and ``++``."""
        if op == "++":
            return self.concat(a, b)
        if op in ("<<", ">>"):
            return self.shift(op, a, b)
        type_ = self.bits(a)
        if op in ("==", "!="):
            return self.equal(a, b, op == "!=")
        if op in ("<", "<=", ">", ">="):
            return self.compare(op, a, b)
        c_type, width = self.types.value_type(type_), type_.width
        if op in ("/", "%") and type_.signed:
            raise CodegenError(f"operator {op!r}", "it is defined for unsigned numbers only (P4_16 section 8.6)")
        if is_wide(type_):
            name = {"+": "add", "-": "sub", "*": "mul", "/": "div", "%": "mod", "&": "and", "|": "or", "^": "xor"}.get(
                op
            )
            if name is None:
                name = ("s" if type_.signed else "u") + {"|+|": "add", "|-|": "sub"}[op]
            args = f"{a.code}, {b.code}" if op in "/%&|^" else f"{a.code}, {b.code}, {width}u"
            return Value(f"{c_type}_{name}({args})", type_)
        size = machine_width(width)
        if op in ("&", "|", "^"):
            return Value(f"({a.code} {op} {b.code})", type_)
        if op in ("+", "-", "*"):
            return Value(self.mask(f"({a.code} {op} {b.code})", width), type_)
        if op in ("/", "%"):
            return Value(f"p4_{'div' if op == '/' else 'mod'}{size}({a.code}, {b.code})", type_)
        if width == 0:
            return Value("0u", type_)
        ones = literal(-1, width)
        what = {"|+|": "add", "|-|": "sub"}[op]
        if type_.signed:
            return Value(f"p4_s{what}{size}({a.code}, {b.code}, {width}u, {ones})", type_)
        args = f"{a.code}, {b.code}, {ones}" if op == "|+|" else f"{a.code}, {b.code}"
        return Value(f"p4_u{what}{size}({args})", type_)

    def equal(self, a: Value, b: Value, negate: bool = False) -> Value:
        """``==`` of scalars of one type."""
        if is_wide(a.type):
            return Value(f"({'!' if negate else ''}{self.types.value_type(a.type)}_eq({a.code}, {b.code}))", ir.Bool())
        return Value(f"({a.code} {'!=' if negate else '=='} {b.code})", ir.Bool())

    def compare(self, op: str, a: Value, b: Value) -> Value:
        """``<`` and its kin; signed numbers are compared with their sign bits flipped."""
        type_ = self.bits(a)
        width = type_.width
        if is_wide(type_):
            if op in (">", "<="):
                a, b = b, a
            c_type = self.types.value_type(type_)
            call = (
                f"{c_type}_sless({a.code}, {b.code}, {width}u)"
                if type_.signed
                else f"{c_type}_less({a.code}, {b.code})"
            )
            return Value(f"(!{call})" if op in ("<=", ">=") else f"({call})", ir.Bool())
        if type_.signed and width > 0:
            sign = literal(1 << (width - 1), width)
            return Value(f"(({a.code} ^ {sign}) {op} ({b.code} ^ {sign}))", ir.Bool())
        return Value(f"({a.code} {op} {b.code})", ir.Bool())

    def amount(self, value: Value) -> str:
        """A shift amount as a uint32_t."""
        type_ = self.bits(value)
        if is_wide(type_):
            return f"{self.types.value_type(type_)}_amount({value.code})"
        return value.code if type_.width <= 32 else f"p4_amount({value.code})"

    def shift(self, op: str, a: Value, b: Value) -> Value:
        """Shifts; by the width or more they give zero, or copies of the sign (P4_16 section 8.10.2)."""
        type_ = self.bits(a)
        width, size = type_.width, machine_width(type_.width)
        if width == 0:
            return Value("0u", type_)
        by, ones = self.amount(b), literal(-1, width)
        name = "shl" if op == "<<" else "sshr" if type_.signed else "shr"
        if is_wide(type_):
            return Value(f"{self.types.value_type(type_)}_{name}({a.code}, {by}, {width}u)", type_)
        tail = f"{width}u" if name == "shr" else f"{width}u, {ones}"
        return Value(f"p4_{name}{size}({a.code}, {by}, {tail})", type_)

    # ------------------------------------------------------------------------------------------- widths, parts, concat

    def resize(self, value: Value, type_: ir.Bits) -> Value:
        """To another width or sign: extended by the sign if ``value`` is signed, or cut (P4_16 section 8.11.1)."""
        source = self.bits(value)
        self.types.value_type(type_)
        if source.width == type_.width:
            return Value(value.code, type_)
        extend = source.signed and source.width < type_.width and source.width > 0
        if is_wide(type_):
            c_type = self.types.value_type(type_)
            code = (
                f"{c_type}_of({value.code}.l, {(source.width + 63) // 64}u)"
                if is_wide(source)
                else (f"{c_type}_of128({value.code})")
            )
            if extend:
                code = f"{c_type}_extend({code}, {source.width}u, {type_.width}u)"
            elif source.width > type_.width:
                code = f"{c_type}_fit({code}, {type_.width}u)"
            return Value(code, type_)
        code = value.code
        if is_wide(source):
            code = f"{self.types.value_type(source)}_low({code})"
        if machine_width(source.width) != machine_width(type_.width):
            code = f"(({self.types.value_type(type_)}){code})"
        if extend:
            sign = literal(1 << (source.width - 1), type_.width)
            code = self.mask(f"(({code} ^ {sign}) - {sign})", type_.width)
        elif source.width > type_.width:
            code = self.mask(code, type_.width)
        return Value(code, type_)

    def concat(self, a: Value, b: Value) -> Value:
        """``a ++ b``; the sign is that of ``a`` (P4_16 section 8.10.1)."""
        left, right = self.bits(a), self.bits(b)
        result = ir.Bits(width=left.width + right.width, signed=left.signed)
        plain = ir.Bits(width=result.width)
        high = self.resize(Value(a.code, ir.Bits(width=left.width)), plain)
        low = self.resize(Value(b.code, ir.Bits(width=right.width)), plain)
        if left.width == 0:
            return Value(low.code, result)
        if right.width == 0:
            return Value(high.code, result)
        if is_wide(plain):
            c_type = self.types.value_type(plain)
            shifted = f"{c_type}_shl({high.code}, {right.width}u, {plain.width}u)"
            return Value(f"{c_type}_or({shifted}, {low.code})", result)
        return Value(f"(({high.code} << {right.width}) | {low.code})", result)

    def slice(self, value: Value, hi: int, lo: int) -> Value:
        """``value[hi:lo]``."""
        source = self.bits(value)
        if not 0 <= lo <= hi < source.width:
            raise CodegenError(f"slice [{hi}:{lo}]", f"the value has bits {source.width - 1} to 0")
        part = ir.Bits(width=source.width - lo)
        if lo == 0:
            shifted = Value(value.code, part)
        elif is_wide(source):
            c_type = self.types.value_type(source)
            shifted = self._narrow(f"{c_type}_shr({value.code}, {lo}u, {source.width}u)", source, part)
        else:
            shifted = self._narrow(f"({value.code} >> {lo})", source, part)
        return self.resize(shifted, ir.Bits(width=hi - lo + 1))

    def _narrow(self, code: str, source: ir.Bits, type_: ir.Bits) -> Value:
        """``code`` of ``source``'s C type, whose value fits ``type_``, in the C type of ``type_``."""
        if machine_width(source.width) == machine_width(type_.width):
            return Value(code, type_)
        # A value that is known to fit loses nothing by the cut.
        cut = self.resize(Value(code, ir.Bits(width=source.width)), type_)
        return Value(cut.code, type_)

    def with_slice(self, target: Value, hi: int, lo: int, part: Value) -> Value:
        """``target`` with its bits ``hi`` to ``lo`` replaced by ``part``, of that many bits."""
        whole = self.bits(target)
        if not 0 <= lo <= hi < whole.width:
            raise CodegenError(f"slice [{hi}:{lo}]", f"the value has bits {whole.width - 1} to 0")
        plain = ir.Bits(width=whole.width)
        keep = literal(~(((1 << (hi - lo + 1)) - 1) << lo), whole.width)
        new = self.resize(Value(part.code, ir.Bits(width=hi - lo + 1)), plain)
        if is_wide(whole):
            c_type = self.types.value_type(whole)
            shifted = f"{c_type}_shl({new.code}, {lo}u, {whole.width}u)"
            return Value(f"{c_type}_or({c_type}_and({target.code}, {keep}), {shifted})", whole)
        return Value(f"(({target.code} & {keep}) | ({new.code} << {lo}))", whole)
