"""What clients ask of the key-value service and what it answers; encoded with MessagePack."""

from __future__ import annotations

import enum

import msgspec
from msgspec import Struct


class Kind(enum.IntEnum):
    """Operations. OPEN makes a session; its ``number`` is any number by which the client knows the answer."""

    OPEN = 0
    GET = 1
    PUT = 2
    DELETE = 3
    CAS = 4


class Status(enum.IntEnum):
    """How an operation ended. From NOT_LEADER on: it has not been decided here, and may be elsewhere."""

    DONE = 0
    MISMATCH = 1  # CAS: the value is another one than expected
    ABSENT = 2  # GET, DELETE: there is no such key
    FULL = 3  # there is no room for it
    TOO_LARGE = 4  # key and value do not fit a page
    EXPIRED = 5  # the session is not known (any more): the operation may have been carried out before
    NOT_LEADER = 6
    STALE = 7  # the session has gone on to later operations


class Command(Struct, frozen=True, array_like=True):
    """An operation. Within a session numbers grow; the same number again is the same operation again. In CAS
    ``value`` None deletes and ``expected`` None expects that there is no such key."""

    session: int
    number: int
    kind: Kind
    key: bytes = b""
    value: bytes | None = None
    expected: bytes | None = None


class Answer(Struct, frozen=True, array_like=True):
    """To the command of this session and number. ``value`` is what GET found, ``opened`` the session that OPEN made, ``leader``
    where to go, if that is known."""

    session: int
    number: int
    status: Status
    value: bytes | None = None
    opened: int = 0
    leader: tuple[str, ...] = ()


encode = msgspec.msgpack.Encoder().encode
decode_command = msgspec.msgpack.Decoder(Command).decode
decode_answer = msgspec.msgpack.Decoder(Answer).decode
