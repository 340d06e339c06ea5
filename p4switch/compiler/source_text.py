"""Prints expressions the way P4Info names match fields: as the program wrote them, spaces aside."""

from __future__ import annotations

from p4switch.compiler import ast


def text_of(expr: ast.Expr) -> str:
    """The canonical text of an expression, such as ``hdr.ipv4.dstAddr`` or ``hdr.h.$valid$``."""
    match expr:
        case ast.Name(name=name, absolute=absolute):
            return ("." if absolute else "") + name
        case ast.Dot(base=base, member=member):
            return f"{text_of(base)}.{member}"
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
        case ast.Number(value=value, width=None):
            return str(value)
        case ast.Number(value=value, width=width, signed=signed):
            return f"{width}{'s' if signed else 'w'}{value}"
        case ast.Boolean(value=value):
            return "true" if value else "false"
        case ast.UnaryExpr(op=op, arg=arg):
            return f"{op}{text_of(arg)}"
        case ast.BinaryExpr(op=op, left=left, right=right):
            return f"{text_of(left)} {op} {text_of(right)}"
        case ast.CastExpr(type=ast.SizedType(name=name, width=width_expr), arg=arg):
            return f"({name}<{text_of(width_expr)}>){text_of(arg)}"
    return type(expr).__name__.lower()
