"""Small IR programs put together by hand, and a switch that runs them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from p4switch import native
from p4switch.compiler import ir
from p4switch.dataplane.binding import Switch

ERRORS = [
    "NoError",
    "PacketTooShort",
    "NoMatch",
    "StackOutOfBounds",
    "HeaderTooShort",
    "ParserTimeout",
    "ParserInvalidArgument",
]
HEADERS = ir.Struct(name="H")
METADATA = ir.Struct(name="M")
STANDARD = ir.Struct(name="standard_metadata_t")
PORT = ir.Bits(width=9)
BOOL = ir.Bool()


def bits(width: int, signed: bool = False) -> ir.Bits:
    return ir.Bits(width=width, signed=signed)


def const(number: int, type_: ir.Type) -> ir.Const:
    return ir.Const(type=type_, value=str(number))


def member(base: ir.Expression, field: str, type_: ir.Type) -> ir.Member:
    return ir.Member(type=type_, base=base, field=field)


def header_var(name: str, type_: ir.Type) -> ir.Member:
    """``h.name``."""
    return member(ir.Var(type=HEADERS, name="h"), name, type_)


def standard(field: str, type_: ir.Type) -> ir.Member:
    return member(ir.Var(type=STANDARD, name="sm"), field, type_)


def fields(*pairs: tuple[str, ir.Type]) -> list[ir.Field]:
    return [ir.Field(name=name, type=type_) for name, type_ in pairs]


def go(state: str) -> ir.Select:
    return ir.Select(cases=[ir.SelectCase(keys=[], state=state)])


STANDARD_METADATA = ir.Composite(
    name="standard_metadata_t",
    fields=fields(
        ("ingress_port", PORT),
        ("egress_spec", PORT),
        ("egress_port", PORT),
        ("instance_type", bits(32)),
        ("packet_length", bits(32)),
        ("enq_timestamp", bits(32)),
        ("enq_qdepth", bits(19)),
        ("deq_timedelta", bits(32)),
        ("deq_qdepth", bits(19)),
        ("ingress_global_timestamp", bits(48)),
        ("egress_global_timestamp", bits(48)),
        ("mcast_grp", bits(16)),
        ("egress_rid", bits(16)),
        ("checksum_error", bits(1)),
        ("parser_error", ir.Error()),
        ("priority", bits(3)),
    ),
)


def control(name: str, params: Sequence[str], body: Sequence[ir.Statement] = ()) -> ir.Control:
    return ir.Control(name=name, params=list(params), body=list(body))


def program(
    headers: Sequence[ir.Composite],
    members: Sequence[tuple[str, ir.Type]],
    states: Sequence[ir.State],
    ingress: Sequence[ir.Statement],
    emit: Sequence[ir.Expression],
    metadata: Sequence[tuple[str, ir.Type]] = (),
    egress: Sequence[ir.Statement] = (),
    **more: object,
) -> ir.Program:
    """A program whose struct of headers has ``members``; parameters are called h, m and sm everywhere."""
    structs = [
        ir.Composite(name="H", fields=fields(*members)),
        ir.Composite(name="M", fields=fields(*metadata)),
        STANDARD_METADATA,
        *more.pop("structs", ()),  # type: ignore[misc]
    ]
    return ir.Program(
        name="test",
        headers=list(headers),
        structs=structs,
        errors=list(ERRORS),
        headers_type="H",
        metadata_type="M",
        parser=ir.Parser(name="P", params=["h", "m", "sm"], states=list(states)),
        verify_checksum=control("V", ["h", "m"]),
        ingress=control("I", ["h", "m", "sm"], ingress),
        egress=control("E", ["h", "m", "sm"], egress),
        compute_checksum=control("C", ["h", "m"]),
        deparser=control("D", ["h"], [ir.Emit(value=value) for value in emit]),
        **more,  # type: ignore[arg-type]
    )


def to_port(port: int) -> ir.Assign:
    return ir.Assign(left=standard("egress_spec", PORT), right=const(port, PORT))


@contextmanager
def running(program: ir.Program, optimise: bool = False) -> Iterator[Switch]:
    """A switch that runs the program."""
    shared_object = native.build(program, optimise=optimise)
    with Switch(seed=1) as switch:
        switch.load(shared_object)
        yield switch


def one(switch: Switch, packet: bytes, port: int = 0) -> bytes:
    """The only frame that comes out for a packet."""
    (output,) = switch.process(port, packet)
    return output.data
