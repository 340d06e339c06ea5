"""Several racks as data: full ones with a Rack MMU, simple ones with servers, a core switch above them, and clients at the core.

All are on one flat network, 10.0.0.0/16: elements and servers of rack R are 10.0.R.1 and so on, clients 10.0.0.1 and so on, and
service addresses (``protocol.rack.SERVICE_NETWORK``) are wherever they are sent. Nothing here starts anything:
``topologies.site_launch`` does.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address

import msgspec

from protocol.fabric import Fabric, Switch
from protocol.rack import SERVICE_NETWORK, Rack, RackError, host_mac
from topologies.racks import small_rack

CORE = "core"
CORE_DPID = 16
TOR_DPID_BASE = 16  # of the racks' switches: this and the rack's number
UPLINK = 100  # the port of a top-of-rack switch that leads to the core
CLIENT_PORT_BASE = 100  # of the core
MOST_RACKS = 9


@dataclass(frozen=True)
class Host:
    """A server or client: a machine with memory of its own, at a port of a switch."""

    name: str
    ip: str
    port: int

    @property
    def mac(self) -> str:
        """Its MAC address."""
        return host_mac(IPv4Address(self.ip))


@dataclass(frozen=True)
class FullRack:
    """A rack with a Rack MMU."""

    number: int
    rack: Rack


@dataclass(frozen=True)
class SimpleRack:
    """Servers at a top-of-rack switch."""

    number: int
    servers: tuple[Host, ...]


@dataclass(frozen=True)
class Site:
    """Racks, in the order of their numbers, and clients."""

    racks: tuple[FullRack | SimpleRack, ...]
    clients: tuple[Host, ...]

    @property
    def full(self) -> tuple[FullRack, ...]:
        """Racks with a Rack MMU."""
        return tuple(r for r in self.racks if isinstance(r, FullRack))

    @property
    def simple(self) -> tuple[SimpleRack, ...]:
        """Racks without."""
        return tuple(r for r in self.racks if isinstance(r, SimpleRack))


def rack_name(number: int) -> str:
    """What a rack is called."""
    return f"r{number}"


def site(
    racks: int = 3,
    full: int = 1,
    compute: int = 3,
    dram: int = 2,
    memory_mib: int = 64,
    servers: int = 2,
    clients: int = 2,
) -> Site:
    """The first ``full`` of ``racks`` racks have a Rack MMU, with so many elements; the others have ``servers``. Names begin with
    the rack's: r1c1, r1m1, r2s1; clients are x1 and so on. Raises RackError when a count makes no sense."""
    for what, count, most in (("racks", racks, MOST_RACKS), ("servers", servers, 99), ("clients", clients, 99)):
        if not 1 <= count <= most:
            raise RackError(f"{count} {what}; there can be 1 to {most}")
    if not 0 <= full <= racks:
        raise RackError(f"{full} of {racks} racks cannot be full ones")
    if compute >= UPLINK:
        raise RackError(f"{compute} compute elements; a rack of several has at most {UPLINK - 1}")
    made: list[FullRack | SimpleRack] = []
    for number in range(1, racks + 1):
        if number <= full:
            made.append(FullRack(number, _full(number, compute, dram, memory_mib)))
        else:
            made.append(
                SimpleRack(number, tuple(_host(f"{rack_name(number)}s{i}", number, i) for i in range(1, servers + 1)))
            )
    at_core = tuple(Host(f"x{i}", f"10.0.0.{i}", CLIENT_PORT_BASE + i) for i in range(1, clients + 1))
    return Site(tuple(made), at_core)


def _full(number: int, compute: int, dram: int, memory_mib: int) -> Rack:
    rack, prefix = small_rack(compute, dram, 0, memory_mib, name=rack_name(number)), rack_name(number)
    elements = []
    for element in rack.elements:
        renamed = msgspec.structs.replace(element, name=prefix + element.name)
        if element.tor_port:
            renamed = msgspec.structs.replace(renamed, ip=f"10.0.{number}.{element.tor_port}/16")
        elements.append(renamed)
    return msgspec.structs.replace(rack, elements=tuple(elements), device_id=number).check()


def _host(name: str, rack: int, number: int) -> Host:
    return Host(name, f"10.0.{rack}.{number}", number)


def service_address(rack: int, number: int = 0) -> str:
    """A service address that the core sends to this rack: 16 for each rack. Raises RackError."""
    if not 1 <= rack <= MOST_RACKS or not 0 <= number < 16:
        raise RackError(
            f"there is no service address {number} of rack {rack}; racks are 1 to {MOST_RACKS}, numbers 0 to 15"
        )
    return str(SERVICE_NETWORK[16 * rack + number])


def fabric(of: Site) -> Fabric:
    """The core and the switches of simple racks, as their controller needs them. Each rack's service addresses are sent to
    it; in a simple rack number 0 to its first server, and so on."""
    core: dict[str, int] = {h.name: h.port for h in of.clients}
    hosts: dict[str, str] = {h.name: h.ip for h in of.clients}
    addresses: dict[str, str] = {}
    switches: list[Switch] = []
    for rack in of.racks:
        core[rack_name(rack.number)] = rack.number
        if isinstance(rack, FullRack):
            core |= {e.name: rack.number for e in rack.rack.compute}
            addresses |= {service_address(rack.number, i): rack_name(rack.number) for i in range(16)}
            continue
        core |= {s.name: rack.number for s in rack.servers}
        hosts |= {s.name: s.ip for s in rack.servers}
        addresses |= {service_address(rack.number, i): s.name for i, s in enumerate(rack.servers[:16])}
        ports = {s.name: s.port for s in rack.servers}
        switches.append(
            Switch(
                name=f"{rack_name(rack.number)}tor",
                dpid=TOR_DPID_BASE + rack.number,
                ports=ports,
                attached=tuple(ports),
                uplink=UPLINK,
            )
        )
    at_core = tuple(h.name for h in of.clients)
    switches.insert(0, Switch(name=CORE, dpid=CORE_DPID, ports=core, attached=at_core))
    return Fabric(switches=tuple(switches), hosts=hosts, addresses=addresses).check()
