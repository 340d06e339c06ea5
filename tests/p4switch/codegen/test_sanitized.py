"""Generated code on hostile packets, under the address and undefined behaviour sanitizers, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from p4switch.dataplane.build import sanitizer_preload

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
FEATURES = HERE.parent / "features"
# Those that move bytes whose place or number depends on the packet.
PROGRAMS = (
    "checksum_payload",
    "exit_and_return",
    "header_stack",
    "header_union",
    "lookahead_advance",
    "loops",
    "parser_errors",
    "slices_and_concat",
    "stack_index",
    "varbit",
    "wide_numbers",
)


@pytest.mark.timeout(900)
def test_no_packet_causes_undefined_behaviour() -> None:
    files = [str(FEATURES / f"{name}.p4") for name in PROGRAMS] + [str(ROOT / "p4src" / "rack_mmu.p4")]
    environment = {
        **os.environ,
        "P4SWITCH_SANITIZE": "address",
        "LD_PRELOAD": sanitizer_preload("address"),
        "ASAN_OPTIONS": "detect_leaks=0",  # Python keeps what it allocates
        "PYTHONPATH": str(ROOT),
    }
    command = [sys.executable, str(HERE / "sanitized_run.py"), "400", *files]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=840, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.split() == [*PROGRAMS, "rack_mmu"]
