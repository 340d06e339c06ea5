// A digest carries the values at the time of the call.
#include <core.p4>
#include <v1model.p4>

header h_t { bit<8> a; bit<12> b; bit<4> c; }
struct headers_t { h_t h; }
struct metadata_t { }

parser P(packet_in packet, out headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    state start { packet.extract(hdr.h); transition accept; }
}

struct note_t { bit<8> a; bit<12> b; bool flag; }

control MyIngress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    apply {
        sm.egress_spec = 1;
        if (hdr.h.a != 0) {
            digest<note_t>(1, { hdr.h.a, hdr.h.b, true });
            hdr.h.a = 0;
        }
    }
}

#include "skeleton.p4"
