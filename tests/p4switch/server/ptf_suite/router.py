"""A suite for the packet test framework (https://github.com/p4lang/ptf): entries by P4Runtime, packets by its data plane.

``ptf`` runs it, in the environment of p4runtime-shell, against a switch that runs ``router.p4``; ``test_ptf.py`` starts both.
Ports 1 to 3 of the switch are ports 1 to 3 here.
"""

import queue

import p4runtime_sh.shell as sh
import ptf
from p4runtime_sh.shell import DirectCounterEntry, FwdPipeConfig, MulticastGroupEntry, PacketOut, TableEntry
from ptf import testutils
from ptf.base_tests import BaseTest

ROUTER, NEXT_HOP, HOST = "00:00:00:00:00:01", "00:00:00:00:00:02", "00:00:00:00:00:03"


class RouterTest(BaseTest):
    """Installs the program, which empties all tables, and becomes primary."""

    def setUp(self):
        BaseTest.setUp(self)
        parameters = testutils.test_params_get()
        sh.setup(
            device_id=int(parameters["device"]),
            grpc_addr=parameters["address"],
            election_id=(0, 1),
            config=FwdPipeConfig(parameters["info"], parameters["config"]),
            verbose=False,
        )
        self.dataplane = ptf.dataplane_instance
        self.dataplane.flush()

    def tearDown(self):
        sh.teardown()
        BaseTest.tearDown(self)

    def route(self, prefix, port):
        """Send a prefix to a port."""
        entry = TableEntry("RouterIngress.routes")(action="RouterIngress.route")
        entry.match["dst"] = prefix
        entry.action["port"] = str(port)
        entry.action["src"], entry.action["dst"] = ROUTER, NEXT_HOP
        entry.insert()
        return entry

    def packet(self, dst, src="192.168.0.9", ttl=64, **rest):
        """A packet of a host."""
        return testutils.simple_tcp_packet(eth_src=HOST, eth_dst=ROUTER, ip_src=src, ip_dst=dst, ip_ttl=ttl, **rest)

    def routed(self, dst, ttl=63, **rest):
        """The same as it leaves; the framework computes its checksum."""
        return testutils.simple_tcp_packet(
            eth_src=ROUTER, eth_dst=NEXT_HOP, ip_src="192.168.0.9", ip_dst=dst, ip_ttl=ttl, **rest
        )


class RoutesTest(RouterTest):
    """The longest prefix wins; a change acts at once; what has no route goes nowhere."""

    def runTest(self):
        self.route("10.0.0.0/8", 2)
        longer = self.route("10.1.0.0/16", 3)
        for dst, port in (("10.2.0.1", 2), ("10.1.0.1", 3)):
            testutils.send_packet(self, 1, self.packet(dst))
            testutils.verify_packet(self, self.routed(dst), port)
        testutils.send_packet(self, 1, self.packet("10.2.0.1", pktlen=1400))
        testutils.verify_packet(self, self.routed("10.2.0.1", pktlen=1400), 2)
        longer.action["port"] = "2"
        longer.modify()
        testutils.send_packet(self, 1, self.packet("10.1.0.1"))
        testutils.verify_packet(self, self.routed("10.1.0.1"), 2)
        longer.delete()
        testutils.send_packet(self, 3, self.packet("10.1.0.1"))
        testutils.verify_packet(self, self.routed("10.1.0.1"), 2)
        testutils.send_packet(self, 1, self.packet("11.0.0.1"))
        testutils.send_packet(self, 1, self.packet("10.2.0.1", ttl=1))
        testutils.verify_no_other_packets(self)


class AccessTest(RouterTest):
    """The entry with the highest priority decides."""

    def runTest(self):
        self.route("10.0.0.0/8", 2)
        for priority, src, action in ((1, "192.168.0.0 &&& 255.255.0.0", "drop"), (2, "192.168.0.9", "NoAction")):
            entry = TableEntry("RouterIngress.access")(
                action=action if action == "NoAction" else f"RouterIngress.{action}"
            )
            entry.match["src"] = src if "&&&" in src else f"{src} &&& 255.255.255.255"
            entry.match["protocol"] = "6"
            entry.priority = priority
            entry.insert()
        testutils.send_packet(self, 1, self.packet("10.0.0.1"))
        testutils.verify_packet(self, self.routed("10.0.0.1"), 2)
        testutils.send_packet(self, 1, self.packet("10.0.0.1", src="192.168.0.10"))
        testutils.verify_no_other_packets(self)


class MulticastTest(RouterTest):
    """A group's ports get a copy each, and only they."""

    def runTest(self):
        group = MulticastGroupEntry(7)
        group.add(2, 1).add(3, 2)
        group.insert()
        entry = TableEntry("RouterIngress.routes")(action="RouterIngress.to_group")
        entry.match["dst"] = "224.0.0.0/4"
        entry.action["group"] = "7"
        entry.insert()
        sent = self.packet("224.0.0.5")
        testutils.send_packet(self, 1, sent)
        testutils.verify_packets(self, sent, [2, 3])


class CounterTest(RouterTest):
    """A direct counter counts what its entry routed."""

    def runTest(self):
        entry = self.route("10.0.0.0/8", 2)
        sent = self.packet("10.0.0.1")
        testutils.send_packet(self, 1, sent, count=5)
        for _ in range(5):
            testutils.verify_packet(self, self.routed("10.0.0.1"), 2)
        counter = DirectCounterEntry("RouterIngress.route_hits")
        counter.table_entry = entry
        (found,) = list(counter.read())
        self.assertEqual((found.packet_count, found.byte_count), (5, 5 * len(sent)))


class PacketInOutTest(RouterTest):
    """Packets to the controller and from it, with their metadata."""

    def runTest(self):
        entry = TableEntry("RouterIngress.access")(action="RouterIngress.to_controller")
        entry.match["src"] = "192.168.0.9 &&& 255.255.255.255"
        entry.priority = 1
        entry.insert()
        sent = self.packet("10.0.0.1")
        testutils.send_packet(self, 3, sent)
        try:
            received = sh.client.stream_in_q["packet"].get(timeout=400)
        except queue.Empty:
            self.fail("no packet-in")
        self.assertEqual(received.packet.payload, bytes(sent))
        self.assertEqual(received.packet.metadata[0].value, b"\x03")
        PacketOut(payload=bytes(sent), egress_port="2").send()
        testutils.verify_packet(self, sent, 2)
        testutils.verify_no_other_packets(self)
