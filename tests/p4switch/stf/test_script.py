"""The .stf format: what lines mean, and what is said about wrong ones."""

from __future__ import annotations

import pytest

from p4switch.stf import StfError, parse_script
from p4switch.stf.runner import agrees, find
from p4switch.stf.script import ActionCall, AddEntry, Expect, Group, Match, Numbers, Packet, parse_line


def entry(text: str) -> AddEntry:
    (command,) = parse_script("add " + text)
    assert isinstance(command, AddEntry)
    return command


def test_comments_and_blank_lines_do_not_count() -> None:
    commands = parse_script("# nothing\n\npacket 3 0a 0B # trailing\n")
    assert commands == [Packet(3, 3, b"\x0a\x0b")]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("k:0x10", Match("k", 16)),
        ("k:0b1_01", Match("k", 5)),
        ("k:0x1*", Match("k", 0x10, 0xF0)),
        ("k:0b1*0", Match("k", 0b100, 0b101)),
        ("k:0x1f&&&0x0f", Match("k", 0x0F, 0x0F)),
        ("k:1->9", Match("k", 1, upper=9)),
        ("k:0x0a000000/8", Match("k", 0x0A000000, prefix=8)),
        ("h.s$1.f:7", Match("h.s[1].f", 7)),
        ('"a b":7', Match("a b", 7)),
    ],
)
def test_keys(text: str, expected: Match) -> None:
    assert entry(f"t 5 {text} act()").keys == (expected,)


def test_entries() -> None:
    command = entry("t 5 a:1 b:2 pipe.act(x:3, y:0x4)")
    assert (command.table, command.priority) == ("t", 5)
    assert command.action == ActionCall("pipe.act", (("x", 3), ("y", 4)))
    assert entry("t a:1 act(1,2) = $1").action == ActionCall("act", ((None, 1), (None, 2)))
    assert entry("t act").action == ActionCall("act")


@pytest.mark.parametrize(
    ("text", "digits", "exact"),
    [("01 0A", "010a", False), ("01*a$", "01*a", True), ("", None, False), ("01 $", "01", True), ("$", "", True)],
)
def test_expectations(text: str, digits: str | None, exact: bool) -> None:
    assert parse_script(f"expect 2 {text}") == [Expect(1, 2, digits, exact)]


@pytest.mark.parametrize(
    ("text", "data", "holds"),
    [
        ("0102", "0102", True),
        ("0102", "010203", True),
        ("0102$", "010203", False),
        ("0102", "01", False),
        ("0*02", "0f02", True),
        ("0*02", "1f02", False),
        ("", "ff", True),
    ],
)
def test_comparison(text: str, data: str, holds: bool) -> None:
    (wanted,) = parse_script(f"expect 1 {text}")
    assert isinstance(wanted, Expect)
    assert agrees(wanted, bytes.fromhex(data)) is holds


def test_other_commands() -> None:
    assert parse_line("group", "s 3 1 2*5", 1) == Group(1, "s", 3, ((1, 1), (2, 5)))
    assert parse_line("mc_node_create", "7 1 2", 1) == Numbers(1, "mc_node_create", "", (7, 1, 2))
    assert parse_line("check_counter", "c 0 1 64", 1) == Numbers(1, "check_counter", "c", (0, 1, 64))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("paket 1 00", "line 1: unknown command 'paket'; there are add, "),
        ("\npacket 1 0", "line 2: '0' is not an even number of hexadecimal digits"),
        ("packet x 00", "line 1: 'x' is not a number"),
        ("packet", "line 1: usage: packet PORT DATA"),
        ("expect 1 0g", "line 1: '0g' are not hexadecimal digits and wildcards"),
        ("add t key act()", "line 1: expected KEY:VALUE, found 'key'"),
        ("add", "line 1: the name of a table is missing"),
        ("add t k:1* a()", "line 1: '1*': wildcards need 0x, 0o or 0b in front"),
        ("mirroring_add 1", "line 1: mirroring_add takes 2 numbers, 1 given"),
    ],
)
def test_wrong_lines(text: str, message: str) -> None:
    with pytest.raises(StfError) as caught:
        parse_script(text)
    assert str(caught.value).startswith(message)


def test_names_may_be_shortened_where_they_are_unique() -> None:
    names = ["I.t", "I.sub.u", "E.u", "I.v"]
    assert find(names, "t", "table", 1) == "I.t"
    assert find(names, "sub.u", "table", 1) == "I.sub.u"
    assert find(names, "other.v", "table", 1) == "I.v"
    with pytest.raises(StfError, match="line 4: table"):
        find(names, "u", "table", 4)
