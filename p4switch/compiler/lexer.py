"""Cuts preprocessed P4_16 text into tokens (P4_16 specification, section 6.4)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NoReturn

from p4switch.compiler.diagnostics import CompileError, Diagnostic, Loc

# fmt: off
KEYWORDS = frozenset((
    "abstract", "action", "actions", "apply", "bool", "bit", "break", "const", "continue", "control",
    "default", "else", "entries", "enum", "error", "exit", "extern", "false", "for", "header",
    "header_union", "if", "in", "inout", "int", "key", "list", "match_kind", "out", "package", "parser",
    "return", "select", "state", "string", "struct", "switch", "table", "this", "transition", "true",
    "tuple", "type", "typedef", "value_set", "varbit", "void",
))
# fmt: on
# Keywords that the grammar also takes as names (nonTypeName of the grammar).
SOFT_KEYWORDS = frozenset(["apply", "key", "actions", "state", "entries", "type", "list", "priority"])

_TOKEN = re.compile(
    r"""
    (?P<space>[ \t\r\f\v]+)
  | (?P<newline>\n)
  | (?P<marker>\#[^\n]*)
  | (?P<comment>//[^\n]*|/\*.*?\*/)
  | (?P<number>(?:[0-9][0-9_]*[ws])?(?:0[xX]_*[0-9a-fA-F][0-9a-fA-F_]*|0[dD]_*[0-9][0-9_]*|0[oO]_*[0-7][0-7_]*
        |0[bB]_*[01][01_]*|[0-9][0-9_]*)(?![A-Za-z0-9_]))
  | (?P<name>[A-Za-z_][A-Za-z0-9_]*)
  | (?P<string>"(?:[^"\\]|\\.)*")
  | (?P<op>\|\+\|=|\|-\|=|<<=|>>=|&&&|\.\.\.|\|\+\||\|-\||\+\+|&&|\|\||==|!=|<=|>=|<<|\.\.|\+=|-=|\*=|/=|%=|&=|\|=|\^=|\+:
        |[-+*/%&|^~!<>=?:;,.(){}\[\]@\#])
  | (?P<other>['`$\\])
    """,
    re.VERBOSE | re.DOTALL,
)
_MARKER = re.compile(r'#\s*(?:line\s+)?(\d+)\s+"((?:[^"\\]|\\.)*)"')
_NUMBER = re.compile(r"(?:(?P<width>[0-9][0-9_]*)(?P<sign>[ws]))?(?P<digits>.*)$")
_BASES = {"0x": 16, "0d": 10, "0o": 8, "0b": 2}
MAX_WIDTH = 2048
MAX_DIGITS = 2048  # binary ones of the widest number
MAX_VARBIT = 1 << 16


@dataclass(frozen=True, slots=True)
class Token:
    """``kind`` is name, keyword, number, string, op, end, or other: a character that only free-form annotations may hold.
    ``text`` is as written; strings keep their quotes."""

    kind: str
    text: str
    loc: Loc


def tokenize(text: str, file: str) -> list[Token]:
    """All tokens, the last of kind ``end``. Raises CompileError at a character that starts none."""
    return list(_tokens(text, file))


def _tokens(text: str, file: str) -> Iterator[Token]:
    position, line, line_start = 0, 1, 0
    long: Loc | None = None  # the first string over several lines: where there is an odd number of quotes, that is it
    while position < len(text):
        match = _TOKEN.match(text, position)
        column = position - line_start + 1
        if match is None:
            if text[position] == '"':
                _fail(long or Loc(file, line, column), "this string has no closing quote")
            _fail(Loc(file, line, column), f"unexpected character {text[position]!r}")
        kind, value = match.lastgroup or "", match.group()
        at, position = position, match.end()
        if kind == "marker" and text[line_start:at].strip():
            kind, value, position = "op", "#", at + 1  # {#}
        if kind == "newline":
            line, line_start = line + 1, position
        elif kind == "marker":
            marker = _MARKER.match(value)
            if marker:
                line, file = int(marker[1]) - 1, re.sub(r"\\(.)", r"\1", marker[2])
            elif value[1:2].isalpha() and not value.startswith("#pragma"):
                _fail(Loc(file, line, column, len(value)), f"unknown preprocessor directive {value.split()[0]}")
        elif kind != "space":
            newlines = value.count("\n")  # in comments, and in strings such as P4Constraints' annotations
            if kind == "name" and value in KEYWORDS:
                kind = "keyword"
            if kind != "comment":
                yield Token(kind, value, Loc(file, line, column, value.find("\n") if newlines else len(value), at))
            if newlines and kind == "string":
                long = long or Loc(file, line, column)
            if newlines:
                line, line_start = line + newlines, at + value.rfind("\n") + 1
    yield Token("end", "end of file", Loc(file, line, max(position - line_start, 1)))


def number(token: Token) -> tuple[int, int | None, bool]:
    """Value, width (None: arbitrary precision) and sign of a number token. Raises CompileError for an impossible one."""
    match = _NUMBER.match(token.text)
    assert match is not None
    digits = match["digits"].replace("_", "")
    base = _BASES.get(digits[:2].lower(), 10)
    try:
        if len(digits) > MAX_DIGITS:
            raise ValueError
        value = int(digits[2:] if base != 10 or digits[:2].lower() == "0d" else digits, base)
        width = None if match["width"] is None else int(match["width"].replace("_", ""))
    except ValueError:
        _fail(token.loc, "a number without digits" if len(digits) < 3 else "a number of too many digits")
    if width is None:
        return value, None, False
    signed = match["sign"] == "s"
    if width > MAX_WIDTH or (signed and width < 1):
        _fail(token.loc, f"width {width} is out of range; at most {MAX_WIDTH} bits are supported")
    return value, width, signed


def base_of(token: Token) -> int:
    """2, 8, 10 or 16: the base that a number token is written in."""
    match = _NUMBER.match(token.text)
    assert match is not None
    return _BASES.get(match["digits"][:2].lower(), 10)


def _fail(loc: Loc, message: str) -> NoReturn:
    raise CompileError([Diagnostic("error", loc, message)])
