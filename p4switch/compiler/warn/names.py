"""Which declaration each name of a program means, which declarations nothing names, and which hide an outer one.

Works on the syntax tree alone and takes every tree that the parser makes: what it cannot resolve it leaves out.
P4_16 specification, section 6.9: a name is visible behind its declaration, inner scopes hide outer ones.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from p4switch.compiler import ast, notes
from p4switch.compiler.diagnostics import UNKNOWN, Loc
from p4switch.compiler.preprocess import INCLUDE_DIR

_LIBRARIES = ("core.p4", "v1model.p4")
_PARTS: dict[str, tuple[str, ...]] = {}  # by class
_WORD = re.compile(r"[A-Za-z_]\w*")


@dataclass(slots=True, kw_only=True)
class TypeParam(ast.Declaration):
    """A type parameter as a declaration of its own."""


@dataclass(slots=True, kw_only=True)
class LoopVar(ast.Declaration):
    """The variable of a for-in loop."""

    type: ast.TypeRef


@dataclass(frozen=True, slots=True)
class Hidden:
    """A declaration that hides another of an outer scope."""

    inner: ast.Declaration
    outer: ast.Declaration


@dataclass(slots=True)
class Names:
    """The result: ``meaning`` maps ``id(node)`` of names and named types to their declaration; the tree must stay alive.

    ``declared`` lists every declaration with the one that holds it (None at the top level)."""

    meaning: dict[int, ast.Declaration] = field(default_factory=dict)
    used: set[int] = field(default_factory=set)
    declared: list[tuple[ast.Declaration, ast.Declaration | None]] = field(default_factory=list)
    hidden: list[Hidden] = field(default_factory=list)
    overloads: dict[int, list[ast.FunctionDecl]] = field(default_factory=dict)

    def of(self, node: ast.Node) -> ast.Declaration | None:
        """The declaration that a Name or a NamedType means."""
        return self.meaning.get(id(node))

    def is_used(self, declaration: ast.Declaration) -> bool:
        """Whether anything names it."""
        return id(declaration) in self.used

    def signature(self, function: ast.FunctionDecl, args: int) -> ast.FunctionDecl:
        """The overload of a function that takes so many arguments."""
        for candidate in self.overloads.get(id(function), [function]):
            if len(candidate.params) == args:
                return candidate
        return function


def is_system(loc: Loc) -> bool:
    """Whether the place is in core.p4 or v1model.p4, this project's or a program's own copy, or nowhere."""
    return loc.line < 1 or loc.file.startswith(str(INCLUDE_DIR)) or loc.file.rpartition("/")[2] in _LIBRARIES


def silenced(annotations: Iterable[ast.Annotation]) -> list[str]:
    """The kinds of ``@noWarn("kind")`` among annotations."""
    return [notes.string_body(a) or "" for a in annotations if a.name == "noWarn"]


def _parts(node: ast.Node) -> tuple[str, ...]:
    """The fields of a node that may hold nodes."""
    kind = type(node).__name__
    if kind not in _PARTS:
        _PARTS[kind] = tuple(spec.name for spec in dataclasses.fields(node) if spec.name not in ("loc", "name"))
    return _PARTS[kind]


def children(node: ast.Node) -> Iterator[ast.Node]:
    """The nodes directly below, in the order of their fields."""
    for name in _parts(node):
        value = getattr(node, name)
        if isinstance(value, ast.Node):
            yield value
        elif isinstance(value, list):
            yield from _nodes(value)


def _nodes(values: list[object] | tuple[object, ...]) -> Iterator[ast.Node]:
    for value in values:
        if isinstance(value, ast.Node):
            yield value
        elif isinstance(value, list | tuple):
            yield from _nodes(value)


def resolve(source: ast.SourceFile) -> Names:
    """Resolve all names of a program."""
    resolver = _Resolver()
    for declaration in source.declarations:
        resolver.declaration(declaration)
    return resolver.names


class _Resolver:
    """Walks the tree with a stack of scopes."""

    def __init__(self) -> None:
        self.names = Names()
        self.scopes: list[dict[str, ast.Declaration]] = [{}]
        self.owners: list[ast.Declaration] = []

    def lookup(self, name: str, absolute: bool = False) -> ast.Declaration | None:
        """The innermost declaration of a name."""
        for scope in self.scopes[:1] if absolute else reversed(self.scopes):
            if name in scope:
                return scope[name]
        return None

    def declare(self, item: ast.Declaration) -> None:
        """Make a declaration visible from here on."""
        if isinstance(item, ast.FunctionDecl) and len(self.scopes) == 1:
            first = self.scopes[0].get(item.name)
            if isinstance(first, ast.FunctionDecl):
                self.names.overloads.setdefault(id(first), [first]).append(item)
                return
        outer = self.lookup(item.name)
        if outer is not None and outer is not item and item.name != "_":
            self.names.hidden.append(Hidden(item, outer))
        self.scopes[-1][item.name] = item
        self.names.declared.append((item, self.owners[-1] if self.owners else None))

    def use(self, node: ast.Node, name: str, absolute: bool = False) -> None:
        """A name is used at a node."""
        found = self.lookup(name, absolute)
        if found is None:
            return
        self.names.meaning[id(node)] = found
        for declaration in self.names.overloads.get(id(found), [found]):
            self.names.used.add(id(declaration))

    # ---------------------------------------------------------------------------------------------------- declarations

    def declaration(self, item: ast.Declaration) -> None:
        """A declaration and all in it. A name is visible behind its own declaration, types and blocks also inside."""
        match item:
            case ast.FunctionDecl():
                self.function(item)
            case ast.ActionDecl():
                self.owned(item, item.params, [], [item.body])
                self.declare(item)
            case ast.ParserDecl(states=states):
                self.declare(item)
                self.owned(item, [*item.params, *item.constructor_params], item.locals, states or [], item.type_params)
            case ast.ControlDecl(body=body):
                self.declare(item)
                block = [] if body is None else [body]
                self.owned(item, [*item.params, *item.constructor_params], item.locals, block, item.type_params)
            case ast.CompositeDecl(type_params=type_params):
                self.declare(item)
                self.owned(item, [], [], item.fields, type_params)
            case ast.ExternDecl():
                self.declare(item)
                self.extern(item)
            case ast.PackageDecl():
                self.owned(item, item.params, [], [], item.type_params)
                self.declare(item)
            case ast.ErrorDecl() | ast.MatchKindDecl():
                pass
            case _:
                self.parts(item)
                self.declare(item)

    def function(self, item: ast.FunctionDecl) -> None:
        """A function; its parameters are its own."""
        self.declare(item)
        self.owned(item, item.params, [], [item.result, *([] if item.body is None else [item.body])], item.type_params)

    def extern(self, item: ast.ExternDecl) -> None:
        """Methods do not become names; what they mention is used."""
        self.scopes.append(self.type_params(item.type_params))
        for method in item.methods:
            self.scopes.append(self.type_params(method.type_params))
            for node in (method.result, *method.params):
                self.parts(node) if isinstance(node, ast.ParamDecl) else self.visit(node)
            self.scopes.pop()
        self.scopes.pop()

    def owned(
        self,
        owner: ast.Declaration,
        params: Iterable[ast.ParamDecl],
        local: Iterable[ast.Declaration],
        rest: Iterable[ast.Node],
        type_params: Iterable[str] = (),
    ) -> None:
        """A declaration with a scope of its own."""
        self.visit_all(owner.annotations)
        self.owners.append(owner)
        self.scopes.append(self.type_params(type_params))
        for param in params:
            self.parts(param)
            self.declare(param)
        for declaration in local:
            self.declaration(declaration)
        self.visit_all(rest)
        self.scopes.pop()
        self.owners.pop()

    def type_params(self, names: Iterable[str]) -> dict[str, ast.Declaration]:
        """A scope of type parameters."""
        return {name: TypeParam(name=name, loc=UNKNOWN) for name in names}

    # -------------------------------------------------------------------------------------- statements and expressions

    def visit_all(self, nodes: Iterable[ast.Node]) -> None:
        """Several nodes in order."""
        for node in nodes:
            self.visit(node)

    def parts(self, node: ast.Node) -> None:
        """All below a node."""
        self.visit_all(children(node))

    def visit(self, node: ast.Node) -> None:
        """Any node."""
        match node:
            case ast.Declaration() if not isinstance(node, ast.FieldDecl | ast.StateDecl):
                self.declaration(node)
            case ast.Name(name=name, absolute=absolute):
                self.use(node, name, absolute)
            case ast.NamedType(name=name, absolute=absolute):
                self.use(node, name, absolute)
                self.visit_all(node.args)
            case ast.Annotation(body=body):
                for word in _WORD.findall(body or ""):  # as in @field_list(KEPT)
                    self.use(node, word)
                self.parts(node)
            case ast.BlockStmt() | ast.StateDecl() | ast.ForStmt():
                self.scopes.append({})
                self.parts(node)
                self.scopes.pop()
            case ast.ForInStmt():
                self.for_in(node)
            case _:
                self.parts(node)

    def for_in(self, node: ast.ForInStmt) -> None:
        """The loop variable is a use of an outer variable unless it has a type."""
        self.visit(node.collection)
        self.scopes.append({})
        if node.type is None:
            self.use(node, node.name)
        else:
            self.visit(node.type)
            variable = LoopVar(name=node.name, loc=node.loc, type=node.type)
            self.declare(variable)
            self.names.meaning[id(node)] = variable
        self.visit(node.body)
        self.scopes.pop()
