"""Declarations of the P4_16 grammar, and the parser as a whole."""

from __future__ import annotations

from typing import Literal

from p4switch.compiler import ast
from p4switch.compiler.diagnostics import Loc
from p4switch.compiler.lexer import tokenize
from p4switch.compiler.parser_statements import StatementParser

_COMPOSITES: dict[str, Literal["header", "struct", "header_union"]] = {
    "header": "header",
    "struct": "struct",
    "header_union": "header_union",
}


def parse(text: str, file: str) -> ast.SourceFile:
    """Parse preprocessed source. Raises CompileError at the first syntax error."""
    return Parser(tokenize(text, file)).p4program()


class Parser(StatementParser):
    """The whole grammar."""

    def p4program(self) -> ast.SourceFile:
        """p4program."""
        loc = self.token.loc
        declarations = []
        while self.token.kind != "end":
            if self.take(";"):
                continue
            declarations.append(self.declaration())
        return ast.SourceFile(loc=loc, declarations=declarations)

    def declaration(self) -> ast.Declaration:
        """declaration, at the top level."""
        annotations = self.opt_annotations()
        token = self.token
        if self.see("const"):
            return self.constant_declaration(annotations)
        if self.take("extern"):
            return self.extern_declaration(annotations, token.loc)
        if self.see("action"):
            return self.action_declaration(annotations)
        if self.take("parser"):
            return self.parser_declaration(annotations, token.loc)
        if self.take("control"):
            return self.control_declaration(annotations, token.loc)
        if self.take("package"):
            return self.package_declaration(annotations)
        if self.see("header", "struct", "header_union"):
            return self.composite_declaration(annotations)
        if self.take("enum"):
            return self.enum_declaration(annotations)
        if self.see("error") and self.peek().text == "{":
            self.advance()
            return ast.ErrorDecl(loc=token.loc, name="error", annotations=annotations, members=self.identifier_block())
        if self.see("match_kind") and self.peek().text == "{":
            self.advance()
            members = self.identifier_block()
            return ast.MatchKindDecl(loc=token.loc, name="match_kind", annotations=annotations, members=members)
        if self.see("typedef") or (self.see("type") and self.peek().text != "("):
            return self.typedef_declaration(annotations)
        if self.starts_type() or self.token.kind == "name":
            return self.function_or_instantiation(annotations)
        self.fail("expected a declaration")

    def identifier_block(self) -> list[str]:
        """``{ name, name }`` of error and match_kind."""
        self.expect("{")
        names = [t.text for t in self.comma_list(lambda: self.name("a member"), "}", trailing=True)]
        self.expect("}", "after the members")
        self.take(";")
        return names

    # -------------------------------------------------------------------------------------------- types of the user's

    def composite_declaration(self, annotations: list[ast.Annotation]) -> ast.CompositeDecl:
        """headerTypeDeclaration, structTypeDeclaration, headerUnionDeclaration."""
        kind = _COMPOSITES[self.advance().text]
        name = self.name(f"the {kind.replace('_', ' ')}'s name")
        self.declare(name.text, True)
        with self.scope():
            type_params = self.opt_type_parameters()
            self.expect("{", "to open the fields")
            fields = []
            while not self.take("}"):
                field_annotations = self.opt_annotations()
                type_ = self.type_ref()
                field = self.name("a field name")
                type_ = self.array_declarator(type_)
                self.expect(";", "after a field")
                fields.append(ast.FieldDecl(loc=field.loc, name=field.text, annotations=field_annotations, type=type_))
        return ast.CompositeDecl(
            loc=name.loc, name=name.text, annotations=annotations, kind=kind, type_params=type_params, fields=fields
        )

    def enum_declaration(self, annotations: list[ast.Annotation]) -> ast.EnumDecl:
        """Behind ``enum``."""
        underlying = self.type_ref() if self.see("bit", "int") or self.is_type_name(self.token) else None
        name = self.name("the enum's name")
        self.declare(name.text, True)
        self.expect("{", "to open the members")

        def member() -> tuple[str, ast.Expr | None]:
            self.opt_annotations()
            member_name = self.name("a member").text
            return member_name, self.expression() if self.take("=") else None

        members = self.comma_list(member, "}", trailing=True)
        self.expect("}", "after the members")
        return ast.EnumDecl(
            loc=name.loc, name=name.text, annotations=annotations, underlying=underlying, members=members
        )

    def typedef_declaration(self, annotations: list[ast.Annotation]) -> ast.Declaration:
        """``typedef type name;`` or ``type type name;``."""
        is_new = self.advance().text == "type"
        if self.see("header", "struct", "header_union"):
            self.fail("expected a type; declare it first and name it here")
        type_ = self.type_ref()
        name = self.name("the type's name")
        self.expect(";", "after the type declaration")
        self.declare(name.text, True)
        return ast.TypedefDecl(loc=name.loc, name=name.text, annotations=annotations, type=type_, is_new=is_new)

    # ------------------------------------------------------------------------------------- functions, externs, actions

    def parameters(self) -> list[ast.ParamDecl]:
        """``( parameters )``; declares their names."""
        self.expect("(", "to open the parameters")
        params = self.comma_list(self.parameter, ")")
        self.expect(")", "after the parameters")
        return params

    def parameter(self) -> ast.ParamDecl:
        """``[annotations] [direction] type name [= default]``."""
        annotations = self.opt_annotations()
        direction: Literal["", "in", "out", "inout"] = ""
        token = self.token
        if self.take("in"):
            direction = "in"
        elif self.take("out"):
            direction = "out"
        elif self.take("inout"):
            direction = "inout"
        type_ = self.type_argument()
        name = self.name("the parameter's name") if self.at_name() or not self.see(",", ")") else token
        default = self.expression() if self.take("=") else None
        self.declare(name.text, False)
        return ast.ParamDecl(
            loc=name.loc, name=name.text, annotations=annotations, type=type_, direction=direction, default=default
        )

    def extern_declaration(self, annotations: list[ast.Annotation], loc: Loc) -> ast.Declaration:
        """Behind ``extern``: an object with methods, or a function."""
        if self.at_name() and self.peek().text in ("<", "{", ";") and not self.is_function_head():
            name = self.name()
            self.declare(name.text, True)
            with self.scope():
                type_params = self.opt_type_parameters()
                methods: list[ast.FunctionDecl] = []
                if not self.take(";"):
                    self.expect("{", "to open the methods")
                    while not self.take("}"):
                        methods.append(self.method(name.text))
            return ast.ExternDecl(
                loc=name.loc, name=name.text, annotations=annotations, type_params=type_params, methods=methods
            )
        with self.scope():
            function = self.function_prototype(annotations)
        self.expect(";", "after an extern function")
        self.declare(function.name, False)
        return function

    def is_function_head(self) -> bool:
        """Whether an extern function whose result is a named type stands here."""
        start = self.at
        fits = self.attempt(lambda: (self.type_ref(), self.at_name() or self.fail("expected a name")))
        self.at = start
        return fits is not None and self.is_type_name(self.token)

    def method(self, owner: str) -> ast.FunctionDecl:
        """A method or constructor of an extern."""
        annotations = self.opt_annotations()
        abstract = self.take("abstract")
        with self.scope():
            if self.token.text == owner and self.peek().text == "(":
                name = self.advance()
                void = ast.BaseType(loc=name.loc, name="void")
                function = ast.FunctionDecl(
                    loc=name.loc,
                    name=owner,
                    annotations=annotations,
                    result=void,
                    type_params=[],
                    params=self.parameters(),
                )
            else:
                function = self.function_prototype(annotations)
        function.abstract = abstract
        self.expect(";", "after a method")
        return function

    def function_prototype(self, annotations: list[ast.Annotation]) -> ast.FunctionDecl:
        """``type name<T>(params)``; the result may use the type parameters that follow it."""
        start = self.at
        self.early_names = True
        result = self.attempt(self.type_ref)
        self.early_names = False
        if result is None:  # a type parameter as result: it is declared only behind the name
            token = self.name("a type")
            result = ast.NamedType(loc=token.loc, name=token.text)
        elif self.see("("):  # the name itself was read as a type
            self.at = start
            self.fail("expected the type of the result")
        name = self.name("the function's name")
        type_params = self.opt_type_parameters()
        params = self.parameters()
        return ast.FunctionDecl(
            loc=name.loc,
            name=name.text,
            annotations=annotations,
            result=result,
            type_params=type_params,
            params=params,
        )

    def function_or_instantiation(self, annotations: list[ast.Annotation]) -> ast.Declaration:
        """A top-level function or instantiation."""
        start = self.at

        def prototype() -> ast.FunctionDecl:
            with self.scope():
                function = self.function_prototype(annotations)
                if not self.see("{"):
                    self.fail("expected '{'")
                function.body = self.block_statement()
                return function

        # Whether it is a function shows at its head; parse the head apart so that an error in the body is reported as such.
        def head() -> bool:
            with self.scope():
                self.function_prototype([])
            return self.see("{")

        is_function = self.attempt(head)
        self.at = start
        if is_function:
            function = prototype()
            self.declare(function.name, False)
            return function
        return self.variable_or_instantiation(annotations)

    def action_declaration(self, annotations: list[ast.Annotation]) -> ast.ActionDecl:
        """``action name(params) { ... }``."""
        self.expect("action")
        name = self.name("the action's name")
        with self.scope():
            params = self.parameters()
            body = self.block_statement()
        self.declare(name.text, False)
        return ast.ActionDecl(loc=name.loc, name=name.text, annotations=annotations, params=params, body=body)

    def package_declaration(self, annotations: list[ast.Annotation]) -> ast.PackageDecl:
        """Behind ``package``."""
        name = self.name("the package's name")
        self.declare(name.text, True)
        with self.scope():
            type_params = self.opt_type_parameters()
            params = self.parameters()
        self.expect(";", "after the package")
        return ast.PackageDecl(
            loc=name.loc, name=name.text, annotations=annotations, type_params=type_params, params=params
        )

    # ---------------------------------------------------------------------------------------------------- parsers

    def parser_declaration(self, annotations: list[ast.Annotation], loc: Loc) -> ast.ParserDecl:
        """Behind ``parser``: a type or a definition."""
        name = self.name("the parser's name")
        self.declare(name.text, True)
        with self.scope():
            type_params = self.opt_type_parameters()
            params = self.parameters()
            node = ast.ParserDecl(
                loc=name.loc,
                name=name.text,
                annotations=annotations,
                type_params=type_params,
                params=params,
                constructor_params=[],
                locals=[],
                states=None,
            )
            if self.take(";"):
                return node
            if self.see("("):
                node.constructor_params = self.parameters()
            self.expect("{", "to open the parser")
            node.states = []
            while not self.take("}"):
                element_annotations = self.opt_annotations()
                if self.see("state"):
                    node.states.append(self.parser_state(element_annotations))
                elif self.see("value_set"):
                    node.locals.append(self.value_set_declaration(element_annotations))
                elif self.see("const"):
                    node.locals.append(self.constant_declaration(element_annotations))
                elif self.starts_type():
                    node.locals.append(self.variable_or_instantiation(element_annotations))
                else:
                    self.fail("expected a state or a declaration in the parser")
        return node

    def value_set_declaration(self, annotations: list[ast.Annotation]) -> ast.ValueSetDecl:
        """``value_set<type>(size) name;``."""
        self.expect("value_set")
        self.expect("<", "after 'value_set'")
        type_ = self.type_ref()
        self.expect(">", "after the value set's type")
        self.expect("(", "before the value set's size")
        size = self.expression()
        self.expect(")", "after the value set's size")
        name = self.name("the value set's name")
        self.expect(";", "after the value set")
        self.declare(name.text, False)
        return ast.ValueSetDecl(loc=name.loc, name=name.text, annotations=annotations, type=type_, size=size)

    def parser_state(self, annotations: list[ast.Annotation]) -> ast.StateDecl:
        """``state name { statements [transition] }``."""
        self.expect("state")
        name = self.name("the state's name")
        self.expect("{", "to open the state")
        body: list[ast.Stmt | ast.Declaration] = []
        transition = None
        with self.scope():
            while not self.see("}"):
                if self.see("transition"):
                    transition = self.transition_statement()
                    break
                body.append(self.statement_or_declaration())
        self.expect("}", "to close the state", name.loc)
        return ast.StateDecl(loc=name.loc, name=name.text, annotations=annotations, body=body, transition=transition)

    def transition_statement(self) -> ast.Transition:
        """``transition name;`` or ``transition select(...) { ... }``."""
        loc = self.expect("transition").loc
        if not self.take("select"):
            state = self.name("a state").text
            self.expect(";", "after the transition")
            return ast.Transition(loc=loc, state=state, select=[], cases=[])
        self.expect("(", "after 'select'")
        select = self.comma_list(self.expression, ")")
        self.expect(")", "after the select expressions")
        self.expect("{", "to open the select cases")
        cases = []
        while not self.take("}"):
            start = self.token.loc
            keys = self.keyset()
            self.expect(":", "after a keyset")
            state = self.name("a state").text
            self.expect(";", "after a select case")
            cases.append(ast.SelectCase(loc=start, keys=keys, state=state))
        return ast.Transition(loc=loc, state=None, select=select, cases=cases)

    # --------------------------------------------------------------------------------------------------- controls

    def control_declaration(self, annotations: list[ast.Annotation], loc: Loc) -> ast.ControlDecl:
        """Behind ``control``: a type or a definition."""
        name = self.name("the control's name")
        self.declare(name.text, True)
        with self.scope():
            type_params = self.opt_type_parameters()
            params = self.parameters()
            node = ast.ControlDecl(
                loc=name.loc,
                name=name.text,
                annotations=annotations,
                type_params=type_params,
                params=params,
                constructor_params=[],
                locals=[],
                body=None,
            )
            if self.take(";"):
                return node
            if self.see("("):
                node.constructor_params = self.parameters()
            self.expect("{", "to open the control")
            while not self.see("apply"):
                local_annotations = self.opt_annotations()
                if self.see("action"):
                    node.locals.append(self.action_declaration(local_annotations))
                elif self.see("table"):
                    node.locals.append(self.table_declaration(local_annotations))
                elif self.see("const"):
                    node.locals.append(self.constant_declaration(local_annotations))
                elif self.starts_type():
                    node.locals.append(self.variable_or_instantiation(local_annotations))
                else:
                    self.fail("expected a declaration or 'apply' in the control")
            self.expect("apply")
            node.body = self.block_statement()
            self.expect("}", "to close the control", name.loc)
        return node

    def table_declaration(self, annotations: list[ast.Annotation]) -> ast.TableDecl:
        """``table name { properties }``."""
        self.expect("table")
        name = self.name("the table's name")
        self.expect("{", "to open the table")
        properties = []
        while not self.take("}"):
            properties.append(self.table_property())
        self.declare(name.text, False)
        return ast.TableDecl(loc=name.loc, name=name.text, annotations=annotations, properties=properties)

    def table_property(self) -> ast.TableProperty:
        """key, actions, entries, or any other property."""
        annotations = self.opt_annotations()
        loc = self.token.loc
        is_const = self.take("const")
        name = self.name("a table property")
        self.expect("=", f"after '{name.text}'")
        node = ast.TableProperty(loc=name.loc or loc, name=name.text, is_const=is_const, annotations=annotations)
        if name.text == "key":
            self.expect("{", "to open the keys")
            while not self.take("}"):
                expr = self.expression()
                self.expect(":", "after a key expression")
                kind = self.name("a match kind")
                key_annotations = self.opt_annotations()
                self.expect(";", "after a key")
                node.keys.append(
                    ast.KeyElement(loc=expr.loc, expr=expr, match_kind=kind.text, annotations=key_annotations)
                )
        elif name.text == "actions":
            self.expect("{", "to open the actions")
            while not self.take("}"):
                node.actions.append(self.action_ref())
                self.expect(";", "after an action")
        elif name.text == "entries":
            self.expect("{", "to open the entries")
            while not self.take("}"):
                node.entries.append(self.entry())
        else:
            node.value = self.expression()
            self.expect(";", "after a table property")
        if name.text in ("key", "actions", "entries"):
            self.take(";")
        return node

    def action_ref(self) -> ast.ActionElement:
        """``[annotations] name [(args)]``."""
        annotations = self.opt_annotations()
        absolute = self.take(".")
        name = self.name("an action")
        args = self.argument_list() if self.see("(") else None
        action = ast.Name(loc=name.loc, name=name.text, absolute=absolute)
        return ast.ActionElement(loc=name.loc, action=action, args=args, annotations=annotations)

    def entry(self) -> ast.EntryElement:
        """``[const] [priority = n :] keyset : action [annotations];``."""
        loc = self.token.loc
        is_const = self.take("const")
        priority = None
        if self.at_name() and self.token.text == "priority" and self.peek().text == "=":
            self.advance()
            self.advance()
            priority = self.expression()
            self.expect(":", "after an entry's priority")
        keys = self.keyset()
        self.expect(":", "after an entry's keys")
        action = self.postfix(self.primary())
        annotations = self.opt_annotations()
        self.expect(";", "after an entry")
        return ast.EntryElement(
            loc=loc, keys=keys, action=action, priority=priority, is_const=is_const, annotations=annotations
        )
