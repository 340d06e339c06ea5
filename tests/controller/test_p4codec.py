"""Entries and packets as P4Runtime messages, by a P4Info of its own; ``test_p4rt`` has them understood by a server."""

from __future__ import annotations

import pytest
from finsy.proto import p4i, p4r
from google.protobuf import text_format
from hypothesis import given
from hypothesis import strategies as st

from controller.core.entries import Entry, Write, WriteOp
from controller.p4codec import Codec, number

INFO = """
tables {
  preamble { id: 10 name: "in.routes" alias: "routes" }
  match_fields { id: 1 name: "va" bitwidth: 64 match_type: LPM }
  match_fields { id: 2 name: "pid" bitwidth: 16 match_type: EXACT }
  size: 77
}
actions {
  preamble { id: 20 name: "in.send" alias: "send" }
  params { id: 1 name: "port" bitwidth: 9 }
  params { id: 2 name: "offset" bitwidth: 64 }
}
actions { preamble { id: 21 name: "NoAction" alias: "NoAction" } }
counters { preamble { id: 30 name: "in.seen" alias: "seen" } }
digests { preamble { id: 40 name: "lost_t" alias: "lost_t" } }
controller_packet_metadata {
  preamble { id: 50 name: "packet_in" alias: "packet_in" }
  metadata { id: 1 name: "port" bitwidth: 9 }
  metadata { id: 2 name: "element" bitwidth: 16 }
}
controller_packet_metadata {
  preamble { id: 51 name: "packet_out" alias: "packet_out" }
  metadata { id: 1 name: "egress_port" bitwidth: 9 }
  metadata { id: 2 name: "pad" bitwidth: 7 }
}
"""
codec = Codec(text_format.Parse(INFO, p4i.P4Info()))


@pytest.mark.parametrize(
    ("value", "octets"), [(0, "00"), (1, "01"), (255, "ff"), (256, "0100"), (1 << 63, "80" + "00" * 7)]
)
def test_numbers_are_as_short_as_they_can_be(value: int, octets: str) -> None:
    assert number(value).hex() == octets


@given(st.integers(0, (1 << 64) - 1), st.integers(0, 64), st.integers(0, 0xFFFF), st.integers(0, 511), st.data())
def test_what_is_written_is_what_is_read(va: int, length: int, pid: int, port: int, data: st.DataObject) -> None:
    prefix = va >> (64 - length) << (64 - length)
    offset = data.draw(st.integers(0, (1 << 64) - 1))
    match = (("va", (va, length)), ("pid", pid))
    entry = Entry("routes", match, "send", (("port", port), ("offset", offset)))
    update = codec.update(Write(WriteOp.MODIFY, entry))
    assert update.type == p4r.Update.MODIFY
    found = codec.entry(p4r.TableEntry.FromString(update.entity.table_entry.SerializeToString()))
    assert found == Entry("routes", (("va", (prefix, length)), ("pid", pid)), "send", entry.params)


def test_parameters_come_in_the_programs_order_and_absent_prefixes_match_all() -> None:
    message = codec.update(Write(WriteOp.INSERT, Entry("routes", (("pid", 3),), "NoAction"))).entity.table_entry
    assert codec.entry(message) == Entry("routes", (("va", (0, 0)), ("pid", 3)), "NoAction")
    message.is_default_action = True
    assert codec.entry(message) is None


@pytest.mark.parametrize(
    "entry",
    [
        Entry("roots", (("pid", 3),), "NoAction"),
        Entry("routes", (("peer", 3),), "NoAction"),
        Entry("routes", (("pid", 3),), "drop"),
        Entry("routes", (("pid", 3),), "send", (("colour", 1),)),
    ],
)
def test_names_that_the_program_does_not_have(entry: Entry) -> None:
    with pytest.raises(KeyError):
        codec.update(Write(WriteOp.INSERT, entry))


def test_packets_and_ids() -> None:
    for _ in range(2):
        packet = codec.packet_out(300, b"frame").packet
        assert packet.payload == b"frame"
        assert [(m.metadata_id, m.value) for m in packet.metadata] == [(1, b"\x01\x2c"), (2, b"\0")]
    metadata = [p4r.PacketMetadata(metadata_id=1, value=b"\1"), p4r.PacketMetadata(metadata_id=2, value=b"\1\0")]
    assert codec.element_of(p4r.PacketIn(payload=b"", metadata=metadata)) == 256
    assert (codec.size("routes"), codec.digest("lost_t")) == (77, 40)
    assert codec.counter("seen", None).counter_entry.counter_id == 30
    assert codec.counter("seen", 5).counter_entry.index.index == 5
    assert codec.wildcard("routes", counters=True).table_entry.HasField("counter_data")
