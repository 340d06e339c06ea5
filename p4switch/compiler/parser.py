"""Recursive-descent parser of P4_16. Each function reads the grammar rule it is named after (specification, appendix G).

This module: the token cursor, names and scopes, annotations, types. Expressions, statements and declarations are in
``parser_expressions``, ``parser_statements`` and ``parser_declarations``; :class:`Parser` in the last joins them.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn, TypeVar

from p4switch.compiler import ast
from p4switch.compiler.diagnostics import CompileError, Diagnostic, Loc
from p4switch.compiler.lexer import SOFT_KEYWORDS, Token

if TYPE_CHECKING:
    from collections.abc import Iterator

T = TypeVar("T")
MAX_DEPTH = 120  # of nesting: deeper programs get a diagnostic instead of a Python stack overflow


class ParserBase:
    """The token cursor and what all rules share."""

    def __init__(self, tokens: list[Token]):
        self.tokens = tokens
        self.at = 0
        self.depth = 0
        self.early_names = False
        # The grammar needs to know which names are types (section 6.4): one set of shadowing names a scope.
        self.scopes: list[dict[str, bool]] = [{}]

    # ------------------------------------------------------------------------------------------------------- cursor

    @property
    def token(self) -> Token:
        """The next token."""
        return self.tokens[self.at]

    def peek(self, ahead: int = 1) -> Token:
        """A token further on."""
        return self.tokens[min(self.at + ahead, len(self.tokens) - 1)]

    def advance(self) -> Token:
        """Take the next token."""
        token = self.tokens[self.at]
        if token.kind != "end":
            self.at += 1
        return token

    def see(self, *texts: str) -> bool:
        """Whether the next token is one of these operators or keywords."""
        token = self.tokens[self.at]
        return token.text in texts and token.kind in ("op", "keyword")

    def take(self, *texts: str) -> bool:
        """Take the next token if it is one of these."""
        if self.see(*texts):
            self.at += 1
            return True
        return False

    def expect(self, text: str, where: str = "", opened: Loc | None = None) -> Token:
        """Take this operator or keyword; an error says what was found, and what was ``opened`` and is to be closed."""
        if not self.see(text):
            note = (
                None
                if opened is None
                else f"it begins at line {opened.line}; a brace may be missing anywhere behind that"
            )
            self.fail(f"expected '{text}'{' ' + where if where else ''}", note=note)
        return self.advance()

    def fail(self, expectation: str, token: Token | None = None, note: str | None = None) -> NoReturn:
        """Raise CompileError: what was expected, and what was found."""
        token = token or self.token
        found = token.text if token.kind == "end" else f"'{token.text}'"
        long = next(
            (x for x in self.tokens[max(self.at - 3, 0) : self.at] if x.kind == "string" and "\n" in x.text), None
        )
        if long is not None:
            note = f"a string begins at line {long.loc.line} and ends only here: is a closing quote missing?"
        raise CompileError([Diagnostic("error", token.loc, f"{expectation}, found {found}", note)])

    def error(self, loc: Loc, message: str) -> NoReturn:
        """Raise CompileError."""
        raise CompileError([Diagnostic("error", loc, message)])

    @contextmanager
    def nested(self) -> Iterator[None]:
        """Guard against too deep nesting."""
        self.depth += 1
        if self.depth > MAX_DEPTH:
            self.error(self.token.loc, f"nested more than {MAX_DEPTH} levels deep")
        try:
            yield
        finally:
            self.depth -= 1

    def attempt(self, rule: Callable[[], T]) -> T | None:
        """Try a rule; go back to where it started when it does not fit."""
        start, depth = self.at, self.depth
        try:
            return rule()
        except CompileError:
            self.at, self.depth = start, depth
            return None

    def comma_list(self, rule: Callable[[], T], end: str, trailing: bool = False) -> list[T]:
        """``rule {',' rule}`` up to, not including, the token ``end``; may be empty."""
        items: list[T] = []
        while not self.see(end):
            items.append(rule())
            if not self.take(","):
                break
            if not trailing and self.see(end):
                self.fail("expected another element after ','")
        return items

    # -------------------------------------------------------------------------------------------------------- names

    @contextmanager
    def scope(self) -> Iterator[None]:
        """A nested scope of type names."""
        self.scopes.append({})
        try:
            yield
        finally:
            self.scopes.pop()

    def declare(self, name: str, is_type: bool) -> None:
        """Note what kind of name this is."""
        self.scopes[-1][name] = is_type

    def is_type_name(self, token: Token) -> bool:
        """Whether this token is the name of a type that is visible here."""
        if token.kind not in ("name", "keyword"):
            return False
        for scope in reversed(self.scopes):
            if token.text in scope:
                return scope[token.text]
        return False

    def at_name(self) -> bool:
        """Whether the next token can be a name."""
        token = self.token
        return token.kind == "name" or (token.kind == "keyword" and token.text in SOFT_KEYWORDS)

    def name(self, what: str = "a name") -> Token:
        """A name."""
        if not self.at_name():
            self.fail(f"expected {what}")
        if self.token.text == "_":
            self.fail(f"expected {what}, which '_' alone is not")
        return self.advance()

    # -------------------------------------------------------------------------------------------------- annotations

    def opt_annotations(self) -> list[ast.Annotation]:
        """``{ '@' name [ '(' body ')' | '[' structured ']' ] }``."""
        annotations = []
        while self.see("@"):
            loc = self.advance().loc
            if self.token.kind not in ("name", "keyword"):
                self.fail("expected the name of an annotation")
            annotation = ast.Annotation(loc=loc, name=self.advance().text)
            if annotation.name == "pragma":  # old style: the rest of the line
                words = []
                while self.token.kind != "end" and self.token.loc.line == loc.line:
                    words.append(self.advance().text)
                annotation.name, annotation.body = (words or ["pragma"])[0], " ".join(words[1:])
            elif self.take("("):
                annotation.body = self.annotation_body()
            elif self.take("["):
                annotation.structured = True
                self.structured_annotation_body(annotation)
            annotations.append(annotation)
        return annotations

    def annotation_body(self) -> str:
        """Tokens with balanced brackets, up to the closing one."""
        parts: list[Token] = []
        nesting = 0
        while nesting or not self.see(")"):
            if self.token.kind == "end":
                self.fail("expected ')' to end the annotation")
            if self.see("(", "[", "{"):
                nesting += 1
            elif self.see(")", "]", "}"):
                nesting -= 1
            parts.append(self.advance())
        self.advance()
        return " ".join(token.text for token in parts)  # as p4c prints it in P4Info

    def structured_annotation_body(self, annotation: ast.Annotation) -> None:
        """Expressions or name = value pairs."""
        while not self.take("]"):
            if self.token.kind in ("name", "keyword") and self.peek().text == "=":
                key = self.advance().text
                self.advance()
                annotation.pairs.append((key, self.expression()))
            else:
                annotation.expressions.append(self.expression())
            if not self.see("]"):
                self.expect(",", "or ']' in a structured annotation")

    # -------------------------------------------------------------------------------------------------------- types

    def starts_type(self) -> bool:
        """Whether a type can start here."""
        if self.see("bit", "int", "varbit", "bool", "error", "string", "tuple", "void", "match_kind"):
            return True
        if self.see("list"):
            return self.peek().text == "<"
        if self.see("."):
            return self.is_type_name(self.peek())
        return self.is_type_name(self.token)

    def type_ref(self) -> ast.TypeRef:
        """typeRef: baseType, typeName, specializedType, headerStackType, tupleType."""
        with self.nested():
            type_ = self.simple_type()
            while self.see("["):
                loc = self.advance().loc
                size = self.expression()
                self.expect("]", "after the size of a header stack")
                type_ = ast.StackType(loc=loc, element=type_, size=size)
            return type_

    def array_declarator(self, type_: ast.TypeRef) -> ast.TypeRef:
        """``[size]`` behind a name, which p4c takes as well as behind the type."""
        if not self.see("["):
            return type_
        loc = self.advance().loc
        size = self.expression()
        self.expect("]", "after the size of an array")
        return ast.StackType(loc=loc, element=self.array_declarator(type_), size=size)

    def simple_type(self) -> ast.TypeRef:
        """A type without ``[size]``."""
        token = self.token
        if self.take("bool", "error", "string", "match_kind", "void"):
            return ast.BaseType(loc=token.loc, name=token.text)
        if self.see("bit", "int", "varbit"):
            return self.sized_type()
        if self.see("tuple") or (self.see("list") and self.peek().text == "<"):
            self.advance()
            self.expect("<", f"after '{token.text}'")
            args = self.type_argument_list()
            return ast.TupleType(loc=token.loc, args=args, list_of=token.text == "list")
        absolute = self.take(".")
        if not (self.is_type_name(self.token) or (absolute and self.token.kind == "name")):
            self.fail("expected a type")
        name = self.advance()
        args = []
        if self.see("<"):
            self.advance()
            args = self.type_argument_list()
        return ast.NamedType(loc=name.loc, name=name.text, args=args, absolute=absolute)

    def sized_type(self) -> ast.TypeRef:
        """``bit``, ``bit<W>``, ``bit<(expr)>``, ``int``, ``int<W>``, ``varbit<W>``."""
        token = self.advance()
        if not self.take("<"):
            if token.text == "bit":
                return ast.SizedType(loc=token.loc, name="bit", width=ast.Number(loc=token.loc, value=1))
            if token.text == "int":
                return ast.BaseType(loc=token.loc, name="int")
            self.fail("expected '<' and a width after 'varbit'")
        if not self.see("(", "-") and self.token.kind != "number" and not self.at_name():
            self.fail("expected a width")
        width = self.width()
        self.expect(">", "after a width")
        kind = token.text
        assert kind in ("bit", "int", "varbit")
        return ast.SizedType(loc=token.loc, name=kind, width=width)  # type: ignore[arg-type]

    def type_argument_list(self) -> list[ast.TypeRef]:
        """Type arguments up to and including the closing angle bracket."""
        args = self.comma_list(self.type_argument, ">")
        self.expect(">", "after type arguments")
        return args

    def type_argument(self) -> ast.TypeRef:
        """A type, ``void`` or ``_``; in the type of a function's result also a type parameter, which is declared only later."""
        if self.early_names and self.token.kind == "name" and self.peek().text in (",", ">") and not self.starts_type():
            token = self.advance()
            return (
                ast.BaseType(loc=token.loc, name="_")
                if token.text == "_"
                else ast.NamedType(loc=token.loc, name=token.text)
            )
        if self.token.kind == "name" and self.token.text == "_":
            return ast.BaseType(loc=self.advance().loc, name="_")
        return self.type_ref()

    def opt_type_parameters(self) -> list[str]:
        """``<T, U>``; declares them as types in the current scope."""
        if not self.take("<"):
            return []
        names = [t.text for t in self.comma_list(lambda: self.name("a type parameter"), ">")]
        self.expect(">", "after type parameters")
        for name in names:
            self.declare(name, True)
        return names

    # Joined by the subclasses.
    def expression(self) -> ast.Expr:
        """expression."""
        raise NotImplementedError

    def width(self) -> ast.Expr:
        """What may stand in ``bit< >``."""
        raise NotImplementedError
