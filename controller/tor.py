"""The top-of-rack switch's os-ken application: a learning Ethernet switch over OpenFlow 1.3, with ports that are fenced off."""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
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
PROBE = bytes(12) + b"\x88\xb5"  # an Ethernet header from nobody to nobody; a number follows
SHORTEST_FRAME = 60  # bytes


@dataclass
class _Switch:
    """A connected switch."""

    datapath: Any
    addresses: dict[int, str] | None = None  # of its ports; None: it has not said yet
    settled: threading.Event = field(default_factory=threading.Event)  # it has done all that it was told when it came


class Fences:
    """Which ports are fenced off: what comes in there goes nowhere, and nothing goes out. Thread-safe; a switch that connects
    later is told.

    Inwards by a flow that outranks all others. Outwards by the port's own configuration, so that no other flow, present or
    future, reaches it: what an element finds when it is let in again was sent to it after that.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ports: frozenset[int] = frozenset()
        self._switches: dict[int, _Switch] = {}  # by datapath id
        self._probes = itertools.count(1)
        self._waits: dict[int, _Wait] = {}  # by the number of their probe

    def set(self, ports: frozenset[int]) -> None:
        """Fence off these ports and no others, soon; :meth:`when_done` tells when that is done."""
        with self._lock:
            old, self._ports = self._ports, ports
            for switch in self._switches.values():
                for port in sorted(old ^ ports):
                    self._change_flow(switch.datapath, port, fenced=port in ports)
                    self._change_port(switch, port)

    def when_done(self, number: int, done: Callable[[], object]) -> None:
        """Call ``done`` once, in another thread, when all connected switches have done what they were told before. It is not
        called when none is connected, or one goes or does not answer: ask again, with the same ``number``."""
        with self._lock:
            wait = next((w for w in self._waits.values() if w.number == number), None)
            if wait is None:
                if not self._switches or any(s.addresses is None for s in self._switches.values()):
                    return
                wait = self._wait(number, self._switches.keys(), done)
            for switch in wait.missing:
                self._probe(self._switches[switch].datapath, wait)

    def barrier(self, datapath: Any) -> threading.Event:
        """Ask a switch to say when it has done all that it was told; what is returned is set then."""
        done = threading.Event()
        with self._lock:
            self._probe(datapath, self._wait(None, {datapath.id}, done.set))
        return done

    def forward(self, port: int, send: Callable[[], object]) -> None:
        """Send a frame on that a switch has handed over, unless the port where it came in is fenced off. A fence that is told to
        the switch later is told behind it."""
        with self._lock:
            if port not in self._ports:
                send()

    def connected(self, datapath: Any) -> None:
        """A switch is there, perhaps with the flows and ports of an earlier controller."""
        with self._lock:
            self._forget_waits(datapath.id)
            self._switches[datapath.id] = _Switch(datapath)
            self._change_flow(datapath, None, fenced=False)
            for port in sorted(self._ports):
                self._change_flow(datapath, port, fenced=True)

    def described(self, datapath: Any, ports: Mapping[int, str]) -> None:
        """A switch has said which ports it has, with their addresses: the last that it is asked when it has come, so that
        once it has answered it forwards as it should."""
        with self._lock:
            switch = self._switches.get(datapath.id)
            if switch is not None and switch.datapath is datapath:
                switch.addresses = dict(ports)
                for port in sorted(ports):
                    self._change_port(switch, port)
                self._probe(datapath, self._wait(None, {datapath.id}, switch.settled.set))

    def settled(self) -> frozenset[int]:
        """The datapath ids of the switches that are connected and forward: they have said that they have done all that they were
        told when they came."""
        with self._lock:
            return frozenset(number for number, switch in self._switches.items() if switch.settled.is_set())

    def disconnected(self, datapath: Any) -> None:
        """A switch has gone."""
        with self._lock:
            switch = self._switches.get(datapath.id)
            if switch is not None and switch.datapath is datapath:
                del self._switches[datapath.id]
                self._forget_waits(datapath.id)

    def returned(self, datapath: Any, frame: bytes) -> None:
        """A probe has come back: the switch forwards by all that it was told before."""
        if not frame.startswith(PROBE):
            return
        number = int.from_bytes(frame[len(PROBE) : len(PROBE) + 8], "big")
        with self._lock:
            wait = self._waits.get(number)
            if wait is None or datapath.id not in wait.missing:
                return
            wait.missing.remove(datapath.id)
            if wait.missing:
                return
            del self._waits[number]
        wait.done()

    def _wait(self, number: int | None, switches: AbstractSet[int], done: Callable[[], object]) -> _Wait:
        wait = _Wait(next(self._probes), number, {*switches}, done)
        self._waits[wait.probe] = wait
        return wait

    @staticmethod
    def _probe(datapath: Any, wait: _Wait) -> None:
        """Have a switch send a frame back, behind a barrier. The barrier's answer would not do: Open vSwitch (3.1) gives it in
        the round of its main loop in which it reads the change, and forwards as before until the next one has begun. What it
        is to send here it sends in that next round."""
        parser, protocol = datapath.ofproto_parser, datapath.ofproto
        datapath.send_msg(parser.OFPBarrierRequest(datapath))
        frame = (PROBE + wait.probe.to_bytes(8, "big")).ljust(SHORTEST_FRAME, b"\0")
        back = parser.OFPActionOutput(protocol.OFPP_CONTROLLER, protocol.OFPCML_NO_BUFFER)
        none, port = protocol.OFP_NO_BUFFER, protocol.OFPP_CONTROLLER
        datapath.send_msg(parser.OFPPacketOut(datapath, none, port, [back], frame))

    def _forget_waits(self, switch: int) -> None:
        """A connection has ended: nothing that waited for this switch will have an answer."""
        self._waits = {probe: wait for probe, wait in self._waits.items() if switch not in wait.missing}

    def _change_port(self, switch: _Switch, port: int) -> None:
        """Let frames out of a port, or not, as it is fenced."""
        address = (switch.addresses or {}).get(port)
        if address is None:
            return  # no such port, or not known yet
        parser, protocol = switch.datapath.ofproto_parser, switch.datapath.ofproto
        config = protocol.OFPPC_NO_FWD if port in self._ports else 0
        mask = protocol.OFPPC_NO_FWD
        switch.datapath.send_msg(parser.OFPPortMod(switch.datapath, port, address, config, mask, 0))

    @staticmethod
    def _change_flow(datapath: Any, port: int | None, fenced: bool) -> None:
        """Add or remove the flow that swallows what comes in at a port; None for all flows."""
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


@dataclass
class _Wait:
    """Who waits for which switches' answers to a probe."""

    probe: int
    number: int | None
    missing: set[int]
    done: Callable[[], object]


class ElementFences:
    """Fences by element, as the controller's shell has them, at the switch with this datapath id. ``ports`` are those of the
    elements there."""

    def __init__(self, dpid: int, ports: Mapping[int, int], fences: Fences):
        self._dpid, self._ports, self._fences = dpid, ports, fences

    @property
    def is_connected(self) -> bool:
        """Whether the switch is connected and forwards."""
        return self._dpid in self._fences.settled()

    def fence(self, elements: frozenset[int]) -> None:
        """Fence off these elements and no others, soon."""
        self._fences.set(frozenset(self._ports[e] for e in elements if e in self._ports))

    def barrier(self, number: int, done: Callable[[], object]) -> None:
        """Call ``done`` once all that was said before is carried out."""
        self._fences.when_done(number, done)


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

    @set_ev_cls(ofp_event.EventOFPPortDescStatsReply, [CONFIG_DISPATCHER, MAIN_DISPATCHER])  # type: ignore[untyped-decorator]
    def on_ports(self, event: Any) -> None:
        """A switch says which ports it has, as os-ken asks it before anything else."""
        fences.described(event.msg.datapath, {port.port_no: port.hw_addr for port in event.msg.body})

    @set_ev_cls(ofp_event.EventOFPStateChange, DEAD_DISPATCHER)  # type: ignore[untyped-decorator]
    def on_dead(self, event: Any) -> None:
        """A switch has gone."""
        if event.datapath.id is not None:
            fences.disconnected(event.datapath)
            redirects.disconnected(event.datapath)

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
        if in_port == protocol.OFPP_CONTROLLER:  # no element's frame has this
            fences.returned(datapath, message.data)
            return
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
        out = parser.OFPPacketOut(
            datapath=datapath, buffer_id=message.buffer_id, in_port=in_port, actions=actions, data=data
        )
        fences.forward(in_port, lambda: datapath.send_msg(out))


def serve(host: str, port: int) -> None:
    """Run the application in this thread, for ever."""
    from os_ken import cfg

    cfg.CONF(args=[], project="os_ken")
    cfg.CONF.set_override("ofp_listen_host", host)
    cfg.CONF.set_override("ofp_tcp_listen_port", port)
    app_manager.AppManager.run_apps(["controller.tor"])
