"""What nothing uses, lowered for its errors alone: functions, actions, controls and parsers.

A block is lowered by itself, with parameters that are variables of its own. What its calls of v1model's functions need to be in
is not known, so every block of the architecture is tried. Generic blocks and functions have no types to be checked with, blocks
that get other blocks as constructor arguments no body to be inlined; they stay unchecked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from p4switch.compiler import ast, ir
from p4switch.compiler import types as t
from p4switch.compiler.diagnostics import CompileError, Diagnostic
from p4switch.compiler.lower_base import Unit
from p4switch.compiler.lower_calls import EXTERN_KINDS
from p4switch.compiler.lower_parsers import ParserLowering
from p4switch.compiler.scope import (
    ActionSymbol,
    ExternSymbol,
    FunctionSymbol,
    GenericSymbol,
    PacketSymbol,
    Symbol,
    ValueSymbol,
)

_BLOCKS = ("ingress", "egress", "compute_checksum", "verify_checksum")
Block = ast.ControlDecl | ast.ParserDecl


class UnusedLowering(ParserLowering):
    """Rules for what nothing uses."""

    alone: bool  # whether such a block is being lowered

    def rest_of_functions(self) -> None:
        """Functions that nothing calls; generic ones have no types to be checked with."""
        lowered = {key for key, _ in self.functions}
        for symbol in list(self.root.names.values()):
            for item in symbol.overloads if isinstance(symbol, FunctionSymbol) else []:
                if item.body is None or item.type_params or id(item) in lowered:
                    continue
                self.unused = True
                if self.unused_too:
                    with self.in_unit(Unit("function", "ingress")), self.in_scope(self.root):
                        self.function_name(item, self.root, (), item.loc)

    def rest_of_actions(self) -> None:
        """Top-level actions that no control uses."""
        used = {path for _, path in self.actions}
        for symbol in list(self.root.names.values()):
            if isinstance(symbol, ActionSymbol) and symbol.path not in used:
                self.unused = True
                if self.unused_too:
                    self.check_anywhere(_BLOCKS, partial(self.lower_action_alone, symbol))

    def lower_action_alone(self, symbol: ActionSymbol, block: str) -> None:
        """Lower an action as if a control of this block called it."""
        self.open_actions, self.open_functions, self.actions, self.action_symbols = [], set(), {}, {}
        with self.in_unit(Unit("control", block, locals=[])), self.in_scope(self.root), self.capture():
            self.use_action(symbol)

    def rest_of_blocks(self) -> None:
        """Controls and parsers of which no instance is applied. Last ones first: they may apply earlier ones."""
        for symbol in reversed(list(self.root.names.values())):
            item = symbol.declaration if isinstance(symbol, GenericSymbol) else None
            if not isinstance(item, Block) or item.type_params or id(item) in self.elaborated_blocks:
                continue
            if (item.body if isinstance(item, ast.ControlDecl) else item.states) is None:
                continue
            self.unused = True
            if self.unused_too:
                self.check_alone(item)

    def check_alone(self, item: Block) -> None:
        """Lower a block by itself."""
        blocks = ("parser",) if isinstance(item, ast.ParserDecl) else _BLOCKS
        if any(isinstance(p.type, ast.NamedType) and p.type.name == "packet_out" for p in item.params):
            blocks = ("deparser",)
        self.check_anywhere(blocks, partial(self.lower_alone, item))

    def check_anywhere(self, blocks: Sequence[str], lower: Callable[[str], None]) -> None:
        """Lower something for the first of these blocks that it fits; if none, report the error farthest into the source."""
        failures: list[list[Diagnostic]] = []
        self.alone = True
        for block in blocks:
            messages = len(self.diagnostics.messages)
            try:
                lower(block)
                return
            except CompileError as error:
                failures.append(self.diagnostics.messages[messages:] or error.diagnostics)
                del self.diagnostics.messages[messages:]
        telling = [found for found in failures if "can be" not in found[-1].message] or failures
        farthest = max(telling, key=lambda found: found[-1].loc.offset)
        self.diagnostics.messages.extend(farthest)
        raise CompileError(self.diagnostics.messages)

    def lower_alone(self, item: Block, block: str) -> None:
        """Lower a block as if it were this one of the architecture's; what comes of it is thrown away."""
        # Names for the control plane are compared within this block only: nothing of it will be there.
        self.tables, self.actions, self.externs, self.extern_scopes = {}, {}, {}, {}
        self.table_symbols, self.action_symbols, self.table_actions = {}, {}, {}
        self.direct_instances, self.direct_paths = {}, set()
        self.open_actions, self.open_functions = [], set()
        self.states, self.state_names = [], {"accept", "reject"}
        self.elaborated_blocks.add(id(item))
        self.current_path, self.active, self.within = item.name, [item.name], [item]
        unit = Unit("parser" if isinstance(item, ast.ParserDecl) else "control", block, locals=[])
        scope = self.root.child()
        with self.in_unit(unit), self.in_scope(scope), self.capture() as prologue:
            if not all(self.stand_in(p, constructor=True) for p in item.constructor_params):
                return
            if not all(self.stand_in(p, constructor=False) for p in item.params):
                return
            with self.in_scope(scope.child()):
                self.declare_locals(item.locals, item.name, prologue)
                if isinstance(item, ast.ParserDecl):
                    self.lower_states(item, prologue, "accept", keep_names=True)
                elif item.body is not None:
                    self.block(item.body)
                    self.rest_of_control()

    def stand_in(self, parameter: ast.ParamDecl, constructor: bool) -> bool:
        """Bind a parameter to something of its type in the current scope; False where there is no such thing."""
        type_ = self.resolve(parameter.type)
        made: Symbol
        if isinstance(type_, t.Opaque):
            return False
        if isinstance(type_, t.ExternT):
            generic = self.root.lookup(type_.name)
            assert isinstance(generic, GenericSymbol) and isinstance(generic.declaration, ast.ExternDecl)
            made = ExternSymbol(parameter.name, type_, generic.declaration)
            if type_.name in EXTERN_KINDS:
                self.externs[made.name] = ir.Extern(name=made.name, kind=type_.name)  # type: ignore[arg-type]
        elif type_ in (t.Simple("packet_in"), t.Simple("packet_out")):
            made = PacketSymbol(str(type_))
        elif constructor or type_ == t.INT:
            if self.is_number(type_):
                made = ValueSymbol(type_, None, const=self.constant(type_, 1), writable=False)
            elif type_ == t.STRING:
                made = ValueSymbol(type_, None, const=self.constant(type_, parameter.name), writable=False)
            else:
                return False
        else:
            unique = self.unit.unique(parameter.name)
            variable = ir.Var(type=self.ir_type(type_, parameter.loc), name=unique)
            made = ValueSymbol(type_, variable, writable=parameter.direction in ("out", "inout"))
        self.scope.names[parameter.name] = made
        return True

    @staticmethod
    def is_number(type_: t.Type) -> bool:
        """Whether 1 is a value of the type."""
        base = t.strip(type_)
        return isinstance(base, t.BitsT) or type_ in (t.INT, t.BOOL)
