"""From a client's pipeline config to a loaded program: IR, checked, generated, compiled, held against P4Info. And from one
program's state to another's."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finsy.proto import p4i, p4r

from p4switch import native
from p4switch.dataplane.binding import DataplaneError, Switch
from p4switch.server import entities, replication
from p4switch.server.errors import Code, P4RuntimeError, invalid
from p4switch.server.links import Links
from p4switch.server.schema import Schema
from p4switch.server.state import State, Target


@dataclass(frozen=True)
class Pipeline:
    """A pipeline config that has been compiled. ``cookie`` None: it came without."""

    info: p4i.P4Info
    device_config: bytes
    cookie: int | None
    shared_object: Path


@dataclass(frozen=True)
class Staged:
    """A pipeline in a switch of its own, with whatever has been written to it; the running one notices nothing."""

    pipeline: Pipeline
    target: Target

    def close(self) -> None:
        """Throw it away."""
        self.target.switch.close()


def compile_config(info: p4i.P4Info, device_config: bytes, cookie: int | None) -> Pipeline:
    """Compile a config. Raises P4RuntimeError (INVALID_ARGUMENT, UNIMPLEMENTED) when anything is wrong with it."""
    if not device_config:
        raise invalid(
            "the pipeline config has no p4_device_config: it must be the IR that `p4switch compile -o` writes"
        )
    try:
        return Pipeline(info, device_config, cookie, native.build_config(device_config))
    except native.InvalidConfigError as error:
        raise invalid(f"p4_device_config is no valid IR of p4switch: {error}") from None
    except native.BuildError as error:
        raise P4RuntimeError(Code.UNIMPLEMENTED, f"the program cannot be compiled: {error}") from None


def trusted(info: bytes, device_config: bytes, shared_object: Path) -> Pipeline:
    """The pipeline of a program that was compiled here: nothing of it needs to be checked. ``info`` is a serialized P4Info."""
    return Pipeline(p4i.P4Info.FromString(info), device_config, None, shared_object)


def stage(pipeline: Pipeline, links: Links) -> Staged:
    """Load a pipeline into a switch of its own. Raises P4RuntimeError when P4Info and program do not belong together."""
    switch = Switch()
    try:
        layout = switch.load(pipeline.shared_object)
        return Staged(pipeline, Target(switch, Schema(pipeline.info, layout), State(), links))
    except DataplaneError as error:
        switch.close()
        raise P4RuntimeError(Code.INTERNAL, f"the compiled program cannot be loaded: {error}") from None
    except P4RuntimeError:
        switch.close()
        raise


def activate(staged: Staged, switch: Switch, old: Target | None) -> Target:
    """Move a staged pipeline with its state to the device's switch, in place of the old one."""
    if old is not None:
        replication.clear(old)
    switch.adopt(staged.target.switch)
    staged.close()
    target = Target(switch, staged.target.schema, staged.target.state, staged.target.links)
    replication.install(target)
    return target


# ----------------------------------------------------------------------------------------------------------- reconcile


def same(old: Pipeline, new: Pipeline) -> bool:
    """Whether there is nothing to reconcile."""
    return old.device_config == new.device_config and old.info == new.info


def carry_over(old: Target, old_pipeline: Pipeline, new: Staged) -> None:
    """Write all that the old program holds to the new one. INVALID_ARGUMENT when something has no place there."""
    target = new.target
    _drop_initial_entries(old, target)
    for entity in _held(old, old_pipeline):
        kind = p4r.Update.MODIFY if _exists_always(entity) else p4r.Update.INSERT
        update = p4r.Update(type=kind, entity=entity)
        (error,) = entities.write(target, [update], entities.CONTINUE, entities.Scope())
        if error is not None:
            raise invalid(f"the forwarding state cannot be preserved: {error}")


def _exists_always(entity: p4r.Entity) -> bool:
    kind = entity.WhichOneof("entity")
    if kind == "table_entry":
        return bool(entity.table_entry.is_default_action)
    return kind in ("counter_entry", "meter_entry", "register_entry", "value_set_entry")


def _held(old: Target, pipeline: Pipeline) -> Iterator[p4r.Entity]:
    """What a client could have written, in an order in which nothing refers to what comes later."""
    for wanted in (
        p4r.Entity(digest_entry=p4r.DigestEntry()),
        p4r.Entity(packet_replication_engine_entry=p4r.PacketReplicationEngineEntry()),
        p4r.Entity(action_profile_member=p4r.ActionProfileMember()),
        p4r.Entity(action_profile_group=p4r.ActionProfileGroup()),
    ):
        yield from entities.read(old, wanted, entities.Scope())
    yield from _changed_defaults(old, pipeline)
    everything = p4r.TableEntry(counter_data=p4r.CounterData(), meter_config=p4r.MeterConfig())
    for entity in entities.read(old, p4r.Entity(table_entry=everything), entities.Scope()):
        if not entity.table_entry.is_const:
            yield entity
    for wanted in (
        p4r.Entity(value_set_entry=p4r.ValueSetEntry()),
        p4r.Entity(counter_entry=p4r.CounterEntry()),
        p4r.Entity(meter_entry=p4r.MeterEntry()),
        p4r.Entity(register_entry=p4r.RegisterEntry()),
    ):
        for entity in entities.read(old, wanted, entities.Scope()):
            if not _is_fresh(old, entity):
                yield entity


def _is_fresh(old: Target, entity: p4r.Entity) -> bool:
    """Whether a cell or value set holds what it holds in a program that has just been loaded."""
    kind = entity.WhichOneof("entity")
    entry: Any = getattr(entity, str(kind))
    if kind == "counter_entry":
        return not (entry.data.packet_count or entry.data.byte_count)
    if kind == "meter_entry":
        return not entry.HasField("config")
    if kind == "register_entry":
        return old.switch.read_register(old.schema.registers[entry.register_id].index, entry.index.index) == 0
    return not entry.members


def _changed_defaults(old: Target, pipeline: Pipeline) -> Iterator[p4r.Entity]:
    """The default entries that are not the program's own any more."""
    wanted = p4r.Entity(table_entry=p4r.TableEntry(is_default_action=True))
    with Switch() as fresh:
        layout = fresh.load(pipeline.shared_object)
        original = Target(fresh, Schema(pipeline.info, layout), State(), old.links)
        before = {e.table_entry.table_id: e for e in entities.read(original, wanted, entities.Scope())}
    for entity in entities.read(old, wanted, entities.Scope()):
        if entity != before[entity.table_entry.table_id]:
            yield entity


def _drop_initial_entries(old: Target, new: Target) -> None:
    """The old program's entries take the place of the new one's initial ones."""
    for table in new.schema.tables.values():
        if table.id not in old.schema.tables:
            continue
        wanted = p4r.Entity(table_entry=p4r.TableEntry(table_id=table.id))
        updates = [
            p4r.Update(type=p4r.Update.DELETE, entity=entity)
            for entity in entities.read(new, wanted, entities.Scope())
            if not entity.table_entry.is_const
        ]
        entities.write(new, updates, entities.CONTINUE, entities.Scope())
