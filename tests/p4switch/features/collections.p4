// for over lists and header stacks, with break and continue; list expressions for stacks.
#include <core.p4>
#include <v1model.p4>

header h_t { bit<8> op; bit<8> a; bit<8> b; }
header e_t { bit<8> v; }
struct headers_t { h_t h; e_t[3] s; }
struct metadata_t { }

parser P(packet_in packet, out headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    state start { packet.extract(hdr.h); transition accept; }
}

control MyIngress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    apply {
        sm.egress_spec = 1;
        bit<8> sum = 0;
        if (hdr.h.op == 1) {
            // The values are those before the first turn.
            for (bit<8> x in (list<bit<8>>) { 1, hdr.h.a, hdr.h.b, 8w4 }) { hdr.h.b = 0; sum = sum + x; }
        } else if (hdr.h.op == 2) {
            for (bit<8> x in (list<bit<8>>) { 1, 2, 3, 4, 5, 6 }) {
                if (x == hdr.h.a) { continue; }
                if (x == hdr.h.b) { break; }
                for (bit<8> y in (list<bit<8>>) { 0x10, 0x20 }) { if (y == 0x20) { break; } sum = sum + y; }
                sum = sum + x;
            }
        } else if (hdr.h.op == 3) {
            hdr.s = { { hdr.h.a }, { v = 2 }, { 3 } };
            for (e_t x in hdr.s) { hdr.s[2].v = 0x70; if (x.isValid()) { sum = sum + x.v; } }
        } else if (hdr.h.op == 4) {
            e_t[3] t = { { 7 }, ... };
            hdr.s = { t[0], {#}, t[0] };
            hdr.s = { hdr.s[1], hdr.s[0], hdr.s[2] };
            for (e_t x in hdr.s) { sum = sum + 1; if (x.isValid()) { sum = sum + x.v; } }
        } else {
            for (bit<8> i in hdr.h.a .. hdr.h.b) { sum = sum + i; }
        }
        hdr.h.b = sum;
    }
}

#include "skeleton.p4"
