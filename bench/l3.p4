// A small router: the benchmark's program with a large table of every match kind. `route` and `neighbour` hold the routes,
// `acl` and `service` what may pass. Every IPv4 packet is looked up in all four.
#include <core.p4>
#include <v1model.p4>

typedef bit<9> port_t;
typedef bit<48> mac_t;
typedef bit<32> ipv4_t;
typedef bit<32> next_hop_t;

const bit<16> ETHERTYPE_IPV4 = 0x0800;
const bit<8> PROTOCOL_UDP = 17;

header ethernet_t {
    mac_t dst_addr;
    mac_t src_addr;
    bit<16> ether_type;
}

header ipv4_h {
    bit<4> version;
    bit<4> ihl;
    bit<8> diffserv;
    bit<16> total_length;
    bit<16> identification;
    bit<3> flags;
    bit<13> fragment_offset;
    bit<8> ttl;
    bit<8> protocol;
    bit<16> checksum;
    ipv4_t src_addr;
    ipv4_t dst_addr;
}

header udp_t {
    bit<16> src_port;
    bit<16> dst_port;
    bit<16> length;
    bit<16> checksum;
}

struct headers_t {
    ethernet_t ethernet;
    ipv4_h ipv4;
    udp_t udp;
}

struct metadata_t {
    next_hop_t next_hop;
    bit<16> src_port;
    bit<16> dst_port;
}

parser L3Parser(packet_in packet, out headers_t hdr, inout metadata_t meta, inout standard_metadata_t standard_metadata) {
    state start {
        meta = { 0, 0, 0 };
        packet.extract(hdr.ethernet);
        transition select(hdr.ethernet.ether_type) {
            ETHERTYPE_IPV4: parse_ipv4;
            default: accept;
        }
    }

    state parse_ipv4 {
        packet.extract(hdr.ipv4);
        transition select(hdr.ipv4.protocol) {
            PROTOCOL_UDP: parse_udp;
            default: accept;
        }
    }

    state parse_udp {
        packet.extract(hdr.udp);
        meta.src_port = hdr.udp.src_port;
        meta.dst_port = hdr.udp.dst_port;
        transition accept;
    }
}

control L3VerifyChecksum(inout headers_t hdr, inout metadata_t meta) {
    apply {
        verify_checksum(hdr.ipv4.isValid(),
                        { hdr.ipv4.version, hdr.ipv4.ihl, hdr.ipv4.diffserv, hdr.ipv4.total_length,
                          hdr.ipv4.identification, hdr.ipv4.flags, hdr.ipv4.fragment_offset, hdr.ipv4.ttl,
                          hdr.ipv4.protocol, hdr.ipv4.src_addr, hdr.ipv4.dst_addr },
                        hdr.ipv4.checksum, HashAlgorithm.csum16);
    }
}

control L3Ingress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t standard_metadata) {
    direct_counter(CounterType.packets_and_bytes) acl_hits;
    bool denied = false;

    action set_next_hop(next_hop_t next_hop) {
        meta.next_hop = next_hop;
    }

    action send(port_t port, mac_t address) {
        standard_metadata.egress_spec = port;
        hdr.ethernet.src_addr = hdr.ethernet.dst_addr;
        hdr.ethernet.dst_addr = address;
        hdr.ipv4.ttl = hdr.ipv4.ttl - 1;
    }

    action drop() {
        mark_to_drop(standard_metadata);
    }

    action permit() {
        acl_hits.count();
    }

    action deny() {
        acl_hits.count();
        denied = true;
    }

    action set_class(bit<8> class) {
        hdr.ipv4.diffserv = class;
    }

    // An entry: packets to these addresses go to this next hop. A miss: dropped.
    table route {
        key = { hdr.ipv4.dst_addr: lpm @name("destination"); }
        actions = { set_next_hop; @defaultonly drop; }
        const default_action = drop();
        size = 65536;
    }

    // An entry: the next hop has this address on this port. A miss: dropped.
    table neighbour {
        key = { meta.next_hop: exact @name("next_hop"); }
        actions = { send; @defaultonly drop; }
        const default_action = drop();
        size = 65536;
    }

    // An entry: such packets pass, or not. A miss: they pass.
    table acl {
        key = {
            hdr.ipv4.src_addr: ternary @name("source");
            hdr.ipv4.dst_addr: ternary @name("destination");
            hdr.ipv4.protocol: ternary @name("protocol");
            meta.dst_port: ternary @name("port");
        }
        actions = { permit; deny; @defaultonly NoAction; }
        const default_action = NoAction();
        counters = acl_hits;
        size = 65536;
    }

    // An entry: the class of service of a range of ports, for all protocols or for one. A miss: left as it is.
    table service {
        key = {
            hdr.ipv4.protocol: optional @name("protocol");
            meta.dst_port: range @name("ports");
        }
        actions = { set_class; @defaultonly NoAction; }
        const default_action = NoAction();
        size = 4096;
    }

    apply {
        if (!hdr.ipv4.isValid() || hdr.ipv4.ttl <= 1 || standard_metadata.checksum_error == 1) {
            drop();
            return;
        }
        acl.apply();
        if (denied) {
            drop();
            return;
        }
        service.apply();
        if (route.apply().hit) {
            neighbour.apply();
        }
    }
}

control L3Egress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t standard_metadata) {
    apply { }
}

control L3ComputeChecksum(inout headers_t hdr, inout metadata_t meta) {
    apply {
        update_checksum(hdr.ipv4.isValid(),
                        { hdr.ipv4.version, hdr.ipv4.ihl, hdr.ipv4.diffserv, hdr.ipv4.total_length,
                          hdr.ipv4.identification, hdr.ipv4.flags, hdr.ipv4.fragment_offset, hdr.ipv4.ttl,
                          hdr.ipv4.protocol, hdr.ipv4.src_addr, hdr.ipv4.dst_addr },
                        hdr.ipv4.checksum, HashAlgorithm.csum16);
    }
}

control L3Deparser(packet_out packet, in headers_t hdr) {
    apply {
        packet.emit(hdr.ethernet);
        packet.emit(hdr.ipv4);
        packet.emit(hdr.udp);
    }
}

V1Switch(L3Parser(), L3VerifyChecksum(), L3Ingress(), L3Egress(), L3ComputeChecksum(), L3Deparser()) main;
