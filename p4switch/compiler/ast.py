"""The abstract syntax of P4_16 (grammar: P4_16 specification, appendix G), as the parser builds it. Nothing is resolved here."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from p4switch.compiler.diagnostics import UNKNOWN, Loc


@dataclass(slots=True, kw_only=True)
class Node:
    """Base of the syntax tree."""

    loc: Loc = UNKNOWN


@dataclass(slots=True, kw_only=True)
class Annotation(Node):
    """``@name``, ``@name(tokens)`` or ``@name[structured]``. ``body`` is the text; ``expressions`` and ``pairs`` are set
    for structured annotations."""

    name: str
    body: str | None = None
    structured: bool = False
    expressions: list[Expr] = field(default_factory=list)
    pairs: list[tuple[str, Expr]] = field(default_factory=list)


# --------------------------------------------------------------------------------------------------------------- types


@dataclass(slots=True, kw_only=True)
class TypeRef(Node):
    """Base of type syntax."""


@dataclass(slots=True, kw_only=True)
class BaseType(TypeRef):
    """``bool``, ``error``, ``string``, ``int`` (without width), ``match_kind``, ``void`` or ``_`` (don't care)."""

    name: str


@dataclass(slots=True, kw_only=True)
class SizedType(TypeRef):
    """``bit``, ``int`` or ``varbit`` of a width."""

    name: Literal["bit", "int", "varbit"]
    width: Expr


@dataclass(slots=True, kw_only=True)
class NamedType(TypeRef):
    """A type by name, with type arguments. ``absolute`` for a leading dot."""

    name: str
    args: list[TypeRef] = field(default_factory=list)
    absolute: bool = False


@dataclass(slots=True, kw_only=True)
class StackType(TypeRef):
    """``element[size]``."""

    element: TypeRef
    size: Expr


@dataclass(slots=True, kw_only=True)
class TupleType(TypeRef):
    """``tuple<...>``; ``list_of`` for ``list<T>``."""

    args: list[TypeRef]
    list_of: bool = False


# --------------------------------------------------------------------------------------------------------- expressions


@dataclass(slots=True, kw_only=True)
class Expr(Node):
    """Base of expressions."""


@dataclass(slots=True, kw_only=True)
class Number(Expr):
    """An integer literal; ``width`` None for arbitrary precision, ``base`` as written."""

    value: int
    width: int | None = None
    signed: bool = False
    base: int = 10


@dataclass(slots=True, kw_only=True)
class Boolean(Expr):
    """``true`` or ``false``."""

    value: bool


@dataclass(slots=True, kw_only=True)
class String(Expr):
    """A string literal, unescaped."""

    value: str


@dataclass(slots=True, kw_only=True)
class Name(Expr):
    """An identifier; ``absolute`` for a leading dot. ``this``, ``error`` and ``default`` (in keysets) come as names."""

    name: str
    absolute: bool = False


@dataclass(slots=True, kw_only=True)
class TypeExpr(Expr):
    """A type where an expression is expected: ``bit<8>`` before a dot, or a header name."""

    type: TypeRef


@dataclass(slots=True, kw_only=True)
class Dot(Expr):
    """``base.member``."""

    base: Expr
    member: str


@dataclass(slots=True, kw_only=True)
class IndexExpr(Expr):
    """``base[index]``."""

    base: Expr
    index: Expr


@dataclass(slots=True, kw_only=True)
class SliceExpr(Expr):
    """``base[hi:lo]``."""

    base: Expr
    hi: Expr
    lo: Expr


@dataclass(slots=True, kw_only=True)
class UnaryExpr(Expr):
    """``- + ~ !``."""

    op: str
    arg: Expr


@dataclass(slots=True, kw_only=True)
class BinaryExpr(Expr):
    """A binary operation, by its token."""

    op: str
    left: Expr
    right: Expr


@dataclass(slots=True, kw_only=True)
class Ternary(Expr):
    """``cond ? then : otherwise``."""

    cond: Expr
    then: Expr
    otherwise: Expr


@dataclass(slots=True, kw_only=True)
class CastExpr(Expr):
    """``(type) arg``."""

    type: TypeRef
    arg: Expr


@dataclass(slots=True, kw_only=True)
class Argument(Node):
    """``value``, ``name = value``, or ``_`` (value None)."""

    value: Expr | None
    name: str | None = None


@dataclass(slots=True, kw_only=True)
class Call(Expr):
    """``function<types>(args)``; also constructor invocations."""

    function: Expr
    type_args: list[TypeRef] = field(default_factory=list)
    args: list[Argument] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class ListExpr(Expr):
    """``{ a, b }``; ``rest`` when it ends in ``...``."""

    items: list[Expr]
    rest: bool = False


@dataclass(slots=True, kw_only=True)
class RecordExpr(Expr):
    """``{ name = value, ... }``; ``rest`` when it ends in ``...``."""

    fields: list[tuple[str, Expr]]
    rest: bool = False


@dataclass(slots=True, kw_only=True)
class InvalidExpr(Expr):
    """``{#}``."""


@dataclass(slots=True, kw_only=True)
class Dots(Expr):
    """``...`` as a value: the default of whatever type is needed."""


@dataclass(slots=True, kw_only=True)
class DontCare(Expr):
    """``_`` or ``default`` in a keyset."""


@dataclass(slots=True, kw_only=True)
class Range(Expr):
    """``lo .. hi`` in a keyset or a for-in loop."""

    lo: Expr
    hi: Expr


@dataclass(slots=True, kw_only=True)
class Mask(Expr):
    """``value &&& mask`` in a keyset."""

    value: Expr
    mask: Expr


@dataclass(slots=True, kw_only=True)
class Tuple(Expr):
    """``(a, b)`` in a keyset."""

    items: list[Expr]


# ---------------------------------------------------------------------------------------------------------- statements


@dataclass(slots=True, kw_only=True)
class Stmt(Node):
    """Base of statements."""

    annotations: list[Annotation] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class Assignment(Stmt):
    """``left = right``; ``op`` holds the operator of ``left op= right``."""

    left: Expr
    right: Expr
    op: str | None = None


@dataclass(slots=True, kw_only=True)
class CallStmt(Stmt):
    """A call as a statement."""

    call: Call


@dataclass(slots=True, kw_only=True)
class IfStmt(Stmt):
    """``if``."""

    cond: Expr
    then: Stmt
    otherwise: Stmt | None = None


@dataclass(slots=True, kw_only=True)
class BlockStmt(Stmt):
    """``{ ... }``: statements and declarations."""

    body: list[Stmt | Declaration]


@dataclass(slots=True, kw_only=True)
class SwitchCase(Node):
    """``label: body``; no body means fall through; ``label`` is DontCare for ``default``."""

    label: Expr
    body: BlockStmt | None


@dataclass(slots=True, kw_only=True)
class SwitchStmt(Stmt):
    """``switch``."""

    subject: Expr
    cases: list[SwitchCase]


@dataclass(slots=True, kw_only=True)
class ReturnStmt(Stmt):
    """``return``."""

    value: Expr | None = None


@dataclass(slots=True, kw_only=True)
class ExitStmt(Stmt):
    """``exit``."""


@dataclass(slots=True, kw_only=True)
class BreakStmt(Stmt):
    """``break``."""


@dataclass(slots=True, kw_only=True)
class ContinueStmt(Stmt):
    """``continue``."""


@dataclass(slots=True, kw_only=True)
class ForStmt(Stmt):
    """``for (init; cond; update) body``."""

    init: list[Stmt | Declaration]
    cond: Expr
    update: list[Stmt]
    body: Stmt


@dataclass(slots=True, kw_only=True)
class ForInStmt(Stmt):
    """``for (type name in collection) body``."""

    type: TypeRef
    name: str
    collection: Expr
    body: Stmt


@dataclass(slots=True, kw_only=True)
class EmptyStmt(Stmt):
    """``;``."""


# -------------------------------------------------------------------------------------------------------- declarations


@dataclass(slots=True, kw_only=True)
class Declaration(Node):
    """Base of declarations."""

    name: str
    annotations: list[Annotation] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class ParamDecl(Declaration):
    """A parameter."""

    type: TypeRef
    direction: Literal["", "in", "out", "inout"] = ""
    default: Expr | None = None


@dataclass(slots=True, kw_only=True)
class ConstDecl(Declaration):
    """``const type name = value``."""

    type: TypeRef
    value: Expr


@dataclass(slots=True, kw_only=True)
class VarDecl(Declaration):
    """``type name = init``."""

    type: TypeRef
    init: Expr | None = None


@dataclass(slots=True, kw_only=True)
class Instantiation(Declaration):
    """``type(args) name``; ``initializer`` for abstract methods."""

    type: TypeRef
    args: list[Argument]
    initializer: BlockStmt | None = None


@dataclass(slots=True, kw_only=True)
class FieldDecl(Declaration):
    """A field of a header, struct or union."""

    type: TypeRef


@dataclass(slots=True, kw_only=True)
class CompositeDecl(Declaration):
    """A header, struct or header union."""

    kind: Literal["header", "struct", "header_union"]
    type_params: list[str]
    fields: list[FieldDecl]


@dataclass(slots=True, kw_only=True)
class EnumDecl(Declaration):
    """An enum; ``underlying`` and values for serialisable ones."""

    underlying: TypeRef | None
    members: list[tuple[str, Expr | None]]


@dataclass(slots=True, kw_only=True)
class ErrorDecl(Declaration):
    """``error { ... }``."""

    members: list[str]


@dataclass(slots=True, kw_only=True)
class MatchKindDecl(Declaration):
    """``match_kind { ... }``."""

    members: list[str]


@dataclass(slots=True, kw_only=True)
class TypedefDecl(Declaration):
    """``typedef`` or, when ``is_new``, ``type``."""

    type: TypeRef
    is_new: bool


@dataclass(slots=True, kw_only=True)
class FunctionDecl(Declaration):
    """A function (with ``body``), an extern function or an extern's method (without)."""

    result: TypeRef
    type_params: list[str]
    params: list[ParamDecl]
    body: BlockStmt | None = None
    abstract: bool = False


@dataclass(slots=True, kw_only=True)
class ExternDecl(Declaration):
    """An extern object; constructors are methods named like it."""

    type_params: list[str]
    methods: list[FunctionDecl]


@dataclass(slots=True, kw_only=True)
class ActionDecl(Declaration):
    """An action."""

    params: list[ParamDecl]
    body: BlockStmt


@dataclass(slots=True, kw_only=True)
class KeyElement(Node):
    """``expr : match_kind``."""

    expr: Expr
    match_kind: str
    annotations: list[Annotation]


@dataclass(slots=True, kw_only=True)
class ActionElement(Node):
    """An entry of ``actions``: a name or a call with bound arguments."""

    action: Name
    args: list[Argument] | None
    annotations: list[Annotation]


@dataclass(slots=True, kw_only=True)
class EntryElement(Node):
    """An entry of ``entries``."""

    keys: list[Expr]
    action: Expr
    priority: Expr | None
    is_const: bool
    annotations: list[Annotation]


@dataclass(slots=True, kw_only=True)
class TableProperty(Node):
    """A property of a table: ``key``, ``actions`` and ``entries`` hold their own elements, others an expression."""

    name: str
    is_const: bool
    value: Expr | None = None
    keys: list[KeyElement] = field(default_factory=list)
    actions: list[ActionElement] = field(default_factory=list)
    entries: list[EntryElement] = field(default_factory=list)
    annotations: list[Annotation] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class TableDecl(Declaration):
    """A table."""

    properties: list[TableProperty]


@dataclass(slots=True, kw_only=True)
class ValueSetDecl(Declaration):
    """``value_set<T>(size) name``."""

    type: TypeRef
    size: Expr


@dataclass(slots=True, kw_only=True)
class SelectCase(Node):
    """``keyset : state``."""

    keys: list[Expr]
    state: str


@dataclass(slots=True, kw_only=True)
class Transition(Node):
    """``transition state`` (``select`` None) or ``transition select(...)``."""

    state: str | None
    select: list[Expr]
    cases: list[SelectCase]


@dataclass(slots=True, kw_only=True)
class StateDecl(Declaration):
    """A parser state; a missing transition means ``reject``."""

    body: list[Stmt | Declaration]
    transition: Transition | None


@dataclass(slots=True, kw_only=True)
class ParserDecl(Declaration):
    """A parser, or with ``states`` None a parser type."""

    type_params: list[str]
    params: list[ParamDecl]
    constructor_params: list[ParamDecl]
    locals: list[Declaration]
    states: list[StateDecl] | None


@dataclass(slots=True, kw_only=True)
class ControlDecl(Declaration):
    """A control, or with ``body`` None a control type."""

    type_params: list[str]
    params: list[ParamDecl]
    constructor_params: list[ParamDecl]
    locals: list[Declaration]
    body: BlockStmt | None


@dataclass(slots=True, kw_only=True)
class PackageDecl(Declaration):
    """A package type."""

    type_params: list[str]
    params: list[ParamDecl]


@dataclass(slots=True, kw_only=True)
class SourceFile(Node):
    """A whole program."""

    declarations: list[Declaration]
