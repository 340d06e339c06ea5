"""From a client's pipeline config to a loadable program: IR, checked, generated, compiled, and held against P4Info."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from finsy.proto import p4i

from p4switch import native
from p4switch.dataplane.binding import DataplaneError, Switch
from p4switch.server.errors import Code, P4RuntimeError, invalid
from p4switch.server.schema import Schema


@dataclass(frozen=True)
class Pipeline:
    """A verified pipeline, ready to be loaded."""

    info: p4i.P4Info
    device_config: bytes
    cookie: int
    shared_object: Path


def prepare(info: p4i.P4Info, device_config: bytes, cookie: int) -> Pipeline:
    """Verify and compile. Raises P4RuntimeError (INVALID_ARGUMENT) when anything is wrong with it."""
    if not device_config:
        raise invalid(
            "the pipeline config has no p4_device_config: it must be the IR that `p4switch compile -o` writes"
        )
    try:
        shared_object = native.build_config(device_config)
    except native.InvalidConfigError as error:
        raise invalid(f"p4_device_config is no valid IR of p4switch: {error}") from None
    except native.BuildError as error:
        raise P4RuntimeError(Code.UNIMPLEMENTED, f"the program cannot be compiled: {error}") from None
    try:
        with Switch() as probe:  # a switch of its own: the running one must not notice
            Schema(info, probe.load(shared_object))
    except DataplaneError as error:
        raise P4RuntimeError(Code.INTERNAL, f"the compiled program cannot be loaded: {error}") from None
    return Pipeline(info, device_config, cookie, shared_object)


def trusted(info: bytes, device_config: bytes, shared_object: Path) -> Pipeline:
    """The pipeline of a program that was compiled here: nothing of it needs to be checked. ``info`` is a serialized P4Info."""
    return Pipeline(p4i.P4Info.FromString(info), device_config, 0, shared_object)
