"""Packs changes of tables into the C array that ``p4dp_apply`` takes: all bytes in one buffer, all structures in another."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

from p4switch.dataplane.records import Update

# p4dp_update where pointers have 64 bits: op, table, key, mask, priority, kind, action, data, timeout, cookie, result, handle.
_LAYOUT = struct.Struct("=iIQQiiI4xQQQi4xQ")
_FIELDS = {"op": 0, "key": 8, "priority": 24, "action": 32, "data": 40, "cookie": 56, "result": 64, "handle": 72}
_RESULT = struct.Struct("=i4xQ")


def check_layout(ffi: Any) -> None:
    """Raises RuntimeError when the compiler lays ``p4dp_update`` out differently."""
    found = {name: ffi.offsetof("p4dp_update", name) for name in _FIELDS}
    if found != _FIELDS or ffi.sizeof("p4dp_update") != _LAYOUT.size:
        raise RuntimeError(f"p4dp_update is laid out as {found}, {ffi.sizeof('p4dp_update')} bytes")


class Batch:
    """Updates as C sees them; ``array`` is valid as long as this object."""

    def __init__(self, ffi: Any, updates: Sequence[Update]):
        self.count = len(updates)
        parts: list[bytes] = []
        for u in updates:
            parts += (u.key, u.mask or b"", u.data)
        self._bytes = ffi.new("uint8_t[]", b"".join(parts) or b"\0")
        at = int(ffi.cast("uintptr_t", self._bytes))
        packed = bytearray(self.count * _LAYOUT.size)
        offset = 0
        pack_into, size = _LAYOUT.pack_into, _LAYOUT.size
        for u in updates:
            key = at
            at += len(u.key)
            mask = 0
            if u.mask is not None:
                mask = at
                at += len(u.mask)
            pack_into(
                packed,
                offset,
                u.op,
                u.table,
                key,
                mask,
                u.priority,
                u.kind,
                u.action,
                at,
                u.idle_timeout_ns,
                u.cookie,
                0,
                0,
            )
            at += len(u.data)
            offset += size
        self._packed = packed
        self.array = ffi.cast("p4dp_update *", ffi.from_buffer(packed))

    def results(self) -> list[tuple[int, int]]:
        """(code, handle) of each update after the call."""
        size, at = _LAYOUT.size, _FIELDS["result"]
        return [_RESULT.unpack_from(self._packed, n * size + at) for n in range(self.count)]
