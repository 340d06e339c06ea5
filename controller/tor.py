"""The top-of-rack switch's os-ken application: a learning Ethernet switch over OpenFlow 1.3."""

from __future__ import annotations

import logging
from typing import Any

from os_ken.base import app_manager
from os_ken.controller import ofp_event
from os_ken.controller.handler import CONFIG_DISPATCHER, MAIN_DISPATCHER, set_ev_cls
from os_ken.lib.packet import ethernet, packet
from os_ken.ofproto import ofproto_v1_3

log = logging.getLogger(__name__)
IDLE_TIMEOUT = 60  # seconds until a learned address is forgotten


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
        output = parser.OFPActionOutput(protocol.OFPP_CONTROLLER, protocol.OFPCML_NO_BUFFER)
        self._add_flow(datapath, 0, parser.OFPMatch(), [output], 0)
        log.info("top-of-rack switch %#x connected", datapath.id)

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
