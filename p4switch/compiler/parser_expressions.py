"""Expressions, arguments and keysets of the P4_16 grammar."""

from __future__ import annotations

import re

from p4switch.compiler import ast
from p4switch.compiler.lexer import base_of, number
from p4switch.compiler.parser import ParserBase

# Binding strength, weakest first (specification, section 8.2 and the grammar's precedence table).
_LEVELS: tuple[tuple[str, ...], ...] = (
    ("||",),
    ("&&",),
    ("==", "!="),
    ("<", ">", "<=", ">="),
    ("|",),
    ("^",),
    ("&",),
    ("<<", ">>"),
    ("++", "+", "-", "|+|", "|-|"),
    ("*", "/", "%"),
)
_STRENGTH = {op: level for level, ops in enumerate(_LEVELS) for op in ops}
_TERNARY = -1
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", '"': '"', "\\": "\\"}
_CAST_FOLLOWERS = ("(", "{", "!", "~", "-", "+", ".", "true", "false", "error", "this", "bit", "int", "varbit", "bool")
MAX_CHAIN = 400  # operands of one expression: bounds the depth of the tree


class ExpressionParser(ParserBase):
    """Rules for expressions."""

    def expression(self) -> ast.Expr:
        """expression."""
        with self.nested():
            return self.binary(_TERNARY)

    def width(self) -> ast.Expr:
        """A width in ``< >``: as in p4c sums and products need no parentheses, comparisons and shifts do."""
        with self.nested():
            return self.binary(_STRENGTH["+"])

    def binary(self, minimum: int) -> ast.Expr:
        """Precedence climbing; ``minimum`` is the weakest level taken here."""
        left = self.unary()
        chain = 0
        while True:
            op = self.binary_operator()
            if op is None:
                break
            level = _STRENGTH[op]
            if level < minimum:
                break
            chain += 1
            if chain > MAX_CHAIN:
                self.error(self.token.loc, f"an expression of more than {MAX_CHAIN} operands")
            loc = self.token.loc
            self.at += 2 if op == ">>" else 1
            right = self.binary(level + 1)
            left = ast.BinaryExpr(loc=loc, op=op, left=left, right=right)
        if minimum <= _TERNARY and self.see("?"):
            loc = self.advance().loc
            then = self.expression()
            self.expect(":", "in a conditional expression")
            otherwise = self.expression()
            return ast.Ternary(loc=loc, cond=left, then=then, otherwise=otherwise)
        return left

    def binary_operator(self) -> str | None:
        """The operator here; ``>>`` comes as two tokens, since it also closes two type argument lists."""
        token = self.token
        if token.kind != "op":
            return None
        if token.text == ">":
            following = self.peek()
            if following.text == ">" and following.loc.line == token.loc.line:
                return ">>" if following.loc.column == token.loc.column + 1 else ">"
        return token.text if token.text in _STRENGTH else None

    def unary(self) -> ast.Expr:
        """Prefix operators and casts."""
        token = self.token
        if self.see("-", "+", "~", "!"):
            with self.nested():
                self.advance()
                return ast.UnaryExpr(loc=token.loc, op=token.text, arg=self.unary())
        if self.see("("):
            cast = self.attempt(self.cast_head)
            if cast is not None:
                with self.nested():
                    return ast.CastExpr(loc=token.loc, type=cast, arg=self.unary())
        return self.postfix(self.primary())

    def cast_head(self) -> ast.TypeRef:
        """``(type)`` in front of an operand."""
        self.expect("(")
        if not self.starts_type():
            self.fail("expected a type")
        type_ = self.type_ref()
        self.expect(")")
        if not (self.token.kind in ("name", "number", "string") or self.see(*_CAST_FOLLOWERS) or self.at_name()):
            self.fail("expected an operand after a cast")
        return type_

    def primary(self) -> ast.Expr:
        """Literals, names, parentheses, lists."""
        token = self.token
        if token.kind == "number":
            self.advance()
            value, width, signed = number(token)
            return ast.Number(loc=token.loc, value=value, width=width, signed=signed, base=base_of(token))
        if token.kind == "string":
            return self.string_literal()
        if self.take("true", "false"):
            return ast.Boolean(loc=token.loc, value=token.text == "true")
        if self.take("("):
            inner = self.expression()
            self.expect(")", "to close the parenthesis")
            return inner
        if self.take("{"):
            return self.braced(token)
        if self.take("..."):
            return ast.Dots(loc=token.loc)
        if self.see("this", "error"):
            self.advance()
            return ast.Name(loc=token.loc, name=token.text)
        if self.take("."):
            name = self.name()
            if self.is_type_name(name):
                return ast.TypeExpr(loc=name.loc, type=ast.NamedType(loc=name.loc, name=name.text, absolute=True))
            return ast.Name(loc=name.loc, name=name.text, absolute=True)
        if self.starts_type():
            type_ = self.attempt(self.type_ref) if self.peek().text == "<" or not self.at_name() else None
            if type_ is None:
                self.advance()
                type_ = ast.NamedType(loc=token.loc, name=token.text)
            return ast.TypeExpr(loc=token.loc, type=type_)
        if self.at_name():
            self.advance()
            return ast.DontCare(loc=token.loc) if token.text == "_" else ast.Name(loc=token.loc, name=token.text)
        self.fail("expected an expression")

    def string_literal(self) -> ast.String:
        """One string; adjacent ones are joined by the preprocessor's rules, not here."""
        token = self.advance()
        text = re.sub(r"\\(.)", lambda m: _ESCAPES.get(m[1], m[0]), token.text[1:-1], flags=re.DOTALL)
        return ast.String(loc=token.loc, value=text)

    def braced(self, opening: ast.Node | object) -> ast.Expr:
        """Behind ``{``: a list, a struct expression, ``{#}``, each optionally ending in ``...``."""
        loc = self.tokens[self.at - 1].loc
        if self.take("#"):
            self.expect("}", "after '{#'")
            return ast.InvalidExpr(loc=loc)
        if self.at_name() and self.peek().text == "=":
            fields: list[tuple[str, ast.Expr]] = []
            rest = False
            while not self.see("}"):
                if self.take("..."):
                    rest = True
                    if self.see(","):
                        self.error(self.token.loc, "'...' must be the last in a struct expression")
                    break
                name = self.name("a field name")
                self.expect("=", "after a field name")
                fields.append((name.text, self.expression()))
                if not self.take(","):
                    break
            self.expect("}", "to close a struct expression")
            return ast.RecordExpr(loc=loc, fields=fields, rest=rest)
        items: list[ast.Expr] = []
        while not self.see("}"):
            items.append(self.expression())
            if not self.take(","):
                break
            if isinstance(items[-1], ast.Dots):
                self.error(items[-1].loc, "'...' must be the last in a list")
        self.expect("}", "to close a list")
        if items and isinstance(items[-1], ast.Dots):
            return ast.ListExpr(loc=loc, items=items[:-1], rest=True)
        return ast.ListExpr(loc=loc, items=items)

    def postfix(self, expr: ast.Expr) -> ast.Expr:
        """Members, indices, slices, calls."""
        while True:
            loc = self.token.loc
            if self.take("."):
                if self.token.kind not in ("name", "keyword"):
                    self.fail("expected a member name after '.'")
                member = self.advance()
                expr = ast.Dot(loc=member.loc, base=expr, member=member.text)
            elif self.take("["):
                first = self.expression()
                if self.take(":"):
                    expr = ast.SliceExpr(loc=loc, base=expr, hi=first, lo=self.expression())
                elif self.take("+:"):
                    width = self.expression()
                    one = ast.Number(loc=loc, value=1)
                    top = ast.BinaryExpr(loc=loc, op="+", left=first, right=width)
                    hi = ast.BinaryExpr(loc=loc, op="-", left=top, right=one)
                    expr = ast.SliceExpr(loc=loc, base=expr, hi=hi, lo=first)
                else:
                    expr = ast.IndexExpr(loc=loc, base=expr, index=first)
                self.expect("]", "after an index")
            elif self.see("("):
                expr = ast.Call(loc=expr.loc, function=expr, args=self.argument_list())
            elif self.see("<") and isinstance(expr, ast.Name | ast.Dot | ast.TypeExpr):
                types = self.attempt(self.call_type_arguments)
                if types is None:
                    return expr
                expr = ast.Call(loc=expr.loc, function=expr, type_args=types, args=self.argument_list())
            else:
                return expr

    def call_type_arguments(self) -> list[ast.TypeRef]:
        """``<types>`` directly in front of an argument list."""
        self.expect("<")
        types = self.type_argument_list()
        if not self.see("("):
            self.fail("expected '('")
        return types

    def argument_list(self) -> list[ast.Argument]:
        """``( args )``."""
        self.expect("(", "to open an argument list")
        args = self.comma_list(self.argument, ")")
        self.expect(")", "to close the arguments")
        return args

    def argument(self) -> ast.Argument:
        """``expr``, ``name = expr`` or ``_``."""
        token = self.token
        if self.at_name() and self.peek().text == "=":
            self.advance()
            self.advance()
            value = self.expression()
            return ast.Argument(
                loc=token.loc, value=None if isinstance(value, ast.DontCare) else value, name=token.text
            )
        value = self.expression()
        return ast.Argument(loc=token.loc, value=None if isinstance(value, ast.DontCare) else value)

    # ------------------------------------------------------------------------------------------------------ keysets

    def keyset(self) -> list[ast.Expr]:
        """keysetExpression: a simple one or a parenthesised tuple; always returned as a list."""
        if self.see("("):
            as_tuple = self.attempt(self.tuple_keyset)
            if as_tuple is not None:
                return as_tuple
        return [self.simple_keyset()]

    def tuple_keyset(self) -> list[ast.Expr]:
        """``( simple, simple ... )`` that ends where a keyset may end."""
        self.expect("(")
        items = self.comma_list(self.simple_keyset, ")", trailing=True)
        self.expect(")")
        if not self.see(":"):
            self.fail("expected ':'")
        return items

    def simple_keyset(self) -> ast.Expr:
        """An expression, a mask, a range, ``default`` or ``_``."""
        loc = self.token.loc
        if self.take("default"):
            return ast.DontCare(loc=loc)
        first = self.expression()
        if self.see("&&&"):
            loc = self.advance().loc
            return ast.Mask(loc=loc, value=first, mask=self.expression())
        if self.see(".."):
            loc = self.advance().loc
            return ast.Range(loc=loc, lo=first, hi=self.expression())
        return first
