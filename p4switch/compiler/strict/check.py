"""All rules of ``--strict-bmv2`` over one program."""

from __future__ import annotations

from p4switch.compiler import ast, ir
from p4switch.compiler.diagnostics import Diagnostics
from p4switch.compiler.strict import blocks, graph, tables, types
from p4switch.compiler.strict.refusals import Refusals
from p4switch.compiler.warn.names import resolve


def check_strict(source: ast.SourceFile, program: ir.Program, diagnostics: Diagnostics) -> None:
    """Add an error for everything in an accepted program that p4c refuses for bmv2."""
    refusals = Refusals(diagnostics, resolve(source))
    blocks.check_source(source, refusals)
    types.check_types(program, refusals)
    tables.check_tables(program, refusals)
    blocks.check_parser(program, refusals)
    for control in (program.ingress, program.egress):
        graph.check_order(control, refusals)
        graph.check_loops(program, control, refusals)
    blocks.check_actions(program, refusals)
    blocks.check_deparser(program, refusals)
    blocks.check_checksums(program, refusals)
    blocks.check_data(program, refusals)
    blocks.check_shifts(program, refusals)
