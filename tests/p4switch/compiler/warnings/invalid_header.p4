#include <core.p4>
#include <v1model.p4>

header h_t { bit<8> a; bit<16> b; }
header_union u_t { h_t first; h_t second; }
struct headers_t { h_t h; h_t i; h_t never; h_t added; h_t[2] stack; u_t u; }
struct metadata_t { bool flag; }

parser P(packet_in packet, out headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    state start {
        packet.extract(hdr.h);
        transition select(hdr.h.a) { 1: more; 2: wrong; default: last; }
    }
    state more { packet.extract(hdr.i); packet.extract(hdr.u.first); transition last; }
    state wrong { transition select(hdr.stack[0].a) { 0: more; default: accept; } }
    state last { transition select(hdr.i.a) { 0: accept; default: reject; } }
}

control MyIngress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    apply {
        hdr.never.a = 1;
        if (hdr.i.isValid()) {
            hdr.i.a = 1;
        } else {
            hdr.i.a = 2;
        }
        if (meta.flag) {
            hdr.h.setInvalid();
        }
        hdr.h.a = 3;
        hdr.u.second.setValid();
        hdr.u.first.a = 4;
        hdr.added = { 5, 6 };
        hdr.added.a = hdr.added.a + 1;
    }
}

control MyEgress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    apply {
        hdr.added.a = 1;
        hdr.never.a = 2;
    }
}
#define EGRESS MyEgress

#include "skeleton.p4"
