"""``python -m p4switch.p4info_diff PROG.p4 EXPECTED.txtpb``: is the program's P4Info this one, order aside?

Exit status 0, 1 when it differs (the differing lines are printed), 2 when the program is refused.
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Sequence
from pathlib import Path

from finsy.proto import p4i
from google.protobuf import text_format

from p4switch.compiler import p4info
from p4switch.compiler.diagnostics import CompileError, render
from p4switch.compiler.driver import compile_source

_UNORDERED = (
    "tables",
    "actions",
    "action_profiles",
    "counters",
    "direct_counters",
    "meters",
    "direct_meters",
    "controller_packet_metadata",
    "value_sets",
    "registers",
    "digests",
)


def normalised(info: p4i.P4Info) -> p4i.P4Info:
    """The same with entities in order of id, and without an empty ``type_info``."""
    result = p4i.P4Info()
    result.CopyFrom(info)
    for name in _UNORDERED:
        entities = getattr(result, name)
        ordered = sorted(entities, key=lambda entity: int(entity.preamble.id))
        del entities[:]
        entities.extend(ordered)
    if not result.type_info.ByteSize():
        result.ClearField("type_info")
    return result


def difference(found: p4i.P4Info, expected: p4i.P4Info) -> list[str]:
    """Lines that one has and the other has not; empty when they are equal, order aside."""
    left, right = normalised(expected), normalised(found)
    if left == right:
        return []
    lines = difflib.unified_diff(str(left).splitlines(), str(right).splitlines(), "expected", "found", lineterm="", n=1)
    return list(lines)


def main(arguments: Sequence[str]) -> int:
    """See the module."""
    program, expected = (Path(a) for a in arguments)
    try:
        found = p4info.build(compile_source(program, [program.parent], []).program)
    except CompileError as error:
        print("\n".join(render(d) for d in error.diagnostics), file=sys.stderr)
        return 2
    lines = difference(found, text_format.Parse(expected.read_text(), p4i.P4Info()))
    if lines:
        print(
            f"error: the P4Info differs from {expected.name} in {len(lines)} lines", *lines, sep="\n", file=sys.stderr
        )
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
