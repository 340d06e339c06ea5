"""C for the deparser: what ``emit`` writes (P4_16 section 16.1)."""

from __future__ import annotations

from p4switch.codegen.arithmetic import Value
from p4switch.codegen.externs import ExternGenerator
from p4switch.codegen.headers import emit_function, layout
from p4switch.codegen.types import show
from p4switch.compiler import ir

_TURNS_COUNTED = 64


class DeparserGenerator(ExternGenerator):
    """The body of a deparser. ``max_bytes`` is what it can write; emits in loops count for some turns and then do nothing."""

    max_bytes = 0

    def emit(self, statement: ir.Emit) -> None:
        """``emit``."""
        self._emit(self.path(statement.value))

    def _emit(self, place: Value) -> None:
        match place.type:
            case ir.Header():
                largest = layout(self.context, place.type, self.loc).largest
                self.max_bytes += largest * (_TURNS_COUNTED if self.loop_depth else 1)
                function = emit_function(self.context, place.type, self.loc)
                room = f" && pos + {largest}u <= P4_MAX_HEADER_BYTES" if self.context.has_loops else ""
                self.code(f"if ({place.code}.valid{room}) pos += {function}(&{place.code}, out + pos);")
            case ir.Union():
                for f in self.types.composite(place.type).fields:
                    self._emit(Value(f"{place.code}.{f.c_name}", f.type))
            case ir.Stack(element=element, size=size):
                index = self.name("i")
                before = self.max_bytes
                with self.code.block(f"for (uint32_t {index} = 0; {index} < {size}u; {index}++)"):
                    self._emit(Value(f"{place.code}.e[{index}]", element))
                self.max_bytes = before + size * (self.max_bytes - before)
            case ir.Struct():
                for f in self.types.composite(place.type).fields:
                    self._emit(Value(f"{place.code}.{f.c_name}", f.type))
            case _:
                self.refuse("emit", f"only headers and what consists of them can be emitted, not {show(place.type)}")
