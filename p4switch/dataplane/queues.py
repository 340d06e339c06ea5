"""The queues between ingress and egress, from Python: how many priorities, how deep, how fast, and what became of packets.

There are none until a depth or a rate is set. Semantics are those of ``include/p4dp.h``: BMv2's priority queues, and a rate of
the port that its queues share with the highest priority first.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from p4switch.dataplane.native import CData
from p4switch.dataplane.records import Code, DataplaneError

PRIORITIES = 8  # v1model's priority has three bits
_ALL = 0xFFFFFFFF
_PORTS = 512


@dataclass(frozen=True, slots=True)
class QueueStats:
    """One queue: its settings, how many packets wait and have waited at most, and how many entered it or were dropped.

    ``rate`` and ``port_rate`` are in packets a second, 0 for unlimited; ``depth``, ``length`` and ``longest`` in packets.
    """

    port: int
    priority: int
    depth: int
    rate: int
    port_rate: int
    length: int
    longest: int
    enqueued: int
    dropped: int


class _Owner(Protocol):
    """What this needs of a switch."""

    @property
    def native(self) -> tuple[CData, CData, CData]:
        """cffi's interface, the runtime's library, the switch."""

    def check(self, code: int, what: str) -> None:
        """Raise :class:`DataplaneError` for a negative code."""


class Queues:
    """The queues of a switch; ``Switch.queues`` is one. ``port`` and ``priority`` None mean all of them."""

    def __init__(self, owner: _Owner):
        self._owner = owner

    def set_priorities(self, count: int) -> None:
        """How many queues a port has, 1 (the default) to 8. A packet whose priority has no queue is dropped, as by BMv2."""
        _, library, switch = self._owner.native
        self._owner.check(library.p4dp_queue_priorities(switch, count), f"{count} priority queues (1 to {PRIORITIES})")

    def set_depth(self, packets: int, port: int | None = None, priority: int | None = None) -> None:
        """How many packets a queue holds, up to 65,536; 64 unless set."""
        _, library, _ = self._owner.native
        self._set(library.p4dp_queue_depth, "queue depth", packets, port, priority)

    def set_rate(self, rate: int, port: int | None = None, priority: int | None = None) -> None:
        """How many packets a second each queue lets out, 0 (unlimited) to 10^9."""
        _, library, _ = self._owner.native
        self._set(library.p4dp_queue_rate, "queue rate", rate, port, priority)

    def set_port_rate(self, rate: int, port: int | None = None) -> None:
        """How many packets a second a port lets out of all its queues, highest priority first; 0 (unlimited) to 10^9."""
        _, library, switch = self._owner.native
        self._number("port rate", rate, 1 << 32)
        code = library.p4dp_port_rate(switch, _ALL if port is None else self._number("port", port, _PORTS), rate)
        self._owner.check(code, f"port rate {rate}")

    @staticmethod
    def _number(what: str, value: int, limit: int) -> int:
        if not 0 <= value < limit:
            raise DataplaneError(Code.INVALID, f"{what} {value}: expected 0 to {limit - 1}")
        return value

    def _set(self, call: Callable[..., int], what: str, value: int, port: int | None, priority: int | None) -> None:
        *_, switch = self._owner.native
        number = _ALL if port is None else self._number("port", port, _PORTS)
        queue = _ALL if priority is None else self._number("priority", priority, PRIORITIES)
        self._owner.check(call(switch, number, queue, self._number(what, value, 1 << 32)), f"{what} {value}")

    def get(self, port: int, priority: int = 0) -> QueueStats | None:
        """One queue; None while the port has none."""
        ffi, library, switch = self._owner.native
        view = ffi.new("p4dp_queue_view *")
        code = library.p4dp_queue_get(
            switch, self._number("port", port, _PORTS), self._number("priority", priority, PRIORITIES), view
        )
        if code == Code.NOT_FOUND:
            return None
        self._owner.check(code, f"queue {port}:{priority}")
        names = [name for name in QueueStats.__dataclass_fields__ if name not in ("port", "priority")]
        return QueueStats(port=port, priority=priority, **{name: getattr(view, name) for name in names})

    def used(self) -> list[QueueStats]:
        """Every queue that a packet has come to so far."""
        found = [self.get(port, priority) for port in range(_PORTS) for priority in range(PRIORITIES)]
        return [q for q in found if q is not None and (q.enqueued or q.dropped)]
