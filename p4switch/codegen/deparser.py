"""C for the deparser: what ``emit`` writes (P4_16 section 16.1)."""

from __future__ import annotations

from p4switch.codegen.arithmetic import Value
from p4switch.codegen.externs import ExternGenerator
from p4switch.codegen.headers import emit_function, layout
from p4switch.codegen.names import c_string
from p4switch.codegen.types import show
from p4switch.compiler import ir

_TURNS_COUNTED = 64


class DeparserGenerator(ExternGenerator):
    """The body of a deparser. ``max_bytes`` is what it can write; emits in loops count for some turns and then do nothing."""

    max_bytes = 0

    def emit(self, statement: ir.Emit) -> None:
        """``emit``."""
        self._emit(self.path(statement.value), path_text(statement.value))

    def _emit(self, place: Value, path: str) -> None:
        match place.type:
            case ir.Header(name=name):
                self._emit_header(place, c_string(f"{path} ({name})"))
            case ir.Union() | ir.Struct():
                for f in self.types.composite(place.type).fields:
                    self._emit(Value(f"{place.code}.{f.c_name}", f.type), f"{path}.{f.name}")
            case ir.Stack(element=ir.Header(name=name), size=size):
                index, before = self.name("i"), self.max_bytes
                names = ", ".join(c_string(f"{path}[{i}] ({name})") for i in range(size))
                with self.code.block(f"for (uint32_t {index} = 0; {index} < {size}u; {index}++)"):
                    self.code(f"static const char *const emitted[] = {{{names}}};")
                    self._emit_header(Value(f"{place.code}.e[{index}]", place.type.element), f"emitted[{index}]")
                self.max_bytes = before + size * (self.max_bytes - before)
            case ir.Stack(element=element, size=size):
                index, before = self.name("i"), self.max_bytes
                with self.code.block(f"for (uint32_t {index} = 0; {index} < {size}u; {index}++)"):
                    self._emit(Value(f"{place.code}.e[{index}]", element), f"{path}[]")
                self.max_bytes = before + size * (self.max_bytes - before)
            case _:
                self.refuse("emit", f"only headers and what consists of them can be emitted, not {show(place.type)}")

    def _emit_header(self, place: Value, traced: str) -> None:
        """Write a header if it is valid; ``traced`` is the C string that a trace shows of it."""
        assert isinstance(place.type, ir.Header)
        largest = layout(self.context, place.type, self.loc).largest
        self.max_bytes += largest * (_TURNS_COUNTED if self.loop_depth else 1)
        function = emit_function(self.context, place.type, self.loc)
        room = f" && pos + {largest}u <= P4_MAX_HEADER_BYTES" if self.context.has_loops else ""
        with self.code.block(f"if ({place.code}.valid{room})"):
            self.code(f"pos += {function}(&{place.code}, out + pos);")
            self.code(f'if (P4_UNLIKELY(p4prog_tracing(env))) p4prog_trace(env, "emit", {traced});')


def path_text(expr: ir.Expression) -> str:
    """An expression of what is emitted as people write it."""
    match expr:
        case ir.Var(name=name):
            return name
        case ir.Member(base=base, field=field):
            return f"{path_text(base)}.{field}"
        case ir.Index(base=base, index=index):
            return f"{path_text(base)}[{index.value if isinstance(index, ir.Const) else ''}]"
    return "?"
