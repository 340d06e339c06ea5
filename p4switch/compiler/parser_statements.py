"""Statements of the P4_16 grammar."""

from __future__ import annotations

from p4switch.compiler import ast
from p4switch.compiler.diagnostics import Loc
from p4switch.compiler.parser_expressions import ExpressionParser

_ASSIGNMENT_OPS = ("+=", "-=", "*=", "/=", "%=", "<<=", ">>=", "&=", "|=", "^=", "|+|=", "|-|=")


class StatementParser(ExpressionParser):
    """Rules for statements."""

    def block_statement(self) -> ast.BlockStmt:
        """``{ statements and declarations }``."""
        annotations = self.opt_annotations()
        loc = self.expect("{", "to open a block").loc
        with self.nested(), self.scope():
            body: list[ast.Stmt | ast.Declaration] = []
            while not self.see("}"):
                if self.token.kind == "end":
                    self.expect("}", "to close the block", loc)
                body.append(self.statement_or_declaration())
        self.expect("}")
        return ast.BlockStmt(loc=loc, annotations=annotations, body=body)

    def statement_or_declaration(self) -> ast.Stmt | ast.Declaration:
        """A statement, a variable, a constant or an instantiation."""
        start = self.at
        annotations = self.opt_annotations()
        if self.see("const"):
            return self.constant_declaration(annotations)
        if self.starts_declaration():
            return self.variable_or_instantiation(annotations)
        self.at = start
        return self.statement()

    def starts_declaration(self) -> bool:
        """Whether a type with a name or an argument list behind it stands here, not an expression that begins with a type."""
        if not self.starts_type():
            return False
        start = self.at

        def head() -> bool:
            self.type_ref()
            if self.see("("):  # an instantiation has a name behind its arguments, a call has not
                self.argument_list()
            return self.at_name()

        fits = self.attempt(head)
        self.at = start
        return bool(fits)

    def constant_declaration(self, annotations: list[ast.Annotation]) -> ast.ConstDecl:
        """``const type name = value;``."""
        loc = self.expect("const").loc
        type_ = self.type_ref()
        name = self.name("the constant's name")
        self.expect("=", "after the constant's name")
        value = self.expression()
        self.expect(";", "after the constant")
        self.declare(name.text, False)
        return ast.ConstDecl(loc=name.loc or loc, name=name.text, annotations=annotations, type=type_, value=value)

    def variable_or_instantiation(self, annotations: list[ast.Annotation]) -> ast.Declaration:
        """``type name [= value];`` or ``type(args) name [= { ... }];``."""
        type_ = self.type_ref()
        if self.see("("):
            args = self.argument_list()
            name = self.name("the instance's name")
            initializer = self.object_initializer() if self.take("=") else None
            self.expect(";", "after the instantiation")
            self.declare(name.text, False)
            return ast.Instantiation(
                loc=name.loc, name=name.text, annotations=annotations, type=type_, args=args, initializer=initializer
            )
        name = self.name("the variable's name")
        type_ = self.array_declarator(type_)
        init = self.expression() if self.take("=") else None
        self.expect(";", "after the declaration")
        self.declare(name.text, False)
        return ast.VarDecl(loc=name.loc, name=name.text, annotations=annotations, type=type_, init=init)

    def object_initializer(self) -> ast.BlockStmt:
        """The body of an instance with abstract methods: refused, no v1model extern has any."""
        self.error(self.token.loc, "instances with abstract methods are not supported: v1model has no extern with any")

    def statement(self) -> ast.Stmt:
        """statement."""
        annotations = self.opt_annotations()
        token = self.token
        with self.nested():
            if self.see("{"):
                block = self.block_statement()
                block.annotations = annotations
                return block
            if self.take(";"):
                return ast.EmptyStmt(loc=token.loc)
            if self.take("if"):
                return self.conditional_statement(token.loc)
            if self.take("switch"):
                return self.switch_statement(token.loc)
            if self.take("for"):
                return self.for_statement(token.loc)
            if self.take("return"):
                value = None if self.see(";") else self.expression()
                self.expect(";", "after 'return'")
                return ast.ReturnStmt(loc=token.loc, value=value)
            for keyword, node in (("exit", ast.ExitStmt), ("break", ast.BreakStmt), ("continue", ast.ContinueStmt)):
                if self.take(keyword):
                    self.expect(";", f"after '{keyword}'")
                    return node(loc=token.loc)
            if self.see("else"):
                self.error(token.loc, "'else' without an 'if' before it")
            statement = self.assignment_or_call()
            self.expect(";", "after the statement")
            return statement

    def assignment_or_call(self) -> ast.Stmt:
        """``lvalue = expr`` (or ``op=``), or a call; without the semicolon."""
        loc = self.token.loc
        left = self.postfix(self.primary())
        token = self.token
        if token.text == ">" and self.peek().text == ">=":  # >>= in two tokens
            self.advance()
            self.advance()
            return ast.Assignment(loc=loc, left=left, right=self.expression(), op=">>")
        if self.take("="):
            return ast.Assignment(loc=loc, left=left, right=self.expression())
        if self.take(*_ASSIGNMENT_OPS):
            return ast.Assignment(loc=loc, left=left, right=self.expression(), op=token.text[:-1])
        if isinstance(left, ast.Call):
            return ast.CallStmt(loc=loc, call=left)
        if isinstance(left, ast.Name) and self.token.kind == "name":
            self.error(left.loc, f"unknown type '{left.name}'")
        self.fail("expected '=' or a call")

    def conditional_statement(self, loc: Loc) -> ast.IfStmt:
        """Behind ``if``."""
        self.expect("(", "after 'if'")
        cond = self.expression()
        self.expect(")", "after the condition")
        then = self.statement()
        otherwise = self.statement() if self.take("else") else None
        return ast.IfStmt(loc=loc, cond=cond, then=then, otherwise=otherwise)

    def switch_statement(self, loc: Loc) -> ast.SwitchStmt:
        """Behind ``switch``."""
        self.expect("(", "after 'switch'")
        subject = self.expression()
        self.expect(")", "after the switch expression")
        self.expect("{", "to open the cases")
        cases = []
        while not self.take("}"):
            start = self.token
            label: ast.Expr = ast.DontCare(loc=start.loc) if self.take("default") else self.expression()
            self.expect(":", "after a case label")
            body = self.block_statement() if self.see("{", "@") else None
            cases.append(ast.SwitchCase(loc=start.loc, label=label, body=body))
        return ast.SwitchStmt(loc=loc, subject=subject, cases=cases)

    def for_statement(self, loc: Loc) -> ast.Stmt:
        """Behind ``for``: both forms."""
        self.expect("(", "after 'for'")
        with self.scope():
            each = self.attempt(self.for_in_head)
            if each is not None:
                type_, name = each
                if type_ is None:
                    self.error(loc, f"the loop variable '{name}' needs its type here: for (bit<8> {name} in ...)")
                first = self.expression()
                collection = ast.Range(loc=first.loc, lo=first, hi=self.expression()) if self.take("..") else first
                self.expect(")", "after the collection")
                return ast.ForInStmt(loc=loc, type=type_, name=name, collection=collection, body=self.statement())
            init: list[ast.Stmt | ast.Declaration] = []
            while not self.see(";"):
                init.append(self.for_init())
                if not self.take(","):
                    break
            self.expect(";", "after the initialisation")
            cond = self.expression()
            self.expect(";", "after the condition")
            update = self.comma_list(self.assignment_or_call, ")")
            self.expect(")", "after the update")
            return ast.ForStmt(loc=loc, init=init, cond=cond, update=update, body=self.statement())

    def for_in_head(self) -> tuple[ast.TypeRef | None, str]:
        """``[type] name in``."""
        self.opt_annotations()
        type_ = self.type_ref() if self.starts_declaration() else None
        name = self.name("the loop variable")
        self.expect("in")
        self.declare(name.text, False)
        return type_, name.text

    def for_init(self) -> ast.Stmt | ast.Declaration:
        """A declaration or assignment without its semicolon."""
        annotations = self.opt_annotations()
        if not self.starts_declaration():
            return self.assignment_or_call()
        type_ = self.type_ref()
        name = self.name("the loop variable")
        self.expect("=", "after the loop variable")
        self.declare(name.text, False)
        return ast.VarDecl(loc=name.loc, name=name.text, annotations=annotations, type=type_, init=self.expression())
