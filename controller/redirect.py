"""Service addresses at switches: what is sent to one goes to whoever has it, and that can change.

The frame's destination MAC is rewritten to the holder's; nothing else is, so the holder has the address, too (on its loopback
interface, where it is not asked for by ARP), and sees who the sender is. A service address has a MAC of its own, with which the
first switch on the way answers ARP for it. So nobody's ARP cache is wrong after a change, and a change is one flow.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Any

from os_ken.lib.packet import arp, ether_types

from protocol.rack import SERVICE_MAC_PREFIX, SERVICE_NETWORK
from protocol.wire import mac_text

log = logging.getLogger(__name__)
# Below a fence (controller.tor), above what was learnt.
ARP_PRIORITY = 60
HOLDER_PRIORITY = 50
UPLINK_PRIORITY = 40
BARRIER_TIMEOUT = 1.0  # seconds
_MAC_MASK = "ff:ff:00:00:00:00"


@dataclass(frozen=True)
class Holder:
    """Where a switch sends what is for an address: the port, and the MAC of the holder; None where the next switch knows."""

    port: int
    mac: str | None


class Redirects:
    """Which service address is where, for each switch by its datapath id. Thread-safe; a switch that connects later is told.

    ``barrier`` asks a switch to say when it has done what it was told."""

    def __init__(self, barrier: Callable[[Any], threading.Event]):
        self._barrier = barrier
        self._lock = threading.Lock()
        self._holders: dict[int, dict[IPv4Address, Holder]] = {}
        self._uplinks: dict[int, int] = {}
        self._switches: dict[int, Any] = {}

    def set_uplink(self, switch: int, port: int) -> None:
        """What this switch sends to service addresses that it knows nothing of goes out there. Before the switch connects."""
        self._uplinks[switch] = port

    def set(self, holders: Mapping[int, Mapping[IPv4Address, Holder]]) -> bool:
        """These switches send what is for these addresses, and no others, to their holders. Whether all of them are connected and
        have said that they are done."""
        waiting: list[threading.Event | None] = []
        with self._lock:
            for switch, wanted in holders.items():
                before = self._holders.get(switch, {})
                self._holders[switch] = dict(wanted)
                datapath = self._switches.get(switch)
                if datapath is None:
                    waiting.append(None)
                    continue
                for address in before.keys() - wanted.keys():
                    self._remove(datapath, address)
                for address, holder in wanted.items():
                    if before.get(address) != holder:
                        self._add(datapath, address, holder)
                waiting.append(self._barrier(datapath))
        return all(event is not None and event.wait(BARRIER_TIMEOUT) for event in waiting)

    def connected(self, datapath: Any) -> None:
        """A switch is there, and has no flows."""
        with self._lock:
            self._switches[datapath.id] = datapath
            self._answer_arp(datapath)
            if datapath.id in self._uplinks:
                self._send_up(datapath, self._uplinks[datapath.id])
            for address, holder in self._holders.get(datapath.id, {}).items():
                self._add(datapath, address, holder)

    def disconnected(self, datapath: Any) -> None:
        """A switch has gone."""
        with self._lock:
            number = datapath.id
            if number in self._switches and self._switches[number] is datapath:
                del self._switches[number]

    @staticmethod
    def _flow(datapath: Any, priority: int, match: Any, actions: list[Any]) -> None:
        parser, protocol = datapath.ofproto_parser, datapath.ofproto
        apply = parser.OFPInstructionActions(protocol.OFPIT_APPLY_ACTIONS, actions)
        datapath.send_msg(parser.OFPFlowMod(datapath=datapath, priority=priority, match=match, instructions=[apply]))

    def _add(self, datapath: Any, address: IPv4Address, holder: Holder) -> None:
        parser = datapath.ofproto_parser
        match = parser.OFPMatch(eth_type=ether_types.ETH_TYPE_IP, ipv4_dst=str(address))
        actions = [] if holder.mac is None else [parser.OFPActionSetField(eth_dst=holder.mac)]
        actions.append(parser.OFPActionOutput(holder.port))
        self._flow(datapath, HOLDER_PRIORITY, match, actions)  # a flow with the same match is replaced

    @staticmethod
    def _remove(datapath: Any, address: IPv4Address) -> None:
        parser, protocol = datapath.ofproto_parser, datapath.ofproto
        datapath.send_msg(
            parser.OFPFlowMod(
                datapath=datapath,
                command=protocol.OFPFC_DELETE_STRICT,
                priority=HOLDER_PRIORITY,
                match=parser.OFPMatch(eth_type=ether_types.ETH_TYPE_IP, ipv4_dst=str(address)),
                out_port=protocol.OFPP_ANY,
                out_group=protocol.OFPG_ANY,
            )
        )

    def _answer_arp(self, datapath: Any) -> None:
        """Turn questions for any service address around: the last four bytes of its MAC are the address."""
        parser, protocol = datapath.ofproto_parser, datapath.ofproto
        match = parser.OFPMatch(
            eth_type=ether_types.ETH_TYPE_ARP,
            arp_op=arp.ARP_REQUEST,
            arp_tpa=(str(SERVICE_NETWORK.network_address), str(SERVICE_NETWORK.netmask)),
        )
        blank = mac_text(SERVICE_MAC_PREFIX + bytes(4))

        def move(source: str, to: str, bits: int) -> Any:
            return parser.NXActionRegMove(src_field=source, dst_field=to, n_bits=bits)

        actions = [
            move("eth_src", "eth_dst", 48),
            parser.OFPActionSetField(eth_src=blank),
            move("arp_tpa", "eth_src", 32),
            parser.OFPActionSetField(arp_op=arp.ARP_REPLY),
            move("arp_sha", "arp_tha", 48),
            move("eth_src", "arp_sha", 48),
            # The two addresses change places; the MAC that has just been made is the place to keep one meanwhile.
            move("arp_spa", "arp_tpa", 32),
            move("eth_src", "arp_spa", 32),
            parser.OFPActionOutput(protocol.OFPP_IN_PORT),
        ]
        self._flow(datapath, ARP_PRIORITY, match, actions)

    def _send_up(self, datapath: Any, port: int) -> None:
        parser = datapath.ofproto_parser
        match = parser.OFPMatch(eth_dst=(mac_text(SERVICE_MAC_PREFIX + bytes(4)), _MAC_MASK))
        self._flow(datapath, UPLINK_PRIORITY, match, [parser.OFPActionOutput(port)])
