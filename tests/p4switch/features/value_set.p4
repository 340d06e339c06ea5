// A parser value set that the control plane fills.
#include <core.p4>
#include <v1model.p4>

header h_t { bit<16> kind; bit<8> r; }
struct headers_t { h_t h; }
struct metadata_t { }

parser P(packet_in packet, out headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    value_set<bit<16>>(4) kinds;
    state start {
        packet.extract(hdr.h);
        transition select(hdr.h.kind) { kinds: known; 0xaaaa: fixed; default: accept; }
    }
    state known { hdr.h.r = 1; transition accept; }
    state fixed { hdr.h.r = 2; transition accept; }
}

control MyIngress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {

    apply { sm.egress_spec = 1; }
}

#include "skeleton.p4"
