"""Types, expressions and statements of an IR program that came from outside: what ``validate`` checks wherever code stands."""

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


class IrError(ValueError):
    """The program is not well formed; the message names the place and what is wrong there."""


class CodeValidator:
    """Names in scope, and what may be said with them. Raises IrError."""

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
        """Raise IrError, with the place."""
        raise IrError(f"{' > '.join(self.path) or 'program'}: {message}")

    def need(self, condition: bool, message: str) -> None:
        """Raise IrError unless this is so."""
        if not condition:
            self.fail(message)

    @contextmanager
    def at(self, where: str) -> Iterator[None]:
        """Name the place of what is checked in the body."""
        self.path.append(where)
        yield
        self.path.pop()

    def name(self, name: str) -> None:
        """Check a name."""
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
        """Check a type; ``seen`` are the composites that it stands in."""
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
        """The declaration behind a type that has fields, None for others."""
        match type_:
            case ir.Struct(name=name) | ir.Header(name=name) | ir.Union(name=name):
                return self.types[type(type_).__name__.lower()].get(name)
        return None

    def composites(self) -> None:
        """Check headers, structs and unions."""
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
                        self.need(isinstance(field.type, allowed), f"field {field.name!r} of type {text(field.type)}")

    # ------------------------------------------------------------------------------------------------------ expressions

    def expr(self, expr: ir.Expression, wanted: ir.Type | None = None) -> ir.Type:
        """Check an expression; returns its type."""
        self.depth += 1
        self.need(self.depth <= MAX_NESTING, "expressions nested too deeply")
        self._expr(expr)
        self.depth -= 1
        if wanted is not None:
            self.need(expr.type == wanted, f"expected {text(wanted)}, found {text(expr.type)}")
        return expr.type

    def is_bits(self, type_: ir.Type, what: str) -> ir.Bits:
        """Check that a type is Bits."""
        if not isinstance(type_, ir.Bits):
            self.fail(f"{what} of {text(type_)}")
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
                self.need(self.scope[name] == expr.type, f"variable {name!r} is {text(self.scope[name])}")
            case ir.Member(base=base, field=field):
                composite = self.composite(self.expr(base))
                found = next((f for f in composite.fields if f.name == field), None) if composite else None
                self.need(found is not None and found.type == expr.type, f"member {field!r} of {text(base.type)}")
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
                self.need(both or bools or source == expr.type, f"a cast of {text(source)} to {text(expr.type)}")
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
                self.fail(f"a constant of type {text(expr.type)}")
        self.need(low <= value <= high, f"{value} is not in {low}..{high}")

    def _stack(self, base: ir.Expression, element: ir.Type | None) -> None:
        type_ = self.expr(base)
        if not isinstance(type_, ir.Stack):
            self.fail(f"{text(type_)} is not a stack")
        self.need(element is None or type_.element == element, "an element of another type")

    def _binary(self, expr: ir.Binary) -> None:
        op, left, right = expr.op, self.expr(expr.left), self.expr(expr.right)
        if op in ("&&", "||"):
            self.need(left == right == expr.type == ir.Bool(), f"{op} of {text(left)} and {text(right)}")
        elif op in _COMPARE:
            self.need(
                left == right and expr.type == ir.Bool() and left != ir.String(),
                f"{op} of {text(left)} and {text(right)}",
            )
        elif op in _ORDER:
            self.is_bits(left, op)
            self.need(left == right and expr.type == ir.Bool(), f"{op} of {text(left)} and {text(right)}")
        elif op in ("<<", ">>"):
            self.is_bits(left, op)
            self.need(
                not self.is_bits(right, op).signed and expr.type == left, f"{op} of {text(left)} by {text(right)}"
            )
        elif op == "++":
            a, b = self.is_bits(left, op), self.is_bits(right, op)
            self.need(expr.type == ir.Bits(width=a.width + b.width, signed=a.signed), "++ of another width")
        else:
            signed = self.is_bits(left, op).signed
            self.need(left == right == expr.type, f"{op} of {text(left)} and {text(right)}")
            self.need(op not in ("/", "%") or not signed, f"{op} of signed numbers")

    def lvalue(self, expr: ir.Expression, wanted: ir.Type | None = None) -> ir.Type:
        """Check an l-value that is written to; its type."""
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
        """Check statements, in a scope of their own."""
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
        """Check a declaration; its name is known from here on."""
        self.name(declaration.name)
        self.type(declaration.type)
        self.need(declaration.type != ir.String(), "a variable of type string")
        self._new_name(declaration.name)
        if declaration.init is not None:
            self.expr(declaration.init, declaration.type)
        self.scope[declaration.name] = declaration.type

    def statement(self, s: ir.Statement) -> None:
        """Check a statement."""
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
        """Check arguments against parameters."""
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


def text(type_: ir.Type | None) -> str:
    """A type in words, for messages."""
    match type_:
        case None:
            return "nothing"
        case ir.Bits(width=width, signed=signed):
            return f"{'int' if signed else 'bit'}<{width}>"
        case ir.Stack(element=element, size=size):
            return f"{text(element)}[{size}]"
        case ir.Struct(name=name) | ir.Header(name=name) | ir.Union(name=name) | ir.Enum(name=name):
            return name
    return type(type_).__name__.lower()
