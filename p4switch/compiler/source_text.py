"""Prints expressions the way P4Info names match fields: as the program wrote them, spaces aside."""

from __future__ import annotations

from collections.abc import Callable

from p4switch.compiler import ast

_PREFIX = {2: "0b", 8: "0o", 16: "0x"}
_DIGITS = {2: "b", 8: "o", 16: "x"}


def key_name(expr: ast.Expr, field_name: Callable[[ast.Dot], str]) -> str:
    """The canonical text of an expression, such as ``hdr.ipv4.dstAddr`` or ``hdr.h.$valid$``.

    ``field_name`` gives the control-plane name of a member; one that begins with a dot stands for the whole path.
    """

    def text_of(expr: ast.Expr) -> str:
        return key_name(expr, field_name)

    match expr:
        case ast.Name(name=name, absolute=absolute):
            return ("." if absolute else "") + name
        case ast.Dot(base=base):
            member = field_name(expr)
            return member[1:] if member.startswith(".") else f"{text_of(base)}.{member}"
        case ast.TypeExpr(type=ast.NamedType(name=name)):
            return name
        case ast.IndexExpr(base=base, index=index):
            return f"{text_of(base)}[{text_of(index)}]"
        case ast.SliceExpr(base=base, hi=hi, lo=lo):
            return f"{text_of(base)}[{text_of(hi)}:{text_of(lo)}]"
        case ast.Call(function=ast.Dot(base=base, member="isValid"), args=[]):
            return f"{text_of(base)}.$valid$"
        case ast.Call(function=function, args=args):
            return f"{text_of(function)}({', '.join('_' if a.value is None else text_of(a.value) for a in args)})"
        case ast.Number(value=value, base=base):
            return _PREFIX[base] + format(value, _DIGITS[base]) if base in _PREFIX else str(value)
        case ast.Boolean(value=value):
            return "true" if value else "false"
        case ast.UnaryExpr(op=op, arg=arg):
            return f"{op}{text_of(arg)}"
        case ast.BinaryExpr(op=op, left=left, right=right):
            return f"{text_of(left)} {op} {text_of(right)}"
        case ast.CastExpr(type=ast.SizedType(name=name, width=width_expr), arg=arg):
            return f"({name}<{text_of(width_expr)}>){text_of(arg)}"
    return type(expr).__name__.lower()


def has_key_name(expr: ast.Expr) -> bool:
    """Whether p4c makes a name for a key of this expression: members, elements, slices, masks and validity of headers."""
    match expr:
        case ast.Name() | ast.Number() | ast.TypeExpr():
            return True
        case ast.Dot(base=base) | ast.Call(function=ast.Dot(base=base, member="isValid"), args=[]):
            return has_key_name(base)
        case ast.IndexExpr(base=base, index=index):
            return has_key_name(base) and has_key_name(index)
        case ast.SliceExpr(base=base, hi=hi, lo=lo):
            return has_key_name(base) and has_key_name(hi) and has_key_name(lo)
        case ast.BinaryExpr(op="&", left=left, right=right):
            return has_key_name(left) and has_key_name(right)
    return False


def text_of(expr: ast.Expr) -> str:
    """An expression for a message: as :func:`key_name`, with members as they are written."""
    return key_name(expr, lambda dot: dot.member)
