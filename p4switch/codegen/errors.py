"""The one error of the generator."""

from __future__ import annotations

from p4switch.compiler import ir


class CodegenError(Exception):
    """The program contains something that no C is generated for.

    ``construct`` names what it is, ``reason`` says why it is refused and what would be possible, ``loc`` is where it
    stands in the P4 source, None where the IR does not say.
    """

    def __init__(self, construct: str, reason: str, loc: ir.Location | None = None):
        self.construct = construct
        self.reason = reason
        self.loc = loc
        where = f"{loc.file}:{loc.line}:{loc.column}: " if loc is not None else ""
        super().__init__(f"{where}{construct}: {reason}")
