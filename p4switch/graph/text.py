"""IR as text that reads like P4."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from p4switch.compiler import ir

_HEX_FROM = 16  # numbers from here on are hexadecimal unless they are small fields


class Words:
    """Writes expressions and statements of one block of a program.

    ``scopes`` are the paths of the block and of the sub-blocks around what is being written: names do not repeat them.
    ``hits`` are the variables that only hold whether a table hit, with the table's name.
    """

    def __init__(self, program: ir.Program, block: str, hits: Mapping[str, str] | None = None):
        self._members = {e.name: e.members for e in program.enums}
        self._errors = program.errors
        self.scopes = [block]
        self._hits = hits or {}

    def short(self, name: str) -> str:
        """A control-plane name without that of the innermost scope that it begins with."""
        return relative(name, self.scopes)

    def constant(self, node: ir.Const) -> str:
        """A number, a member of an enum, an error, true or false."""
        number = node.number
        match node.type:
            case ir.Bool():
                return "true" if number else "false"
            case ir.Error():
                return f"error.{self._errors[number]}"
            case ir.Enum(name=name):
                return f"{name}.{self._members[name][number]}"
            case ir.Bits(width=width, signed=False) if number >= _HEX_FROM and width > 8:
                return f"{number:#x}"
        return str(number)

    def expression(self, node: ir.Expression, nested: bool = False) -> str:
        """An expression; ``nested`` ones get parentheses where they need some."""
        text = self._expression(node)
        return f"({text})" if nested and isinstance(node, ir.Binary | ir.Conditional) else text

    def _expression(self, node: ir.Expression) -> str:
        def inner(part: ir.Expression) -> str:
            return self.expression(part, nested=True)

        match node:
            case ir.Const():
                return self.constant(node)
            case ir.StringConst(value=value):
                return f'"{value}"'
            case ir.Var(name=name):
                return f"{self.short(self._hits[name])}.hit" if name in self._hits else name
            case ir.Member(base=base, field=field):
                return f"{inner(base)}.{field}"
            case ir.Index(base=base, index=index):
                return f"{inner(base)}[{self.expression(index)}]"
            case ir.StackNext(base=base):
                return f"{inner(base)}.next"
            case ir.StackLast(base=base):
                return f"{inner(base)}.last"
            case ir.StackLastIndex(base=base):
                return f"{inner(base)}.lastIndex"
            case ir.StackSize(base=base):
                return f"{inner(base)}.size"
            case ir.Slice(base=base, hi=hi, lo=lo):
                return f"{inner(base)}[{hi}:{lo}]"
            case ir.IsValid(base=base):
                return f"{inner(base)}.isValid()"
            case ir.Unary(op=op, arg=arg):
                return f"{op}{inner(arg)}"
            case ir.Binary(op=op, left=left, right=right):
                return f"{inner(left)} {op} {inner(right)}"
            case ir.Conditional(cond=cond, then=then, otherwise=otherwise):
                return f"{inner(cond)} ? {inner(then)} : {inner(otherwise)}"
            case ir.Cast(type=type_, arg=arg):
                return f"({type_text(type_)}) {inner(arg)}"
            case ir.StructExpr(fields=fields):
                return "{ " + ", ".join(map(self.expression, fields)) + " }"
            case ir.InvalidHeader():
                return "{#}"
            case ir.Lookahead(type=type_):
                return f"packet.lookahead<{type_text(type_)}>()"

    def keyset(self, key: ir.Keyset) -> str:
        """One key of a select case or of a table entry."""
        match key:
            case ir.AnyKey():
                return "_"
            case ir.ValueKey(value=value):
                return self.constant(value)
            case ir.MaskKey(value=value, mask=mask):
                return f"{self.constant(value)} &&& {self.constant(mask)}"
            case ir.RangeKey(lo=lo, hi=hi):
                return f"{self.constant(lo)} .. {self.constant(hi)}"
            case ir.ValueSetKey(value_set=name):
                return self.short(name)

    def keys(self, keys: Sequence[ir.Keyset]) -> str:
        """All keys of a case: ``default`` when everything matches."""
        if all(isinstance(k, ir.AnyKey) for k in keys):
            return "default"
        return ", ".join(map(self.keyset, keys))

    def arguments(self, args: Sequence[ir.Expression]) -> str:
        """Arguments in parentheses."""
        return "(" + ", ".join(map(self.expression, args)) + ")"

    def lines(self, body: Sequence[ir.Statement], indent: str = "") -> Iterator[str]:
        """Statements, one a line, nested ones indented. Declarations without a value say nothing and are left out."""
        deeper = indent + "  "
        for statement in body:
            match statement:
                case ir.Declare(init=None):
                    pass
                case ir.Block(body=inside, back=back):
                    yield from self.lines([*inside, *back], indent)
                case ir.If(cond=cond, then=then, otherwise=otherwise):
                    yield f"{indent}if ({self.expression(cond)})"
                    yield from self.lines(then, deeper)
                    if otherwise:
                        yield f"{indent}else"
                        yield from self.lines(otherwise, deeper)
                case ir.Switch(subject=subject, cases=cases):
                    yield f"{indent}switch ({self.expression(subject)})"
                    for case in cases:
                        yield f"{deeper}{self.case_label(case)}:"
                        yield from self.lines(case.body, deeper + "  ")
                case ir.Loop(cond=cond, body=inside, step=step):
                    yield f"{indent}while ({self.expression(cond)})"
                    yield from self.lines([*inside, *step], deeper)
                case _:
                    yield indent + self.simple(statement)

    def case_label(self, case: ir.Case) -> str:
        """The values of a switch case."""
        return " | ".join([*map(self.constant, case.values), *(["default"] if case.is_default else [])])

    def simple(self, statement: ir.Statement) -> str:
        """A statement without statements in it."""
        e = self.expression
        match statement:
            case ir.Declare(name=name, type=type_, init=init):
                return f"{type_text(type_)} {name}" + (f" = {e(init)}" if init is not None else "")
            case ir.Assign(left=left, right=right):
                return f"{e(left)} = {e(right)}"
            case ir.ApplyTable(table=table):
                return f"{self.short(table)}.apply()"
            case ir.Return(value=value):
                return f"return {e(value)}" if value is not None else "return"
            case ir.LeaveBlock():
                return "return"
            case ir.Exit() | ir.Break() | ir.Continue():
                return type(statement).__name__.lower()
            case ir.SetValid(header=header, valid=valid):
                return f"{e(header)}.set{'Valid' if valid else 'Invalid'}()"
            case ir.StackPush(stack=stack, count=count, pop=pop):
                return f"{e(stack)}.{'pop' if pop else 'push'}_front({count})"
            case ir.CallAction(action=action, args=args):
                return f"{self.short(action)}{self.arguments(args)}"
            case ir.CallFunction(function=function, args=args, result=result):
                return self._result(result) + f"{function}{self.arguments(args)}"
            case ir.CallExtern(name=name, instance=instance, args=args, result=result):
                method = f"{self.short(instance)}.{name}" if instance else name
                return f"{self._result(result)}{method}{self.arguments(args)}"
            case ir.Extract(header=header, varbit_bits=bits):
                return f"extract({e(header)}" + (f", {e(bits)}" if bits is not None else "") + ")"
            case ir.Advance(bits=bits):
                return f"advance({e(bits)})"
            case ir.Verify(cond=cond, error=error):
                return f"verify({e(cond)}, {e(error)})"
            case ir.Emit(value=value):
                return f"emit({e(value)})"
        raise AssertionError(f"{type(statement).__name__} has statements in it")

    def _result(self, result: ir.Var | None) -> str:
        return f"{self.expression(result)} = " if result is not None else ""


def relative(name: str, scopes: Sequence[str]) -> str:
    """A control-plane name as seen from inside ``scopes``, outermost first."""
    within = next((s for s in reversed(scopes) if name.startswith(f"{s}.")), None)
    return name.removeprefix(f"{within}.") if within else name


def type_text(type_: ir.Type) -> str:
    """A type as P4 writes it."""
    match type_:
        case ir.Bits(width=width, signed=signed):
            return f"{'int' if signed else 'bit'}<{width}>"
        case ir.Varbit(max_width=width):
            return f"varbit<{width}>"
        case ir.Stack(element=element, size=size):
            return f"{element.name}[{size}]"
        case ir.Enum(name=name) | ir.Struct(name=name) | ir.Header(name=name) | ir.Union(name=name):
            return name
        case ir.Bool() | ir.Error() | ir.String():
            return type(type_).__name__.lower()


def place(loc: ir.Location | None) -> str | None:
    """``file:line`` without directories, so that drawings do not depend on where the source lies."""
    if loc is None or not loc.line:
        return None
    return f"{loc.file.rsplit('/', 1)[-1]}:{loc.line}"
