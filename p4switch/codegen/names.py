"""C identifiers and string literals derived from names of the IR, which may come from anywhere."""

from __future__ import annotations

_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")
_LONGEST = 32


def identifier(prefix: str, index: int, name: str) -> str:
    """An identifier that is unique by ``prefix`` and ``index``; ``name`` only makes it readable."""
    readable = "".join(c if c in _LETTERS else "_" for c in name[:_LONGEST])
    return f"{prefix}{index}_{readable}"


def c_string(text: str) -> str:
    """A C string literal of the UTF-8 bytes of ``text``; NUL bytes, which would end it early, become ``?``."""
    out = []
    for byte in text.encode("utf-8", "replace"):
        if byte == 0:
            out.append("?")
        elif chr(byte) in '"\\?' or not 32 <= byte < 127:
            out.append(f"\\{byte:03o}")
        else:
            out.append(chr(byte))
    return '"' + "".join(out) + '"'


def format_text(text: str) -> str:
    """``text`` with printf's conversions escaped."""
    return text.replace("%", "%%")


def c_comment(text: str) -> str:
    """``text`` fit for a comment: printable, one line, unable to end it or to continue the next line."""
    return "".join(c if " " <= c <= "~" and c not in "*/\\?" else "." for c in text[:80])
