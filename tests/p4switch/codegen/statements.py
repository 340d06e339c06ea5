"""Random P4 programs beside what they mean: each construct is made as text and as a Python function at the same time.

The functions are the oracle. They were written from the P4_16 specification: order of evaluation, copy-in and copy-
out of arguments, `exit` and `return`, `switch`, loops, headers and stacks, tables with constant entries. Nothing here
is undefined by it: variables are written before they are read, fields are read from valid headers only, indices are
in range.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

STACK = 4  # elements


class Frame(dict[str, Any]):
    """Variables of an activation; what it does not have is looked for further up."""

    def __init__(self, up: Frame | None = None, **values: Any):
        super().__init__(values)
        self.up = up

    def home(self, name: str) -> Frame:
        """The frame that has the variable."""
        frame = self
        while name not in frame:
            assert frame.up is not None, name
            frame = frame.up
        return frame


class Leave(Exception):
    """How statements are left early."""


class Return(Leave):
    """``value`` is that of a function."""

    def __init__(self, value: int = 0):
        self.value = value


class Exit(Leave):
    """Of the whole control."""


class Break(Leave):
    """Of the innermost loop."""


class Continue(Leave):
    """The next turn of the innermost loop."""


@dataclass(frozen=True)
class Type:
    """``bit<width>`` or ``int<width>``; no width: ``bool``."""

    width: int = 0
    signed: bool = False

    def __str__(self) -> str:
        return f"{'int' if self.signed else 'bit'}<{self.width}>" if self.width else "bool"

    def wrap(self, number: int) -> int:
        """The value of this type that is equal modulo 2^width."""
        if not self.width:
            return number & 1
        number &= (1 << self.width) - 1
        return number - (1 << self.width) if self.signed and number >> (self.width - 1) else number

    def literal(self, number: int) -> str:
        """A constant in P4."""
        if not self.width:
            return "true" if number else "false"
        if number < 0:
            return (
                f"(-{self.width}s{-number - 1} - {self.width}s1)"  # the smallest one's opposite is no value of the type
            )
        return f"{self.width}{'s' if self.signed else 'w'}{number}"


BOOL, INDEX = Type(), Type(2)
TYPES = (Type(8), Type(16), Type(32), Type(9), Type(48), Type(70), Type(13, True), Type(32, True), BOOL)
Run = Callable[[Frame], Any]


@dataclass(frozen=True)
class Expr:
    """Text and meaning."""

    type: Type
    text: str
    run: Run


@dataclass(frozen=True)
class Statement:
    """Lines of P4, and what they do."""

    lines: list[str]
    run: Run


@dataclass(frozen=True)
class Variable:
    """Something to read and write."""

    name: str
    type: Type


@dataclass(frozen=True)
class Parameter:
    direction: str
    name: str
    type: Type


@dataclass(frozen=True)
class Callee:
    """A function, an action or a control. ``call(frame, values)`` runs it and returns its activation, the function's
    value, and whether it exits the control."""

    name: str
    kind: str
    parameters: list[Parameter]
    result: Type | None
    call: Callable[[Frame, list[int]], tuple[Frame, int, bool]]


@dataclass(frozen=True)
class Table:
    name: str
    actions: list[str]
    apply: Callable[[Frame], tuple[bool, str, bool]]  # hit, action run, whether it exits


@dataclass
class Scope:
    """What statements may use where they stand."""

    variables: list[Variable]
    constants: list[Variable] = field(default_factory=list)  # that may only be read
    callees: list[Callee] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    headers: bool = False  # hdr can be named
    kind: str = "control"
    result: Type | None = None
    in_loop: bool = False
    loops: int = 0

    def inner(self, **changes: Any) -> Scope:
        """For a block: its declarations are its own."""
        return Scope(
            **{**self.__dict__, "variables": list(self.variables), "constants": list(self.constants), **changes}
        )


def indent(lines: list[str]) -> list[str]:
    return ["    " + line for line in lines]


def block(statements: list[Statement]) -> Statement:
    def run(frame: Frame) -> None:
        for statement in statements:
            statement.run(frame)

    return Statement([line for s in statements for line in s.lines], run)


class Generator:
    """``rng`` decides everything."""

    def __init__(self, rng: random.Random):
        self.rng = rng
        self.types = [*rng.sample([t for t in TYPES if t.width], 3), BOOL]  # few, so that things fit each other often
        self._names = 0

    def name(self, stem: str) -> str:
        self._names += 1
        return f"{stem}{self._names}"

    def type(self) -> Type:
        return self.rng.choice(self.types)

    def number(self, type_: Type) -> int:
        edges = [0, 1, -1, 1 << max(type_.width - 1, 0), 2, 3]
        return type_.wrap(
            self.rng.choice(edges) if self.rng.random() < 0.6 else self.rng.getrandbits(max(type_.width, 1))
        )

    # ------------------------------------------------------------------------------------------------ expressions

    def constant(self, type_: Type) -> Expr:
        number = self.number(type_)
        return Expr(type_, type_.literal(number), lambda frame: number)

    def read(self, variable: Variable) -> Expr:
        return Expr(variable.type, variable.name, lambda frame: frame.home(variable.name)[variable.name])

    def leaf(self, type_: Type, scope: Scope) -> Expr:
        fitting = [v for v in scope.variables + scope.constants if v.type == type_]
        if fitting and self.rng.random() < 0.7:
            return self.read(self.rng.choice(fitting))
        numbers = [v for v in scope.variables + scope.constants if v.type.width]
        if type_.width and numbers and self.rng.random() < 0.6:
            return self.cast(type_, self.read(self.rng.choice(numbers)))
        return self.constant(type_)

    def cast(self, type_: Type, arg: Expr) -> Expr:
        """Between numbers: width and sign change one at a time."""
        if arg.type == type_:
            return arg
        if arg.type.width != type_.width and arg.type.signed != type_.signed:
            arg = self.cast(Type(type_.width, arg.type.signed), arg)
        return Expr(type_, f"(({type_}) {arg.text})", lambda frame: type_.wrap(arg.run(frame)))

    def expr(self, type_: Type, scope: Scope, depth: int) -> Expr:
        if depth <= 0:
            return self.leaf(type_, scope)
        if self.rng.random() < 0.25:
            called = self.function_call(type_, scope, depth - 1)
            if called is not None:
                return called
        if scope.headers and self.rng.random() < 0.15:
            return self.header_field(type_, scope)
        return self.boolean(scope, depth) if type_ == BOOL else self.numeric(type_, scope, depth)

    def numeric(self, type_: Type, scope: Scope, depth: int) -> Expr:
        kind = self.rng.choice(("binary", "binary", "binary", "not", "mux", "slice", "concat", "shift", "leaf"))
        if kind == "binary":
            left, right = self.expr(type_, scope, depth - 1), self.expr(type_, scope, depth - 1)
            op = self.rng.choice("+-*&|^")

            def binary(frame: Frame) -> int:
                a = left.run(frame)
                b = right.run(frame)
                return type_.wrap({"+": a + b, "-": a - b, "*": a * b, "&": a & b, "|": a | b, "^": a ^ b}[op])

            return Expr(type_, f"({left.text} {op} {right.text})", binary)
        if kind == "not":
            arg = self.expr(type_, scope, depth - 1)
            return Expr(type_, f"(~{arg.text})", lambda frame: type_.wrap(~arg.run(frame)))
        if kind == "mux":
            cond = self.expr(BOOL, scope, depth - 1)
            then, other = self.expr(type_, scope, depth - 1), self.expr(type_, scope, depth - 1)
            text = f"({cond.text} ? {then.text} : {other.text})"
            return Expr(type_, text, lambda frame: (then if cond.run(frame) else other).run(frame))
        if kind == "slice" and not type_.signed:
            low = self.rng.randint(0, 9)
            base = self.expr(Type(type_.width + low + self.rng.randint(0, 5)), scope, depth - 1)
            high = low + type_.width - 1
            return Expr(type_, f"({base.text})[{high}:{low}]", lambda frame: type_.wrap(base.run(frame) >> low))
        if kind == "concat" and not type_.signed and type_.width > 1:
            width = self.rng.randint(1, type_.width - 1)
            high_part, low_part = (
                self.expr(Type(type_.width - width), scope, depth - 1),
                self.expr(Type(width), scope, depth - 1),
            )

            def concat(frame: Frame) -> int:
                upper = high_part.run(frame)
                return upper << width | low_part.run(frame)

            return Expr(type_, f"({high_part.text} ++ {low_part.text})", concat)
        if kind == "shift":
            arg, by = self.expr(type_, scope, depth - 1), self.expr(Type(8), scope, depth - 1)
            left_shift = self.rng.random() < 0.5

            def shift(frame: Frame) -> int:
                value = arg.run(frame)
                amount = by.run(frame)
                return type_.wrap(value << amount if left_shift else value >> amount)

            return Expr(type_, f"({arg.text} {'<<' if left_shift else '>>'} {by.text})", shift)
        return self.leaf(type_, scope)

    def boolean(self, scope: Scope, depth: int) -> Expr:
        kind = self.rng.choice(("compare", "compare", "and", "or", "not"))
        if kind == "not":
            arg = self.expr(BOOL, scope, depth - 1)
            return Expr(BOOL, f"(!{arg.text})", lambda frame: 1 - arg.run(frame))
        if kind == "compare":
            type_ = self.rng.choice([t for t in self.types if t.width])
            left, right = self.expr(type_, scope, depth - 1), self.expr(type_, scope, depth - 1)
            op = self.rng.choice(("==", "!=", "<", "<=", ">", ">="))

            def compare(frame: Frame) -> int:
                a = left.run(frame)
                b = right.run(frame)
                return int({"==": a == b, "!=": a != b, "<": a < b, "<=": a <= b, ">": a > b, ">=": a >= b}[op])

            return Expr(BOOL, f"({left.text} {op} {right.text})", compare)
        left, right = self.expr(BOOL, scope, depth - 1), self.expr(BOOL, scope, depth - 1)
        if kind == "and":
            run: Run = lambda frame: right.run(frame) if left.run(frame) else 0  # noqa: E731
        else:
            run = lambda frame: 1 if left.run(frame) else right.run(frame)  # noqa: E731
        return Expr(BOOL, f"({left.text} {'&&' if kind == 'and' else '||'} {right.text})", run)

    def header_field(self, type_: Type, scope: Scope) -> Expr:
        """A field if its header is valid, else something that does without."""
        other = self.leaf(type_, scope)
        if self.rng.random() < 0.5:
            name, member, own = *self.rng.choice((("hdr.x", "f"), ("hdr.y", "f"), ("hdr.x", "g"))), Type(16)
            if member == "g":
                own = Type(8)
            whole, valid = self.header(name), f"{name}.isValid()"

            def value(frame: Frame) -> int | None:
                held = whole(frame)
                return None if held is None else held[member]
        else:
            text, index = self.index(scope)
            name, member, own = f"hdr.s[{text}]", "u", Type(8)
            valid = f"{name}.isValid()"

            def value(frame: Frame) -> int | None:
                held = frame.home("hdr.s")["hdr.s"][index(frame)]
                return None if held is None else held["u"]

        if type_ == BOOL:
            return Expr(BOOL, valid, lambda frame: int(value(frame) is not None))
        read = self.cast(type_, Expr(own, f"{name}.{member}", value))

        def run(frame: Frame) -> int:
            return other.run(frame) if value(frame) is None else read.run(frame)

        return Expr(type_, f"({valid} ? {read.text} : {other.text})", run)

    @staticmethod
    def header(name: str) -> Run:
        return lambda frame: frame.home(name)[name]

    def index(self, scope: Scope) -> tuple[str, Callable[[Frame], int]]:
        """An index of the stack, in range; without effects."""
        numbers = [v for v in scope.variables + scope.constants if v.type.width > 2 and not v.type.signed]
        if not numbers or self.rng.random() < 0.3:
            number = self.rng.randrange(STACK)
            return str(number), lambda frame: number
        variable = self.rng.choice(numbers)
        read = self.read(variable)
        return f"{variable.name}[1:0]", lambda frame: read.run(frame) & 3

    # ------------------------------------------------------------------------------------------------------ calls

    def arguments(self, callee: Callee, scope: Scope, depth: int) -> tuple[str, Callable[[Frame], int]] | None:
        """Text of the arguments, and the call: the value of a function. None when a parameter finds nothing to write to."""
        texts: list[str] = []
        values: list[Run] = []
        targets: list[tuple[str, str] | None] = []
        for parameter in callee.parameters:
            if parameter.direction == "in":
                value = self.expr(parameter.type, scope, depth)
                texts.append(value.text)
                values.append(value.run)
                targets.append(None)
                continue
            fitting = [v for v in scope.variables if v.type == parameter.type]
            if not fitting:
                return None
            variable = self.rng.choice(fitting)
            texts.append(variable.name)
            values.append(self.read(variable).run if parameter.direction == "inout" else lambda frame: 0)
            targets.append((variable.name, parameter.name))

        def call(frame: Frame) -> int:
            given = [value(frame) for value in values]  # from left to right
            activation, result, exits = callee.call(frame, given)
            for target in targets:
                if target is not None:
                    frame.home(target[0])[target[0]] = activation[target[1]]
            if exits:
                raise Exit
            return result

        return ", ".join(texts), call

    def function_call(self, type_: Type, scope: Scope, depth: int) -> Expr | None:
        functions = [c for c in scope.callees if c.kind == "function" and c.result == type_]
        if not functions:
            return None
        callee = self.rng.choice(functions)
        made = self.arguments(callee, scope, min(depth, 2))
        return None if made is None else Expr(type_, f"{callee.name}({made[0]})", made[1])

    def call(self, scope: Scope) -> Statement | None:
        callees = [c for c in scope.callees if c.kind in ("function", "action", "control")]
        if not callees:
            return None
        callee = self.rng.choice(callees)
        made = self.arguments(callee, scope, 2)
        if made is None:
            return None
        text, run = made
        verb = f"{callee.name}.apply" if callee.kind == "control" else callee.name
        return Statement([f"{verb}({text});"], run)

    # ------------------------------------------------------------------------------------------------- statements

    def statements(self, scope: Scope, count: int, depth: int) -> Statement:
        made = []
        for _ in range(count):
            statement = self.statement(scope, depth)
            made.append(statement)
            if statement.lines[-1] in ("return;", "exit;", "break;", "continue;") or statement.lines[-1].startswith(
                "return "
            ):
                break  # what follows would never run
        return block(made)

    def statement(self, scope: Scope, depth: int) -> Statement:
        kinds = ["assign"] * 6 + ["slice", "declare", "call", "call", "compound"]
        if depth > 0:
            kinds += ["if"] * 3 + ["switch"]
            kinds += ["loop", "range"] if scope.loops < 2 else []
            kinds += ["table"] * 3 if scope.tables else []
        if scope.headers:
            kinds += ["header"] * 3
        if scope.in_loop:
            kinds += ["jump"] * 2
        if self.rng.random() < 0.06:
            kinds = ["leave"]
        kind = self.rng.choice(kinds)
        made: Statement | None = getattr(self, f"make_{kind}")(scope, depth)
        return made if made is not None else self.make_assign(scope, depth)

    def make_assign(self, scope: Scope, depth: int) -> Statement:
        variable = self.rng.choice(scope.variables)
        value = self.expr(variable.type, scope, self.rng.randint(0, 3))

        def run(frame: Frame) -> None:
            result = value.run(frame)
            frame.home(variable.name)[variable.name] = result

        return Statement([f"{variable.name} = {value.text};"], run)

    def make_compound(self, scope: Scope, depth: int) -> Statement | None:
        """``v += e`` is ``v = v + e``."""
        numbers = [v for v in scope.variables if v.type.width]
        if not numbers:
            return None
        variable = self.rng.choice(numbers)
        value = self.leaf(variable.type, scope)
        op = self.rng.choice("+-*&|^")

        def run(frame: Frame) -> None:
            home = frame.home(variable.name)
            a, b = home[variable.name], value.run(frame)
            result = {"+": a + b, "-": a - b, "*": a * b, "&": a & b, "|": a | b, "^": a ^ b}[op]
            home[variable.name] = variable.type.wrap(result)

        return Statement([f"{variable.name} {op}= {value.text};"], run)

    def make_slice(self, scope: Scope, depth: int) -> Statement | None:
        fitting = [v for v in scope.variables if v.type.width > 1 and not v.type.signed]
        if not fitting:
            return None
        variable = self.rng.choice(fitting)
        low = self.rng.randrange(variable.type.width)
        high = self.rng.randint(low, variable.type.width - 1)
        value = self.expr(Type(high - low + 1), scope, self.rng.randint(0, 2))
        mask = (1 << (high - low + 1)) - 1 << low

        def run(frame: Frame) -> None:
            part = value.run(frame)
            home = frame.home(variable.name)
            home[variable.name] = home[variable.name] & ~mask | part << low

        return Statement([f"{variable.name}[{high}:{low}] = {value.text};"], run)

    def make_declare(self, scope: Scope, depth: int) -> Statement:
        type_, name = self.type(), self.name("v")
        value = self.expr(type_, scope, 2)
        scope.variables.append(Variable(name, type_))

        def run(frame: Frame) -> None:
            frame[name] = value.run(frame)

        return Statement([f"{type_} {name} = {value.text};"], run)

    def make_call(self, scope: Scope, depth: int) -> Statement | None:
        return self.call(scope)

    def body(self, scope: Scope, depth: int, most: int = 4, **changes: Any) -> Statement:
        return self.statements(scope.inner(**changes), self.rng.randint(1, most), depth - 1)

    def make_if(self, scope: Scope, depth: int) -> Statement:
        cond = self.expr(BOOL, scope, self.rng.randint(1, 3))
        then = self.body(scope, depth)
        other = self.body(scope, depth) if self.rng.random() < 0.5 else Statement([], lambda frame: None)

        def run(frame: Frame) -> None:
            (then if cond.run(frame) else other).run(frame)

        lines = [f"if ({cond.text}) {{", *indent(then.lines), "}"]
        if other.lines:
            lines[-1] = "} else {"
            lines += [*indent(other.lines), "}"]
        return Statement(lines, run)

    def make_switch(self, scope: Scope, depth: int) -> Statement:
        type_ = self.rng.choice((Type(8), Type(16), Type(32)))
        key = self.expr(type_, scope, 2)
        mask = self.rng.choice((1, 3, 7))
        labels = sorted({self.rng.randint(0, mask) for _ in range(4)})
        arms: list[tuple[int | None, Statement | None]] = []
        lines = [f"switch ({key.text} & {type_.literal(mask)}) {{"]
        for number, label in enumerate([*labels, None]):
            if label is None and self.rng.random() < 0.4:
                break
            falls = number + 1 < len(labels) and self.rng.random() < 0.25
            arm = None if falls else self.body(scope, depth, 2)
            arms.append((label, arm))
            head = "default" if label is None else str(label)
            lines += [f"    {head}:"] if arm is None else [f"    {head}: {{", *indent(indent(arm.lines)), "    }"]
        lines.append("}")

        def run(frame: Frame) -> None:
            value = key.run(frame) & mask
            chosen = next((n for n, (label, _) in enumerate(arms) if label in (value, None)), None)
            if chosen is not None:
                arm = next(arm for _, arm in arms[chosen:] if arm is not None)
                arm.run(frame)

        return Statement(lines, run)

    def looped(self, body: Statement, frame: Frame) -> bool:
        """One turn; False after a break."""
        try:
            body.run(frame)
        except Continue:
            pass
        except Break:
            return False
        return True

    def make_loop(self, scope: Scope, depth: int) -> Statement:
        """``for (init; condition; update)``; the counter may only be read, so that it ends."""
        name, turns, step = self.name("i"), self.rng.randint(0, 4), self.rng.randint(1, 2)
        type_ = self.rng.choice((Type(8), Type(16), Type(32)))
        constants = [*scope.constants, Variable(name, type_)]
        body = self.body(scope, depth, constants=constants, in_loop=True, loops=scope.loops + 1)

        def run(frame: Frame) -> None:
            frame[name] = 0
            while frame[name] < turns:
                if not self.looped(body, frame):
                    break
                frame[name] += step

        head = f"for ({type_} {name} = 0; {name} < {turns}; {name} = {name} + {step}) {{"
        return Statement([head, *indent(body.lines), "}"], run)

    def make_range(self, scope: Scope, depth: int) -> Statement:
        """``for (type name in low..high)``."""
        name, low = self.name("i"), self.rng.randint(0, 3)
        high = low + self.rng.randint(-1, 3)
        type_ = self.rng.choice((Type(8), Type(16), Type(32)))
        high = max(high, 0)
        constants = [*scope.constants, Variable(name, type_)]
        body = self.body(scope, depth, constants=constants, in_loop=True, loops=scope.loops + 1)

        def run(frame: Frame) -> None:
            for turn in range(low, high + 1):
                frame[name] = turn
                if not self.looped(body, frame):
                    break

        head = f"for ({type_} {name} in {type_.literal(low)}..{type_.literal(high)}) {{"
        return Statement([head, *indent(body.lines), "}"], run)

    def make_jump(self, scope: Scope, depth: int) -> Statement:
        """``break`` or ``continue``, under a condition."""
        cond = self.expr(BOOL, scope, 1)
        leave = self.rng.choice((Break, Continue))

        def run(frame: Frame) -> None:
            if cond.run(frame):
                raise leave

        return Statement([f"if ({cond.text}) {{ {leave.__name__.lower()}; }}"], run)

    def make_leave(self, scope: Scope, depth: int) -> Statement:
        """``return`` or ``exit``, under a condition."""
        cond = self.expr(BOOL, scope, 1)
        if scope.result is not None:
            value = self.expr(scope.result, scope, 1)

            def back(frame: Frame) -> None:
                if cond.run(frame):
                    raise Return(value.run(frame))

            return Statement([f"if ({cond.text}) {{ return {value.text}; }}"], back)
        leave = Return if scope.kind == "function" or self.rng.random() < 0.6 else Exit

        def run(frame: Frame) -> None:
            if cond.run(frame):
                raise leave

        return Statement([f"if ({cond.text}) {{ {leave.__name__.lower()}; }}"], run)

    def make_table(self, scope: Scope, depth: int) -> Statement:
        table = self.rng.choice(scope.tables)

        def apply(frame: Frame) -> tuple[bool, str]:
            hit, action, exits = table.apply(frame)
            if exits:
                raise Exit
            return hit, action

        kind = self.rng.choice(("plain", "hit", "miss", "run"))
        if kind == "plain":
            return Statement([f"{table.name}.apply();"], apply)
        if kind == "run":
            chosen = self.rng.sample(table.actions, self.rng.randint(1, len(table.actions)))
            arms = {name: self.body(scope, depth, 2) for name in chosen}
            default = self.body(scope, depth, 2)
            lines = [f"switch ({table.name}.apply().action_run) {{"]
            for name, arm in [*arms.items(), ("default", default)]:
                lines += [f"    {name}: {{", *indent(indent(arm.lines)), "    }"]
            return Statement([*lines, "}"], lambda frame: arms.get(apply(frame)[1], default).run(frame))
        then, other = self.body(scope, depth, 2), self.body(scope, depth, 2)
        lines = [f"if ({table.name}.apply().{kind}) {{", *indent(then.lines), "} else {", *indent(other.lines), "}"]
        return Statement(lines, lambda frame: (then if apply(frame)[0] == (kind == "hit") else other).run(frame))

    def make_header(self, scope: Scope, depth: int) -> Statement:
        """Headers made valid or invalid, copied and written; elements of the stack, pushed and popped."""
        kind = self.rng.choice(
            ("fill", "invalid", "copy", "write", "element", "element", "push", "pop", "mixed", "drop element")
        )
        name, other = self.rng.sample(("hdr.x", "hdr.y"), 2)

        def put(where: str, value: Any, frame: Frame) -> None:
            frame.home(where)[where] = value

        if kind == "fill":
            f, g = self.expr(Type(16), scope, 1), self.expr(Type(8), scope, 1)

            def fill(frame: Frame) -> None:
                first = f.run(frame)  # evaluated with the header as it was before
                put(name, {"f": first, "g": g.run(frame)}, frame)

            lines = [f"{name} = {{ {f.text}, {g.text} }};"]
            return Statement(lines, fill)
        if kind == "invalid":
            return Statement([f"{name}.setInvalid();"], lambda frame: put(name, None, frame))
        if kind == "copy":

            def copy(frame: Frame) -> None:
                held = frame.home(other)[other]
                put(name, None if held is None else dict(held), frame)

            return Statement([f"{name} = {other};"], copy)
        if kind == "write":
            value = self.expr(Type(8), scope, 1)

            def write(frame: Frame) -> None:
                result = value.run(frame)
                held = frame.home(name)[name]
                if held is not None:
                    held["g"] = result

            return Statement([f"{name}.g = {value.text};"], write)
        if kind in ("push", "pop"):
            count = self.rng.randint(1, STACK)

            def shift(frame: Frame) -> None:
                stack = frame.home("hdr.s")["hdr.s"]
                empty: list[Any] = [None] * count
                stack[:] = empty + stack[:-count] if kind == "push" else stack[count:] + empty

            return Statement([f"hdr.s.{kind}_front({count});"], shift)
        text, index = self.index(scope)
        if kind == "drop element":
            return Statement(
                [f"hdr.s[{text}].setInvalid();"],
                lambda frame: frame.home("hdr.s")["hdr.s"].__setitem__(index(frame), None),
            )
        if kind == "mixed":
            from_text, from_index = self.index(scope)

            def move(frame: Frame) -> None:
                stack = frame.home("hdr.s")["hdr.s"]
                held = stack[from_index(frame)]
                stack[index(frame)] = None if held is None else dict(held)

            return Statement([f"hdr.s[{text}] = hdr.s[{from_text}];"], move)
        value = self.leaf(Type(8), scope)

        def set_element(frame: Frame) -> None:
            frame.home("hdr.s")["hdr.s"][index(frame)] = {"u": value.run(frame)}

        return Statement([f"hdr.s[{text}].setValid();", f"hdr.s[{text}].u = {value.text};"], set_element)
