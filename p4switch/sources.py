"""Source files to programs that are ready to run, through a cache of what was compiled before.

A program is known by its preprocessed source and by the compiler (:func:`p4switch.native.toolchain`). Then the compiler is not
even imported; that is why imports are inside functions here.
"""

from __future__ import annotations

import base64
import contextlib
import json
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from p4switch import cache, native
from p4switch.compiler.diagnostics import Diagnostic, Loc
from p4switch.dataplane.build import BuildError, build_runtime, cached_program


@dataclass(frozen=True)
class Compiled:
    """A program ready to run. ``p4info`` is a serialized message, ``device_config`` the IR that P4Runtime clients send."""

    device_config: bytes
    p4info: bytes
    warnings: tuple[Diagnostic, ...]
    shared_object: Path


def compile_file(
    path: Path, include_dirs: Sequence[Path] = (), defines: Sequence[str] = (), *, strict_bmv2: bool = False
) -> Compiled:
    """Compile a P4_16 file for v1model; with ``strict_bmv2`` only what p4c takes for bmv2.

    Raises :class:`p4switch.compiler.diagnostics.CompileError` when it is refused and :class:`BuildError` when the generator
    or the C compiler cannot cope.
    """
    from p4switch.compiler.preprocess import preprocess

    text = preprocess(path, include_dirs, defines)
    try:
        name = f"source-{cache.key([native.toolchain(), str(strict_bmv2), str(path), text])}"
        compiled = _decoded(cache.read(name))
        if compiled is None:
            # The runtime is needed next: it may be built at the same time, by the machine's other CPUs.
            threading.Thread(target=_build_runtime, name="runtime", daemon=True).start()
            compiled = _compile(text, path, strict_bmv2)
            cache.write(name, _encoded(compiled))
    except cache.CacheError as error:
        raise BuildError(str(error)) from error
    return compiled


def _build_runtime() -> None:
    with contextlib.suppress(BuildError):  # who needs it asks again, and hears of it
        build_runtime()


def _compile(text: str, path: Path, strict_bmv2: bool) -> Compiled:
    from p4switch.codegen import CodegenError
    from p4switch.compiler import ir, p4info
    from p4switch.compiler.driver import compile_text

    result = compile_text(text, path, strict_bmv2=strict_bmv2)
    try:
        shared_object = native.build(result.program)
    except CodegenError as error:
        raise BuildError(str(error)) from error
    info = p4info.build(result.program).SerializeToString(deterministic=True)
    return Compiled(ir.dumps(result.program), info, tuple(result.diagnostics.messages), shared_object)


def _encoded(compiled: Compiled) -> bytes:
    fields = {
        "device_config": base64.b64encode(compiled.device_config).decode(),
        "p4info": base64.b64encode(compiled.p4info).decode(),
        "warnings": [asdict(warning) for warning in compiled.warnings],
        "shared_object": compiled.shared_object.name,
    }
    return json.dumps(fields).encode()


def _decoded(data: bytes | None) -> Compiled | None:
    """What :func:`_encoded` wrote; None when its shared object is gone."""
    if data is None:
        return None
    fields: dict[str, Any] = json.loads(data)
    shared_object = cached_program(fields["shared_object"])
    if shared_object is None:
        return None
    return Compiled(
        base64.b64decode(fields["device_config"]),
        base64.b64decode(fields["p4info"]),
        tuple(Diagnostic(**{**warning, "loc": Loc(**warning["loc"])}) for warning in fields["warnings"]),
        shared_object,
    )
