"""What the switch must do with a frame, written from docs/protocol.md (What the switch does with a frame) and nothing else.

An independent oracle: it shares no code with the P4 program or its compiler.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

COMPUTE, MEMORY = 1, 2
PERMISSION, UNMAPPED, FENCED, ELEMENT_FAILED, STALE, BAD_REQUEST = 2, 1, 3, 4, 6, 7
BY_ELEMENT, RETRY, CACHED = 2, 8, 16
HEADER = struct.Struct("!BBBBHHHHIQQQ")
CPU_PORT = 510


@dataclass
class Rack:
    """The switch's tables."""

    ports: dict[int, tuple[int, int, bool]] = field(default_factory=dict)  # port: element, kind, fenced
    bindings: set[tuple[int, int]] = field(default_factory=set)
    translations: dict[tuple[int, int], tuple[int, int] | None] = field(
        default_factory=dict
    )  # (va, prefix): element, offset; None: unmapped
    protections: dict[tuple[int, int, int], tuple[int, int] | None] = field(default_factory=dict)  # None: deny
    alive: dict[int, int] = field(default_factory=dict)  # memory element: port
    routes: dict[int, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Decision:
    """Verdict (index of the counter), and the frame that leaves: port and bytes; no port when it is dropped."""

    verdict: int
    port: int | None = None
    frame: bytes = b""


def mac(element: int) -> bytes:
    return b"\x02\x00\x00\x00" + element.to_bytes(2, "big")


def longest(table: dict, key) -> object:
    """The value of the longest prefix that contains the address; KeyError on a miss."""
    for length in range(64, -1, -1):
        mask = ((1 << length) - 1) << (64 - length)
        if key(mask, length) in table:
            return table[key(mask, length)]
    raise KeyError


def decide(rack: Rack, port: int, frame: bytes) -> Decision:
    """The decision on one frame."""
    if port == CPU_PORT:
        if len(frame) < 2:
            return Decision(39)
        return Decision(3, int.from_bytes(frame[:2], "big") >> 7, frame[2:])
    if len(frame) < 14 or frame[12:14] != b"\x88\xb5":
        return Decision(32)
    if len(frame) < 54:
        return Decision(33)
    version, op, flags, status, _, dst, pid, length, generation, va, pa, request = HEADER.unpack_from(frame, 14)
    payload = frame[54:]
    if version != 1:
        return Decision(34)
    if port not in rack.ports:
        return Decision(35)
    element, kind, fenced = rack.ports[port]

    def to_controller() -> Decision:
        header = HEADER.pack(version, op, flags, status, element, dst, pid, length, generation, va, pa, request)
        packet_in = (port << 7).to_bytes(2, "big") + element.to_bytes(2, "big")
        return Decision(2, CPU_PORT, packet_in + frame[:14] + header + payload)

    def refuse(why: int) -> Decision:
        header = HEADER.pack(version, op | 0x80, 1, why, 0, element, pid, length, 0, va, 0, request)
        return Decision(16 + why, port, mac(element) + mac(0) + b"\x88\xb5" + header)

    if op & 0x80:
        if dst == 0 and (kind == MEMORY or op == 0xC2):
            return to_controller()
        if kind != MEMORY:
            return Decision(36)
        if fenced:
            return Decision(40)
        if dst not in rack.routes:
            return Decision(38)
        heard = flags & BY_ELEMENT
        header = HEADER.pack(version, op, heard, status, element, dst, pid, length, generation, va, pa, request)
        return Decision(1, rack.routes[dst], mac(dst) + mac(element) + b"\x88\xb5" + header + payload)
    if op in (0x20, 0x2F):
        return to_controller()
    if kind == MEMORY:
        return Decision(37)
    if fenced:
        return refuse(FENCED)
    if (element, pid) not in rack.bindings:
        return refuse(PERMISSION)
    if 0x20 <= op < 0x40:
        return to_controller()
    carried = {1: 0, 2: length, 3: 16, 4: 8, 5: 0}
    needs = {1: 1, 2: 2, 3: 3, 4: 3, 5: 1}
    well_formed = op in carried and 0 < length <= 4096 and va % 4096 + length <= 4096
    well_formed = well_formed and (op in (1, 2, 5) or (length == 8 and va % 8 == 0))
    if not well_formed or len(payload) < carried[op] or len(frame) > 14 + 40 + 4096:
        return refuse(BAD_REQUEST)
    cached = flags & CACHED
    try:
        place = longest(rack.translations, lambda mask, n: (va & mask, n))
        if place is None:
            return refuse(UNMAPPED)
        target, new_pa = place[0], (va + place[1]) % (1 << 64)
        if cached and (target, new_pa) != (dst, pa):
            return refuse(STALE)
    except KeyError:
        if not cached:
            return refuse(UNMAPPED)
        target, new_pa = dst, pa
    try:
        grant = longest(rack.protections, lambda mask, n: (pid, va & mask, n))
    except KeyError:
        grant = None
    if grant is None or grant[0] & needs[op] != needs[op]:
        return refuse(PERMISSION)
    if cached and generation != grant[1]:
        return refuse(STALE)
    if target not in rack.alive:
        return refuse(ELEMENT_FAILED)
    kept = flags & (RETRY | CACHED)
    header = HEADER.pack(version, op, kept, status, element, target, pid, length, grant[1], va, new_pa, request)
    return Decision(0, rack.alive[target], mac(target) + mac(element) + b"\x88\xb5" + header + payload)
