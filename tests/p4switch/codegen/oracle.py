"""What IR expressions mean, in plain Python integers: the independent oracle of the generated C.

Written from the P4_16 specification (sections 8.5 to 8.11). Numbers are mathematical: a value of ``int<W>`` is negative when its
sign bit is set.
"""

from __future__ import annotations

from collections.abc import Mapping

from p4switch.compiler import ir


def wrap(number: int, type_: ir.Bits) -> int:
    """``number`` modulo 2^W, in the range of the type."""
    number &= (1 << type_.width) - 1
    if type_.signed and type_.width and number >> (type_.width - 1):
        number -= 1 << type_.width
    return number


def clamp(number: int, type_: ir.Bits) -> int:
    """``number`` or the nearest value of the type."""
    if type_.signed:
        return max(-(1 << (type_.width - 1)), min(number, (1 << (type_.width - 1)) - 1))
    return max(0, min(number, (1 << type_.width) - 1))


def pattern(number: int, type_: ir.Bits) -> int:
    """The bits of a value, as an unsigned number."""
    return number & ((1 << type_.width) - 1)


def evaluate(expr: ir.Expression, variables: Mapping[str, int]) -> int:
    """The value of an expression of numbers and bools (0 and 1). ``variables`` are values of the fields it names."""
    type_ = expr.type
    match expr:
        case ir.Const():
            return expr.number
        case ir.Member(field=field):
            return variables[field]
        case ir.Unary(op="!", arg=arg):
            return 1 - evaluate(arg, variables)
        case ir.Unary(op=op, arg=arg):
            value = evaluate(arg, variables)
            assert isinstance(type_, ir.Bits)
            return wrap(-value if op == "-" else ~value, type_)
        case ir.Slice(base=base, hi=hi, lo=lo):
            assert isinstance(base.type, ir.Bits)
            return pattern(evaluate(base, variables), base.type) >> lo & ((1 << (hi - lo + 1)) - 1)
        case ir.Conditional(cond=cond, then=then, otherwise=otherwise):
            return evaluate(then if evaluate(cond, variables) else otherwise, variables)
        case ir.Cast(arg=arg):
            return wrap(evaluate(arg, variables), type_) if isinstance(type_, ir.Bits) else evaluate(arg, variables)
        case ir.Binary(op=op, left=left, right=right):
            return binary(op, left, right, type_, variables)
    raise AssertionError(expr)


def binary(op: str, left: ir.Expression, right: ir.Expression, type_: ir.Type, variables: Mapping[str, int]) -> int:
    """A binary operation."""
    a, b = evaluate(left, variables), evaluate(right, variables)
    truths = {
        "==": a == b,
        "!=": a != b,
        "<": a < b,
        "<=": a <= b,
        ">": a > b,
        ">=": a >= b,
        "&&": bool(a and b),
        "||": bool(a or b),
    }
    if op in truths:
        return int(truths[op])
    assert isinstance(type_, ir.Bits)
    match op:
        case "+":
            return wrap(a + b, type_)
        case "-":
            return wrap(a - b, type_)
        case "*":
            return wrap(a * b, type_)
        case "/":
            return a // b if b else 0
        case "%":
            return a % b if b else 0
        case "|+|":
            return clamp(a + b, type_)
        case "|-|":
            return clamp(a - b, type_)
        case "&":
            return wrap(a & b, type_)
        case "|":
            return wrap(a | b, type_)
        case "^":
            return wrap(a ^ b, type_)
        case "<<":
            return wrap(a << b, type_) if b < type_.width else 0
        case ">>":
            return a >> min(b, type_.width)  # Python's shift of a negative number copies its sign
        case "++":
            assert isinstance(left.type, ir.Bits) and isinstance(right.type, ir.Bits)
            return wrap(pattern(a, left.type) << right.type.width | pattern(b, right.type), type_)
    raise AssertionError(op)
