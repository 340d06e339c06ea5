// Copies carry validity; comparison of headers; setInvalid and emit.
#include <core.p4>
#include <v1model.p4>

header h_t { bit<8> a; bit<8> b; }
struct headers_t { h_t x; h_t y; h_t z; }
struct metadata_t { }

parser P(packet_in packet, out headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    state start { packet.extract(hdr.x); transition select(hdr.x.a) { 0: accept; default: more; } }
    state more { packet.extract(hdr.y); transition accept; }
}

control MyIngress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {

    apply {
        sm.egress_spec = 1;
        bool same = hdr.x == hdr.y;
        hdr.z = hdr.y;
        hdr.y.setInvalid();
        if (same) { hdr.z.b = 0xee; }
        if (hdr.y == hdr.z) { hdr.x.b = 0xff; }
    }
}

#include "skeleton.p4"
