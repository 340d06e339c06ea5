"""P4Data (specification, "Representation of Arbitrary P4 Types"): messages of any fixed-size P4 type to and from numbers.

A codec is made once for a type. The data plane knows a value as its scalars in order, each a number of so many bits; a header's
validity is not among them (the data plane has only valid ones), nor are unions, stacks and varbits, which it cannot store.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from finsy.proto import p4d

from p4switch.server import values
from p4switch.server.errors import invalid, out_of_range


class Codec(ABC):
    """A P4 type."""

    widths: tuple[int, ...]  # bits of its scalars, in order

    @abstractmethod
    def encode(self, data: p4d.P4Data, what: str) -> list[int]:
        """The scalars of a message; INVALID_ARGUMENT when it is of another type, OUT_OF_RANGE when a value does not fit."""

    @abstractmethod
    def decode(self, scalars: Iterator[int], into: p4d.P4Data) -> None:
        """Fill in a message from the next scalars."""

    def pack(self, data: p4d.P4Data, what: str) -> int:
        """All scalars as one number, the first one on top."""
        number = 0
        for width, value in zip(self.widths, self.encode(data, what), strict=True):
            number = number << width | value
        return number

    def unpack(self, number: int, into: p4d.P4Data) -> None:
        """The inverse of :meth:`pack`."""
        scalars = []
        for width in reversed(self.widths):
            scalars.append(number & ((1 << width) - 1))
            number >>= width
        self.decode(reversed(scalars), into)


def _expect(data: p4d.P4Data, wanted: str, what: str) -> Any:
    found = data.WhichOneof("data")
    if found != wanted:
        raise invalid(f"{what} is of type {wanted}, the data is {found or 'not set'}")
    return getattr(data, wanted)


@dataclass(frozen=True)
class Number(Codec):
    """A bit string, signed or not, or an enum with numbers: ``member`` is the field of P4Data."""

    width: int
    signed: bool = False
    member: str = "bitstring"

    @property
    def widths(self) -> tuple[int, ...]:  # type: ignore[override]  # noqa: D102
        return (self.width,)

    def encode(self, data: p4d.P4Data, what: str) -> list[int]:  # noqa: D102
        decode = values.decode_signed if self.signed else values.decode
        return [decode(_expect(data, self.member, what), self.width, what)]

    def decode(self, scalars: Iterator[int], into: p4d.P4Data) -> None:  # noqa: D102
        bits = next(scalars)
        setattr(into, self.member, values.encode_signed(bits, self.width) if self.signed else values.encode(bits))


class _Bool(Codec):
    widths = (1,)

    def encode(self, data: p4d.P4Data, what: str) -> list[int]:
        return [int(_expect(data, "bool", what))]

    def decode(self, scalars: Iterator[int], into: p4d.P4Data) -> None:
        into.bool = bool(next(scalars))


@dataclass(frozen=True)
class _Named(Codec):
    """An enum without numbers, or error: its members' names."""

    member: str
    names: tuple[str, ...]
    width: int = 32

    @property
    def widths(self) -> tuple[int, ...]:  # type: ignore[override]
        return (self.width,)

    def encode(self, data: p4d.P4Data, what: str) -> list[int]:
        name = _expect(data, self.member, what)
        if name not in self.names:
            raise out_of_range(f"{what}: there is no {self.member} {name!r}; there are {', '.join(self.names)}")
        return [self.names.index(name)]

    def decode(self, scalars: Iterator[int], into: p4d.P4Data) -> None:
        number = next(scalars)
        setattr(into, self.member, self.names[number] if number < len(self.names) else str(number))


@dataclass(frozen=True)
class _Members(Codec):
    """A struct or tuple: ``kind`` is the field of P4Data that holds its members."""

    kind: str
    members: tuple[Codec, ...]

    @property
    def widths(self) -> tuple[int, ...]:  # type: ignore[override]
        return tuple(w for m in self.members for w in m.widths)

    def encode(self, data: p4d.P4Data, what: str) -> list[int]:
        given: Sequence[p4d.P4Data] = _expect(data, self.kind, what).members
        if len(given) != len(self.members):
            raise invalid(f"{what}: its {self.kind} has {len(self.members)} members, found {len(given)}")
        pairs = enumerate(zip(self.members, given, strict=True), 1)
        return [s for n, (member, value) in pairs for s in member.encode(value, f"{what}, member {n}")]

    def decode(self, scalars: Iterator[int], into: p4d.P4Data) -> None:
        target = getattr(into, self.kind)
        target.SetInParent()
        for member in self.members:
            member.decode(scalars, target.members.add())


@dataclass(frozen=True)
class _Header(Codec):
    fields: tuple[tuple[int, bool], ...]  # bits, signed

    @property
    def widths(self) -> tuple[int, ...]:  # type: ignore[override]
        return tuple(w for w, _ in self.fields)

    def encode(self, data: p4d.P4Data, what: str) -> list[int]:
        header = _expect(data, "header", what)
        if not header.is_valid:
            raise invalid(f"{what}: an invalid header cannot be stored")
        if len(header.bitstrings) != len(self.fields):
            raise invalid(f"{what}: its header has {len(self.fields)} fields, found {len(header.bitstrings)}")
        return [
            (values.decode_signed if signed else values.decode)(given, width, f"{what}, field {n}")
            for n, ((width, signed), given) in enumerate(zip(self.fields, header.bitstrings, strict=True), 1)
        ]

    def decode(self, scalars: Iterator[int], into: p4d.P4Data) -> None:
        into.header.is_valid = True
        for width, signed in self.fields:
            bits = next(scalars)
            into.header.bitstrings.append(values.encode_signed(bits, width) if signed else values.encode(bits))


def codec(spec: Any, types: Any, what: str) -> Codec:
    """The codec of a P4DataTypeSpec, with the P4TypeInfo its names refer to. INVALID_ARGUMENT for types without a fixed size."""
    kind = spec.WhichOneof("type_spec")
    make = _MAKERS.get(kind)
    if make is None:
        raise invalid(f"P4Info: {what} is of type {kind or 'unknown'}, which no switch state can have")
    try:
        return make(spec, types, what)
    except KeyError as error:
        raise invalid(f"P4Info: {what} refers to type {error}, which type_info does not have") from None


def _look_up(container: Any, name: str) -> Any:
    if name not in container:  # a protobuf map would make it
        raise KeyError(name)
    return container[name]


def _bits(spec: Any, what: str) -> tuple[int, bool]:
    kind = spec.WhichOneof("type_spec")
    if kind not in ("bit", "int"):
        raise invalid(f"P4Info: {what} is a {kind or 'bit string without type'}, which has no fixed size")
    width = getattr(spec, kind).bitwidth
    if width <= 0:
        raise invalid(f"P4Info: {what} has {width} bits")
    return width, kind == "int"


def _bitstring(spec: Any, types: Any, what: str) -> Codec:
    return Number(*_bits(spec.bitstring, what))


def _struct(spec: Any, types: Any, what: str) -> Codec:
    members = _look_up(types.structs, spec.struct.name).members
    return _Members("struct", tuple(codec(m.type_spec, types, f"{what}.{m.name}") for m in members))


def _tuple(spec: Any, types: Any, what: str) -> Codec:
    return _Members("tuple", tuple(codec(m, types, f"{what}, member {n}") for n, m in enumerate(spec.tuple.members, 1)))


def _header(spec: Any, types: Any, what: str) -> Codec:
    members = _look_up(types.headers, spec.header.name).members
    return _Header(tuple(_bits(m.type_spec, f"{what}.{m.name}") for m in members))


def _enum(spec: Any, types: Any, what: str) -> Codec:
    return _Named("enum", tuple(m.name for m in _look_up(types.enums, spec.enum.name).members))


def _error(spec: Any, types: Any, what: str) -> Codec:
    return _Named("error", tuple(types.error.members))


def _serializable(spec: Any, types: Any, what: str) -> Codec:
    return Number(
        _look_up(types.serializable_enums, spec.serializable_enum.name).underlying_type.bitwidth, False, "enum_value"
    )


def _new_type(spec: Any, types: Any, what: str) -> Codec:
    declared = _look_up(types.new_types, spec.new_type.name)
    if declared.WhichOneof("representation") != "original_type":
        return Number(declared.translated_type.sdn_bitwidth or 64)  # never translated: the data plane's own number
    return codec(declared.original_type, types, what)


_MAKERS: dict[str | None, Callable[[Any, Any, str], Codec]] = {
    "bitstring": _bitstring,
    "bool": lambda spec, types, what: _Bool(),
    "struct": _struct,
    "tuple": _tuple,
    "header": _header,
    "enum": _enum,
    "error": _error,
    "serializable_enum": _serializable,
    "new_type": _new_type,
}
