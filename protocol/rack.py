"""A rack as data: elements, their ports and sizes. Topologies write it, controller, hosts and tests read it (JSON)."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Literal

import msgspec

from protocol import wire

# Addresses that processes take, and others take over from them, on the network of top-of-rack switches. Who has one answers
# to it, but is never asked for it by ARP: the switches answer, with a MAC that is the address's own and stays the same.
SERVICE_NETWORK = IPv4Network("10.0.255.0/24")
SERVICE_MAC_PREFIX = b"\x02\x53"


RUN_ROOT = Path("/run/rack-mmu")  # where running racks leave what is needed to reach and to remove them, by name


class RackError(ValueError):
    """The rack description is not valid."""


class Element(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A compute or memory element. ``id`` is rack-unique, 1 to 1023; ``port`` its port on the Rack MMU;
    ``pages`` a memory element's capacity in 4 KiB pages, 0 for compute elements."""

    name: str
    id: int
    kind: Literal["compute", "memory"]
    port: int
    media: Literal["none", "dram", "nvm"] = "none"
    pages: int = 0
    tor_port: int = 0  # compute elements: port on the top-of-rack switch
    ip: str = ""  # compute elements: address on the top-of-rack network, with prefix length

    @property
    def mac(self) -> str:
        """MAC address of the port on the Rack MMU."""
        return wire.mac_text(wire.element_mac(self.id))

    @property
    def tor_mac(self) -> str:
        """MAC address of the port on the top-of-rack switch; raises RackError when the element has none."""
        if not self.ip:
            raise RackError(f"{self.name} is not on the top-of-rack switch")
        return host_mac(IPv4Address(self.ip.split("/")[0]))


class Rack(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A rack: its elements and the Rack MMU switch. ``cpu_port`` is the switch's packet-in/out port."""

    name: str
    elements: tuple[Element, ...]
    device_id: int = 1
    cpu_port: int = 510
    mtu: int = 9000

    def element(self, name: str) -> Element:
        """The element of this name; raises RackError with the valid names."""
        for element in self.elements:
            if element.name == name:
                return element
        raise RackError(f"no element {name!r}; the rack has {', '.join(e.name for e in self.elements)}")

    def by_id(self, element_id: int) -> Element:
        """The element with this id; raises RackError."""
        for element in self.elements:
            if element.id == element_id:
                return element
        raise RackError(f"no element with id {element_id}; the rack has {[e.id for e in self.elements]}")

    @property
    def compute(self) -> tuple[Element, ...]:
        """The compute elements."""
        return tuple(e for e in self.elements if e.kind == "compute")

    @property
    def memory(self) -> tuple[Element, ...]:
        """The memory elements."""
        return tuple(e for e in self.elements if e.kind == "memory")

    def check(self) -> Rack:
        """Raise RackError unless names, ids and ports are unique and in range; returns self."""
        columns: tuple[tuple[str, list[str | int]], ...] = (
            ("name", [e.name for e in self.elements]),
            ("id", [e.id for e in self.elements]),
            ("port", [e.port for e in self.elements]),
        )
        for what, values in columns:
            doubles = sorted({str(v) for v in values if values.count(v) > 1})
            if doubles:
                raise RackError(f"{what} used twice: {', '.join(doubles)}")
        for e in self.elements:
            if not 1 <= e.id <= wire.MAX_ELEMENT:
                raise RackError(f"{e.name}: element id {e.id} is not in 1..{wire.MAX_ELEMENT}")
            if not 0 <= e.port < self.cpu_port:
                raise RackError(f"{e.name}: port {e.port} is not in 0..{self.cpu_port - 1}")
            if (e.kind == "memory") != (e.pages > 0) or (e.kind == "memory") != (e.media != "none"):
                raise RackError(f"{e.name}: exactly memory elements have pages and a medium")
        return self


def loads(text: str | bytes) -> Rack:
    """Parse and check a rack from JSON; raises RackError."""
    try:
        return msgspec.json.decode(text, type=Rack).check()
    except msgspec.MsgspecError as error:
        raise RackError(f"not a rack description: {error}") from None


def dumps(rack: Rack) -> bytes:
    """The rack as indented JSON."""
    return msgspec.json.format(msgspec.json.encode(rack), indent=2)


def load(path: str | Path) -> Rack:
    """Read a rack from a file; raises RackError or OSError."""
    return loads(Path(path).read_bytes())


def host_mac(address: IPv4Address) -> str:
    """MAC address of whoever has this address of its own on the network of top-of-rack switches."""
    return wire.mac_text(b"\x02\x54" + address.packed)


def service_mac(address: IPv4Address) -> str:
    """MAC address under which a service address is reached, whoever has it."""
    return wire.mac_text(SERVICE_MAC_PREFIX + address.packed)
