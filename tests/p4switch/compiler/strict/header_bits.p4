#include <core.p4>
#include <v1model.p4>

header h_t { bit<8> a; }
header odd_t { bit<5> a; bit<2> b; }
struct headers_t { h_t h; }
struct metadata_t { }

parser P(packet_in packet, out headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    state start { packet.extract(hdr.h); transition accept; }
}

control MyIngress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    apply {
        odd_t odd;
        odd = { 1, 2 };
        hdr.h.a = (bit<8>) odd.a;
    }
}

#include "skeleton.p4"
