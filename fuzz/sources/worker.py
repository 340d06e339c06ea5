"""Takes sources through the front end, one a line of standard input (a file name), and answers with one JSON object a line.

Runs in a process of its own, so that a crash, a hang or a memory leak of the compiler ends nothing else. ``status`` is

- ``refused``: diagnostics, each of which has text and can be rendered; ``messages`` are their texts;
- ``accepted``: IR that survives being written, read and validated, P4Info, and C that gcc takes without warnings;
- ``no code``: accepted by the compiler and refused by the generator, by name;
- ``fault``: anything else; ``messages`` is the traceback or what gcc said.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

from p4switch.codegen import INCLUDE_DIR, CodegenError, generate
from p4switch.compiler import ir, p4info
from p4switch.compiler.diagnostics import CompileError, render
from p4switch.compiler.driver import compile_source
from p4switch.compiler.validate import validate
from p4switch.dataplane.build import INCLUDE

MEMORY_LIMIT = 3 << 30
# Not warned of: what a strange program really says, such as a comparison of a value with itself.
_ALLOWED = (
    "unused",
    "sign-compare",
    "type-limits",
    "tautological-compare",
    "bool-compare",
    "int-in-bool-context",
    "duplicated-branches",
)
_GCC = (
    *("gcc", "-std=gnu11", "-fsyntax-only", "-Wall", "-Wextra", "-Werror", *(f"-Wno-{w}" for w in _ALLOWED)),
    *(f"-I{INCLUDE}", f"-I{INCLUDE_DIR}"),
)


def check_c(text: str) -> str | None:
    """What gcc has to say about generated C; None: nothing."""
    done = subprocess.run([*_GCC, "-x", "c", "-"], input=text, capture_output=True, text=True, timeout=60, check=False)
    return None if done.returncode == 0 else done.stderr


def attempt(path: Path, include: list[Path]) -> dict[str, Any]:
    """The verdict on one source."""
    try:
        try:
            program = compile_source(path, include).program
        except CompileError as error:
            rendered = [render(d) for d in error.diagnostics]
            if not rendered or not all(d.message.strip() for d in error.diagnostics):
                return {"status": "fault", "messages": [f"refused without a word: {rendered}"]}
            return {"status": "refused", "messages": [d.message for d in error.diagnostics]}
        validate(ir.loads(ir.dumps(program)))
        p4info.to_text(p4info.build(program))
        try:
            text = generate(program)
        except CodegenError as error:
            return {"status": "no code", "messages": [str(error)]}
        complaint = check_c(text)
        if complaint is not None:
            return {"status": "fault", "messages": [f"the C does not compile:\n{complaint}"]}
    except Exception:
        return {"status": "fault", "messages": [traceback.format_exc()[-4000:]]}
    return {"status": "accepted", "messages": []}


def main() -> None:
    """Serve until standard input ends. Arguments: include directories."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT, MEMORY_LIMIT))
    include = [Path(a) for a in sys.argv[1:]]
    for line in sys.stdin:
        print(json.dumps(attempt(Path(line.rstrip("\n")), include)), flush=True)


if __name__ == "__main__":
    main()
