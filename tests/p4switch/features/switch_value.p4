// switch over a number and over an enum.
#include <core.p4>
#include <v1model.p4>

header h_t { bit<8> a; bit<8> r; bit<8> k; }
struct headers_t { h_t h; }
struct metadata_t { }

parser P(packet_in packet, out headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    state start { packet.extract(hdr.h); transition accept; }
}

enum Kind { SMALL, BIG }

control MyIngress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    apply {
        sm.egress_spec = 1;
        Kind kind = hdr.h.a > 0x10 ? Kind.BIG : Kind.SMALL;
        switch (hdr.h.a) {
            1: { hdr.h.r = 0x11; }
            2:
            3: { hdr.h.r = 0x23; }
            default: { hdr.h.r = 0xdd; }
        }
        switch (kind) {
            Kind.BIG: { hdr.h.k = 1; }
            Kind.SMALL: { hdr.h.k = 2; }
        }
    }
}

#include "skeleton.p4"
