"""Counters, meters and registers (specification, "CounterEntry", "MeterEntry", "RegisterEntry"): cells exist always, so they can
only be MODIFIED."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from finsy.proto import p4r

from p4switch.dataplane import binding as dp
from p4switch.server.errors import invalid, out_of_range, unimplemented
from p4switch.server.schema import CellsInfo, by_id
from p4switch.server.state import Target

MODIFY = p4r.Update.MODIFY
SINGLE_RATE = {1: "a single-rate three-colour", 2: "a single-rate two-colour"}  # p4.config.v1.MeterSpec.Type


def only_modify(kind: int, what: str) -> None:
    """INVALID_ARGUMENT for INSERT and DELETE."""
    if kind != MODIFY:
        raise invalid(f"a {what} always exists: it can only be MODIFIED")


def _cells(info: CellsInfo, entry: Any) -> range:
    """The cell that an entry names, or all where it names none."""
    if not entry.HasField("index"):
        return range(info.size)
    index = entry.index.index
    if index < 0:
        raise invalid(f"{info.name}: index {index} is negative")
    if index >= info.size:
        raise out_of_range(f"{info.name} has cells 0..{info.size - 1}, not {index}")
    return range(index, index + 1)


def _write(
    target: Target, cells: range, read: Callable[[int], Any], write: Callable[[int, Any], None], value: Any
) -> None:
    """Write a value to cells; the journal gets what was there."""
    if target.journal is not None:
        old = [(cell, read(cell)) for cell in cells]
        target.undo(lambda: _put_back(write, old))
    for cell in cells:
        write(cell, value)


def _put_back(write: Callable[[int, Any], None], old: list[tuple[int, Any]]) -> None:
    for cell, value in old:
        write(cell, value)


# ------------------------------------------------------------------------------------------------------------ counters


def counter_data(data: p4r.CounterData) -> tuple[int, int]:
    """Packets and bytes; INVALID_ARGUMENT for negative ones."""
    for name, value in (("packet_count", data.packet_count), ("byte_count", data.byte_count)):
        if value < 0:
            raise invalid(f"counter data: {name} is negative: {value}")
    return data.packet_count, data.byte_count


def write_counter(target: Target, kind: int, entry: p4r.CounterEntry) -> None:
    """Set a cell, or all."""
    only_modify(kind, "counter cell")
    info = by_id(target.schema.counters, entry.counter_id, "counter")
    cells, data = _cells(info, entry), counter_data(entry.data)
    if not entry.HasField("data"):
        return
    switch, index = target.switch, info.index
    _write(
        target, cells, lambda c: switch.read_counter(index, c), lambda c, v: switch.write_counter(index, c, *v), data
    )


def read_counters(target: Target, wanted: p4r.CounterEntry) -> Iterator[p4r.Entity]:
    """Cells of one counter or all."""
    for info in _chosen(target.schema.counters, wanted.counter_id, "counter"):
        for cell in _cells(info, wanted):
            packets, size = target.switch.read_counter(info.index, cell)
            entity = p4r.Entity()
            entry = entity.counter_entry
            entry.counter_id, entry.index.index = info.id, cell
            entry.data.packet_count, entry.data.byte_count = packets & _INT64, size & _INT64
            yield entity


_INT64 = (1 << 63) - 1


def _chosen(container: dict[int, CellsInfo], number: int, what: str) -> list[CellsInfo]:
    return [by_id(container, number, what)] if number else list(container.values())


# -------------------------------------------------------------------------------------------------------------- meters


def meter_config(config: p4r.MeterConfig, meter_type: int, what: str) -> dp.MeterConfig:
    """A meter's configuration as the data plane has it. INVALID_ARGUMENT when it does not fit the meter's type."""
    for name in ("cir", "cburst", "pir", "pburst", "eburst"):
        if getattr(config, name) < 0:
            raise invalid(f"meter {name} is negative: {getattr(config, name)}")
    if meter_type in SINGLE_RATE and (config.pir, config.pburst) != (config.cir, config.cburst):
        raise invalid(f"{what} is {SINGLE_RATE[meter_type]} meter: pir and pburst are equal to cir and cburst")
    if config.eburst:
        if meter_type == 1:
            raise unimplemented(f"{what}: eburst of a single-rate three-colour meter")
        raise invalid(f"{what}: eburst is for single-rate three-colour meters only, found {config.eburst}")
    if config.cir > config.pir:
        raise invalid(f"meter cir {config.cir} is larger than its pir {config.pir}")
    return dp.MeterConfig(config.cir, config.cburst, config.pir, config.pburst)


def refuse_colour_counters(entry: Any, field: str = "counter_data") -> None:
    """UNIMPLEMENTED: meters count no colours here."""
    if entry.HasField(field):
        raise unimplemented(f"{field}: counters of a meter's colours")


def fill_meter(message: Any, config: dp.MeterConfig | None, name: str = "config") -> None:
    """Set a message's meter configuration, unless it is the default."""
    if config is not None:
        to = getattr(message, name)
        to.SetInParent()
        to.cir, to.cburst, to.pir, to.pburst = config.cir, config.cburst, config.pir, config.pburst


def write_meter(target: Target, kind: int, entry: p4r.MeterEntry) -> None:
    """Configure a cell, or all; without a configuration: back to the default."""
    only_modify(kind, "meter cell")
    info = by_id(target.schema.meters, entry.meter_id, "meter")
    refuse_colour_counters(entry)
    cells = _cells(info, entry)
    config = meter_config(entry.config, info.meter_type, info.name) if entry.HasField("config") else None
    switch, index = target.switch, info.index
    _write(target, cells, lambda c: switch.read_meter(index, c), lambda c, v: switch.write_meter(index, c, v), config)


def read_meters(target: Target, wanted: p4r.MeterEntry) -> Iterator[p4r.Entity]:
    """Cells of one meter or all."""
    refuse_colour_counters(wanted)
    for info in _chosen(target.schema.meters, wanted.meter_id, "meter"):
        for cell in _cells(info, wanted):
            entity = p4r.Entity()
            entry = entity.meter_entry
            entry.meter_id, entry.index.index = info.id, cell
            fill_meter(entry, target.switch.read_meter(info.index, cell))
            yield entity


# ----------------------------------------------------------------------------------------------------------- registers


def write_register(target: Target, kind: int, entry: p4r.RegisterEntry) -> None:
    """Set a cell, or all."""
    only_modify(kind, "register cell")
    info = by_id(target.schema.registers, entry.register_id, "register")
    cells = _cells(info, entry)
    assert info.codec is not None
    value = info.codec.pack(entry.data, info.name)
    switch, index = target.switch, info.index
    _write(
        target, cells, lambda c: switch.read_register(index, c), lambda c, v: switch.write_register(index, c, v), value
    )


def read_registers(target: Target, wanted: p4r.RegisterEntry) -> Iterator[p4r.Entity]:
    """Cells of one register or all."""
    for info in _chosen(target.schema.registers, wanted.register_id, "register"):
        assert info.codec is not None
        for cell in _cells(info, wanted):
            entity = p4r.Entity()
            entry = entity.register_entry
            entry.register_id, entry.index.index = info.id, cell
            info.codec.unpack(target.switch.read_register(info.index, cell), entry.data)
            yield entity
