"""What the controller says to elements, as frames: messages, replies and notices of the core in, bytes out."""

from __future__ import annotations

from controller.core.state import Message, Notice, Reply, State
from protocol import wire
from protocol.wire import Flag, Header, Op, Status


def _frame(element: int, header: Header, payload: bytes = b"") -> bytes:
    addresses = wire.element_mac(element) + wire.element_mac(wire.CONTROLLER_ELEMENT)
    header = header._replace(src=wire.CONTROLLER_ELEMENT, dst=element, length=len(payload))
    return addresses + wire.ETHERTYPE.to_bytes(2, "big") + header.pack() + payload


def of_message(message: Message, state: State) -> bytes:
    """A page-table change, bad pages, a barrier, or a part of a migration."""
    header = Header(message.op, generation=message.generation, va=message.va, pa=message.pa, request_id=message.id)
    if message.op == Op.BARRIER:
        return _frame(message.element, header)
    if message.op == Op.POISON:
        return _frame(message.element, header, wire.POISON_ARGS.pack(message.pages, message.permissions))
    incarnation = state.elements[message.element].incarnation & 0xFFFFFFFF
    epoch = state.counters.epoch
    if message.op == Op.COPY:
        rest = message.peer, message.pid, message.transfer, epoch, incarnation
        return _frame(message.element, header, wire.COPY_ARGS.pack(message.pages, *rest))
    if message.op == Op.RECEIVE:
        rest = message.pid, message.peer, message.permissions, epoch, incarnation
        return _frame(message.element, header, wire.RECEIVE_ARGS.pack(message.pages, *rest))
    payload = wire.PT_ARGS.pack(message.pages, message.pid, message.permissions, message.zero, epoch, incarnation)
    return _frame(message.element, header, payload)


def of_reply(reply: Reply) -> bytes:
    """The answer to a control request."""
    header = Header(
        reply.op | wire.REPLY,
        flags=0 if reply.status == Status.OK else Flag.BY_CONTROLLER,
        status=reply.status,
        pid=reply.pid,
        va=reply.va,
        request_id=reply.request_id,
    )
    return _frame(reply.element, header, reply.payload)


def of_notice(notice: Notice) -> bytes:
    """A notice for a process, through the local OS of its element."""
    payload = wire.NOTIFY_ARGS.pack(notice.code, 0, notice.about, notice.group, notice.va, notice.pages)
    return _frame(notice.element, Header(Op.NOTIFY, pid=notice.pid, request_id=notice.id), payload)
