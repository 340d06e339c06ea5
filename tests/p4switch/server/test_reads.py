"""Reads: wildcards, filters, direct resources, batches, canonical values of every type."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from finsy.proto import p4d, p4r

from p4switch.server import values
from tests.p4switch.server.conftest import DEVICE, Client, Program, Running, details_of
from tests.p4switch.server.entries import (
    INSERT,
    MODIFY,
    action,
    entry,
    exact,
    lpm,
    packet,
    ternary,
    update,
)


def lpm_entry(program: Program, number: int, chosen: str = "forward", **rest: Any) -> p4r.TableEntry:
    values_ = (b"\1",) if chosen == "forward" else ()
    return entry(
        program, "lpm_table", lpm(1, bytes([number, 0, 0, 0]), 8), action=action(program, chosen, *values_), **rest
    )


def test_filters(client: Client, program: Program) -> None:
    written = [
        lpm_entry(program, 1, metadata=b"a"),
        lpm_entry(program, 2, "drop", metadata=b"b", controller_metadata=5),
        lpm_entry(program, 3, controller_metadata=5),
    ]
    prioritised = [
        entry(program, "ternary_table", ternary(1, bytes([n]), b"\xff"), priority=n, action=action(program, "drop"))
        for n in (1, 2)
    ]
    client.write(*[update(INSERT, table_entry=e) for e in written + prioritised])

    def found(**wanted: Any) -> list[p4r.TableEntry]:
        wanted.setdefault("table_id", program.id("tables", "lpm_table"))
        return [e.table_entry for e in client.read(p4r.Entity(table_entry=p4r.TableEntry(**wanted)))]

    assert found() == written
    assert found(metadata=b"b") == written[1:2]
    assert found(controller_metadata=5) == written[1:]
    only_action = p4r.TableAction()
    only_action.action.action_id = program.id("actions", "drop")
    assert found(action=only_action) == written[1:2]
    assert found(match=written[2].match) == written[2:]
    assert found(match=[lpm(1, b"\x63\0\0\0", 8)]) == []
    assert found(table_id=program.id("tables", "ternary_table"), priority=2) == prioritised[1:]
    assert found(table_id=0, metadata=b"a") == written[:1]


def test_metadata_lives_with_its_entry(client: Client, program: Program) -> None:
    client.write(update(INSERT, table_entry=lpm_entry(program, 1, metadata=b"first", controller_metadata=9)))
    client.write(update(MODIFY, table_entry=lpm_entry(program, 1, "drop", metadata=b"second")))
    (found,) = client.read(p4r.Entity(table_entry=entry(program, "lpm_table")))
    assert found.table_entry == lpm_entry(program, 1, "drop", metadata=b"second")
    client.write(update(MODIFY, table_entry=lpm_entry(program, 1)))
    (found,) = client.read(p4r.Entity(table_entry=entry(program, "lpm_table")))
    assert found.table_entry == lpm_entry(program, 1)
    default = entry(
        program,
        "lpm_table",
        is_default_action=True,
        action=action(program, "drop"),
        metadata=b"d",
        controller_metadata=3,
    )
    client.write(update(MODIFY, table_entry=default))
    wanted = p4r.Entity(table_entry=entry(program, "lpm_table", is_default_action=True))
    assert client.read(wanted) == [p4r.Entity(table_entry=default)]
    client.write(update(MODIFY, table_entry=entry(program, "lpm_table", is_default_action=True)))
    assert not client.read(wanted)[0].table_entry.metadata


def test_default_entries_of_all_tables(client: Client, program: Program) -> None:
    found = client.read(p4r.Entity(table_entry=p4r.TableEntry(is_default_action=True)))
    assert sorted(e.table_entry.table_id for e in found) == sorted(t.preamble.id for t in program.info.tables)
    const = {e.table_entry.table_id for e in found if e.table_entry.is_const}
    assert const == {program.id("tables", "exact_table"), program.id("tables", "const_table")}


def test_direct_resources_of_an_entry(client: Client, running: Running, program: Program) -> None:
    """INSERT sets them, MODIFY keeps the counter and resets the meter, as the specification has it."""
    config = p4r.MeterConfig(cir=1, cburst=2, pir=3, pburst=4)
    counted = p4r.CounterData(packet_count=5, byte_count=50)
    key, metered = exact(1, b"\1"), action(program, "metered", b"\2")
    client.write(
        update(
            INSERT,
            table_entry=entry(program, "exact_table", key, action=metered, counter_data=counted, meter_config=config),
        )
    )
    wanted = p4r.Entity(
        table_entry=entry(program, "exact_table", counter_data=p4r.CounterData(), meter_config=p4r.MeterConfig())
    )

    def now() -> p4r.TableEntry:
        return client.read(wanted)[0].table_entry

    assert (now().counter_data, now().meter_config) == (counted, config)
    running.switch.inject(3, packet(1, number=1))
    assert now().counter_data.packet_count == 6
    # Without an action the entry's own stays.
    client.write(update(MODIFY, table_entry=entry(program, "exact_table", key, meter_config=config, metadata=b"x")))
    assert (now().counter_data.packet_count, now().meter_config, now().action) == (6, config, metered)
    assert now().metadata == b"x"
    client.write(update(MODIFY, table_entry=entry(program, "exact_table", key, action=metered)))
    assert (now().counter_data.packet_count, now().HasField("meter_config")) == (6, False)
    client.write(update(MODIFY, table_entry=entry(program, "exact_table", key, counter_data=p4r.CounterData())))
    assert now().HasField("counter_data")
    assert now().counter_data.packet_count == 0


def test_direct_counter_of_a_const_entry(client: Client, running: Running, program: Program) -> None:
    running.switch.inject(3, packet(4, number=1))
    key = exact(1, b"\1")
    counter = p4r.Entity(direct_counter_entry=p4r.DirectCounterEntry(table_entry=entry(program, "const_table", key)))
    assert client.read(counter)[0].direct_counter_entry.data.packet_count == 1
    client.write(
        update(MODIFY, table_entry=entry(program, "const_table", key, counter_data=p4r.CounterData(packet_count=9)))
    )
    assert client.read(counter)[0].direct_counter_entry.data.packet_count == 9
    (found,) = client.read(p4r.Entity(table_entry=entry(program, "const_table", key)))
    assert found.table_entry.is_const


def test_a_counter_without_data_is_left_alone(client: Client, program: Program) -> None:
    number = program.id("counters", "op_counter")
    data = p4r.CounterData(packet_count=3)
    client.write(update(MODIFY, counter_entry=p4r.CounterEntry(counter_id=number, data=data)))  # all cells
    client.write(update(MODIFY, counter_entry=p4r.CounterEntry(counter_id=number, index=p4r.Index(index=2))))
    found = client.read(p4r.Entity(counter_entry=p4r.CounterEntry()))
    assert [c.counter_entry.data.packet_count for c in found] == [3] * 8


@pytest.mark.parametrize("kind", ["counter", "meter", "register"])
def test_wildcards_of_cells(client: Client, program: Program, kind: str) -> None:
    message = {"counter": p4r.CounterEntry, "meter": p4r.MeterEntry, "register": p4r.RegisterEntry}[kind]
    everywhere = client.read(p4r.Entity(**{f"{kind}_entry": message()}))
    assert len(everywhere) == {"counter": 8, "meter": 4, "register": 4 + 3 * 2}[kind]
    ids = {getattr(getattr(e, f"{kind}_entry"), f"{kind}_id") for e in everywhere}
    assert ids == {i.preamble.id for i in getattr(program.info, f"{kind}s")}


@pytest.mark.parametrize(
    ("name", "data", "canonical"),
    [
        ("op_register", p4d.P4Data(bitstring=b"\0\0\x05"), p4d.P4Data(bitstring=b"\x05")),
        ("signed_register", p4d.P4Data(bitstring=b"\xff\xff\x9d"), p4d.P4Data(bitstring=b"\x9d")),
        ("signed_register", p4d.P4Data(bitstring=b"\x00\x80"), p4d.P4Data(bitstring=b"\x00\x80")),
        ("signed_register", p4d.P4Data(bitstring=b"\xf8\x00"), p4d.P4Data(bitstring=b"\xf8\x00")),
        ("signed_register", p4d.P4Data(bitstring=b"\0\0"), p4d.P4Data(bitstring=b"\0")),
        ("bool_register", p4d.P4Data(bool=True), p4d.P4Data(bool=True)),
        ("bool_register", p4d.P4Data(bool=False), p4d.P4Data(bool=False)),
        ("level_register", p4d.P4Data(enum_value=b"\0\xc8"), p4d.P4Data(enum_value=b"\xc8")),
    ],
)
def test_register_types(client: Client, program: Program, name: str, data: p4d.P4Data, canonical: p4d.P4Data) -> None:
    cell = p4r.RegisterEntry(register_id=program.id("registers", name), index=p4r.Index(index=1), data=data)
    client.write(update(MODIFY, register_entry=cell))
    (found,) = client.read(p4r.Entity(register_entry=cell))
    assert found.register_entry.data == canonical


def test_the_data_plane_changes_registers_of_all_types(client: Client, running: Running, program: Program) -> None:
    running.switch.inject(3, packet(18, number=1))
    registers = client.read(p4r.Entity(register_entry=p4r.RegisterEntry()))
    now = {(e.register_entry.register_id, e.register_entry.index.index): e.register_entry.data for e in registers}
    assert now[program.id("registers", "signed_register"), 1].bitstring == b"\xff"
    assert now[program.id("registers", "bool_register"), 1].bool
    assert now[program.id("registers", "level_register"), 1].enum_value == b"\xc8"
    assert now[program.id("registers", "signed_register"), 0].bitstring == b"\0"


def test_nested_digest(client: Client, running: Running, program: Program) -> None:
    client.write(update(INSERT, digest_entry=p4r.DigestEntry(digest_id=program.id("digests", "nested_t"))))
    running.switch.inject(3, packet(18, number=1))
    running.switch.inject(3, packet(18, number=1))
    first, second = (client.streams[0].next().digest.data[0] for _ in range(2))
    assert second.struct.members[1].bitstring == b"\1"
    inner = [d.struct.members[0].struct.members for d in (first, second)]
    assert [i[0].bitstring for i in inner] == [b"\0", b"\xff"]
    assert [i[1].enum_value for i in inner] == [b"\0", b"\xc8"]


def test_a_batch_with_bad_requests(client: Client, program: Program) -> None:
    """The good ones are answered, then the status says which were bad."""
    client.write(update(INSERT, table_entry=lpm_entry(program, 1)))
    wanted = [
        p4r.Entity(table_entry=entry(program, "lpm_table")),
        p4r.Entity(),
        p4r.Entity(table_entry=entry(program, "initial_table")),
        p4r.Entity(counter_entry=p4r.CounterEntry(counter_id=1)),
    ]
    found: list[p4r.Entity] = []
    with pytest.raises(grpc.RpcError) as caught:
        for response in client.stub.Read(p4r.ReadRequest(device_id=DEVICE, entities=wanted)):
            found += response.entities
    assert [e.table_entry.table_id for e in found] == [
        program.id("tables", name) for name in ("lpm_table", "initial_table", "initial_table")
    ]
    assert [code for code, _ in details_of(caught.value)] == [0, 3, 0, 5]


def test_externs_of_other_architectures(client: Client) -> None:
    assert client.read(p4r.Entity(extern_entry=p4r.ExternEntry())) == []


# Of the specification's tables of valid byte strings: width, signed, the value, what is sent, what is canonical.
VALID = [
    (8, False, 99, b"\x63", b"\x63"),
    (16, False, 99, b"\x00\x63", b"\x63"),
    (16, False, 12388, b"\x00\x30\x64", b"\x30\x64"),
    (12, False, 99, b"\x00\x00\x63", b"\x63"),
    (8, True, 99, b"\x63", b"\x63"),
    (8, True, -99, b"\xff\x9d", b"\x9d"),
    (12, True, -739, b"\xfd\x1d", b"\xfd\x1d"),
    (16, True, 0, b"\x00\x00", b"\x00"),
    (1, False, 0, b"\x00", b"\x00"),
]
INVALID = [
    (8, False, b"\x01\x63"),
    (8, False, b""),
    (16, False, b"\x01\x00\x63"),
    (12, False, b"\x10\x63"),
    (12, False, b"\x01\x00\x63"),
    (12, False, b"\x00\x40\x63"),
    (8, True, b"\x00\x9d"),
    (12, True, b"\x8d\x1d"),
    (16, True, b""),
]


@pytest.mark.parametrize(("width", "signed", "number", "sent", "canonical"), VALID)
def test_valid_byte_strings(width: int, signed: bool, number: int, sent: bytes, canonical: bytes) -> None:
    bits = (values.decode_signed if signed else values.decode)(sent, width, "value")
    assert bits == number & ((1 << width) - 1)
    assert (values.encode_signed(bits, width) if signed else values.encode(bits)) == canonical


@pytest.mark.parametrize(("width", "signed", "sent"), INVALID)
def test_invalid_byte_strings(width: int, signed: bool, sent: bytes) -> None:
    with pytest.raises(Exception, match=r"does not fit|empty"):
        (values.decode_signed if signed else values.decode)(sent, width, "value")
