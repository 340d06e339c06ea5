"""All warnings of a program: which blocks are followed, with what known at their start."""

from __future__ import annotations

from collections.abc import Sequence

from p4switch.compiler import ast, ir
from p4switch.compiler.diagnostics import Diagnostic, Diagnostics, Loc
from p4switch.compiler.warn import shapes as s
from p4switch.compiler.warn.duplicates import duplicates
from p4switch.compiler.warn.flow import Flow
from p4switch.compiler.warn.lowered import covered_entries, entries, shifts
from p4switch.compiler.warn.names import Names, is_system, resolve
from p4switch.compiler.warn.shapes import Shapes
from p4switch.compiler.warn.state import State, Validity
from p4switch.compiler.warn.tables import muted_entries, tables
from p4switch.compiler.warn.unused import parser_states, shadowing, unused
from p4switch.compiler.warn.values import TooLarge

_BLOCKS = ("parser", "verify_checksum", "ingress", "egress", "compute_checksum", "deparser")


def check(source: ast.SourceFile, program: ir.Program, diagnostics: Diagnostics) -> None:
    """Add the warnings of an accepted program to ``diagnostics``, and the errors of functions without return."""
    found: dict[tuple[str, Loc, str], Diagnostic] = {}

    def report(kind: str, loc: Loc, message: str) -> None:
        if not is_system(loc):
            found.setdefault((kind, loc, message), Diagnostic("warning", loc, message, kind=kind))

    names = resolve(source)
    unused(names, report)
    shadowing(names, report)
    duplicates(names, diagnostics, report)
    for item in source.declarations:
        if isinstance(item, ast.ParserDecl) and item.states is not None:
            parser_states(item, report)
    shapes = Shapes(names)
    tables(source, shapes, report)
    entries(program, muted_entries(source), report)
    covered_entries(program, report)
    shifts(program, report)
    flow = Flow(names, shapes, report)
    _Blocks(source, names, flow, diagnostics).follow()
    diagnostics.messages.extend(sorted(found.values(), key=lambda d: (d.loc.file, d.loc.line, d.loc.column)))


class _Blocks:
    """Follows all blocks that are used; those of the package know which headers the parser never makes valid."""

    def __init__(self, source: ast.SourceFile, names: Names, flow: Flow, diagnostics: Diagnostics):
        self.source = source
        self.names = names
        self.flow = flow
        self.diagnostics = diagnostics

    def follow(self) -> None:
        """All."""
        main = self.package()
        parser_end = self.end_of(main.get("parser"), ())
        invalid = self.never_valid(main.get("parser"), 1, parser_end)
        ingress_end = self.end_of(main.get("ingress"), invalid)
        still = self.never_valid(main.get("ingress"), 0, ingress_end)
        self.end_of(main.get("egress"), [h for h in invalid if h in still])
        self.end_of(main.get("verify_checksum"), invalid)
        done = [id(main[b]) for b in ("parser", "ingress", "egress", "verify_checksum") if b in main]
        for item in self.source.declarations:
            if is_system(item.loc) or id(item) in done or not self.names.is_used(item):
                continue
            if isinstance(item, ast.ParserDecl | ast.ControlDecl):
                self.end_of(item, ())
            elif isinstance(item, ast.FunctionDecl):
                for function in self.names.overloads.get(id(item), [item]):
                    self.function(function)

    def function(self, function: ast.FunctionDecl) -> None:
        """A function with a body."""
        if function.body is None:
            return
        try:
            with self.flow.inside(function):
                returns = self.flow.function(function)
        except TooLarge:
            return
        if not returns:
            self.diagnostics.error(
                function.loc, f"the end of function '{function.name}' can be reached without a return"
            )

    def end_of(self, block: ast.Declaration | None, invalid: Sequence[s.Path]) -> State | None:
        """Follow a block; the state at its end, None where that is not known."""
        if block is None:
            return None
        try:
            with self.flow.inside(block):
                if isinstance(block, ast.ParserDecl) and block.states is not None:
                    return self.flow.parser(block)
                if isinstance(block, ast.ControlDecl) and block.body is not None:
                    return self.flow.control(block, invalid)
        except TooLarge:
            pass
        return None

    def package(self) -> dict[str, ast.Declaration]:
        """The blocks of V1Switch by name; only those that stand there once and are not used elsewhere in it."""
        main = next(
            (i for i in self.source.declarations if isinstance(i, ast.Instantiation) and i.name == "main"), None
        )
        if main is None:
            return {}
        types: list[ast.Declaration | None] = []
        for argument in main.args:
            value = argument.value
            if isinstance(value, ast.Name):
                instance = self.names.of(value)
                ref: ast.TypeRef | None = instance.type if isinstance(instance, ast.Instantiation) else None
            else:
                function = value.function if isinstance(value, ast.Call) else None
                ref = function.type if isinstance(function, ast.TypeExpr) else None
            types.append(self.names.of(ref) if isinstance(ref, ast.NamedType) else None)
        named = any(a.name for a in main.args)
        return {
            block: type_
            for block, type_ in zip(_BLOCKS, types, strict=False)
            if type_ is not None and not named and sum(t is type_ for t in types) == 1
        }

    def never_valid(self, block: ast.Declaration | None, param: int, end: State | None) -> list[s.Path]:
        """The headers of a parameter that are invalid on all paths to the end of the block."""
        if end is None or not isinstance(block, ast.ParserDecl | ast.ControlDecl) or len(block.params) <= param:
            return []
        declaration = block.params[param]
        shape = self.flow.shapes.of_declaration(declaration)
        return [h for h in shape.headers if end.of((id(declaration), *h)) is Validity.NO]
