"""The values that go in and out of :mod:`p4switch.dataplane.binding`: codes, updates, entries, events, statistics."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

DROP_PORT = 511  # v1model


class Code(IntEnum):
    """Why a call failed: the ``P4DP_E...`` of ``p4dp.h``."""

    OK = 0
    NO_MEMORY = -1
    EXISTS = -2
    NOT_FOUND = -3
    INVALID = -4
    FULL = -5
    CONST = -6
    IO = -7
    LOAD = -8
    STATE = -9
    IN_USE = -10


class DataplaneError(RuntimeError):
    """A call failed; ``code`` says why."""

    def __init__(self, code: Code, message: str):
        super().__init__(message)
        self.code = code


class Op(IntEnum):
    """``p4dp_op``."""

    INSERT = 0
    MODIFY = 1
    DELETE = 2
    SET_DEFAULT = 3
    RESET_DEFAULT = 4


class EntryKind(IntEnum):
    """``p4dp_entry_kind``: what ``action`` of an entry or update is an index or id of."""

    ACTION = 0
    MEMBER = 1
    GROUP = 2


class EventKind(IntEnum):
    """``P4DP_EVENT_...``."""

    PACKET_IN = 1
    DIGEST = 2
    IDLE_TIMEOUT = 3


@dataclass(frozen=True, slots=True)
class Update:
    """One change of a table. ``key`` and ``mask`` as in ``p4dp.h``; ``mask`` None where all keys are exact."""

    op: Op
    table: int
    key: bytes = b""
    mask: bytes | None = None
    priority: int = 0
    kind: EntryKind = EntryKind.ACTION
    action: int = 0
    data: bytes = b""
    idle_timeout_ns: int = 0
    cookie: int = 0


@dataclass(frozen=True, slots=True)
class Result:
    """What became of an update; ``handle`` is set after INSERT and MODIFY."""

    code: Code
    handle: int


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry as the table holds it, or its default entry (``handle`` 0)."""

    handle: int
    cookie: int
    key: bytes
    mask: bytes
    priority: int
    kind: EntryKind
    action: int
    data: bytes
    is_const: bool
    packets: int
    bytes: int
    idle_timeout_ns: int
    since_hit_ns: int


@dataclass(frozen=True, slots=True)
class MeterConfig:
    """Rates in units (bytes or packets) a second, bursts in units."""

    cir: int
    cburst: int
    pir: int
    pburst: int


@dataclass(frozen=True, slots=True)
class Replica:
    """One copy made by a multicast group or clone session; ``instance`` becomes ``egress_rid``."""

    port: int
    instance: int = 0


@dataclass(frozen=True, slots=True)
class Output:
    """A frame that left the switch on a port without an interface."""

    port: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Event:
    """Something for the controller. ``index`` is the digest's or table's; ``data`` the packet's or digest message's bytes."""

    kind: EventKind
    index: int
    cookie: int
    handle: int
    timestamp_ns: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Stats:
    """Packet counters of a switch or a port, since it was made."""

    rx_packets: int
    rx_bytes: int
    tx_packets: int
    tx_bytes: int
    tx_drops: int
    dropped: int
    parser_errors: int
    events_lost: int
    rx_oversized: int
    loops_cut: int
    rx_missed: int
    queue_drops: int
