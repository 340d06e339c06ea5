"""C for statements.

Control flow is made of gotos where C's own does not fit: leaving labelled blocks, loops inside switches, exit. An action or
function that may execute ``exit`` returns true when it did, and its callers leave in turn, after copying its out
parameters back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from p4switch.codegen import packing
from p4switch.codegen.arithmetic import Value
from p4switch.codegen.code import Code
from p4switch.codegen.context import Context, Place, Scope
from p4switch.codegen.expressions import BIT32, BOOL
from p4switch.codegen.lvalues import LvalueGenerator
from p4switch.codegen.names import c_comment, c_string, identifier
from p4switch.codegen.types import is_wide, show
from p4switch.compiler import ir

PIPELINE = ("ingress", "egress")


@dataclass
class Flow:
    """How the C function at hand is left.

    ``leave`` is the statement for ``return`` without a value, None where there is none; ``exited`` the one for ``exit``.
    ``result`` is the type of a function's result and ``by_pointer`` whether it is returned through ``*result``.
    """

    leave: str | None = None
    exited: str | None = None
    result: ir.Type | None = None
    by_pointer: bool = False
    labels: dict[str, str] = field(default_factory=dict)
    loops: list[tuple[str, str | None]] = field(default_factory=list)


class StatementGenerator(LvalueGenerator):
    """Statements; parsers, deparsers and externs add theirs in subclasses."""

    def __init__(self, context: Context, block: str, code: Code, scope: Scope, flow: Flow):
        super().__init__(context, block, code, scope)
        self.flow = flow
        self.loop_depth = 0
        self._variables = 0

    # ------------------------------------------------------------------------------------------------------- structure

    def body(self, statements: Sequence[ir.Statement]) -> None:
        """Statements in a scope of their own; the caller writes the braces."""
        saved, self.scope = self.scope, Scope(self.scope)
        for statement in statements:
            self.loc = statement.loc or self.loc
            self.statement(statement)
        self.scope = saved

    def declare(self, name: str, type_: ir.Type, init: Value | None = None) -> str:
        """A C variable for one of the program's, in the current scope; zero without an initial value."""
        if name in self.scope.names:
            self.refuse(f"variable {name!r}", "it is declared twice")
        self._variables += 1
        c_name = identifier("v", self._variables, name)
        value = init.code if init is not None else self.zero_value(type_)
        self.code(f"{self.types.value_type(type_)} {c_name} = {value};")
        self.scope.names[name] = Place(c_name, type_)
        return c_name

    def statement(self, statement: ir.Statement) -> None:
        """Any statement."""
        match statement:
            case ir.Declare(name=name, type=type_, init=init):
                value = None
                if init is not None:
                    value = self.typed(init, type_, f"initial value of {name!r}")
                self.declare(name, type_, value)
            case ir.Assign():
                self.assign(statement)
            case ir.If(cond=cond, then=then, otherwise=otherwise):
                test = self.typed(cond, BOOL, "condition")
                with self.code.block(f"if ({test.code})"):
                    self.body(then)
                if otherwise:
                    with self.code.block("else"):
                        self.body(otherwise)
            case ir.Switch():
                self.switch(statement)
            case ir.Block():
                self.labelled(statement)
            case ir.LeaveBlock(label=label):
                if label not in self.flow.labels:
                    self.refuse(f"label {label!r}", "no block around has it")
                self.code(f"goto {self.flow.labels[label]};")
            case ir.Loop():
                self.loop(statement)
            case ir.Break() | ir.Continue():
                where = self.flow.loops[-1][isinstance(statement, ir.Continue)] if self.flow.loops else None
                if where is None:
                    self.refuse(type(statement).__name__.lower(), "there is no loop around")
                self.code(f"goto {where};")
            case ir.Return(value=result):
                self.return_(result)
            case ir.Exit():
                if self.flow.exited is None:
                    self.refuse("exit", f"it is not possible in {self.block}")
                self.code(self.flow.exited)
            case ir.SetValid(header=header, valid=valid):
                self.set_validity(self.target(header), valid)
            case ir.StackPush():
                self.push(statement)
            case ir.CallAction():
                self.call_action(statement)
            case ir.CallFunction():
                self.call_function(statement)
            case ir.ApplyTable():
                self.apply_table(statement)
            case ir.CallExtern():
                self.call_extern(statement)
            case ir.Extract() | ir.Advance() | ir.Verify():
                self.packet_in(statement)
            case ir.Emit():
                self.emit(statement)
            case _:
                self.refuse(type(statement).__name__, "it is not a statement of the IR")

    def call_extern(self, statement: ir.CallExtern) -> None:
        """A call of an extern."""
        raise NotImplementedError

    def packet_in(self, statement: ir.Extract | ir.Advance | ir.Verify) -> None:
        """An operation on the incoming packet."""
        self.refuse(type(statement).__name__.lower(), "it is possible in a parser only")

    def emit(self, statement: ir.Emit) -> None:
        """``emit``."""
        self.refuse("emit", "it is possible in the body of a deparser only")

    def lookahead(self, type_: ir.Type) -> Value:
        """``lookahead``."""
        self.refuse("lookahead", "it is possible in a parser only")

    def assign(self, statement: ir.Assign) -> None:
        """``left = right``."""
        if isinstance(statement.right, ir.Lookahead):
            value = self.lookahead(statement.right.type)
        else:
            value = self.value(statement.right)
        self.store(self.target(statement.left), value)

    def labelled(self, block: ir.Block) -> None:
        """A block: with a label at its end if it has a name, and copies that are executed however it is left."""
        end, label, saved = self.name("end"), block.label, dict(self.flow.labels)
        if label is not None:
            if label in saved:
                self.refuse(f"label {label!r}", "a block around has it already")
            self.flow.labels[label] = end
        outer, exited = self.flow.exited, self.name("exited")
        if block.back and outer is not None:
            self.flow.exited = f"goto {exited};"
        with self.code.block():
            self.body(block.body)
        self.flow.labels, self.flow.exited = saved, outer
        if label is not None:
            self.code.label(end)
        self.body(block.back)
        if block.back and outer is not None:
            past = self.name("past")
            self.code(f"goto {past};")
            self.code.label(exited)
            with self.code.block():
                self.body(block.back)
                self.code(outer)
            self.code.label(past)

    def switch(self, statement: ir.Switch) -> None:
        """A switch over a value; the first of equal labels counts."""
        subject = self.value(statement.subject)
        if not isinstance(subject.type, ir.Bits | ir.Bool | ir.Error | ir.Enum):
            self.refuse("switch", f"it is not possible over {show(subject.type)}")
        over = self.temporary(subject)
        native = not (isinstance(subject.type, ir.Bits) and subject.type.width > 64)
        seen: set[int] = set()
        default: ir.Case | None = None
        arms: list[tuple[list[str], ir.Case]] = []
        for case in statement.cases:
            labels = []
            for constant in case.values:
                code = self.typed(constant, subject.type, "case label").code
                if constant.number not in seen:
                    seen.add(constant.number)
                    labels.append(code)
            arms.append((labels, case))
            if case.is_default and default is None:
                default = case
        if native:
            with self.code.block(f"switch ({over})"):
                for labels, case in arms:
                    heads = [f"case {label}:" for label in labels] + (["default:"] if case is default else [])
                    if heads:
                        with self.code.block(" ".join(heads), "} break;"):
                            self.body(case.body)
            return
        end = self.name("end")
        for labels, case in arms:
            tests = [
                self.arithmetic.equal(Value(over, subject.type), Value(label, subject.type)).code for label in labels
            ]
            if tests:
                with self.code.block(f"if ({' || '.join(tests)})"):
                    if case is default:
                        self.code(f"goto {end}_default;")
                    else:
                        self.body(case.body)
                        self.code(f"goto {end};")
        if default is not None:
            self.code.label(f"{end}_default")
            with self.code.block():
                self.body(default.body)
        self.code.label(end)

    def loop(self, statement: ir.Loop) -> None:
        """``while``; all loops of a packet together are bounded, so that no packet stops the switch."""
        end, step = self.name("break"), self.name("continue")
        self.flow.loops.append((end, step))
        self.loop_depth += 1
        with self.code.block("for (;;)"):
            test = self.typed(statement.cond, BOOL, "condition")
            self.code(f"if (!{test.code}) break;")
            with self.code.block("if (P4_UNLIKELY(c->turns >= P4_MAX_TURNS))"):
                self.code('p4prog_log(env, "loop ended after %u turns", c->turns);', "break;")
            self.code("c->turns++;")
            with self.code.block():
                self.body(statement.body)
            self.code.label(step)
            self.flow.loops[-1] = (end, None)
            with self.code.block():
                self.body(statement.step)
            self.flow.loops.pop()
        self.loop_depth -= 1
        self.code.label(end)

    def return_(self, value: ir.Expression | None) -> None:
        """``return``."""
        if self.flow.result is None:
            if value is not None:
                self.refuse("return", "there is no result to give")
            if self.flow.leave is None:
                self.refuse("return", f"it is not possible in {self.block}")
            self.code(self.flow.leave)
            return
        if value is None:
            self.refuse("return", f"the function's result, of type {show(self.flow.result)}, is missing")
        result = self.typed(value, self.flow.result, "result")
        if self.flow.by_pointer:
            self.code(f"*result = {result.code};", "return false;")
        else:
            self.code(f"return {result.code};")

    def push(self, statement: ir.StackPush) -> None:
        """``push_front`` and ``pop_front`` (P4_16 section 8.18)."""
        target = self.target(statement.stack)
        type_ = self.stack_type(Value(target.code, target.type))
        if statement.count < 0:
            self.refuse("push_front" if not statement.pop else "pop_front", f"by {statement.count} elements")
        size, count = type_.size, min(statement.count, type_.size)
        stack = self.name("s")
        zero = self.zero_value(type_.element)
        with self.code.block():
            self.code(f"{self.types.value_type(type_)} *const {stack} = &{target.code};")
            if statement.pop:
                self.code(f"for (uint32_t i = 0; i < {size - count}u; i++) {stack}->e[i] = {stack}->e[i + {count}u];")
                self.code(f"for (uint32_t i = {size - count}u; i < {size}u; i++) {stack}->e[i] = {zero};")
                self.code(f"{stack}->next = {stack}->next > {count}u ? {stack}->next - {count}u : 0;")
            else:
                self.code(f"for (uint32_t i = {size}u; i-- > {count}u;) {stack}->e[i] = {stack}->e[i - {count}u];")
                self.code(f"for (uint32_t i = 0; i < {count}u; i++) {stack}->e[i] = {zero};")
                self.code(f"{stack}->next = {stack}->next > {size - count}u ? {size}u : {stack}->next + {count}u;")

    # ------------------------------------------------------------------------------------------------------------ calls

    def stage_args(self) -> str:
        """The arguments that every C function of this block takes first."""
        return "env, c, sm, rq, rest"

    def pass_arguments(
        self, what: str, params: Sequence[ir.Param], args: Sequence[ir.Expression]
    ) -> tuple[list[str], list[tuple[ir.Expression, str]]]:
        """C arguments, and (l-value, C variable) pairs to copy back after the call.

        Variables go by reference, other l-values through a copy: an element of a stack or a member of a union is more than
        its bytes.
        """
        if len(params) != len(args):
            self.refuse(what, f"it takes {len(params)} arguments, {len(args)} given")
        passed: list[str] = []
        back: list[tuple[ir.Expression, str]] = []
        for parameter, argument in zip(params, args, strict=True):
            name = f"argument {parameter.name!r} of {what}"
            if parameter.direction in ("in", "data"):
                passed.append(self.typed(argument, parameter.type, name).code)
                continue
            self.expect(argument.type, parameter.type, name)
            if isinstance(argument, ir.Var):
                passed.append(f"&{self.path(argument).code}")
                continue
            init = self.value(argument).code if parameter.direction == "inout" else self.zero_value(parameter.type)
            copy = self.name("arg")
            self.code(f"{self.types.value_type(parameter.type)} {copy} = {init};")
            passed.append(f"&{copy}")
            back.append((argument, copy))
        return passed, back

    def copy_back(self, back: Sequence[tuple[ir.Expression, str]]) -> None:
        """Copy out parameters to where they belong, in order."""
        for expr, copy in back:
            target = self.target(expr)
            type_ = expr.type
            self.store(target, Value(copy, type_))

    def invoke(
        self,
        call: str,
        exits: bool,
        back: Sequence[tuple[ir.Expression, str]],
        more: Sequence[ir.Assign] = (),
    ) -> None:
        """A call, its copies back, and leaving if it exited."""
        if not exits:
            self.code(f"{call};")
            self.copy_back(back)
            self.body(more)
            return
        if self.flow.exited is None:
            self.refuse("exit", f"it is not possible in {self.block}")
        flag = self.name("exited")
        self.code(f"bool {flag} = {call};")
        self.copy_back(back)
        self.body(more)
        self.code(f"if ({flag}) {self.flow.exited}")

    def call_action(self, statement: ir.CallAction) -> None:
        """A direct call of an action."""
        action = self.context.action(self.block, statement.action, statement.loc)
        args, back = self.pass_arguments(f"action {action.name!r}", action.params, statement.args)
        self.trace_action(action, action.params, args)
        self.invoke(self.action_call(action, args), self.context.may_exit(action), back, statement.back)

    def trace_action(self, action: ir.Action, params: Sequence[ir.Param], args: Sequence[str]) -> None:
        """A trace of a call whose arguments do not come from a table: those that go in and are scalars, by name."""
        traced = [
            (p.name, Value(arg, p.type))
            for p, arg in zip(params, args, strict=True)
            if p.direction in ("in", "data") and isinstance(p.type, ir.Bits | ir.Bool | ir.Enum | ir.Error)
        ]
        with self.code.block("if (P4_UNLIKELY(p4prog_tracing(env)))"):
            scalars = self.pack_scalars([value for _, value in traced])
            slots, offsets, size = packing.byte_slots([width for width, _ in scalars])
            self.code(f"uint8_t traced[{size or 1}] __attribute__((aligned(8)));")
            self.code.extend(
                packing.write(self.types, "traced", list(zip(slots, [c for _, c in scalars], strict=True)))
            )
            rows = [
                f"{{{c_string(name)}, {width}, {offset}}}"
                for (name, _), (width, _), offset in zip(traced, scalars, offsets, strict=True)
            ]
            if rows:
                self.code(f"static const p4prog_param params[] = {{{', '.join(rows)}}};")
            arguments = f"{'params' if rows else 'NULL'}, {len(rows)}u, traced"
            self.code(f"p4prog_trace_action(env, {c_string(action.name)}, {arguments});")

    def action_call(self, action: ir.Action, args: Sequence[str]) -> str:
        """The C call of an action."""
        return f"{self.context.c_name(action)}({', '.join([self.stage_args(), 'l', *args])})"

    def call_function(self, statement: ir.CallFunction) -> None:
        """A call of a function."""
        function = self.context.function(statement.function, statement.loc)
        exits = self.context.may_exit(function)
        args, back = self.pass_arguments(f"function {function.name!r}", function.params, statement.args)
        holder: str | None = None
        if function.result is not None:
            holder = self.name("result")
        if exits and function.result is not None:
            self.code(f"{self.types.value_type(function.result)} {holder} = {self.zero_value(function.result)};")
            args = [*args, f"&{holder}"]
        call = f"{self.context.c_name(function)}({', '.join([self.stage_args(), *args])})"
        if holder is not None and not exits:
            assert function.result is not None
            call = f"{self.types.value_type(function.result)} {holder} = {call}"
        if statement.result is not None:
            if function.result is None or holder is None:
                self.refuse(f"function {function.name!r}", "it has no result")
            back = [*back, (statement.result, holder)]
            self.expect(statement.result.type, function.result, f"result of {function.name!r}")
        self.invoke(call, exits, back)

    def apply_table(self, statement: ir.ApplyTable) -> None:
        """``table.apply()`` with its uses of hit and action_run."""
        table = self.context.table(statement.table, statement.loc)
        if table.control != self.block or not self.applies_tables:
            self.refuse(f"table {table.name!r}", f"it belongs to {table.control} and is applied only in its body")
        match_ = self.name("m")
        self.code(f"p4prog_match {match_};")
        exits = self.context.may_exit(table)
        call = f"{self.context.c_name(table)}({self.stage_args()}, l, &{match_})"
        back: list[tuple[ir.Expression, str]] = []
        if statement.hit is not None:
            self.expect(statement.hit.type, BOOL, "hit")
            back.append((statement.hit, f"{match_}.hit"))
        self.invoke(call, exits, back)
        if statement.cases:
            self.action_switch(statement, table, match_)

    applies_tables = False

    def action_switch(self, statement: ir.ApplyTable, table: ir.Table, match_: str) -> None:
        """``switch (t.apply().action_run)``."""
        valid = {ref.name for ref in table.actions}
        seen: set[str] = set()
        has_default = False
        with self.code.block(f"switch ({match_}.action)"):
            for case in statement.cases:
                heads = []
                for name in case.actions:
                    if name not in valid:
                        self.refuse(f"action_run of {table.name!r}", f"{name!r} is none of its actions")
                    if name not in seen:
                        seen.add(name)
                        heads.append(f"case {self.context.action_index[name]}: /* {c_comment(name)} */")
                if case.is_default and not has_default:
                    has_default = True
                    heads.append("default:")
                if heads:
                    with self.code.block(" ".join(heads), "} break;"):
                        self.body(case.body)

    # ------------------------------------------------------------------------------------------- scalars through bytes

    def pack_scalars(self, values: Sequence[Value]) -> list[tuple[int, str]]:
        """Widths and C of scalars as they appear outside the program."""
        packed = []
        for value in values:
            bits = self.bits_of(value)
            assert isinstance(bits.type, ir.Bits)
            packed.append((bits.type.width, self.addressable(bits)))
        return packed

    def addressable(self, value: Value) -> str:
        """Wide numbers in a variable: they are used word by word."""
        return self.temporary(value) if is_wide(value.type) else value.code

    def as_bit32(self, expr: ir.Expression, what: str) -> str:
        """A number as uint32_t, larger ones as the largest."""
        value = self.value(expr)
        if not isinstance(value.type, ir.Bits):
            self.refuse(what, f"expected a number, found {show(value.type)}")
        return self.arithmetic.amount(value) if value.type.width > 32 else self.arithmetic.resize(value, BIT32).code
