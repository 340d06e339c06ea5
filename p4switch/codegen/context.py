"""What all parts of the generator know about the program: declarations by name, their indices, who calls and exits what."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import msgspec

from p4switch.codegen.arithmetic import Arithmetic
from p4switch.codegen.code import Code
from p4switch.codegen.errors import CodegenError
from p4switch.codegen.names import identifier
from p4switch.codegen.types import TypeTable
from p4switch.compiler import ir

T = TypeVar("T")

_MAX_DIGITS = 1000  # more than a number of 2048 bits has

BLOCKS = ("verify_checksum", "ingress", "egress", "compute_checksum", "deparser")


@dataclass(frozen=True)
class Place:
    """Where a variable lives: a C l-value, and its type."""

    code: str
    type: ir.Type


class Scope:
    """Variables visible at a place."""

    def __init__(self, parent: Scope | None = None):
        self.parent = parent
        self.names: dict[str, Place] = {}

    def lookup(self, name: str) -> Place | None:
        """The variable of this name, innermost first."""
        scope: Scope | None = self
        while scope is not None:
            if name in scope.names:
                return scope.names[name]
            scope = scope.parent
        return None


def by_name(items: Iterable[tuple[str, T]], what: str) -> dict[str, T]:
    """A dictionary; refuses a name that stands twice."""
    result: dict[str, T] = {}
    for name, item in items:
        if name in result:
            raise CodegenError(f"{what} {name!r}", "it is declared twice")
        result[name] = item
    return result


def _is_decimal(text: str) -> bool:
    digits = text.removeprefix("-")
    return digits.isascii() and digits.isdigit() and len(digits) <= _MAX_DIGITS


class Context:
    """Indices and lookups of one program, its types, and the functions generated so far."""

    def __init__(self, program: ir.Program):
        self.program = program
        for node in ir.walk(program):
            if isinstance(node, ir.Const) and not _is_decimal(node.value):
                raise CodegenError(f"constant {node.value[:40]!r}", "it is not a decimal number")
        self.types = TypeTable(program)
        self.arithmetic = Arithmetic(self.types)
        self.helpers_code = Code()
        self.helpers: set[str] = set()
        self.errors = by_name(((name, i) for i, name in enumerate(program.errors)), "error")
        self.functions = by_name(((f.name, f) for f in program.functions), "function")
        self.actions: dict[tuple[str, str], ir.Action] = {}
        for action in program.actions:
            if (action.control, action.name) in self.actions:
                raise CodegenError(f"action {action.name!r}", f"it is declared twice in {action.control}", action.loc)
            self.actions[action.control, action.name] = action
        self.tables = by_name(((t.name, t) for t in program.tables), "table")
        self.externs = by_name(((e.name, e) for e in program.externs), "extern instance")
        self.value_sets = by_name(((v.name, v) for v in program.value_sets), "value set")
        self.table_index = {name: i for i, name in enumerate(self.tables)}
        self.extern_index = {name: i for i, name in enumerate(self.externs)}
        self.value_set_index = {name: i for i, name in enumerate(self.value_sets)}
        self.field_list_number = by_name(
            ((str(f.index), i + 1) for i, f in enumerate(program.field_lists)), "field list"
        )
        self.action_names = self._table_actions()
        self.action_index = {name: i for i, name in enumerate(self.action_names)}
        self.controls: dict[str, ir.Control] = {name: getattr(program, name) for name in BLOCKS}
        self._positions = {
            id(item): i for group in (program.functions, program.actions) for i, item in enumerate(group)
        }
        self.call_order = self._call_order()
        self.exiting = self._exiting()
        self.has_loops = any(isinstance(n, ir.Loop) for n in ir.walk(program))

    # ------------------------------------------------------------------------------------------------------- lookups

    def error_index(self, name: str) -> int:
        """The number of an error of core.p4."""
        if name not in self.errors:
            raise CodegenError(f"error.{name}", "the program's errors lack it; they begin with those of core.p4")
        return self.errors[name]

    def function(self, name: str, loc: ir.Location | None) -> ir.Function:
        """A function by name."""
        if name not in self.functions:
            raise CodegenError(f"function {name!r}", "it is not declared", loc)
        return self.functions[name]

    def action(self, block: str, name: str, loc: ir.Location | None) -> ir.Action:
        """An action as a block sees it."""
        found = self.actions.get((block, name))
        if found is None:
            raise CodegenError(f"action {name!r}", f"{block} has no action of this name", loc)
        return found

    def table(self, name: str, loc: ir.Location | None) -> ir.Table:
        """A table by name."""
        if name not in self.tables:
            raise CodegenError(f"table {name!r}", "it is not declared", loc)
        return self.tables[name]

    def extern(self, name: str, kinds: Iterable[str], loc: ir.Location | None) -> tuple[int, ir.Extern]:
        """The index of an extern instance and itself; it must be of one of these kinds."""
        wanted = tuple(kinds)
        found = self.externs.get(name)
        if found is None or found.kind not in wanted:
            kind = "not declared" if found is None else f"a {found.kind}"
            raise CodegenError(f"extern instance {name!r}", f"it is {kind}, expected {' or '.join(wanted)}", loc)
        return self.extern_index[name], found

    def _table_actions(self) -> list[str]:
        """Control-plane names of the actions that tables use, in order of declaration."""
        used = {ref.name for table in self.program.tables for ref in table.actions}
        used |= {table.default_action.action for table in self.program.tables}
        names: dict[str, list[tuple[str, ir.Type]]] = {}
        for action in self.program.actions:
            if action.name not in used:
                continue
            data = [(p.name, p.type) for p in action.params if p.direction == "data"]
            if names.setdefault(action.name, data) != data:
                raise CodegenError(f"action {action.name!r}", "its copies have different parameters", action.loc)
        missing = used - set(names)
        if missing:
            raise CodegenError(f"action {min(missing)!r}", "a table uses it, but it is not declared")
        return list(names)

    # ------------------------------------------------------------------------------------------------- calls and exits

    def callees(self, item: ir.Action | ir.Function) -> list[ir.Action | ir.Function]:
        """What the body of an action or function calls directly."""
        result: list[ir.Action | ir.Function] = []
        for node in ir.walk(item.body):
            if isinstance(node, ir.CallFunction):
                result.append(self.function(node.function, node.loc))
            elif isinstance(node, ir.CallAction):
                if not isinstance(item, ir.Action):
                    raise CodegenError(f"function {item.name!r}", "a function cannot call an action", node.loc)
                result.append(self.action(item.control, node.action, node.loc))
        return result

    def _call_order(self) -> list[ir.Action | ir.Function]:
        """Functions and actions, callees before callers; refuses recursion (P4_16 section 9.2)."""
        order: list[ir.Action | ir.Function] = []
        state: dict[int, int] = {}
        roots: list[ir.Action | ir.Function] = [*self.program.functions, *self.program.actions]
        for root in roots:
            stack: list[tuple[ir.Action | ir.Function, Iterator[ir.Action | ir.Function]]] = []
            if id(root) not in state:
                state[id(root)] = 1
                stack.append((root, iter(self.callees(root))))
            while stack:
                item, rest = stack[-1]
                callee = next(rest, None)
                if callee is None:
                    state[id(item)] = 2
                    order.append(item)
                    stack.pop()
                elif state.get(id(callee)) == 1:
                    raise CodegenError(f"{callee.name!r}", "it calls itself")
                elif id(callee) not in state:
                    state[id(callee)] = 1
                    stack.append((callee, iter(self.callees(callee))))
        return order

    def _exiting(self) -> set[int]:
        """Identities of the actions and functions that may execute ``exit``."""
        result: set[int] = set()
        for item in self.call_order:
            own = any(isinstance(node, ir.Exit) for node in ir.walk(item.body))
            if own or any(id(callee) in result for callee in self.callees(item)):
                result.add(id(item))
        return result

    def may_exit(self, item: ir.Action | ir.Function | ir.Table) -> bool:
        """Whether calling or applying it may end the control."""
        if isinstance(item, ir.Table):
            return any(
                self.may_exit(self.action(item.control, ref.variant or ref.name, item.loc)) for ref in item.actions
            )
        return id(item) in self.exiting

    def shared_locals(self, block: str) -> set[str]:
        """Names of a control's variables that its actions and tables use; the others can be plain C variables."""
        users: list[msgspec.Struct] = [a for a in self.program.actions if a.control == block]
        users.extend(t for t in self.program.tables if t.control == block)
        return {node.name for node in ir.walk(users) if isinstance(node, ir.Var)}

    # -------------------------------------------------------------------------------------------------------- C names

    def c_name(self, item: ir.Action | ir.Function | ir.Table) -> str:
        """The C function of an action, a function, or of applying a table."""
        if isinstance(item, ir.Table):
            return identifier("apply", self.table_index[item.name], item.name)
        prefix = "action" if isinstance(item, ir.Action) else "function"
        return identifier(prefix, self._positions[id(item)], item.name)
