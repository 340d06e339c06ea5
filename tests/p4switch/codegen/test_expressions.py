"""Random expressions over random widths and signs: the generated C against the oracle."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from p4switch.compiler import ir
from tests.p4switch.codegen import oracle, programs
from tests.p4switch.codegen.programs import BOOL, bits, const

ARITHMETIC = ("+", "-", "*", "&", "|", "^", "|+|", "|-|")
COMPARISONS = ("==", "!=", "<", "<=", ">", ">=")
WIDTHS: dict[str, Callable[[random.Random], int]] = {
    "small": lambda r: r.randint(1, 40),
    "machine": lambda r: r.choice([1, 8, 9, 16, 17, 31, 32, 33, 48, 63, 64, 65, 127, 128]),
    "wide": lambda r: r.choice([129, 191, 192, 193, 256, 300, 512]),
    "mixed": lambda r: r.choice([1, 7, 8, 32, 64, 65, 128, 129, 200]),
}


class Generator:
    """Random expressions over the fields of a header."""

    def __init__(self, rng: random.Random, width: Callable[[random.Random], int]):
        self.rng = rng
        self.width = width
        self.inputs = [(f"i{n}", self.type()) for n in range(6)]
        self.header = programs.header_var("inputs", ir.Header(name="inputs_t"))

    def type(self) -> ir.Bits:
        return bits(self.width(self.rng), self.rng.random() < 0.4)

    def number(self, type_: ir.Bits) -> int:
        """A value, often one at an edge."""
        edges = [0, 1, -1, 1 << (type_.width - 1), (1 << (type_.width - 1)) - 1]
        choice = self.rng.choice(edges) if self.rng.random() < 0.5 else self.rng.getrandbits(type_.width)
        return oracle.wrap(choice, type_)

    def leaf(self, type_: ir.Bits) -> ir.Expression:
        """A constant, or an input, cast if its type is another."""
        if self.rng.random() < 0.3:
            return const(self.number(type_), type_)
        name, found = self.rng.choice(self.inputs)
        field = programs.member(self.header, name, found)
        return field if found == type_ else ir.Cast(type=type_, arg=field)

    def expression(self, type_: ir.Bits, depth: int) -> ir.Expression:
        """An expression of this type."""
        if depth == 0:
            return self.leaf(type_)
        sub = depth - 1
        kinds = ["arithmetic"] * 4 + ["unary", "shift", "shift", "cast", "conditional", "leaf", "bool"]
        kinds += [] if type_.signed else ["slice", "slice", "divide"]
        kinds += ["concat", "concat"] if type_.width > 1 else []
        match self.rng.choice(kinds):
            case "arithmetic":
                left, right = self.expression(type_, sub), self.expression(type_, sub)
                return ir.Binary(type=type_, op=self.rng.choice(ARITHMETIC), left=left, right=right)
            case "divide":
                left, right = self.expression(type_, sub), self.expression(type_, sub)
                return ir.Binary(type=type_, op=self.rng.choice(("/", "%")), left=left, right=right)
            case "unary":
                return ir.Unary(type=type_, op=self.rng.choice(("-", "~")), arg=self.expression(type_, sub))
            case "shift":
                amount = bits(self.rng.choice([1, 4, 8, 12, 33, 70, 130]))
                by = self.expression(amount, sub) if self.rng.random() < 0.5 else const(self.amount(type_), bits(32))
                left = self.expression(type_, sub)
                return ir.Binary(type=type_, op=self.rng.choice(("<<", ">>")), left=left, right=by)
            case "cast":
                return ir.Cast(type=type_, arg=self.expression(self.type(), sub))
            case "bool":
                one = bits(1)
                return ir.Cast(type=type_, arg=ir.Cast(type=one, arg=self.boolean(sub)))
            case "conditional":
                then, otherwise = self.expression(type_, sub), self.expression(type_, sub)
                return ir.Conditional(type=type_, cond=self.boolean(sub), then=then, otherwise=otherwise)
            case "slice":
                base = bits(type_.width + self.rng.randint(0, 70), self.rng.random() < 0.4)
                lo = self.rng.randint(0, base.width - type_.width)
                return ir.Slice(type=type_, base=self.expression(base, sub), hi=lo + type_.width - 1, lo=lo)
            case "concat":
                low = self.rng.randint(1, type_.width - 1)
                left = self.expression(bits(type_.width - low, type_.signed), sub)
                right = self.expression(bits(low, self.rng.random() < 0.4), sub)
                return ir.Binary(type=type_, op="++", left=left, right=right)
        return self.leaf(type_)

    def amount(self, type_: ir.Bits) -> int:
        """A shift amount around the interesting ones."""
        return self.rng.choice([0, 1, type_.width - 1, type_.width, type_.width + 1, self.rng.randint(0, 300)])

    def boolean(self, depth: int) -> ir.Expression:
        """A condition."""
        if depth == 0 or self.rng.random() < 0.6:
            type_ = self.type()
            sub = max(depth - 1, 0)
            left, right = self.expression(type_, sub), self.expression(type_, sub)
            return ir.Binary(type=BOOL, op=self.rng.choice(COMPARISONS), left=left, right=right)
        if self.rng.random() < 0.3:
            return ir.Unary(type=BOOL, op="!", arg=self.boolean(depth - 1))
        if self.rng.random() < 0.2:
            return ir.Cast(type=BOOL, arg=self.expression(bits(1), depth - 1))
        left, right = self.boolean(depth - 1), self.boolean(depth - 1)
        return ir.Binary(type=BOOL, op=self.rng.choice(("&&", "||", "==", "!=")), left=left, right=right)


def padded(pairs: list[tuple[str, ir.Bits]]) -> list[tuple[str, ir.Type]]:
    """Fields of a header that fills whole bytes."""
    missing = -sum(t.width for _, t in pairs) % 8
    return [*pairs, *([("padding", bits(missing))] if missing else [])]


def expression_program(generator: Generator, expressions: list[ir.Expression]) -> ir.Program:
    """Extracts the inputs, assigns each expression to an output field, and emits only those."""
    inputs, outputs = ir.Header(name="inputs_t"), ir.Header(name="outputs_t")
    results = [(f"o{n}", e.type) for n, e in enumerate(expressions)]
    out = programs.header_var("outputs", outputs)
    body: list[ir.Statement] = [ir.SetValid(header=out, valid=True)]
    body += [
        ir.Assign(left=programs.member(out, name, type_), right=e)
        for (name, type_), e in zip(results, expressions, strict=True)
    ]
    start = ir.State(name="start", body=[ir.Extract(header=generator.header)], transition=programs.go("accept"))
    return programs.program(
        headers=[
            ir.Composite(name="inputs_t", fields=programs.fields(*padded(generator.inputs))),
            ir.Composite(name="outputs_t", fields=programs.fields(*padded(results))),  # type: ignore[arg-type]
        ],
        members=[("inputs", inputs), ("outputs", outputs)],
        states=[start],
        ingress=body,
        emit=[out],
    )


def pack(values: list[tuple[int, ir.Bits]]) -> bytes:
    """Values one after the other, zeros up to a whole byte."""
    whole = width = 0
    for value, type_ in values:
        whole = whole << type_.width | oracle.pattern(value, type_)
        width += type_.width
    return (whole << -width % 8).to_bytes((width + 7) // 8, "big")


def check(rng: random.Random, widths: str, count: int, vectors: int) -> None:
    """Generate ``count`` expressions and compare them on ``vectors`` packets."""
    generator = Generator(rng, WIDTHS[widths])
    expressions = [generator.expression(generator.type(), rng.randint(1, 4)) for _ in range(count)]
    with programs.running(expression_program(generator, expressions)) as switch:
        for _ in range(vectors):
            values = {name: generator.number(type_) for name, type_ in generator.inputs}
            packet = pack([(values[name], type_) for name, type_ in generator.inputs])
            found = programs.one(switch, packet)
            expected = pack([(oracle.evaluate(e, values), e.type) for e in expressions])  # type: ignore[misc]
            assert len(found) == len(expected)
            if found != expected:
                wrong, bit = [], 0
                for e in expressions:
                    assert isinstance(e.type, ir.Bits)
                    got = int.from_bytes(found, "big") >> (8 * len(found) - bit - e.type.width)
                    got &= (1 << e.type.width) - 1
                    want = oracle.pattern(oracle.evaluate(e, values), e.type)
                    if got != want:
                        wrong.append(f"{e}\n    is {got:#x}, expected {want:#x}")
                    bit += e.type.width
                pytest.fail(f"with {values}:\n" + "\n".join(sorted(wrong, key=len)[:3]))


@pytest.mark.parametrize("widths", WIDTHS)
@settings(max_examples=4, deadline=None, suppress_health_check=list(HealthCheck), database=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_generated_c_agrees_with_the_specification(widths: str, seed: int) -> None:
    check(random.Random(seed), widths, count=25, vectors=12)
