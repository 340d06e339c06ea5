"""The top-of-rack switch's os-ken application: a learning Ethernet switch over OpenFlow 1.3, with ports that are fenced off."""

from __future__ import annotations

import logging
import threading
from typing import Any

from os_ken.base import app_manager
from os_ken.controller import ofp_event
from os_ken.controller.handler import CONFIG_DISPATCHER, DEAD_DISPATCHER, MAIN_DISPATCHER, set_ev_cls
from os_ken.lib.packet import ethernet, packet
from os_ken.ofproto import ofproto_v1_3

from controller import redirect

log = logging.getLogger(__name__)
IDLE_TIMEOUT = 60  # seconds until a learned address is forgotten
FENCE_PRIORITY = 100
BARRIER_TIMEOUT = 1.0  # seconds


class Fences:
    """Which ports are fenced off: what comes in there goes nowhere. Thread-safe; a switch that connects later is told."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ports: frozenset[int] = frozenset()
        self._switches: dict[int, Any] = {}  # connected ones, by datapath id
        self._barriers: dict[tuple[int, int], threading.Event] = {}

    def set(self, ports: frozenset[int]) -> bool:
        """Fence off these ports and no others. Whether a switch is connected and has said that it is done."""
        with self._lock:
            old, self._ports = self._ports, ports
            waiting = []
            for datapath in self._switches.values():
                for port in old ^ ports:
                    self._change(datapath, port, fenced=port in ports)
                waiting.append(self.barrier(datapath))
        return bool(waiting) and all(event.wait(BARRIER_TIMEOUT) for event in waiting)

    def connected(self, datapath: Any) -> None:
        """A switch is there, perhaps with the flows of an earlier controller."""
        with self._lock:
            self._switches[datapath.id] = datapath
            self._change(datapath, None, fenced=False)
            for port in self._ports:
                self._change(datapath, port, fenced=True)

    def disconnected(self, datapath: Any) -> None:
        """A switch has gone."""
        with self._lock:
            number = datapath.id
            if number in self._switches and self._switches[number] is datapath:
                del self._switches[number]

    def barrier_reply(self, datapath: Any, xid: int) -> None:
        """A switch has done what it was told before this barrier."""
        with self._lock:
            event = self._barriers.pop((datapath.id, xid), None)
        if event is not None:
            event.set()

    def barrier(self, datapath: Any) -> threading.Event:
        """Ask a switch to say when it has done all that it was told; what is returned is set then."""
        request = datapath.ofproto_parser.OFPBarrierRequest(datapath)
        datapath.set_xid(request)
        event = self._barriers[datapath.id, request.xid] = threading.Event()
        datapath.send_msg(request)
        return event

    @staticmethod
    def _change(datapath: Any, port: int | None, fenced: bool) -> None:
        """Add or remove the fence of a port; None for all of them."""
        parser, protocol = datapath.ofproto_parser, datapath.ofproto
        if fenced:
            match = parser.OFPMatch(in_port=port)
            datapath.send_msg(parser.OFPFlowMod(datapath=datapath, priority=FENCE_PRIORITY, match=match))
            return
        datapath.send_msg(
            parser.OFPFlowMod(
                datapath=datapath,
                cookie=0,
                command=protocol.OFPFC_DELETE if port is None else protocol.OFPFC_DELETE_STRICT,
                priority=FENCE_PRIORITY,
                match=parser.OFPMatch() if port is None else parser.OFPMatch(in_port=port),
                out_port=protocol.OFPP_ANY,
                out_group=protocol.OFPG_ANY,
            )
        )


fences = Fences()
redirects = redirect.Redirects(fences.barrier)


class TorApp(app_manager.OSKenApp):  # type: ignore[misc]
    """Floods what it does not know, learns from what it sees, and leaves known traffic to the switch."""

    OFP_VERSIONS = [ofproto_v1_3.OFP_VERSION]

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.ports: dict[tuple[int, str], int] = {}

    @set_ev_cls(ofp_event.EventOFPSwitchFeatures, CONFIG_DISPATCHER)  # type: ignore[untyped-decorator]
    def on_features(self, event: Any) -> None:
        """A switch has connected: what matches nothing comes here."""
        datapath = event.msg.datapath
        parser, protocol = datapath.ofproto_parser, datapath.ofproto
        fences.connected(datapath)
        output = parser.OFPActionOutput(protocol.OFPP_CONTROLLER, protocol.OFPCML_NO_BUFFER)
        self._add_flow(datapath, 0, parser.OFPMatch(), [output], 0)
        redirects.connected(datapath)
        log.info("top-of-rack switch %#x connected", datapath.id)

    @set_ev_cls(ofp_event.EventOFPStateChange, DEAD_DISPATCHER)  # type: ignore[untyped-decorator]
    def on_dead(self, event: Any) -> None:
        """A switch has gone."""
        if event.datapath.id is not None:
            fences.disconnected(event.datapath)
            redirects.disconnected(event.datapath)

    @set_ev_cls(ofp_event.EventOFPBarrierReply, MAIN_DISPATCHER)  # type: ignore[untyped-decorator]
    def on_barrier(self, event: Any) -> None:
        """A switch has done what it was told."""
        fences.barrier_reply(event.msg.datapath, event.msg.xid)

    @staticmethod
    def _add_flow(datapath: Any, priority: int, match: Any, actions: list[Any], idle: int) -> None:
        parser, protocol = datapath.ofproto_parser, datapath.ofproto
        apply = parser.OFPInstructionActions(protocol.OFPIT_APPLY_ACTIONS, actions)
        datapath.send_msg(
            parser.OFPFlowMod(
                datapath=datapath, priority=priority, match=match, instructions=[apply], idle_timeout=idle
            )
        )

    @set_ev_cls(ofp_event.EventOFPPacketIn, MAIN_DISPATCHER)  # type: ignore[untyped-decorator]
    def on_packet_in(self, event: Any) -> None:
        """A frame to or from an address that is not known yet."""
        message = event.msg
        datapath = message.datapath
        parser, protocol = datapath.ofproto_parser, datapath.ofproto
        in_port = message.match["in_port"]
        frame = packet.Packet(message.data).get_protocol(ethernet.ethernet)
        if frame is None:
            return
        self.ports[datapath.id, frame.src] = in_port
        port = self.ports.get((datapath.id, frame.dst), protocol.OFPP_FLOOD)
        actions = [parser.OFPActionOutput(port)]
        if port != protocol.OFPP_FLOOD:
            match = parser.OFPMatch(in_port=in_port, eth_src=frame.src, eth_dst=frame.dst)
            self._add_flow(datapath, 1, match, actions, IDLE_TIMEOUT)
        data = message.data if message.buffer_id == protocol.OFP_NO_BUFFER else None
        datapath.send_msg(
            parser.OFPPacketOut(
                datapath=datapath, buffer_id=message.buffer_id, in_port=in_port, actions=actions, data=data
            )
        )


def serve(host: str, port: int) -> None:
    """Run the application in this thread, for ever."""
    from os_ken import cfg

    cfg.CONF(args=[], project="os_ken")
    cfg.CONF.set_override("ofp_listen_host", host)
    cfg.CONF.set_override("ofp_tcp_listen_port", port)
    app_manager.AppManager.run_apps(["controller.tor"])
