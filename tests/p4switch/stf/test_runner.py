"""The runner and the subcommand: expectations that do not hold fail, each with its line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from p4switch import native
from p4switch.compiler.driver import compile_source
from p4switch.dataplane.binding import Switch
from p4switch.stf import StfError, run_script

FEATURES = Path(__file__).parent.parent / "features"


def failures(name: str, script: str) -> list[str]:
    with Switch(seed=1) as switch:
        switch.load(native.build(compile_source(FEATURES / f"{name}.p4").program, optimise=False))
        return [str(failure) for failure in run_script(switch, script)]


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        (
            "packet 0 0100\nexpect 1 0100",
            ["line 2: nothing came to port 1", "to port 9 came 0100, which was not expected"],
        ),
        ("packet 0 0300\nexpect 9 0301", ["line 2: to port 9 came 0300, expected 0301"]),
        ("packet 0 030000\nexpect 9 0300 $", ["line 2: to port 9 came 030000, expected 0300$"]),
        (
            "packet 0 0300\nno_packet\nexpect 9",
            ["to port 9 came 0300, which was not expected", "line 3: nothing came to port 9"],
        ),
    ],
)
def test_failures(script: str, expected: list[str]) -> None:
    assert failures("action_profile", script) == expected


@pytest.mark.parametrize(
    ("name", "script", "message"),
    [
        ("exact_match", "add t hdr.h.a:1 drop()", "line 1: key 'hdr.h.b' of MyIngress.t is exact: it needs a value"),
        ("exact_match", "add x drop()", "line 1: table 'x' is not one of MyIngress.t"),
        ("exact_match", "add t hdr.h.a:1 hdr.h.b:2 forward()", "line 1: MyIngress.forward takes 1 arguments, 0 given"),
        ("exact_match", "add t hdr.h.a:256 hdr.h.b:2 drop()", "line 1: hdr.h.a: 0x100 is not a number of 8 bits"),
        ("exact_match", "remove t hdr.h.a:1 hdr.h.b:2", "line 1: delete: "),
        ("registers", "check_register r 9 0", "line 1: register"),
        ("registers", "check_counter r(0)", "line 1: MyIngress.r is a register, not a counter"),
        ("counters", "check_counter c(4)", "line 1: counter"),
        ("counters", "check_counter d(0)", "line 1: MyIngress.d counts a table's entries: name one"),
        ("counters", "check_counter d(e)", "line 1: no entry is called 'e'"),
        ("counters", "check_counter c 1 2", "line 1: usage: check_counter NAME(INDEX)"),
        ("counters", "check_counter c(1) frames == 2", "line 1: usage: check_counter NAME(INDEX)"),
        ("counters", "counter_read c 9", "line 1: counter"),
        (
            "meters",
            "meter_set_rates m 0 1:1",
            "line 1: 1 rates given; usage: meter_set_rates NAME INDEX RATE:BURST RATE:BURST",
        ),
        ("meters", "meter_set_rates m 0 1:x 1:1", "line 1: '1:x' is not RATE:BURST"),
        ("multicast", "mc_node_update 0 1", "line 1: node 0: 0 have been created"),
    ],
)
def test_commands_that_cannot_be_executed(name: str, script: str, message: str) -> None:
    with pytest.raises(StfError) as caught:
        failures(name, script)
    assert str(caught.value).startswith(message)


def test_checks_of_state() -> None:
    assert failures("registers", "register_write r 1 5\ncheck_register r 1 6") == ["line 2: r[1] is 5, expected 6"]
    assert failures("digests", "packet 0 070000\nexpect 1") == ["1 digests that were not expected"]


@pytest.mark.parametrize(("script", "status"), [("packet 0 00\nexpect 9", 1), ("frob", 2), (None, 0)])
def test_exit_status(tmp_path: Path, script: str | None, status: int) -> None:
    test = FEATURES / "exact_match.stf"
    if script is not None:
        test = tmp_path / "x.stf"
        test.write_text(script)
    command = [sys.executable, "-m", "p4switch", "stf", str(FEATURES / "exact_match.p4"), str(test)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=FEATURES.parents[2])
    assert done.returncode == status, done.stderr


COUNTED = """add t hdr.h.a:1 forward(1) = one
packet 0 01
packet 0 01aa
packet 0 02
expect 1
expect 1
expect 9
"""


@pytest.mark.parametrize(
    ("check", "expected"),
    [
        ("check_counter c(1)", []),
        ("check_counter c(1) packets == 2", []),
        ("check_counter c(1) packets == 3", ["line 8: c(1) packets is 2, expected == 3"]),
        ("check_counter c(1) bytes >= 4", ["line 8: c(1) bytes is 3, expected >= 4"]),
        ("check_counter c(2) packets != 1", ["line 8: c(2) packets is 1, expected != 1"]),
        ("check_counter c(2) packets < 1", ["line 8: c(2) packets is 1, expected < 1"]),
        ("check_counter d(one) packets == 2", []),
        ("check_counter d(one) bytes > 3", ["line 8: d(one) bytes is 3, expected > 3"]),
        ("counter_write c 2 7 70\ncheck_counter c(2) bytes == 70", []),
        ("remove all\npacket 0 01\nexpect 9\ncheck_counter c(1) packets == 3", []),
    ],
)
def test_counters_as_p4c_checks_them(check: str, expected: list[str]) -> None:
    assert failures("counters", COUNTED + check) == expected


def test_a_node_gets_other_ports() -> None:
    script = """mc_mgrp_create 1
mc_node_create 3 1 2
mc_node_associate 1 0
mc_node_update 0 4
"""
    before = failures("multicast", script.replace("mc_node_update 0 4", "") + "packet 0 010000")
    after = failures("multicast", script + "packet 0 010000")
    came = [[line.split(" came ")[0] for line in lines] for lines in (before, after)]
    assert came == [["to port 1", "to port 2"], ["to port 4"]]


def test_registers_are_reset() -> None:
    assert (
        failures("registers", "register_write r 1 7\ncheck_register r 1 7\nregister_reset r\ncheck_register r 1 0")
        == []
    )


@pytest.mark.parametrize(
    "rates", ["meter_set_rates m 2 0.000001:1 0.000001:2", "meter_array_set_rates m 0.000001:1 0.000001:2"]
)
def test_rates_as_in_the_command_line_of_bmv2(rates: str) -> None:
    """One unit a second, bursts of one and two: the third packet at once is red."""
    packets = "\n".join(f"packet 0 02 ff\nexpect 1 02 0{colour} $" for colour in range(3))
    assert failures("meters", f"{rates}\n{packets}") == []
