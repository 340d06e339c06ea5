"""C for the parser: one function, a label a state.

An error ends the parser with ``sm->parser_error`` set; it never drops the packet, and what a failed extract would have
consumed stays payload. States that lie on a cycle count their turns: a parser that goes round without consuming the packet
ends with ParserTimeout.
"""

from __future__ import annotations

from collections.abc import Sequence

from p4switch.codegen import packing
from p4switch.codegen.arithmetic import Value
from p4switch.codegen.code import Code
from p4switch.codegen.context import Context, Scope
from p4switch.codegen.errors import CodegenError
from p4switch.codegen.externs import ExternGenerator
from p4switch.codegen.headers import extract_function, layout
from p4switch.codegen.names import identifier
from p4switch.codegen.statements import Flow
from p4switch.codegen.types import show
from p4switch.compiler import ir

_FINAL = {"accept": "accepted", "reject": "accepted"}


class ParserGenerator(ExternGenerator):
    """The states of a parser."""

    def __init__(self, context: Context, code: Code, scope: Scope):
        super().__init__(context, "parser", code, scope, Flow())
        self.parser = context.program.parser
        self.labels = dict(_FINAL)
        for index, state in enumerate(self.parser.states):
            if state.name in self.labels:
                raise CodegenError(f"state {state.name!r}", "it is declared twice or has a reserved name", state.loc)
            self.labels[state.name] = identifier("state", index, state.name)
        self.cyclic = self._cyclic()

    def generate(self) -> None:
        """All locals and states; control arrives at the label ``accepted`` or ``rejected``, which the caller writes."""
        if not self.parser.states:
            self.refuse(f"parser {self.parser.name!r}", "it has no states")
        for local in self.parser.locals:
            self.statement(local)
        if self.cyclic:
            self.code("uint32_t turns = 0;")
        for state in self.parser.states:
            self.loc = state.loc
            self.code.label(self.labels[state.name])
            with self.code.block():
                if state.name in self.cyclic:
                    self.code(
                        f"if (P4_UNLIKELY(turns++ > length + P4_MAX_IDLE_STATES)) {self.parser_error('ParserTimeout')}"
                    )
                self.trace("parser_state", state.source_name or state.name)
                inner = Scope(self.scope)
                saved, self.scope = self.scope, inner
                for statement in state.body:
                    self.loc = statement.loc or state.loc
                    self.statement(statement)
                self.transition(state.transition, state)
                self.scope = saved

    def _cyclic(self) -> set[str]:
        """States from which a way leads back to them."""
        after: dict[str, set[str]] = {}
        for state in self.parser.states:
            after[state.name] = {case.state for case in state.transition.cases} - set(_FINAL)
        result = set()
        for name in after:
            seen: set[str] = set()
            todo = list(after[name])
            while todo:
                item = todo.pop()
                if item not in seen:
                    seen.add(item)
                    todo.extend(after.get(item, ()))
            if name in seen:
                result.add(name)
        return result

    # ------------------------------------------------------------------------------------------------------ the packet

    def need(self, size: str) -> None:
        """Fail unless this many bytes are left."""
        self.code(f"if (P4_UNLIKELY(length - pos < {size})) {self.parser_error('PacketTooShort')}")

    def packet_in(self, statement: ir.Extract | ir.Advance | ir.Verify) -> None:
        """extract, advance, verify."""
        match statement:
            case ir.Extract():
                self.extract(statement)
            case ir.Advance(bits=bits):
                count = self.name("bits")
                self.code(f"const uint32_t {count} = {self.as_bit32(bits, 'advance')};")
                self.code(f"if ({count} % 8 != 0) {self.parser_error('ParserInvalidArgument')}")
                self.need(f"{count} / 8")
                self.code(f"pos += {count} / 8;")
            case ir.Verify(cond=cond, error=error):
                test = self.typed(cond, ir.Bool(), "condition")
                with self.code.block(f"if (!{test.code})"):
                    value = self.typed(error, ir.Error(), "error")
                    self.code(f"sm->parser_error = {value.code};", "goto rejected;")

    def extract(self, statement: ir.Extract) -> None:
        """``extract``: nothing is consumed and nothing advances unless all of the header is there."""
        next_stack = self.advanced_stack(statement.header)
        target = self.target(statement.header)
        if not isinstance(target.type, ir.Header):
            self.refuse("extract", f"it needs a header, found {show(target.type)}")
        shape = layout(self.context, target.type, statement.loc)
        function = extract_function(self.context, target.type, statement.loc)
        if shape.varbit is None:
            if statement.varbit_bits is not None:
                self.refuse("extract", f"{show(target.type)} has no varbit to give a size for")
            self.need(f"{shape.fixed}u")
            self.code(f"{function}(&{target.code}, packet + pos);", f"pos += {shape.fixed}u;")
        else:
            bits = self.name("bits")
            size = "0u" if statement.varbit_bits is None else self.as_bit32(statement.varbit_bits, "size of a varbit")
            self.code(f"const uint32_t {bits} = {size};")
            self.code(f"if ({bits} % 8 != 0) {self.parser_error('ParserInvalidArgument')}")
            self.need(f"{shape.fixed}u + (uint64_t){bits} / 8")
            self.code(f"if ({bits} > {shape.varbit[1].max_width}u) {self.parser_error('HeaderTooShort')}")
            self.code(f"{function}(&{target.code}, packet + pos, {bits});", f"pos += {shape.fixed}u + {bits} / 8;")
        self.invalidate(target.others)
        if next_stack is not None:
            self.code(f"{next_stack}.next++;")

    def advanced_stack(self, expr: ir.Expression) -> str | None:
        """The stack whose ``next`` is extracted into."""
        while isinstance(expr, ir.Member | ir.Index | ir.StackLast):
            expr = expr.base
        return self.path(expr.base).code if isinstance(expr, ir.StackNext) else None

    def lookahead(self, type_: ir.Type) -> Value:
        """``lookahead``: the value ahead, in a variable; a header is valid."""
        result = self.name("ahead")
        flat = self.types.flatten(type_, result)
        if any(isinstance(t, ir.Varbit | ir.Error | ir.Enum) for _, t in flat):
            self.refuse("lookahead", f"{show(type_)} has no fixed size in a packet")
        slots, bits = packing.bit_slots([self.types.scalar_width(t) for _, t in flat])
        size = (bits + 7) // 8
        self.need(f"{size}u")
        self.code(f"{self.types.value_type(type_)} {result} = {self.zero_value(type_)};")
        for (target, _), slot in zip(flat, slots, strict=True):
            self.code(f"{target} = {packing.read(self.types, '(packet + pos)', slot, size)};")
        self._validate(result, type_)
        return Value(result, type_)

    def _validate(self, code: str, type_: ir.Type) -> None:
        if isinstance(type_, ir.Header):
            self.code(f"{code}.valid = true;")
        if isinstance(type_, ir.Struct):
            for f in self.types.composite(type_).fields:
                self._validate(f"{code}.{f.c_name}", f.type)

    # ----------------------------------------------------------------------------------------------------- transitions

    def go(self, state: str) -> str:
        """A jump to a state."""
        if state not in self.labels:
            self.refuse(f"state {state!r}", "the parser has none of this name")
        return f"goto {self.labels[state]};"

    def transition(self, select: ir.Select, state: ir.State) -> None:
        """``transition``; the first case that matches counts."""
        self.loc = select.loc or state.loc
        values = []
        for expr in select.exprs:
            value = self.value(expr)
            if not isinstance(value.type, ir.Bits | ir.Bool | ir.Error | ir.Enum):
                self.refuse("select", f"it is not possible over {show(value.type)}")
            values.append(Value(self.temporary(value), value.type))
        cases = list(select.cases)
        if self._native(values, cases):
            self._switch(values[0], cases)
            return
        for case in cases:
            test = self.case_test(case, values)
            if test is None:
                self.code(self.go(case.state))
                return
            self.code(f"if ({test}) {self.go(case.state)}")
        self.code(self.parser_error("NoMatch"))

    @staticmethod
    def _native(values: Sequence[Value], cases: Sequence[ir.SelectCase]) -> bool:
        """Whether a C switch does: one value of at most 64 bits, plain numbers, then possibly a default."""
        if len(values) != 1 or (isinstance(values[0].type, ir.Bits) and values[0].type.width > 64) or len(cases) < 3:
            return False
        kinds = [case.keys[0] if len(case.keys) == 1 else None for case in cases]
        first_any = next((i for i, key in enumerate(kinds) if isinstance(key, ir.AnyKey)), len(kinds))
        return all(isinstance(key, ir.ValueKey) for key in kinds[:first_any])

    def _switch(self, value: Value, cases: Sequence[ir.SelectCase]) -> None:
        seen: set[int] = set()
        with self.code.block(f"switch ({value.code})"):
            for case in cases:
                key = case.keys[0]
                if not isinstance(key, ir.ValueKey):
                    self.code(f"default: {self.go(case.state)}")
                    return
                label = self.typed(key.value, value.type, "select key").code
                if key.value.number not in seen:
                    seen.add(key.value.number)
                    self.code(f"case {label}: {self.go(case.state)}")
            self.code(f"default: {self.parser_error('NoMatch')}")

    def case_test(self, case: ir.SelectCase, values: Sequence[Value]) -> str | None:
        """C for whether a case matches; None when it always does."""
        if len(case.keys) == 1 and isinstance(case.keys[0], ir.ValueSetKey):
            return self.in_value_set(case.keys[0].value_set, values)
        if not case.keys and not values:
            return None
        if len(case.keys) == 1 and isinstance(case.keys[0], ir.AnyKey):
            return None
        if len(case.keys) != len(values):
            self.refuse("select", f"a case has {len(case.keys)} keys for {len(values)} values")
        tests = [self.key_test(key, value) for key, value in zip(case.keys, values, strict=True)]
        real = [test for test in tests if test is not None]
        return " && ".join(real) or None

    def key_test(self, key: ir.Keyset, value: Value) -> str | None:
        """C for whether one part of a keyset matches."""
        match key:
            case ir.AnyKey():
                return None
            case ir.ValueKey(value=constant):
                return self.arithmetic.equal(value, self.typed(constant, value.type, "select key")).code
            case ir.MaskKey(value=constant, mask=mask):
                if not isinstance(value.type, ir.Bits):
                    self.refuse("select", f"a mask is not possible over {show(value.type)}")
                ones = self.typed(mask, value.type, "mask")
                wanted = self.arithmetic.binary("&", self.typed(constant, value.type, "select key"), ones)
                return self.arithmetic.equal(self.arithmetic.binary("&", value, ones), wanted).code
            case ir.RangeKey(lo=lo, hi=hi):
                if not isinstance(value.type, ir.Bits):
                    self.refuse("select", f"a range is not possible over {show(value.type)}")
                above = self.arithmetic.compare(">=", value, self.typed(lo, value.type, "select key"))
                below = self.arithmetic.compare("<=", value, self.typed(hi, value.type, "select key"))
                return f"({above.code} && {below.code})"
        self.refuse("select", "a value set must be the only key of its case")

    def in_value_set(self, name: str, values: Sequence[Value]) -> str:
        """C for the membership of the selected values in a value set."""
        found = self.context.value_sets.get(name)
        if found is None:
            self.refuse(f"value set {name!r}", "it is not declared")
        if [f.type for f in found.fields] != [v.type for v in values]:
            self.refuse(f"value set {name!r}", "its fields are not those of the select")
        scalars = self.pack_scalars(values)
        slots, _, size = packing.byte_slots([w for w, _ in scalars])
        key = self.name("key")
        self.code(f"uint8_t {key}[{size or 1}] __attribute__((aligned(8)));")
        self.code.extend(packing.write(self.types, key, list(zip(slots, [c for _, c in scalars], strict=True))))
        return f"p4prog_value_set_contains(env, {self.context.value_set_index[name]}u, {key})"
