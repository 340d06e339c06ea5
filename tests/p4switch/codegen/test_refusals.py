"""What the generator does not generate: CodegenError with the construct and its place, never C that means something else."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from p4switch.codegen import CodegenError, generate
from p4switch.compiler import ir
from tests.p4switch.codegen import programs
from tests.p4switch.codegen.programs import BOOL, bits, const, go, header_var, to_port

HERE = ir.Location(file="x.p4", line=7, column=3)
T = ir.Header(name="t")
X = programs.member(header_var("t", T), "x", bits(8))
STACK = ir.Stack(element=T, size=2)


def make(
    ingress: Sequence[ir.Statement] = (),
    states: Sequence[ir.State] | None = None,
    width: int = 8,
    **more: object,
) -> ir.Program:
    start = ir.State(name="start", body=[ir.Extract(header=header_var("t", T), loc=HERE)], transition=go("accept"))
    return programs.program(
        headers=[ir.Composite(name="t", fields=programs.fields(("x", bits(width))))],
        members=[("t", T), ("s", STACK)],
        states=[start] if states is None else states,
        ingress=[*ingress, to_port(1)],
        emit=[header_var("t", T)],
        **more,
    )


def test_the_program_the_cases_are_made_of_is_accepted() -> None:
    assert "p4prog_main" in generate(make())


CASES: dict[str, tuple[ir.Program, str]] = {
    "variable": (make([ir.Assign(left=X, right=ir.Var(type=bits(8), name="nowhere"), loc=HERE)]), "nowhere"),
    "types": (make([ir.Assign(left=X, right=const(1, bits(9)), loc=HERE)]), "bit<9>"),
    "operands": (
        make(
            [
                ir.Assign(
                    left=X,
                    right=ir.Binary(type=bits(8), op="+", left=const(1, bits(8)), right=const(1, bits(16))),
                    loc=HERE,
                )
            ]
        ),
        "right operand",
    ),
    "field": (make([ir.Assign(left=programs.member(header_var("t", T), "y", bits(8)), right=X, loc=HERE)]), "'y'"),
    "slice": (make([ir.Assign(left=X, right=ir.Slice(type=bits(8), base=X, hi=8, lo=1), loc=HERE)]), "slice [8:1]"),
    "number": (make([ir.Assign(left=X, right=ir.Const(type=bits(8), value="0); abort("), loc=HERE)]), "decimal"),
    "condition": (make([ir.If(cond=X, then=[], loc=HERE)]), "condition"),
    "signed division": (
        make(
            [
                ir.Assign(
                    left=X,
                    right=ir.Cast(
                        type=bits(8),
                        arg=ir.Binary(
                            type=bits(8, True), op="/", left=const(1, bits(8, True)), right=const(1, bits(8, True))
                        ),
                    ),
                    loc=HERE,
                )
            ]
        ),
        "unsigned",
    ),
    "label": (make([ir.LeaveBlock(label="out", loc=HERE)]), "'out'"),
    "break": (make([ir.Break(loc=HERE)]), "no loop"),
    "extern function": (make([ir.CallExtern(name="system", args=[], loc=HERE)]), "'system'"),
    "extern instance": (make([ir.CallExtern(name="count", instance="c", args=[X], loc=HERE)]), "'c'"),
    "extract in a control": (make([ir.Extract(header=header_var("t", T), loc=HERE)]), "parser only"),
    "emit in ingress": (make([ir.Emit(value=header_var("t", T), loc=HERE)]), "deparser"),
    "next in a control": (
        make([ir.SetValid(header=ir.StackNext(type=T, base=header_var("s", STACK)), valid=True, loc=HERE)]),
        "StackOutOfBounds",
    ),
    "digest": (make([ir.CallExtern(name="digest", args=[const(1, bits(32)), X], loc=HERE)]), "digest"),
    "table": (make([ir.ApplyTable(table="t", loc=HERE)]), "'t'"),
    "width": (make(width=2049 * 8), "2048"),
    "state": (make(states=[ir.State(name="start", body=[], transition=go("elsewhere"), loc=HERE)]), "'elsewhere'"),
    "no states": (make(states=[]), "no states"),
    "function": (make([ir.CallFunction(function="f", args=[], loc=HERE)]), "'f'"),
    "arguments": (
        make(
            [ir.CallFunction(function="f", args=[X], loc=HERE)], functions=[ir.Function(name="f", params=[], body=[])]
        ),
        "0 arguments, 1 given",
    ),
    "recursion": (
        make(functions=[ir.Function(name="f", params=[], body=[ir.CallFunction(function="f", args=[])])]),
        "calls itself",
    ),
    "contains itself": (
        make(
            structs=[ir.Composite(name="r", fields=programs.fields(("r", ir.Struct(name="r"))))],
            metadata=[("m", ir.Struct(name="r"))],
        ),
        "contains itself",
    ),
    "too large": (make(metadata=[("m", ir.Stack(element=T, size=1 << 22))]), "at most"),
    "string": (make([ir.Assign(left=X, right=ir.StringConst(value="x"), loc=HERE)]), "string"),
    "bool arithmetic": (
        make(
            [
                ir.If(
                    cond=ir.Binary(type=BOOL, op="<", left=const(1, BOOL), right=const(0, BOOL)),
                    then=[],
                    loc=HERE,
                )
            ]
        ),
        "needs numbers",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_refused_by_name(name: str) -> None:
    program, text = CASES[name]
    with pytest.raises(CodegenError) as caught:
        generate(program)
    assert text in str(caught.value)


def test_the_message_begins_with_the_place() -> None:
    with pytest.raises(CodegenError, match=r"^x\.p4:7:3: variable 'nowhere': ") as caught:
        generate(CASES["variable"][0])
    assert caught.value.loc == HERE


def test_too_deep_an_expression_is_refused() -> None:
    deep: ir.Expression = X
    for _ in range(30_000):
        deep = ir.Unary(type=bits(8), op="~", arg=deep)
    with pytest.raises(CodegenError, match="nested too deeply"):
        generate(make([ir.Assign(left=X, right=deep)]))
