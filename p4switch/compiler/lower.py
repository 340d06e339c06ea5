"""Type checks a parsed program and lowers it to the IR. The entry point is :func:`lower_program`."""

from __future__ import annotations

import re
from dataclasses import replace

from p4switch.compiler import ast, ir
from p4switch.compiler import notes as note_text
from p4switch.compiler import types as t
from p4switch.compiler.check_names import check_names
from p4switch.compiler.diagnostics import CompileError, Diagnostics, Loc
from p4switch.compiler.lexer import tokenize
from p4switch.compiler.lower_base import Typed
from p4switch.compiler.lower_controls import ShareConflict
from p4switch.compiler.lower_unused import UnusedLowering
from p4switch.compiler.parser_declarations import Parser
from p4switch.compiler.scope import (
    ActionSymbol,
    FunctionSymbol,
    GenericSymbol,
    InstanceSymbol,
    TypeSymbol,
)

_BLOCKS = ("parser", "verify_checksum", "ingress", "egress", "compute_checksum", "deparser")
_DIRECTIONS = {
    "verify_checksum": ("inout", "inout"),
    "ingress": ("inout", "inout", "inout"),
    "egress": ("inout", "inout", "inout"),
    "compute_checksum": ("inout", "inout"),
    "deparser": ("packet", "in"),
}
_FIRST_ANONYMOUS_FIELD_LIST = 128


def lower_program(source: ast.SourceFile, diagnostics: Diagnostics, name: str = "") -> ir.Program:
    """The IR of a v1model program. Raises CompileError when the program is refused; warnings go to ``diagnostics``."""
    by_copy: set[str] = set()
    while True:
        attempt = Diagnostics()
        lowering = Lowering(attempt, by_copy)
        try:
            program = lowering.program(source, name)
        except ShareConflict as conflict:
            by_copy.add(conflict.path)
            continue
        finally:
            seen = set(diagnostics.messages)
            diagnostics.messages.extend(m for m in attempt.messages if m not in seen)
        if lowering.unused:
            check_unused(source, by_copy, diagnostics)
        return program


def check_unused(source: ast.SourceFile, by_copy: set[str], diagnostics: Diagnostics) -> None:
    """Report the first error in what nothing uses: once more, with it, for its messages alone."""
    by_copy = set(by_copy)
    while True:
        attempt = Diagnostics()
        try:
            Lowering(attempt, by_copy, unused_too=True).program(source, "")
            return
        except ShareConflict as conflict:
            by_copy.add(conflict.path)
        except CompileError:
            diagnostics.messages.extend(m for m in attempt.messages if m.severity == "error")
            raise


class Lowering(UnusedLowering):
    """The whole program."""

    def __init__(self, diagnostics: Diagnostics, by_copy: set[str], unused_too: bool = False):
        super().__init__(diagnostics)
        self.by_copy = by_copy
        self.unused_too, self.unused = unused_too, False
        self.functions = {}
        self.open_functions = set()
        self.lowered_functions = []
        self.externs = {}
        self.tables = {}
        self.actions = {}
        self.action_symbols = {}
        self.table_actions = {}
        self.table_symbols = {}
        self.extern_scopes = {}
        self.key_effects = {}
        self.direct_instances = {}
        self.direct_paths = set()
        self.block_params = {}
        self.current_path = ""
        self.active = []
        self.within = []
        self.elaborated_blocks, self.alone = set(), False
        self.states = []
        self.state_body = None
        self.value_sets = {}
        self.digests: dict[str, ir.Digest] = {}
        self.field_lists: dict[int, list[list[str]]] = {}
        self.controller_headers: list[ir.ControllerHeader] = []
        self.main: ast.Instantiation | None = None

    def program(self, source: ast.SourceFile, name: str) -> ir.Program:
        """Lower all."""
        for declaration in source.declarations:
            self.top_level(declaration)
        if self.main is None:
            last = source.declarations[-1].loc if source.declarations else source.loc
            self.fail(last, "the program has no 'main': V1Switch(...) main; is missing")
        check_names(source, self.diagnostics)
        blocks = self.package(self.main)
        parser, headers, metadata = self.top_parser(blocks["parser"])
        for type_, what in ((headers, "headers"), (metadata, "metadata")):
            kinds = ("struct", "header") if what == "headers" else ("struct",)
            if not isinstance(type_, t.StructT) or type_.kind not in kinds:
                self.fail(blocks["parser"].declaration.loc, f"the {what} of V1Switch must be a struct, not {type_}")
        controls = {}
        for block, directions in _DIRECTIONS.items():
            controls[block] = self.top_control(blocks[block], block, directions)
            self.check_block_types(blocks[block], block, headers, metadata)
        self.collect_field_lists(metadata)
        self.rest_of_functions()
        self.rest_of_actions()
        self.rest_of_blocks()
        assert isinstance(headers, t.StructT) and isinstance(metadata, t.StructT)
        return ir.Program(
            name=name,
            annotations=self.notes(self.main.annotations),
            headers=self.composites("header"),
            structs=[*self.composites("struct"), *self.tuples.composites()],
            unions=self.composites("header_union"),
            enums=[self.enum_to_ir(e) for e in self.enum_types.values()],
            new_types=[self.new_type_to_ir(d, n) for d, n in self.new_types.values()],
            errors=self.errors,
            headers_type=headers.name,
            metadata_type=metadata.name,
            parser=parser,
            verify_checksum=controls["verify_checksum"],
            ingress=controls["ingress"],
            egress=controls["egress"],
            compute_checksum=controls["compute_checksum"],
            deparser=controls["deparser"],
            functions=self.lowered_functions,
            actions=list(self.actions.values()),
            tables=list(self.tables.values()),
            externs=list(self.externs.values()),
            value_sets=list(self.value_sets.values()),
            digests=list(self.digests.values()),
            controller_headers=self.controller_headers,
            field_lists=[ir.FieldList(index=i, paths=p) for i, p in sorted(self.field_lists.items())],
        )

    # -------------------------------------------------------------------------------------------------------- top level

    def top_level(self, item: ast.Declaration) -> None:
        """A declaration of the program."""
        if isinstance(item, ast.ErrorDecl):
            for member in item.members:
                if member in self.errors:
                    self.fail(item.loc, f"error '{member}' is declared twice")
                self.errors.append(member)
            return
        if isinstance(item, ast.MatchKindDecl):
            for member in item.members:
                if member in self.match_kinds:
                    self.fail(item.loc, f"match kind '{member}' is declared twice")
                self.match_kinds.add(member)
            return
        known = self.root.names.get(item.name)
        self.root.positions.setdefault(item.name, item.loc.offset)
        if isinstance(item, ast.FunctionDecl):
            if known is None:
                self.root.names[item.name] = FunctionSymbol([item], self.root)
            elif isinstance(known, FunctionSymbol):
                names = [p.name for p in item.params]
                if any(names == [p.name for p in other.params] for other in known.overloads):
                    self.fail(item.loc, f"'{item.name}' is declared twice with these parameters")
                known.overloads.append(item)
            else:
                self.fail(item.loc, f"'{item.name}' is declared twice")
            return
        if known is not None:
            self.fail(item.loc, f"'{item.name}' is declared twice")
        match item:
            case ast.CompositeDecl():
                self.declare_composite(item)
            case ast.EnumDecl():
                self.declare_enum(item)
            case ast.TypedefDecl():
                type_ = self.resolve(item.type)
                if item.is_new:
                    if not isinstance(t.strip(type_), t.BitsT | t.EnumT) and t.strip(type_) not in (t.BOOL, t.ERROR):
                        self.fail(item.type.loc, f"'type' makes new types of numbers, bools and enums, not of {type_}")
                    new = t.NewT(item.name, type_)
                    self.new_types[item.name] = (item, new)
                    type_ = new
                self.root.names[item.name] = TypeSymbol(type_)
            case ast.ConstDecl():
                self.declare_constant(item)
            case ast.ActionDecl():
                path = note_text.name_of(item.annotations) or item.name
                self.root.names[item.name] = ActionSymbol(item, self.root, path.removeprefix("."))
            case ast.ControlDecl() | ast.ParserDecl() | ast.PackageDecl():
                self.root.names[item.name] = GenericSymbol(item, self.root)
            case ast.ExternDecl(name="packet_in" | "packet_out"):
                self.root.names[item.name] = TypeSymbol(t.Simple(item.name))
            case ast.ExternDecl():
                self.root.names[item.name] = GenericSymbol(item, self.root)
            case ast.Instantiation(name="main"):
                self.main = item
            case ast.Instantiation():
                self.instantiate(item, "")
                if isinstance(self.root.names[item.name], InstanceSymbol):
                    note = "give V1Switch the type and (), or declare the instance in the block that applies it"
                    self.fail(item.loc, "controls and parsers have no instances at the top level", note)
            case _:
                self.fail(item.loc, "this declaration is not possible at the top level")

    def declare_composite(self, item: ast.CompositeDecl) -> None:
        """A header, struct or union; generic ones are made when they are used."""
        symbol = GenericSymbol(item, self.root)
        if item.type_params:
            self.root.names[item.name] = symbol
            return
        struct = self.specialise(symbol, (), item.loc)
        self.root.names[item.name] = TypeSymbol(struct)
        note = note_text.find(item.annotations, "controller_header")
        if note is not None:
            name = note_text.string_body(note)
            if not name:
                self.fail(item.loc, '@controller_header needs a name: @controller_header("packet_in")')
            self.controller_headers.append(ir.ControllerHeader(header=struct.name, name=name))

    def declare_enum(self, item: ast.EnumDecl) -> None:
        """An enum, serialisable if it has an underlying type."""
        names = [n for n, _ in item.members]
        if len(set(names)) != len(names):
            self.fail(item.loc, f"enum '{item.name}' has a member twice")
        base = None if item.underlying is None else self.resolve(item.underlying)
        values: list[int] = []
        if base is not None:
            if not isinstance(t.strip(base), t.BitsT):
                self.fail(item.loc, f"the underlying type of an enum must be bit<W> or int<W>, not {base}")
            for member, expr in item.members:
                if expr is None:
                    self.fail(item.loc, f"member '{member}' needs a value")
                value = self.coerce(self.expression(expr), t.strip(base), expr.loc)
                if not isinstance(value.const, int):
                    self.fail(expr.loc, "the value of a member must be a compile-time constant")
                values.append(value.const)
        enum = t.EnumT(item.name, tuple(names), base, tuple(values))
        self.enums[item.name], self.enum_types[item.name] = item, enum
        self.root.names[item.name] = TypeSymbol(enum)

    def package(self, main: ast.Instantiation) -> dict[str, InstanceSymbol]:
        """The blocks of ``V1Switch(...) main``."""
        if not isinstance(main.type, ast.NamedType) or main.type.name != "V1Switch":
            name = main.type.name if isinstance(main.type, ast.NamedType) else "?"
            self.fail(main.loc, f"the architecture is v1model: main must be a V1Switch, not {name}")
        symbol = self.root.lookup("V1Switch")
        if not isinstance(symbol, GenericSymbol) or not isinstance(symbol.declaration, ast.PackageDecl):
            self.fail(main.loc, "V1Switch is not declared: #include <v1model.p4> is missing")
        params = symbol.declaration.params
        if len(params) != len(_BLOCKS):
            self.fail(symbol.declaration.loc, f"V1Switch has {len(_BLOCKS)} blocks in v1model, not {len(params)}")
        pairs = self.bind(params, main.args, main.loc, "V1Switch")
        blocks = {}
        for block, (_, argument) in zip(_BLOCKS, pairs, strict=True):
            value = argument.value if argument is not None else None
            if isinstance(value, ast.Call) and isinstance(value.function, ast.TypeExpr):
                ref = value.function.type
                if not isinstance(ref, ast.NamedType):
                    self.fail(value.loc, f"the {block} of V1Switch must be a control or parser")
                if value.type_args:
                    ref = ast.NamedType(loc=ref.loc, name=ref.name, args=value.type_args)
                instance = self.instance(ref, value.args, self.block_path(ref), value.loc)
            elif isinstance(value, ast.Name):
                instance = self.symbol(value.name, value.loc)
            else:
                self.fail(main.loc, f"the {block} of V1Switch must be an instance")
            if not isinstance(instance, InstanceSymbol):
                self.fail(main.loc, f"the {block} of V1Switch must be a control or parser")
            blocks[block] = instance
        return blocks

    def block_path(self, ref: ast.NamedType) -> str:
        """The control-plane name of a block: that of its type. As p4c does, ``@name`` on the type counts for nothing."""
        return ref.name

    def check_block_types(self, symbol: InstanceSymbol, block: str, headers: t.Type, metadata: t.Type) -> None:
        """All blocks must agree on headers and metadata."""
        params = symbol.declaration.params
        wanted = [headers, metadata] if block != "deparser" else [headers]
        offset = 1 if block == "deparser" else 0
        for parameter, type_ in zip(params[offset:], wanted, strict=False):
            with self.in_scope(symbol.scope):
                found = self.resolve(parameter.type)
            if found != type_:
                self.fail(parameter.loc, f"{block} has {found} where the parser has {type_}")

    # ------------------------------------------------------------------------------------------------- control-plane data

    def note_digest(self, type_: t.Type) -> None:
        """A digest is named by its struct."""
        ir_type = self.ir_type(type_)
        name = type_.name if isinstance(type_, t.StructT) else f"digest_{len(self.digests)}"
        notes: list[ir.Annotation] = []
        if isinstance(type_, t.StructT) and type_.declaration is not None:
            notes = self.notes(type_.declaration.annotations)
        if any(d.type == ir_type for d in self.digests.values()):
            return
        self.digests[name] = ir.Digest(name=name, type=ir_type, annotations=notes)

    def anonymous_field_list(self, data: Typed, loc: Loc) -> int:
        """A field list for the deprecated functions that give the fields themselves."""
        paths = self.metadata_paths(data, loc)
        if not paths:
            return 0
        index = _FIRST_ANONYMOUS_FIELD_LIST + sum(i >= _FIRST_ANONYMOUS_FIELD_LIST for i in self.field_lists)
        self.field_lists[index] = paths
        return index

    def metadata_paths(self, value: Typed, loc: Loc) -> list[list[str]]:
        """The metadata fields of a field list: lists and structs are flattened, constants have nothing to be kept."""
        if self.alone:  # nothing says which parameters are metadata
            return []
        if value.items is not None:
            return [path for item in value.items for path in self.metadata_paths(item, loc)]
        struct = t.strip(value.type)
        if isinstance(struct, t.StructT) and struct.kind == "struct" and value.expr is not None:
            base = value.expr
            fields = [Typed(x, ir.Member(type=self.ir_type(x), base=base, field=n)) for n, x in struct.fields]
            return [path for item in fields for path in self.metadata_paths(item, loc)]
        return [] if value.const is not None else [self.metadata_path(value, loc)]

    def metadata_path(self, value: Typed, loc: Loc) -> list[str]:
        """A metadata field as a path of names."""
        path: list[str] = []
        expr = value.expr
        while isinstance(expr, ir.Member):
            path.insert(0, expr.field)
            expr = expr.base
        params = self.block_params.get(self.unit.block, [])
        if isinstance(expr, ir.Var) and expr.name in params[1:]:
            return [("meta", "standard_metadata")[params[1:].index(expr.name)], *path]
        self.fail(
            loc, "only metadata can be kept by clone, resubmit and recirculate: a field of meta or standard_metadata"
        )

    def collect_field_lists(self, metadata: t.Type) -> None:
        """``@field_list(n, ...)`` on the fields of the user metadata."""

        def visit(struct: t.StructT, path: list[str]) -> None:
            if struct.declaration is None:
                return
            notes = {f.name: f for f in struct.declaration.fields}
            for name, type_ in struct.fields:
                note = note_text.find(notes[name].annotations, "field_list")
                if note is not None:
                    for index in self.field_list_indices(note):
                        self.field_lists.setdefault(index, []).append(["meta", *path, name])
                base = t.strip(type_)
                if isinstance(base, t.StructT) and base.kind == "struct":
                    visit(base, [*path, name])

        assert isinstance(metadata, t.StructT)
        visit(metadata, [])

    def field_list_indices(self, note: ast.Annotation) -> list[int]:
        """Numbers, constants or members of serialisable enums."""
        tokens = [replace(token, loc=note.loc) for token in tokenize(note.body or "", note.loc.file)]
        parser = Parser(tokens)
        for name, symbol in self.root.names.items():
            parser.declare(name, isinstance(symbol, TypeSymbol))
        indices = parser.comma_list(parser.expression, "end of file")
        if parser.token.kind != "end":
            parser.fail("expected ',' in @field_list")
        return [self.constant_int(index, "an index of @field_list") for index in indices]

    def composites(self, kind: str) -> list[ir.Composite]:
        """All headers, structs or unions as the IR declares them; those with parameters left unbound are no types of values."""
        result = []
        for struct in self.structs.values():
            if struct.kind != kind or struct.declaration is None or any(_has_variable(x) for _, x in struct.fields):
                continue
            notes = {f.name: f.annotations for f in struct.declaration.fields}
            fields = []
            for name, type_ in struct.fields:
                if isinstance(t.strip(type_), t.Simple) and t.strip(type_) not in (t.BOOL, t.ERROR):
                    break
                fields.append(
                    ir.Field(
                        name=name,
                        type=self.ir_type(type_),
                        type_name=t.type_name(type_),
                        annotations=self.notes(notes[name]),
                    )
                )
            else:
                source = str(struct) if struct.args else struct.declaration.name
                result.append(
                    ir.Composite(
                        name=struct.name,
                        fields=fields,
                        source_name=source,
                        annotations=self.notes(struct.declaration.annotations),
                    )
                )
        return result

    def enum_to_ir(self, enum: t.EnumT) -> ir.EnumDecl:
        """An enum as the IR declares it."""
        underlying = None if enum.base is None else self.ir_type(enum.base)
        assert underlying is None or isinstance(underlying, ir.Bits)
        return ir.EnumDecl(
            name=enum.name,
            members=list(enum.members),
            underlying=underlying,
            values=[str(v) for v in enum.values],
            annotations=self.notes(self.enums[enum.name].annotations),
        )

    def new_type_to_ir(self, declaration: ast.TypedefDecl, new: t.NewT) -> ir.NewType:
        """A ``type`` with its @p4runtime_translation."""
        translation = None
        note = note_text.find(declaration.annotations, "p4runtime_translation")
        if note is not None and note.body is not None:
            match = re.match(r'\s*"([^"]*)"\s*,\s*(?:bit\s*<\s*(\d+)\s*>|(\d+)|(string))', note.body)
            if match is None:
                self.fail(declaration.loc, '@p4runtime_translation takes a URI and a width or string: ("uri", bit<32>)')
            translation = (match[1], int(match[2] or match[3] or 0))
        return ir.NewType(
            name=new.name,
            base=self.ir_type(new.base),
            translation=translation,
            annotations=self.notes(declaration.annotations),
        )


def _has_variable(type_: t.Type) -> bool:
    return isinstance(type_, t.TypeVar)
