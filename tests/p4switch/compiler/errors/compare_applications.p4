#include <core.p4>
#include <v1model.p4>

header h_t { bit<8> a; bit<16> b; int<8> s; }
struct headers_t { h_t h; }
struct metadata_t { bool flag; }

parser P(packet_in packet, out headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    state start { packet.extract(hdr.h); transition accept; }
}

control MyIngress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    table t { actions = { NoAction; } }
    apply { if (t.apply() == t.apply()) { } }
}

#include "skeleton.p4"
