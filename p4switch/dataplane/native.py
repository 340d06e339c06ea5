"""The C library behind :mod:`p4switch.dataplane.binding`: declarations read from the headers, loaded once a process."""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import Any

import _cffi_backend  # what cffi's own output needs of it

from p4switch import cache
from p4switch.dataplane.build import INCLUDE, build_runtime, chosen_sanitizer
from p4switch.dataplane.layout import (
    Action,
    Digest,
    Extern,
    ExternKind,
    Field,
    Fields,
    Layout,
    MatchKind,
    Table,
    Unit,
    ValueSet,
)
from p4switch.dataplane.updates import check_layout

# cffi's objects have no useful static types.
CData = Any


@functools.cache
def ffi() -> Any:
    """The cffi instance with everything that ``p4dp.h`` declares and the descriptors of ``p4prog.h``.

    Reading C declarations takes longer than most of a start, so what cffi makes of them is kept in the cache.
    """
    headers = [(INCLUDE / name).read_text() for name in ("p4prog.h", "p4dp.h")]
    name = f"declarations-{cache.key([_cffi_backend.__version__, Path(__file__).read_bytes(), *headers])}"
    code = cache.read(name)
    if code is None:
        code = _declarations(*headers)
        cache.write(name, code)
    module: dict[str, Any] = {"__name__": "p4dp"}
    exec(compile(code, name, "exec"), module)  # cffi's own output, from where only we can write
    made = module["ffi"]
    check_layout(made)
    return made


def _declarations(program: str, control: str) -> bytes:
    """Python code with cffi's compact form of the declarations."""
    import cffi  # brings a parser of C, which is not needed otherwise

    made = cffi.FFI()
    descriptors, found, _ = program.partition("what a program calls in the runtime */")
    if not found:
        raise RuntimeError("p4prog.h has lost the comment that ends its descriptors")
    descriptors = descriptors[: descriptors.rindex("/*")]
    made.cdef(re.sub(r"^#.*$", "", descriptors, flags=re.MULTILINE))
    made.cdef(control)
    made.set_source("p4dp", None, compiler_verbose=0)
    with cache.scratch() as scratch:
        file = scratch / "p4dp.py"
        made.emit_python_code(str(file))
        return file.read_bytes()


@functools.cache
def library() -> Any:
    """The runtime, built if necessary. ``P4SWITCH_SANITIZE=address|thread`` picks a sanitized build.

    It is loaded with global visibility: programs find the functions they call in it.
    """
    path = build_runtime(chosen_sanitizer())
    return ffi().dlopen(str(path), ffi().RTLD_NOW | ffi().RTLD_GLOBAL)


def _text(pointer: CData) -> str:
    return str(ffi().string(pointer).decode()) if pointer else ""


def _params(items: CData, count: int, size: int) -> Fields:
    fields = [Field(_text(items[i].name), items[i].width, items[i].offset) for i in range(count)]
    return Fields(tuple(fields), size)


def _keys(items: CData, count: int, size: int) -> Fields:
    fields = [Field(_text(k.name), k.width, k.offset, MatchKind(k.kind)) for k in (items[i] for i in range(count))]
    return Fields(tuple(fields), size)


def read_layout(descriptor: CData) -> Layout:
    """The layout in a ``p4prog_program``."""
    p = ffi().cast("const p4prog_program *", descriptor)
    actions = []
    for i in range(p.n_actions):
        a = p.actions[i]
        actions.append(Action(i, _text(a.name), _params(a.params, a.n_params, a.data_size)))
    externs = []
    for i in range(p.n_externs):
        e = p.externs[i]
        externs.append(Extern(i, _text(e.name), ExternKind(e.kind), e.size, Unit(e.unit), e.width))
    tables = []
    for i in range(p.n_tables):
        t = p.tables[i]
        tables.append(
            Table(
                index=i,
                name=_text(t.name),
                keys=_keys(t.keys, t.n_keys, t.key_size),
                actions=tuple(actions[t.actions[k]] for k in range(t.n_actions)),
                size=t.size,
                default_action=actions[t.default_action],
                const_default=bool(t.const_default),
                const_entries=bool(t.const_entries),
                implementation=externs[t.implementation] if t.implementation >= 0 else None,
                counter=externs[t.counter] if t.counter >= 0 else None,
                meter=externs[t.meter] if t.meter >= 0 else None,
                idle_timeout=bool(t.idle_timeout),
            )
        )
    digests = []
    for i in range(p.n_digests):
        d = p.digests[i]
        digests.append(Digest(i, _text(d.name), _params(d.fields, d.n_fields, d.size)))
    sets = []
    for i in range(p.n_value_sets):
        v = p.value_sets[i]
        sets.append(ValueSet(i, _text(v.name), _keys(v.keys, v.n_keys, v.key_size), v.size))
    return Layout(
        name=_text(p.name),
        tables={t.name: t for t in tables},
        actions=tuple(actions),
        externs={e.name: e for e in externs},
        digests={d.name: d for d in digests},
        value_sets={v.name: v for v in sets},
        errors=tuple(_text(p.errors[i]) for i in range(p.n_errors)),
    )
