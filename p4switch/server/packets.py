"""Packet-in and packet-out (specification, "Packet I/O"): metadata as the header in front of a frame, and back."""

from __future__ import annotations

from finsy.proto import p4r

from p4switch.server import values
from p4switch.server.errors import invalid
from p4switch.server.roles import Item
from p4switch.server.schema import HeaderInfo


def pack(header: HeaderInfo | None, packet: p4r.PacketOut) -> bytes:
    """The frame of a packet-out. Fields named ``pad`` may be left out. Raises P4RuntimeError."""
    if header is None:
        if packet.metadata:
            raise invalid("the program has no packet_out header: packet-out cannot carry metadata")
        return bytes(packet.payload)
    given: dict[int, bytes] = {}
    for metadata in packet.metadata:
        if metadata.metadata_id in given:
            raise invalid(f"packet-out has metadata {metadata.metadata_id} twice")
        given[metadata.metadata_id] = metadata.value
    number = 0
    for metadata_id, name, width in header.fields:
        if metadata_id not in given and not name.startswith(("pad", "_pad")):
            raise invalid(f"packet-out needs metadata {metadata_id} ({name})")
        value = values.decode(given.pop(metadata_id, b"\0"), width, f"packet-out metadata {name}")
        number = number << width | value
    if given:
        known = ", ".join(f"{n} ({name})" for n, name, _ in header.fields)
        raise invalid(f"packet-out has no metadata {min(given)}; it has {known}")
    return number.to_bytes(header.size, "big") + bytes(packet.payload)


def unpack(header: HeaderInfo | None, frame: bytes) -> tuple[p4r.PacketIn, dict[Item, int]]:
    """The packet-in of a frame, and its metadata by id and by name."""
    if header is None or len(frame) < header.size:
        return p4r.PacketIn(payload=frame), {}
    packet = p4r.PacketIn(payload=frame[header.size :])
    number = int.from_bytes(frame[: header.size], "big")
    shift = header.size * 8
    found: dict[Item, int] = {}
    for metadata_id, name, width in header.fields:
        shift -= width
        value = number >> shift & ((1 << width) - 1)
        packet.metadata.add(metadata_id=metadata_id, value=values.encode(value))
        found[metadata_id] = found[name] = value
    return packet, found
