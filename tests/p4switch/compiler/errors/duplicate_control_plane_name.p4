#include <core.p4>
#include <v1model.p4>

header h_t { bit<8> a; bit<16> b; int<8> s; }
struct headers_t { h_t h; h_t[2] stack; }
struct metadata_t { bool flag; }

parser P(packet_in packet, out headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    state start { packet.extract(hdr.h); transition accept; }
}

control MyIngress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    action first() { hdr.h.a = 1; }
    @name("first") action second() { hdr.h.a = 2; }
    @name(".t") table one { key = { hdr.h.a : exact; } actions = { first; } default_action = first(); }
    @name(".t") table two { key = { hdr.h.a : exact; } actions = { second; } default_action = second(); }
    @name("c") counter(4, CounterType.packets) packets;
    @name("c") counter(4, CounterType.bytes) bytes;
    apply { one.apply(); two.apply(); packets.count(0); bytes.count(0); }
}

#include "skeleton.p4"
