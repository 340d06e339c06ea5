#include <core.p4>
#include <v1model.p4>

header h_t { bit<8> a; }
struct headers_t { h_t h; }
struct metadata_t { }

parser P(packet_in packet, out headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    value_set<bit<8>>(0x20000000) kinds;
    state start { packet.extract(hdr.h); transition select(hdr.h.a) { kinds: accept; default: accept; } }
}

control MyIngress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    register<bit<8>>(0xffffffff) cells;
    table t { key = { hdr.h.a: exact; } actions = { NoAction; } size = 1000000000000; }
    apply { t.apply(); cells.write(0, hdr.h.a + 1 + 2 + 3); }
}

#include "skeleton.p4"
