"""What all parts of the lowering share: typed values, the unit being lowered, temporaries, type references, conversions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NoReturn

from p4switch.compiler import ast, ir
from p4switch.compiler import types as t
from p4switch.compiler.diagnostics import Diagnostics, Loc
from p4switch.compiler.lexer import MAX_VARBIT, MAX_WIDTH
from p4switch.compiler.scope import ActionSymbol, GenericSymbol, Scope, TypeSymbol, ValueSymbol


@dataclass(slots=True)
class Typed:
    """A value: its type and either a constant, an IR expression, or (lists, struct expressions) items not yet converted.

    ``const`` is an int (numbers, bools as bool, enum and error indices) or str. For an argument that is copied out, ``place`` is
    the direction of its parameter, ``expr`` the l-value, and ``kept`` its value as it was when a later argument's evaluation
    might change it.
    """

    type: t.Type
    expr: ir.Expression | None = None
    const: int | str | None = None
    items: list[Typed] | None = None
    rest: bool = False
    loc: Loc | None = None
    place: str | None = None
    kept: ir.Expression | None = None


@dataclass(slots=True)
class Unit:
    """What owns the variables of the code being lowered: a parser, a control with its actions, an action or a function.

    ``locals`` is where a parser's and a control's own variables go; None where variables are declared in the body.
    """

    kind: str
    block: str
    names: set[str] = field(default_factory=set)
    locals: list[ir.Declare] | None = None
    in_body: bool = True
    result: t.Type | None = None
    return_label: str | None = None
    loops: int = 0

    def unique(self, name: str) -> str:
        """A name not used yet in this unit."""
        candidate, n = name, 0
        while candidate in self.names:
            n += 1
            candidate = f"{name}_{n}"
        self.names.add(candidate)
        return candidate


class LoweringBase:
    """State and helpers."""

    def __init__(self, diagnostics: Diagnostics):
        self.diagnostics = diagnostics
        self.root = Scope()
        self.scope = self.root
        self.tuples = t.TupleNames()
        self.errors: list[str] = []
        self.match_kinds: set[str] = set()
        self.structs: dict[str, t.StructT] = {}
        self.enums: dict[str, ast.EnumDecl] = {}
        self.enum_types: dict[str, t.EnumT] = {}
        self.new_types: dict[str, tuple[ast.TypedefDecl, t.NewT]] = {}
        self.specialised: dict[tuple[int, tuple[t.Type, ...]], t.StructT] = {}
        self.out: list[ir.Statement] = []
        self.unit = Unit("program", "")
        self.here = Loc("", 0, 0)  # the expression or declaration being lowered, for messages
        self.assigning = False  # whether an l-value is being lowered
        self.open_actions: list[ActionSymbol] = []  # whose bodies are being lowered

    # --------------------------------------------------------------------------------------------------------- errors

    def fail(self, loc: Loc, message: str, note: str | None = None) -> NoReturn:
        """Refuse the program."""
        self.diagnostics.fail(loc, message, note)

    @staticmethod
    def location(loc: Loc) -> ir.Location:
        """A place as the IR has it."""
        return ir.Location(file=loc.file, line=loc.line, column=loc.column)

    # ---------------------------------------------------------------------------------------------------- statements

    def emit(self, statement: ir.Statement) -> None:
        """Append to the code being lowered."""
        self.out.append(statement)

    @contextmanager
    def capture(self) -> Iterator[list[ir.Statement]]:
        """Collect what is emitted inside into a list of its own."""
        saved, self.out = self.out, []
        try:
            yield self.out
        finally:
            self.out = saved

    @contextmanager
    def in_scope(self, scope: Scope) -> Iterator[Scope]:
        """Resolve names in this scope inside."""
        saved, self.scope = self.scope, scope
        try:
            yield scope
        finally:
            self.scope = saved

    @contextmanager
    def in_unit(self, unit: Unit) -> Iterator[Unit]:
        """Lower code of this unit inside."""
        saved, self.unit = self.unit, unit
        try:
            yield unit
        finally:
            self.unit = saved

    def new_variable(self, name: str, type_: t.Type, init: Typed | None = None, loc: Loc | None = None) -> ir.Var:
        """A variable of the unit, initialised at this point of the code."""
        unique = self.unit.unique(name)
        ir_type = self.ir_type(type_)
        where = self.location(loc) if loc else None
        value = None if init is None else self.rvalue(init)
        if self.unit.locals is not None:
            self.unit.locals.append(ir.Declare(name=unique, type=ir_type, loc=where))
            variable = ir.Var(type=ir_type, name=unique)
            if value is not None:
                self.emit(ir.Assign(left=variable, right=value, loc=where))
            elif isinstance(ir_type, ir.Header):
                self.emit(ir.SetValid(header=variable, valid=False, loc=where))
            return variable
        self.emit(ir.Declare(name=unique, type=ir_type, init=value, loc=where))
        return ir.Var(type=ir_type, name=unique)

    def temporary(self, value: Typed) -> Typed:
        """The value, evaluated now and kept in a variable."""
        variable = self.new_variable("tmp", value.type, value)
        return Typed(value.type, variable)

    @staticmethod
    def is_stable(value: Typed) -> bool:
        """Whether later statements cannot change it."""
        return value.const is not None or isinstance(value.expr, ir.Const | ir.StringConst)

    # --------------------------------------------------------------------------------------------------------- types

    def ir_type(self, type_: t.Type, loc: Loc | None = None) -> ir.Type:
        """The IR type; refuses types that no value has."""
        try:
            return t.to_ir(type_, self.tuples)
        except ValueError as error:
            self.fail(loc or self.here, str(error))

    def resolve(self, ref: ast.TypeRef) -> t.Type:
        """The type that a type reference means in the current scope."""
        match ref:
            case ast.BaseType(name=name):
                return t.Simple(name)
            case ast.SizedType(name=name, width=width_expr):
                width = self.constant_int(width_expr, "a width")
                smallest = 1 if name == "int" else 0
                largest = MAX_VARBIT if name == "varbit" else MAX_WIDTH
                if not smallest <= width <= largest:
                    self.fail(width_expr.loc, f"{name}<{width}>: the width must be {smallest} to {largest}")
                return t.VarbitT(width) if name == "varbit" else t.BitsT(width, name == "int")
            case ast.StackType(element=element, size=size_expr):
                inner = self.resolve(element)
                size = self.constant_int(size_expr, "the size of a stack or array")
                if not 0 < size <= 1024:
                    self.fail(size_expr.loc, f"a stack or array of {size} elements; 1 to 1024 are possible")
                if isinstance(inner, t.StructT) and inner.kind != "struct":
                    return t.StackT(inner, size)
                base = t.strip(inner)
                if not isinstance(base, t.BitsT | t.EnumT | t.StructT | t.TupleT) and base not in (t.BOOL, t.ERROR):
                    self.fail(element.loc, f"a stack or array of {inner} is not possible")
                return t.TupleT((inner,) * size, array=True)
            case ast.TupleType(args=args, list_of=True):
                if len(args) != 1:
                    self.fail(ref.loc, f"list takes 1 type argument, {len(args)} given")
                return t.ListT(self.resolve(args[0]))
            case ast.TupleType(args=args):
                return t.TupleT(tuple(self.resolve(a) for a in args))
            case ast.NamedType():
                return self.resolve_named(ref)
        raise AssertionError(ref)

    def resolve_named(self, ref: ast.NamedType) -> t.Type:
        """A type by name."""
        symbol = (self.root if ref.absolute else self.scope).lookup(ref.name)
        if isinstance(symbol, TypeSymbol):
            if ref.args:
                self.fail(ref.loc, f"{ref.name} takes no type arguments")
            return symbol.type
        if isinstance(symbol, GenericSymbol):
            args = tuple(self.resolve(a) for a in ref.args)
            declaration = symbol.declaration
            if isinstance(declaration, ast.CompositeDecl):
                return self.specialise(symbol, args, ref.loc)
            if isinstance(declaration, ast.ExternDecl):
                return t.ExternT(ref.name, args)
            return t.Opaque(type(declaration).__name__.removesuffix("Decl").lower(), ref.name)
        self.fail(ref.loc, f"unknown type '{ref.name}'{self.scope.suggestion(ref.name)}")

    def specialise(self, symbol: GenericSymbol, args: tuple[t.Type, ...], loc: Loc) -> t.StructT:
        """A generic struct, header or union with these type arguments."""
        declaration = symbol.declaration
        assert isinstance(declaration, ast.CompositeDecl)
        if len(args) != len(declaration.type_params):
            self.fail(loc, f"{declaration.name} takes {len(declaration.type_params)} type arguments, {len(args)} given")
        known = self.specialised.get((id(declaration), args))
        if known:
            return known
        name, n = declaration.name, 0
        while name in self.structs:
            n += 1
            name = f"{declaration.name}_{n}"
        struct = t.StructT(name, declaration.kind, declaration=declaration, generic_name=declaration.name, args=args)
        self.specialised[id(declaration), args] = struct
        self.structs[name] = struct
        scope = symbol.scope.child()
        for parameter, argument in zip(declaration.type_params, args, strict=True):
            scope.names[parameter] = TypeSymbol(argument)
        with self.in_scope(scope):
            seen: set[str] = set()
            for f in declaration.fields:
                if f.name in seen:
                    self.fail(f.loc, f"field '{f.name}' is declared twice in {declaration.name}")
                seen.add(f.name)
                struct.fields.append((f.name, self.field_type(declaration, f)))
        return struct

    def field_type(self, owner: ast.CompositeDecl, f: ast.FieldDecl) -> t.Type:
        """The type of a field, checked against what its owner may hold (specification, sections 7.2.2 to 7.2.4)."""
        type_ = self.resolve(f.type)
        base = t.strip(type_)
        if owner.kind == "header_union" and not t.is_header(base):
            self.fail(f.loc, f"a header union holds headers; '{f.name}' is {type_}")
        if owner.kind == "header":
            plain = isinstance(base, t.BitsT | t.VarbitT) or base == t.BOOL
            nested = isinstance(base, t.StructT) and base.kind == "struct"
            nested = nested or (isinstance(base, t.TupleT) and base.array)
            if not plain and not nested:
                self.fail(
                    f.loc,
                    f"a header field of type {type_} is not possible; bits, bools, varbits and structs of them are",
                )
        if base in (t.STRING, t.MATCH_KIND, t.VOID):
            self.fail(f.loc, f"field '{f.name}' cannot be a {type_}")
        if owner.kind == "struct" and base == t.INT:
            self.fail(f.loc, f"field '{f.name}' needs a width: {type_} has none")
        return type_

    def notes(self, annotations: Iterable[ast.Annotation]) -> list[ir.Annotation]:
        """Annotations as the IR keeps them: structured ones with the values of their expressions."""
        result = []
        for a in annotations:
            note = ir.Annotation(name=a.name, body=a.body)
            if a.pairs:
                note.values = {key: self.annotation_value(expr) for key, expr in a.pairs}
            elif a.structured:
                note.values = [self.annotation_value(expr) for expr in a.expressions]
            result.append(note)
        return result

    def annotation_value(self, expr: ast.Expr) -> str | bool | int:
        """An expression of a structured annotation: a compile-time string, bool or integer."""
        value = self.expression(expr)
        if value.const is None:
            self.fail(expr.loc, "a structured annotation holds compile-time strings, bools and integers")
        return bool(value.const) if value.type == t.BOOL else value.const

    # ---------------------------------------------------------------------------------------------------- conversion

    def constant_int(self, expr: ast.Expr, what: str) -> int:
        """A compile-time integer."""
        value = self.expression(expr)
        if value.const is None or isinstance(value.const, str) or value.type == t.BOOL:
            self.fail(expr.loc, f"{what} must be a compile-time constant integer")
        return value.const

    def check_size(self, size: int, loc: Loc, what: str) -> int:
        """A number of entries or cells, as it is; fails where no switch could have them."""
        if not 0 <= size <= ir.MAX_SIZE:
            self.fail(loc, f"{what} is {size}: expected 0 to {ir.MAX_SIZE}")
        return size

    def constant(self, type_: t.Type, value: int | str) -> Typed:
        """A constant, wrapped to the range of its type."""
        base = t.strip(type_)
        if isinstance(base, t.BitsT) and isinstance(value, int):
            value &= (1 << base.width) - 1
            if base.signed and value >> (base.width - 1):
                value -= 1 << base.width
        return Typed(type_, const=value)

    def coerce(self, value: Typed, target: t.Type, loc: Loc) -> Typed:
        """The value as this type by implicit conversion (specification, section 8.11.2), or an error."""
        if value.type == target or target == t.DONT_CARE:
            return value
        base = t.strip(target)
        if value.type == t.INT and isinstance(base, t.BitsT) and isinstance(target, t.BitsT | t.NewT):
            assert isinstance(value.const, int)
            self.check_fits(value.const, base, loc)
            return self.constant(target, value.const)
        if target == t.INT and isinstance(value.type, t.BitsT) and isinstance(value.const, int):
            return Typed(t.INT, const=value.const)
        if isinstance(value.type, t.EnumT) and value.type.base == target:
            return Typed(target, value.expr, value.const)
        if isinstance(value.type, t.DefaultT):
            return self.default_value(target, loc)
        if isinstance(value.type, t.InvalidT):
            if isinstance(base, t.StackT) or (isinstance(base, t.StructT) and base.kind != "struct"):
                return Typed(target, ir.InvalidHeader(type=self.ir_type(target)))
            self.fail(loc, f"{{#}} is an invalid header, {target} is not a header")
        if value.items is not None and isinstance(base, t.StructT | t.TupleT | t.StackT):
            return self.coerce_items(value, target, loc)
        self.fail(loc, f"expected {target}, found {value.type}")

    def coerce_items(self, value: Typed, target: t.Type, loc: Loc) -> Typed:
        """A list or struct expression as a struct, header or tuple."""
        base = t.strip(target)
        items = value.items or []
        if isinstance(base, t.StackT):
            return self.stack_of(items, value.rest, base, target, loc)
        if isinstance(base, t.StructT) and base.kind == "header_union":
            self.fail(loc, "a list expression for a header union is not supported; assign to its member")
        if isinstance(base, t.StructT):
            wanted = base.fields
        else:
            assert isinstance(base, t.TupleT)
            wanted = [(f"f{i}", x) for i, x in enumerate(base.items)]
        by_name: dict[str, Typed]
        if isinstance(value.type, t.RecordT):
            names = [n for n, _ in value.type.fields]
            unknown = [n for n in names if n not in {w for w, _ in wanted}]
            if unknown:
                self.fail(loc, f"{target} has no field '{unknown[0]}'; it has {', '.join(n for n, _ in wanted)}")
            by_name = dict(zip(names, items, strict=True))
        else:
            if len(items) > len(wanted) or (len(items) < len(wanted) and not value.rest):
                self.fail(loc, f"{target} has {len(wanted)} fields, {len(items)} values given")
            by_name = {n: item for (n, _), item in zip(wanted, items, strict=False)}
        missing = [n for n, _ in wanted if n not in by_name]
        if missing and not value.rest:
            self.fail(loc, f"no value for field '{missing[0]}' of {target}")
        fields = []
        for name, type_ in wanted:
            item = by_name.get(name)
            converted = self.default_value(type_, loc) if item is None else self.coerce(item, type_, item.loc or loc)
            fields.append(self.rvalue(converted))
        return Typed(target, ir.StructExpr(type=self.ir_type(target), fields=fields))

    def stack_of(self, items: list[Typed], rest: bool, stack: t.StackT, target: t.Type, loc: Loc) -> Typed:
        """A list expression as a header stack: its elements are assigned one by one to a variable."""
        if len(items) > stack.size or (len(items) < stack.size and not rest):
            self.fail(loc, f"{target} has {stack.size} elements, {len(items)} values given")
        missing = [self.default_value(stack.element, loc) for _ in range(stack.size - len(items))]
        values = [self.coerce(item, stack.element, item.loc or loc) for item in items]
        variable = self.new_variable("stack", target)
        element = self.ir_type(stack.element)
        for position, value in enumerate([*values, *missing]):
            index = ir.Const(type=ir.Bits(width=32), value=str(position))
            left = ir.Index(type=element, base=variable, index=index)
            self.emit(ir.Assign(left=left, right=self.rvalue(value), loc=self.location(loc)))
        return Typed(target, variable)

    def default_value(self, type_: t.Type, loc: Loc) -> Typed:
        """The default of a type, which ``...`` stands for (specification, section 7.3)."""
        base = t.strip(type_)
        if isinstance(base, t.BitsT) or base in (t.BOOL, t.ERROR) or isinstance(base, t.EnumT):
            return Typed(type_, const=0)
        if isinstance(base, t.StackT) or (isinstance(base, t.StructT) and base.kind != "struct"):
            return Typed(type_, ir.InvalidHeader(type=self.ir_type(type_)))
        if isinstance(base, t.StructT | t.TupleT):
            types = [x for _, x in base.fields] if isinstance(base, t.StructT) else list(base.items)
            fields = [self.rvalue(self.default_value(x, loc)) for x in types]
            return Typed(type_, ir.StructExpr(type=self.ir_type(type_), fields=fields))
        self.fail(loc, f"{type_} has no default value")

    def check_fits(self, value: int, target: t.BitsT, loc: Loc) -> None:
        """Warn about a literal that does not fit."""
        if target.signed:
            fits = -(1 << (target.width - 1)) <= value < 1 << (target.width - 1)
        else:
            fits = 0 <= value < 1 << target.width
        if not fits:
            kind = "mismatch" if value < 0 else "overflow"
            self.diagnostics.warn(loc, f"{value} does not fit into {target}; it is truncated", kind)

    def rvalue(self, value: Typed) -> ir.Expression:
        """The value as an IR expression."""
        if value.const is not None:
            if isinstance(value.const, str):
                return ir.StringConst(value=value.const)
            if value.type == t.INT:
                self.fail(
                    value.loc or Loc("", 0, 0), f"the integer {value.const} needs a width here, as in 32w{value.const}"
                )
            return ir.Const(type=self.ir_type(value.type), value=str(int(value.const)))
        if value.items is not None and value.expr is None:
            if isinstance(value.type, t.RecordT):
                target: t.Type = t.TupleT(tuple(x for _, x in value.type.fields))
                value = Typed(target, items=value.items)
            return self.rvalue(self.coerce_items(value, value.type, value.loc or Loc("", 0, 0)))
        if value.expr is None:
            self.fail(value.loc or self.here, f"expected a value, found {value.type}")
        return value.expr

    # ------------------------------------------------------------------------------------------------- implemented elsewhere

    def expression(self, expr: ast.Expr) -> Typed:
        """Lower an expression."""
        raise NotImplementedError

    def value_symbol(self, name: str, type_: t.Type, expr: ir.Expression, writable: bool = True) -> ValueSymbol:
        """Bind a name to an l-value in the current scope."""
        symbol = ValueSymbol(type_, expr, writable=writable)
        self.scope.names[name] = symbol
        return symbol
