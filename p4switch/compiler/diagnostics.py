"""Diagnostics: where something stands in the source, and messages with the line and a caret under it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NoReturn

Severity = Literal["error", "warning"]


@dataclass(frozen=True, slots=True)
class Loc:
    """A place in a source file. ``line`` and ``column`` count from 1 (0: the file as a whole); ``length`` is in characters.

    ``offset`` orders places of all files of a program as the compiler reads them; -1 where that is unknown.
    """

    file: str
    line: int
    column: int
    length: int = 1
    offset: int = -1

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}" if self.line > 0 else self.file


UNKNOWN = Loc("<built in>", 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One message about the source. ``kind`` names the class of a warning, by which it can be switched off, or
    the option that made something an error."""

    severity: Severity
    loc: Loc
    message: str
    note: str | None = None
    kind: str | None = None


class CompileError(Exception):
    """The program is refused. ``diagnostics`` holds at least one error."""

    def __init__(self, diagnostics: list[Diagnostic]):
        self.diagnostics = diagnostics
        first = next((d for d in diagnostics if d.severity == "error"), None)
        super().__init__(f"{first.loc}: {first.message}" if first else "compile error")


@dataclass(slots=True)
class Diagnostics:
    """Collects messages; ``fail`` adds an error and gives up, ``error`` adds one and goes on."""

    messages: list[Diagnostic] = field(default_factory=list)

    def error(self, loc: Loc, message: str, note: str | None = None, kind: str | None = None) -> None:
        """Report an error; ``kind`` names the option that made it one."""
        self.messages.append(Diagnostic("error", loc, message, note, kind))

    def warn(self, loc: Loc, message: str, kind: str, note: str | None = None) -> None:
        """Report a warning of a kind."""
        self.messages.append(Diagnostic("warning", loc, message, note, kind))

    def fail(self, loc: Loc, message: str, note: str | None = None) -> NoReturn:
        """Report an error and raise CompileError."""
        self.error(loc, message, note)
        raise CompileError(self.messages)

    def raise_errors(self) -> None:
        """Raise CompileError if there was an error."""
        if any(m.severity == "error" for m in self.messages):
            raise CompileError(self.messages)


def render(diagnostic: Diagnostic) -> str:
    """The message as people read it: place, text, source line, caret, note."""
    loc = diagnostic.loc
    out = [f"{loc}: {diagnostic.severity}: {diagnostic.message}" + (f" [{diagnostic.kind}]" if diagnostic.kind else "")]
    source = _source_line(loc)
    if source is not None:
        indent = "".join("\t" if c == "\t" else " " for c in source[: loc.column - 1])
        underline = "^" + "~" * (min(loc.length, max(len(source) - loc.column + 1, 1)) - 1)
        out += [f"    {source}", f"    {indent}{underline}"]
    if diagnostic.note:
        out.append(f"    note: {diagnostic.note}")
    return "\n".join(out)


def _source_line(loc: Loc) -> str | None:
    if loc.line < 1:
        return None
    try:
        lines = Path(loc.file).read_text(errors="replace").splitlines()
    except OSError:
        return None
    return lines[loc.line - 1] if loc.line <= len(lines) else None
