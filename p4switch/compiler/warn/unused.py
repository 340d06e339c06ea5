"""Declarations that nothing names, names that hide others, states of a parser that no path reaches."""

from __future__ import annotations

from collections.abc import Callable

from p4switch.compiler import ast
from p4switch.compiler.diagnostics import Loc
from p4switch.compiler.warn.flow import targets
from p4switch.compiler.warn.names import Names, TypeParam, is_system, silenced

Report = Callable[[str, Loc, str], None]

_NOUNS: dict[type[ast.Declaration], str] = {
    ast.VarDecl: "variable",
    ast.ConstDecl: "constant",
    ast.TypedefDecl: "type",
    ast.ActionDecl: "action",
    ast.TableDecl: "table",
    ast.FunctionDecl: "function",
    ast.ControlDecl: "control",
    ast.ParserDecl: "parser",
    ast.Instantiation: "instance",
    ast.ValueSetDecl: "value set",
    ast.ParamDecl: "parameter",
}


def unused(names: Names, report: Report) -> None:
    """Items that nothing names. Parameters only of actions and functions: those of blocks are the architecture's."""
    for item, owner in names.declared:
        noun = _NOUNS.get(type(item))
        if noun is None or is_system(item.loc) or names.is_used(item):
            continue
        if isinstance(item, ast.ParamDecl) and not isinstance(owner, ast.ActionDecl | ast.FunctionDecl):
            continue
        if isinstance(item, ast.FunctionDecl) and item.body is None:
            continue
        if isinstance(item, ast.ConstDecl) and calls(item.value, "static_assert"):
            continue
        if (
            item.name.startswith("_")
            or (item.name == "main" and owner is None)
            or "unused" in silenced(item.annotations)
        ):
            continue
        report("unused", item.loc, f"{noun} '{item.name}' is not used")


def calls(expr: ast.Expr, name: str) -> bool:
    """Whether the expression is a call of this function."""
    return isinstance(expr, ast.Call) and isinstance(expr.function, ast.Name) and expr.function.name == name


def shadowing(names: Names, report: Report) -> None:
    """Declarations that hide one of an outer scope."""
    for hidden in names.hidden:
        inner, outer = hidden.inner, hidden.outer
        if is_system(inner.loc) or isinstance(outer, TypeParam) or "shadow" in silenced(inner.annotations):
            continue
        where = (
            "one of the same name in an included library"
            if is_system(outer.loc)
            else f"the one of line {outer.loc.line}"
        )
        report("shadow", inner.loc, f"'{inner.name}' hides {where}")


def parser_states(parser: ast.ParserDecl, report: Report) -> None:
    """States that cannot be reached, a parser that never accepts, states that end without a transition."""
    states = {state.name: state for state in parser.states or []}
    reached: set[str] = set()
    work = ["start"]
    while work:
        name = work.pop()
        if name not in reached:
            reached.add(name)
            work.extend(targets(states[name]) if name in states else [])
    for name, state in states.items():
        if state.transition is None and "parser-transition" not in silenced(state.annotations):
            report("parser-transition", state.loc, f"state '{name}' ends without a transition: it goes to reject")
        elif state.transition is not None:
            select_cases(state.transition, report)
        if name not in reached and "unreachable" not in silenced(state.annotations):
            report("unreachable", state.loc, f"no path from start reaches state '{name}'")
    if "accept" not in reached and states:
        report("unreachable", parser.loc, f"parser '{parser.name}' never accepts: no path from start reaches accept")


def select_cases(transition: ast.Transition, report: Report) -> None:
    """Cases behind one that takes everything, and a select whose cases all lead to the same state."""
    default = next((i for i, case in enumerate(transition.cases) if takes_all(case)), None)
    if default is None:
        return
    for case in transition.cases[default + 1 :]:
        report("parser-transition", case.loc, "no packet comes to this case: an earlier one takes everything")
    if default > 0 and len({case.state for case in transition.cases}) == 1:
        report(
            "parser-transition",
            transition.loc,
            f"all cases lead to state '{transition.cases[0].state}', whatever is selected on",
        )


def takes_all(case: ast.SelectCase) -> bool:
    """``default`` and ``_``."""
    return all(isinstance(key, ast.DontCare) for key in case.keys)
