// By constants and values; the width or more gives zero, or copies of the sign.
#include <core.p4>
#include <v1model.p4>

header h_t { bit<8> a; bit<8> n; bit<8> l; bit<8> r; int<8> s; bit<8> k; }
struct headers_t { h_t h; }
struct metadata_t { }

parser P(packet_in packet, out headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    state start { packet.extract(hdr.h); transition accept; }
}

control MyIngress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    apply {
        sm.egress_spec = 1;
        hdr.h.l = hdr.h.a << hdr.h.n;
        hdr.h.r = hdr.h.a >> hdr.h.n;
        hdr.h.s = (int<8>) hdr.h.a >> hdr.h.n;
        hdr.h.k = hdr.h.a >> 3 << 1;
    }
}

#include "skeleton.p4"
