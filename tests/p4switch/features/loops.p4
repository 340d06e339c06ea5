// for over a range and with three parts, break and continue; a loop without end is cut.
#include <core.p4>
#include <v1model.p4>

header h_t { bit<8> n; bit<8> sum; bit<8> odd; }
struct headers_t { h_t h; }
struct metadata_t { }

parser P(packet_in packet, out headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    state start { packet.extract(hdr.h); transition accept; }
}

control MyIngress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    apply {
        sm.egress_spec = 1;
        hdr.h.sum = 0;
        for (bit<8> i in 8w1 .. hdr.h.n) { hdr.h.sum = hdr.h.sum + i; }
        hdr.h.odd = 0;
        for (bit<8> j = 0; j < hdr.h.n; j = j + 1) {
            if (j[0:0] == 0) { continue; }
            if (j == 7) { break; }
            hdr.h.odd = hdr.h.odd + 1;
        }
        if (hdr.h.n == 0xfe) {
            for (bit<8> k = 0; k == 0; k = k & 0) { hdr.h.odd = 0xee; }
        }
    }
}

#include "skeleton.p4"
