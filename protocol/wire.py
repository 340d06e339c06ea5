"""The rmem wire format as constants and precompiled structs, for hot paths. ``docs/protocol.md`` explains it.

The same header is defined for people in ``p4src/headers.p4`` and, for tests and tools, as Scapy layers in
``protocol/layers.py``; a test holds the three against each other.
"""

from __future__ import annotations

import enum
import struct
from typing import NamedTuple

ETHERTYPE = 0x88B5  # IEEE 802 local experimental EtherType 1
VERSION = 1

PAGE_SIZE = 4096
PAGE_SHIFT = 12
VA_BITS = 64
PID_SHIFT = 48  # the top 16 bits of a VA name the process that allocated it
MAX_PID = 0xFFFF
NAME_BYTES = 32  # of a process or element, UTF-8, zero padded
MAX_GENERATION = 0xFFFFFFFF
LOCAL_OS_PID = 0  # the local OS of an element speaks with this process id
CONTROLLER_ELEMENT = 0  # element id of the controller
MAX_ELEMENT = 1023  # the largest element id (size of the switch's per-element counters)

REPLY = 0x80  # a reply carries op | REPLY


class Op(enum.IntEnum):
    """Operations. Requests are below 0x80."""

    # data path: compute element -> memory element
    READ = 0x01
    WRITE = 0x02
    CAS = 0x03
    FETCH_ADD = 0x04
    CHECKSUM = 0x05
    # control: element -> controller, through the switch's packet-in
    HELLO = 0x20
    PROCESS_CREATE = 0x21
    PROCESS_EXIT = 0x22
    ALLOC = 0x23
    FREE = 0x24
    GRANT = 0x25
    STEAL = 0x26
    PROTECT = 0x27
    STAT = 0x28
    TRANSLATE = 0x29
    PROCESS_LIST = 0x2D  # of the local OS: which processes the controller knows on this element
    TAKE_ADDRESS = 0x2E
    WATCH = 0x2A
    UNWATCH = 0x2B
    RANGES = 0x2C
    HEARTBEAT = 0x2F
    MIGRATE = 0x30
    REVOKE = 0x31
    FENCE = 0x32
    # control: controller -> element, through the switch's packet-out
    PT_SET = 0x40
    PT_CLEAR = 0x41
    NOTIFY = 0x42
    BARRIER = 0x43
    POISON = 0x44
    COPY = 0x45  # its "reply" goes to another memory element: a page
    RECEIVE = 0x46


DATA_OPS = frozenset({Op.READ, Op.WRITE, Op.CAS, Op.FETCH_ADD, Op.CHECKSUM})
CONTROL_OPS = frozenset(
    {
        Op.HELLO,
        Op.PROCESS_CREATE,
        Op.PROCESS_EXIT,
        Op.PROCESS_LIST,
        Op.ALLOC,
        Op.FREE,
        Op.GRANT,
        Op.STEAL,
        Op.PROTECT,
        Op.STAT,
        Op.MIGRATE,
        Op.REVOKE,
        Op.FENCE,
        Op.TRANSLATE,
        Op.TAKE_ADDRESS,
        Op.WATCH,
        Op.UNWATCH,
        Op.RANGES,
        Op.HEARTBEAT,
    }
)


class Status(enum.IntEnum):
    """Outcome of a request. Everything but OK is a refusal; who refused is in the flags."""

    OK = 0
    UNMAPPED = 1
    PERMISSION = 2
    FENCED = 3
    ELEMENT_FAILED = 4
    PAGE_FAILED = 5
    STALE_GENERATION = 6
    BAD_REQUEST = 7
    BUSY = 8
    OUT_OF_MEMORY = 9  # control requests only, as all below
    NOT_FOUND = 10
    NOT_REASSIGNABLE = 11  # the memory was allocated so that nobody may take it
    BAD_CAPABILITY = 12  # a forged token, too few or wrong shares, or of another group
    EXPIRED_CAPABILITY = 13
    NO_SUCH_PROCESS = 14
    MEMORY_LOST = 15  # its element restarted without contents


class Flag(enum.IntFlag):
    """Header flags."""

    BY_SWITCH = 0x01  # in a refusal: made by the switch
    BY_ELEMENT = 0x02  # in a refusal: made by the memory element
    BY_CONTROLLER = 0x04  # in a refusal: made by the controller
    RETRY = 0x08  # in a request: a retransmission
    CACHED = 0x10  # in a data request: dst, pa and generation are a translation that the requester has cached


class Perm(enum.IntFlag):
    """Permissions of a mapping."""

    READ = 0x1
    WRITE = 0x2
    RW = 0x3


class NotifyCode(enum.IntEnum):
    """What a NOTIFY tells."""

    ELEMENT_FAILED = 1
    REVOKED = 2
    FENCED = 3
    ELEMENT_RECOVERED = 4
    GRANTED = 5  # the process has got these pages; `element` is the pid that gave them
    STOLEN = 6  # the process has lost these pages; `element` is the pid that took them
    MEMORY_LOST = 7  # the element came back without contents
    MOVED = 8  # the pages have a new place or generation: forget what is cached of them
    TAKEOVER = 9  # a process that is watched is cut off for good; `element` is its pid, `pages` what may be stolen
    PAGE_FAILED = 10  # these pages cannot be accessed any more


class AllocFlag(enum.IntFlag):
    """Flags of ALLOC, below the group in bits 8 to 31."""

    NOT_REASSIGNABLE = 0x01
    DRAM = 0x02  # at most one of these two
    NVM = 0x04
    CACHED = 0x08  # who uses it caches its translations: the switch keeps none


class Placement(enum.IntEnum):
    """Where memory is taken from, for those who have a wish."""

    DEFAULT = 0  # the controller's
    BALANCE = 1
    BEST_FIT = 2
    FIRST_FIT = 3
    LOCALITY = 4
    WORST_FIT = 5


class HintFlag(enum.IntFlag):
    """Of ALLOC_HINT."""

    STRICT = 0x01  # there or nowhere


GROUP_SHIFT = 8
MAX_GROUP = (1 << 24) - 1


ETHERNET = struct.Struct("!6s6sH")
HEADER = struct.Struct("!BBBBHHHHIQQQ")
HEADER_SIZE = HEADER.size
FRAME_OVERHEAD = ETHERNET.size + HEADER.size
MAX_FRAME = FRAME_OVERHEAD + PAGE_SIZE
assert HEADER_SIZE == 40

CAS_ARGS = struct.Struct("!QQ")  # expected, desired; the reply carries the old value
WORD = struct.Struct("!Q")  # FETCH_ADD's addend, and the old value in its and CAS's reply


class Header(NamedTuple):
    """An rmem header. Integers in host order; ``pa``, ``generation`` and ``src`` are written by the switch."""

    op: int
    flags: int = 0
    status: int = 0
    src: int = 0
    dst: int = 0
    pid: int = 0
    length: int = 0
    generation: int = 0
    va: int = 0
    pa: int = 0
    request_id: int = 0
    version: int = VERSION

    def pack(self) -> bytes:
        """The 40 bytes on the wire."""
        return HEADER.pack(
            self.version,
            self.op,
            self.flags,
            self.status,
            self.src,
            self.dst,
            self.pid,
            self.length,
            self.generation,
            self.va,
            self.pa,
            self.request_id,
        )

    @classmethod
    def unpack(cls, data: bytes | memoryview, offset: int = 0) -> Header:
        """Read a header; raises ``struct.error`` when fewer than 40 bytes are left."""
        version, op, flags, status, src, dst, pid, length, generation, va, pa, request_id = HEADER.unpack_from(
            data, offset
        )
        return cls(op, flags, status, src, dst, pid, length, generation, va, pa, request_id, version)


# Payloads of control messages, behind the header.
HELLO_ARGS = struct.Struct("!BBHIQQ")  # kind, media, reserved, reserved, capacity in pages, incarnation
HELLO_REPLY = struct.Struct("!HHI")  # element id, heartbeat interval in ms, reserved
PROCESS_CREATE_ARGS = struct.Struct("!32s")  # name, UTF-8, zero padded; the reply's va is the pid
PROCESS_EXIT_ARGS = struct.Struct("!B7x")  # 1: it ended without closing (crashed); the payload may be left out
LISTED = struct.Struct("!H")  # the reply to PROCESS_LIST: pids from header.va on, in order, at most MOST_LISTED
MOST_LISTED = 1024
ALLOC_ARGS = struct.Struct("!QII")  # bytes, permissions (Perm), flags (AllocFlag, group << GROUP_SHIFT)
# Behind ALLOC_ARGS, may be left out: near which address (0: none), Placement, HintFlag, name of an element (UTF-8, zero padded)
ALLOC_HINT = struct.Struct("!QBB6x32s")
ALLOC_REPLY = struct.Struct("!QQII")  # va, bytes (rounded up to pages), generation, reserved
FREE_ARGS = struct.Struct("!QQ")  # va, bytes (0: the whole allocation that starts at va)
GRANT_ARGS = struct.Struct("!QHBx4x")  # pages, the pid that gets them, permissions; va in the header
STEAL_ARGS = struct.Struct("!QHBxI")  # pages, the pid that loses them, permissions, group; protocol.capability follows
PROTECT_ARGS = struct.Struct("!QB7x")  # pages, permissions
# pages alike from va on, generation, owner, element, group, permissions, media
STAT_REPLY = struct.Struct("!QIHHIBBxx")
# pages alike from the reply's va on, physical address, generation, element, permissions
TRANSLATE_REPLY = struct.Struct("!QQIHBx")
# IPv4 address, group; protocol.capability follows, unless nobody has the address
TAKE_ADDRESS_ARGS = struct.Struct("!II")
# the pid to watch (0: every one with memory of the group), group; protocol.capability follows
WATCH_ARGS = struct.Struct("!H2xI")
RANGES_ARGS = struct.Struct("!H2xI")  # pid, group; from which address on in the header
RANGES_REPLY = struct.Struct("!QI4x")  # where to go on (0: nowhere), count; so many RANGE follow
RANGE = struct.Struct("!QQ")  # va, pages
MAX_RANGES = (PAGE_SIZE - RANGES_REPLY.size) // RANGE.size
HEARTBEAT_ARGS = struct.Struct("!I4x")  # the sender's present interval in ms; the payload may be left out
MIGRATE_ARGS = struct.Struct("!QH6x")  # pages, the element that gets them (0: the controller chooses); va in the header
REVOKE_ARGS = struct.Struct("!Q")  # pages; va in the header
# 1 to fence, 0 to let in again, name of the element (UTF-8, zero padded); the token of an operator follows, as text
FENCE_ARGS = struct.Struct("!B7x32s")
# pages, the element that gets them, whose outcomes go with them (pid, 0: nobody's), id of its RECEIVE, epoch, incarnation
COPY_ARGS = struct.Struct("!IHHQII")
# pages, pid (0: nobody), the element that sends them, permissions, epoch, incarnation
RECEIVE_ARGS = struct.Struct("!IHHBxxxII")
POISON_ARGS = struct.Struct("!IB3x")  # pages, 1 to mark them bad and 0 to heal them
PT_ARGS = struct.Struct("!IHBBII")  # pages, pid, permissions, zero (0/1), epoch, incarnation (low 32 bits)
NOTIFY_ARGS = struct.Struct("!BBHIQQ")  # NotifyCode, reserved, element, group (TAKEOVER; else 0), va, pages


class ElementKind(enum.IntEnum):
    """Kinds of elements, as in HELLO and in the switch's `element` table."""

    COMPUTE = 1
    MEMORY = 2


class Media(enum.IntEnum):
    """What a memory element is made of; NONE for compute elements."""

    NONE = 0
    DRAM = 1
    NVM = 2


def element_mac(element: int) -> bytes:
    """The MAC address of an element's port on the Rack MMU (locally administered, element id in the last two bytes)."""
    return b"\x02\x00\x00\x00" + element.to_bytes(2, "big")


def mac_text(mac: bytes) -> str:
    """``02:00:00:00:00:01`` notation."""
    return mac.hex(":")


def va_owner(va: int) -> int:
    """The pid that allocated this address (top 16 bits)."""
    return va >> PID_SHIFT
