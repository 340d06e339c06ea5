"""C that moves numbers between registers and bytes in network order: headers, keys, action data, messages, hash input.

Offsets are constants. Reading prefers one load of a power of two bytes that covers the field and stays within the bytes that are
known to be there; writing joins neighbouring fields up to the next byte boundary into one store.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from p4switch.codegen.arithmetic import literal
from p4switch.codegen.types import TypeTable, limbs, machine_width
from p4switch.compiler import ir


@dataclass(frozen=True)
class Slot:
    """A number's place: its first bit, counted from the first byte's highest, and its bits."""

    bit: int
    width: int


def at(pointer: str, offset: int) -> str:
    """``pointer + offset``."""
    return f"{pointer} + {offset}" if offset else pointer


def read(types: TypeTable, pointer: str, slot: Slot, available: int) -> str:
    """The number in a slot, as an expression of its value type. ``available`` bytes may be read from ``pointer`` on."""
    bit, width = slot.bit, slot.width
    if width == 0:
        return "0u"
    if width > 128:
        types.value_type(ir.Bits(width=width))
        return f"p4_w{limbs(width)}_get({pointer}, {bit}u, {width}u)"
    first, last = bit // 8, (bit + width - 1) // 8
    count = last - first + 1
    if width > 64:
        if bit % 8 == 0 and width % 8 == 0:
            return f"p4_load128({at(pointer, first)}, {count}u)"
        return f"p4_get_bits128({pointer}, {bit}u, {width}u)"
    if count > 8:
        return f"p4_get_bits({pointer}, {bit}u, {width}u)"
    start, size = first, count
    if count not in (1, 2, 4, 8):
        window = 4 if count < 4 else 8
        if available >= window:
            start, size = min(first, available - window), window
    code = f"p4_load({at(pointer, start)}, {size}u)"
    shift = 8 * (start + size) - (bit + width)
    above = bit - 8 * start
    if shift:
        code = f"({code} >> {shift})"
    if above:
        code = f"({code} & {literal(-1, width) if width > 32 else hex((1 << width) - 1)})"
    return f"((uint32_t){code})" if machine_width(width) == 32 else code


def write(types: TypeTable, pointer: str, fields: Sequence[tuple[Slot, str]]) -> list[str]:
    """Statements that store numbers in slots that follow each other without gaps, except for gaps up to a byte boundary.

    Bits in such gaps become zero. Values are expressions of their value types.
    """
    lines: list[str] = []
    group: list[tuple[Slot, str]] = []
    for slot, code in fields:
        if slot.width == 0:
            continue
        if group and slot.bit // 8 >= (group[-1][0].bit + group[-1][0].width + 7) // 8:
            lines.extend(_write_group(types, pointer, group))
            group = []
        group.append((slot, code))
    if group:
        lines.extend(_write_group(types, pointer, group))
    return lines


def _write_group(types: TypeTable, pointer: str, group: Sequence[tuple[Slot, str]]) -> list[str]:
    """Fields that share bytes with their neighbours. The bits around the group in its first and last byte are zero."""
    first, last = group[0][0].bit, group[-1][0].bit + group[-1][0].width
    start, end = first // 8, (last + 7) // 8
    size = end - start
    if size <= 8:
        terms = []
        for slot, code in group:
            shift = 8 * end - slot.bit - slot.width
            terms.append(f"((uint64_t){code} << {shift})" if shift else f"(uint64_t){code}")
        return [f"p4_store({at(pointer, start)}, {' | '.join(terms)}, {size}u);"]
    if len(group) == 1 and size <= 16:
        shift = 8 * end - last
        return [f"p4_store128({at(pointer, start)}, (p4_u128){group[0][1]}{f' << {shift}' if shift else ''}, {size}u);"]
    lines = []
    if any(slot.bit % 8 or slot.width % 8 for slot, _ in group):
        lines.append(f"memset({at(pointer, start)}, 0, {size});")
    for slot, code in group:
        if slot.width > 128:
            types.value_type(ir.Bits(width=slot.width))
            lines.append(f"p4w_put({code}.l, {pointer}, {slot.bit}u, {slot.width}u);")
        elif slot.width > 64:
            lines.append(f"p4_put_bits128({pointer}, {slot.bit}u, {slot.width}u, {code});")
        else:
            lines.append(f"p4_put_bits({pointer}, {slot.bit}u, {slot.width}u, {code});")
    return lines


def byte_slots(widths: Sequence[int]) -> tuple[list[Slot], list[int], int]:
    """Slots one after the other, each in whole bytes, right-aligned: the layout of keys and action data.

    Returns the slots, the byte offset of each field, and the size in bytes.
    """
    slots, offsets, offset = [], [], 0
    for width in widths:
        size = (width + 7) // 8
        offsets.append(offset)
        slots.append(Slot(8 * (offset + size) - width, width))
        offset += size
    return slots, offsets, offset


def bit_slots(widths: Sequence[int], start: int = 0) -> tuple[list[Slot], int]:
    """Slots one after the other without gaps: the layout of headers. Returns them and the bit after the last."""
    slots, bit = [], start
    for width in widths:
        slots.append(Slot(bit, width))
        bit += width
    return slots, bit
