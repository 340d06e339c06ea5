// Lists within the values of a select, and within its keysets.
#include <core.p4>
#include <v1model.p4>

header h_t { bit<8> a; bit<8> b; bit<8> c; bit<8> r; }
struct headers_t { h_t h; }
struct metadata_t { }

parser P(packet_in packet, out headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    state start {
        packet.extract(hdr.h);
        transition select(hdr.h.a, { hdr.h.b, { hdr.h.c } }) {
            (1, { 2, { 3 } }): first;
            (1, { 9, { 5 } }): second;
            (2, { 7, { 0x33 } }): third;
            (2, default): fourth;
            (3, { 1, { 0x33 } }): first;
            default: accept;
        }
    }
    state first { hdr.h.r = 1; transition accept; }
    state second { hdr.h.r = 2; transition accept; }
    state third { hdr.h.r = 3; transition accept; }
    state fourth { hdr.h.r = 4; transition accept; }
}

control MyIngress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    apply { sm.egress_spec = 1; }
}

#include "skeleton.p4"
