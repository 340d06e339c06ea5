// Each replica of a group goes through egress with its own port and instance.
#include <core.p4>
#include <v1model.p4>

header h_t { bit<8> a; bit<8> r; bit<8> p; }
struct headers_t { h_t h; }
struct metadata_t { }

parser P(packet_in packet, out headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    state start { packet.extract(hdr.h); transition accept; }
}

control MyIngress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    apply { sm.mcast_grp = (bit<16>) hdr.h.a; }
}

control MyEgress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    apply { hdr.h.r = (bit<8>) sm.egress_rid; hdr.h.p = (bit<8>) sm.egress_port; }
}

#define EGRESS MyEgress
#include "skeleton.p4"
