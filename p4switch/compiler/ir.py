"""The typed IR: the contract between the P4 front end, the C generator and the P4Runtime server.

The front end (``lower.py``) produces a :class:`Program` from P4_16 source; ``codegen`` turns it into C; the server
receives it as the ``p4_device_config`` of a pipeline. It is plain data (``msgspec`` structs, tagged unions, JSON on the wire), it
refers to everything by name, and it never mentions P4Info ids.

What lowering guarantees, so that consumers stay simple:

- Types are concrete: generics are specialised, typedefs, ``type`` and serialisable enums are ``Bits``, tuples and lists are
  synthesised structs. Integer literals have a width.
- Expressions have no side effects. Every call stands in a statement of its own and its result in a temporary, in
  left-to-right order of evaluation (P4_16 section 6.8, 8.1).
- Sub-parsers and sub-controls are inlined at their apply sites, with explicit copies in and out. ``return`` in them is
  a :class:`LeaveBlock` of the labelled :class:`Block` that wraps the inlined body.
- Functions and actions with ``out``/``inout`` parameters receive only temporaries or plain variables that do not alias, so
  passing them by reference is exact (P4_16 section 6.8).
- Names of variables are unique within a control, parser, function or action (shadowing is resolved).
- Control-plane names (``MyIngress.t``) are the ``name`` of tables, actions and extern instances.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import msgspec

IR_VERSION = 1
MAX_SIZE = 1 << 28  # entries of a table or value set, cells of an extern


class Node(msgspec.Struct, kw_only=True, tag_field="k", forbid_unknown_fields=True, omit_defaults=True):
    """Base of everything in the IR but types and locations."""


class FrozenNode(
    msgspec.Struct, kw_only=True, frozen=True, tag_field="k", forbid_unknown_fields=True, omit_defaults=True
):
    """Base of what is compared and hashed: types and locations."""


# --------------------------------------------------------------------------------------------------------------- types


class Bits(FrozenNode, kw_only=True, tag="bits", frozen=True):
    """``bit<width>`` or, when ``signed``, ``int<width>``. ``width`` is in bits, 0 to 2048."""

    width: int
    signed: bool = False


class Bool(FrozenNode, kw_only=True, tag="bool", frozen=True):
    """``bool``."""


class Varbit(FrozenNode, kw_only=True, tag="varbit", frozen=True):
    """``varbit<max_width>``; its current length travels with the value."""

    max_width: int


class Error(FrozenNode, kw_only=True, tag="error", frozen=True):
    """``error``; the values are indices into :attr:`Program.errors`."""


class Enum(FrozenNode, kw_only=True, tag="enum", frozen=True):
    """An enum without an underlying type; the values are indices into :attr:`EnumDecl.members`."""

    name: str


class Struct(FrozenNode, kw_only=True, tag="struct", frozen=True):
    """A reference to a struct of :attr:`Program.structs`."""

    name: str


class Header(FrozenNode, kw_only=True, tag="header", frozen=True):
    """A reference to a header of :attr:`Program.headers`."""

    name: str


class Union(FrozenNode, kw_only=True, tag="union", frozen=True):
    """A reference to a header union of :attr:`Program.unions`."""

    name: str


class Stack(FrozenNode, kw_only=True, tag="stack", frozen=True):
    """A header stack (or stack of header unions) of ``size`` elements."""

    element: Header | Union
    size: int


class String(FrozenNode, kw_only=True, tag="string", frozen=True):
    """``string``; only as an argument of ``log_msg``."""


Type = Bits | Bool | Varbit | Error | Enum | Struct | Header | Union | Stack | String


class Annotation(Node, kw_only=True, tag="annotation"):
    """An annotation. ``body`` is its text between the parentheses, None where there are none; a structured one has
    ``values``, a list of constants or a table of them (specification, section 20.2)."""

    name: str
    body: str | None = None
    values: list[str | bool | int] | dict[str, str | bool | int] | None = None


class Field(Node, kw_only=True, tag="field"):
    """A field of a header, struct or union. ``type_name`` is the name of the ``type`` or enum it was declared with."""

    name: str
    type: Type
    type_name: str | None = None
    annotations: list[Annotation] = []


class Composite(Node, kw_only=True, tag="composite"):
    """A header, struct or header union declaration. ``name`` is unique; ``source_name`` is what the program wrote."""

    name: str
    fields: list[Field]
    source_name: str | None = None
    annotations: list[Annotation] = []


class EnumDecl(Node, kw_only=True, tag="enum_decl"):
    """An enum; ``underlying`` and ``values`` (decimal strings, one a member) are set for serialisable enums."""

    name: str
    members: list[str]
    underlying: Bits | None = None
    values: list[str] = []
    annotations: list[Annotation] = []


class NewType(Node, kw_only=True, tag="new_type"):
    """``type base name``. ``translation`` is ``(uri, width)`` of ``@p4runtime_translation``; width 0 means a string."""

    name: str
    base: Type
    translation: tuple[str, int] | None = None
    annotations: list[Annotation] = []


# --------------------------------------------------------------------------------------------------------- expressions


class Expr(Node, kw_only=True):
    """Base of expressions. Every expression has a ``type``."""


class Const(Expr, kw_only=True, tag="const"):
    """A number of type Bits, Bool (0 or 1), Error or Enum (an index). ``value`` is decimal text, negative if signed."""

    type: Type
    value: str

    @property
    def number(self) -> int:
        """The value as an integer."""
        return int(self.value)


class StringConst(Expr, kw_only=True, tag="string_const"):
    """A string literal."""

    value: str
    type: Type = String()


class Var(Expr, kw_only=True, tag="var"):
    """A local variable, parameter or control-level variable, by its unique name."""

    type: Type
    name: str


class Member(Expr, kw_only=True, tag="member"):
    """``base.field`` of a struct, header or union."""

    type: Type
    base: Expression
    field: str


class Index(Expr, kw_only=True, tag="index"):
    """``stack[index]``. Reading out of bounds gives an unspecified value, writing does nothing; neither crashes."""

    type: Type
    base: Expression
    index: Expression


class StackNext(Expr, kw_only=True, tag="stack_next"):
    """``stack.next`` (parsers only): StackOutOfBounds when full. ``extract`` into it advances nextIndex."""

    type: Type
    base: Expression


class StackLast(Expr, kw_only=True, tag="stack_last"):
    """``stack.last``: StackOutOfBounds when empty (parsers only)."""

    type: Type
    base: Expression


class StackLastIndex(Expr, kw_only=True, tag="stack_last_index"):
    """``stack.lastIndex``: bit<32>."""

    type: Type
    base: Expression


class StackSize(Expr, kw_only=True, tag="stack_size"):
    """The number of elements of a stack, bit<32>; normally folded to a constant."""

    type: Type
    base: Expression


class Slice(Expr, kw_only=True, tag="slice"):
    """``base[hi:lo]``, constant bounds, unsigned result."""

    type: Type
    base: Expression
    hi: int
    lo: int


class IsValid(Expr, kw_only=True, tag="is_valid"):
    """``header.isValid()`` (also of a union: some member is valid)."""

    type: Type
    base: Expression


UnaryOp = Literal["-", "~", "!"]
BinaryOp = Literal[
    "+", "-", "*", "/", "%", "|+|", "|-|", "&", "|", "^", "<<", ">>", "++", "==", "!=", "<", "<=", ">", ">=", "&&", "||"
]


class Unary(Expr, kw_only=True, tag="unary"):
    """A unary operation."""

    type: Type
    op: UnaryOp
    arg: Expression


class Binary(Expr, kw_only=True, tag="binary"):
    """A binary operation. Both sides of all but ``<<``, ``>>`` and ``++`` have the same type; == and != also take
    structs, headers, stacks and unions. ``&&`` and ``||`` are safe to evaluate in any order: no side effects."""

    type: Type
    op: BinaryOp
    left: Expression
    right: Expression


class Conditional(Expr, kw_only=True, tag="conditional"):
    """``cond ? then : otherwise``."""

    type: Type
    cond: Expression
    then: Expression
    otherwise: Expression


class Cast(Expr, kw_only=True, tag="cast"):
    """Between Bits of any widths and signs, and Bits<1> and Bool."""

    type: Type
    arg: Expression


class StructExpr(Expr, kw_only=True, tag="struct_expr"):
    """A struct or (with ``valid``) header value from one expression a field, in order."""

    type: Type
    fields: list[Expression]
    valid: bool = True


class InvalidHeader(Expr, kw_only=True, tag="invalid_header"):
    """``{#}``: an invalid header or union, or a stack of invalid ones."""

    type: Type


class Lookahead(Expr, kw_only=True, tag="lookahead"):
    """``packet.lookahead<T>()``. Appears only as the whole right-hand side of an Assign in a parser."""

    type: Type


Expression = (
    Const
    | StringConst
    | Var
    | Member
    | Index
    | StackNext
    | StackLast
    | StackLastIndex
    | StackSize
    | Slice
    | IsValid
    | Unary
    | Binary
    | Conditional
    | Cast
    | StructExpr
    | InvalidHeader
    | Lookahead
)
# L-values are the expressions Var, Member, Index, StackNext, StackLast and Slice.

# ---------------------------------------------------------------------------------------------------------- statements


class Location(FrozenNode, kw_only=True, tag="loc", frozen=True):
    """Where a construct stands in the source."""

    file: str
    line: int
    column: int


class Stmt(Node, kw_only=True):
    """Base of statements."""

    loc: Location | None = None


class Declare(Stmt, kw_only=True, tag="declare"):
    """A local variable; without ``init`` it is zero, and headers in it are invalid."""

    name: str
    type: Type
    init: Expression | None = None


class Assign(Stmt, kw_only=True, tag="assign"):
    """``left = right``. Headers copy their validity with them."""

    left: Expression
    right: Expression


class If(Stmt, kw_only=True, tag="if"):
    """A conditional."""

    cond: Expression
    then: list[Statement]
    otherwise: list[Statement] = []


class Case(Node, kw_only=True, tag="case"):
    """One arm of a Switch; no labels and ``is_default`` for ``default``. Fall-through is already resolved."""

    values: list[Const] = []
    is_default: bool = False
    body: list[Statement]


class Switch(Stmt, kw_only=True, tag="switch"):
    """A switch over an expression."""

    subject: Expression
    cases: list[Case]


class ActionCase(Node, kw_only=True, tag="action_case"):
    """One arm of a switch over ``action_run``: action names as in :attr:`Table.actions`."""

    actions: list[str] = []
    is_default: bool = False
    body: list[Statement]


class ApplyTable(Stmt, kw_only=True, tag="apply"):
    """``table.apply()``. ``hit`` and, for a switch over action_run, ``cases`` are optional."""

    table: str
    hit: Var | None = None
    cases: list[ActionCase] = []


class Block(Stmt, kw_only=True, tag="block"):
    """A scope. With a ``label`` a LeaveBlock may jump to its end. ``back`` are the copies out of an inlined control: they are
    executed when the block is left, also by Exit (P4_16 section 13.5). ``instance`` is the inlined control's path, for people."""

    body: list[Statement]
    label: str | None = None
    instance: str | None = None
    back: list[Assign] = []


class LeaveBlock(Stmt, kw_only=True, tag="leave"):
    """Jump to the end of the enclosing Block with this label."""

    label: str


class Loop(Stmt, kw_only=True, tag="loop"):
    """``while (cond) { body; step }``; ``continue`` runs step. For loops and for-in loops are lowered to it."""

    cond: Expression
    body: list[Statement]
    step: list[Statement] = []


class Break(Stmt, kw_only=True, tag="break"):
    """Leave the innermost Loop."""


class Continue(Stmt, kw_only=True, tag="continue"):
    """Go on with the innermost Loop."""


class Return(Stmt, kw_only=True, tag="return"):
    """Return from a function, an action, or the whole control."""

    value: Expression | None = None


class Exit(Stmt, kw_only=True, tag="exit"):
    """End the whole ingress or egress control."""


class SetValid(Stmt, kw_only=True, tag="set_valid"):
    """``header.setValid()`` or, with ``valid`` False, ``setInvalid()``. In a union the other members become invalid."""

    header: Expression
    valid: bool


class StackPush(Stmt, kw_only=True, tag="stack_push"):
    """``stack.push_front(count)``, or ``pop_front`` when ``pop``."""

    stack: Expression
    count: int
    pop: bool = False


class CallAction(Stmt, kw_only=True, tag="call_action"):
    """A direct call of an action by name, arguments in order. ``back`` are the copies out of its ``out`` arguments, which also
    follow when the action ends with Exit."""

    action: str
    args: list[Expression]
    back: list[Assign] = []


class CallFunction(Stmt, kw_only=True, tag="call_function"):
    """A call of a function; the result goes to ``result``."""

    function: str
    args: list[Expression]
    result: Var | None = None


class CallExtern(Stmt, kw_only=True, tag="call_extern"):
    """A call of an extern function (``instance`` None) or of a method of an extern instance.

    ``name`` is the function's (``mark_to_drop``, ``hash``, ``digest``) or the method's (``count``, ``read``). Output
    arguments are l-values. ``hash`` and the checksums receive their data as a StructExpr or a struct-typed expression;
    enum arguments are Const of type Enum. ``field_list`` indices and clone types are Const. ``foreign`` marks an extern that
    the program declares and v1model lacks: such a program has P4Info, but no target that runs it.
    """

    name: str
    instance: str | None = None
    args: list[Expression] = []
    result: Var | None = None
    foreign: bool = False


class Extract(Stmt, kw_only=True, tag="extract"):
    """``packet.extract(header)``; ``varbit_bits`` is the second argument, bit<32>. ``header`` None skips that many bits."""

    header: Expression
    varbit_bits: Expression | None = None


class Advance(Stmt, kw_only=True, tag="advance"):
    """``packet.advance(bits)``."""

    bits: Expression


class Verify(Stmt, kw_only=True, tag="verify"):
    """``verify(cond, error)`` of a parser."""

    cond: Expression
    error: Expression


class Emit(Stmt, kw_only=True, tag="emit"):
    """``packet.emit(value)`` of the deparser: header, stack, union or struct of them."""

    value: Expression


Statement = (
    Declare
    | Assign
    | If
    | Switch
    | ApplyTable
    | Block
    | LeaveBlock
    | Loop
    | Break
    | Continue
    | Return
    | Exit
    | SetValid
    | StackPush
    | CallAction
    | CallFunction
    | CallExtern
    | Extract
    | Advance
    | Verify
    | Emit
)

# -------------------------------------------------------------------------------------------------------------- parser


class AnyKey(Node, kw_only=True, tag="any"):
    """``_`` or ``default`` in a select case."""


class ValueKey(Node, kw_only=True, tag="value"):
    """One value."""

    value: Const


class MaskKey(Node, kw_only=True, tag="mask"):
    """``value &&& mask``."""

    value: Const
    mask: Const


class RangeKey(Node, kw_only=True, tag="range"):
    """``lo .. hi``, inclusive."""

    lo: Const
    hi: Const


class ValueSetKey(Node, kw_only=True, tag="value_set"):
    """Membership of the whole tuple in a parser value set; then it is the only key of its case."""

    value_set: str


Keyset = AnyKey | ValueKey | MaskKey | RangeKey | ValueSetKey


class SelectCase(Node, kw_only=True, tag="select_case"):
    """One keyset an expression of the select; ``state`` may be ``accept`` or ``reject``."""

    keys: list[Keyset]
    state: str


class Select(Node, kw_only=True, tag="select"):
    """``select(exprs) { cases }``; no match is error.NoMatch. An unconditional transition has no exprs and one case
    with no keys."""

    exprs: list[Expression] = []
    cases: list[SelectCase]
    loc: Location | None = None


class State(Node, kw_only=True, tag="state"):
    """A parser state. ``source_name`` is what the program wrote (inlined sub-parsers get unique names); ``inside`` are the paths
    of the inlined sub-parsers around it, outermost first. Both are for people."""

    name: str
    body: list[Statement]
    transition: Select
    source_name: str | None = None
    inside: list[str] = []
    loc: Location | None = None


class ValueSet(Node, kw_only=True, tag="value_set_decl"):
    """A parser value set: P4Info name, its element's fields in key order, its size and match kinds."""

    name: str
    fields: list[KeyField]
    size: int
    annotations: list[Annotation] = []


class Parser(Node, kw_only=True, tag="parser"):
    """The parser. ``params`` are the names of (headers, metadata, standard metadata) inside it."""

    name: str
    params: list[str]
    locals: list[Declare] = []
    states: list[State]


# ------------------------------------------------------------------------------------------------------------ controls


class Param(Node, kw_only=True, tag="param"):
    """A parameter. ``data`` means an action parameter supplied by the control plane."""

    name: str
    type: Type
    direction: Literal["in", "out", "inout", "data"]
    type_name: str | None = None
    annotations: list[Annotation] = []

    @property
    def source_name(self) -> str:
        """What the program calls it: ``name`` may differ from that to be unique."""
        return next((a.body or self.name for a in self.annotations if a.name == "source_name"), self.name)

    @property
    def control_name(self) -> str:
        """What the control plane calls it: the string of ``@name``, or the name in the program."""
        given = next((a.body for a in self.annotations if a.name == "name"), None)
        return given.strip().strip('"') if given else self.source_name


class Function(Node, kw_only=True, tag="function"):
    """A function; only its parameters and locals are visible in it."""

    name: str
    params: list[Param]
    result: Type | None = None
    body: list[Statement]


class Action(Node, kw_only=True, tag="action"):
    """An action. ``control`` names the block (``ingress``, ...) whose variables its body sees; several blocks may each
    have their own copy of a top-level action: then (control, name) is unique, and ``name`` stays the control plane's.

    ``variant_of`` is the control-plane name of an action whose own ``name`` is taken by another one of that name."""

    name: str
    control: str
    params: list[Param]
    body: list[Statement]
    variant_of: str | None = None
    annotations: list[Annotation] = []
    loc: Location | None = None


MatchKind = Literal["exact", "lpm", "ternary", "range", "optional", "selector"]


class KeyField(Node, kw_only=True, tag="key_field"):
    """One key of a table (or field of a value set): its P4Info name, its expression and its match kind."""

    name: str
    type: Type
    kind: MatchKind
    expr: Expression | None = None
    type_name: str | None = None
    annotations: list[Annotation] = []


class ActionRef(Node, kw_only=True, tag="action_ref"):
    """An action of a table. ``args`` are the bound arguments of directional parameters, in order; ``setup`` is executed before
    the action, ``back`` are the copies out of its arguments after it. ``variant`` names the action that this table executes where
    several have one control-plane name; it takes the same parameters from the control plane."""

    name: str
    args: list[Expression] = []
    setup: list[Statement] = []
    back: list[Assign] = []
    variant: str | None = None
    default_only: bool = False
    table_only: bool = False
    annotations: list[Annotation] = []


class ActionCallConst(Node, kw_only=True, tag="action_call_const"):
    """An action with constant control-plane arguments."""

    action: str
    args: list[Const] = []


class Entry(Node, kw_only=True, tag="entry"):
    """A ``const entries`` or ``entries`` row. ``priority`` is P4Runtime's (larger wins; 0 where the table needs none);
    ``listed_priority`` is what p4c's entries files have where that is another number."""

    keys: list[Keyset]
    prefix_lens: list[int | None] = []
    action: ActionCallConst
    priority: int = 0
    listed_priority: int | None = None
    is_const: bool = True
    annotations: list[Annotation] = []
    loc: Location | None = None


class Table(Node, kw_only=True, tag="table"):
    """A table of a control. ``implementation`` names an action profile or selector; ``counter`` and ``meter`` a direct one."""

    name: str
    control: str
    keys: list[KeyField]
    actions: list[ActionRef]
    default_action: ActionCallConst
    const_default: bool = False
    entries: list[Entry] = []
    const_entries: bool = False
    size: int = 1024
    implementation: str | None = None
    counter: str | None = None
    meter: str | None = None
    idle_timeout: bool = False
    annotations: list[Annotation] = []
    loc: Location | None = None


ExternKind = Literal[
    "counter", "direct_counter", "meter", "direct_meter", "register", "action_profile", "action_selector"
]


class Extern(Node, kw_only=True, tag="extern"):
    """An extern instance. ``unit`` is packets, bytes or packets_and_bytes (counters and meters); ``type`` a register's
    element; ``table`` the owner of a direct resource; ``algorithm`` and ``width`` a selector's."""

    name: str
    kind: ExternKind
    size: int = 0
    unit: Literal["packets", "bytes", "packets_and_bytes"] | None = None
    type: Type | None = None
    type_name: str | None = None
    index_type_name: str | None = None
    table: str | None = None
    algorithm: str | None = None
    width: int = 0
    annotations: list[Annotation] = []


class Control(Node, kw_only=True, tag="control"):
    """A control with its sub-controls inlined. ``params`` are the names of its parameters inside it, in v1model's order.
    ``locals`` live for one packet and are visible to its actions."""

    name: str
    params: list[str]
    locals: list[Declare] = []
    body: list[Statement]


class Digest(Node, kw_only=True, tag="digest"):
    """A digest: the struct it sends. Named by the struct (P4Info)."""

    name: str
    type: Type
    annotations: list[Annotation] = []


class ControllerHeader(Node, kw_only=True, tag="controller_header"):
    """A header with ``@controller_header("packet_in")`` or ``packet_out``."""

    header: str
    name: str


class FieldList(Node, kw_only=True, tag="field_list"):
    """Metadata kept by clone, resubmit or recirculate with this index: paths such as ``["meta", "kept"]`` where the
    first element is ``meta`` or ``standard_metadata``."""

    index: int
    paths: list[list[str]]


class Program(Node, kw_only=True, tag="program"):
    """A whole v1model program. ``headers_type`` is H, ``metadata_type`` M, of V1Switch<H, M>. ``standard_metadata_t`` is
    among ``structs``. ``errors`` starts with the seven of core.p4, in bmv2's order."""

    version: int = IR_VERSION
    arch: Literal["v1model"] = "v1model"
    name: str = ""
    annotations: list[Annotation] = []
    headers: list[Composite]
    structs: list[Composite]
    unions: list[Composite] = []
    enums: list[EnumDecl] = []
    new_types: list[NewType] = []
    errors: list[str]
    headers_type: str
    metadata_type: str
    parser: Parser
    verify_checksum: Control
    ingress: Control
    egress: Control
    compute_checksum: Control
    deparser: Control
    functions: list[Function] = []
    actions: list[Action] = []
    tables: list[Table] = []
    externs: list[Extern] = []
    value_sets: list[ValueSet] = []
    digests: list[Digest] = []
    controller_headers: list[ControllerHeader] = []
    field_lists: list[FieldList] = []


def walk(root: object) -> Iterator[Node]:
    """All nodes below and including ``root``, a node or a list of them, in order; without types and locations."""
    stack: list[object] = [root]
    while stack:
        item = stack.pop()
        if isinstance(item, Node):
            yield item
            stack.extend(reversed([getattr(item, f) for f in item.__struct_fields__]))
        elif isinstance(item, list | tuple):
            stack.extend(reversed(item))


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Program)


def plain(node: object) -> object:
    """A node, or a list of them, as dictionaries, lists and scalars."""
    return msgspec.to_builtins(node)


def dumps(program: Program) -> bytes:
    """The program as JSON, deterministic for equal programs."""
    return _encoder.encode(program)


def loads(data: bytes) -> Program:
    """Parse and check the shape of a program.

    Raises ``msgspec.ValidationError`` or ``msgspec.DecodeError`` when ``data`` is not one. Names and widths are checked by
    ``compiler.validate``.
    """
    return _decoder.decode(data)
