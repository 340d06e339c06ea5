// random stays within its bounds.
#include <core.p4>
#include <v1model.p4>

header h_t { bit<8> lo; bit<8> hi; bit<8> ok; }
struct headers_t { h_t h; }
struct metadata_t { }

parser P(packet_in packet, out headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    state start { packet.extract(hdr.h); transition accept; }
}

control MyIngress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    apply {
        sm.egress_spec = 1;
        hdr.h.ok = 1;
        for (bit<8> i in 8w1 .. 100) {
            bit<8> v;
            random(v, hdr.h.lo, hdr.h.hi);
            if (v < hdr.h.lo || v > hdr.h.hi) { hdr.h.ok = 0; }
        }
    }
}

#include "skeleton.p4"
