"""Types: headers, the headers struct, registers, parameters of actions."""

from __future__ import annotations

from collections.abc import Iterator

from p4switch.compiler import ast, ir
from p4switch.compiler.places import place
from p4switch.compiler.strict.refusals import Refusals


def check_types(program: ir.Program, refusals: Refusals) -> None:
    """All of a program."""
    for header in used_headers(program):
        check_header(header, refusals)
    check_headers_struct(program, refusals)
    for extern in program.externs:
        if extern.kind == "register":
            check_register(extern, refusals)
    for action in program.actions:
        check_action_parameters(action, refusals)


def used_headers(program: ir.Program) -> Iterator[ir.Composite]:
    """The headers that some instance, variable or parameter has."""
    known = {c.name: c for c in (*program.headers, *program.structs, *program.unions)}
    work = [known[name] for name in (program.headers_type, program.metadata_type)]
    types = [n.type for n in ir.walk(program) if isinstance(n, ir.Declare | ir.Param)]
    seen: set[str] = set()
    while work or types:
        types += [f.type for f in work.pop().fields] if work else []
        while types:
            type_ = types.pop()
            if isinstance(type_, ir.Stack):
                type_ = type_.element
            if isinstance(type_, ir.Header | ir.Struct | ir.Union) and type_.name in known and type_.name not in seen:
                seen.add(type_.name)
                work.append(known[type_.name])
    return (h for h in program.headers if h.name in seen)


def check_header(header: ir.Composite, refusals: Refusals) -> None:
    """A header must fill whole bytes, also one that is only a variable."""
    bits = 0
    for member in header.fields:
        match member.type:
            case ir.Bits(width=width) | ir.Varbit(max_width=width):
                bits += width
            case ir.Bool():
                bits += 1
            case _:
                return
    if bits % 8:
        name = header.source_name or header.name
        refusals.refuse(
            refusals.declaration(ast.CompositeDecl, name),
            f"header '{name}' has {bits} bits; bmv2 takes only headers of whole bytes",
            f"add a field of bit<{-bits % 8}>, or use a struct if it is never in a packet",
        )


def check_headers_struct(program: ir.Program, refusals: Refusals) -> None:
    """The struct of headers holds headers, stacks and unions directly."""
    struct = next((s for s in program.structs if s.name == program.headers_type), None)
    if struct is None:
        refusals.refuse(
            refusals.declaration(ast.CompositeDecl, program.headers_type),
            f"the headers of V1Switch are a '{program.headers_type}'; bmv2 wants a struct of headers",
            "put the header into a struct",
        )
        return
    for member in struct.fields:
        if not isinstance(member.type, ir.Header | ir.Stack | ir.Union):
            name = struct.source_name or struct.name
            refusals.refuse(
                refusals.declaration(ast.CompositeDecl, name),
                f"field '{member.name}' of '{name}' is no header, header stack or header union;"
                " bmv2 takes nothing else among the headers",
                "put its headers directly into the struct, and other values into the metadata",
            )


def check_register(extern: ir.Extern, refusals: Refusals) -> None:
    """Registers hold numbers, at least one."""
    loc = refusals.declaration(ast.Instantiation, extern.name)
    if not isinstance(extern.type, ir.Bits):
        refusals.refuse(
            loc,
            f"register '{extern.name}' does not hold bit<W> or int<W>; bmv2 has registers of numbers only",
            "use a register for each field, or one number that is put together with ++ and taken apart with slices",
        )
    if extern.size < 1:
        refusals.refuse(
            loc, f"register '{extern.name}' has no elements; bmv2 has no direct registers", "give it a size above zero"
        )


def check_action_parameters(action: ir.Action, refusals: Refusals) -> None:
    """What the control plane gives to actions are numbers."""
    for param in action.params:
        if param.direction == "data" and not isinstance(param.type, ir.Bits | ir.Enum):
            refusals.refuse(
                place(action.loc),
                f"parameter '{param.source_name}' of action '{action.name}' is no bit<W> or int<W>;"
                " bmv2 takes only numbers from the control plane",
                "use bit<1> for a bool, and a parameter for each field of a struct",
            )
