"""Tables and their entries."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from p4switch.compiler import ast, ir
from p4switch.compiler import notes as note_text
from p4switch.compiler import types as t
from p4switch.compiler.diagnostics import Loc
from p4switch.compiler.lower_actions import ActionLowering
from p4switch.compiler.lower_base import Typed
from p4switch.compiler.scope import (
    ActionSymbol,
    ExternSymbol,
    InstanceSymbol,
    Scope,
    Symbol,
    TableSymbol,
)
from p4switch.compiler.source_text import has_key_name, key_name

_MATCH_KINDS = ("exact", "lpm", "ternary", "range", "optional", "selector")
_PRIORITY_KINDS = ("ternary", "range", "optional")
_IGNORED = (
    "largest_priority_wins",
    "priority_delta",
    "support_timeout",
    "idle_timeout_with_auto_delete",
    "psa_idle_timeout",
)
NO_ACTION = "NoAction"


class TableLowering(ActionLowering):
    """Rules for tables and their entries."""

    externs: dict[str, ir.Extern]
    tables: dict[str, ir.Table]
    table_symbols: dict[str, TableSymbol]
    extern_scopes: dict[str, Scope]
    table_actions: dict[str, dict[str, str]]
    key_effects: dict[str, list[ir.Statement]]
    direct_instances: dict[int, InstanceSymbol]
    direct_paths: set[str]
    block_params: dict[str, list[str]]
    current_path: str
    active: list[str]
    within: list[ast.Declaration]  # controls and parsers whose declarations or body are being lowered

    # ----------------------------------------------------------------------------------------------------------- tables

    def apply_table(self, symbol: TableSymbol, expr: ast.Call) -> None:
        """``table.apply()`` as a statement."""
        function = expr.function
        if isinstance(function, ast.Dot) and function.member != "apply":
            self.fail(expr.loc, f"a table has the method apply, not '{function.member}'")
        if expr.args:
            self.fail(expr.loc, "apply of a table takes no arguments")
        self.emit(ir.ApplyTable(table=self.use_table(symbol, expr.loc), loc=self.location(expr.loc)))

    @contextmanager
    def unless(self, dead: bool) -> Iterator[None]:
        """Code inside is checked; if it is ``dead``, the tables that only it applies are not part of the program."""
        before = dict(self.tables), dict(self.actions)
        yield
        if dead:
            self.tables, self.actions = before

    def use_table(self, table: TableSymbol, loc: Loc) -> str:
        """The IR name of a table about to be applied, lowered on first use. The effects of its keys are emitted."""
        if self.unit.kind != "control":
            self.fail(loc, "a table can be applied only in the body of a control")
        if self.unit.block not in ("ingress", "egress"):
            self.fail(loc, f"a table can be applied only in ingress and egress, not in {self.unit.block}")
        known = self.table_symbols.setdefault(table.name, table)
        if known.scope is not table.scope:  # those of one control are reported together, by warn.duplicates
            self.fail(
                table.declaration.loc,
                f"table '{table.declaration.name}' is '{table.name}' to the control plane, and so is "
                f"'{known.declaration.name}' of line {known.declaration.loc.line}",
                "give each a name of its own with @name",
            )
        if table.name not in self.tables:
            with self.in_scope(table.scope):
                self.lower_table(table)
        self.out.extend(self.key_effects.get(table.name, []))
        return table.name

    def table_action_names(self, table: TableSymbol) -> dict[str, str]:
        """Names of a table's actions as the program writes them, to IR names."""
        return self.table_actions[table.name]

    def lower_table(self, table: TableSymbol) -> None:
        """Lower a table's properties."""
        declaration = table.declaration
        properties: dict[str, ast.TableProperty] = {}
        for p in declaration.properties:
            if p.name in properties:
                self.fail(p.loc, f"property '{p.name}' is given twice")
            if p.name == "key" and "entries" in properties:
                self.fail(properties["entries"].loc, "'entries' stands in front of 'key': it comes behind it")
            properties[p.name] = p
        result = ir.Table(
            name=table.name,
            control=self.unit.block,
            keys=[],
            actions=[],
            default_action=ir.ActionCallConst(action=NO_ACTION),
            annotations=self.notes(declaration.annotations),
            loc=self.location(declaration.loc),
        )
        self.tables[table.name] = result
        if "key" in properties:
            self.lower_keys(properties["key"].keys, result)
        refs = self.lower_action_refs(table, properties, result)
        self.lower_default(table, properties, result, refs)
        self.lower_other_properties(properties, result)
        self._priority_delta(properties)
        self._flag(properties, "largest_priority_wins", True)
        if "entries" in properties:
            self.lower_entries(properties, result, refs)

    def field_name(self, expr: ast.Dot) -> str:
        """The member's name for the control plane: that of ``@name`` on the field, if it has one."""
        if isinstance(expr.base, ast.Name | ast.Dot | ast.IndexExpr):
            with self.capture():
                owner = t.strip(self.expression(expr.base).type)
            if isinstance(owner, t.StructT) and owner.declaration is not None:
                for field in owner.declaration.fields:
                    if field.name == expr.member:
                        return note_text.name_of(field.annotations) or field.name
        return expr.member

    def lower_keys(self, keys: Sequence[ast.KeyElement], result: ir.Table) -> None:
        """The keys; if evaluating them has side effects, they are evaluated before each application of the table."""
        with self.capture() as effects:
            values = self.in_order([self._thunk(key.expr) for key in keys])
            if self.out:
                values = [self.keep(value) for value in values]
        self.key_effects[result.name] = effects
        result.keys = [self.lower_key(key, value) for key, value in zip(keys, values, strict=True)]

    def lower_key(self, key: ast.KeyElement, value: Typed) -> ir.KeyField:
        """One key."""
        if key.match_kind not in self.match_kinds or key.match_kind not in _MATCH_KINDS:
            self.fail(key.loc, f"unknown match kind '{key.match_kind}'; there are {', '.join(_MATCH_KINDS)}")
        if isinstance(value.const, int) and value.type == t.INT:
            self.fail(key.loc, "a key needs a width")
        if note_text.name_of(key.annotations) is None and not has_key_name(key.expr):
            self.fail(key.loc, "the control plane needs a name for such a key: give it one with @name")
        base = t.strip(value.type)
        if not isinstance(base, t.BitsT | t.EnumT) and base not in (t.BOOL, t.ERROR):
            self.fail(key.loc, f"a key of type {value.type} is not possible; bits, bools, enums and errors are")
        if key.match_kind in ("lpm", "range") and not isinstance(base, t.BitsT):
            self.fail(key.loc, f"a key of type {value.type} has no {key.match_kind}; bits and integers have")
        return ir.KeyField(
            name=note_text.name_of(key.annotations) or key_name(key.expr, self.field_name),
            type=self.ir_type(value.type),
            kind=key.match_kind,  # type: ignore[arg-type]
            expr=self.rvalue(value),
            type_name=t.type_name(value.type),
            annotations=self.notes(key.annotations),
        )

    def lower_action_refs(
        self, table: TableSymbol, properties: dict[str, ast.TableProperty], result: ir.Table
    ) -> dict[str, tuple[ActionSymbol, ast.ActionElement]]:
        """The ``actions`` of a table; NoAction joins them where there is no default action."""
        elements = list(properties["actions"].actions) if "actions" in properties else []
        if "actions" not in properties:
            self.fail(table.declaration.loc, f"table '{table.declaration.name}' has no actions")
        refs: dict[str, tuple[ActionSymbol, ast.ActionElement]] = {}
        names: dict[str, str] = {}
        for element in elements:
            symbol = self.action_symbol(element.action)
            if element.action.name in refs:
                self.fail(element.loc, f"action '{element.action.name}' is listed twice")
            refs[element.action.name] = (symbol, element)
            action = self.use_action(symbol)
            names[element.action.name] = symbol.path
            if any(other.name == symbol.path for other in result.actions):
                self.fail(element.loc, f"the table has another action that is '{symbol.path}' to the control plane")
            notes = element.annotations
            with self.capture() as setup:
                args, back = self.bound_arguments(symbol, element)
            if any(isinstance(node, ir.ApplyTable) for node in ir.walk(setup)):
                self.fail(element.loc, "a table cannot be applied in an argument of a table's action")
            result.actions.append(
                ir.ActionRef(
                    name=symbol.path,
                    args=args,
                    setup=setup,
                    back=back,
                    variant=action.name if action.variant_of else None,
                    default_only=note_text.find(notes, "defaultonly") is not None,
                    table_only=note_text.find(notes, "tableonly") is not None,
                    annotations=self.notes(notes),
                )
            )
        if NO_ACTION not in refs and "default_action" not in properties:
            symbol = self.action_symbol(ast.Name(loc=table.declaration.loc, name=NO_ACTION, absolute=True))
            action = self.use_action(symbol)
            names[NO_ACTION] = action.name
            note = ir.Annotation(name="defaultonly")
            result.actions.append(ir.ActionRef(name=action.name, default_only=True, annotations=[note]))
            refs[NO_ACTION] = (symbol, ast.ActionElement(action=ast.Name(name=NO_ACTION), args=None, annotations=[]))
        self.table_actions[table.name] = names
        return refs

    def bound_arguments(
        self, symbol: ActionSymbol, element: ast.ActionElement
    ) -> tuple[list[ir.Expression], list[ir.Assign]]:
        """Arguments of the parameters with a direction, which the table binds, and the copies back."""
        directed = [p for p in symbol.declaration.params if p.direction]
        args = element.args or []
        data = [p for p in symbol.declaration.params if not p.direction]
        if len(args) > len(directed) and data:
            self.fail(
                element.loc,
                f"parameter '{data[0].name}' of '{element.action.name}' comes from the control plane: "
                "a table cannot bind it",
                "only parameters with a direction are bound in a list of actions",
            )
        if len(args) != len(directed):
            self.fail(element.loc, f"'{element.action.name}' needs {len(directed)} bound arguments, {len(args)} given")
        return self.pass_arguments(self.action_arguments(symbol, directed, args, element.loc), by_temporary=True)

    def action_call(
        self,
        expr: ast.Expr,
        refs: dict[str, tuple[ActionSymbol, ast.ActionElement]],
        what: str,
    ) -> ir.ActionCallConst:
        """``action`` or ``action(constants)`` of a default action or an entry; bound arguments may be repeated in front."""
        name_expr, args = (expr.function, expr.args) if isinstance(expr, ast.Call) else (expr, [])
        if not isinstance(name_expr, ast.Name):
            self.fail(expr.loc, f"{what} must be an action")
        if name_expr.name not in refs:
            self.fail(expr.loc, f"{what} '{name_expr.name}' is not among the table's actions: {', '.join(refs)}")
        symbol, element = refs[name_expr.name]
        barred = "tableonly" if what == "the default action" else "defaultonly"
        if note_text.find(element.annotations, barred) is not None:
            self.fail(expr.loc, f"'{name_expr.name}' is marked @{barred}: it cannot be {what}")
        params = symbol.declaration.params
        data = [p for p in params if not p.direction]
        if len(args) == len(params) and len(params) != len(data) and not any(a.name for a in args):
            bound = len(params) - len(data)
            for given, listed in zip(args[:bound], element.args or [], strict=False):
                if not same_source(given.value, listed.value):
                    where = "that of the list of actions"
                    self.fail(given.loc, f"this argument of '{name_expr.name}' is bound: it must be {where} again")
            args = args[bound:]
        args = [a for a in args if not a.name or a.name in {p.name for p in data}]
        consts = []
        for parameter, argument in self.bind(data, args, expr.loc, name_expr.name):
            if argument is None or argument.value is None:
                self.fail(expr.loc, f"no value for '{parameter.name}' of '{name_expr.name}'")
            with self.in_scope(symbol.scope):
                type_ = self.resolve(parameter.type)
            consts.append(self.constant_value(argument.value, type_))
        return ir.ActionCallConst(action=symbol.path, args=consts)

    def constant_value(self, expr: ast.Expr, type_: t.Type) -> ir.Const:
        """A constant of this type."""
        value = self.coerce(self.expression(expr), type_, expr.loc)
        if value.const is None:
            self.fail(expr.loc, "expected a compile-time constant")
        constant = self.rvalue(value)
        assert isinstance(constant, ir.Const)
        return constant

    def lower_default(
        self,
        table: TableSymbol,
        properties: dict[str, ast.TableProperty],
        result: ir.Table,
        refs: dict[str, tuple[ActionSymbol, ast.ActionElement]],
    ) -> None:
        """``default_action``."""
        given = properties.get("default_action")
        if given is None or given.value is None:
            result.default_action = ir.ActionCallConst(action=self.use_action(refs[NO_ACTION][0]).name)
            return
        if self._named_action(given.value) not in refs and self._named_action(given.value) == NO_ACTION:
            # p4c takes NoAction as default without its being listed.
            symbol = self.action_symbol(ast.Name(loc=given.loc, name=NO_ACTION, absolute=True))
            refs[NO_ACTION] = (symbol, ast.ActionElement(action=ast.Name(name=NO_ACTION), args=None, annotations=[]))
            note = ir.Annotation(name="defaultonly")
            result.actions.append(
                ir.ActionRef(name=self.use_action(symbol).name, default_only=True, annotations=[note])
            )
            self.table_actions[table.name][NO_ACTION] = NO_ACTION
        result.default_action = self.action_call(given.value, refs, "the default action")
        result.const_default = given.is_const

    @staticmethod
    def _named_action(expr: ast.Expr) -> str | None:
        name = expr.function if isinstance(expr, ast.Call) else expr
        return name.name if isinstance(name, ast.Name) else None

    def lower_other_properties(self, properties: dict[str, ast.TableProperty], result: ir.Table) -> None:
        """size, implementation, counters, meters, support_timeout; unknown ones are warned of."""
        for name, p in properties.items():
            if name in ("key", "actions", "default_action", "entries"):
                continue
            assert p.value is not None
            if name == "size":
                what = "the size of a table"
                size = self.check_size(self.constant_int(p.value, what), p.value.loc, what)
                result.size = size or result.size  # p4c gives a table of size 0 the default
            elif name in ("implementation", "counters", "meters"):
                extern = self.attached_extern(p, name, result)
                if name == "implementation":
                    result.implementation = extern.name
                else:
                    if extern.table not in (None, result.name):
                        self.fail(p.loc, f"'{extern.name}' already belongs to table '{extern.table}'")
                    extern.table = result.name
                    if name == "counters":
                        result.counter = extern.name
                    else:
                        result.meter = extern.name
            elif name == "support_timeout":
                result.idle_timeout = bool(self.condition(p.value).const)
            elif name not in _IGNORED:
                self.diagnostics.warn(p.loc, f"table property '{name}' has no meaning in v1model", "ignored-property")

    def attached_extern(self, p: ast.TableProperty, name: str, result: ir.Table) -> ir.Extern:
        """The extern instance of a property: named, or constructed in place."""
        kinds = {
            "implementation": ("action_profile", "action_selector"),
            "counters": ("direct_counter",),
            "meters": ("direct_meter",),
        }[name]
        value = p.value
        symbol: Symbol | None = None
        if isinstance(value, ast.Name):
            symbol = self.symbol(value.name, value.loc, value.absolute)
        elif isinstance(value, ast.Call) and isinstance(value.function, ast.TypeExpr):
            own = note_text.name_of(p.annotations)
            path = own.removeprefix(".") if own else result.name
            symbol = self.instance(value.function.type, value.args, path, value.loc, p.annotations)
        if not isinstance(symbol, ExternSymbol) or symbol.type.name not in kinds:
            self.fail(p.loc, f"'{name}' must be an instance of {' or '.join(kinds)}")
        return self.externs[symbol.name]

    def instance(
        self,
        ref: ast.TypeRef,
        args: Sequence[ast.Argument],
        path: str,
        loc: Loc,
        notes: Sequence[ast.Annotation] = (),
    ) -> Symbol:
        """An instance of an extern, a control or a parser."""
        raise NotImplementedError

    # ---------------------------------------------------------------------------------------------------------- entries

    def lower_entries(
        self,
        properties: dict[str, ast.TableProperty],
        result: ir.Table,
        refs: dict[str, tuple[ActionSymbol, ast.ActionElement]],
    ) -> None:
        """``entries``, with P4Runtime priorities: larger wins (p4c gives const entries N..1 in order)."""
        p = properties["entries"]
        result.const_entries = p.is_const
        needs_priority = any(k.kind in _PRIORITY_KINDS for k in result.keys)
        keys = list(result.keys)
        largest_wins = self._flag(properties, "largest_priority_wins", True)
        delta = self._priority_delta(properties)
        rows: list[tuple[ir.Entry, int | None]] = []
        annotated: list[int | None] = []
        for element in p.entries:
            given_keys = element.keys
            if len(given_keys) == 1 and isinstance(given_keys[0], ast.ListExpr):  # { a, b } stands for (a, b)
                given_keys = given_keys[0].items
            if len(given_keys) != len(keys):
                self.fail(element.loc, f"the table has {len(keys)} keys, the entry {len(given_keys)}")
            entry = ir.Entry(
                keys=[],
                action=self.action_call(element.action, refs, "the entry's action"),
                is_const=p.is_const or element.is_const,
                annotations=self.notes(element.annotations),
                loc=self.location(element.loc),
            )
            for expr, key in zip(given_keys, keys, strict=True):
                keyset, prefix = self.entry_key(expr, key)
                entry.keys.append(keyset)
                entry.prefix_lens.append(prefix)
            given = None if element.priority is None else self.constant_int(element.priority, "a priority")
            if element.priority is not None and not needs_priority:
                self.fail(
                    element.priority.loc, "only entries of tables with a ternary, range or optional key have priorities"
                )
            if rows and rows[0][1] is None and given is not None:
                self.fail(p.entries[0].loc, "the first entry needs a priority, since a later one has one")
            note = note_text.find(element.annotations, "priority")
            digits = (note.body or "").strip() if note is not None else ""
            annotated.append(int(digits) if digits.isdigit() else None)
            rows.append((entry, given))
        if needs_priority:
            self._prioritise(rows, largest_wins, delta)
            for element, (entry, _) in zip(p.entries, rows, strict=True):
                priority = entry.priority if entry.listed_priority is None else entry.listed_priority
                if not 0 <= priority < 1 << 31:
                    self.fail(element.loc, f"the priority of this entry is {priority}: it must be 0 to {(1 << 31) - 1}")
            if any(value is not None for value in annotated):
                # BMv2's @priority: the smaller wins, entries without one have their position, counted from 1.
                values = [position + 1 if v is None else v for position, v in enumerate(annotated)]
                for (entry, _), value in zip(rows, values, strict=True):
                    entry.listed_priority, entry.priority = entry.priority, max(values) + 1 - value
        result.entries = [entry for entry, _ in rows]

    def _priority_delta(self, properties: dict[str, ast.TableProperty]) -> int:
        p = properties.get("priority_delta")
        if p is None or p.value is None:
            return 1
        delta = self.constant_int(p.value, "priority_delta")
        if delta <= 0:
            self.fail(p.value.loc, f"priority_delta is {delta}: it must be positive")
        return delta

    def _flag(self, properties: dict[str, ast.TableProperty], name: str, default: bool) -> bool:
        p = properties.get(name)
        return default if p is None or p.value is None else bool(self.condition(p.value).const)

    @staticmethod
    def _prioritise(rows: list[tuple[ir.Entry, int | None]], largest_wins: bool, delta: int) -> None:
        """Priorities as the program gives them, or by position (specification, section 14.2.1.4)."""
        count = len(rows)
        if all(given is None for _, given in rows):
            for position, (entry, _) in enumerate(rows):
                entry.priority = (count - position - 1) * delta + 1 if largest_wins else count - position
                entry.listed_priority = None if largest_wins else position * delta + 1
            return
        values: list[int] = []
        for _, given in rows:
            if given is not None:
                values.append(given)
            else:
                values.append(values[-1] - delta if largest_wins else values[-1] + delta)
        top = max(values) + 1
        for (entry, _), value in zip(rows, values, strict=True):
            entry.priority = value if largest_wins else top - value
            entry.listed_priority = None if largest_wins else value

    def entry_key(self, expr: ast.Expr, key: ir.KeyField) -> tuple[ir.Keyset, int | None]:
        """A keyset of an entry, and its prefix length for lpm."""
        type_ = self._key_type(key)
        width = key.type.width if isinstance(key.type, ir.Bits) else 1
        if isinstance(expr, ast.DontCare):
            if key.kind == "exact":
                self.fail(expr.loc, f"key '{key.name}' is exact: it needs a value")
            return ir.AnyKey(), 0 if key.kind == "lpm" else None
        if isinstance(expr, ast.Mask):
            mask_type = type_.base if isinstance(type_, t.EnumT) and type_.base is not None else type_
            value, mask = self.constant_value(expr.value, type_), self.constant_value(expr.mask, mask_type)
            if key.kind not in ("ternary", "lpm"):
                self.fail(expr.loc, f"key '{key.name}' is {key.kind}: a mask is not possible")
            ones = (1 << width) - 1
            if key.kind == "lpm":
                inverse = ~mask.number & ones
                if inverse & (inverse + 1):
                    self.fail(expr.loc, "the mask of an lpm key must be a prefix")
                return ir.MaskKey(value=value, mask=mask), width - inverse.bit_length()
            return ir.MaskKey(value=value, mask=mask), None
        if isinstance(expr, ast.Range):
            if key.kind != "range":
                self.fail(expr.loc, f"key '{key.name}' is {key.kind}: a range is not possible")
            return ir.RangeKey(lo=self.constant_value(expr.lo, type_), hi=self.constant_value(expr.hi, type_)), None
        return ir.ValueKey(value=self.constant_value(expr, type_)), width if key.kind == "lpm" else None

    def _key_type(self, key: ir.KeyField) -> t.Type:
        if key.type_name in self.enum_types:
            return self.enum_types[key.type_name]
        if isinstance(key.type, ir.Bits):
            return t.BitsT(key.type.width, key.type.signed)
        if isinstance(key.type, ir.Enum):
            return self.enum_types[key.type.name]
        return t.ERROR if isinstance(key.type, ir.Error) else t.BOOL


def same_source(one: object, other: object) -> bool:
    """Whether two pieces of the syntax tree are written alike, wherever they stand."""
    if isinstance(one, ast.Node) and type(one) is type(other):
        names = [f.name for f in dataclasses.fields(one) if f.name != "loc"]
        return all(same_source(getattr(one, name), getattr(other, name)) for name in names)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same_source, one, other))
    return one == other
