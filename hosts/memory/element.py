"""What a memory element does with a frame: bytes in, bytes out, no I/O."""

from __future__ import annotations

import contextlib
import mmap
import zlib
from collections import Counter
from collections.abc import Callable

from hosts.memory.copying import Copying
from hosts.memory.dedup import Outcomes
from hosts.memory.durable import Durable
from hosts.memory.page_table import PageTable
from protocol import wire
from protocol.crash import CrashAt
from protocol.wire import Flag, Op, Perm, Status

_HEADER = wire.HEADER
_ETHERTYPE = wire.ETHERTYPE.to_bytes(2, "big")
_READ, _WRITE, _CAS, _ADD, _SUM = int(Op.READ), int(Op.WRITE), int(Op.CAS), int(Op.FETCH_ADD), int(Op.CHECKSUM)
_PT_SET, _PT_CLEAR, _BARRIER, _POISON = int(Op.PT_SET), int(Op.PT_CLEAR), int(Op.BARRIER), int(Op.POISON)
_COPY, _RECEIVE = int(Op.COPY), int(Op.RECEIVE)
_COPIED = _COPY | wire.REPLY
_FROM_CONTROLLER = (_PT_SET, _PT_CLEAR, _BARRIER, _POISON, _COPY, _RECEIVE)
_NEEDS = {
    _READ: int(Perm.READ),
    _SUM: int(Perm.READ),
    _WRITE: int(Perm.WRITE),
    _CAS: int(Perm.RW),
    _ADD: int(Perm.RW),
}
_WORD_MASK = (1 << 64) - 1
_BODY = wire.FRAME_OVERHEAD
FORGET_AFTER = (
    120.0  # seconds: TCP's assumption of how long a network may hold a packet; requesters give up long before
)
GIVEN_BACK_AT_ONCE = 16 << 20  # bytes: some milliseconds, in which heartbeats wait
_ZEROS = memoryview(bytes(256 * wire.PAGE_SIZE))  # zeroing a large range must not take as much memory again


class MemoryElement:
    """Pages, page table and request execution. ``memory`` is a writable buffer of ``table.pages`` pages; with ``durable`` it and
    what was done to it outlive this object."""

    def __init__(
        self,
        element: int,
        memory: memoryview,
        table: PageTable,
        incarnation: int = 0,
        durable: Durable | None = None,
    ):
        self.element = element
        self.incarnation = incarnation & 0xFFFFFFFF
        self.memory = memory
        self.table = table
        self.durable = durable
        if durable is not None:
            table.bad = durable.bad
            durable.redo(memory)
        self.outcomes: dict[int, Outcomes] = {}
        self.counts: Counter[str] = Counter()
        self._idle_since: dict[int, float] = {}
        self.copying = Copying(self)
        self.crash = CrashAt()  # counts a step before and one after each message of the controller
        self.on_reply: Callable[[wire.Header, bytes], None] | None = None  # replies to this element's own requests

    def handle(self, frame: bytes) -> bytes | None:
        """The reply to a frame; None for one that gets none (counted)."""
        if len(frame) < _BODY or frame[12:14] != _ETHERTYPE:
            self.counts["dropped: not an rmem frame"] += 1
            return None
        version, op, _, age, src, dst, pid, length, generation, va, pa, request_id = _HEADER.unpack_from(frame, 14)
        if version != wire.VERSION or (dst != self.element and op < wire.REPLY and op not in _FROM_CONTROLLER):
            self.counts["dropped: not for this element"] += 1
            return None
        if op == _COPIED:
            return self.copying.arrived(wire.Header.unpack(frame, 14), frame[_BODY:])
        if op & wire.REPLY:
            if self.on_reply is not None:
                self.on_reply(wire.Header.unpack(frame, 14), frame[_BODY:])
            return None
        status, payload = Status.BAD_REQUEST, b""
        if op in _NEEDS:
            status, payload = self._access(op, pid, va, pa, length, generation, request_id, age, frame)
        elif op in _FROM_CONTROLLER:
            if frame[6:12] != wire.element_mac(wire.CONTROLLER_ELEMENT):
                status = Status.PERMISSION
            else:
                self.crash.step()
                known = self._told(op, va, pa, generation, request_id, frame)
                self.crash.step()
                if known is None:
                    return None
                status = known
        self.counts[f"{_name(op)} {status.name}"] += 1
        flags = 0 if status is Status.OK else int(Flag.BY_ELEMENT)
        header = _HEADER.pack(
            version, op | wire.REPLY, flags, status, self.element, src, pid, length, generation, va, pa, request_id
        )
        # Back where it came from: the addresses change sides.
        return frame[6:12] + frame[0:6] + _ETHERTYPE + header + payload

    def _told(self, op: int, va: int, pa: int, generation: int, request_id: int, frame: bytes) -> Status | None:
        """What the controller alone may say; None if it is not answered (yet)."""
        if op == _POISON:
            return self._poison(pa, generation, frame)
        if op == _COPY:
            return self.copying.copy(va, pa, generation, frame)
        if op == _RECEIVE:
            return self.copying.receive(va, pa, generation, request_id, frame)
        if op == _BARRIER:  # frames are dealt with in order: what came before it is done
            return Status.OK
        return self._page_table(op, va, pa, generation, frame)

    def _access(
        self, op: int, pid: int, va: int, pa: int, length: int, generation: int, request_id: int, age: int, frame: bytes
    ) -> tuple[Status, bytes]:
        """READ, CHECKSUM, WRITE, CAS, FETCH_ADD: status and reply payload."""
        if not 0 < length <= wire.PAGE_SIZE or (pa & 0xFFF) + length > wire.PAGE_SIZE:
            return Status.BAD_REQUEST, b""
        if op in (_CAS, _ADD) and (length != 8 or pa & 7):
            return Status.BAD_REQUEST, b""
        if op in (_READ, _SUM):
            status = self.table.check(pid, va, pa, _NEEDS[op], generation)
            if status is not Status.OK:
                return status, b""
            if age:
                self._outcomes_of(pid).retire(request_id - age + 1)
            held = self.memory[pa : pa + length]
            return status, bytes(held) if op == _READ else wire.WORD.pack(zlib.crc32(held))
        outcomes = self._outcomes_of(pid)
        known = outcomes.recall(request_id)
        if known is not None:  # it took effect already, before whatever may have happened to the page since
            self.counts["repetitions answered from memory"] += 1
            return Status.OK, known
        if outcomes.is_forgotten(request_id):
            return Status.BAD_REQUEST, b""
        status = self.table.check(pid, va, pa, _NEEDS[op], generation)
        if status is not Status.OK:
            return status, b""
        if op == _WRITE:
            new, reply = frame[_BODY : _BODY + length], b""
            if len(new) != length:
                return Status.BAD_REQUEST, b""
        else:
            arguments = frame[_BODY:]
            if len(arguments) < (16 if op == _CAS else 8):
                return Status.BAD_REQUEST, b""
            new = reply = bytes(self.memory[pa : pa + 8])
            if op == _ADD:
                value = int.from_bytes(reply, "big") + int.from_bytes(arguments[:8], "big")
                new = (value & _WORD_MASK).to_bytes(8, "big")
            elif reply == arguments[:8]:
                new = arguments[8:16]
        if self.durable is None:
            self.memory[pa : pa + length] = new
            outcomes.remember(request_id, reply)
        else:
            self.durable.intend(pid, request_id, pa, new, reply)
            self.memory[pa : pa + length] = new
            outcomes.remember(request_id, reply)
            self.durable.done()
        if age:
            outcomes.retire(request_id - age + 1)
        return Status.OK, reply

    def _outcomes_of(self, pid: int) -> Outcomes:
        outcomes = self.outcomes.get(pid)
        if outcomes is None:
            outcomes = self.outcomes[pid] = Outcomes() if self.durable is None else self.durable.outcomes(pid)
        return outcomes

    def export_outcomes(self, pid: int, limit: int = wire.PAGE_SIZE) -> bytes:
        """What the element that gets pages of this process must know of its requests, so that none takes effect twice. To be
        asked for when none can take effect on those pages here any more."""
        return self._outcomes_of(pid).export(limit)

    def import_outcomes(self, pid: int, exported: bytes) -> None:
        """Take over what another element knows of this process's requests, before pages that were there are served here. Raises
        ValueError."""
        self._outcomes_of(pid).merge(exported)

    def tidy(self, now: float) -> None:
        """Forget processes that have had no page here and asked nothing for ``FORGET_AFTER``: by then nobody repeats a request,
        and no network holds a copy of one. To be called now and then; ``now`` in seconds of a clock that never goes back."""
        for pid, outcomes in list(self.outcomes.items()):
            if outcomes.touched or pid not in self._idle_since:
                outcomes.touched = False
                self._idle_since[pid] = now
            elif now - self._idle_since[pid] >= FORGET_AFTER:
                if self.table.owns(pid):
                    self._idle_since[pid] = now  # ask again later: this looks at every page
                else:
                    del self.outcomes[pid], self._idle_since[pid]
                    self.counts["processes forgotten"] += 1

    def _page_table(self, op: int, va: int, pa: int, generation: int, frame: bytes) -> Status:
        """PT_SET and PT_CLEAR from the controller. What is old news for a page is acknowledged and ignored for that page.

        What was meant for an earlier incarnation is refused: it may rest on pages that were lost with that one.
        """
        if len(frame) < _BODY + wire.PT_ARGS.size:
            return Status.BAD_REQUEST
        pages, pid, permissions, zero, epoch, incarnation = wire.PT_ARGS.unpack_from(frame, _BODY)
        if not self.table.in_range(pa, pages) or va & 0xFFF or permissions & ~int(Perm.RW):
            return Status.BAD_REQUEST
        if op == _PT_SET and pid == wire.LOCAL_OS_PID:
            return Status.BAD_REQUEST
        if incarnation != self.incarnation or not self.table.adopt(epoch):
            return Status.STALE_GENERATION
        for part, count in list(self.table.outdated(pa, pages, generation)):
            if zero:
                self._zero(part, count)
            if op == _PT_SET:
                self.table.set(part, count, va + part - pa, pid, permissions, generation)
            else:
                self.table.clear(part, count, generation)
        return Status.OK

    def _poison(self, pa: int, generation: int, frame: bytes) -> Status:
        """POISON: accesses to these pages fail from now on, or no longer. Their contents stay, for who heals them. Old news is
        acknowledged and ignored."""
        if len(frame) < _BODY + wire.POISON_ARGS.size:
            return Status.BAD_REQUEST
        pages, bad = wire.POISON_ARGS.unpack_from(frame, _BODY)
        if not self.table.in_range(pa, pages) or bad > 1:
            return Status.BAD_REQUEST
        self.table.judge(pa, pages, bool(bad), generation)
        return Status.OK

    def _zero(self, pa: int, pages: int) -> None:
        """Much at once is given back to the kernel, which gives zeros instead when it is touched: heartbeats must not wait. Nor
        for that: a call of madvise holds the interpreter's lock, so that it is done by pieces."""
        end = pa + pages * wire.PAGE_SIZE
        backing = self.memory.obj
        if end - pa >= len(_ZEROS) and isinstance(backing, mmap.mmap):
            with contextlib.suppress(OSError):  # a file system without holes
                for start in range(pa, end, GIVEN_BACK_AT_ONCE):
                    backing.madvise(mmap.MADV_REMOVE, start, min(GIVEN_BACK_AT_ONCE, end - start))
                return
        for start in range(pa, end, len(_ZEROS)):
            size = min(len(_ZEROS), end - start)
            self.memory[start : start + size] = _ZEROS[:size]


def _name(op: int) -> str:
    try:
        return Op(op).name
    except ValueError:
        return "unknown operation"
