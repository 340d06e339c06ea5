"""Names of parameters and type parameters: none twice in one declaration, defaults only where a call may leave them out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from p4switch.compiler import ast
from p4switch.compiler.diagnostics import Diagnostics, Loc


def check_names(source: ast.SourceFile, diagnostics: Diagnostics) -> None:
    """Check all declarations, also those that nothing uses. Raises CompileError at the first that is wrong."""
    for item in declarations(source.declarations):
        names: dict[str, str] = {}
        for name in type_params(item):
            declare(names, name, f"type parameter '{name}'", item.loc, diagnostics)
        for parameter in params(item):
            declare(names, parameter.name, f"parameter '{parameter.name}'", parameter.loc, diagnostics)
            if has_body(item) and any(note.name == "optional" for note in parameter.annotations):
                message = f"parameter '{parameter.name}' is @optional: only externs and packages have such parameters"
                diagnostics.fail(parameter.loc, message)
            if parameter.default is None:
                continue
            if parameter.direction in ("out", "inout"):
                message = f"parameter '{parameter.name}' is {parameter.direction}: only what is passed in has a default"
                diagnostics.fail(parameter.default.loc, message)
            if any(note.name == "optional" for note in parameter.annotations):
                diagnostics.fail(parameter.loc, f"parameter '{parameter.name}' is @optional: it has no default")


def declare(names: dict[str, str], name: str, what: str, loc: Loc, diagnostics: Diagnostics) -> None:
    """Note a name; refuse it if the declaration has it already."""
    if name in names:
        other = names[name]
        known = "declared twice" if other == what else f"declared, and so is {other}: they need different names"
        diagnostics.fail(loc, f"{what} is {known}")
    names[name] = what


def declarations(items: Sequence[ast.Declaration]) -> Iterator[ast.Declaration]:
    """Declarations with parameters, also those inside of others."""
    for item in items:
        yield item
        if isinstance(item, ast.ControlDecl | ast.ParserDecl):
            yield from declarations(item.locals)
        elif isinstance(item, ast.ExternDecl):
            yield from item.methods


def has_body(item: ast.Declaration) -> bool:
    """Whether calls of it run code of the program."""
    if isinstance(item, ast.ParserDecl):
        return item.states is not None
    return isinstance(item, ast.ControlDecl | ast.FunctionDecl | ast.ActionDecl) and item.body is not None


def type_params(item: ast.Declaration) -> Sequence[str]:
    """The type parameters of a declaration."""
    generic = ast.ControlDecl | ast.ParserDecl | ast.PackageDecl | ast.ExternDecl | ast.FunctionDecl | ast.CompositeDecl
    return item.type_params if isinstance(item, generic) else ()


def params(item: ast.Declaration) -> Sequence[ast.ParamDecl]:
    """The parameters of a declaration, those of its constructor included."""
    if isinstance(item, ast.ControlDecl | ast.ParserDecl):
        return [*item.params, *item.constructor_params]
    return item.params if isinstance(item, ast.PackageDecl | ast.FunctionDecl | ast.ActionDecl) else ()
