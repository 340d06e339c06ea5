"""Statements and local declarations."""

from __future__ import annotations

from p4switch.compiler import ast, ir
from p4switch.compiler import types as t
from p4switch.compiler.diagnostics import Loc
from p4switch.compiler.lower_base import Typed
from p4switch.compiler.lower_methods import MethodLowering
from p4switch.compiler.lower_operators import BIT32
from p4switch.compiler.scope import TableSymbol, ValueSymbol


class StatementLowering(MethodLowering):
    """Rules for statements."""

    def block(self, block: ast.BlockStmt) -> None:
        """``{ ... }`` in a scope of its own, into the current list of statements."""
        with self.in_scope(self.scope.child()):
            for item in block.body:
                self.item(item)

    def nested_block(self, statement: ast.Stmt | None) -> list[ir.Statement]:
        """A statement as a list of its own."""
        with self.capture() as out:
            if statement is not None:
                with self.in_scope(self.scope.child()):
                    self.statement(statement)
        return out

    def item(self, item: ast.Stmt | ast.Declaration) -> None:
        """A statement or a local declaration."""
        if isinstance(item, ast.Stmt):
            self.statement(item)
        else:
            self.local_declaration(item)

    def local_declaration(self, item: ast.Declaration) -> None:
        """A variable or constant in a body."""
        if item.name in self.scope.names:
            self.fail(item.loc, f"'{item.name}' is declared twice in this block")
        if isinstance(item, ast.ConstDecl):
            self.declare_constant(item)
        elif isinstance(item, ast.VarDecl):
            self.here = item.loc
            type_ = self.resolve(item.type)
            if type_ == t.INT:
                self.fail(item.loc, "a variable of type int needs a width, as in int<32>")
            if type_ in (t.STRING, t.MATCH_KIND, t.VOID):
                self.fail(item.loc, f"a variable cannot be a {type_}")
            init = None if item.init is None else self.coerce(self.expression(item.init), type_, item.init.loc)
            variable = self.new_variable(item.name, type_, init, item.loc)
            self.value_symbol(item.name, type_, variable)
        else:
            self.fail(item.loc, "an instance is declared in a control or parser, not in a block")

    def declare_constant(self, item: ast.ConstDecl) -> None:
        """``const``."""
        type_ = self.resolve(item.type)
        value = self.coerce(self.expression(item.value), type_, item.value.loc)
        if value.const is None and not (value.expr is not None and is_constant(value.expr)):
            self.fail(item.value.loc, f"'{item.name}' is a constant: its value must be known at compile time")
        self.scope.names[item.name] = ValueSymbol(type_, None, const=value, writable=False)

    def statement(self, statement: ast.Stmt) -> None:
        """Any statement."""
        where = self.location(statement.loc)
        match statement:
            case ast.EmptyStmt():
                pass
            case ast.BlockStmt():
                self.emit(ir.Block(body=self._captured_block(statement), loc=where))
            case ast.Assignment():
                self.assignment(statement)
            case ast.CallStmt(call=call):
                self.call(call)
            case ast.IfStmt():
                cond = self.condition(statement.cond)
                with self.unless(cond.const is not None and not cond.const):
                    then = self.nested_block(statement.then)
                with self.unless(bool(cond.const)):
                    otherwise = self.nested_block(statement.otherwise)
                if cond.const is not None:
                    self.emit(ir.Block(body=then if cond.const else otherwise, loc=where))
                else:
                    self.emit(ir.If(cond=self.rvalue(cond), then=then, otherwise=otherwise, loc=where))
            case ast.SwitchStmt():
                self.switch(statement)
            case ast.ReturnStmt():
                self.return_statement(statement)
            case ast.ExitStmt():
                if self.unit.kind == "function" or self.unit.block == "parser":
                    where_not = "function" if self.unit.kind == "function" else "parser"
                    self.fail(statement.loc, f"'exit' is not possible in a {where_not}")
                self.emit(ir.Exit(loc=where))
            case ast.BreakStmt() | ast.ContinueStmt():
                if not self.unit.loops:
                    self.fail(statement.loc, "'break' and 'continue' are possible only in a loop")
                self.emit(ir.Break(loc=where) if isinstance(statement, ast.BreakStmt) else ir.Continue(loc=where))
            case ast.ForStmt():
                self.for_statement(statement)
            case ast.ForInStmt():
                self.for_in_statement(statement)
            case _:
                self.fail(statement.loc, f"a {type(statement).__name__} is not possible here")

    def _captured_block(self, block: ast.BlockStmt) -> list[ir.Statement]:
        with self.capture() as body:
            self.block(block)
        return body

    def assignment(self, statement: ast.Assignment) -> None:
        """``left = right`` and ``left op= right``."""
        if statement.op is None and isinstance(statement.left, ast.IndexExpr) and self.assign_element(statement):
            return
        left = self.lvalue(statement.left)
        assert left.expr is not None
        if statement.op is not None:
            old = Typed(left.type, left.expr)
            before, right = self.in_order([lambda: old, self._thunk(statement.right)])
            right = self.combine(statement.op, before, right, statement.loc)
        else:
            right = self.expression(statement.right)
        right = self.coerce(right, left.type, statement.right.loc)
        if isinstance(left.expr, ir.Slice) and right.expr is not None and self.overlaps(left.expr, right.expr):
            right = self.keep(right)
        if isinstance(right.expr, ir.StructExpr) and self._mentions(right.expr, left.expr):
            right = self.keep(right)
        self.emit(ir.Assign(left=left.expr, right=self.rvalue(right), loc=self.location(statement.loc)))

    def assign_element(self, statement: ast.Assignment) -> bool:
        """``array[index] = right`` with an index that is no constant; False for any other assignment."""
        target = statement.left
        assert isinstance(target, ast.IndexExpr)
        with self.capture() as effects:
            base = self.expression(target.base)
            index = self.expression(target.index)
        array = t.strip(base.type)
        if not (isinstance(array, t.TupleT) and array.array) or index.const is not None:
            return False
        if effects or not self.is_lvalue(base.expr, target.loc, target.base):
            self.fail(target.loc, "an array that is assigned to by a variable index needs a plain name and index")
        index, right = self.in_order([lambda: index, self._thunk(statement.right)])
        right = self.keep(self.coerce(right, array.items[0], statement.right.loc))
        value = self.rvalue(right)
        act = self.each_element(base, array, index, statement.loc, lambda place: ir.Assign(left=place, right=value))
        self.emit(act)
        return True

    def _mentions(self, value: ir.Expression, target: ir.Expression) -> bool:
        """Whether evaluating ``value`` field by field could read what the assignment has already written."""
        if isinstance(value, ir.StructExpr):
            return any(self._mentions(f, target) for f in value.fields)
        return not isinstance(value, ir.Const | ir.InvalidHeader)

    def return_statement(self, statement: ast.ReturnStmt) -> None:
        """``return``: of a function, an action, a control, or an inlined control."""
        where = self.location(statement.loc)
        if self.unit.block == "parser" and self.unit.kind == "parser":
            self.fail(statement.loc, "'return' is not possible in a parser")
        if self.unit.kind == "function" and self.unit.result not in (None, t.VOID):
            assert self.unit.result is not None
            if statement.value is None:
                self.fail(statement.loc, f"the function returns {self.unit.result}: a value is missing")
            value = self.coerce(self.expression(statement.value), self.unit.result, statement.value.loc)
            self.emit(ir.Return(value=self.rvalue(value), loc=where))
            return
        if statement.value is not None:
            self.fail(statement.value.loc, "nothing can be returned here")
        if self.unit.return_label is not None:
            self.emit(ir.LeaveBlock(label=self.unit.return_label, loc=where))
        else:
            self.emit(ir.Return(loc=where))

    # ---------------------------------------------------------------------------------------------------------- switch

    def switch(self, statement: ast.SwitchStmt) -> None:
        """Over a table's ``action_run`` or over an expression (specification, section 12.7)."""
        subject = statement.subject
        if isinstance(subject, ast.Dot) and subject.member == "action_run" and isinstance(subject.base, ast.Call):
            table = self.applied_table(subject.base)
            if table is None:
                self.fail(subject.loc, "action_run belongs to table.apply()")
            self.switch_action_run(table, statement)
            return
        value = self.expression(subject)
        if not isinstance(value.type, t.BitsT | t.EnumT) and value.type != t.INT:
            self.fail(subject.loc, f"switch over a value of type {value.type}; bits, numbers and enums are possible")
        if value.const is None:
            value = self.keep(value)
        cases: list[ir.Case] = []
        seen: set[int] = set()
        for labels, default, body in self._arms(statement):
            consts = []
            for label in labels:
                found = self.coerce(self.expression(label), value.type, label.loc)
                if not isinstance(found.const, int):
                    self.fail(label.loc, "a case label must be a compile-time constant")
                if found.const in seen:
                    self.fail(label.loc, "this case label stands twice")
                seen.add(found.const)
                constant = self.rvalue(found)
                assert isinstance(constant, ir.Const)
                consts.append(constant)
            cases.append(ir.Case(values=consts, is_default=default, body=self.nested_block(body)))
        subject_expr = self.rvalue(value)
        self.emit(ir.Switch(subject=subject_expr, cases=cases, loc=self.location(statement.loc)))

    def _arms(self, statement: ast.SwitchStmt) -> list[tuple[list[ast.Expr], bool, ast.BlockStmt | None]]:
        """Cases with the labels that fall through to them joined."""
        arms: list[tuple[list[ast.Expr], bool, ast.BlockStmt | None]] = []
        labels: list[ast.Expr] = []
        default = seen_default = False
        for case in statement.cases:
            if seen_default:
                second = isinstance(case.label, ast.DontCare)
                self.fail(case.loc, "a second default" if second else "a case behind 'default', which comes last")
            if isinstance(case.label, ast.DontCare):
                default = seen_default = True
            else:
                labels.append(case.label)
            if case.body is not None:
                arms.append((labels, default, case.body))
                labels, default = [], False
        if labels or default:
            arms.append((labels, default, None))
        return arms

    def switch_action_run(self, table: TableSymbol, statement: ast.SwitchStmt) -> None:
        """``switch (t.apply().action_run)``."""
        name = self.use_table(table, statement.loc)
        actions = self.table_action_names(table)
        cases, seen = [], set[str]()
        for labels, default, body in self._arms(statement):
            names = []
            for label in labels:
                if not isinstance(label, ast.Name) or label.name not in actions:
                    valid = ", ".join(actions)
                    self.fail(label.loc, f"expected one of the actions of {table.declaration.name}: {valid}")
                if label.name in seen:
                    self.fail(label.loc, f"action '{label.name}' stands twice")
                seen.add(label.name)
                names.append(actions[label.name])
            cases.append(ir.ActionCase(actions=names, is_default=default, body=self.nested_block(body)))
        self.emit(ir.ApplyTable(table=name, cases=cases, loc=self.location(statement.loc)))

    def applied_table(self, call: ast.Call) -> TableSymbol | None:
        """The table of ``table.apply()``; None for any other call."""
        function = call.function
        if not (isinstance(function, ast.Dot) and function.member == "apply" and isinstance(function.base, ast.Name)):
            return None
        symbol = self.scope.lookup(function.base.name)
        return symbol if isinstance(symbol, TableSymbol) else None

    def apply_result(self, call: ast.Call, member: str) -> Typed | None:
        """``t.apply().hit`` and ``.miss``."""
        table = self.applied_table(call)
        if table is None:
            return None
        if member not in ("hit", "miss"):
            self.fail(call.loc, f"the result of a table has hit, miss and action_run, not '{member}'")
        name = self.use_table(table, call.loc)
        hit = self.new_variable("hit", t.BOOL)
        self.emit(ir.ApplyTable(table=name, hit=hit, loc=self.location(call.loc)))
        if member == "hit":
            return Typed(t.BOOL, hit)
        return Typed(t.BOOL, ir.Unary(type=ir.Bool(), op="!", arg=hit))

    def use_table(self, table: TableSymbol, loc: Loc) -> str:
        """The IR name of a table, lowered on first use."""
        raise NotImplementedError

    def table_action_names(self, table: TableSymbol) -> dict[str, str]:
        """Names of a table's actions as the program writes them, to IR names."""
        raise NotImplementedError

    # ----------------------------------------------------------------------------------------------------------- loops

    def for_statement(self, statement: ast.ForStmt) -> None:
        """``for (init; cond; update)``."""
        with self.in_scope(self.scope.child()):
            for item in statement.init:
                self.item(item)
            self._loop(statement.cond, statement.body, statement.update, statement.loc)

    def _loop(self, cond: ast.Expr, body: ast.Stmt, update: list[ast.Stmt], loc: Loc) -> None:
        with self.capture() as effects:
            condition = self.condition(cond)
        self.unit.loops += 1
        lowered = self.nested_block(body)
        self.unit.loops -= 1
        with self.capture() as step:
            for item in update:
                self.statement(item)
        where = self.location(loc)
        if not effects:
            self.emit(ir.Loop(cond=self.rvalue(condition), body=lowered, step=step, loc=where))
            return
        stop = ir.If(cond=ir.Unary(type=ir.Bool(), op="!", arg=self.rvalue(condition)), then=[ir.Break()])
        always = ir.Const(type=ir.Bool(), value="1")
        self.emit(ir.Loop(cond=always, body=[*effects, stop, *lowered], step=step, loc=where))

    def for_in_statement(self, statement: ast.ForInStmt) -> None:
        """``for (x in lo .. hi)``, and over lists and stacks."""
        with self.in_scope(self.scope.child()):
            if not isinstance(statement.collection, ast.Range):
                self.for_each(statement, statement.collection)
                return
            lo, hi = self.in_order([self._thunk(statement.collection.lo), self._thunk(statement.collection.hi)])
            type_ = self.resolve(statement.type)
            if not isinstance(t.strip(type_), t.BitsT):
                self.fail(statement.loc, f"a range needs a number with a width as loop variable, not {type_}")
            lo, hi = self.coerce(lo, type_, statement.loc), self.keep(self.coerce(hi, type_, statement.loc))
            variable = self.new_variable(statement.name, type_, lo, statement.loc)
            self.value_symbol(statement.name, type_, variable)
            self.unit.loops += 1
            body = self.nested_block(statement.body)
            self.unit.loops -= 1
            ir_type = self.ir_type(type_)
            current = Typed(type_, variable)
            # The end is inclusive and may be the type's largest value: leave before stepping past it.
            stop = ir.If(cond=self._binary("==", t.BOOL, current, hi), then=[ir.Break()])
            one = ir.Const(type=ir_type, value="1")
            step = ir.Assign(left=variable, right=ir.Binary(type=ir_type, op="+", left=variable, right=one))
            cond = ir.Binary(type=ir.Bool(), op="<=", left=variable, right=self.rvalue(hi))
            self.emit(ir.Loop(cond=cond, body=body, step=[stop, step], loc=self.location(statement.loc)))

    def for_each(self, statement: ast.ForInStmt, source: ast.Expr) -> None:
        """``for`` over a list or a stack: what it holds before the first turn, by a loop over an index."""
        where = self.location(statement.loc)
        collection = self.expression(source)
        stack = t.strip(collection.type)
        if isinstance(stack, t.TupleT) and stack.array:
            kept, element = self.keep(collection), stack.items[0]
            kind = self.ir_type(element)
            fields = [ir.Member(type=kind, base=self.rvalue(kept), field=f"f{i}") for i in range(len(stack.items))]
            values = [Typed(element, field) for field in fields]
        elif isinstance(collection.type, t.ListT):
            element, values = collection.type.element, [self.keep(v) for v in collection.items or []]
        elif isinstance(stack, t.StackT):
            element, values = stack.element, []
            collection = self.keep(collection)
        else:
            self.fail(source.loc, f"for goes over ranges, lists and header stacks, not over {collection.type}")
        variable = self.loop_variable(statement, element)
        index = self.new_variable("index", BIT32, self.constant(BIT32, 0))
        ir_type = self.ir_type(element)
        if isinstance(stack, t.StackT):
            count = stack.size
            current = ir.Index(type=ir_type, base=self.rvalue(collection), index=index)
            head: list[ir.Statement] = [ir.Assign(left=variable, right=current, loc=where)]
        else:
            count = len(values)
            cases = [
                ir.Case(
                    values=[ir.Const(type=index.type, value=str(i))],
                    body=[ir.Assign(left=variable, right=self.rvalue(value), loc=where)],
                )
                for i, value in enumerate(values)
            ]
            head = [ir.Switch(subject=index, cases=cases, loc=where)]
        self.unit.loops += 1
        body = self.nested_block(statement.body)
        self.unit.loops -= 1
        end = ir.Const(type=index.type, value=str(count))
        one = ir.Const(type=index.type, value="1")
        step = ir.Assign(left=index, right=ir.Binary(type=index.type, op="+", left=index, right=one))
        cond = ir.Binary(type=ir.Bool(), op="<", left=index, right=end)
        self.emit(ir.Loop(cond=cond, body=[*head, *body], step=[step], loc=where))

    def loop_variable(self, statement: ast.ForInStmt, element: t.Type) -> ir.Expression:
        """The variable of a for-in loop, which it declares."""
        type_ = self.resolve(statement.type)
        variable = self.new_variable(statement.name, type_, None, statement.loc)
        self.value_symbol(statement.name, type_, variable)
        if type_ != element:
            self.fail(statement.loc, f"the loop variable '{statement.name}' is {type_}, the elements are {element}")
        return variable


def is_constant(expr: ir.Expression) -> bool:
    """Whether a struct, header or tuple expression consists of constants alone."""
    if isinstance(expr, ir.StructExpr):
        return all(is_constant(field) for field in expr.fields)
    return isinstance(expr, ir.Const | ir.StringConst | ir.InvalidHeader)
