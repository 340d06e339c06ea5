// apply().hit and .miss as conditions; a negation of them.
#include <core.p4>
#include <v1model.p4>

header h_t { bit<8> a; bit<8> r; }
struct headers_t { h_t h; }
struct metadata_t { }

parser P(packet_in packet, out headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    state start { packet.extract(hdr.h); transition accept; }
}

control MyIngress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    table t {
        key = { hdr.h.a: exact; }
        actions = { NoAction; }
    }
    table u {
        key = { hdr.h.r: exact; }
        actions = { NoAction; }
    }
    apply {
        sm.egress_spec = 1;
        if (t.apply().hit) { hdr.h.r = 0x11; } else { hdr.h.r = 0x22; }
        if (u.apply().miss) { hdr.h.r = hdr.h.r + 1; }
    }
}

#include "skeleton.p4"
