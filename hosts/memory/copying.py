"""Pages that go from one memory element to another: what the source sends, and what the target makes of it.

The controller has taken the pages from everybody at the source (PT_CLEAR with a fresh generation) and says COPY to it until it
says something else; each time all pages are sent, one a frame, and what is known of their owner's requests. The target was told
which frames to expect (RECEIVE), and answers when all have come: only then do the pages belong to anybody there. Each page
says for itself whether it still waits: once it has the new generation, or a later one, nothing that comes late touches it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from protocol import wire
from protocol.wire import PAGE_SHIFT, PAGE_SIZE, Op, Perm, Status

if TYPE_CHECKING:
    from hosts.memory.element import MemoryElement

_COPIED = Op.COPY | wire.REPLY


@dataclass
class _Transfer:
    """Pages that an element waits for."""

    source: int
    va: int
    pa: int
    pages: int
    pid: int
    permissions: int
    generation: int
    missing: set[int]  # pages by their number in the transfer; the number behind the last is that of the outcomes
    asked: bytes  # RECEIVE itself


class Copying:
    """The part of a memory element that sends pages to others and receives some from them."""

    def __init__(self, element: MemoryElement):
        self._element = element
        self._transfers: dict[int, _Transfer] = {}  # by the request id of RECEIVE
        self.send: Callable[[bytes], None] | None = None  # to the switch

    def copy(self, va: int, pa: int, generation: int, frame: bytes) -> Status | None:
        """COPY: send pages that nobody has any more, in the generation that took them away. Anything else is not sent: the
        PT_CLEAR may come still. There is no reply but a refusal; the target's to RECEIVE ends it."""
        me = self._element
        if len(frame) < wire.FRAME_OVERHEAD + wire.COPY_ARGS.size:
            return Status.BAD_REQUEST
        pages, target, pid, transfer, epoch, incarnation = wire.COPY_ARGS.unpack_from(frame, wire.FRAME_OVERHEAD)
        if not me.table.in_range(pa, pages):
            return Status.BAD_REQUEST
        if incarnation != me.incarnation or not me.table.adopt(epoch):
            return Status.STALE_GENERATION
        first = pa >> PAGE_SHIFT
        if self.send is None or not me.table.taken(first, pages, generation):
            me.counts["COPY of pages that were not taken away"] += 1
            return None
        header = wire.Header(_COPIED, dst=target, pid=pid, generation=generation, request_id=transfer)
        addresses = wire.element_mac(target) + wire.element_mac(me.element) + wire.ETHERTYPE.to_bytes(2, "big")
        parts = [bytes(me.memory[at : at + PAGE_SIZE]) for at in range(pa, pa + pages * PAGE_SIZE, PAGE_SIZE)]
        if pid:
            parts.append(me.export_outcomes(pid))
        for number, part in enumerate(parts):
            fields = header._replace(va=va + number * PAGE_SIZE, pa=number, length=len(part))
            self.send(addresses + fields.pack() + part)
        me.counts["pages sent to other elements"] += pages
        return None

    def receive(self, va: int, pa: int, generation: int, request_id: int, frame: bytes) -> Status | None:
        """RECEIVE: wait for pages. None until all have come."""
        table = self._element.table
        if len(frame) < wire.FRAME_OVERHEAD + wire.RECEIVE_ARGS.size:
            return Status.BAD_REQUEST
        arguments = wire.RECEIVE_ARGS.unpack_from(frame, wire.FRAME_OVERHEAD)
        pages, pid, source, permissions, epoch, incarnation = arguments
        if not table.in_range(pa, pages) or va & 0xFFF or permissions & ~int(Perm.RW):
            return Status.BAD_REQUEST
        if incarnation != self._element.incarnation or not table.adopt(epoch):
            return Status.STALE_GENERATION
        if not any(table.outdated(pa, pages, generation)):
            return Status.OK  # all came before, or something newer has been said of the pages
        for number, other in list(self._transfers.items()):
            if not any(table.outdated(other.pa, other.pages, other.generation)):
                del self._transfers[number]
        if request_id not in self._transfers:
            missing = set(range(pages + (pid != wire.LOCAL_OS_PID)))
            rights = pid, permissions, generation
            self._transfers[request_id] = _Transfer(source, va, pa, pages, *rights, missing, frame)
        return None

    def arrived(self, header: wire.Header, payload: bytes) -> bytes | None:
        """A part of a transfer: the answer to RECEIVE when it was the last one."""
        me = self._element
        transfer = self._transfers.get(header.request_id)
        number, payload = header.pa, payload[: header.length]
        if transfer is None or header.src != transfer.source or len(payload) != header.length:
            me.counts["parts of transfers that nobody waits for"] += 1
            return None
        if number not in transfer.missing:
            return None
        if number < transfer.pages:
            at = transfer.pa + number * PAGE_SIZE
            if len(payload) != PAGE_SIZE or me.table.generation[at >> PAGE_SHIFT] >= transfer.generation:
                return None
            me.memory[at : at + PAGE_SIZE] = payload
        else:
            try:
                me.import_outcomes(transfer.pid, payload)
            except ValueError:
                return None
        transfer.missing.discard(number)
        if transfer.missing:
            return None
        del self._transfers[header.request_id]
        for part, count in list(me.table.outdated(transfer.pa, transfer.pages, transfer.generation)):
            if transfer.permissions:
                va = transfer.va + part - transfer.pa
                me.table.set(part, count, va, transfer.pid, transfer.permissions, transfer.generation)
            else:
                me.table.clear(part, count, transfer.generation)
        me.counts["pages received from other elements"] += transfer.pages
        asked = wire.Header.unpack(transfer.asked, 14)
        answer = asked._replace(op=Op.RECEIVE | wire.REPLY, src=me.element, dst=asked.src)
        return transfer.asked[6:12] + transfer.asked[:6] + transfer.asked[12:14] + answer.pack()
