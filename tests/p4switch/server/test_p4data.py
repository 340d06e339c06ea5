"""P4Data of every type that switch state can have: there and back, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from finsy.proto import p4d, p4i
from google.protobuf import text_format

from p4switch.server import p4data
from p4switch.server.errors import P4RuntimeError

TYPES = """
structs { key: "pair" value {
  members { name: "x" type_spec { bitstring { bit { bitwidth: 16 } } } }
  members { name: "y" type_spec { bitstring { int { bitwidth: 8 } } } } } }
structs { key: "deep" value {
  members { name: "pair" type_spec { struct { name: "pair" } } }
  members { name: "flag" type_spec { bool {} } } } }
headers { key: "h" value {
  members { name: "a" type_spec { bit { bitwidth: 4 } } }
  members { name: "b" type_spec { int { bitwidth: 12 } } } } }
headers { key: "open" value { members { name: "a" type_spec { varbit { max_bitwidth: 4 } } } } }
enums { key: "colour" value { members { name: "RED" } members { name: "GREEN" } } }
error { members: "NoError" members: "PacketTooShort" }
serializable_enums { key: "level" value { underlying_type { bitwidth: 8 } } }
new_types { key: "port_t" value { original_type { bitstring { bit { bitwidth: 9 } } } } }
new_types { key: "name_t" value { translated_type { sdn_string {} } } }
new_types { key: "far_t" value { translated_type { sdn_bitwidth: 32 } } }
"""


def codec(spec: str) -> p4data.Codec:
    info = text_format.Parse(f"registers {{ type_spec {{ {spec} }} }} type_info {{ {TYPES} }}", p4i.P4Info())
    return p4data.codec(info.registers[0].type_spec, info.type_info, "value")


def data(text: str) -> p4d.P4Data:
    return text_format.Parse(text, p4d.P4Data())


@pytest.mark.parametrize(
    ("spec", "widths", "message", "number"),
    [
        ("bitstring { bit { bitwidth: 9 } }", (9,), r'bitstring: "\001\377"', 0x1FF),
        ("bitstring { int { bitwidth: 12 } }", (12,), r'bitstring: "\377"', 0xFFF),
        ("bool {}", (1,), "bool: true", 1),
        ('enum { name: "colour" }', (32,), 'enum: "GREEN"', 1),
        ("error {}", (32,), 'error: "PacketTooShort"', 1),
        ('serializable_enum { name: "level" }', (8,), r'enum_value: "\310"', 200),
        ('new_type { name: "port_t" }', (9,), r'bitstring: "\005"', 5),
        ('new_type { name: "far_t" }', (32,), r'bitstring: "\005"', 5),
        ('new_type { name: "name_t" }', (64,), r'bitstring: "\005"', 5),
        (
            'struct { name: "deep" }',
            (16, 8, 1),
            r"""struct { members { struct { members { bitstring: "\022\064" } members { bitstring: "\377" } } }
                         members { bool: true } }""",
            0x1234 << 9 | 0xFF << 1 | 1,
        ),
        (
            "tuple { members { bool {} } members { bitstring { bit { bitwidth: 3 } } } }",
            (1, 3),
            r'tuple { members { bool: false } members { bitstring: "\007" } }',
            7,
        ),
        ("tuple {}", (), "tuple {}", 0),
        (
            'header { name: "h" }',
            (4, 12),
            r'header { is_valid: true bitstrings: "\016" bitstrings: "\376" }',
            0xE << 12 | 0xFFE,
        ),
    ],
)
def test_there_and_back(spec: str, widths: tuple[int, ...], message: str, number: int) -> None:
    found = codec(spec)
    assert found.widths == widths
    assert found.pack(data(message), "value") == number
    back = p4d.P4Data()
    found.unpack(number, back)
    assert back == data(message)


@pytest.mark.parametrize(
    ("spec", "message", "text"),
    [
        ("bool {}", r'bitstring: "\001"', "value is of type bool, the data is bitstring"),
        ("bool {}", "", "value is of type bool, the data is not set"),
        ('enum { name: "colour" }', 'enum: "BLUE"', "there is no enum 'BLUE'; there are RED, GREEN"),
        ('struct { name: "pair" }', "struct {}", "its struct has 2 members, found 0"),
        (
            'struct { name: "pair" }',
            r'struct { members { bitstring: "\001\000\000" } members { bitstring: "\001" } }',
            "value, member 1: 0x10000 does not fit into 16 bits",
        ),
        ('header { name: "h" }', "header { is_valid: true }", "its header has 2 fields, found 0"),
        ('header { name: "h" }', "header {}", "an invalid header cannot be stored"),
        (
            'header { name: "h" }',
            r'header { is_valid: true bitstrings: "\020" bitstrings: "\000" }',
            "value, field 1: 0x10 does not fit into 4 bits",
        ),
    ],
)
def test_wrong_data(spec: str, message: str, text: str) -> None:
    with pytest.raises(P4RuntimeError) as caught:
        codec(spec).pack(data(message), "value")
    assert text in str(caught.value)


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        ("", "value is of type unknown"),
        ('header_union { name: "u" }', "value is of type header_union, which no switch state can have"),
        ('struct { name: "absent" }', "refers to type 'absent', which type_info does not have"),
        ('header { name: "open" }', "value.a is a varbit, which has no fixed size"),
        ("bitstring { bit { bitwidth: 0 } }", "value has 0 bits"),
        ("bitstring {}", "value is a bit string without type"),
    ],
)
def test_types_that_no_state_has(spec: str, text: str) -> None:
    with pytest.raises(P4RuntimeError) as caught:
        codec(spec)
    assert text in str(caught.value)


def test_numbers_that_an_enum_does_not_name() -> None:
    """The data plane may hold any number."""
    found: Any = p4d.P4Data()
    codec('enum { name: "colour" }').unpack(7, found)
    assert found.enum == "7"
