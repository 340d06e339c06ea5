"""Frames over TCP: four bytes of length, then as many bytes of MessagePack. The one who dials says first who it is."""

from __future__ import annotations

import asyncio
import socket
import struct

import msgspec
from msgspec import Struct

_LENGTH = struct.Struct("!I")
MAX_FRAME = 16 << 20


class Hello(Struct, frozen=True, array_like=True):
    """The first frame of a connection. ``replica`` is the dialler's identity, 0 for a client; ``incarnation`` is another one when
    another process goes on as this replica; ``addresses`` are where it can be reached, if it knows."""

    replica: int
    incarnation: int = 0
    addresses: tuple[str, ...] = ()


class FrameError(ConnectionError):
    """What came is no frame."""


encode = msgspec.msgpack.Encoder().encode
decode_hello = msgspec.msgpack.Decoder(Hello).decode


def pack(data: bytes) -> bytes:
    """A frame."""
    return _LENGTH.pack(len(data)) + data


async def read(reader: asyncio.StreamReader) -> bytes:
    """The next frame's contents. Raises FrameError, or IncompleteReadError at the end."""
    (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
    if length > MAX_FRAME:
        raise FrameError(f"a frame of {length} bytes; at most {MAX_FRAME} are possible")
    return await reader.readexactly(length)


def parse_address(text: str) -> tuple[str, int]:
    """``host:port``. Raises ValueError."""
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise ValueError(f"{text!r} is no address; expected HOST:PORT with a port up to 65535")
    return host, int(port)


async def dial(address: str, timeout: float, silence: float = 1.0) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection, made within ``timeout`` seconds. It breaks when what is sent is not acknowledged for ``silence`` seconds.
    Raises OSError, TimeoutError."""
    host, port = parse_address(address)
    reader, writer = await asyncio.wait_for(asyncio.open_connection(host, port), timeout)
    sock: socket.socket = writer.get_extra_info("socket")
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(silence * 1000))
    return reader, writer
