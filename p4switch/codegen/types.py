"""C types of the IR's types: declarations in dependency order, and the helper functions that belong to a type.

Numbers are kept as their W-bit pattern in the smallest unsigned C type that holds it, also the signed ones: always with the
bits above W zero. Headers, structs and unions are C structs of their fields; a header has ``valid``; a union keeps all its
members (at most one is valid); a stack is an array with ``next``, its nextIndex. ``standard_metadata_t`` is the runtime's
own struct, so that nothing is copied between runtime and program.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from p4switch.codegen.code import Code
from p4switch.codegen.errors import CodegenError
from p4switch.codegen.names import identifier
from p4switch.compiler import ir

MAX_WIDTH = 2048
MAX_TYPE_BYTES = 1 << 20
STANDARD_METADATA = "standard_metadata_t"

# Fields of p4prog_standard_metadata and the bits that each can hold.
_STANDARD_FIELDS = {
    "ingress_port": 32,
    "egress_spec": 32,
    "egress_port": 32,
    "instance_type": 32,
    "packet_length": 32,
    "enq_timestamp": 32,
    "enq_qdepth": 32,
    "deq_timedelta": 32,
    "deq_qdepth": 32,
    "ingress_global_timestamp": 64,
    "egress_global_timestamp": 64,
    "mcast_grp": 32,
    "egress_rid": 32,
    "checksum_error": 32,
    "parser_error": 32,
    "priority": 32,
    "qid": 32,
}


@dataclass(frozen=True)
class FieldInfo:
    """A field of a composite: its C name and its type."""

    name: str
    c_name: str
    type: ir.Type


@dataclass(frozen=True)
class CompositeInfo:
    """A declared header, struct or union."""

    kind: str
    c_type: str
    fields: tuple[FieldInfo, ...]
    size: int  # bytes, an upper bound of sizeof

    def field(self, name: str) -> FieldInfo | None:
        """The field of this name."""
        return next((f for f in self.fields if f.name == name), None)


def limbs(width: int) -> int:
    """64-bit words of a number of more than 128 bits."""
    return (width + 63) // 64


def is_wide(type_: ir.Type) -> bool:
    """Whether a number needs more than C's integers."""
    return isinstance(type_, ir.Bits) and type_.width > 128


def machine_width(width: int) -> int:
    """Bits of the C type that holds a value of this width: 32, 64, 128, or a multiple of 64 beyond."""
    return 32 if width <= 32 else 64 if width <= 64 else 128 if width <= 128 else 64 * limbs(width)


def show(type_: ir.Type) -> str:
    """A type for messages."""
    match type_:
        case ir.Bits(width=width, signed=signed):
            return f"{'int' if signed else 'bit'}<{width}>"
        case ir.Varbit(max_width=width):
            return f"varbit<{width}>"
        case ir.Enum(name=name) | ir.Struct(name=name) | ir.Header(name=name) | ir.Union(name=name):
            return name
        case ir.Stack(element=element, size=size):
            return f"{element.name}[{size}]"
    return type(type_).__name__.lower()


class TypeTable:
    """Declares the types that a program uses, each once."""

    def __init__(self, program: ir.Program):
        self.declarations = Code()
        self.wide: set[int] = set()
        self._composites: dict[tuple[str, str], ir.Composite] = {}
        self._positions: dict[tuple[str, str], int] = {}
        for kind, group in (("header", program.headers), ("struct", program.structs), ("union", program.unions)):
            for composite in group:
                if (kind, composite.name) in self._composites:
                    raise CodegenError(f"{kind} {composite.name!r}", "it is declared twice")
                self._positions[kind, composite.name] = len(self._positions)
                self._composites[kind, composite.name] = composite
        self._enums = {e.name: e for e in program.enums}
        self._infos: dict[tuple[str, str], CompositeInfo] = {}
        self._active: set[tuple[str, str]] = set()
        self._stacks: dict[ir.Stack, tuple[str, int]] = {}
        self._varbits: set[int] = set()
        self._helpers: set[str] = set()

    # ------------------------------------------------------------------------------------------------------ C spelling

    def value_type(self, type_: ir.Type) -> str:
        """The C type of variables, parameters and intermediate values."""
        match type_:
            case ir.Bits(width=width):
                if not 0 <= width <= MAX_WIDTH:
                    raise CodegenError(show(type_), f"widths are 0 to {MAX_WIDTH}")
                if width <= 128:
                    return {32: "uint32_t", 64: "uint64_t", 128: "p4_u128"}[machine_width(width)]
                self.wide.add(limbs(width))
                return f"p4_w{limbs(width)}"
            case ir.Bool():
                return "bool"
            case ir.Error() | ir.Enum():
                return "uint32_t"
            case ir.Varbit(max_width=width):
                return self._varbit(width)
            case ir.Stack():
                return self._stack(type_)[0]
            case ir.Struct() | ir.Header() | ir.Union():
                return self.composite(type_).c_type
        raise CodegenError(show(type_), "there are no variables of this type")

    def field_type(self, type_: ir.Type) -> str:
        """The C type of a field, as narrow as possible."""
        if isinstance(type_, ir.Bits) and type_.width <= 16:
            return "uint8_t" if type_.width <= 8 else "uint16_t"
        return self.value_type(type_)

    def size(self, type_: ir.Type) -> int:
        """An upper bound of the bytes that a field of this type takes in C, padding included."""
        match type_:
            case ir.Bits(width=width):
                for bits in (8, 16, 32, 64, 128):
                    if width <= bits:
                        return bits // 8
                return 8 * limbs(width)
            case ir.Bool():
                return 1
            case ir.Varbit(max_width=width):
                return 8 + (width + 7) // 8
            case ir.Stack():
                return self._stack(type_)[1]
            case ir.Struct() | ir.Header() | ir.Union():
                return self.composite(type_).size
        return 4

    def is_standard_metadata(self, type_: ir.Type) -> bool:
        """Whether values of this type live in the runtime's struct."""
        return isinstance(type_, ir.Struct) and type_.name == STANDARD_METADATA

    # ---------------------------------------------------------------------------------------------------- declarations

    def composite(self, type_: ir.Struct | ir.Header | ir.Union) -> CompositeInfo:
        """The declaration behind a reference."""
        kind = {ir.Struct: "struct", ir.Header: "header", ir.Union: "union"}[type(type_)]
        key = (kind, type_.name)
        if key in self._infos:
            return self._infos[key]
        declaration = self._composites.get(key)
        if declaration is None:
            raise CodegenError(f"{kind} {type_.name!r}", "it is not declared")
        if key in self._active:
            raise CodegenError(f"{kind} {type_.name!r}", "it contains itself")
        self._active.add(key)
        try:
            info = self._declare(kind, declaration)
        finally:
            self._active.discard(key)
        self._infos[key] = info
        return info

    def _declare(self, kind: str, declaration: ir.Composite) -> CompositeInfo:
        what = f"{kind} {declaration.name!r}"
        if kind == "struct" and declaration.name == STANDARD_METADATA:
            return self._standard_metadata(declaration)
        fields: list[FieldInfo] = []
        size = 16
        for position, f in enumerate(declaration.fields):
            if any(f.name == other.name for other in fields):
                raise CodegenError(what, f"field {f.name!r} is declared twice")
            if kind == "union" and not isinstance(f.type, ir.Header):
                raise CodegenError(what, f"field {f.name!r} is {show(f.type)}; a union holds headers only")
            self.field_type(f.type)
            fields.append(FieldInfo(f.name, identifier("f", position, f.name), f.type))
            size = (size + 15) // 16 * 16 + self.size(f.type)
        if size > MAX_TYPE_BYTES:
            raise CodegenError(what, f"it takes {size} bytes; at most {MAX_TYPE_BYTES} are possible")
        name = identifier(kind[0], self._positions[kind, declaration.name], declaration.name)
        with self.declarations.block("typedef struct", f"}} {name};"):
            for info in fields:
                self.declarations(f"{self.field_type(info.type)} {info.c_name};")
            if kind == "header":
                self.declarations("bool valid;")
                if self.padding(fields):
                    self.declarations("uint8_t pad;")
        return CompositeInfo(kind, name, tuple(fields), size)

    def padding(self, fields: Sequence[FieldInfo]) -> int:
        """Bits that follow these fields of a header in a packet up to a whole byte; p4c adds a field for them for BMv2."""
        flat = [t for f in fields for _, t in self.flatten(f.type, "")]
        return -sum(self.scalar_width(t) for t in flat if not isinstance(t, ir.Varbit)) % 8

    def _standard_metadata(self, declaration: ir.Composite) -> CompositeInfo:
        fields = []
        for f in declaration.fields:
            capacity = _STANDARD_FIELDS.get(f.name)
            if capacity is None:
                known = ", ".join(_STANDARD_FIELDS)
                raise CodegenError(f"{STANDARD_METADATA}.{f.name}", f"v1model has no such field; it has {known}")
            width = f.type.width if isinstance(f.type, ir.Bits) and not f.type.signed else 32
            if not isinstance(f.type, ir.Bits | ir.Error) or width > capacity:
                raise CodegenError(f"{STANDARD_METADATA}.{f.name}", f"{show(f.type)} is not the type of v1model")
            fields.append(FieldInfo(f.name, f.name, f.type))
        return CompositeInfo("struct", "p4prog_standard_metadata", tuple(fields), 128)

    def _stack(self, type_: ir.Stack) -> tuple[str, int]:
        if type_ in self._stacks:
            return self._stacks[type_]
        element = self.value_type(type_.element)
        size = 16 + type_.size * self.size(type_.element)
        if type_.size < 1 or size > MAX_TYPE_BYTES:
            raise CodegenError(show(type_), f"a stack has at least one element and at most {MAX_TYPE_BYTES} bytes")
        name = f"st{len(self._stacks)}"
        self.declarations(f"typedef struct {{ {element} e[{type_.size}]; uint32_t next; }} {name};")
        self._stacks[type_] = (name, size)
        return name, size

    def _varbit(self, width: int) -> str:
        if not 0 <= width <= 8 * MAX_TYPE_BYTES:
            raise CodegenError(f"varbit<{width}>", "it is too large")
        name = f"varbit{width}"
        if width not in self._varbits:
            self._varbits.add(width)
            self.declarations(f"typedef struct {{ uint32_t bits; uint8_t data[{(width + 7) // 8 or 1}]; }} {name};")
        return name

    def enum_members(self, name: str) -> list[str]:
        """The members of an enum."""
        if name not in self._enums:
            raise CodegenError(f"enum {name!r}", "it is not declared")
        return self._enums[name].members

    # --------------------------------------------------------------------------------------------------------- helpers

    def _once(self, name: str) -> bool:
        if name in self._helpers:
            return False
        self._helpers.add(name)
        return True

    def zero(self, type_: ir.Type) -> str:
        """A constant object of this type: zeros, invalid headers."""
        c_type = self.value_type(type_)
        name = f"zero_{c_type}"
        if self._once(name):
            self.declarations(f"static const {c_type} {name};")
        return name

    def element_reader(self, type_: ir.Stack) -> str:
        """A function (stack pointer, index) to an element, or to an all-zero one when there is no such element."""
        c_type, element = self.value_type(type_), self.value_type(type_.element)
        name = f"at_{c_type}"
        if self._once(name):
            zero = self.zero(type_.element)
            with self.declarations.block(f"static inline const {element} *{name}(const {c_type} *s, uint64_t i)"):
                self.declarations(f"return i < {type_.size}u ? &s->e[i] : &{zero};")
        return name

    def element_writer(self, type_: ir.Stack) -> str:
        """A function (stack pointer, index, sink) to an element, or to the sink when there is no such element."""
        c_type, element = self.value_type(type_), self.value_type(type_.element)
        name = f"put_{c_type}"
        if self._once(name):
            head = f"static inline {element} *{name}({c_type} *s, uint64_t i, {element} *sink)"
            with self.declarations.block(head):
                self.declarations(f"return i < {type_.size}u ? &s->e[i] : sink;")
        return name

    def equal(self, type_: ir.Type) -> str:
        """A function (pointer, pointer) that compares two values as ``==`` does (P4_16 sections 8.16 to 8.20)."""
        c_type = self.value_type(type_)
        name = f"eq_{c_type}"
        if self._once(name):
            head = f"static bool {name}(const {c_type} *a, const {c_type} *b)"
            body = Code(1)
            match type_:
                case ir.Varbit():
                    body("return a->bits == b->bits && memcmp(a->data, b->data, a->bits / 8) == 0;")
                case ir.Stack():
                    same = self.equal(type_.element)
                    body(f"for (uint32_t i = 0; i < {type_.size}u; i++)")
                    body(f"    if (!{same}(&a->e[i], &b->e[i])) return false;", "return true;")
                case ir.Struct() | ir.Header() | ir.Union():
                    if isinstance(type_, ir.Header):
                        body("if (!a->valid || !b->valid) return a->valid == b->valid;")
                    for f in self.composite(type_).fields:
                        body(f"if (!({self.field_equal(f)})) return false;")
                    body("return true;")
                case _:
                    raise CodegenError(show(type_), "its values are compared without a function")
            with self.declarations.block(head):
                self.declarations.lines.extend(body.lines)
        return name

    def field_equal(self, f: FieldInfo) -> str:
        """An expression that compares field ``f`` of ``*a`` and ``*b``."""
        if is_wide(f.type):
            return f"{self.value_type(f.type)}_eq(a->{f.c_name}, b->{f.c_name})"
        if isinstance(f.type, ir.Bits | ir.Bool | ir.Error | ir.Enum):
            return f"a->{f.c_name} == b->{f.c_name}"
        return f"{self.equal(f.type)}(&a->{f.c_name}, &b->{f.c_name})"

    # ---------------------------------------------------------------------------------------------------------- layout

    def flatten(self, type_: ir.Type, access: str) -> list[tuple[str, ir.Type]]:
        """The scalars and varbits of a value, in order: C expressions for them, from that of the whole."""
        match type_:
            case ir.Struct() | ir.Header():
                flat = []
                for f in self.composite(type_).fields:
                    flat.extend(self.flatten(f.type, f"{access}.{f.c_name}"))
                return flat
            case ir.Bits() | ir.Bool() | ir.Error() | ir.Enum() | ir.Varbit():
                return [(access, type_)]
        raise CodegenError(show(type_), "it has no fixed layout")

    def scalar_width(self, type_: ir.Type) -> int:
        """Bits of a scalar outside the program, as in keys and headers: errors and enums without a type take 32."""
        match type_:
            case ir.Bits(width=width):
                return width
            case ir.Bool():
                return 1
            case ir.Error() | ir.Enum():
                return 32
        raise CodegenError(show(type_), "it is not a number, bool, error or enum")
