"""C for controls, their actions and tables, and for functions.

A variable of a control that its actions or tables use lives in a struct that they get a pointer to; the others are C variables.
"""

from __future__ import annotations

from collections.abc import Sequence

from p4switch.codegen import packing
from p4switch.codegen.code import Code
from p4switch.codegen.context import Context, Place, Scope
from p4switch.codegen.errors import CodegenError
from p4switch.codegen.externs import ExternGenerator
from p4switch.codegen.names import c_comment, identifier
from p4switch.codegen.statements import PIPELINE, Flow
from p4switch.codegen.types import STANDARD_METADATA, show
from p4switch.compiler import ir

_STAGE = (
    "p4prog_env *const env, p4_ctx *const c, p4prog_standard_metadata *const sm, "
    "p4prog_requests *const rq, const p4_rest *const rest"
)
PARAMETERS = {
    "parser": ("headers", "metadata", "standard metadata"),
    "verify_checksum": ("headers", "metadata"),
    "ingress": ("headers", "metadata", "standard metadata"),
    "egress": ("headers", "metadata", "standard metadata"),
    "compute_checksum": ("headers", "metadata"),
    "deparser": ("headers",),
}


def named_type(program: ir.Program, name: str) -> ir.Struct | ir.Header | ir.Union:
    """The type of this name among structs, headers and unions."""
    if any(s.name == name for s in program.structs):
        return ir.Struct(name=name)
    if any(h.name == name for h in program.headers):
        return ir.Header(name=name)
    if any(u.name == name for u in program.unions):
        return ir.Union(name=name)
    raise CodegenError(f"type {name!r}", "it is not declared")


def bind_parameters(context: Context, scope: Scope, block: str, names: Sequence[str]) -> None:
    """Bind the parameters of the parser or a control, in order, to headers, metadata and standard metadata."""
    wanted = PARAMETERS[block]
    if len(names) != len(wanted) or len(set(names)) != len(names):
        raise CodegenError(f"{block}", f"it has the parameters {', '.join(names)}; expected are {', '.join(wanted)}")
    program = context.program
    places = {
        "headers": Place("c->h", named_type(program, program.headers_type)),
        "metadata": Place("c->m", named_type(program, program.metadata_type)),
        "standard metadata": Place("(*sm)", ir.Struct(name=STANDARD_METADATA)),
    }
    for name, kind in zip(names, wanted, strict=True):
        scope.names[name] = places[kind]


class ControlGenerator:
    """One control: its struct of shared variables, its actions and tables; the stage functions call ``body``."""

    def __init__(self, context: Context, block: str):
        self.context = context
        self.block = block
        self.control = context.controls[block]
        self.scope = Scope()
        bind_parameters(context, self.scope, block, self.control.params)
        self.shared: list[ir.Declare] = []
        self.plain: list[ir.Declare] = []
        used = context.shared_locals(block)
        for local in self.control.locals:
            if local.name in self.scope.names or any(local.name == x.name for x in [*self.shared, *self.plain]):
                raise CodegenError(f"variable {local.name!r}", f"{block} declares it twice", local.loc)
            (self.shared if local.name in used else self.plain).append(local)
        for index, local in enumerate(self.shared):
            self.scope.names[local.name] = Place(f"l->{identifier('v', index, local.name)}", local.type)

    @property
    def struct(self) -> str:
        """The C type of the shared variables."""
        return f"locals_{self.block}"

    def declare_locals(self, code: Code) -> None:
        """The struct of shared variables."""
        with code.block("typedef struct", f"}} {self.struct};"):
            for local in self.shared:
                place = self.scope.names[local.name]
                code(f"{self.context.types.value_type(local.type)} {place.code.removeprefix('l->')};")

    # --------------------------------------------------------------------------------------------------------- functions

    def action(self, action: ir.Action, code: Code) -> None:
        """The C function of an action; it returns whether it exited if it may."""
        exits = self.context.may_exit(action)
        scope = Scope(self.scope)
        params = [_STAGE, f"{self.struct} *const l", *parameters(self.context, action.params, scope)]
        code(f"/* action {c_comment(action.name)} */")
        result = "bool" if exits else "void"
        with code.block(f"static inline {result} {self.context.c_name(action)}({', '.join(params)})"):
            flow = Flow(leave="return false;" if exits else "return;", exited="return true;" if exits else None)
            generator = ExternGenerator(self.context, self.block, code, scope, flow)
            generator.loc = action.loc
            reset_outputs(generator, action.params, scope)
            generator.body(action.body)
            if exits:
                code("return false;")
        code("")

    def table(self, table: ir.Table, code: Code) -> None:
        """The C function that applies a table: key, lookup, action."""
        exits = self.context.may_exit(table)
        scope = Scope(self.scope)
        head = f"static inline {'bool' if exits else 'void'} {self.context.c_name(table)}"
        code(f"/* table {c_comment(table.name)} */")
        with code.block(f"{head}({_STAGE}, {self.struct} *const l, p4prog_match *const m)"):
            flow = Flow(exited="return true;" if exits else None)
            generator = ExternGenerator(self.context, self.block, code, scope, flow)
            generator.loc = table.loc
            self.key(table, generator)
            index = self.context.table_index[table.name]
            code(f"*m = p4prog_lookup(env, {index}u, key, sm->packet_length);")
            with code.block("switch (m->action)"):
                for ref in table.actions:
                    action = self.context.action(self.block, ref.variant or ref.name, table.loc)
                    number = self.context.action_index[ref.name]
                    if not action.body and not ref.args:
                        continue
                    with code.block(f"case {number}: /* {c_comment(ref.name)} */", "} break;"):
                        self.dispatch(action, ref, generator)
            if exits:
                code("return false;")
        code("")

    def key(self, table: ir.Table, generator: ExternGenerator) -> None:
        """The key buffer: each field in whole bytes, network byte order."""
        values = []
        for field in table.keys:
            if field.expr is None:
                raise CodegenError(f"key {field.name!r} of table {table.name!r}", "it has no expression", table.loc)
            value = generator.value(field.expr)
            if not isinstance(value.type, ir.Bits | ir.Bool | ir.Error | ir.Enum):
                generator.refuse(f"key {field.name!r} of table {table.name!r}", f"{show(value.type)} is no scalar")
            generator.expect(value.type, field.type, f"key {field.name!r} of table {table.name!r}")
            values.append(value)
        scalars = generator.pack_scalars(values)
        slots, _, size = packing.byte_slots([w for w, _ in scalars])
        generator.code(f"uint8_t key[{(size or 1) + 7 & ~7}] __attribute__((aligned(8)));")
        generator.code.extend(
            packing.write(self.context.types, "key", list(zip(slots, [c for _, c in scalars], strict=True)))
        )

    def dispatch(self, action: ir.Action, ref: ir.ActionRef, generator: ExternGenerator) -> None:
        """The call of an action that a lookup chose: bound arguments, then data from the entry."""
        generator.body(ref.setup)
        directed = [p for p in action.params if p.direction != "data"]
        bound, back = generator.pass_arguments(f"action {action.name!r} of a table", directed, ref.args)
        if directed:
            generator.trace_action(action, directed, bound)
        data = [p for p in action.params if p.direction == "data"]
        slots, _, size = packing.byte_slots([self.context.types.scalar_width(p.type) for p in data])
        loaded = []
        for p, slot in zip(data, slots, strict=True):
            code = packing.read(self.context.types, "m->data", slot, size)
            loaded.append(generator.from_bits(code, p.type).code)
        order = iter(bound), iter(loaded)
        args = [next(order[p.direction == "data"]) for p in action.params]
        generator.invoke(generator.action_call(action, args), self.context.may_exit(action), back, ref.back)

    # ------------------------------------------------------------------------------------------------------------- body

    def body(self, generator: ExternGenerator, done: str) -> None:
        """The variables and statements of the control; ``done`` is the label that return and exit lead to."""
        code = generator.code
        generator.applies_tables = self.block in PIPELINE
        generator.flow.leave = generator.flow.exited = f"goto {done};"
        code(f"{self.struct} locals = {{}};", f"{self.struct} *const l = &locals;")
        for local in self.plain:
            generator.loc = local.loc
            generator.statement(local)
        for local in self.shared:
            if local.init is not None:
                generator.loc = local.loc
                place = self.scope.names[local.name]
                code(
                    f"{place.code} = {generator.typed(local.init, local.type, f'initial value of {local.name!r}').code};"
                )
        with code.block():
            generator.body(self.control.body)
        code.label(done)


def parameters(context: Context, params: Sequence[ir.Param], scope: Scope) -> list[str]:
    """C parameters of an action or function, and their names bound in ``scope``."""
    result = []
    for index, p in enumerate(params):
        if p.name in scope.names:
            raise CodegenError(f"parameter {p.name!r}", "it is declared twice")
        c_name = identifier("p", index, p.name)
        c_type = context.types.value_type(p.type)
        if p.direction in ("in", "data"):
            result.append(f"{c_type} {c_name}")
            scope.names[p.name] = Place(c_name, p.type)
        else:
            result.append(f"{c_type} *const {c_name}")
            scope.names[p.name] = Place(f"(*{c_name})", p.type)
    return result


def reset_outputs(generator: ExternGenerator, params: Sequence[ir.Param], scope: Scope) -> None:
    """``out`` parameters begin with their headers invalid (P4_16 section 6.8)."""
    for p in params:
        if p.direction == "out" and not isinstance(p.type, ir.Bits | ir.Bool | ir.Error | ir.Enum):
            generator.code(f"{scope.names[p.name].code} = {generator.zero_value(p.type)};")


def function(context: Context, item: ir.Function, code: Code) -> None:
    """The C function of a function. One that may exit gives its result through a pointer and returns whether it did."""
    exits = context.may_exit(item)
    scope = Scope()
    params = [_STAGE, *parameters(context, item.params, scope)]
    result = "void" if item.result is None else context.types.value_type(item.result)
    if exits:
        if item.result is not None:
            params.append(f"{result} *const result")
        result = "bool"
    code(f"/* function {c_comment(item.name)} */")
    with code.block(f"static inline {result} {context.c_name(item)}({', '.join(params)})"):
        flow = Flow(
            leave="return false;" if exits else "return;",
            exited="return true;" if exits else None,
            result=item.result,
            by_pointer=exits and item.result is not None,
        )
        generator = ExternGenerator(context, "function", code, scope, flow)
        reset_outputs(generator, item.params, scope)
        generator.body(item.body)
        if exits:
            code("return false;")
        elif item.result is not None:
            code(f"return {generator.zero_value(item.result)};")
    code("")
