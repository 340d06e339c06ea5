"""``p4switch bench``: it measures what it is told to and refuses what it cannot read; how fast is the benchmark's to say."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from finsy.proto import p4i
from google.protobuf import text_format

ROOT = Path(__file__).parents[3]
PROGRAM = """
#include <core.p4>
#include <v1model.p4>
header ethernet_t { bit<48> dst_addr; bit<48> src_addr; bit<16> ether_type; }
struct headers_t { ethernet_t ethernet; }
struct metadata_t { }
parser P(packet_in packet, out headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    state start { packet.extract(hdr.ethernet); transition accept; }
}
control V(inout headers_t hdr, inout metadata_t meta) { apply { } }
control I(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    action forward(bit<9> port) { sm.egress_spec = port; }
    action drop() { mark_to_drop(sm); }
    table station {
        key = { hdr.ethernet.dst_addr: exact; }
        actions = { forward; @defaultonly drop; }
        const default_action = drop();
        size = 1024;
    }
    apply { station.apply(); }
}
control E(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) { apply { } }
control D(packet_out packet, in headers_t hdr) { apply { packet.emit(hdr.ethernet); } }
V1Switch(P(), V(), I(), E(), V(), D()) main;
"""
STATION = "020200000001" + "020100000001" + "88b5"


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bench") / "station.p4"
    path.write_text(PROGRAM)
    return path


def bench(program: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "p4switch", "bench", str(program), "--seconds", "0.1", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=400, check=False)


def test_report(program: Path) -> None:
    done = bench(program, "--json", "--fill", "500", "--packet", STATION)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["packet_bytes"], report["packets"], report["outputs"]) == (14, 1, {})
    assert report["tables"]["I.station"]["entries"] == 500
    assert 10 < report["tables"]["I.station"]["bytes_per_entry"] < 1000
    assert report["packets_per_second"] == pytest.approx(1e9 / report["ns_per_packet"], rel=0.01)


def test_entries_and_packets_from_files(program: Path, tmp_path: Path) -> None:
    info = tmp_path / "info.txtpb"
    command = [sys.executable, "-m", "p4switch", "compile", str(program), "--p4info", str(info)]
    subprocess.run(command, cwd=ROOT, timeout=400, check=True)
    parsed = text_format.Parse(info.read_text(), p4i.P4Info())
    table = parsed.tables[0].preamble.id
    forward = next(a.preamble.id for a in parsed.actions if a.preamble.alias == "forward")
    action = f'action {{ action {{ action_id: {forward} params {{ param_id: 1 value: "\\007" }} }} }}'
    match = 'match { field_id: 1 exact { value: "\\002\\002\\000\\000\\000\\001" } }'
    entry = f"table_entry {{ table_id: {table} {match} {action} }}"
    entries, packets = tmp_path / "entries.txtpb", tmp_path / "packets"
    entries.write_text(f"updates {{ type: INSERT entity {{ {entry} }} }}\n")
    packets.write_text(f"{STATION}\n{'ff' * 20}\n{STATION} 0102\n")
    done = bench(program, "--json", "--entries", str(entries), "--packets", str(packets))
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["entries_written"] == 1
    assert (report["packets"], report["packet_bytes"]) == (3, 20)
    assert report["outputs"] == {"7": 2}
    entries.write_text(entries.read_text().replace("field_id: 1", "field_id: 9"))
    refused = bench(program, "--entries", str(entries))
    assert refused.returncode == 1
    assert "update 0: I.station has no match field 9" in refused.stderr


@pytest.mark.parametrize(
    ("option", "text", "message"),
    [
        ("--entries", "updates { what: 1 }", "no P4Runtime WriteRequest"),
        ("--packets", "0102\nxyz\n", ":2: expected hexadecimal digits, found 'xyz'"),
        ("--packets", "", "no packets"),
        ("--fill-table", "nothing=3", "no table 'nothing'; there are I.station"),
    ],
)
def test_refusals(program: Path, tmp_path: Path, option: str, text: str, message: str) -> None:
    file = tmp_path / "input.txtpb"
    file.write_text(text)
    done = bench(program, option, text if option == "--fill-table" else str(file))
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr
