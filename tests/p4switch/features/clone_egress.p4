// MyEgress to egress: the clone has the headers as they are at the end of egress.
#include <core.p4>
#include <v1model.p4>

header h_t { bit<8> a; bit<8> r; }
struct headers_t { h_t h; }
struct metadata_t { }

parser P(packet_in packet, out headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    state start { packet.extract(hdr.h); transition accept; }
}

control MyIngress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    apply { sm.egress_spec = 1; }
}

control MyEgress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    apply {
        if (sm.instance_type == 0) { hdr.h.a = 0xbb; clone(CloneType.E2E, 7); }
        else { hdr.h.r = (bit<8>) sm.instance_type; }
    }
}

#define EGRESS MyEgress
#include "skeleton.p4"
