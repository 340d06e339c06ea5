"""Names and what they stand for."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass, field

from p4switch.compiler import ast, ir
from p4switch.compiler.types import ExternT, Type


@dataclass(slots=True)
class Symbol:
    """Base of what a name can stand for."""


@dataclass(slots=True)
class TypeSymbol(Symbol):
    """A type."""

    type: Type


@dataclass(slots=True)
class GenericSymbol(Symbol):
    """A declaration that becomes a type or a callable when it is given type arguments: structs, controls, parsers, externs."""

    declaration: ast.Declaration
    scope: Scope


@dataclass(slots=True)
class ValueSymbol(Symbol):
    """A constant (``const``) or a variable or parameter (``expr`` is its l-value)."""

    type: Type
    expr: ir.Expression | None = None
    const: object = None
    writable: bool = True


@dataclass(slots=True)
class FunctionSymbol(Symbol):
    """Functions or extern functions of one name."""

    overloads: list[ast.FunctionDecl]
    scope: Scope


@dataclass(slots=True)
class ActionSymbol(Symbol):
    """An action as declared in a scope; ``path`` is its control-plane name."""

    declaration: ast.ActionDecl
    scope: Scope
    path: str


@dataclass(slots=True)
class TableSymbol(Symbol):
    """A table of a control instance; ``name`` is its control-plane name."""

    declaration: ast.TableDecl
    scope: Scope
    name: str


@dataclass(slots=True)
class ExternSymbol(Symbol):
    """An instance of an extern object."""

    name: str
    type: ExternT
    declaration: ast.ExternDecl


@dataclass(slots=True)
class PacketSymbol(Symbol):
    """The packet_in or packet_out parameter."""

    kind: str


@dataclass(slots=True)
class ValueSetSymbol(Symbol):
    """A parser value set."""

    declaration: ast.ValueSetDecl
    name: str
    type: Type


@dataclass(slots=True)
class InstanceSymbol(Symbol):
    """An instance of a control or parser."""

    declaration: ast.ControlDecl | ast.ParserDecl
    scope: Scope  # where the type was declared, with type parameters bound
    args: list[Symbol | None]
    path: str
    elaborated: object = None


@dataclass(slots=True)
class Scope:
    """A scope; inner ones shadow outer ones. ``positions`` say from where on names are visible that are declared out of order."""

    parent: Scope | None = None
    names: dict[str, Symbol] = field(default_factory=dict)
    positions: dict[str, int] = field(default_factory=dict)

    def child(self) -> Scope:
        """A new scope inside this one."""
        return Scope(self)

    def lookup(self, name: str, offset: int = -1) -> Symbol | None:
        """What the name stands for here, or at an ``offset`` of the source: a name is visible behind its declaration."""
        scope: Scope | None = self
        while scope is not None:
            if name in scope.names and (offset < 0 or scope.positions.get(name, -1) <= offset):
                return scope.names[name]
            scope = scope.parent
        return None

    def root(self) -> Scope:
        """The outermost scope."""
        scope = self
        while scope.parent is not None:
            scope = scope.parent
        return scope

    def visible(self) -> Iterator[str]:
        """All names that can be used here."""
        scope: Scope | None = self
        while scope is not None:
            yield from scope.names
            scope = scope.parent

    def suggestion(self, name: str) -> str:
        """`` (did you mean 'x'?)`` for an unknown name, or nothing."""
        close = difflib.get_close_matches(name, set(self.visible()), n=1)
        return f" (did you mean '{close[0]}'?)" if close else ""
