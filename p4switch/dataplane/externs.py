"""Counters, meters, registers, value sets, action profiles and packet replication of a switch."""

from __future__ import annotations

from collections.abc import Sequence

from p4switch.dataplane.handle import Handle
from p4switch.dataplane.native import CData
from p4switch.dataplane.records import Code, DataplaneError, MeterConfig, Replica


class Externs(Handle):
    """The calls of :class:`~p4switch.dataplane.binding.Switch` for what is neither tables nor packets. Externs go by index."""

    # --------------------------------------------------------------------------------------------------- externs

    def read_counter(self, extern: int, cell: int) -> tuple[int, int]:
        """Packets and bytes."""
        packets, count = self._ffi.new("uint64_t *"), self._ffi.new("uint64_t *")
        self._check(
            self._lib.p4dp_counter_read(self._switch, extern, cell, packets, count), f"counter {extern}[{cell}]"
        )
        return packets[0], count[0]

    def write_counter(self, extern: int, cell: int, packets: int, byte_count: int) -> None:
        """Set a counter."""
        code = self._lib.p4dp_counter_write(self._switch, extern, cell, packets, byte_count)
        self._check(code, f"counter {extern}[{cell}]")

    def _meter_struct(self, config: MeterConfig | None) -> CData:
        if config is None:
            return self._ffi.new("p4dp_meter_config *")
        return self._ffi.new("p4dp_meter_config *", [config.cir, config.cburst, config.pir, config.pburst, 1])

    @staticmethod
    def _meter_config(config: CData) -> MeterConfig | None:
        return MeterConfig(config.cir, config.cburst, config.pir, config.pburst) if config.configured else None

    def read_meter(self, extern: int, cell: int) -> MeterConfig | None:
        """A meter's configuration; None where it has none (every packet is green)."""
        config = self._ffi.new("p4dp_meter_config *")
        self._check(self._lib.p4dp_meter_get(self._switch, extern, cell, config), f"meter {extern}[{cell}]")
        return self._meter_config(config)

    def write_meter(self, extern: int, cell: int, config: MeterConfig | None) -> None:
        """Configure a meter, or with None make it pass everything as green. The committed rate is at most the peak rate."""
        code = self._lib.p4dp_meter_set(self._switch, extern, cell, self._meter_struct(config))
        self._check(code, f"meter {extern}[{cell}]")

    def read_direct_meter(self, table: int, handle: int) -> MeterConfig | None:
        """As :meth:`read_meter`, of an entry."""
        config = self._ffi.new("p4dp_meter_config *")
        code = self._lib.p4dp_direct_meter_get(self._switch, table, handle, config)
        self._check(code, f"direct meter of table {table}")
        return self._meter_config(config)

    def write_direct_meter(self, table: int, handle: int, config: MeterConfig | None) -> None:
        """As :meth:`write_meter`, of an entry."""
        code = self._lib.p4dp_direct_meter_set(self._switch, table, handle, self._meter_struct(config))
        self._check(code, f"direct meter of table {table}")

    def _register_bytes(self, extern: int) -> int:
        externs = list(self.layout.externs.values())
        if extern >= len(externs):
            raise DataplaneError(Code.INVALID, f"extern {extern}: the program has {len(externs)}")
        return (externs[extern].width + 7) // 8

    def read_register(self, extern: int, cell: int) -> int:
        """The value of a register cell (its bits; a signed cell's are in two's complement)."""
        buffer = self._ffi.new("uint8_t[]", max(self._register_bytes(extern), 1))
        self._check(self._lib.p4dp_register_read(self._switch, extern, cell, buffer), f"register {extern}[{cell}]")
        return int.from_bytes(bytes(self._ffi.buffer(buffer))[: self._register_bytes(extern)], "big")

    def write_register(self, extern: int, cell: int, value: int) -> None:
        """Set a register cell."""
        size = self._register_bytes(extern)
        if not 0 <= value < 1 << 8 * size:
            raise DataplaneError(Code.INVALID, f"register {extern}[{cell}]: {value} does not fit {size} bytes")
        code = self._lib.p4dp_register_write(self._switch, extern, cell, value.to_bytes(size, "big"))
        self._check(code, f"register {extern}[{cell}]")

    def write_value_set(self, value_set: int, members: Sequence[tuple[bytes, bytes]]) -> None:
        """Replace the members (key, mask) of a parser value set."""
        keys, masks = b"".join(k for k, _ in members), b"".join(m for _, m in members)
        size = next((v.keys.size for v in self.layout.value_sets.values() if v.index == value_set), 0)
        if any(len(part) != size for pair in members for part in pair):
            raise ValueError(f"value set {value_set}: members have {size} bytes")
        code = self._lib.p4dp_value_set_write(self._switch, value_set, keys, masks, len(members))
        self._check(code, f"value set {value_set}")

    # ------------------------------------------------------------------------------------ profiles and selectors

    def set_member(self, profile: int, member: int, action: int, data: bytes, *, must_exist: bool) -> None:
        """Insert (or, with ``must_exist``, modify) a member of an action profile."""
        self._check_data(action, data)
        code = self._lib.p4dp_member_set(self._switch, profile, member, action, data, must_exist)
        self._check(code, f"member {member} of profile {profile}")

    def delete_member(self, profile: int, member: int) -> None:
        """Delete a member that nothing refers to."""
        self._check(
            self._lib.p4dp_member_delete(self._switch, profile, member), f"member {member} of profile {profile}"
        )

    def set_group(self, profile: int, group: int, members: Sequence[tuple[int, int]], *, must_exist: bool) -> None:
        """Insert or modify a group of (member id, weight)."""
        ids, weights = [m for m, _ in members], [w for _, w in members]
        code = self._lib.p4dp_group_set(self._switch, profile, group, ids, weights, len(members), must_exist)
        self._check(code, f"group {group} of profile {profile}")

    def delete_group(self, profile: int, group: int) -> None:
        """Delete a group that no entry refers to."""
        self._check(self._lib.p4dp_group_delete(self._switch, profile, group), f"group {group} of profile {profile}")

    # ----------------------------------------------------------------------------------------------- replication

    def _replicas(self, replicas: Sequence[Replica]) -> CData:
        return self._ffi.new("p4dp_replica[]", [[r.port, r.instance] for r in replicas] or 1)

    def set_multicast_group(self, group: int, replicas: Sequence[Replica], *, must_exist: bool = False) -> None:
        """Insert (or, with ``must_exist``, modify) a multicast group."""
        code = self._lib.p4dp_multicast_set(self._switch, group, self._replicas(replicas), len(replicas), must_exist)
        self._check(code, f"multicast group {group}")

    def delete_multicast_group(self, group: int) -> None:
        """Delete a multicast group."""
        self._check(self._lib.p4dp_multicast_delete(self._switch, group), f"multicast group {group}")

    def set_clone_session(
        self, session: int, replicas: Sequence[Replica], *, truncate_length: int = 0, must_exist: bool = False
    ) -> None:
        """Insert or modify a clone session; ``truncate_length`` in bytes, 0 for whole packets."""
        code = self._lib.p4dp_clone_session_set(
            self._switch, session, self._replicas(replicas), len(replicas), truncate_length, must_exist
        )
        self._check(code, f"clone session {session}")

    def delete_clone_session(self, session: int) -> None:
        """Delete a clone session."""
        self._check(self._lib.p4dp_clone_session_delete(self._switch, session), f"clone session {session}")
