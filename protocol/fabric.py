"""The switches between racks as data: which port of which switch leads where. Topologies write it, their controller reads it."""

from __future__ import annotations

from ipaddress import AddressValueError, IPv4Address
from pathlib import Path

import msgspec

from protocol.rack import SERVICE_NETWORK, host_mac


class FabricError(ValueError):
    """The description makes no sense, or a request names what is not in it."""


class Switch(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A switch. ``ports`` say where it sends what is for a place; ``attached`` are the hosts among those that are at that very
    port. ``uplink`` leads to the switches above, 0 at the top."""

    name: str
    dpid: int
    ports: dict[str, int]
    attached: tuple[str, ...] = ()
    uplink: int = 0


class Fabric(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Switches, the addresses of hosts by name, and at which place each service address is to begin with. A place is a host or,
    where the rest of the way is another controller's affair, a rack."""

    switches: tuple[Switch, ...]
    hosts: dict[str, str]
    addresses: dict[str, str] = {}

    def check(self) -> Fabric:
        """Raise FabricError unless datapath ids are unique and every address has a place; returns self."""
        dpids = [s.dpid for s in self.switches]
        if len(set(dpids)) != len(dpids):
            raise FabricError(f"datapath ids are used twice: {dpids}")
        for switch in self.switches:
            for host in switch.attached:
                if host not in self.hosts or host not in switch.ports:
                    raise FabricError(f"{switch.name} has {host!r} attached, which has no address or no port")
        for address, place in self.addresses.items():
            self.way(address, place)
        return self

    def way(self, address: str, place: str) -> dict[int, tuple[int, str | None]]:
        """What sends a service address to a place: for each switch, by its datapath id, that does not send it up, the port
        and, where the host is attached, its MAC. Raises FabricError."""
        try:
            number = IPv4Address(address)
        except AddressValueError:
            raise FabricError(f"{address!r} is no IPv4 address") from None
        if number not in SERVICE_NETWORK:
            raise FabricError(f"{address} is no service address; those are in {SERVICE_NETWORK}")
        found: dict[int, tuple[int, str | None]] = {}
        for switch in self.switches:
            if place in switch.ports:
                mac = host_mac(IPv4Address(self.hosts[place])) if place in switch.attached else None
                found[switch.dpid] = switch.ports[place], mac
        if not found:
            places = sorted({p for s in self.switches for p in s.ports})
            raise FabricError(f"no switch leads to {place!r}; there are {', '.join(places)}")
        return found


def load(path: Path) -> Fabric:
    """Read a description; raises FabricError or OSError."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Fabric).check()
    except msgspec.MsgspecError as error:
        raise FabricError(f"{path}: not a description of a fabric: {error}") from None


def dumps(fabric: Fabric) -> bytes:
    """The description as indented JSON."""
    return msgspec.json.format(msgspec.json.encode(fabric), indent=2)
