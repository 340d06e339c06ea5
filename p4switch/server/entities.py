"""Write and Read as a whole: what handles which entity, batches, transactions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from finsy.proto import p4r

from p4switch.dataplane import binding as dp
from p4switch.server import cells, digests, entries, profiles, replication, roles, tables
from p4switch.server.errors import P4RuntimeError, aborted, failure, invalid, unimplemented
from p4switch.server.roles import RoleConfig
from p4switch.server.state import Target

CONTINUE = p4r.WriteRequest.CONTINUE_ON_ERROR
ATOMICITIES = (CONTINUE, p4r.WriteRequest.ROLLBACK_ON_ERROR, p4r.WriteRequest.DATAPLANE_ATOMIC)
KINDS = (p4r.Update.INSERT, p4r.Update.MODIFY, p4r.Update.DELETE)
Result = P4RuntimeError | None

_WRITERS: dict[str, Callable[[Target, int, Any], None]] = {
    "table_entry": entries.write,
    "action_profile_member": profiles.write_member,
    "action_profile_group": profiles.write_group,
    "counter_entry": cells.write_counter,
    "direct_counter_entry": entries.write_direct_counter,
    "meter_entry": cells.write_meter,
    "direct_meter_entry": entries.write_direct_meter,
    "register_entry": cells.write_register,
    "packet_replication_engine_entry": replication.write_replication,
    "value_set_entry": replication.write_value_set,
    "digest_entry": digests.write_digest,
}
_READERS: dict[str, Callable[[Target, Any], Iterator[p4r.Entity]]] = {
    "table_entry": entries.read_entries,
    "action_profile_member": profiles.read_members,
    "action_profile_group": profiles.read_groups,
    "counter_entry": cells.read_counters,
    "direct_counter_entry": entries.read_direct_counters,
    "meter_entry": cells.read_meters,
    "direct_meter_entry": entries.read_direct_meters,
    "register_entry": cells.read_registers,
    "packet_replication_engine_entry": replication.read_replication,
    "value_set_entry": replication.read_value_sets,
    "digest_entry": digests.read_digests,
}


class Scope:
    """What a role may write, as a check of each update; the default role's does nothing."""

    def __init__(self, name: str = "", config: RoleConfig | None = None):
        self.name = name
        self.config = config or RoleConfig()

    def check_write(self, target: Target, entity: p4r.Entity) -> None:
        """PERMISSION_DENIED for what is outside."""
        if self.config.restricted:
            roles.check_write(self.name, self.config, roles.subjects(entity, target.schema.direct))

    def check_read(self, target: Target, entity: p4r.Entity) -> None:
        """PERMISSION_DENIED for what is outside and named."""
        if self.config.restricted:
            roles.check_read(self.name, self.config, roles.subjects(entity, target.schema.direct))

    def shows(self, target: Target, entity: p4r.Entity) -> bool:
        """Whether a wildcard read gives this entity."""
        return not self.config.restricted or roles.may_read(self.config, roles.subjects(entity, target.schema.direct))


# --------------------------------------------------------------------------------------------------------------- write


def write(target: Target, updates: Sequence[p4r.Update], atomicity: int, scope: Scope) -> list[Result]:
    """All updates of a Write, in order; one result each. CONTINUE_ON_ERROR does what can be done; the other modes do all or
    nothing, with no packet in between."""
    if atomicity not in ATOMICITIES:
        raise invalid(f"atomicity {atomicity} does not exist; there are 0, 1 and 2")
    if atomicity == CONTINUE:
        return _write_each(target, updates, scope)
    return _write_all(target, updates, scope)


def _write_each(target: Target, updates: Sequence[p4r.Update], scope: Scope) -> list[Result]:
    results: list[Result] = [None] * len(updates)
    batch: list[tuple[int, entries.Simple]] = []
    for position, update in enumerate(updates):
        try:
            step = _prepare(target, update, scope)
            if step is not None:
                batch.append((position, step))
                continue
            _flush(target, batch, results)
            atomically(target, lambda update=update: _write_one(target, update))  # type: ignore[misc]
        except P4RuntimeError as error:
            results[position] = error
    _flush(target, batch, results)
    return results


def _prepare(target: Target, update: p4r.Update, scope: Scope) -> entries.Simple | None:
    entity = update.entity
    scope.check_write(target, entity)
    if entity.WhichOneof("entity") != "table_entry":
        return None
    if update.type not in KINDS:
        raise invalid("the update has no type; it must be INSERT, MODIFY or DELETE")
    return entries.simple(target, update.type, entity.table_entry)


def _flush(target: Target, batch: list[tuple[int, entries.Simple]], results: list[Result]) -> None:
    """Table entries that follow one another go to the data plane as one change."""
    if not batch:
        return
    done = target.apply([step.update for _, step in batch])
    for (position, step), result in zip(batch, done, strict=True):
        if result.code != dp.Code.OK:
            results[position] = tables.update_failure(step.update, result.code, step.what)
        else:
            entries.settle(target, step, result.handle)
    batch.clear()


def _write_all(target: Target, updates: Sequence[p4r.Update], scope: Scope) -> list[Result]:
    position = 0

    def run() -> None:
        nonlocal position
        batch: list[tuple[int, entries.Simple]] = []
        for number, update in enumerate(updates):
            position = number
            step = _prepare(target, update, scope)
            if step is not None:
                batch.append((number, step))
                continue
            flush(batch)
            position = number
            _write_one(target, update)
        flush(batch)

    def flush(batch: list[tuple[int, entries.Simple]]) -> None:
        nonlocal position
        if not batch:
            return
        done = target.apply([step.update for _, step in batch], all_or_none=True)
        for (number, step), result in zip(batch, done, strict=True):
            if result.code != dp.Code.OK:
                position = number
                raise tables.update_failure(step.update, result.code, step.what)
        for (_, step), result in zip(batch, done, strict=True):
            entries.settle(target, step, result.handle)
        batch.clear()

    try:
        atomically(target, run)
    except P4RuntimeError as error:
        return [error if number == position else aborted() for number in range(len(updates))]
    return [None] * len(updates)


def _write_one(target: Target, update: p4r.Update) -> None:
    name = update.entity.WhichOneof("entity")
    if name is None:
        raise invalid("the update has no entity")
    if update.type not in KINDS:
        raise invalid("the update has no type; it must be INSERT, MODIFY or DELETE")
    writer = _WRITERS.get(name)
    if writer is None:
        raise unimplemented(f"writing {name}: the program has no externs of its own")
    try:
        writer(target, update.type, getattr(update.entity, name))
    except dp.DataplaneError as error:
        raise failure(error.code, name.replace("_", " ")) from None


def atomically(target: Target, run: Callable[[], None]) -> None:
    """Do it all, or raise P4RuntimeError and leave everything as it was. Packets see nothing in between."""
    with target.switch.transaction() as mark:
        target.journal, target.mark = [], mark
        try:
            run()
        except BaseException:
            journal, target.journal = target.journal, None
            for undo in reversed(journal):
                undo()
            raise
        finally:
            target.journal = target.mark = None


# ---------------------------------------------------------------------------------------------------------------- read


def read(target: Target, wanted: p4r.Entity, scope: Scope) -> list[p4r.Entity]:
    """What matches; 0 is a wildcard for ids. Raises P4RuntimeError."""
    name = wanted.WhichOneof("entity")
    if name is None:
        raise invalid("the read has no entity")
    if name == "extern_entry" and not wanted.extern_entry.extern_type_id:
        return []
    reader = _READERS.get(name)
    if reader is None:
        raise unimplemented(f"reading {name}: the program has no externs of its own")
    scope.check_read(target, wanted)
    try:
        found = list(reader(target, getattr(wanted, name)))
    except dp.DataplaneError as error:
        raise failure(error.code, name.replace("_", " ")) from None
    return [entity for entity in found if scope.shows(target, entity)] if scope.config.restricted else found
