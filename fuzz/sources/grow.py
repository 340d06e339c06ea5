"""Grows whole P4 programs at random that are valid by construction: a refusal of one is a finding as much as a traceback.

Names and widths are chosen so that every expression type-checks: an expression is asked for by its type and built from the values
in scope. What a program contains (tables, registers, clones, loops, functions, ...) is decided by chance.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

_WIDTHS = (1, 3, 7, 8, 9, 13, 16, 24, 31, 32, 33, 48, 63, 64, 65, 100, 128, 129, 200)
_ARITHMETIC = ("+", "-", "*", "&", "|", "^", "|+|", "|-|")
_COMPARISONS = ("==", "!=", "<", "<=", ">", ">=")
_MATCH = ("exact", "exact", "lpm", "ternary", "range", "optional")


@dataclass(frozen=True)
class Type:
    """``bit<width>`` or ``int<width>``; width 0 is bool."""

    width: int
    signed: bool = False

    def __str__(self) -> str:
        return "bool" if self.width == 0 else f"{'int' if self.signed else 'bit'}<{self.width}>"


BOOL = Type(0)


@dataclass
class Scope:
    """What can be read and written here."""

    values: list[tuple[str, Type]] = field(default_factory=list)
    writable: list[tuple[str, Type]] = field(default_factory=list)

    def add(self, name: str, type_: Type, *, writable: bool = True) -> None:
        """Declare a value."""
        self.values.append((name, type_))
        if writable:
            self.writable.append((name, type_))

    def copy(self) -> Scope:
        """An inner scope."""
        return Scope(list(self.values), list(self.writable))


class Program:
    """One program. ``text`` is its source."""

    def __init__(self, rng: random.Random):
        self.rng = rng
        self.names = 0
        self.functions: list[tuple[str, Type, list[Type]]] = []
        self.headers = {f"h{n}_t": self._header_fields() for n in range(rng.randint(1, 3))}
        self.members = [(f"m{n}", rng.choice(list(self.headers))) for n in range(rng.randint(1, 4))]
        self.stack = (f"stack[{rng.randint(1, 4)}]", rng.choice(list(self.headers))) if rng.random() < 0.6 else None
        self.metadata = [(f"f{n}", self.type()) for n in range(rng.randint(2, 6))] + [("flag", BOOL)]
        self.text = "\n".join(self._parts())

    # ------------------------------------------------------------------------------------------------ names and types

    def name(self, prefix: str) -> str:
        """A name that is not in use."""
        self.names += 1
        return f"{prefix}{self.names}"

    def type(self) -> Type:
        """A number's type."""
        return Type(self.rng.choice(_WIDTHS), self.rng.random() < 0.25)

    def _header_fields(self) -> list[tuple[str, Type]]:
        fields = [(f"a{n}", self.type()) for n in range(self.rng.randint(1, 5))]
        rest = -sum(t.width for _, t in fields) % 8
        return fields + ([("pad", Type(rest))] if rest else [])

    # ----------------------------------------------------------------------------------------------------- expressions

    def literal(self, type_: Type) -> str:
        """A constant of this type."""
        if type_.width == 0:
            return self.rng.choice(("true", "false"))
        edge = type_.width - 1 if type_.signed else type_.width
        number = self.rng.choice((0, 1, (1 << edge) - 1, self.rng.getrandbits(max(edge, 1)) & ((1 << edge) - 1)))
        return f"{type_.width}{'s' if type_.signed else 'w'}{number}"

    def leaf(self, scope: Scope, type_: Type) -> str:
        """A constant or a value in scope, with a cast where its type is another."""
        fitting = [name for name, t in scope.values if t == type_]
        if fitting and self.rng.random() < 0.8:
            return self.rng.choice(fitting)
        others = [(name, t) for name, t in scope.values if t.width and type_.width]
        if not others or self.rng.random() < 0.4:
            return self.literal(type_)
        name, found = self.rng.choice(others)
        if found.signed != type_.signed and found.width != type_.width:
            return f"({type_}) ({Type(found.width, type_.signed)}) {name}"
        return f"({type_}) {name}"

    def expression(self, scope: Scope, type_: Type, depth: int) -> str:
        """An expression of this type."""
        if depth <= 0:
            return self.leaf(scope, type_)
        rng, sub = self.rng, depth - 1
        if type_ == BOOL:
            return self._condition(scope, sub)
        kinds = ["binary", "binary", "unary", "shift", "choose", "leaf", "call"]
        if not type_.signed:
            kinds += ["slice", "divide"] + (["concat"] if type_.width > 1 else [])
        match rng.choice(kinds):
            case "binary":
                return f"({self.expression(scope, type_, sub)} {rng.choice(_ARITHMETIC)} {self.expression(scope, type_, sub)})"
            case "unary":
                return f"({rng.choice('~-')}{self.expression(scope, type_, sub)})"
            case "shift":
                amount = self.expression(scope, Type(rng.choice((3, 8, 32))), sub)
                return f"({self.expression(scope, type_, sub)} {rng.choice(('<<', '>>'))} {amount})"
            case "choose":
                yes, no = (self.expression(scope, type_, sub) for _ in range(2))
                return f"({self._condition(scope, sub)} ? {yes} : {no})"
            case "slice":
                low = rng.randint(0, 40)
                return (
                    f"{self.leaf_of_width(scope, type_.width + low + rng.randint(0, 9))}[{type_.width + low - 1}:{low}]"
                )
            case "divide":
                return f"({self.expression(scope, type_, sub)} {rng.choice('/%')} {type_.width}w1)"
            case "concat":
                high = rng.randint(1, type_.width - 1)
                left = self.expression(scope, Type(high), sub)
                return f"({left} ++ {self.expression(scope, Type(type_.width - high), sub)})"
            case "call":
                return self._call(scope, type_, sub)
        return self.leaf(scope, type_)

    def leaf_of_width(self, scope: Scope, width: int) -> str:
        """A postfix expression of type ``bit<width>``."""
        return f"({self.leaf(scope, Type(width))})"

    def _call(self, scope: Scope, type_: Type, depth: int) -> str:
        fitting = [(name, params) for name, result, params in self.functions if result == type_]
        if not fitting:
            return self.leaf(scope, type_)
        name, params = self.rng.choice(fitting)
        return f"{name}({', '.join(self.expression(scope, p, depth - 1) for p in params)})"

    def _condition(self, scope: Scope, depth: int) -> str:
        if depth <= 0:
            return self.leaf(scope, BOOL)
        match self.rng.randrange(4):
            case 0:
                return f"(!{self._condition(scope, depth - 1)})"
            case 1:
                left, right = (self._condition(scope, depth - 1) for _ in range(2))
                return f"({left} {self.rng.choice(('&&', '||'))} {right})"
            case _:
                type_ = self.type()
                left, right = (self.expression(scope, type_, depth - 1) for _ in range(2))
                return f"({left} {self.rng.choice(_COMPARISONS)} {right})"

    # ------------------------------------------------------------------------------------------------------ statements

    def statements(self, scope: Scope, depth: int, *, where: str) -> list[str]:
        """Some statements; ``where`` is parser, function, action, ingress or egress."""
        inner = scope.copy()
        return [self.statement(inner, depth, where) for _ in range(self.rng.randint(1, 4))]

    def block(self, scope: Scope, depth: int, where: str) -> str:
        """Statements in braces."""
        return "{ " + " ".join(self.statements(scope, depth, where=where)) + " }"

    def statement(self, scope: Scope, depth: int, where: str) -> str:
        """One statement; declarations go into the scope."""
        rng = self.rng
        kinds = ["assign"] * 4 + ["declare"]
        if depth > 0 and where != "parser":
            kinds += ["if", "if", "switch", "for"] if where != "action" else ["if"]
        if where in ("ingress", "egress"):
            kinds += ["valid", "extern", "stack", "exit"]
        match rng.choice(kinds):
            case "declare":
                type_, name = self.type(), self.name("v")
                text = f"{type_} {name} = {self.expression(scope, type_, 2)};"
                scope.add(name, type_)
                return text
            case "if":
                text = f"if ({self._condition(scope, 2)}) {self.block(scope, depth - 1, where)}"
                return text + (f" else {self.block(scope, depth - 1, where)}" if rng.random() < 0.5 else "")
            case "switch":
                cases = sorted({rng.randrange(16) for _ in range(3)})
                body = " ".join(f"{n}: {self.block(scope, depth - 1, where)}" for n in cases)
                return f"switch ({self.expression(scope, Type(8), 1)}) {{ {body} default: {{ }} }}"
            case "for":
                name = self.name("i")
                inner = scope.copy()
                inner.add(name, Type(8), writable=False)
                head = f"bit<8> {name} = 0; {name} < {rng.randint(0, 20)}; {name} = {name} + 1"
                return f"for ({head}) {self.block(inner, depth - 1, where)}"
            case "valid":
                return f"hdr.{rng.choice(self.members)[0]}.{rng.choice(('setValid', 'setInvalid'))}();"
            case "extern":
                return self._extern(scope, where)
            case "stack" if self.stack:
                return f"hdr.stack.{rng.choice(('push_front', 'pop_front'))}({rng.randint(1, 2)});"
            case "exit" if rng.random() < 0.3:
                return f"if ({self._condition(scope, 1)}) {{ {rng.choice(('exit', 'return'))}; }}"
        name, type_ = rng.choice(scope.writable)
        if type_.width > 2 and not type_.signed and rng.random() < 0.2:
            high = rng.randint(1, type_.width - 1)
            low = rng.randint(0, high)
            return f"{name}[{high}:{low}] = {self.expression(scope, Type(high - low + 1), 2)};"
        return f"{name} = {self.expression(scope, type_, 3)};"

    def _extern(self, scope: Scope, where: str) -> str:
        session = self.expression(scope, Type(32), 1)
        fields = ", ".join(self.expression(scope, self.type(), 1) for _ in range(self.rng.randint(1, 3)))
        algorithm = self.rng.choice(("crc32", "crc16", "csum16", "xor16", "identity"))
        number = self.expression(scope, Type(32), 1)
        choices = [
            "mark_to_drop(sm);",
            f"truncate({number});",
            f"hash(meta.hashed, HashAlgorithm.{algorithm}, 32w1, {{ {fields} }}, 32w{self.rng.randrange(9)});",
            f"random(meta.hashed, 32w0, {number});",
            f'log_msg("values {{}}", {{ {number} }});',
        ]
        if where == "ingress":
            choices += [
                f"clone(CloneType.I2E, {session});",
                "resubmit_preserving_field_list(1);",
                f"digest<digest_t>(1, {{ {self.expression(scope, Type(9), 1)}, meta.hashed }});",
                f"sm.egress_spec = {self.expression(scope, Type(9), 1)};",
                f"sm.mcast_grp = {self.expression(scope, Type(16), 1)};",
                f"numbers.read(meta.hashed, {number});",
                f"numbers.write({number}, {self.expression(scope, Type(32), 1)});",
                f"packets.count({number});",
            ]
        else:
            choices += [f"clone(CloneType.E2E, {session});", "recirculate_preserving_field_list(1);"]
        return self.rng.choice(choices)

    # ----------------------------------------------------------------------------------------------------- declarations

    def _base_scope(self) -> Scope:
        scope = Scope()
        for member, header in self.members:
            for name, type_ in self.headers[header]:
                scope.add(f"hdr.{member}.{name}", type_)
        if self.stack:
            for name, type_ in self.headers[self.stack[1]]:
                scope.add(f"hdr.stack[{self.rng.choice(('0', 'meta.hashed & 3'))}].{name}", type_)
        for name, type_ in [*self.metadata, ("hashed", Type(32))]:
            scope.add(f"meta.{name}", type_)
        scope.add("sm.ingress_port", Type(9), writable=False)
        scope.add("sm.packet_length", Type(32), writable=False)
        return scope

    def _function(self) -> str:
        scope, name = Scope(), self.name("fun")
        params = [(self.name("p"), self.type()) for _ in range(self.rng.randint(1, 3))]
        for param, type_ in params:
            scope.add(param, type_, writable=False)
        result, local = self.type(), self.name("v")
        scope.add(local, result)
        body = " ".join(self.statements(scope, 1, where="function"))
        text = (
            f"{result} {name}({', '.join(f'in {t} {p}' for p, t in params)}) "
            f"{{ {result} {local} = {self.literal(result)}; {body} return {self.expression(scope, result, 2)}; }}"
        )
        self.functions.append((name, result, [t for _, t in params]))
        return text

    def _action(self, scope: Scope, where: str) -> tuple[str, str]:
        name = self.name("act")
        inner = scope.copy()
        params = [(self.name("p"), self.type()) for _ in range(self.rng.randint(0, 3))]
        for param, type_ in params:
            inner.add(param, type_, writable=False)
        body = self.block(inner, 1, "action")
        return name, f"action {name}({', '.join(f'{t} {p}' for p, t in params)}) {body}"

    def _table(self, scope: Scope, actions: list[str]) -> tuple[str, str]:
        name = self.name("t")
        chosen = self.rng.sample(actions, self.rng.randint(1, len(actions)))
        unsigned = [(n, t) for n, t in scope.values if t.width and not t.signed and "[" not in n]
        keys, has_lpm = [], False
        for key, _ in self.rng.sample(unsigned, min(len(unsigned), self.rng.randint(1, 4))):
            kind = self.rng.choice(_MATCH)
            if kind == "lpm" and has_lpm:
                kind = "exact"
            has_lpm |= kind == "lpm"
            keys.append(f"{key}: {kind};")
        size = f"size = {self.rng.choice((1, 16, 1024))};" if self.rng.random() < 0.7 else ""
        properties = f"key = {{ {' '.join(keys)} }} actions = {{ {'; '.join(chosen)}; NoAction; }} {size}"
        return name, f"table {name} {{ {properties} default_action = NoAction(); }}"

    def _control(self, name: str, where: str) -> str:
        scope = self._base_scope()
        actions, tables = [], []
        parts = (
            ["register<bit<32>>(16) numbers;", "counter(16, CounterType.packets) packets;"]
            if where == "ingress"
            else []
        )
        for _ in range(self.rng.randint(1, 3)):
            action, text = self._action(scope, where)
            actions.append(action)
            parts.append(text)
        for _ in range(self.rng.randint(0, 3)):
            table, text = self._table(scope, actions)
            tables.append(table)
            parts.append(text)
        body = []
        for table in tables:
            body += self.statements(scope, 2, where=where)
            body.append(self.rng.choice((f"{table}.apply();", f"if ({table}.apply().hit) {{ meta.flag = true; }}")))
        body += self.statements(scope, 2, where=where)
        head = f"control {name}(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm)"
        return f"{head} {{\n  {chr(10).join(parts)}\n  apply {{\n    {chr(10).join(body)}\n  }}\n}}"

    def _parser(self) -> str:
        scope = self._base_scope()
        states, names = [], [f"s{n}" for n in range(len(self.members))]
        for number, (member, header) in enumerate(self.members):
            follow = [*names[number + 1 :], "accept", "reject"] + (["stack"] if self.stack else [])
            unsigned = [(n, t) for n, t in self.headers[header] if not t.signed]
            body = [f"packet.extract(hdr.{member});"]
            if self.rng.random() < 0.3:
                body += [self.statement(scope.copy(), 0, "parser")]
            if self.rng.random() < 0.2:
                body.append(f"verify({self._condition(scope, 1)}, error.NoMatch);")
            if unsigned:
                name, type_ = self.rng.choice(unsigned)
                cases = " ".join(
                    f"{self._keyset(type_)}: {self.rng.choice(follow)};" for _ in range(self.rng.randint(0, 3))
                )
                body.append(f"transition select(hdr.{member}.{name}) {{ {cases} default: {self.rng.choice(follow)}; }}")
            else:
                body.append(f"transition {self.rng.choice(follow)};")
            states.append(f"state {names[number]} {{ {' '.join(body)} }}")
        if self.stack:
            select = "transition select(packet.lookahead<bit<8>>()) { 0x80 &&& 0x80: stack; default: accept; }"
            states.append(f"state stack {{ packet.extract(hdr.stack.next); {select} }}")
        return (
            "parser P(packet_in packet, out headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {\n"
            f"  state start {{ transition {names[0]}; }}\n  {chr(10).join(states)}\n}}"
        )

    def _keyset(self, type_: Type) -> str:
        a, b = (self.literal(type_) for _ in range(2))
        low, high = sorted((int(a.split("w")[1]), int(b.split("w")[1])))
        return self.rng.choice((a, f"{a} &&& {b}", f"{low}..{high}"))

    def _parts(self) -> list[str]:
        parts = ["#include <core.p4>", "#include <v1model.p4>"]
        for name, declared in self.headers.items():
            parts.append(f"header {name} {{ {' '.join(f'{t} {n};' for n, t in declared)} }}")
        members = [f"{h} {m};" for m, h in self.members]
        if self.stack:
            members.append(f"{self.stack[1]}{self.stack[0][5:]} stack;")
        parts.append(f"struct headers_t {{ {' '.join(members)} }}")
        fields = " ".join(f"@field_list(1) {t} {n};" for n, t in self.metadata)
        parts.append(f"struct metadata_t {{ {fields} bit<32> hashed; }}")
        parts.append("struct digest_t { bit<9> port; bit<32> number; }")
        parts += [self._function() for _ in range(self.rng.randint(0, 3))]
        parts += [self._parser(), self._control("MyIngress", "ingress"), self._control("MyEgress", "egress")]
        checksum = "inout headers_t hdr, inout metadata_t meta"
        parts += [f"control V({checksum}) {{ apply {{ }} }}", f"control C({checksum}) {{ apply {{ }} }}"]
        parts.append("control D(packet_out packet, in headers_t hdr) { apply { packet.emit(hdr); } }")
        parts.append("V1Switch(P(), V(), MyIngress(), MyEgress(), C(), D()) main;\n")
        return parts


def grow(rng: random.Random) -> str:
    """The source of a new program."""
    return Program(rng).text
