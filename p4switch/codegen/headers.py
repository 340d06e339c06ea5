"""C functions that move a header between its struct and the packet, one pair a header type."""

from __future__ import annotations

from dataclasses import dataclass

from p4switch.codegen import packing
from p4switch.codegen.context import Context
from p4switch.codegen.errors import CodegenError
from p4switch.codegen.types import is_wide, show
from p4switch.compiler import ir


@dataclass(frozen=True)
class HeaderLayout:
    """A header in the packet: scalars, and possibly a varbit with more scalars after it.

    ``before`` and ``after`` are C expressions from ``h->`` with types; ``fixed`` is the size in bytes without the varbit.
    """

    before: tuple[tuple[str, ir.Type], ...]
    varbit: tuple[str, ir.Varbit] | None
    after: tuple[tuple[str, ir.Type], ...]
    fixed: int
    before_bytes: int

    @property
    def largest(self) -> int:
        """The largest size in bytes."""
        return self.fixed + (self.varbit[1].max_width // 8 if self.varbit is not None else 0)


def layout(context: Context, type_: ir.Header, loc: ir.Location | None) -> HeaderLayout:
    """How a header lies in a packet. One that does not fill whole bytes keeps the bits that follow it, as with BMv2."""
    flat = [(code.removeprefix("(*h)."), t) for code, t in context.types.flatten(type_, "(*h)")]
    positions = [i for i, (_, t) in enumerate(flat) if isinstance(t, ir.Varbit)]
    what = f"header {show(type_)}"
    if len(positions) > 1:
        raise CodegenError(what, "it has more than one varbit", loc)
    for code, t in flat:
        if isinstance(t, ir.Error | ir.Enum):
            raise CodegenError(what, f"field {code} has no defined size in a packet", loc)
    split = positions[0] if positions else len(flat)
    before, after = flat[:split], flat[split + 1 :]
    before_bits = sum(context.types.scalar_width(t) for _, t in before)
    after_bits = sum(context.types.scalar_width(t) for _, t in after)
    pad = -(before_bits + after_bits) % 8
    if pad:
        (after if positions else before).append(("pad", ir.Bits(width=pad)))
    varbit = None
    if positions:
        code, t = flat[split]
        assert isinstance(t, ir.Varbit)
        if before_bits % 8:
            raise CodegenError(what, "its varbit does not begin at a whole byte", loc)
        varbit = (code, t)
    return HeaderLayout(tuple(before), varbit, tuple(after), (before_bits + after_bits + pad) // 8, before_bits // 8)


def extract_function(context: Context, type_: ir.Header, loc: ir.Location | None) -> str:
    """The name of a function (header, packet [, bits of the varbit]) that fills a header and makes it valid."""
    shape = layout(context, type_, loc)
    c_type = context.types.value_type(type_)
    name = f"extract_{c_type}"
    if name in context.helpers:
        return name
    context.helpers.add(name)
    code = context.helpers_code
    bits = ", uint32_t bits" if shape.varbit is not None else ""
    with code.block(f"static inline void {name}({c_type} *h, const uint8_t *p{bits})"):
        _read_fields(context, shape.before, 0, shape.before_bytes if shape.varbit is not None else shape.fixed)
        if shape.varbit is not None:
            code(f"h->{shape.varbit[0]}.bits = bits;")
            code(f"memcpy(h->{shape.varbit[0]}.data, p + {shape.before_bytes}, bits / 8);")
            if shape.after:
                code(f"p += {shape.before_bytes} + bits / 8;")
                _read_fields(context, shape.after, 0, shape.fixed - shape.before_bytes)
        code("h->valid = true;")
    return name


def _read_fields(context: Context, fields: tuple[tuple[str, ir.Type], ...], start: int, available: int) -> None:
    slots, _ = packing.bit_slots([context.types.scalar_width(t) for _, t in fields], start)
    for (target, _), slot in zip(fields, slots, strict=True):
        context.helpers_code(f"h->{target} = {packing.read(context.types, 'p', slot, available)};")


def emit_function(context: Context, type_: ir.Header, loc: ir.Location | None) -> str:
    """The name of a function (header, packet) that writes a header and returns its size in bytes."""
    shape = layout(context, type_, loc)
    c_type = context.types.value_type(type_)
    name = f"emit_{c_type}"
    if name in context.helpers:
        return name
    context.helpers.add(name)
    code = context.helpers_code
    with code.block(f"static inline uint32_t {name}(const {c_type} *h, uint8_t *p)"):
        _write_fields(context, shape.before)
        if shape.varbit is None:
            code(f"return {shape.fixed}u;")
            return name
        value = f"h->{shape.varbit[0]}"
        code(f"memcpy(p + {shape.before_bytes}, {value}.data, {value}.bits / 8);")
        if shape.after:
            code(f"p += {shape.before_bytes} + {value}.bits / 8;")
            _write_fields(context, shape.after)
        code(f"return {shape.fixed}u + {value}.bits / 8;")
    return name


def _write_fields(context: Context, fields: tuple[tuple[str, ir.Type], ...]) -> None:
    slots, _ = packing.bit_slots([context.types.scalar_width(t) for _, t in fields])
    parts = []
    for (source, type_), slot in zip(fields, slots, strict=True):
        value = f"h->{source}"
        narrow = not is_wide(type_) and context.types.scalar_width(type_) <= 16
        parts.append((slot, f"((uint32_t){value})" if narrow else value))
    context.helpers_code.extend(packing.write(context.types, "p", parts))
