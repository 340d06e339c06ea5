// 256 bits: arithmetic, comparison, shifts, slices.
#include <core.p4>
#include <v1model.p4>

header h_t { bit<256> a; bit<256> b; bit<8> less; bit<32> part; }
struct headers_t { h_t h; }
struct metadata_t { }

parser P(packet_in packet, out headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    state start { packet.extract(hdr.h); transition accept; }
}

control MyIngress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    apply {
        sm.egress_spec = 1;
        hdr.h.less = (hdr.h.a < hdr.h.b) ? 8w1 : 0;
        hdr.h.part = hdr.h.a[207:176];
        hdr.h.b = (hdr.h.a + hdr.h.b) << 4;
        hdr.h.a[255:248] = 0xee;
    }
}

#include "skeleton.p4"
