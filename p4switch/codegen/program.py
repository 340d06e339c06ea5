"""The whole program: IR in, one C file out.

The C depends on nothing but ``p4prog.h`` and the headers in ``include/``. Equal programs give equal text.
"""

from __future__ import annotations

import sys
from pathlib import Path

from p4switch.codegen.code import Code
from p4switch.codegen.context import BLOCKS, Context, Scope
from p4switch.codegen.controls import ControlGenerator, bind_parameters, function, named_type
from p4switch.codegen.deparser import DeparserGenerator
from p4switch.codegen.descriptor import DescriptorGenerator
from p4switch.codegen.errors import CodegenError
from p4switch.codegen.externs import ExternGenerator
from p4switch.codegen.names import c_comment, c_string
from p4switch.codegen.parser import ParserGenerator
from p4switch.codegen.statements import Flow
from p4switch.compiler import ir

INCLUDE_DIR = Path(__file__).parent / "include"
MAX_CONTEXT_BYTES = 4 << 20
_RECURSION_LIMIT = 20_000

_STAGE_HEAD = "p4prog_env *env, void *ctx, p4prog_standard_metadata *sm"


def generate(program: ir.Program) -> str:
    """C for a program. Raises CodegenError for what it cannot express."""
    if program.version != ir.IR_VERSION:
        raise CodegenError("program", f"its IR has version {program.version}, expected {ir.IR_VERSION}")
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(max(limit, _RECURSION_LIMIT))
    try:
        return ProgramGenerator(program).text()
    except RecursionError:
        raise CodegenError("program", "its expressions or statements are nested too deeply") from None
    finally:
        sys.setrecursionlimit(limit)


class ProgramGenerator:
    """Puts the parts together."""

    def __init__(self, program: ir.Program):
        self.program = program
        self.context = Context(program)
        self.controls = {block: ControlGenerator(self.context, block) for block in BLOCKS}
        owned: list[ir.Action | ir.Table] = [*program.actions, *program.tables]
        for item in owned:
            if item.control not in self.controls:
                blocks = ", ".join(BLOCKS)
                raise CodegenError(f"{item.name!r}", f"its control {item.control!r} is none of {blocks}", item.loc)
        self.max_header_bytes = 0

    def text(self) -> str:
        """All of the file."""
        types, context = self.context.types, self.context
        headers = named_type(self.program, self.program.headers_type)
        metadata = named_type(self.program, self.program.metadata_type)
        if context.types.size(headers) + context.types.size(metadata) > MAX_CONTEXT_BYTES:
            raise CodegenError("program", f"headers and metadata take more than {MAX_CONTEXT_BYTES} bytes a packet")
        frame = Code()
        with frame.block("typedef struct", "} p4_ctx;"):
            frame(f"{types.value_type(headers)} h;", f"{types.value_type(metadata)} m;", "uint32_t turns;")
        for control in self.controls.values():
            control.declare_locals(frame)
        functions = Code()
        for item in context.call_order:
            if isinstance(item, ir.Action):
                self.controls[item.control].action(item, functions)
            else:
                function(context, item, functions)
        for table in self.program.tables:
            self.controls[table.control].table(table, functions)
        stages = Code()
        with stages.block("static const char *const error_names[] =", "};"):
            stages(*(f"{c_string(name)}," for name in self.program.errors))
        for block in ("verify_checksum", "compute_checksum"):
            self.checksum(block, stages)
        self.parse(stages)
        self.pipeline("ingress", stages)
        self.pipeline("egress", stages)
        self.deparse(stages)
        self.metadata(stages)
        descriptor = Code()
        DescriptorGenerator(context, descriptor).generate(self.max_header_bytes)
        head = Code()
        head(f"/* Generated from {c_comment(self.program.name)}. */", '#include "p4gen.h"')
        head(*(f"P4_WIDE({n})" for n in sorted(types.wide)))
        head(f"#define P4_MAX_HEADER_BYTES {self.max_header_bytes}u")
        parts = (head, types.declarations, frame, context.helpers_code, functions, stages, descriptor)
        return "\n".join(part.text() for part in parts)

    # ----------------------------------------------------------------------------------------------------------- stages

    @staticmethod
    def reset_turns(code: Code, context: Context) -> None:
        """Begin to count the turns of loops."""
        if context.has_loops:
            code("c->turns = 0;")

    def pipeline(self, block: str, code: Code) -> None:
        """Ingress or egress."""
        with code.block(f"static void {block}({_STAGE_HEAD}, p4prog_requests *rq)"):
            code("p4_ctx *const c = ctx;", "const p4_rest *const rest = NULL;")
            self.reset_turns(code, self.context)
            control = self.controls[block]
            control.body(ExternGenerator(self.context, block, code, Scope(control.scope), Flow()), "done")
        code("")

    def checksum(self, block: str, code: Code) -> None:
        """A checksum control."""
        params = "p4prog_env *env, p4_ctx *const c, p4prog_standard_metadata *sm, const p4_rest *const rest"
        with code.block(f"static inline void {block}({params})"):
            code("p4prog_requests *const rq = NULL;")
            self.reset_turns(code, self.context)
            control = self.controls[block]
            control.body(ExternGenerator(self.context, block, code, Scope(control.scope), Flow()), "done")
        code("")

    def parse(self, code: Code) -> None:
        """The parser and verify_checksum."""
        errors = self.context.error_index("NoError")
        with code.block(f"static uint32_t parse({_STAGE_HEAD}, const uint8_t *packet, uint32_t length)"):
            code("p4_ctx *const c = ctx;", "p4prog_requests *const rq = NULL;", "const p4_rest *rest = NULL;")
            code("uint32_t pos = 0;")
            code("memset(&c->h, 0, sizeof c->h);")
            code("if (sm->instance_type != P4PROG_RESUBMIT && sm->instance_type != P4PROG_RECIRC)")
            code("    memset(&c->m, 0, sizeof c->m);")
            code(f"sm->parser_error = {errors}u;", "sm->checksum_error = 0;")
            self.reset_turns(code, self.context)
            scope = Scope()
            bind_parameters(self.context, scope, "parser", self.program.parser.params)
            ParserGenerator(self.context, code, Scope(scope)).generate()
            code.label("rejected")
            code.label("accepted")
            code("const p4_rest payload = {packet + pos, length - pos};", "rest = &payload;")
            code("verify_checksum(env, c, sm, rest);", "return pos;")
        code("")

    def deparse(self, code: Code) -> None:
        """compute_checksum and the deparser."""
        head = f"static uint32_t deparse({_STAGE_HEAD}, const uint8_t *payload, uint32_t payload_length, uint8_t *out)"
        with code.block(head):
            code("p4_ctx *const c = ctx;", "p4prog_requests *const rq = NULL;")
            code(
                "const p4_rest payload_rest = {payload, payload_length}, *const rest = &payload_rest;",
                "uint32_t pos = 0;",
            )
            code("compute_checksum(env, c, sm, rest);")
            self.reset_turns(code, self.context)
            control = self.controls["deparser"]
            generator = DeparserGenerator(self.context, "deparser", code, Scope(control.scope), Flow())
            control.body(generator, "done")
            code("return pos;")
            self.max_header_bytes = generator.max_bytes
        code("")

    # --------------------------------------------------------------------------------------------------------- metadata

    def metadata(self, code: Code) -> None:
        """Field lists, and zeroing of metadata."""
        head = (
            "static void copy_field_list(uint32_t index, const void *from_ctx, const p4prog_standard_metadata *from_sm, "
            "void *to_ctx, p4prog_standard_metadata *to_sm)"
        )
        with code.block(head):
            code("const p4_ctx *const from = from_ctx;", "p4_ctx *const to = to_ctx;")
            with code.block("switch (index)"):
                for field_list in self.program.field_lists:
                    number = self.context.field_list_number[str(field_list.index)]
                    with code.block(f"case {number}:", "} break;"):
                        for path in field_list.paths:
                            source, target = self.metadata_path(path)
                            code(f"{target} = {source};")
        code("")
        with code.block("static void reset_metadata(void *ctx)"):
            code("p4_ctx *const c = ctx;", "memset(&c->m, 0, sizeof c->m);")
        code("")

    def metadata_path(self, path: list[str]) -> tuple[str, str]:
        """C for a path of a field list in the old and the new packet."""
        what = f"field list entry {'.'.join(path)!r}"
        roots: dict[str, tuple[str, str, ir.Type]] = {
            "meta": ("from->m", "to->m", named_type(self.program, self.program.metadata_type)),
            "standard_metadata": ("(*from_sm)", "(*to_sm)", ir.Struct(name="standard_metadata_t")),
        }
        if not path or path[0] not in roots:
            raise CodegenError(what, "it begins with neither meta nor standard_metadata")
        source, target, type_ = roots[path[0]]
        for name in path[1:]:
            info = None
            if isinstance(type_, ir.Struct | ir.Header | ir.Union):
                info = self.context.types.composite(type_).field(name)
            if info is None:
                raise CodegenError(what, f"there is no field {name!r}")
            source, target, type_ = f"{source}.{info.c_name}", f"{target}.{info.c_name}", info.type
        return source, target
