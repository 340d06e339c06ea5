"""Checks an IR program that came from outside, such as a client's pipeline config, before C is generated from it.

What passes is well formed: every name resolves, every expression has the type that its parts imply, l-values are l-values,
sizes are bounded, and labels and loops nest. The C generator relies on it.
"""

from __future__ import annotations

from collections.abc import Sequence

from p4switch.compiler import ir
from p4switch.compiler.validate_code import CodeValidator, IrError, text

_BLOCKS = ("parser", "verify_checksum", "ingress", "egress", "compute_checksum", "deparser")


def validate(program: ir.Program) -> None:
    """Raise IrError unless the program is well formed."""
    try:
        _Validator(program).program_()
    except RecursionError:
        raise IrError("nested too deeply") from None


class _Validator(CodeValidator):
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
            self.need(isinstance(key.type, allowed), f"key {key.name!r} of type {text(key.type)}")
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
