"""Seeds: what an .stf test does to a switch, written down as an input of the fuzz target (steps.c says what the bytes mean).

A test runs on a :class:`Recorder`, a switch that notes every call as a step while it executes it. Programs without a test begin
with packets alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from p4switch.dataplane.binding import EntryKind, MeterConfig, Op, Replica, Result, Switch, Update
from p4switch.dataplane.layout import ExternKind, Field, MatchKind, Table
from p4switch.stf import run_script

# The numbers of steps.c.
_PACKET, _PACKET_OUT, _ENTRIES, _MEMBER, _GROUP, _MULTICAST, _CLONE_SESSION, _EXTERN, _VALUE_SET = range(9)
_PORTS = (0, 1, 2, 3, 4, 5, 6, 7)
_FEW = 6
_OPS = {Op.INSERT: 0, Op.MODIFY: 3, Op.DELETE: 4, Op.SET_DEFAULT: 5, Op.RESET_DEFAULT: 6}
_LITERAL, _WIDE, _FREE_MASK = 1, 2, 4
_ALL_BITS = 0x80


def record(kind: int, payload: bytes) -> bytes:
    """One step."""
    return bytes([kind]) + len(payload).to_bytes(2, "little") + payload


def packet(port: int, data: bytes) -> bytes:
    """The step in which a packet arrives; ports that the target does not use become port 1."""
    return record(_PACKET, bytes([_PORTS.index(port) if port in _PORTS else 1, 0, 0]) + data)


def _mask(field: Field, mask: bytes) -> bytes:
    """The bytes from which the target makes this mask."""
    number = int.from_bytes(mask, "big")
    if field.kind == MatchKind.LPM:
        return bytes([number.bit_count()])
    if field.kind == MatchKind.OPTIONAL:
        return bytes([number == 0])
    return mask if field.kind in (MatchKind.TERNARY, MatchKind.RANGE) else b""


class Recorder(Switch):
    """A switch that keeps what was done to it as ``steps``."""

    def __init__(self, *, cpu_port: int) -> None:
        super().__init__(cpu_port=cpu_port, seed=1)
        self.steps: list[bytes] = []

    def inject(self, port: int, packet_bytes: bytes) -> None:
        """A packet."""
        self.steps.append(packet(port, packet_bytes))
        super().inject(port, packet_bytes)

    def packet_out(self, packet_bytes: bytes) -> None:
        """A packet from the controller."""
        self.steps.append(record(_PACKET_OUT, bytes(3) + packet_bytes))
        super().packet_out(packet_bytes)

    def apply(self, updates: Sequence[Update], *, all_or_none: bool = False) -> list[Result]:
        """Changes of tables."""
        tables = {t.index: t for t in self.layout.tables.values()}
        parts = [self._update(tables[u.table], u) for u in updates]
        self.steps.append(record(_ENTRIES, bytes([all_or_none]) + b"".join(parts)))
        return super().apply(updates, all_or_none=all_or_none)

    def _update(self, table: Table, update: Update) -> bytes:
        indices = [a.index for a in table.actions]
        if update.kind == EntryKind.ACTION:
            choice = indices.index(update.action) if update.action in indices else 0
        else:
            choice = update.action % _FEW * 2 + (update.kind == EntryKind.GROUP)
        more = (update.priority - 1 & 7) | (8 if update.idle_timeout_ns else 0)
        head = bytes([_OPS[update.op], table.index, choice, _LITERAL | _WIDE | _FREE_MASK, more])
        key = update.key or bytes(table.keys.size)
        masks = update.mask or table.keys.full_mask()
        return (
            head
            + key
            + b"".join(_mask(f, masks[f.offset : f.offset + f.size]) for f in table.keys.fields)
            + update.data
        )

    def set_member(self, profile: int, member: int, action: int, data: bytes, *, must_exist: bool) -> None:
        """A member of a profile."""
        users = [t for t in self.layout.tables.values() if t.implementation and t.implementation.index == profile]
        choices = [a.index for a in users[0].actions] if users else []
        choice = choices.index(action) if action in choices else 0
        self.steps.append(record(_MEMBER, bytes([profile, must_exist, member % _FEW, choice]) + data))
        super().set_member(profile, member, action, data, must_exist=must_exist)

    def set_group(self, profile: int, group: int, members: Sequence[tuple[int, int]], *, must_exist: bool) -> None:
        """A group of a selector."""
        pairs = b"".join(bytes([m % _FEW, min(w, 254)]) for m, w in members)
        self.steps.append(record(_GROUP, bytes([profile, must_exist, group % _FEW, len(members) % _FEW]) + pairs))
        super().set_group(profile, group, members, must_exist=must_exist)

    def _replication(self, kind: int, number: int, replicas: Sequence[Replica], limit: int, must_exist: bool) -> None:
        named = bytes([number - 1]) if 1 <= number <= _FEW else b"\xff"
        rest = b"" if len(named) and named != b"\xff" else number.to_bytes(4, "little")
        copies = b"".join(r.port.to_bytes(2, "little") + bytes([r.instance & 0xFF]) for r in replicas)
        op = 2 if must_exist else 0
        self.steps.append(record(kind, bytes([op]) + named + bytes([len(replicas), limit]) + rest + copies))

    def set_multicast_group(self, group: int, replicas: Sequence[Replica], *, must_exist: bool = False) -> None:
        """A multicast group."""
        self._replication(_MULTICAST, group, replicas, 0, must_exist)
        super().set_multicast_group(group, replicas, must_exist=must_exist)

    def set_clone_session(
        self, session: int, replicas: Sequence[Replica], *, truncate_length: int = 0, must_exist: bool = False
    ) -> None:
        """A clone session."""
        limit = truncate_length << 1 | 1 if 0 < truncate_length < 128 else 0
        self._replication(_CLONE_SESSION, session, replicas, limit, must_exist)
        super().set_clone_session(session, replicas, truncate_length=truncate_length, must_exist=must_exist)

    def _extern(self, extern: int, cell: int, config: MeterConfig | None, value: bytes) -> None:
        chosen = config or MeterConfig(0, 0, 0, 0)
        meter = b"".join(
            n.to_bytes(size, "little")
            for n, size in ((chosen.cir, 4), (chosen.cburst, 2), (chosen.pir, 4), (chosen.pburst, 2))
        )
        self.steps.append(
            record(_EXTERN, bytes([extern, cell & 0x7F]) + meter + bytes([config is not None, 0]) + value)
        )

    def write_meter(self, extern: int, cell: int, config: MeterConfig | None) -> None:
        """A meter."""
        self._extern(extern, cell, config, b"")
        super().write_meter(extern, cell, config)

    def write_register(self, extern: int, cell: int, value: int) -> None:
        """A register cell."""
        (found,) = (e for e in self.layout.externs.values() if e.index == extern and e.kind == ExternKind.REGISTER)
        self._extern(extern, cell, None, value.to_bytes((found.width + 7) // 8, "big"))
        super().write_register(extern, cell, value)

    def write_value_set(self, value_set: int, members: Sequence[tuple[bytes, bytes]]) -> None:
        """A value set."""
        content = b"".join(key + mask for key, mask in members)
        self.steps.append(record(_VALUE_SET, bytes([value_set, len(members), _ALL_BITS]) + content))
        super().write_value_set(value_set, members)


def write_seeds(
    folder: Path, shared_object: Path, script: str | None, packets: Sequence[bytes], *, cpu_port: int
) -> int:
    """Fill a directory: the whole script as one input, its packets one by one, and other packets. Returns the number of files."""
    inputs: list[bytes] = [packet(1, data) for data in packets]
    if script is not None:
        recorder = Recorder(cpu_port=cpu_port)
        with recorder:
            recorder.load(shared_object)
            run_script(recorder, script)
        inputs += [b"".join(recorder.steps), *(s for s in recorder.steps if s[0] == _PACKET)]
    inputs.append(b"".join(packet(number, bytes(range(64))) for number in range(4)))
    folder.mkdir(parents=True, exist_ok=True)
    for number, data in enumerate(inputs):
        (folder / f"seed-{number:03}").write_bytes(data)
    return len(inputs)
