"""Controls: instances, inlining at their apply sites, actions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, cast

from p4switch.compiler import ast, ir
from p4switch.compiler import notes as note_text
from p4switch.compiler import types as t
from p4switch.compiler.diagnostics import Loc
from p4switch.compiler.lower_base import Typed, Unit
from p4switch.compiler.lower_calls import CHECKSUM16, EXTERN_KINDS
from p4switch.compiler.lower_tables import TableLowering
from p4switch.compiler.scope import (
    ActionSymbol,
    ExternSymbol,
    GenericSymbol,
    InstanceSymbol,
    PacketSymbol,
    Scope,
    Symbol,
    TableSymbol,
    TypeSymbol,
    ValueSetSymbol,
    ValueSymbol,
)


@dataclass(slots=True)
class Elaborated:
    """An instance whose declarations have been lowered: the scope its body is lowered in, and how its parameters are bound."""

    scope: Scope
    params: list[tuple[ast.ParamDecl, t.Type, ir.Expression | None]]
    resets: list[ir.Statement] = field(default_factory=list)
    own: set[str] = field(default_factory=set)  # variables made for parameters


class ShareConflict(Exception):
    """An instance is applied with different arguments: its parameters cannot stand for the caller's variables."""

    def __init__(self, path: str):
        self.path = path
        super().__init__(path)


class ControlLowering(TableLowering):
    """Rules for controls and instances."""

    unused_too: bool  # whether what nothing uses is lowered as well, for its errors
    unused: bool  # whether there is such
    elaborated_blocks: set[int]  # controls and parsers that have been lowered, by identity of their declarations
    by_copy: set[str]  # paths of instances whose parameters are variables of their own
    controls: dict[str, ir.Control]

    # -------------------------------------------------------------------------------------------------------- instances

    def instantiate(self, item: ast.Instantiation, prefix: str) -> None:
        """``type(args) name;`` in a control, a parser or at the top level."""
        if item.name in self.scope.names:
            self.fail(item.loc, f"'{item.name}' is declared twice")
        path = self.control_path(prefix, item.name, item.annotations)
        self.scope.names[item.name] = self.instance(item.type, item.args, path, item.loc, item.annotations)

    def instance(
        self,
        ref: ast.TypeRef,
        args: Sequence[ast.Argument],
        path: str,
        loc: Loc,
        notes: Sequence[ast.Annotation] = (),
    ) -> Symbol:
        """An instance of an extern, a control or a parser."""
        if not isinstance(ref, ast.NamedType):
            self.fail(loc, "only externs, controls, parsers and packages have instances")
        symbol = (self.root if ref.absolute else self.scope).lookup(ref.name)
        type_args: tuple[t.Type, ...] | None = None
        if isinstance(symbol, TypeSymbol) and isinstance(symbol.type, t.ExternT):  # typedef register<bit<8>> R;
            type_args = symbol.type.args
            symbol = self.root.lookup(symbol.type.name)
        if not isinstance(symbol, GenericSymbol):
            self.fail(ref.loc, f"'{ref.name}' has no instances")
        declaration = symbol.declaration
        if isinstance(declaration, ast.ExternDecl):
            by_typedef = type_args is not None
            if type_args is None:
                type_args = tuple(self.resolve(a) for a in ref.args)
            made = self.extern_instance(declaration, type_args, args, path, loc, notes)
            if by_typedef and made.name in self.externs:
                # p4c's P4Info lacks instances whose type goes by a typedef; a P4Info from there must fit this program.
                self.externs[made.name].annotations.append(ir.Annotation(name="hidden"))
            return made
        if isinstance(declaration, ast.ControlDecl | ast.ParserDecl):
            return self.block_instance(symbol, declaration, ref, args, path, loc)
        self.fail(ref.loc, f"'{ref.name}' cannot be instantiated here")

    def block_instance(
        self,
        symbol: GenericSymbol,
        declaration: ast.ControlDecl | ast.ParserDecl,
        ref: ast.NamedType,
        args: Sequence[ast.Argument],
        path: str,
        loc: Loc,
    ) -> InstanceSymbol:
        """An instance of a control or parser with its constructor arguments."""
        body = declaration.body if isinstance(declaration, ast.ControlDecl) else declaration.states
        if body is None:
            self.fail(ref.loc, f"'{ref.name}' is only a type: it has no body")
        if any(declaration is x for x in self.within):
            self.fail(ref.loc, f"'{ref.name}' is used inside itself: P4 has no recursion")
        scope = symbol.scope.child()
        if ref.args and len(ref.args) != len(declaration.type_params):
            self.fail(ref.loc, f"{ref.name} takes {len(declaration.type_params)} type arguments, {len(ref.args)} given")
        for name, type_ref in zip(declaration.type_params, ref.args, strict=False):
            scope.names[name] = TypeSymbol(self.resolve(type_ref))
        pairs = self.bind(declaration.constructor_params, args, loc, declaration.name)
        for parameter, argument in pairs:
            value = argument.value if argument is not None else parameter.default
            if value is None:
                self.fail(loc, f"constructor parameter '{parameter.name}' needs a value")
            if isinstance(value, ast.Name) and not isinstance(self.scope.lookup(value.name), ValueSymbol | None):
                bound = self.scope.lookup(value.name)
                assert bound is not None
                scope.names[parameter.name] = bound
                continue
            if isinstance(value, ast.Call) and isinstance(value.function, ast.TypeExpr):
                inner = self.control_path(path, parameter.name, [])
                scope.names[parameter.name] = self.instance(value.function.type, value.args, inner, value.loc)
                continue
            constant = self.expression(value)
            with self.in_scope(scope):
                type_ = self.resolve(parameter.type)
            constant = self.coerce(constant, type_, value.loc)
            if constant.const is None:
                self.fail(value.loc, f"constructor argument '{parameter.name}' must be a compile-time constant")
            scope.names[parameter.name] = ValueSymbol(type_, None, const=constant, writable=False)
        return InstanceSymbol(declaration, scope, [], path)

    def extern_instance(
        self,
        declaration: ast.ExternDecl,
        type_args: tuple[t.Type, ...],
        args: Sequence[ast.Argument],
        path: str,
        loc: Loc,
        notes: Sequence[ast.Annotation],
    ) -> ExternSymbol:
        """An instance of a v1model extern, or of one of the program's own (see :meth:`call_foreign`)."""
        kind = declaration.name
        if kind not in EXTERN_KINDS:
            if kind != CHECKSUM16:
                self.diagnostics.warn(
                    loc,
                    f"extern '{kind}' is none of v1model's: the program compiles, no switch runs it",
                    "foreign-extern",
                )
            return ExternSymbol(path, t.ExternT(kind, type_args), declaration)
        constructors = [m for m in declaration.methods if m.name == declaration.name]
        constructor = self.choose(constructors, args, loc)
        values = {p.name: self._constructor_value(p, a, loc) for p, a in self.bind(constructor.params, args, loc, kind)}
        if len(type_args) != len(declaration.type_params):
            wanted = len(declaration.type_params)
            note = "since V1MODEL_VERSION 20200408 v1model's externs have the type of their index as a parameter"
            self.fail(loc, f"{kind} takes {wanted} type arguments, {len(type_args)} given", note)
        extern = ir.Extern(name=path, kind=kind, annotations=self.notes(notes))  # type: ignore[arg-type]
        size = values.get("size")
        if size is not None:
            extern.size = self.check_size(int(size.const or 0), size.loc or loc, f"the size of a {kind}")
        if "type" in values:
            extern.unit = _unit(values["type"])
        if kind == "register":
            if not _fixed_size(type_args[0]):
                self.fail(loc, f"a register of {type_args[0]}; bits, bools, enums and structs of them are possible")
            extern.type, extern.type_name = self.ir_type(type_args[0]), t.type_name(type_args[0])
        index_position = 1 if kind == "register" else 0
        if kind in ("register", "counter", "meter") and len(type_args) > index_position:
            extern.index_type_name = t.type_name(type_args[index_position])
        if kind == "action_selector":
            algorithm = values["algorithm"]
            assert isinstance(algorithm.type, t.EnumT) and isinstance(algorithm.const, int)
            extern.algorithm = algorithm.type.members[algorithm.const]
            extern.width = int(values["outputWidth"].const or 0)
        if self.extern_scopes.setdefault(path, self.scope) is not self.scope:
            note = "give each a name of its own with @name"
            self.fail(loc, f"another instance is '{path}' to the control plane", note)
        self.externs[path] = extern
        return ExternSymbol(path, t.ExternT(kind, type_args), declaration)

    def _constructor_value(self, parameter: ast.ParamDecl, argument: ast.Argument | None, loc: Loc) -> Typed:
        expr = argument.value if argument is not None else parameter.default
        if expr is None:
            self.fail(loc, f"constructor parameter '{parameter.name}' needs a value")
        with self.in_scope(self.root):
            type_ = self.resolve(parameter.type)
        value = self.coerce(self.expression(expr), type_, expr.loc)
        if value.const is None:
            self.fail(expr.loc, f"constructor argument '{parameter.name}' must be a compile-time constant")
        return value

    def control_path(self, prefix: str, name: str, notes: Sequence[ast.Annotation]) -> str:
        """The control-plane name: ``@name`` replaces the last part, or with a leading dot all of it."""
        own = note_text.name_of(notes) or name
        if own.startswith("."):
            return own[1:]
        return f"{prefix}.{own}" if prefix else own

    # ------------------------------------------------------------------------------------------------------ elaboration

    def declare_locals(self, locals_: Sequence[ast.Declaration], path: str, resets: list[ir.Statement]) -> None:
        """Declarations of a control or parser, in the current scope. Variables' initial values go to ``resets``."""
        for item in locals_:
            if item.name in self.scope.names:
                self.fail(item.loc, f"'{item.name}' is declared twice")
            self.scope.positions[item.name] = item.loc.offset
            match item:
                case ast.ConstDecl():
                    self.declare_constant(item)
                case ast.VarDecl():
                    with self.capture() as init:
                        self.local_declaration(item)
                    resets.extend(init)
                case ast.Instantiation():
                    self.instantiate(item, path)
                case ast.ActionDecl():
                    name = self.control_path(path, item.name, item.annotations)
                    self.scope.names[item.name] = ActionSymbol(item, self.scope, name)
                case ast.TableDecl():
                    name = self.control_path(path, item.name, item.annotations)
                    self.scope.names[item.name] = TableSymbol(item, self.scope, name)
                case ast.ValueSetDecl():
                    name = self.control_path(path, item.name, item.annotations)
                    self.scope.names[item.name] = ValueSetSymbol(item, name, self.resolve(item.type))
                case _:
                    self.fail(item.loc, f"a {type(item).__name__} is not possible here")

    def apply_type(self, base: ast.TypeExpr, expr: ast.Call) -> Typed:
        """``C.apply(...)``: each such call is an instance of its own, named like its type."""
        ref = base.type
        if not isinstance(ref, ast.NamedType):
            self.fail(expr.loc, "only controls and parsers can be applied")
        key = id(expr)
        if key not in self.direct_instances:
            path = self.control_path(self.current_path, ref.name, [])
            while path in self.direct_paths:
                path += "_0"
            self.direct_paths.add(path)
            symbol = self.instance(ref, [], path, expr.loc)
            if not isinstance(symbol, InstanceSymbol):
                self.fail(expr.loc, f"'{ref.name}' cannot be applied")
            self.direct_instances[key] = symbol
        self.apply_instance(self.direct_instances[key], expr)
        return Typed(t.VOID)

    def apply_instance(self, symbol: InstanceSymbol, expr: ast.Call) -> None:
        """Inline a control at this place."""
        declaration = symbol.declaration
        if isinstance(declaration, ast.ParserDecl):
            self.fail(expr.loc, "a parser can be applied only in a parser state")
        if self.unit.kind != "control":
            self.fail(expr.loc, "a control can be applied only in the body of a control")
        assert declaration.body is not None
        args = self.block_arguments(symbol, expr)
        self.within.append(declaration)
        elaborated, back = self.bind_block(symbol, args, expr.loc)
        label = self.unit.unique("end_" + declaration.name)
        self.active.append(symbol.path)
        saved_label, saved_path = self.unit.return_label, self.current_path
        self.unit.return_label, self.current_path = label, symbol.path
        with self.in_scope(elaborated.scope), self.capture() as body:
            self.out.extend(elaborated.resets)
            self.block(declaration.body)
            self.rest_of_control()
        self.unit.return_label, self.current_path = saved_label, saved_path
        self.active.pop()
        self.within.pop()
        self.emit(ir.Block(body=body, label=label, instance=symbol.path, back=back, loc=self.location(expr.loc)))

    def block_arguments(
        self, symbol: InstanceSymbol, expr: ast.Call
    ) -> list[tuple[ast.ParamDecl, t.Type, Typed | Symbol | None]]:
        """Arguments of an apply: values, l-values, or packets and extern instances."""
        declaration = symbol.declaration
        pairs = self.bind(declaration.params, expr.args, expr.loc, declaration.name)
        special: dict[str, Symbol] = {}
        thunks, ordinary = [], []
        for parameter, argument in pairs:
            value = argument.value if argument is not None else None
            if isinstance(value, ast.Name):
                found = self.scope.lookup(value.name)
                if isinstance(found, PacketSymbol | ExternSymbol):
                    special[parameter.name] = found
                    continue
            ordinary.append(parameter)
            thunks.append(self._argument_thunk(parameter, argument, symbol.scope))
        values = dict(zip([p.name for p in ordinary], self.in_order(thunks), strict=True))
        bindings: dict[str, t.Type] = {}
        patterns = symbol.scope.child()
        unbound = [n for n in declaration.type_params if n not in symbol.scope.names]
        for name in unbound:
            patterns.names[name] = TypeSymbol(t.TypeVar(name))
        for parameter in ordinary:
            with self.in_scope(patterns):
                self.infer(self.resolve(parameter.type), values[parameter.name], bindings, expr.loc)
        for name in unbound:
            symbol.scope.names[name] = TypeSymbol(bindings.get(name, t.VOID))
        result: list[tuple[ast.ParamDecl, t.Type, Typed | Symbol | None]] = []
        for parameter, _ in pairs:
            if parameter.name in special:
                result.append((parameter, t.VOID, special[parameter.name]))
                continue
            with self.in_scope(symbol.scope):
                type_ = self.resolve(parameter.type)
            given = values[parameter.name]
            if type_ == t.INT:  # a compile-time argument: the block is elaborated with its value
                if given.const is None:
                    self.fail(expr.loc, f"parameter '{parameter.name}' is an int: its argument must be a constant")
                result.append((parameter, t.VOID, ValueSymbol(t.INT, None, const=given, writable=False)))
            elif given.type == t.DONT_CARE:
                if parameter.direction != "out":
                    self.fail(expr.loc, f"parameter '{parameter.name}' of {declaration.name} needs a value here")
                result.append((parameter, type_, None))
            elif parameter.direction in ("out", "inout"):
                if given.type != type_:
                    self.fail(expr.loc, f"parameter '{parameter.name}' is {type_}, found {given.type}")
                result.append((parameter, type_, given))
            else:
                result.append((parameter, type_, self.coerce(given, type_, expr.loc)))
        return result

    def bind_block(
        self, symbol: InstanceSymbol, args: list[tuple[ast.ParamDecl, t.Type, Typed | Symbol | None]], loc: Loc
    ) -> tuple[Elaborated, list[ir.Assign]]:
        """Bind parameters to the caller's variables where nothing can tell the difference, else to variables of their own.

        Returns the instance, elaborated once, and the copies back that follow its body.
        """
        lvalues = [
            v.expr
            for p, _, v in args
            if isinstance(v, Typed) and p.direction in ("out", "inout") and v.expr is not None
        ]
        shared: list[ir.Expression | None] = []
        for parameter, _, value in args:
            alias = None
            if isinstance(value, Typed) and value.expr is not None and symbol.path not in self.by_copy:
                others = sum(self.overlaps(value.expr, x) for x in lvalues)
                fixed = isinstance(value.expr, ir.Var | ir.Member) and "*" not in self._path(value.expr)
                if parameter.direction in ("out", "inout") and others == 1 and fixed and value.kept is None:
                    alias = value.expr
            shared.append(alias)
        if symbol.elaborated is None:
            symbol.elaborated = self.elaborate(symbol, args, shared)
        elaborated = symbol.elaborated
        assert isinstance(elaborated, Elaborated)
        back: list[ir.Assign] = []
        reset: list[tuple[ir.Expression, t.Type]] = []
        for (parameter, type_, value), (_, _, target), alias in zip(args, elaborated.params, shared, strict=True):
            if isinstance(value, Symbol):
                bound = elaborated.scope.lookup(parameter.name)
                if isinstance(value, ValueSymbol) and value != bound:
                    self.fail(loc, f"'{parameter.name}' had another value where this instance was applied before")
                continue
            own = isinstance(target, ir.Var) and target.name in elaborated.own
            if alias is not None or not own:
                if target != alias:
                    raise ShareConflict(symbol.path)
                if parameter.direction == "out" and alias is not None:
                    reset.append((alias, type_))
                continue
            assert target is not None
            if parameter.direction in ("", "in", "inout"):
                assert value is not None
                self.emit(ir.Assign(left=target, right=value.kept or self.rvalue(value)))
            else:
                reset.append((target, type_))
            if parameter.direction in ("out", "inout") and value is not None:
                assert value.expr is not None
                back.append(ir.Assign(left=value.expr, right=target))
        for variable, type_ in reset:  # after all arguments have been evaluated
            if isinstance(t.strip(type_), t.StructT | t.StackT):
                self.reset(variable, type_, loc)
        return elaborated, back

    def reset(self, target: ir.Expression, type_: t.Type, loc: Loc) -> None:
        """Make the headers in an out parameter invalid (specification, section 6.8)."""
        base = t.strip(type_)
        if isinstance(base, t.StackT) or (isinstance(base, t.StructT) and base.kind != "struct"):
            self.emit(ir.Assign(left=target, right=ir.InvalidHeader(type=self.ir_type(type_))))
        elif isinstance(base, t.StructT):
            for name, inner in base.fields:
                if isinstance(t.strip(inner), t.StructT | t.StackT):
                    member = ir.Member(type=self.ir_type(inner), base=target, field=name)
                    self.reset(member, inner, loc)

    def elaborate(
        self,
        symbol: InstanceSymbol,
        args: list[tuple[ast.ParamDecl, t.Type, Typed | Symbol | None]],
        shared: list[ir.Expression | None],
    ) -> Elaborated:
        """Lower the declarations of an instance, once."""
        self.elaborated_blocks.add(id(symbol.declaration))
        scope = symbol.scope.child()
        params: list[tuple[ast.ParamDecl, t.Type, ir.Expression | None]] = []
        own: set[str] = set()
        for (parameter, type_, value), alias in zip(args, shared, strict=True):
            if isinstance(value, Symbol):
                scope.names[parameter.name] = value
                params.append((parameter, type_, None))
                continue
            target = alias
            if target is None:
                unique = self.unit.unique(parameter.name)
                assert self.unit.locals is not None
                self.unit.locals.append(ir.Declare(name=unique, type=self.ir_type(type_)))
                target = ir.Var(type=self.ir_type(type_), name=unique)
                own.add(unique)
            writable = parameter.direction in ("out", "inout")
            scope.names[parameter.name] = ValueSymbol(type_, target, writable=writable)
            params.append((parameter, type_, target))
        elaborated = Elaborated(scope.child(), params, own=own)
        with self.in_scope(elaborated.scope):
            self.declare_locals(symbol.declaration.locals, symbol.path, elaborated.resets)
        return elaborated

    def rest_of_control(self) -> None:
        """Actions and tables of the control, whose scope is the current one, that its body did not use."""
        for symbol in list(self.scope.names.values()):
            if isinstance(symbol, ActionSymbol) and (self.unit.block, symbol.path) not in self.actions:
                self.unused = True
                if self.unused_too:
                    self.use_action(symbol)
            elif isinstance(symbol, TableSymbol) and symbol.name not in self.tables:
                self.unused = True
                if self.unused_too:
                    with self.in_scope(symbol.scope):
                        self.lower_table(symbol)

    # ---------------------------------------------------------------------------------------------------- top controls

    def top_control(self, symbol: InstanceSymbol, block: str, wanted: Sequence[str]) -> ir.Control:
        """One of V1Switch's controls. ``wanted`` are the directions of its parameters."""
        declaration = symbol.declaration
        if not isinstance(declaration, ast.ControlDecl) or declaration.body is None:
            self.fail(declaration.loc, f"{declaration.name} is not a control")
        if len(declaration.params) != len(wanted):
            self.fail(
                declaration.loc,
                f"{block} has {len(wanted)} parameters in v1model, {declaration.name} {len(declaration.params)}",
            )
        self.elaborated_blocks.add(id(declaration))
        unit = Unit("control", block, locals=[])
        self.current_path = symbol.path
        scope = symbol.scope.child()
        names = []
        with self.in_unit(unit), self.in_scope(scope), self.capture() as body:
            for parameter, direction in zip(declaration.params, wanted, strict=True):
                if direction == "packet":
                    scope.names[parameter.name] = PacketSymbol("packet_out")
                    continue
                type_ = self.resolve(parameter.type)
                if parameter.direction != direction:
                    self.fail(parameter.loc, f"parameter '{parameter.name}' of {block} must be {direction}")
                unique = unit.unique(parameter.name)
                names.append(unique)
                variable = ir.Var(type=self.ir_type(type_), name=unique)
                scope.names[parameter.name] = ValueSymbol(type_, variable, writable=direction != "in")
            self.block_params[block] = names
            inner = scope.child()
            with self.in_scope(inner):
                self.declare_locals(declaration.locals, symbol.path, self.out)
                self.active.append(symbol.path)
                self.block(declaration.body)
                self.rest_of_control()
                self.active.pop()
        assert unit.locals is not None
        return ir.Control(name=symbol.path, params=names, locals=unit.locals, body=body)


def _fixed_size(type_: t.Type) -> bool:
    base = t.strip(type_)
    if isinstance(base, t.StructT):
        return base.kind == "struct" and all(_fixed_size(x) for _, x in base.fields)
    if isinstance(base, t.TupleT):
        return all(_fixed_size(x) for x in base.items)
    return isinstance(base, t.BitsT | t.EnumT) or base in (t.BOOL, t.ERROR)


def _unit(value: Typed) -> Literal["packets", "bytes", "packets_and_bytes"]:
    assert isinstance(value.type, t.EnumT) and isinstance(value.const, int)
    return cast(Literal["packets", "bytes", "packets_and_bytes"], value.type.members[value.const])
