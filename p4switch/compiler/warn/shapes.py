"""Types as the flow analysis sees them: the leaves, headers and stacks of a value, and which type an expression has."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from p4switch.compiler import ast
from p4switch.compiler.warn.names import LoopVar, Names, TypeParam

Step = str | int
Path = tuple[Step, ...]

_COMPARISONS = ("==", "!=", "<", ">", "<=", ">=")
MAX_LEAVES = 4096  # a value of more leaves is followed as one


@dataclass(frozen=True, eq=False)
class Shape:
    """A value without parts, or one whose parts are not followed. The paths to parts are computed once."""

    @cached_property
    def leaves(self) -> tuple[Path, ...]:
        """The paths to all parts that have none themselves."""
        return ((),)

    @cached_property
    def headers(self) -> tuple[Path, ...]:
        """The paths to all headers, those of unions as well."""
        return ()

    @cached_property
    def plain_leaves(self) -> tuple[Path, ...]:
        """The leaves that do not lie in a header."""
        return ((),)

    def count(self) -> int:
        """How many leaves there are."""
        return 1


@dataclass(frozen=True, eq=False)
class Record(Shape):
    """A struct, header or header union."""

    kind: Literal["struct", "header", "header_union"]
    fields: dict[str, Shape]

    @cached_property
    def leaves(self) -> tuple[Path, ...]:
        """Those of the parts."""
        return tuple((name, *path) for name, part in self.fields.items() for path in part.leaves)

    @cached_property
    def headers(self) -> tuple[Path, ...]:
        """Those of the parts."""
        if self.kind == "header":
            return ((),)
        return tuple((name, *path) for name, part in self.fields.items() for path in part.headers)

    @cached_property
    def plain_leaves(self) -> tuple[Path, ...]:
        """Those of the parts; none in headers."""
        if self.kind != "struct":
            return ()
        return tuple((name, *path) for name, part in self.fields.items() for path in part.plain_leaves)

    def count(self) -> int:
        """Those of all parts."""
        return sum(part.count() for part in self.fields.values())


@dataclass(frozen=True, eq=False)
class Stack(Shape):
    """A header stack, or a stack of header unions."""

    element: Shape
    size: int

    @cached_property
    def leaves(self) -> tuple[Path, ...]:
        """Those of the parts."""
        return tuple((index, *path) for index in range(self.size) for path in self.element.leaves)

    @cached_property
    def headers(self) -> tuple[Path, ...]:
        """Those of the parts."""
        return tuple((index, *path) for index in range(self.size) for path in self.element.headers)

    @cached_property
    def plain_leaves(self) -> tuple[Path, ...]:
        """Those of the parts; none in headers."""
        return ()

    def count(self) -> int:
        """Those of all parts."""
        return self.size * self.element.count()


SCALAR = Shape()


class Shapes:
    """Shapes of types and of expressions."""

    def __init__(self, names: Names):
        self.names = names
        self._known: dict[int, Shape] = {}

    def of_type(self, ref: ast.TypeRef | None, bound: dict[int, Shape] | None = None) -> Shape:
        """The shape of a type; ``bound`` gives those of type parameters."""
        if isinstance(ref, ast.StackType):
            size = self.constant(ref.size)
            element = self.of_type(ref.element, bound)
            if not isinstance(size, int) or size < 1 or size * element.count() > MAX_LEAVES:
                return SCALAR
            return Stack(element, size)
        if not isinstance(ref, ast.NamedType):
            return SCALAR
        declaration = self.names.of(ref)
        match declaration:
            case ast.TypedefDecl(type=type_):
                return self.of_type(type_)
            case TypeParam():
                return (bound or {}).get(id(declaration), SCALAR)
            case ast.CompositeDecl() if not ref.args:
                return self._composite(declaration)
        return SCALAR

    def _composite(self, declaration: ast.CompositeDecl) -> Shape:
        known = self._known.get(id(declaration))
        if known is None:
            self._known[id(declaration)] = SCALAR  # a type within itself is refused elsewhere
            fields = {f.name: self.of_type(f.type) for f in declaration.fields}
            known = Record(declaration.kind, fields)
            if known.count() > MAX_LEAVES:
                known = SCALAR
            self._known[id(declaration)] = known
        return known

    def of_declaration(self, declaration: ast.Declaration | None) -> Shape:
        """The shape of a variable, parameter or constant."""
        if isinstance(declaration, ast.VarDecl | ast.ParamDecl | ast.ConstDecl | LoopVar):
            return self.of_type(declaration.type)
        return SCALAR

    def of(self, expr: ast.Expr | None) -> Shape:
        """The shape of an expression's value; what is not known is a scalar."""
        match expr:
            case ast.Name():
                return self.of_declaration(self.names.of(expr))
            case ast.Dot(base=base, member=member):
                shape = self.of(base)
                if isinstance(shape, Record):
                    return shape.fields.get(member, SCALAR)
                if isinstance(shape, Stack) and member in ("next", "last"):
                    return shape.element
            case ast.IndexExpr(base=base):
                shape = self.of(base)
                if isinstance(shape, Stack):
                    return shape.element
            case ast.Ternary(then=then):
                return self.of(then)
            case ast.CastExpr(type=type_):
                return self.of_type(type_)
            case ast.Call(function=ast.Dot(member="lookahead"), type_args=[type_]):
                return self.of_type(type_)
            case ast.Call(function=ast.Name() as name):
                function = self.names.of(name)
                if isinstance(function, ast.FunctionDecl):
                    return self.of_type(function.result)
        return SCALAR

    def constant(self, expr: ast.Expr | None) -> int | bool | None:
        """The value of a compile-time constant; None where it is not one, or its value depends on a width."""
        match expr:
            case ast.Number(value=number):
                return number
            case ast.Boolean(value=truth):
                return truth
            case ast.Name():
                declaration = self.names.of(expr)
                return self.constant(declaration.value) if isinstance(declaration, ast.ConstDecl) else None
            case ast.CastExpr(type=ast.SizedType(name="bit", width=width_expr), arg=arg):
                value, width = self.constant(arg), self.constant(width_expr)
                if isinstance(value, int) and isinstance(width, int) and 0 <= width < 4096:
                    return value & ((1 << width) - 1)
            case ast.UnaryExpr(op="!", arg=arg):
                negated = self.constant(arg)
                return not negated if isinstance(negated, bool) else None
            case ast.BinaryExpr(op=op, left=left, right=right):
                if op in _COMPARISONS and (isinstance(left, ast.BinaryExpr) or isinstance(right, ast.BinaryExpr)):
                    return None  # what is compared may have wrapped around
                return self._binary(op, self.constant(left), self.constant(right))
        return None

    def _binary(self, op: str, left: int | bool | None, right: int | bool | None) -> int | bool | None:
        if op in ("&&", "||") and (isinstance(left, bool) or isinstance(right, bool)):
            decides = op == "||"
            if left is decides or right is decides:
                return decides
            return (left and right) if op == "&&" else (left or right)
        if left is None or right is None:
            return None
        match op:
            case "==":
                return left == right
            case "!=":
                return left != right
            case "<":
                return left < right
            case ">":
                return left > right
            case "<=":
                return left <= right
            case ">=":
                return left >= right
            case "+" if abs(left + right) < 1 << 16:  # sums of sizes; anything else may wrap
                return left + right
            case "-" if left >= right:
                return left - right
            case "*" if abs(left) < 1 << 16 and abs(right) < 1 << 16:
                return left * right
        return None
