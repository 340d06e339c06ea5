"""Mutations of P4 sources: of tokens, of whole blocks within and across files, of numbers, and of nesting."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

_TOKEN = re.compile(r"\s+|\w+|[^\w\s]")
_STRAY = (
    *("", "0", "255w9", "0w0", "8s1", "{", "}", "(", ")", "[", "]", "<", ">", ";", ",", ".", ":", "=", "?", "&&&", "..", "++"),
    *("apply", "error", "this", "main", "default", "_", "bit<0>", "bit<4096>", "int<1>", "bool", "void", "true", "in"),
    *("varbit<8>", "tuple<bit<8>, bool>", "header", "struct", "table", "action", "state", "transition", "select", "extern"),
    *("hdr", "meta", "packet", "sm", "\x00", "é", "#", '"', "/*", "//", "\\\n", "@name(", "@", "inout"),
    *("#define x x x\n", "#include <core.p4>\n"),
)  # fmt: skip
_NUMBERS = (
    "0",
    "1",
    "2",
    "7",
    "31",
    "32",
    "33",
    "64",
    "65",
    "255",
    "2047",
    "2048",
    "2049",
    "65536",
    "4294967296",
    "-1",
    "1" * 400,
    "1" * 5000,
    "(1 << 20000)",
    "0x_",
    "0b",
)
_DEPTHS = (3, 50, 400, 3000)


def tokens(text: str, rng: random.Random, other: str) -> str:
    """Drop, double, exchange or replace some tokens."""
    found = _TOKEN.findall(text)
    for _ in range(rng.choice((1, 1, 2, 6))):
        at, second = rng.randrange(len(found)), rng.randrange(len(found))
        match rng.randrange(6):
            case 0:
                del found[at]
                if not found:
                    return ""
            case 1:
                found.insert(at, found[at])
            case 2:
                found[at], found[second] = found[second], found[at]
            case 3:
                found[at] = found[second]
            case 4:
                found[at] = rng.choice(_TOKEN.findall(other))
            case _:
                found[at] = rng.choice(_STRAY)
    return "".join(found)


def _blocks(text: str) -> list[tuple[int, int]]:
    """Where bracketed parts begin and end, brackets included."""
    closing, stack, found = {")": "(", "}": "{", "]": "["}, [], []
    for at, letter in enumerate(text):
        if letter in "({[":
            stack.append((letter, at))
        elif letter in closing and stack and stack[-1][0] == closing[letter]:
            found.append((stack.pop()[1], at + 1))
    return found


def _splice(text: str, rng: random.Random, other: str) -> str:
    """Put a bracketed part of one source in the place of one of the same kind in another."""
    places, parts = _blocks(text), _blocks(other)
    if not places or not parts:
        return text
    begin, end = rng.choice(places)
    alike = [(b, e) for b, e in parts if other[b] == text[begin]] or parts
    from_, to = rng.choice(alike)
    return text[:begin] + other[from_:to] + text[end:]


def _lines(text: str, rng: random.Random, other: str) -> str:
    """Drop, repeat or move a few lines, or take some from another source."""
    mine, others = text.splitlines(keepends=True), other.splitlines(keepends=True)
    if not mine or not others:
        return text
    at, count = rng.randrange(len(mine)), rng.randint(1, 5)
    match rng.randrange(4):
        case 0:
            del mine[at : at + count]
        case 1:
            mine[at:at] = mine[at : at + count]
        case 2:
            moved, mine[at : at + count] = mine[at : at + count], []
            place = rng.randrange(len(mine) + 1)
            mine[place:place] = moved
        case _:
            start = rng.randrange(len(others))
            mine[at:at] = others[start : start + count]
    return "".join(mine)


def _number(text: str, rng: random.Random, other: str) -> str:
    """Replace a number by one at a boundary."""
    places = [m.span() for m in re.finditer(r"\b\d+\b", text)]
    if not places:
        return text
    begin, end = rng.choice(places)
    return text[:begin] + rng.choice(_NUMBERS) + text[end:]


def _name(text: str, rng: random.Random, other: str) -> str:
    """Use one name for another, everywhere or once."""
    names = sorted(set(re.findall(r"\b[A-Za-z_]\w*\b", text)))
    if len(names) < 2:
        return text
    old, new = rng.choice(names), rng.choice(names)
    return re.sub(rf"\b{old}\b", new, text, count=rng.choice((0, 1)))


def nested(depth: int, inner: str) -> tuple[str, ...]:
    """Texts in which something is nested or chained so many times."""
    doubling = "".join(f"#define m{n + 1} m{n} m{n}\n" for n in range(min(depth, 16)))
    return (
        "(" * depth + inner + ")" * depth,
        " + ".join([inner] * depth),
        "~" * depth + inner,
        inner + "[1:0]" * depth,
        inner + ".x" * depth,
        f"{inner} ? 1 : " * depth + "0",
        "{" * depth + inner + "}" * depth,
        "if (true) {" * depth + "}" * depth,
        "if (true) {} else " * depth + "{}",
        "tuple<" * depth + "bit<8>" + ">" * depth,
        "f(" * depth + inner + ")" * depth,
        "(bit<8>) " * depth + inner,
        " ++ ".join(["8w1"] * depth),
        "@a(" * depth + ")" * depth,
        "".join(f"struct s{n} {{ s{n + 1} x; }}\n" for n in range(depth)),
        "".join(f"const bit<8> c{n + 1} = c{n} + 1;\n" for n in range(depth)),
        "".join(f"typedef t{n} t{n + 1};\n" for n in range(depth)),
        f"{doubling}m16",
        "bit<8>" + "[1]" * depth + " x;",
        " || ".join(["true"] * depth),
        " * ".join(["(1 << 2000)"] * depth),
    )


def _deep(text: str, rng: random.Random, other: str) -> str:
    """Nest something deeply."""
    made = rng.choice(nested(rng.choice(_DEPTHS), rng.choice(("1", "8w1", "hdr", "true"))))
    places = [m.start() for m in re.finditer(r"[;{]", text)] + [m.start() for m in re.finditer(r"\b\d+\b", text)]
    at = rng.choice(places) if places else 0
    skip = re.compile(r"\d+|").match(text, at)
    return text[:at] + made + text[skip.end() if skip else at :]


def _bytes(text: str, rng: random.Random, other: str) -> str:
    """Change some letters, or cut the source off."""
    if rng.random() < 0.3:
        return text[: rng.randrange(len(text) + 1)]
    letters = list(text)
    for _ in range(rng.randint(1, 8)):
        if letters:
            letters[rng.randrange(len(letters))] = chr(rng.choice((rng.randrange(128), rng.randrange(0x250), 0x1F600)))
    return "".join(letters)


_MUTATIONS = (tokens, tokens, tokens, _splice, _splice, _lines, _number, _name, _name, _deep, _bytes)


def mutate(text: str, rng: random.Random, others: Sequence[str]) -> str:
    """A source made from this one by one to three mutations; ``others`` lend parts."""
    for _ in range(rng.choice((1, 1, 2, 3))):
        if not text.strip():
            return text
        text = rng.choice(_MUTATIONS)(text, rng, rng.choice(others))
    return text
