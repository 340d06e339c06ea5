"""The data plane from Python: load a program, change its tables, send and receive packets, wait for events.

A thin typed layer over ``include/p4dp.h``. Calls block for at most one batch of packets and release the GIL; every method may be
called from any thread. ``Switch.event`` is meant for one thread that does nothing else.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from p4switch.dataplane.externs import Externs
from p4switch.dataplane.layout import Layout
from p4switch.dataplane.native import CData, read_layout
from p4switch.dataplane.queues import Queues, QueueStats
from p4switch.dataplane.records import (
    DROP_PORT,
    Code,
    DataplaneError,
    Entry,
    EntryKind,
    Event,
    EventKind,
    MeterConfig,
    Op,
    Output,
    Replica,
    Result,
    Stats,
    Update,
)
from p4switch.dataplane.updates import Batch

__all__ = [
    "DROP_PORT",
    "Code",
    "DataplaneError",
    "Entry",
    "EntryKind",
    "Event",
    "EventKind",
    "MeterConfig",
    "Op",
    "Output",
    "QueueStats",
    "Replica",
    "Result",
    "Stats",
    "Switch",
    "Update",
]

NO_PORT = 0xFFFFFFFF
_MESSAGE = 1024
_PACKET = 65536
_EVENT = 65536


class Switch(Externs):
    """One switch. Use it as a context manager or call :meth:`close`.

    ``cpu_port`` is the port whose frames become packet-in events (None: there is none). ``seed`` 0 seeds random numbers and hash
    tables from the system.
    """

    def __init__(self, *, cpu_port: int | None = None, drop_port: int = DROP_PORT, seed: int = 0):
        super().__init__(NO_PORT if cpu_port is None else cpu_port, drop_port, seed)
        # Pointers into tables are good until the next change; the lock keeps changes away while they are copied.
        self._lock = threading.RLock()
        self._closing = threading.Condition()
        self._waiting = 0
        self._key_sizes: list[int] = []
        self._packet = self._ffi.new("uint8_t[]", _PACKET)
        self._event_buffer = threading.local()
        self.cpu_port = cpu_port
        self.queues = Queues(self)

    # ------------------------------------------------------------------------------------------------ life cycle

    def close(self) -> None:
        """Stop, and free everything. Threads in :meth:`event` return first; other calls must have ended."""
        with self._closing:
            if not self._handle:
                return
            handle, self._handle = self._handle, None
            while self._waiting > 0:
                self._lib.p4dp_event_wake(handle)
                self._closing.wait(0.05)
        self._lib.p4dp_destroy(handle)

    def __enter__(self) -> Switch:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _check_file(self, code: int, what: str) -> None:
        if code == Code.IO and self._ffi.errno:
            raise DataplaneError(Code.IO, f"{what}: {os.strerror(self._ffi.errno)}")
        self._check(code, what)

    def load(self, shared_object: Path) -> Layout:
        """Load a program (replacing the running one between two batches of packets) and return its layout."""
        message = self._ffi.new("char[]", _MESSAGE)
        with self._lock:
            code = self._lib.p4dp_load(self._switch, str(shared_object).encode(), message, _MESSAGE)
            self._check(code, "load", message)
            return self._adopt_layout(read_layout(self._lib.p4dp_program(self._switch)))

    def adopt(self, other: Switch) -> Layout:
        """Take over the program of another switch with all its state, between two batches; the other is left without."""
        with self._lock, other._lock:
            layout, other._layout = other.layout, None
            self._check(self._lib.p4dp_adopt(self._switch, other._switch), "adopt")
            return self._adopt_layout(layout)

    def _adopt_layout(self, layout: Layout) -> Layout:
        self._layout = layout
        self._key_sizes = [t.keys.size for t in layout.tables.values()]
        return layout

    # ------------------------------------------------------------------------------------------------ packet I/O

    def add_port(self, port: int, interface: str, *, xdp: bool = False) -> str | None:
        """Attach a network interface to a port. ``xdp``: on AF_XDP, or AF_PACKET where that is impossible; returns why."""
        message = self._ffi.new("char[]", _MESSAGE)
        code = self._lib.p4dp_port_add(self._switch, port, interface.encode(), xdp, message, _MESSAGE)
        self._check(code, f"port {port}@{interface}", message)
        return str(self._ffi.string(message).decode(errors="replace")) if xdp and code == 0 else None

    def remove_port(self, port: int) -> None:
        """Detach the interface of a port."""
        self._check(self._lib.p4dp_port_remove(self._switch, port), f"port {port}")

    def busy_poll(self, microseconds: int) -> None:
        """How long the data-plane thread looks for more frames before it sleeps; 0 (the default): sleep at once.

        It does so only while that pays: while frames keep coming within that time. Shortens round trips and costs CPU time.
        """
        self._check(self._lib.p4dp_busy_poll(self._switch, microseconds), "busy poll")

    def start(self) -> None:
        """Start the thread that serves the interfaces."""
        self._check(self._lib.p4dp_start(self._switch), "start")

    def stop(self) -> None:
        """Stop serving the interfaces; nothing happens if it was not started."""
        self._lib.p4dp_stop(self._switch)

    def set_time(self, nanoseconds: int) -> None:
        """For tests: the switch's time is this many nanoseconds since it was made, until the next call; it never goes back.

        Packets whose time comes leave their queues. Not possible while interfaces are served.
        """
        self._check(self._lib.p4dp_time_set(self._switch, nanoseconds), f"time {nanoseconds} ns")

    def inject(self, port: int, packet: bytes) -> None:
        """Run one packet through, with everything it causes, as if it had arrived on ``port``."""
        self._check(
            self._lib.p4dp_inject(self._switch, port, packet, len(packet)), f"packet of {len(packet)} B on port {port}"
        )

    def outputs(self) -> list[Output]:
        """The frames that left on ports without an interface since the last call, in order."""
        port = self._ffi.new("uint32_t *")
        found = []
        with self._lock:
            while (
                length := self._lib.p4dp_output_next(self._switch, port, self._packet, len(self._packet))
            ) != Code.NOT_FOUND:
                if length == Code.INVALID:
                    self._packet = self._ffi.new("uint8_t[]", 4 * len(self._packet))
                    continue
                found.append(Output(port[0], bytes(self._ffi.buffer(self._packet, length))))
        return found

    def process(self, port: int, packet: bytes) -> list[Output]:
        """:meth:`inject` and :meth:`outputs` in one."""
        self.inject(port, packet)
        return self.outputs()

    def packet_out(self, packet: bytes) -> None:
        """A frame from the controller: enters the pipeline on the CPU port."""
        self._check(self._lib.p4dp_packet_out(self._switch, packet, len(packet)), f"packet-out of {len(packet)} bytes")

    # ---------------------------------------------------------------------------------------------------- tables

    def apply(self, updates: Sequence[Update], *, all_or_none: bool = False) -> list[Result]:
        """Apply updates in order, between two batches of packets.

        With ``all_or_none`` the first failure takes back those before it; those after it get STATE.
        """
        sizes = self._key_sizes
        for update in updates:
            if update.op <= Op.DELETE and update.table < len(sizes):
                expected = sizes[update.table]
                if len(update.key) != expected or (update.mask is not None and len(update.mask) != expected):
                    raise ValueError(f"table {update.table}: keys have {expected} bytes, not {len(update.key)}")
            if update.kind == EntryKind.ACTION and update.op in (Op.INSERT, Op.MODIFY, Op.SET_DEFAULT):
                self._check_data(update.action, update.data)
        batch = Batch(self._ffi, updates)
        with self._lock:
            self._lib.p4dp_apply(self._switch, batch.array, batch.count, all_or_none)
        return [Result(Code(code), handle) for code, handle in batch.results()]

    @contextmanager
    def transaction(self) -> Iterator[Callable[[], Callable[[], None]]]:
        """No packet is processed inside. What it gives makes marks: calling a mark takes back the changes of tables after it.

        Other state is the caller's to put back, in reverse order. One thread's affair; it holds all other callers up.
        """
        with self._lock:
            self._check(self._lib.p4dp_begin(self._switch), "transaction")

            def mark() -> Callable[[], None]:
                at = self._lib.p4dp_mark(self._switch)
                return lambda: self._check(self._lib.p4dp_undo(self._switch, at), "undo")

            try:
                yield mark
            finally:
                self._lib.p4dp_end(self._switch)

    def _entry(self, view: CData, key_size: int) -> Entry:
        unpack = self._ffi.buffer
        kind = EntryKind(view.kind)
        size = self.layout.actions[view.action].params.size if kind == EntryKind.ACTION else 0
        return Entry(
            handle=view.handle,
            cookie=view.cookie,
            key=bytes(unpack(view.key, key_size)) if view.key else b"",
            mask=bytes(unpack(view.mask, key_size)) if view.mask else b"",
            priority=view.priority,
            kind=kind,
            action=view.action,
            data=bytes(unpack(view.data, size)),
            is_const=bool(view.is_const),
            packets=view.packets,
            bytes=view.bytes,
            idle_timeout_ns=view.idle_timeout_ns,
            since_hit_ns=view.since_hit_ns,
        )

    def _key_size(self, table: int) -> int:
        for candidate in self.layout.tables.values():
            if candidate.index == table:
                return candidate.keys.size
        raise DataplaneError(Code.INVALID, f"table {table}: the program has {len(self.layout.tables)}")

    def entries(self, table: int) -> Iterator[Entry]:
        """The entries of a table. Entries that come or go meanwhile may or may not be among them."""
        key_size = self._key_size(table)
        view = self._ffi.new("p4dp_entry_view *")
        handle = 0
        while True:
            with self._lock:
                code = self._lib.p4dp_entry_next(self._switch, table, handle, view)
                if code == Code.NOT_FOUND:
                    return
                self._check(code, f"table {table}")
                entry = self._entry(view, key_size)
            handle = entry.handle
            yield entry

    def find_entry(self, which: Update) -> Entry | None:
        """The entry with exactly this key, mask and priority."""
        key_size = self._key_size(which.table)
        if len(which.key) != key_size or (which.mask is not None and len(which.mask) != key_size):
            raise ValueError(f"table {which.table}: keys have {key_size} bytes, not {len(which.key)}")
        key = self._ffi.from_buffer("uint8_t[]", which.key)
        mask = self._ffi.NULL if which.mask is None else self._ffi.from_buffer("uint8_t[]", which.mask)
        update = self._ffi.new(
            "p4dp_update *", {"table": which.table, "key": key, "mask": mask, "priority": which.priority}
        )
        view = self._ffi.new("p4dp_entry_view *")
        with self._lock:
            code = self._lib.p4dp_entry_find(self._switch, update, view)
            if code == Code.NOT_FOUND:
                return None
            self._check(code, f"table {which.table}")
            return self._entry(view, key_size)

    def entry(self, table: int, handle: int) -> Entry | None:
        """The entry with this handle, if it is still there."""
        key_size = self._key_size(table)
        view = self._ffi.new("p4dp_entry_view *")
        with self._lock:  # handles hold their entry's place: the search for the next entry starts right there
            code = self._lib.p4dp_entry_next(self._switch, table, (handle - 1) & 0xFFFFFFFF, view)
            if code == Code.NOT_FOUND or view.handle != handle:
                return None
            self._check(code, f"table {table}")
            return self._entry(view, key_size)

    def default_entry(self, table: int) -> Entry:
        """The default entry of a table."""
        view = self._ffi.new("p4dp_entry_view *")
        with self._lock:
            self._check(self._lib.p4dp_default_get(self._switch, table, view), f"table {table}")
            return self._entry(view, 0)

    def entry_count(self, table: int) -> int:
        """Number of entries."""
        return int(self._lib.p4dp_entry_count(self._switch, table))

    def table_bytes(self, table: int) -> int:
        """Memory the table takes, in bytes."""
        return int(self._lib.p4dp_table_bytes(self._switch, table))

    def set_direct_counter(self, table: int, handle: int, packets: int, byte_count: int) -> None:
        """Write the direct counter of an entry."""
        code = self._lib.p4dp_direct_counter_set(self._switch, table, handle, packets, byte_count)
        self._check(code, f"direct counter of table {table}")

    # ------------------------------------------------------------------------- events, statistics, traces, bench

    def event(self, timeout: float | None = None) -> Event | None:
        """The next event within ``timeout`` seconds (None: for ever); None when there was none or :meth:`wake` was called."""
        buffer = getattr(self._event_buffer, "buffer", None)
        if buffer is None:
            buffer = self._event_buffer.buffer = self._ffi.new("uint8_t[]", _EVENT)
        event = self._ffi.new("p4dp_event *")
        with self._closing:
            switch = self._switch
            self._waiting += 1
        try:
            milliseconds = -1 if timeout is None else int(timeout * 1000)
            length = self._lib.p4dp_event_wait(switch, milliseconds, event, buffer, len(buffer))
            if length == Code.INVALID:
                buffer = self._ffi.new("uint8_t[]", event.length)
                length = self._lib.p4dp_event_wait(switch, milliseconds, event, buffer, len(buffer))
        finally:
            with self._closing:
                self._waiting -= 1
                self._closing.notify_all()
        if length < 0:
            return None
        data = bytes(self._ffi.buffer(buffer, length))
        return Event(EventKind(event.kind), event.index, event.cookie, event.handle, event.timestamp_ns, data)

    def wake(self) -> None:
        """Make threads that wait in :meth:`event` return None."""
        self._lib.p4dp_event_wake(self._switch)

    def _stats(self, view: CData) -> Stats:
        return Stats(**{name: getattr(view, name) for name in Stats.__dataclass_fields__})

    def stats(self) -> Stats:
        """Counters of the whole switch."""
        view = self._ffi.new("p4dp_stats_view *")
        self._check(self._lib.p4dp_stats(self._switch, view), "statistics")
        return self._stats(view)

    def port_stats(self, port: int) -> Stats:
        """Counters of a port."""
        view = self._ffi.new("p4dp_stats_view *")
        self._check(self._lib.p4dp_port_stats(self._switch, port, view), f"port {port}")
        return self._stats(view)

    def trace(self, file: Path | None, *, json: bool = False) -> None:
        """Write a trace of every packet to a file, for people or as one JSON object a line; None to stop."""
        name = self._ffi.NULL if file is None else str(file).encode()
        self._check_file(self._lib.p4dp_trace(self._switch, name, json), f"trace to {file}")

    def pcap(self, directory: Path | None) -> None:
        """Capture every port to ``port<N>.pcapng`` in an existing directory, None to stop."""
        name = self._ffi.NULL if directory is None else str(directory).encode()
        self._check_file(self._lib.p4dp_pcap(self._switch, name), f"captures to {directory}")

    def bench(self, port: int, packets: Sequence[bytes], rounds: int) -> float:
        """Seconds that ``rounds`` passes through the pipeline take, without I/O; the packets are taken in turn."""
        lengths = self._ffi.new("uint32_t[]", [len(packet) for packet in packets])
        nanoseconds = self._lib.p4dp_bench(self._switch, port, b"".join(packets), lengths, len(packets), rounds)
        self._check(nanoseconds, "bench")
        return float(nanoseconds) / 1e9
