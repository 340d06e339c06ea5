"""Types as the front end sees them, richer than the IR's: arbitrary-precision integers, tuples, new types, type variables."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from p4switch.compiler import ir

if TYPE_CHECKING:
    from p4switch.compiler import ast


@dataclass(frozen=True, eq=False, slots=True)
class Type:
    """Base of semantic types. It compares by identity, as structs do; the others compare what they consist of."""


@dataclass(frozen=True, slots=True)
class BitsT(Type):
    """``bit<width>`` or ``int<width>``."""

    width: int
    signed: bool = False

    def __str__(self) -> str:
        return f"{'int' if self.signed else 'bit'}<{self.width}>"


@dataclass(frozen=True, slots=True)
class Simple(Type):
    """A type that is only a name: bool, int (arbitrary precision), error, string, void, match_kind, packet_in, ..."""

    name: str

    def __str__(self) -> str:
        return self.name


BOOL, INT, ERROR, STRING, VOID = (Simple(n) for n in ("bool", "int", "error", "string", "void"))
MATCH_KIND, DONT_CARE = Simple("match_kind"), Simple("_")


@dataclass(frozen=True, slots=True)
class VarbitT(Type):
    """``varbit<width>``."""

    width: int

    def __str__(self) -> str:
        return f"varbit<{self.width}>"


@dataclass(frozen=True, slots=True)
class EnumT(Type):
    """An enum; ``base`` and ``values`` are set when it is serialisable."""

    name: str
    members: tuple[str, ...]
    base: Type | None = None
    values: tuple[int, ...] = ()

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class NewT(Type):
    """``type base name``."""

    name: str
    base: Type

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, eq=False, slots=True)
class StructT(Type):
    """A header, struct or union, already specialised. Compared by identity: one object for each (declaration, arguments)."""

    name: str
    kind: Literal["header", "struct", "header_union"]
    fields: list[tuple[str, Type]] = field(default_factory=list)
    declaration: ast.CompositeDecl | None = None
    generic_name: str | None = None
    args: tuple[Type, ...] = ()

    def __str__(self) -> str:
        if self.args:
            return f"{self.generic_name}<{', '.join(str(a) for a in self.args)}>"
        return self.name

    def field_type(self, name: str) -> Type | None:
        """The type of a field, None if there is none of this name."""
        return next((t for n, t in self.fields if n == name), None)


@dataclass(frozen=True, slots=True)
class StackT(Type):
    """A header stack."""

    element: StructT
    size: int

    def __str__(self) -> str:
        return f"{self.element}[{self.size}]"


@dataclass(frozen=True, slots=True)
class TupleT(Type):
    """A tuple, or the type of ``{ a, b }``; an ``array`` of anything but headers is a tuple that can be indexed by a variable."""

    items: tuple[Type, ...]
    array: bool = False

    def __str__(self) -> str:
        if self.array:
            return f"{self.items[0]}[{len(self.items)}]"
        return f"tuple<{', '.join(str(t) for t in self.items)}>"


@dataclass(frozen=True, slots=True)
class ListT(Type):
    """``list<T>``: any number of values of one type, known where it is written; ``for`` goes over it."""

    element: Type

    def __str__(self) -> str:
        return f"list<{self.element}>"


@dataclass(frozen=True, slots=True)
class RecordT(Type):
    """The type of ``{ name = value }`` before it is known which struct it is."""

    fields: tuple[tuple[str, Type], ...]

    def __str__(self) -> str:
        return "{ " + ", ".join(f"{n} = {t}" for n, t in self.fields) + " }"


@dataclass(frozen=True, slots=True)
class InvalidT(Type):
    """The type of ``{#}``."""

    def __str__(self) -> str:
        return "{#}"


@dataclass(frozen=True, slots=True)
class DefaultT(Type):
    """The type of ``...``: whatever is needed."""

    def __str__(self) -> str:
        return "..."


@dataclass(frozen=True, slots=True)
class ExternT(Type):
    """An extern object type with its arguments."""

    name: str
    args: tuple[Type, ...] = ()

    def __str__(self) -> str:
        return self.name + (f"<{', '.join(str(a) for a in self.args)}>" if self.args else "")


@dataclass(frozen=True, slots=True)
class TypeVar(Type):
    """A type parameter while its value is being inferred."""

    name: str

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class Opaque(Type):
    """A control, parser or package type; not a type of values."""

    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


def strip(type_: Type) -> Type:
    """The type behind ``type`` declarations and serialisable enums."""
    base = type_.base if isinstance(type_, NewT | EnumT) else None
    return type_ if base is None else strip(base)


def number(type_: Type) -> Type:
    """The type that operators see: a serialisable enum counts as its number, a ``type`` does not (section 7.2.8)."""
    if isinstance(type_, EnumT) and type_.base is not None:
        return type_.base
    return type_


def is_header(type_: Type) -> bool:
    """Whether it is a header."""
    return isinstance(type_, StructT) and type_.kind == "header"


def is_union(type_: Type) -> bool:
    """Whether it is a header union."""
    return isinstance(type_, StructT) and type_.kind == "header_union"


def bit_width(type_: Type) -> int | None:
    """Size in bits of a type of fixed size; None for others (varbit counts as its maximum)."""
    type_ = strip(type_)
    if isinstance(type_, BitsT):
        return type_.width
    if type_ == BOOL:
        return 1
    if isinstance(type_, VarbitT):
        return type_.width
    if isinstance(type_, StructT):
        widths = [bit_width(t) for _, t in type_.fields]
        if any(w is None for w in widths):
            return None
        sizes = [w for w in widths if w is not None]
        return max(sizes, default=0) if type_.kind == "header_union" else sum(sizes)
    if isinstance(type_, StackT):
        width = bit_width(type_.element)
        return None if width is None else width * type_.size
    if isinstance(type_, TupleT):
        widths = [bit_width(t) for t in type_.items]
        return None if any(w is None for w in widths) else sum(w for w in widths if w is not None)
    return None


def type_name(type_: Type) -> str | None:
    """The name that P4Info gives beside a bit width: of a ``type`` or a serialisable enum."""
    return type_.name if isinstance(type_, NewT | EnumT) else None


def to_ir(type_: Type, tuples: TupleNames) -> ir.Type:
    """The IR type. Tuples become structs whose names ``tuples`` hands out."""
    type_ = strip(type_)
    match type_:
        case BitsT(width, signed):
            return ir.Bits(width=width, signed=signed)
        case VarbitT(width):
            return ir.Varbit(max_width=width)
        case EnumT(name=name):
            return ir.Enum(name=name)
        case StructT(name=name, kind="header"):
            return ir.Header(name=name)
        case StructT(name=name, kind="struct"):
            return ir.Struct(name=name)
        case StructT(name=name):
            return ir.Union(name=name)
        case StackT(element, size):
            inner = to_ir(element, tuples)
            assert isinstance(inner, ir.Header | ir.Union)
            return ir.Stack(element=inner, size=size)
        case TupleT(items):
            return ir.Struct(name=tuples.name_of(items))
        case RecordT(fields):
            return ir.Struct(name=tuples.name_of(tuple(t for _, t in fields)))
        case Simple("bool"):
            return ir.Bool()
        case Simple("error"):
            return ir.Error()
        case Simple("string"):
            return ir.String()
    raise ValueError(f"no value has type {type_}")


class TupleNames:
    """Synthesised structs for tuples; one for each list of element types."""

    def __init__(self) -> None:
        self.structs: dict[tuple[ir.Type, ...], str] = {}

    def name_of(self, items: tuple[Type, ...]) -> str:
        """The struct for a tuple of these types."""
        key = tuple(to_ir(t, self) for t in items)
        return self.structs.setdefault(key, f"tuple_{len(self.structs)}")

    def composites(self) -> list[ir.Composite]:
        """All of them as IR declarations."""
        return [
            ir.Composite(name=name, fields=[ir.Field(name=f"f{i}", type=t) for i, t in enumerate(types)])
            for types, name in self.structs.items()
        ]
