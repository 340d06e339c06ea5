"""Methods: of tables, instances and externs, of headers, unions and stacks, and of packets."""

from __future__ import annotations

from collections.abc import Sequence

from p4switch.compiler import ast, ir
from p4switch.compiler import types as t
from p4switch.compiler.diagnostics import Loc
from p4switch.compiler.lower_base import Typed
from p4switch.compiler.lower_calls import CHECKSUM16, EXTERN_KINDS, CallLowering
from p4switch.compiler.lower_operators import BIT32
from p4switch.compiler.scope import ExternSymbol, InstanceSymbol, PacketSymbol, TableSymbol, TypeSymbol


class MethodLowering(CallLowering):
    """Rules for ``base.method(...)``."""

    def call_method(self, function: ast.Dot, expr: ast.Call) -> Typed:
        """``base.method(...)``."""
        method = function.member
        if isinstance(function.base, ast.TypeExpr):
            if method == "apply":
                return self.apply_type(function.base, expr)
            return self.size_method(self.resolve(function.base.type), method, expr)
        if isinstance(function.base, ast.Name) and function.base.name != "error":
            symbol = self.symbol(function.base.name, function.base.loc, function.base.absolute)
            match symbol:
                case PacketSymbol():
                    return self.call_packet(symbol, method, expr)
                case ExternSymbol():
                    return self.call_extern_method(symbol, method, expr)
                case TableSymbol():
                    self.apply_table(symbol, expr)
                    return Typed(t.VOID)
                case InstanceSymbol():
                    if method != "apply":
                        self.fail(
                            expr.loc, f"an instance of {symbol.declaration.name} has no method '{method}'; it has apply"
                        )
                    self.apply_instance(symbol, expr)
                    return Typed(t.VOID)
        base = self.expression(function.base)
        return self.call_value_method(base, method, expr, function)

    def apply_type(self, base: ast.TypeExpr, expr: ast.Call) -> Typed:
        """``C.apply(...)``: an instance of its own."""
        raise NotImplementedError

    def apply_table(self, symbol: TableSymbol, expr: ast.Call) -> None:
        """``table.apply()`` whose result is not used."""
        raise NotImplementedError

    def apply_instance(self, symbol: InstanceSymbol, expr: ast.Call) -> None:
        """``instance.apply(...)``."""
        raise NotImplementedError

    def size_method(self, type_: t.Type, method: str, expr: ast.Call) -> Typed:
        """``minSizeInBits()`` and its kin (specification, section 9)."""
        widths = {"minSizeInBits": 1, "maxSizeInBits": 1, "minSizeInBytes": 8, "maxSizeInBytes": 8}
        if method not in widths:
            self.fail(expr.loc, f"{type_} has no method '{method}'")
        largest = t.bit_width(type_)
        if largest is None:
            self.fail(expr.loc, f"{type_} has no size")
        size = largest if method.startswith("max") else largest - varbit_bits(type_)
        return Typed(t.INT, const=-(-size // widths[method]))

    def call_value_method(self, base: Typed, method: str, expr: ast.Call, function: ast.Dot) -> Typed:
        """Methods of headers, unions and stacks."""
        type_ = t.strip(base.type)
        where = self.location(expr.loc)
        if method in ("minSizeInBits", "maxSizeInBits", "minSizeInBytes", "maxSizeInBytes"):
            return self.size_method(type_, method, expr)
        if method in ("isValid", "setValid", "setInvalid") and expr.args:
            self.fail(expr.args[0].loc, f"'{method}' takes no arguments")
        if isinstance(type_, t.StructT) and type_.kind != "struct":
            if method == "isValid":
                return Typed(t.BOOL, ir.IsValid(type=ir.Bool(), base=self.rvalue(base)))
            if method in ("setValid", "setInvalid") and type_.kind == "header":
                target = self.lvalue(function.base)
                assert target.expr is not None
                self.emit(ir.SetValid(header=target.expr, valid=method == "setValid", loc=where))
                return Typed(t.VOID)
        if isinstance(type_, t.StackT) and method in ("push_front", "pop_front"):
            if len(expr.args) != 1 or expr.args[0].value is None:
                self.fail(expr.loc, f"'{method}' takes one argument")
            count = self.constant_int(expr.args[0].value, "the count")
            if count < 0:
                self.fail(expr.args[0].loc, f"'{method}' by {count} elements")
            target = self.lvalue(function.base)
            assert target.expr is not None
            self.emit(ir.StackPush(stack=target.expr, count=count, pop=method == "pop_front", loc=where))
            return Typed(t.VOID)
        methods = {"header": "isValid, setValid, setInvalid", "header_union": "isValid", "struct": "none"}
        has = methods[type_.kind] if isinstance(type_, t.StructT) else "none"
        has = "push_front, pop_front" if isinstance(type_, t.StackT) else has
        self.fail(function.loc, f"{base.type} has no method '{method}'; it has {has}")

    def call_packet(self, symbol: PacketSymbol, method: str, expr: ast.Call) -> Typed:
        """packet_in and packet_out."""
        where = self.location(expr.loc)
        values = [a.value for a in expr.args]
        if symbol.kind == "packet_out":
            if method != "emit" or len(values) != 1 or values[0] is None:
                self.fail(expr.loc, "packet_out has the method emit, with one argument")
            value = self.expression(values[0])
            items = value.items if value.items is not None else [value]
            for item in items:
                self.check_emit(item.type, expr.loc)
                self.emit(ir.Emit(value=self.rvalue(item), loc=where))
            return Typed(t.VOID)
        if method == "extract" and 1 <= len(values) <= 2:
            return self.extract(expr, values)
        if method == "lookahead" and not values:
            if len(expr.type_args) != 1:
                self.fail(expr.loc, "lookahead needs a type: lookahead<T>()")
            type_ = self.resolve(expr.type_args[0])
            if t.bit_width(type_) is None or varbit_bits(type_):
                self.fail(expr.loc, f"lookahead of {type_}: its size is not fixed")
            variable = self.new_variable("ahead", type_)
            self.emit(ir.Assign(left=variable, right=ir.Lookahead(type=variable.type), loc=where))
            return Typed(type_, variable)
        if method == "advance" and len(values) == 1 and values[0] is not None:
            bits = self.coerce(self.expression(values[0]), BIT32, expr.loc)
            self.emit(ir.Advance(bits=self.rvalue(bits), loc=where))
            return Typed(t.VOID)
        if method == "length":
            self.fail(
                expr.loc, "packet_in.length() is not supported, as in bmv2: v1model has standard_metadata.packet_length"
            )
        self.fail(expr.loc, f"packet_in has no method '{method}' with {len(values)} arguments")

    def extract(self, expr: ast.Call, values: Sequence[ast.Expr | None]) -> Typed:
        """``packet.extract(hdr [, bits])``; ``_`` skips a header of the given type."""
        where = self.location(expr.loc)
        if values[0] is None:
            if len(expr.type_args) != 1:
                self.fail(expr.loc, "extract(_) needs a type: extract<T>(_)")
            type_ = self.resolve(expr.type_args[0])
            target = Typed(type_, self.new_variable("skipped", type_))
        else:
            target = self.lvalue(values[0])
        if not t.is_header(target.type):
            self.fail(expr.loc, f"extract needs a header, found {target.type}")
        base = t.strip(target.type)
        if isinstance(base, t.StructT) and sum(isinstance(t.strip(x), t.VarbitT) for _, x in base.fields) > 1:
            self.fail(expr.loc, f"{target.type} has several varbits: one size does not say where each ends")
        variable = varbit_bits(target.type) > 0
        if variable != (len(values) == 2):
            need = "needs the size of its varbit as second argument" if variable else "has no varbit to give a size for"
            self.fail(expr.loc, f"{target.type} {need}")
        bits = None
        if len(values) == 2:
            assert values[1] is not None
            bits = self.rvalue(self.coerce(self.expression(values[1]), BIT32, expr.loc))
        assert target.expr is not None
        self.emit(ir.Extract(header=target.expr, varbit_bits=bits, loc=where))
        return Typed(t.VOID)

    def check_emit(self, type_: t.Type, loc: Loc) -> None:
        """Only headers, and what consists of them, can be emitted."""
        base = t.strip(type_)
        if isinstance(base, t.StackT) or (isinstance(base, t.StructT) and base.kind != "struct"):
            return
        if isinstance(base, t.StructT):
            for _, inner in base.fields:
                self.check_emit(inner, loc)
            return
        self.fail(loc, f"emit needs headers, found {type_}")

    def call_extern_method(self, symbol: ExternSymbol, method: str, expr: ast.Call) -> Typed:
        """Counters, meters, registers and their kin."""
        overloads = [m for m in symbol.declaration.methods if m.name == method]
        if not overloads or method == symbol.declaration.name:
            names = ", ".join(sorted({m.name for m in symbol.declaration.methods} - {symbol.declaration.name}))
            self.fail(expr.loc, f"{symbol.type.name} has no method '{method}'; it has {names or 'none'}")
        declaration = self.choose(overloads, expr.args, expr.loc)
        scope = self.root.child()
        for name, type_ in zip(symbol.declaration.type_params, symbol.type.args, strict=False):
            scope.names[name] = TypeSymbol(type_)
        if symbol.type.name == CHECKSUM16:
            return self.checksum16(self.evaluate_arguments(declaration, expr, scope, "Checksum16.get")[0], expr)
        if symbol.type.name not in EXTERN_KINDS:
            return self.call_foreign(f"{symbol.type.name}.{method}", symbol.name, declaration, scope, expr)
        if self.unit.block not in ("ingress", "egress"):
            self.fail(expr.loc, f"{symbol.type.name}.{method} can be called only in ingress and egress")
        bound, _ = self.evaluate_arguments(declaration, expr, scope, f"{symbol.type.name}.{method}")
        args, back = self.pass_arguments(bound, by_temporary=False)
        self.emit(ir.CallExtern(name=method, instance=symbol.name, args=args, loc=self.location(expr.loc)))
        self.out.extend(back)
        return Typed(t.VOID)


def varbit_bits(type_: t.Type) -> int:
    """Bits of varbits in a type."""
    base = t.strip(type_)
    if isinstance(base, t.VarbitT):
        return base.width
    if isinstance(base, t.StructT):
        return sum(varbit_bits(x) for _, x in base.fields)
    return 0
