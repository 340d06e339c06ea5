// Slices as values and as l-values, concatenation.
#include <core.p4>
#include <v1model.p4>

header h_t { bit<16> a; bit<8> b; bit<24> c; }
struct headers_t { h_t h; }
struct metadata_t { }

parser P(packet_in packet, out headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    state start { packet.extract(hdr.h); transition accept; }
}

control MyIngress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    apply {
        sm.egress_spec = 1;
        hdr.h.c = hdr.h.a[11:4] ++ hdr.h.b ++ hdr.h.a[3:0] ++ 4w9;
        hdr.h.a[11:4] = hdr.h.b;
        hdr.h.b[7:7] = 1;
        hdr.h.b[6:4][1:0] = 0;
    }
}

#include "skeleton.p4"
