// A small IPv4 router for v1model.
//
// Routes lead to next hops, next hops to a port and MAC addresses. What the router cannot deal with itself (no route, time to
// live used up) goes to the controller as packet-in; the controller sends frames with packet-out.

#include <core.p4>
#include <v1model.p4>

typedef bit<9> port_t;
typedef bit<48> mac_t;
typedef bit<32> ipv4_t;
typedef bit<16> next_hop_t;

const port_t CPU_PORT = 510; // `run --cpu-port`
const bit<16> TYPE_IPV4 = 0x0800;

enum bit<7> reason_t {
    NO_ROUTE = 1,
    TTL_EXCEEDED = 2
}

@controller_header("packet_in")
header packet_in_t {
    port_t ingress_port;
    reason_t reason;
}

@controller_header("packet_out")
header packet_out_t {
    port_t egress_port;
    bit<7> pad;
}

header ethernet_t {
    mac_t dst;
    mac_t src;
    bit<16> type;
}

header ipv4_h {
    bit<4> version;
    bit<4> ihl;
    bit<8> tos;
    bit<16> total_length;
    bit<16> identification;
    bit<3> flags;
    bit<13> fragment_offset;
    bit<8> ttl;
    bit<8> protocol;
    bit<16> checksum;
    ipv4_t src;
    ipv4_t dst;
    varbit<320> options;
}

struct headers_t {
    packet_in_t packet_in;
    packet_out_t packet_out;
    ethernet_t ethernet;
    ipv4_h ipv4;
}

struct metadata_t {
    next_hop_t next_hop;
}

parser RouterParser(packet_in packet, out headers_t hdr, inout metadata_t meta, inout standard_metadata_t standard_metadata) {
    state start {
        transition select(standard_metadata.ingress_port) {
            CPU_PORT: parse_packet_out;
            default: parse_ethernet;
        }
    }
    state parse_packet_out {
        packet.extract(hdr.packet_out);
        transition accept; // the rest is sent as it is
    }
    state parse_ethernet {
        packet.extract(hdr.ethernet);
        transition select(hdr.ethernet.type) {
            TYPE_IPV4: parse_ipv4;
            default: accept;
        }
    }
    state parse_ipv4 {
        bit<8> first = packet.lookahead<bit<8>>();
        verify(first >= 0x45 && first <= 0x4f, error.HeaderTooShort); // version 4, 20 bytes or more
        packet.extract(hdr.ipv4, ((bit<32>) first[3:0] - 5) * 32);
        transition accept;
    }
}

control RouterVerifyChecksum(inout headers_t hdr, inout metadata_t meta) {
    apply {
        verify_checksum(hdr.ipv4.isValid(),
            { hdr.ipv4.version, hdr.ipv4.ihl, hdr.ipv4.tos, hdr.ipv4.total_length, hdr.ipv4.identification, hdr.ipv4.flags,
              hdr.ipv4.fragment_offset, hdr.ipv4.ttl, hdr.ipv4.protocol, hdr.ipv4.src, hdr.ipv4.dst, hdr.ipv4.options },
            hdr.ipv4.checksum, HashAlgorithm.csum16);
    }
}

control RouterIngress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t standard_metadata) {
    direct_counter(CounterType.packets_and_bytes) route_traffic;

    action drop() {
        mark_to_drop(standard_metadata);
    }

    action punt(reason_t reason) {
        hdr.packet_in.setValid();
        hdr.packet_in.ingress_port = standard_metadata.ingress_port;
        hdr.packet_in.reason = reason;
        standard_metadata.egress_spec = CPU_PORT;
        exit;
    }

    action via(next_hop_t next_hop) {
        route_traffic.count();
        meta.next_hop = next_hop;
    }

    action no_route() {
        route_traffic.count();
        punt(reason_t.NO_ROUTE);
    }

    // An entry is a route; the longest prefix wins. The controller writes them; without one it gets the packet.
    table routes {
        key = { hdr.ipv4.dst: lpm @name("dst"); }
        actions = { via; drop; @defaultonly no_route; }
        const default_action = no_route();
        counters = route_traffic;
        size = 4096;
    }

    action forward(port_t port, mac_t src, mac_t dst) {
        standard_metadata.egress_spec = port;
        hdr.ethernet.src = src;
        hdr.ethernet.dst = dst;
        hdr.ipv4.ttl = hdr.ipv4.ttl - 1;
    }

    // An entry is a neighbour: the port that it is behind, our MAC address there, and its own.
    table next_hops {
        key = { meta.next_hop: exact @name("id"); }
        actions = { forward; @defaultonly drop; }
        const default_action = drop();
        size = 256;
    }

    apply {
        if (hdr.packet_out.isValid()) {
            standard_metadata.egress_spec = hdr.packet_out.egress_port;
            hdr.packet_out.setInvalid();
        } else if (!hdr.ipv4.isValid() || standard_metadata.checksum_error == 1) {
            drop();
        } else if (hdr.ipv4.ttl <= 1) {
            punt(reason_t.TTL_EXCEEDED);
        } else {
            switch (routes.apply().action_run) {
                via: { next_hops.apply(); }
                default: { }
            }
        }
    }
}

control RouterEgress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t standard_metadata) {
    counter(512, CounterType.packets_and_bytes) port_traffic;

    apply {
        port_traffic.count((bit<32>) standard_metadata.egress_port);
    }
}

control RouterComputeChecksum(inout headers_t hdr, inout metadata_t meta) {
    apply {
        update_checksum(hdr.ipv4.isValid(),
            { hdr.ipv4.version, hdr.ipv4.ihl, hdr.ipv4.tos, hdr.ipv4.total_length, hdr.ipv4.identification, hdr.ipv4.flags,
              hdr.ipv4.fragment_offset, hdr.ipv4.ttl, hdr.ipv4.protocol, hdr.ipv4.src, hdr.ipv4.dst, hdr.ipv4.options },
            hdr.ipv4.checksum, HashAlgorithm.csum16);
    }
}

control RouterDeparser(packet_out packet, in headers_t hdr) {
    apply {
        packet.emit(hdr.packet_in);
        packet.emit(hdr.ethernet);
        packet.emit(hdr.ipv4);
    }
}

V1Switch(RouterParser(), RouterVerifyChecksum(), RouterIngress(), RouterEgress(), RouterComputeChecksum(), RouterDeparser()) main;
