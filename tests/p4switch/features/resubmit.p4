// The original packet goes through ingress again with the metadata of the field list.
#include <core.p4>
#include <v1model.p4>

header h_t { bit<8> a; bit<8> r; }
struct headers_t { h_t h; }
struct metadata_t { @field_list(2) bit<8> kept; bit<8> lost; }

parser P(packet_in packet, out headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    state start { packet.extract(hdr.h); transition accept; }
}

control MyIngress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    apply {
        sm.egress_spec = 1;
        if (sm.instance_type == 0) {
            meta.kept = hdr.h.a;
            meta.lost = hdr.h.a;
            hdr.h.a = 0xee;
            resubmit_preserving_field_list(2);
        } else {
            hdr.h.r = meta.kept + meta.lost;
        }
    }
}

#include "skeleton.p4"
