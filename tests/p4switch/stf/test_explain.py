"""Field by field what was wrong with a frame."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
FEATURES = ROOT / "tests" / "p4switch" / "features"
PROGRAM = """
#include <core.p4>
#include <v1model.p4>
header eth_t { bit<4> kind; bit<12> id; bool last; bit<7> pad; }
header tag_t { bit<16> v; }
header opt_t { bit<8> len; varbit<32> data; }
struct headers_t { eth_t eth; tag_t[2] tags; opt_t opt; }
struct metadata_t { }
parser P(packet_in packet, out headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    state start {
        packet.extract(hdr.eth);
        transition select(hdr.eth.kind) { 1: tags; 2: opt; default: accept; }
    }
    state tags { packet.extract(hdr.tags.next); packet.extract(hdr.tags.next); transition accept; }
    state opt { packet.extract(hdr.opt, 8); transition accept; }
}
control MyIngress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    apply {
        sm.egress_spec = 1;
        if (hdr.eth.last) { sm.mcast_grp = 1; }
    }
}
#include "skeleton.p4"
"""


def stf(directory: Path, script: str) -> list[str]:
    """The lines below the first failure."""
    (directory / "prog.p4").write_text(PROGRAM)
    (directory / "prog.stf").write_text(script)
    command = [sys.executable, "-m", "p4switch", "stf", str(directory / "prog.p4"), "-I", str(FEATURES)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=400)
    assert done.returncode == 1, done.stderr
    return [line.strip() for line in done.stderr.splitlines() if line.startswith("    ")]


CASES = {
    "fields, and digits that do not matter": (
        "packet 0 1abc 00 1111 2222 5566\nexpect 1 2ab* 80 1111 2223 5566 $",
        [
            "hdr.eth.kind: expected 0x2 (4 bits), seen 0x1 (4 bits)",
            "hdr.eth.last: expected 0x1 (1 bits), seen 0x0 (1 bits)",
            "hdr.tags[1].v: expected 0x2223 (16 bits), seen 0x2222 (16 bits)",
        ],
    ),
    "payload": (
        "packet 0 0abc 00 5566\nexpect 1 0abc 00 5567 $",
        ["payload from byte 3: expected 0x5567 (16 bits), seen 0x5566 (16 bits)"],
    ),
    "a frame that is too short": (
        "packet 0 1abc 00 1111 2222\nexpect 1 1abc 00 1111 2222 33",
        ["payload from byte 7: expected 0x33 (8 bits), the frame ends before"],
    ),
    "a varbit hides where the rest begins": (
        "packet 0 2abc 00 01 77 88\nexpect 1 2abc 00 02 77 99 $",
        [
            "hdr.opt.len: expected 0x02 (8 bits), seen 0x01 (8 bits)",
            "hdr.opt.data and what follows: expected 0x7799 (16 bits), seen 0x7788 (16 bits)",
        ],
    ),
    "the second frame of a port": (
        "packet 0 1abc 00 1111 2222\nexpect 1 1abc 00 1111 2222 $\npacket 0 0abc 00\nexpect 1 0abd 00 $",
        ["hdr.eth.id: expected 0xabd (12 bits), seen 0xabc (12 bits)"],
    ),
    "copies": (
        "mc_mgrp_create 1\nmc_node_create 0 1 2\nmc_node_associate 1 0\npacket 0 0abc 80\nexpect 1 0abc 80 $\nexpect 2 0abc 81 $",
        ["hdr.eth.pad: expected 0x01 (7 bits), seen 0x00 (7 bits)"],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_fields(name: str, tmp_path: Path) -> None:
    script, lines = CASES[name]
    assert stf(tmp_path, script) == lines
