"""Whole random programs around the statements of :mod:`tests.p4switch.codegen.statements`.

Functions, actions, tables and a control within the control: their text, and the function from the input to the output
packet that they ought to be.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

from tests.p4switch.codegen.statements import (
    BOOL,
    STACK,
    TYPES,
    Callee,
    Exit,
    Frame,
    Generator,
    Parameter,
    Return,
    Scope,
    Statement,
    Table,
    Type,
    Variable,
    block,
    indent,
)

GLOBALS = [Variable(f"meta.g{n}", TYPES[n % len(TYPES)]) for n in range(len(TYPES) + 3)]
INPUTS = [v for v in GLOBALS if v.type.width]  # what a packet brings; the flags begin as false
OUT = sum(max(v.type.width, 1) for v in GLOBALS) + 2 * (1 + 16 + 8) + STACK * 9


@dataclass
class Program:
    """Text, and the meaning of ingress: from the values of INPUTS to the bits that come out."""

    text: str
    ingress: Statement
    locals: list[Statement] = field(default_factory=list)

    def expected(self, values: list[int]) -> bytes:
        """The packet that comes out."""
        store = Frame(None, **{v.name: 0 for v in GLOBALS})
        store.update({v.name: value for v, value in zip(INPUTS, values, strict=True)})
        store.update({"hdr.x": None, "hdr.y": None, "hdr.s": [None] * STACK})
        frame = Frame(store)
        try:
            for local in self.locals:
                local.run(frame)
            self.ingress.run(frame)
        except (Return, Exit):
            pass
        bits = [(store[v.name], max(v.type.width, 1)) for v in GLOBALS]
        for name in ("hdr.x", "hdr.y"):
            held = store[name]
            bits += [(int(held is not None), 1), (held["f"] if held else 0, 16), (held["g"] if held else 0, 8)]
        for held in store["hdr.s"]:
            bits += [(int(held is not None), 1), (held["u"] if held else 0, 8)]
        return pack(bits)


def pack(values: list[tuple[int, int]]) -> bytes:
    """(number, width) one after the other, zeros up to a whole byte."""
    whole = width = 0
    for number, size in values:
        whole, width = whole << size | number & ((1 << size) - 1), width + size
    return (whole << -width % 8).to_bytes((width + 7) // 8, "big")


def activate(frame: Frame, parameters: list[Parameter], values: list[int], body: Statement) -> tuple[Frame, int, bool]:
    """Run what is called: its activation, the value that it returns, whether it exits. It sees its parameters and the control's
    variables, not its caller's."""
    top = frame
    while top.up is not None and "control" not in top:
        top = top.up
    activation = Frame(top, **{p.name: v for p, v in zip(parameters, values, strict=True)})
    try:
        body.run(activation)
    except Return as back:
        return activation, back.value, False
    except Exit:
        return activation, 0, True
    return activation, 0, False


class ProgramGenerator(Generator):
    """Adds what holds statements."""

    def parameters(self) -> list[Parameter]:
        return [
            Parameter(self.rng.choice(("in", "inout", "inout", "out")), self.name("p"), self.type())
            for _ in range(self.rng.randint(1, 3))
        ]

    def start(self, parameters: list[Parameter], scope: Scope) -> Statement:
        """Writes all `out` parameters, so that none is read or copied out before."""
        made = []
        for parameter in parameters:
            if parameter.direction == "out":
                value = self.constant(parameter.type)

                def write(frame: Frame, name: str = parameter.name, run: Any = value.run) -> None:
                    frame[name] = run(frame)

                made.append(Statement([f"{parameter.name} = {value.text};"], write))
        return block(made)

    def callee(self, kind: str, scope: Scope) -> tuple[Callee, list[str]]:
        """A function, an action or a control, and its declaration. ``scope`` is what it sees beside its parameters."""
        parameters, name = self.parameters(), self.name(kind[0])
        result = self.type() if kind == "function" and self.rng.random() < 0.8 else None
        writable = [Variable(p.name, p.type) for p in parameters if p.direction != "in"]
        readable = [Variable(p.name, p.type) for p in parameters if p.direction == "in"]
        inner = scope.inner(kind=kind, result=result)
        inner.variables = [*scope.variables, *writable]
        inner.constants = readable
        if not inner.variables:
            inner.variables.append(Variable(f"{name}_v", Type(8)))
        declared = (
            []
            if inner.variables[-1].name != f"{name}_v"
            else [Statement([f"bit<8> {name}_v = 0;"], lambda frame: frame.__setitem__(f"{name}_v", 0))]
        )
        body = [self.start(parameters, inner), *declared, self.statements(inner, self.rng.randint(1, 5), 2)]
        if result is not None:
            last = self.expr(result, inner, 2)

            def back(frame: Frame) -> None:
                raise Return(last.run(frame))

            body.append(Statement([f"return {last.text};"], back))
        whole = block(body)

        def call(frame: Frame, values: list[int]) -> tuple[Frame, int, bool]:
            return activate(frame, parameters, values, whole)

        listed = ", ".join(f"{p.direction} {p.type} {p.name}" for p in parameters)
        if kind == "control":
            lines = [f"control {name}({listed}) {{", "    apply {", *indent(indent(whole.lines)), "    }", "}"]
            return Callee(f"{name}_i", kind, parameters, None, call), lines
        head = f"action {name}" if kind == "action" else f"{result or 'void'} {name}"
        return Callee(name, kind, parameters, result, call), [f"{head}({listed}) {{", *indent(whole.lines), "}"]

    def table(self, scope: Scope) -> tuple[Table, list[str]]:
        """With constant entries, the first that matches wins. Its actions have parameters without direction."""
        name = self.name("t")
        lines: list[str] = []
        actions: dict[str, tuple[list[Parameter], Statement]] = {}
        for _ in range(self.rng.randint(2, 3)):
            action, parameters = (
                self.name("a"),
                [Parameter("", self.name("d"), self.type()) for _ in range(self.rng.randint(0, 2))],
            )
            inner = scope.inner(kind="action")
            inner.constants = [Variable(p.name, p.type) for p in parameters]
            body = self.statements(inner, self.rng.randint(1, 3), 1)
            actions[action] = (parameters, body)
            listed = ", ".join(f"{p.type} {p.name}" for p in parameters)
            lines += [f"action {action}({listed}) {{", *indent(body.lines), "}"]
        keys = self.rng.sample(
            [v for v in scope.variables if v.type.width and not v.type.signed], self.rng.randint(1, 2)
        )
        kinds = [self.rng.choice(("exact", "ternary")) for _ in keys]

        def chosen() -> tuple[str, list[int]]:
            action = self.rng.choice(sorted(actions))
            return action, [self.number(p.type) for p in actions[action][0]]

        def invocation(action: str, values: list[int]) -> str:
            return f"{action}({', '.join(p.type.literal(v) for p, v in zip(actions[action][0], values, strict=True))})"

        entries: list[tuple[list[tuple[int, int]], str, list[int]]] = []
        seen = set()
        for _ in range(self.rng.randint(1, 6)):
            masks = [
                (1 << k.type.width) - 1 if kind == "exact" else self.rng.choice((0, 1, 3, 7))
                for k, kind in zip(keys, kinds, strict=True)
            ]
            matches = [(self.rng.randrange(4) & mask, mask) for mask in masks]
            if tuple(matches) not in seen:
                seen.add(tuple(matches))
                entries.append((matches, *chosen()))
        default = chosen()
        key_list = " ".join(f"{k.name}: {kind};" for k, kind in zip(keys, kinds, strict=True))
        lines += [
            f"table {name} {{",
            f"    key = {{ {key_list} }}",
            f"    actions = {{ {' '.join(a + ';' for a in actions)} }}",
        ]
        lines += [f"    const default_action = {invocation(*default)};", "    const entries = {"]
        for matches, action, values in entries:
            texts = [
                k.type.literal(value) if kind == "exact" else f"{k.type.literal(value)} &&& {k.type.literal(mask)}"
                for k, kind, (value, mask) in zip(keys, kinds, matches, strict=True)
            ]
            lines.append(f"        ({', '.join(texts)}): {invocation(action, values)};")
        lines += ["    }", "}"]
        reads = [self.read(k).run for k in keys]

        def apply(frame: Frame) -> tuple[bool, str, bool]:
            found = [read(frame) for read in reads]
            hit, (action, values) = False, default
            for matches, *then in entries:
                if all(value & mask == wanted for value, (wanted, mask) in zip(found, matches, strict=True)):
                    hit, (action, values) = True, (then[0], then[1])
                    break
            parameters, body = actions[action]
            _, _, exits = activate(frame, parameters, values, body)
            return hit, action, exits

        return Table(name, list(actions), apply), lines

    def program(self) -> Program:
        """Everything."""
        functions: list[Callee] = []
        declarations: list[str] = []
        for _ in range(self.rng.randint(1, 3)):
            made, lines = self.callee("function", Scope([], callees=list(functions)))
            functions.append(made)
            declarations += lines
        controls = []
        for _ in range(self.rng.randint(0, 2)):
            made, lines = self.callee("control", Scope([], callees=list(functions)))
            controls.append(made)
            declarations += lines
        types = [self.type() for _ in range(3)]
        own = [Variable(self.name("c"), type_) for type_ in types]
        starts = [self.constant(type_) for type_ in types]
        scope = Scope([*GLOBALS, *own], callees=list(functions), headers=True)
        inside = [f"{v.type} {v.name} = {value.text};" for v, value in zip(own, starts, strict=True)]
        inside += [f"{c.name[:-2]}() {c.name};" for c in controls]
        for _ in range(self.rng.randint(1, 3)):
            made, lines = self.callee("action", scope)
            scope.callees.append(made)
            inside += lines
        tables = []
        for _ in range(self.rng.randint(1, 2)):
            table, lines = self.table(scope)
            tables.append(table)
            inside += lines
        scope.callees += controls
        scope.tables = tables
        body = self.statements(scope, self.rng.randint(6, 14), 3)

        def begin(frame: Frame) -> None:
            frame["control"] = True
            frame.update({v.name: value.run(frame) for v, value in zip(own, starts, strict=True)})

        return Program(self.render(declarations, inside, body), body, [Statement([], begin)])

    def render(self, declarations: list[str], inside: list[str], body: Statement) -> str:
        """The program's text."""
        flags = [v for v in GLOBALS if v.type == BOOL]
        names = {v.name: v.name.removeprefix("meta.") for v in GLOBALS}
        width = sum(v.type.width for v in INPUTS)
        into = [f"    {v.type} {names[v.name]};" for v in INPUTS] + (
            [f"    bit<{-width % 8}> padding;"] if width % 8 else []
        )
        out = [f"    {v.type if v.type.width else 'bit<1>'} {names[v.name]};" for v in GLOBALS]
        out += [f"    bit<1> {h}_valid; bit<16> {h}_f; bit<8> {h}_g;" for h in "xy"]
        out += [f"    bit<1> s{n}_valid; bit<8> s{n}_u;" for n in range(STACK)]
        out += [f"    bit<{-OUT % 8}> padding;"] if OUT % 8 else []
        copy_in = [f"{v.name} = hdr.inputs.{names[v.name]};" for v in INPUTS] + [f"{v.name} = false;" for v in flags]
        copy_in += ["hdr.inputs.setInvalid();"]
        copy_out = ["hdr.result.setValid();", *([] if OUT % 8 == 0 else ["hdr.result.padding = 0;"])]
        for v in GLOBALS:
            copy_out.append(f"hdr.result.{names[v.name]} = {v.name if v.type.width else f'({v.name} ? 1w1 : 1w0)'};")
        shown = [(f"hdr.{h}", h, ("f", "g")) for h in "xy"] + [(f"hdr.s[{n}]", f"s{n}", ("u",)) for n in range(STACK)]
        for header, name, members in shown:
            copy_out.append(f"hdr.result.{name}_valid = ({header}.isValid() ? 1w1 : 1w0);")
            copy_out += [f"hdr.result.{name}_{m} = ({header}.isValid() ? {header}.{m} : 0);" for m in members]
            copy_out.append(f"{header}.setInvalid();")
        lines = ["#include <core.p4>", "#include <v1model.p4>"]
        lines += ["header inputs_t {", *into, "}", "header result_t {", *out, "}"]
        lines += ["header pair_t { bit<16> f; bit<8> g; }", "header unit_t { bit<8> u; }"]
        lines += ["struct headers_t { inputs_t inputs; pair_t x; pair_t y; unit_t[4] s; result_t result; }"]
        lines += ["struct metadata_t {", *(f"    {v.type} {names[v.name]};" for v in GLOBALS), "}"]
        lines += [
            "parser P(packet_in packet, out headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {"
        ]
        lines += ["    state start { packet.extract(hdr.inputs); transition accept; }", "}", *declarations]
        head = "(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {"
        lines += [f"control Work{head}", *indent(inside), "    apply {", *indent(indent(body.lines)), "    }", "}"]
        lines += [f"control MyIngress{head}", "    Work() work;", "    apply {"]
        lines += [*indent(indent(copy_in)), "        work.apply(hdr, meta, sm);", "    }", "}"]
        lines += [f"control Show{head}", "    apply {", *indent(indent(copy_out)), "    }", "}"]
        lines += ["#define EGRESS Show", "#include <skeleton.p4>"]
        return "\n".join(lines) + "\n"


def generate(seed: int) -> Program:
    """The program of a seed."""
    return ProgramGenerator(random.Random(seed)).program()


def packets(seed: int, count: int) -> list[tuple[list[int], bytes]]:
    """Values of INPUTS, mostly small so that they meet each other and the tables' keys, and packed."""
    rng = random.Random(~seed)
    made = []
    for _ in range(count):
        values = [
            v.type.wrap(rng.randrange(8) if rng.random() < 0.6 else rng.getrandbits(v.type.width)) for v in INPUTS
        ]
        made.append((values, pack([(value, v.type.width) for v, value in zip(INPUTS, values, strict=True)])))
    return made
