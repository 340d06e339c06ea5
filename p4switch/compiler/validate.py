"""Checks an IR program that came from outside, such as a client's pipeline config, before C is generated from it.

What passes is well formed: every name resolves, every expression has the type that its parts imply, l-values are l-values,
sizes are bounded, and labels and loops nest. The C generator relies on it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

from p4switch.compiler import ir

_NAME = re.compile(r"[^\x00-\x1f\x7f]+")  # @name may hold anything printable
MAX_WIDTH = 2048
MAX_VARBIT = 1 << 16
MAX_STACK = 1024
MAX_NESTING = (
    600  # of statements and expressions together; lowering makes less (MAX_DEPTH of its expressions, of the parser)
)
_LVALUES = (ir.Var, ir.Member, ir.Index, ir.StackNext, ir.StackLast, ir.Slice)
_COMPARE, _ORDER = ("==", "!="), ("<", "<=", ">", ">=")
_BLOCKS = ("parser", "verify_checksum", "ingress", "egress", "compute_checksum", "deparser")


class IrError(ValueError):
    """The program is not well formed; the message names the place and what is wrong there."""


def validate(program: ir.Program) -> None:
    """Raise IrError unless the program is well formed."""
    try:
        _Validator(program).program_()
    except RecursionError:
        raise IrError("nested too deeply") from None


class _Validator:
    def __init__(self, program: ir.Program):
        self.program = program
        self.path: list[str] = []
        self.types: dict[str, dict[str, ir.Composite]] = {
            "header": self._unique("headers", program.headers),
            "struct": self._unique("structs", program.structs),
            "union": self._unique("unions", program.unions),
        }
        self.enums = self._unique("enums", program.enums)
        self.functions = self._unique("functions", program.functions)
        self.tables = self._unique("tables", program.tables)
        self.externs = self._unique("externs", program.externs)
        self.value_sets = self._unique("value sets", program.value_sets)
        self.actions: dict[tuple[str, str], ir.Action] = {}
        self.scope: dict[str, ir.Type] = {}
        self.readonly: set[str] = set()
        self.outer: set[str] = set()  # names of the control, which its actions may shadow
        self.labels: list[str] = []
        self.loops = 0
        self.depth = 0
        self.block = ""
        self.result: ir.Type | None = None

    # ---------------------------------------------------------------------------------------------------------- helpers

    def fail(self, message: str) -> NoReturn:
        raise IrError(f"{' > '.join(self.path) or 'program'}: {message}")

    def need(self, condition: bool, message: str) -> None:
        if not condition:
            self.fail(message)

    @contextmanager
    def at(self, where: str) -> Iterator[None]:
        self.path.append(where)
        yield
        self.path.pop()

    def name(self, name: str) -> None:
        self.need(len(name) <= 1024 and _NAME.fullmatch(name) is not None, f"{name[:60]!r} is not a name")

    def _unique(self, what: str, items: Sequence[Any]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for item in items:
            name = item.name
            self.name(name)
            if name in found:
                self.fail(f"{what}: {name!r} stands twice")
            found[name] = item
        return found

    # ------------------------------------------------------------------------------------------------------------ types

    def type(self, type_: ir.Type, seen: tuple[str, ...] = ()) -> None:
        match type_:
            case ir.Bits(width=width, signed=signed):
                self.need(int(signed) <= width <= MAX_WIDTH, f"a width of {width} bits; at most {MAX_WIDTH}")
            case ir.Varbit(max_width=width):
                self.need(0 <= width <= MAX_VARBIT, f"a varbit of {width} bits; at most {MAX_VARBIT}")
            case ir.Enum(name=name):
                self.need(name in self.enums, f"unknown enum {name!r}")
            case ir.Stack(element=element, size=size):
                self.need(0 < size <= MAX_STACK, f"a stack of {size} elements; 1 to {MAX_STACK} are possible")
                self.type(element, seen)
            case ir.Struct(name=name) | ir.Header(name=name) | ir.Union(name=name):
                kind = type(type_).__name__.lower()
                self.need(name in self.types[kind], f"unknown {kind} {name!r}")
                self.need(name not in seen, f"{kind} {name!r} contains itself")
                for field in self.types[kind][name].fields:
                    self.type(field.type, (*seen, name))

    def composite(self, type_: ir.Type) -> ir.Composite | None:
        match type_:
            case ir.Struct(name=name) | ir.Header(name=name) | ir.Union(name=name):
                return self.types[type(type_).__name__.lower()].get(name)
        return None

    def composites(self) -> None:
        for kind, container in self.types.items():
            for name, composite in container.items():
                with self.at(f"{kind} {name}"):
                    names = [f.name for f in composite.fields]
                    self.need(len(set(names)) == len(names), "a field stands twice")
                    for field in composite.fields:
                        self.name(field.name)
                        self.type(field.type, (name,))
                        allowed = {
                            "header": (ir.Bits, ir.Bool, ir.Varbit, ir.Struct, ir.Enum, ir.Error),
                            "union": (ir.Header,),
                            "struct": (
                                ir.Bits,
                                ir.Bool,
                                ir.Varbit,
                                ir.Struct,
                                ir.Enum,
                                ir.Error,
                                ir.Header,
                                ir.Union,
                                ir.Stack,
                            ),
                        }[kind]
                        self.need(isinstance(field.type, allowed), f"field {field.name!r} of type {_text(field.type)}")

    # ------------------------------------------------------------------------------------------------------ expressions

    def expr(self, expr: ir.Expression, wanted: ir.Type | None = None) -> ir.Type:
        """Check an expression; returns its type."""
        self.depth += 1
        self.need(self.depth <= MAX_NESTING, "expressions nested too deeply")
        self._expr(expr)
        self.depth -= 1
        if wanted is not None:
            self.need(expr.type == wanted, f"expected {_text(wanted)}, found {_text(expr.type)}")
        return expr.type

    def is_bits(self, type_: ir.Type, what: str) -> ir.Bits:
        if not isinstance(type_, ir.Bits):
            self.fail(f"{what} of {_text(type_)}")
        return type_

    def _expr(self, expr: ir.Expression) -> None:
        self.type(expr.type)
        match expr:
            case ir.Const():
                self._const(expr)
            case ir.StringConst():
                self.need(expr.type == ir.String(), "a string of another type")
            case ir.Var(name=name):
                self.need(name in self.scope, f"unknown variable {name!r}")
                self.need(self.scope[name] == expr.type, f"variable {name!r} is {_text(self.scope[name])}")
            case ir.Member(base=base, field=field):
                composite = self.composite(self.expr(base))
                found = next((f for f in composite.fields if f.name == field), None) if composite else None
                self.need(found is not None and found.type == expr.type, f"member {field!r} of {_text(base.type)}")
            case ir.Index(base=base, index=index):
                self._stack(base, expr.type)
                self.is_bits(self.expr(index), "an index")
            case ir.StackNext(base=base) | ir.StackLast(base=base):
                self.need(self.block == "parser", "next and last are possible only in a parser")
                self._stack(base, expr.type)
            case ir.StackLastIndex(base=base) | ir.StackSize(base=base):
                self.need(expr.type == ir.Bits(width=32), "it is bit<32>")
                self._stack(base, None)
            case ir.Slice(base=base, hi=hi, lo=lo):
                width = self.is_bits(self.expr(base), "a slice").width
                self.need(0 <= lo <= hi < width and expr.type == ir.Bits(width=hi - lo + 1), f"slice [{hi}:{lo}]")
            case ir.IsValid(base=base):
                self.need(isinstance(self.expr(base), ir.Header | ir.Union), "isValid of what is no header")
                self.need(expr.type == ir.Bool(), "isValid is bool")
            case ir.Unary(op=op, arg=arg):
                if op == "!":
                    self.expr(arg, ir.Bool())
                else:
                    self.is_bits(self.expr(arg), op)
                self.need(expr.type == arg.type, f"{op} changes its type")
            case ir.Binary():
                self._binary(expr)
            case ir.Conditional(cond=cond, then=then, otherwise=otherwise):
                self.expr(cond, ir.Bool())
                self.expr(then, expr.type)
                self.expr(otherwise, expr.type)
            case ir.Cast(arg=arg):
                source = self.expr(arg)
                bit = ir.Bits(width=1)
                both = isinstance(source, ir.Bits) and isinstance(expr.type, ir.Bits)
                bools = (source, expr.type) in ((ir.Bool(), bit), (bit, ir.Bool()))
                self.need(both or bools or source == expr.type, f"a cast of {_text(source)} to {_text(expr.type)}")
            case ir.StructExpr(fields=fields):
                composite = self.composite(expr.type)
                self.need(not isinstance(expr.type, ir.Union) and composite is not None, "not a struct or header")
                assert composite is not None
                self.need(
                    len(fields) == len(composite.fields), f"{len(fields)} values for {len(composite.fields)} fields"
                )
                for value, declared in zip(fields, composite.fields, strict=True):
                    self.expr(value, declared.type)
            case ir.InvalidHeader():
                self.need(isinstance(expr.type, ir.Header | ir.Union | ir.Stack), "an invalid header of another type")
            case ir.Lookahead():
                self.fail("lookahead inside of an expression")

    def _const(self, expr: ir.Const) -> None:
        self.need(re.fullmatch(r"-?[0-9]{1,700}", expr.value) is not None, f"{expr.value[:40]!r} is not a number")
        value = int(expr.value)
        match expr.type:
            case ir.Bits(width=width, signed=True):
                low, high = -(1 << (width - 1)), (1 << (width - 1)) - 1
            case ir.Bits(width=width):
                low, high = 0, (1 << width) - 1
            case ir.Bool():
                low, high = 0, 1
            case ir.Error():
                low, high = 0, len(self.program.errors) - 1
            case ir.Enum(name=name):
                low, high = 0, len(self.enums[name].members) - 1
            case _:
                self.fail(f"a constant of type {_text(expr.type)}")
        self.need(low <= value <= high, f"{value} is not in {low}..{high}")

    def _stack(self, base: ir.Expression, element: ir.Type | None) -> None:
        type_ = self.expr(base)
        if not isinstance(type_, ir.Stack):
            self.fail(f"{_text(type_)} is not a stack")
        self.need(element is None or type_.element == element, "an element of another type")

    def _binary(self, expr: ir.Binary) -> None:
        op, left, right = expr.op, self.expr(expr.left), self.expr(expr.right)
        if op in ("&&", "||"):
            self.need(left == right == expr.type == ir.Bool(), f"{op} of {_text(left)} and {_text(right)}")
        elif op in _COMPARE:
            self.need(
                left == right and expr.type == ir.Bool() and left != ir.String(),
                f"{op} of {_text(left)} and {_text(right)}",
            )
        elif op in _ORDER:
            self.is_bits(left, op)
            self.need(left == right and expr.type == ir.Bool(), f"{op} of {_text(left)} and {_text(right)}")
        elif op in ("<<", ">>"):
            self.is_bits(left, op)
            self.need(
                not self.is_bits(right, op).signed and expr.type == left, f"{op} of {_text(left)} by {_text(right)}"
            )
        elif op == "++":
            a, b = self.is_bits(left, op), self.is_bits(right, op)
            self.need(expr.type == ir.Bits(width=a.width + b.width, signed=a.signed), "++ of another width")
        else:
            signed = self.is_bits(left, op).signed
            self.need(left == right == expr.type, f"{op} of {_text(left)} and {_text(right)}")
            self.need(op not in ("/", "%") or not signed, f"{op} of signed numbers")

    def lvalue(self, expr: ir.Expression, wanted: ir.Type | None = None) -> ir.Type:
        self.need(isinstance(expr, _LVALUES), "not an l-value")
        root: ir.Expression = expr
        while isinstance(root, ir.Member | ir.Index | ir.StackNext | ir.StackLast | ir.Slice):
            root = root.base
        self.need(isinstance(root, ir.Var), "not an l-value")
        assert isinstance(root, ir.Var)
        self.need(root.name not in self.readonly, f"{root.name!r} is read-only")
        return self.expr(expr, wanted)

    # ------------------------------------------------------------------------------------------------------- statements

    def body(self, statements: Iterable[ir.Statement]) -> None:
        self.depth += 1
        self.need(self.depth <= MAX_NESTING, "statements nested too deeply")
        outer = dict(self.scope)
        for statement in statements:
            with self.at(type(statement).__name__):
                self.statement(statement)
        self.scope = outer
        self.depth -= 1

    def _new_name(self, name: str) -> None:
        self.need(name not in self.scope or name in self.outer, f"{name!r} is declared twice")
        self.outer.discard(name)

    def declare(self, declaration: ir.Declare) -> None:
        self.name(declaration.name)
        self.type(declaration.type)
        self.need(declaration.type != ir.String(), "a variable of type string")
        self._new_name(declaration.name)
        if declaration.init is not None:
            self.expr(declaration.init, declaration.type)
        self.scope[declaration.name] = declaration.type

    def statement(self, s: ir.Statement) -> None:
        match s:
            case ir.Declare():
                self.declare(s)
            case ir.Assign(left=left, right=ir.Lookahead() as ahead):
                self.need(self.block == "parser", "lookahead outside of a parser")
                self.type(ahead.type)
                self.lvalue(left, ahead.type)
            case ir.Assign(left=left, right=right):
                self.expr(right, self.lvalue(left))
            case ir.If(cond=cond, then=then, otherwise=otherwise):
                self.expr(cond, ir.Bool())
                self.body(then)
                self.body(otherwise)
            case ir.Switch(subject=subject, cases=cases):
                type_ = self.expr(subject)
                for case in cases:
                    for value in case.values:
                        self.expr(value, type_)
                    self.body(case.body)
            case ir.ApplyTable():
                self._apply(s)
            case ir.Block(body=body, label=label, back=back):
                if label is not None:
                    self.name(label)
                    self.labels.append(label)
                self.body(body)
                if label is not None:
                    self.labels.pop()
                self.body(back)
            case ir.LeaveBlock(label=label):
                self.need(label in self.labels, f"no enclosing block has label {label!r}")
            case ir.Loop(cond=cond, body=body, step=step):
                self.expr(cond, ir.Bool())
                self.loops += 1
                self.body(body)
                self.body(step)
                self.loops -= 1
            case ir.Break() | ir.Continue():
                self.need(self.loops > 0, "outside of a loop")
            case ir.Return(value=value):
                if value is None:
                    self.need(self.result is None, "a value is missing")
                else:
                    self.need(self.result is not None, "nothing is returned here")
                    self.expr(value, self.result)
            case ir.Exit():
                self.need(self.block != "parser", "exit in a parser")
            case ir.SetValid(header=header):
                self.need(isinstance(self.lvalue(header), ir.Header), "validity of what is no header")
            case ir.StackPush(stack=stack, count=count):
                self.need(isinstance(self.lvalue(stack), ir.Stack) and count >= 0, "push or pop of what is no stack")
            case ir.CallAction(action=name, args=args, back=back):
                action = self.actions.get((self.block, name))
                if action is None:
                    self.fail(f"unknown action {name!r} in {self.block}")
                self.arguments(action.params, args)
                self.body(back)
            case ir.CallFunction(function=name, args=args, result=result):
                function = self.functions.get(name)
                if not isinstance(function, ir.Function):
                    self.fail(f"unknown function {name!r}")
                self.arguments(function.params, args)
                if result is not None:
                    self.need(function.result is not None, f"{name!r} returns nothing")
                    self.lvalue(result, function.result)
            case ir.CallExtern():
                self._extern(s)
            case ir.Extract(header=header, varbit_bits=bits):
                self.need(self.block == "parser", "extract outside of a parser")
                self.need(isinstance(self.lvalue(header), ir.Header), "extract of what is no header")
                if bits is not None:
                    self.expr(bits, ir.Bits(width=32))
            case ir.Advance(bits=bits):
                self.need(self.block == "parser", "advance outside of a parser")
                self.expr(bits, ir.Bits(width=32))
            case ir.Verify(cond=cond, error=error):
                self.need(self.block == "parser", "verify outside of a parser")
                self.expr(cond, ir.Bool())
                self.expr(error, ir.Error())
            case ir.Emit(value=value):
                self.need(self.block == "deparser", "emit outside of the deparser")
                self.expr(value)

    def _apply(self, s: ir.ApplyTable) -> None:
        table = self.tables.get(s.table)
        if not isinstance(table, ir.Table):
            self.fail(f"unknown table {s.table!r}")
        self.need(table.control == self.block, f"table {s.table!r} belongs to {table.control}")
        if s.hit is not None:
            self.lvalue(s.hit, ir.Bool())
        names = {ref.name for ref in table.actions}
        for case in s.cases:
            for action in case.actions:
                self.need(action in names, f"table {s.table!r} has no action {action!r}")
            self.body(case.body)

    def arguments(self, params: Sequence[ir.Param], args: Sequence[ir.Expression]) -> None:
        self.need(len(params) == len(args), f"{len(args)} arguments for {len(params)} parameters")
        for param, argument in zip(params, args, strict=True):
            if param.direction in ("out", "inout"):
                self.lvalue(argument, param.type)
            else:
                self.expr(argument, param.type)

    def _extern(self, s: ir.CallExtern) -> None:
        """Names resolve and arguments are well formed; the generator knows how many each extern takes."""
        self.name(s.name)
        if s.instance is not None and not s.foreign:
            self.need(s.instance in self.externs, f"unknown extern instance {s.instance!r}")
        for argument in s.args:
            self.expr(argument)
        if s.result is not None:
            self.lvalue(s.result)

    # ---------------------------------------------------------------------------------------------------------- program

    def headers_type(self) -> ir.Struct | ir.Header:
        """The type of the program's headers: a struct of them, or one header."""
        name = self.program.headers_type
        return ir.Header(name=name) if any(h.name == name for h in self.program.headers) else ir.Struct(name=name)

    def program_(self) -> None:
        """Everything."""
        program = self.program
        self.need(program.version == ir.IR_VERSION, f"IR version {program.version}; this is {ir.IR_VERSION}")
        self.need(len(program.errors) >= 7, "the errors of core.p4 are missing")
        for name in program.errors:
            self.name(name)
        for enum in program.enums:
            for member in enum.members:
                self.name(member)
        self.composites()
        for type_ in (self.headers_type(), ir.Struct(name=program.metadata_type)):
            self.type(type_)
        self.type(ir.Struct(name="standard_metadata_t"))
        for action in program.actions:
            self.name(action.name)
            self.need(action.control in _BLOCKS, f"action {action.name!r} in {action.control!r}")
            self.need((action.control, action.name) not in self.actions, f"action {action.name!r} stands twice")
            self.actions[action.control, action.name] = action
        for extern in program.externs:
            with self.at(f"extern {extern.name}"):
                self.need(0 <= extern.size <= ir.MAX_SIZE, f"{extern.size} cells; at most {ir.MAX_SIZE}")
                self.need(extern.table is None or extern.table in self.tables, f"unknown table {extern.table!r}")
                if extern.type is not None:
                    self.type(extern.type)
        for value_set in program.value_sets:
            with self.at(f"value set {value_set.name}"):
                self.need(0 <= value_set.size <= ir.MAX_SIZE, f"{value_set.size} members; at most {ir.MAX_SIZE}")
        for function in program.functions:
            with self.at(f"function {function.name}"):
                self._function(function)
        self._parser(program.parser)
        for block in _BLOCKS[1:]:
            self._control(block, getattr(program, block))
        for field_list in program.field_lists:
            with self.at(f"field list {field_list.index}"):
                for path in field_list.paths:
                    self._field_path(path)
        for digest in program.digests:
            with self.at(f"digest {digest.name}"):
                self.type(digest.type)
        headers = self.types["header"]
        for header in program.controller_headers:
            self.need(header.header in headers, f"unknown controller header {header.header!r}")

    def _field_path(self, path: Sequence[str]) -> None:
        roots = {"meta": self.program.metadata_type, "standard_metadata": "standard_metadata_t"}
        self.need(len(path) >= 2 and path[0] in roots, f"{'.'.join(path)!r} is no metadata")
        type_: ir.Type = ir.Struct(name=roots[path[0]])
        for part in path[1:]:
            composite = self.composite(type_)
            found = next((f for f in composite.fields if f.name == part), None) if composite else None
            if found is None:
                self.fail(f"{'.'.join(path)!r} is no metadata")
            type_ = found.type

    def _params(self, params: Sequence[ir.Param]) -> None:
        for param in params:
            self.name(param.name)
            self.type(param.type)
            self._new_name(param.name)
            self.scope[param.name] = param.type
            if param.direction == "in":
                self.readonly.add(param.name)

    def _function(self, function: ir.Function) -> None:
        self.scope, self.readonly, self.block, self.labels = {}, set(), "function", []
        if function.result is not None:
            self.type(function.result)
        self._params(function.params)
        self.result = function.result
        self.body(function.body)
        self.result = None

    def _block_scope(self, block: str, names: Sequence[str], locals_: Sequence[ir.Declare]) -> None:
        program = self.program
        types: list[ir.Type] = [self.headers_type(), ir.Struct(name=program.metadata_type)]
        types.append(ir.Struct(name="standard_metadata_t"))
        wanted = {"deparser": 1, "verify_checksum": 2, "compute_checksum": 2}.get(block, 3)
        self.need(len(names) == wanted, f"{len(names)} parameters; {wanted} are needed")
        self.scope, self.readonly, self.block, self.labels = {}, set(), block, []
        for name, type_ in zip(names, types, strict=False):
            self.name(name)
            self.need(name not in self.scope, f"{name!r} is declared twice")
            self.scope[name] = type_
        for declaration in locals_:
            self.declare(declaration)

    def _parser(self, parser: ir.Parser) -> None:
        with self.at(f"parser {parser.name}"):
            self._block_scope("parser", parser.params, parser.locals)
            states = {s.name for s in parser.states} | {"accept", "reject"}
            self.need(bool(parser.states) and len(states) == len(parser.states) + 2, "no states, or one twice")
            for state in parser.states:
                with self.at(f"state {state.name}"):
                    self.name(state.name)
                    # A select may use what its state declares.
                    outer = dict(self.scope)
                    for statement in state.body:
                        with self.at(type(statement).__name__):
                            self.statement(statement)
                    self._select(state.transition, states)
                    self.scope = outer

    def _select(self, select: ir.Select, states: set[str]) -> None:
        types = [self.expr(e) for e in select.exprs]
        for case in select.cases:
            self.need(case.state in states, f"unknown state {case.state!r}")
            if len(case.keys) == 1 and isinstance(case.keys[0], ir.ValueSetKey):
                name = case.keys[0].value_set
                value_set = self.value_sets.get(name)
                if not isinstance(value_set, ir.ValueSet):
                    self.fail(f"unknown value set {name!r}")
                self.need([f.type for f in value_set.fields] == types, f"value set {name!r} has other fields")
                continue
            self.need(len(case.keys) == len(types), f"{len(case.keys)} keys for {len(types)} expressions")
            for key, type_ in zip(case.keys, types, strict=True):
                self.keyset(key, type_)

    def keyset(self, key: ir.Keyset, type_: ir.Type) -> None:
        match key:
            case ir.ValueKey(value=value):
                self.expr(value, type_)
            case ir.MaskKey(value=first, mask=second) | ir.RangeKey(lo=first, hi=second):
                self.is_bits(type_, "a mask or range")
                self.expr(first, type_)
                self.expr(second, type_)
            case ir.ValueSetKey():
                self.fail("a value set stands alone in its case")

    def _control(self, block: str, control: ir.Control) -> None:
        with self.at(f"{block} {control.name}"):
            self._block_scope(block, control.params, control.locals)
            scope = dict(self.scope)
            self.body(control.body)
            for (where, _), action in self.actions.items():
                if where == block:
                    with self.at(f"action {action.name}"):
                        self.scope, self.readonly, self.labels = dict(scope), set(), []
                        self.outer = set(scope)
                        self._params(action.params)
                        self.body(action.body)
            self.scope, self.readonly, self.outer = dict(scope), set(), set()
            for table in self.program.tables:
                if table.control == block:
                    with self.at(f"table {table.name}"):
                        self._table(table)

    def _table(self, table: ir.Table) -> None:
        self.need(0 <= table.size <= ir.MAX_SIZE, f"a size of {table.size}; at most {ir.MAX_SIZE}")
        for name in (table.implementation, table.counter, table.meter):
            self.need(name is None or name in self.externs, f"unknown extern {name!r}")
        for key in table.keys:
            if key.expr is None:
                self.fail(f"key {key.name!r} has no expression")
            self.expr(key.expr, key.type)
            allowed = (ir.Bits, ir.Bool, ir.Enum, ir.Error)
            self.need(isinstance(key.type, allowed), f"key {key.name!r} of type {_text(key.type)}")
        names = [ref.name for ref in table.actions]
        self.need(len(set(names)) == len(names), "an action stands twice")
        for ref in table.actions:
            action = self.actions.get((table.control, ref.name))
            if action is None:
                self.fail(f"unknown action {ref.name!r}")
            if ref.variant is not None:
                variant = self.actions.get((table.control, ref.variant))
                if variant is None:
                    self.fail(f"unknown action {ref.variant!r}")
                data = [[p.type for p in a.params if p.direction == "data"] for a in (action, variant)]
                self.need(data[0] == data[1], f"{ref.variant!r} has other parameters than {ref.name!r}")
                action = variant
            self.body(ref.setup)
            self.arguments([p for p in action.params if p.direction != "data"], ref.args)
            self.body(ref.back)
        self._constant_call(table, table.default_action)
        for entry in table.entries:
            self.need(len(entry.keys) == len(table.keys), "an entry with another number of keys")
            for keyset, key in zip(entry.keys, table.keys, strict=True):
                self.keyset(keyset, key.type)
            self._constant_call(table, entry.action)

    def _constant_call(self, table: ir.Table, call: ir.ActionCallConst) -> None:
        action = self.actions.get((table.control, call.action))
        if action is None or call.action not in [ref.name for ref in table.actions]:
            self.fail(f"{call.action!r} is not among the actions")
        self.arguments([p for p in action.params if p.direction == "data"], call.args)


def _text(type_: ir.Type | None) -> str:
    match type_:
        case None:
            return "nothing"
        case ir.Bits(width=width, signed=signed):
            return f"{'int' if signed else 'bit'}<{width}>"
        case ir.Stack(element=element, size=size):
            return f"{_text(element)}[{size}]"
        case ir.Struct(name=name) | ir.Header(name=name) | ir.Union(name=name) | ir.Enum(name=name):
            return name
    return type(type_).__name__.lower()
