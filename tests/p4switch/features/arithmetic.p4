// Modular, saturating, signed and unsigned.
#include <core.p4>
#include <v1model.p4>

header h_t { bit<8> a; bit<8> b; bit<8> r0; bit<8> r1; bit<8> r2; bit<8> r3; bit<8> r4; int<8> r5; int<8> r6; bit<8> r7; bit<8> r8; bit<8> r9; }
struct headers_t { h_t h; }
struct metadata_t { }

parser P(packet_in packet, out headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    state start { packet.extract(hdr.h); transition accept; }
}

control MyIngress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    apply {
        sm.egress_spec = 1;
        hdr.h.r0 = hdr.h.a + hdr.h.b;
        hdr.h.r1 = hdr.h.a - hdr.h.b;
        hdr.h.r2 = hdr.h.a * hdr.h.b;
        hdr.h.r3 = hdr.h.a |+| hdr.h.b;
        hdr.h.r4 = hdr.h.a |-| hdr.h.b;
        hdr.h.r5 = (int<8>) hdr.h.a |+| (int<8>) hdr.h.b;
        hdr.h.r6 = (int<8>) hdr.h.a |-| (int<8>) hdr.h.b;
        hdr.h.r7 = (bit<8>) (bit<1>) ((int<8>) hdr.h.a < (int<8>) hdr.h.b);
        hdr.h.r8 = -hdr.h.a;
        hdr.h.r9 = ~hdr.h.a;
    }
}

#include "skeleton.p4"
