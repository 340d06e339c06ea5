"""A buffer of indented C lines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager


class Code:
    """Lines of C, indented by the blocks they stand in."""

    def __init__(self, depth: int = 0):
        self.depth = depth
        self.lines: list[str] = []

    def __call__(self, *lines: str) -> None:
        """Append lines."""
        pad = "    " * self.depth
        self.lines.extend(pad + line if line else "" for line in lines)

    def extend(self, lines: Iterable[str]) -> None:
        """Append lines as they are, with the indentation of the current block."""
        self(*lines)

    def label(self, name: str) -> None:
        """A label; C needs a statement after it."""
        self.lines.append("    " * max(self.depth - 1, 0) + f"{name}:;")

    @contextmanager
    def block(self, head: str = "", tail: str = "}") -> Iterator[None]:
        """``head { ... tail``."""
        self(f"{head} {{" if head else "{")
        self.depth += 1
        try:
            yield
        finally:
            self.depth -= 1
            self(tail)

    def splice(self, other: Code) -> None:
        """Append the lines of another buffer, which was made with the same depth."""
        self.lines.extend(other.lines)

    def text(self) -> str:
        """All lines."""
        return "\n".join(self.lines) + "\n"
