"""A raw Ethernet socket on an element's port of the Rack MMU."""

from __future__ import annotations

import ctypes
import socket
import struct
from collections.abc import Sequence

from protocol import wire

ETH_P_RMEM = socket.htons(wire.ETHERTYPE)
SO_ATTACH_FILTER = 26
SO_RCVBUFFORCE = 33
SOL_PACKET = 263
PACKET_IGNORE_OUTGOING = 23
RECEIVE_BUFFER = 16 << 20  # bytes: room for a window of page replies while the process is not scheduled
MAX_FRAME = 9216


class LinkError(OSError):
    """The interface cannot be opened; the message says why."""


class Link:
    """Frames of EtherType 0x88B5 on one interface. ``accept`` is a classic BPF program (see :func:`bpf_for_process`)."""

    def __init__(self, interface: str, accept: Sequence[tuple[int, int, int, int]] = ()):
        try:
            self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        except PermissionError:
            raise LinkError("raw sockets need root (CAP_NET_RAW): run it with sudo") from None
        try:
            self.socket.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
            self.socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER)
            if accept:
                self.accept(accept)
            # Bound last: before that nothing is received, so no frame slips in ahead of the filter.
            self.socket.bind((interface, wire.ETHERTYPE))
        except OSError as error:
            self.socket.close()
            raise LinkError(f"interface {interface!r}: {error.strerror}") from None
        self.mac: bytes = self.socket.getsockname()[4]

    def accept(self, accept: Sequence[tuple[int, int, int, int]]) -> None:
        """Receive from now on only what this BPF program accepts."""
        program = b"".join(struct.pack("HBBI", *instruction) for instruction in accept)
        buffer = ctypes.create_string_buffer(program)
        self.socket.setsockopt(
            socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HxxxxxxP", len(accept), ctypes.addressof(buffer))
        )

    def send(self, frame: bytes) -> None:
        """Send one frame. A full queue or an interface that is down loses it, as a network would."""
        try:
            self.socket.send(frame)
        except (BlockingIOError, InterruptedError):
            pass
        except OSError as error:
            if error.errno not in (100, 105, 6, 19):  # ENETDOWN, ENOBUFS, ENXIO, ENODEV
                raise

    def receive(self, timeout: float | None) -> bytes | None:
        """The next frame; None when ``timeout`` seconds have passed (None waits for ever) or the interface is down."""
        self.socket.settimeout(timeout)
        try:
            return self.socket.recv(MAX_FRAME)
        except (TimeoutError, BlockingIOError):
            return None
        except OSError as error:
            if error.errno == 100:  # ENETDOWN
                return None
            raise

    def close(self) -> None:
        """Close the socket."""
        self.socket.close()


def frame(source: int, header: wire.Header, payload: bytes = b"", destination: int = wire.CONTROLLER_ELEMENT) -> bytes:
    """An Ethernet frame between elements (the switch writes both addresses anew)."""
    addresses = wire.element_mac(destination) + wire.element_mac(source)
    return addresses + wire.ETHERTYPE.to_bytes(2, "big") + header.pack() + payload


_LD_B, _LD_H, _JEQ, _JSET, _RET = 0x30, 0x28, 0x15, 0x45, 0x06
_OP_AT, _PID_AT = 14 + 1, 14 + 8
_ALL = 0xFFFFFFFF


def bpf_for_process(pid: int) -> list[tuple[int, int, int, int]]:
    """Accept only replies for this process."""
    return [
        (_LD_H, 0, 0, _PID_AT),
        (_JEQ, 0, 3, pid),
        (_LD_B, 0, 0, _OP_AT),
        (_JSET, 0, 1, wire.REPLY),
        (_RET, 0, 0, _ALL),
        (_RET, 0, 0, 0),
    ]


def bpf_for_local_os() -> list[tuple[int, int, int, int]]:
    """Accept replies for pid 0, and NOTIFY for any process."""
    return [
        (_LD_B, 0, 0, _OP_AT),
        (_JEQ, 3, 0, wire.Op.NOTIFY),
        (_JSET, 0, 3, wire.REPLY),
        (_LD_H, 0, 0, _PID_AT),
        (_JEQ, 0, 1, wire.LOCAL_OS_PID),
        (_RET, 0, 0, _ALL),
        (_RET, 0, 0, 0),
    ]
