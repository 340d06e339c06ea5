"""Reading of .stf files into typed commands.

One command a line, ``#`` begins a comment. What p4c's own reader knows means the same here, including what it takes from
BMv2's command line (``mc_*``, ``mirroring_*``, ``counter_*``, ``register_*``, ``meter_*``). The rest is of our own, for what
those cannot reach; docs/stf.md describes all.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass


class StfError(Exception):
    """A line that cannot be understood or applied; ``line`` counts from 1."""

    def __init__(self, line: int, message: str):
        self.line = line
        super().__init__(f"line {line}: {message}")


@dataclass(frozen=True)
class Match:
    """A key of an entry: value and mask, or, for ranges, ``upper`` set. ``prefix`` for ``value/length``, None where neither."""

    name: str
    value: int
    mask: int | None = None
    upper: int | None = None
    prefix: int | None = None


@dataclass(frozen=True)
class ActionCall:
    """``name(arguments)``; arguments have names or positions. ``member(N)`` and ``group(N)`` refer to a profile."""

    name: str
    args: tuple[tuple[str | None, int], ...] = ()


@dataclass(frozen=True)
class Command:
    """Base: ``line`` is where it stands."""

    line: int


@dataclass(frozen=True)
class Packet(Command):
    """A frame that arrives on a port; ``port`` None: from the controller."""

    port: int | None
    data: bytes


@dataclass(frozen=True)
class Expect(Command):
    """A frame that leaves a port (None: to the controller): hexadecimal digits, ``*`` for any.

    ``digits`` None means any frame at all; ``exact`` that nothing may follow.
    """

    port: int | None
    digits: str | None
    exact: bool


@dataclass(frozen=True)
class ExpectDigest(Command):
    """A digest message with these field values, in order."""

    name: str
    values: tuple[int, ...]


@dataclass(frozen=True)
class NoPacket(Command):
    """Nothing may have come out since the last command of this kind but what was expected before this line."""


@dataclass(frozen=True)
class AddEntry(Command):
    """``add`` or, with ``remove``, the deletion of an entry."""

    table: str
    priority: int
    keys: tuple[Match, ...]
    action: ActionCall | None
    remove: bool = False
    name: str | None = None  # what ``check_counter`` calls the entry


@dataclass(frozen=True)
class RemoveAll(Command):
    """``remove all``: the entries that this script has added."""


@dataclass(frozen=True)
class SetDefault(Command):
    """``setdefault table action(args)``."""

    table: str
    action: ActionCall


@dataclass(frozen=True)
class Member(Command):
    """``member profile id action(args)``."""

    profile: str
    member: int
    action: ActionCall


@dataclass(frozen=True)
class Group(Command):
    """``group profile id member[*weight]...``."""

    profile: str
    group: int
    members: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class SetValues(Command):
    """``value_set name value[&&&mask]...``: replaces the members of a value set of one field."""

    name: str
    members: tuple[tuple[int, int | None], ...]


@dataclass(frozen=True)
class Numbers(Command):
    """A command of a name and numbers: ``word`` says which."""

    word: str
    name: str
    values: tuple[int, ...]


@dataclass(frozen=True)
class CheckCounter(Command):
    """``check_counter name(index or entry) [packets|bytes condition number]``; without a condition: that it exists."""

    name: str
    index: int | str
    unit: str | None = None
    condition: str = ""
    number: int = 0


@dataclass(frozen=True)
class SetRates(Command):
    """``meter_set_rates name index rate:burst rate:burst``, as BMv2's command line has it; ``index`` None: all cells.
    Rates are in units a microsecond."""

    name: str
    index: int | None
    rates: tuple[tuple[float, int], ...]


@dataclass(frozen=True)
class Wait(Command):
    """``wait``: packets are processed at once, so that there is nothing to wait for."""


def number(text: str, line: int) -> int:
    """A number as P4 writes it; ``_`` may separate digits."""
    try:
        return int(text.replace("_", ""), 0)
    except ValueError:
        raise StfError(line, f"{text!r} is not a number") from None


def hexadecimal(text: str, line: int) -> bytes:
    """Bytes of hexadecimal digits with blanks between them."""
    digits = re.sub(r"\s", "", text)
    try:
        return bytes.fromhex(digits)
    except ValueError:
        raise StfError(line, f"{digits[:40]!r} is not an even number of hexadecimal digits") from None


def parse_match(name: str, text: str, line: int) -> Match:
    """``name:value`` with a mask, a prefix, a range or wildcards."""
    name = re.sub(r"\$(\d+)", r"[\1]", name.strip('"'))
    if "&&&" in text:
        value, mask = (number(part, line) for part in text.split("&&&", 1))
        return Match(name, value & mask, mask)
    if "->" in text or ".." in text:
        low, high = (number(part, line) for part in re.split(r"->|\.\.", text, maxsplit=1))
        return Match(name, low, upper=high)
    if "/" in text:
        value_text, length = text.split("/", 1)
        return Match(name, number(value_text, line), prefix=number(length, line))
    if "*" in text:
        digit_bits = {"0x": 4, "0b": 1, "0o": 3}.get(text[:2].lower())
        if digit_bits is None:
            raise StfError(line, f"{text!r}: wildcards need 0x, 0o or 0b in front")
        mask = 0
        for digit in text[2:].replace("_", ""):
            mask = mask << digit_bits | (0 if digit == "*" else (1 << digit_bits) - 1)
        return Match(name, number(text.replace("*", "0"), line), mask)
    return Match(name, number(text, line))


def parse_action(text: str, line: int) -> ActionCall:
    """``name(a:1, b:2)`` or ``name(1, 2)`` or ``name``."""
    found = re.fullmatch(r"\s*([\w.$]+)\s*(?:\((.*)\))?\s*", text)
    if found is None:
        raise StfError(line, f"expected ACTION(ARGUMENTS), found {text!r}")
    args: list[tuple[str | None, int]] = []
    for part in (found[2] or "").split(","):
        if part.strip():
            name, colon, value = part.partition(":")
            args.append((name.strip(), number(value.strip(), line)) if colon else (None, number(part.strip(), line)))
    return ActionCall(found[1], tuple(args))


def parse_entry(rest: str, line: int, remove: bool) -> AddEntry:
    """``TABLE [PRIORITY] KEY:VALUE... ACTION(ARGUMENTS) [= NAME]``."""
    rest, _, entry_name = rest.partition("=")
    words = re.findall(r'"[^"]*":\S+|[\w.$]+\([^)]*\)|\S+', rest)
    if not words:
        raise StfError(line, "the name of a table is missing")
    table, words = words[0], words[1:]
    priority = 0
    if words and re.fullmatch(r"\d+", words[0]):
        priority, words = int(words[0]), words[1:]
    action = None
    if not remove:
        if not words:
            raise StfError(line, f"an entry of {table} needs an action")
        action, words = parse_action(words[-1], line), words[:-1]
    keys = []
    for word in words:
        name, colon, value = word.rpartition(":")
        if not colon:
            raise StfError(line, f"expected KEY:VALUE, found {word!r}")
        keys.append(parse_match(name, value, line))
    return AddEntry(line, table, priority, tuple(keys), action, remove, entry_name.strip() or None)


def parse_expect(rest: str, line: int, port: int | None) -> Expect:
    """The digits of an expectation."""
    digits = re.sub(r"\s", "", rest).lower()
    exact = digits.endswith("$")
    digits = digits.removesuffix("$")
    if not re.fullmatch(r"[0-9a-f*]*", digits):
        raise StfError(line, f"{digits[:40]!r} are not hexadecimal digits and wildcards")
    return Expect(line, port, digits or (None if not exact else ""), exact)


def parse_check_counter(rest: str, line: int) -> Command:
    """p4c's form with the index in parentheses, or our own: ``NAME INDEX PACKETS BYTES``."""
    found = re.fullmatch(r"([\w.$]+)\s*\(\s*(\w+)\s*\)(?:\s*(packets|bytes)\s*(==|!=|<=|>=|<|>)\s*(\S+))?", rest)
    if found is None:
        name, *numbers = rest.split() or [""]
        if len(numbers) != 3 or "(" in name:
            usage = "NAME(INDEX) [packets|bytes ==|!=|<=|>=|<|> NUMBER] or NAME INDEX PACKETS BYTES"
            raise StfError(line, f"usage: check_counter {usage}")
        return Numbers(line, "check_counter", name, tuple(number(text, line) for text in numbers))
    index = number(found[2], line) if found[2][0].isdigit() else found[2]
    return CheckCounter(line, found[1], index, found[3], found[4] or "", number(found[5], line) if found[3] else 0)


def parse_rates(word: str, parts: list[str], line: int) -> SetRates:
    """``NAME [INDEX] RATE:BURST...``; a rate may have a fraction."""
    one = word == "meter_set_rates"
    usage = f"usage: {word} NAME {'INDEX ' if one else ''}RATE:BURST RATE:BURST"
    rates = []
    for part in parts[2 if one else 1 :]:
        rate, colon, burst = part.partition(":")
        try:
            if not colon:
                raise ValueError
            rates.append((float(rate), int(burst)))
        except ValueError:
            raise StfError(line, f"{part!r} is not RATE:BURST; {usage}") from None
    if len(rates) != 2:
        raise StfError(line, f"{len(rates)} rates given; {usage}")
    return SetRates(line, parts[0], number(parts[1], line) if one else None, tuple(rates))


_COUNTS = {
    "mc_mgrp_create": 1,
    "mc_node_associate": 2,
    "mirroring_add": 2,
    "mirroring_add_mc": 2,
    "mirroring_delete": 1,
    "mirroring_get": 1,
}
# As in simple_switch's command line: a number, then optionally a port and a priority.
_QUEUES = {"set_priority_queues": 1, "set_queue_depth": 3, "set_queue_rate": 3, "set_port_rate": 2, "set_time": 1}
_NAMED = {
    "register_write": 2,
    "check_register": 2,
    "register_read": 1,
    "register_reset": 0,
    "counter_read": 1,
    "counter_write": 3,
    "meter_get_rates": 1,
    "meter_set_rates": 5,
    "check_direct_counter": 3,
    "direct_meter_set_rates": 5,
}


def parse_line(word: str, rest: str, line: int) -> Command:
    """One command."""
    parts = rest.split()

    def numbers(texts: list[str], count: int | None) -> tuple[int, ...]:
        if count is not None and len(texts) != count:
            raise StfError(line, f"{word} takes {count} numbers, {len(texts)} given")
        return tuple(number(text, line) for text in texts)

    def need(count: int, usage: str) -> None:
        if len(parts) < count:
            raise StfError(line, f"usage: {word} {usage}")

    if word in _COUNTS:
        return Numbers(line, word, "", numbers(parts, _COUNTS[word]))
    if word in _QUEUES:
        if not 1 <= len(parts) <= _QUEUES[word]:
            raise StfError(line, f"{word} takes 1 to {_QUEUES[word]} numbers, {len(parts)} given")
        return Numbers(line, word, "", numbers(parts, None))
    if word == "check_counter":
        return parse_check_counter(rest, line)
    if word == "meter_array_set_rates" or (word == "meter_set_rates" and ":" in rest):
        need(2, "NAME ...")
        return parse_rates(word, parts, line)
    if word in _NAMED:
        need(1, "NAME NUMBER...")
        return Numbers(line, word, parts[0], numbers(parts[1:], _NAMED[word]))
    if word in ("mc_node_create", "mc_node_update"):
        need(1, "RID PORT..." if word == "mc_node_create" else "NODE PORT...")
        return Numbers(line, word, "", numbers(parts, None))
    if word in ("packet", "expect"):
        need(1, "PORT DATA")
        port, data = number(parts[0], line), rest[len(parts[0]) :]
        return Packet(line, port, hexadecimal(data, line)) if word == "packet" else parse_expect(data, line, port)
    if word == "member":
        need(3, "PROFILE ID ACTION(ARGUMENTS)")
        action = parse_action(rest.split(None, 2)[2], line)
        return Member(line, parts[0], number(parts[1], line), action)
    if word == "group":
        need(2, "PROFILE ID MEMBER[*WEIGHT]...")
        members = []
        for part in parts[2:]:
            member, _, weight = part.partition("*")
            members.append((number(member, line), number(weight or "1", line)))
        return Group(line, parts[0], number(parts[1], line), tuple(members))
    if word == "value_set":
        need(1, "NAME VALUE[&&&MASK]...")
        values: list[tuple[int, int | None]] = []
        for part in parts[1:]:
            value, _, mask = part.partition("&&&")
            values.append((number(value, line), number(mask, line) if mask else None))
        return SetValues(line, parts[0], tuple(values))
    if word == "expect_digest":
        need(1, "NAME NUMBER...")
        return ExpectDigest(line, parts[0], numbers(parts[1:], None))
    simple: dict[str, Callable[[], Command]] = {
        "add": lambda: parse_entry(rest, line, remove=False),
        "remove": lambda: RemoveAll(line) if rest == "all" else parse_entry(rest, line, remove=True),
        "expect_cpu": lambda: parse_expect(rest, line, None),
        "packet_out": lambda: Packet(line, None, hexadecimal(rest, line)),
        "no_packet": lambda: NoPacket(line),
        "wait": lambda: Wait(line),
    }
    if word in simple:
        return simple[word]()
    if word == "setdefault":
        need(2, "TABLE ACTION(ARGUMENTS)")
        return SetDefault(line, parts[0], parse_action(rest.split(None, 1)[1], line))
    others = ["check_counter", "expect", "expect_digest", "group", "mc_node_create", "mc_node_update", "member"]
    others += ["meter_array_set_rates", "packet", "value_set"]
    valid = sorted([*_COUNTS, *_NAMED, *_QUEUES, *simple, *others])
    raise StfError(line, f"unknown command {word!r}; there are {', '.join(valid)} and setdefault")


def parse_script(text: str) -> list[Command]:
    """All commands of a file. Raises StfError."""
    commands = []
    for line, content in enumerate(text.splitlines(), 1):
        word, _, rest = content.partition("#")[0].strip().partition(" ")
        if word:
            commands.append(parse_line(word, rest.strip(), line))
    return commands
