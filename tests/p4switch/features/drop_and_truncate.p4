// A dropped packet can be given a port again; the smallest of several truncations counts.
#include <core.p4>
#include <v1model.p4>

header h_t { bit<8> a; }
struct headers_t { h_t h; }
struct metadata_t { }

parser P(packet_in packet, out headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    state start { packet.extract(hdr.h); transition accept; }
}

control MyIngress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    apply {
        sm.egress_spec = 1;
        if (hdr.h.a == 1) { mark_to_drop(sm); }
        if (hdr.h.a == 2) { mark_to_drop(sm); sm.egress_spec = 2; }
        if (hdr.h.a == 3) { truncate(5); truncate(3); truncate(4); }
    }
}

#include "skeleton.p4"
