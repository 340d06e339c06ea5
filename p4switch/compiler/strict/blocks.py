"""What parser, deparser, checksum controls and actions may do, and which operands bmv2 cannot take."""

from __future__ import annotations

from collections.abc import Iterator

from p4switch.compiler import ast, ir
from p4switch.compiler.places import located, place
from p4switch.compiler.strict.refusals import Refusals, below, called
from p4switch.compiler.warn.names import is_system

_CHECKSUM = {
    "verify_checksum": ("verify_checksum", "verify_checksum_with_payload"),
    "compute_checksum": ("update_checksum", "update_checksum_with_payload"),
}
_DATA = {name: 1 for names in _CHECKSUM.values() for name in names} | {"hash": 3}  # position of the data
MAX_SHIFT_BITS = 8


def check_parser(program: ir.Program, refusals: Refusals) -> None:
    """No loops and no switch; ``stack.next`` is for extract alone. (Externs in parsers are always refused.)"""
    states = program.parser.states
    for body in (states, *(f.body for f in called(program, states))):
        extracted: list[ir.Node] = []  # stack.next, and stack.next.member of a union
        for node, where in located(body):
            match node:
                case ir.Extract(header=header):
                    extracted.append(header)
                case ir.Loop() | ir.Switch():
                    what = "loop" if isinstance(node, ir.Loop) else "switch"
                    refusals.refuse(
                        place(where),
                        f"a {what} in a parser; bmv2's parser has states only",
                        "use states and transitions",
                    )
                case ir.Member(base=ir.StackNext()) if not any(node is header for header in extracted):
                    refusals.refuse(
                        place(where),
                        "a field of 'next' is read or written; bmv2 knows 'next' only as the target of extract",
                        "extract it and use 'last', or use lookahead",
                    )


def check_deparser(program: ir.Program, refusals: Refusals) -> None:
    """Nothing but emits, calls of extern functions and assignments of constants."""
    for statement in flat(program.deparser.body):
        match statement:
            case ir.Emit() | ir.Declare() | ir.CallExtern(instance=None) | ir.Assign(right=ir.Const()):
                pass
            case _:
                refusals.refuse(
                    place(statement.loc),
                    "something other than emit in the deparser; bmv2's deparser takes no conditions and no computations",
                    "do it at the end of egress: headers that are not valid are not emitted",
                )


def check_checksums(program: ir.Program, refusals: Refusals) -> None:
    """Nothing but calls of the checksum functions; their data are fields and constants."""
    for control, names in _CHECKSUM.items():
        for statement in flat(getattr(program, control).body):
            if isinstance(statement, ir.Declare):
                continue
            if not (isinstance(statement, ir.CallExtern) and statement.instance is None and statement.name in names):
                refusals.refuse(
                    place(statement.loc),
                    f"something other than {' and '.join(names)} in the {control.replace('_', ' ')} control",
                    "give conditions as the first argument, and compute in ingress or egress",
                )
                continue
            if not simple(statement.args[1]):
                refusals.refuse(
                    place(statement.loc),
                    f"a computation in the data of {statement.name}; bmv2 takes fields and constants",
                    "compute it in ingress or egress and keep the result in the metadata",
                )


def simple(data: ir.Expression) -> bool:
    """Whether there are only fields and constants."""
    if isinstance(data, ir.StructExpr):
        return all(simple(f) for f in data.fields)
    while isinstance(data, ir.Member | ir.Index):
        data = data.base
    return isinstance(data, ir.Var | ir.Const)


def check_data(program: ir.Program, refusals: Refusals) -> None:
    """What is hashed or summed is a list or a struct."""
    for node, where in located(program):
        if isinstance(node, ir.CallExtern) and node.instance is None and node.name in _DATA:
            data = node.args[_DATA[node.name]]
            if not isinstance(data.type, ir.Struct | ir.Header):
                refusals.refuse(
                    place(where),
                    f"the data of {node.name} is neither a list nor a struct; bmv2 wants a list of fields",
                    "write { ... } around it",
                )


def check_actions(program: ir.Program, refusals: Refusals) -> None:
    """An action has conditions and loops, but no switch."""
    for action in program.actions:
        for body in (action.body, *(f.body for f in called(program, action.body))):
            for node, where in located(body, action.loc):
                if isinstance(node, ir.Switch):
                    refusals.refuse(
                        place(where), "a switch in an action; bmv2 has none there", "use if and else, or a table"
                    )


def check_shifts(program: ir.Program, refusals: Refusals) -> None:
    """bmv2 shifts by 255 at most, by amounts of at most 8 bits."""
    for node, where in located(program):
        if not (isinstance(node, ir.Binary) and node.op in ("<<", ">>")):
            continue
        if isinstance(node.left, ir.Const) and node.left.number == 0:  # p4c has made it zero by then
            continue
        amount, limit = node.right, (1 << MAX_SHIFT_BITS) - 1
        width = node.type.width if isinstance(node.type, ir.Bits) else 0
        if isinstance(amount, ir.Const):
            if limit < amount.number < width:
                refusals.refuse(
                    place(where),
                    f"a shift by {amount.number}; bmv2 shifts by {limit} at most",
                    "shift in several steps",
                )
        elif isinstance(amount.type, ir.Bits) and amount.type.width > MAX_SHIFT_BITS:
            refusals.refuse(
                place(where),
                f"a shift by a bit<{amount.type.width}>; bmv2 takes amounts of at most {MAX_SHIFT_BITS} bits",
                f"cast the amount: (bit<{MAX_SHIFT_BITS}>) amount",
            )


def check_source(source: ast.SourceFile, refusals: Refusals) -> None:
    """What the IR does not tell apart any more: for-in loops, and externs that are not v1model's."""
    for item in source.declarations:
        if is_system(item.loc) or not refusals.names.is_used(item):
            continue
        if isinstance(item, ast.ExternDecl) or (isinstance(item, ast.FunctionDecl) and item.body is None):
            refusals.refuse(
                item.loc, f"extern '{item.name}' is none of v1model's; bmv2 has no code for it", "use v1model's externs"
            )
            continue
        for node in below(item):
            if isinstance(node, ast.ForInStmt):
                refusals.refuse(
                    node.loc,
                    "a for-in loop; p4c has none for bmv2",
                    "use for (bit<8> i = 0; i < n; i = i + 1), in an action",
                )


def flat(statements: list[ir.Statement]) -> Iterator[ir.Statement]:
    """The statements that the program wrote, without the blocks around them: no copies of inlined controls."""
    for statement in statements:
        if isinstance(statement, ir.Block):
            yield from flat(statement.body)
        elif statement.loc is not None:
            yield statement
