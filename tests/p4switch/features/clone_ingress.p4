// MyIngress to egress: the clone is the packet as it came, with the metadata of the field list.
#include <core.p4>
#include <v1model.p4>

header h_t { bit<8> a; bit<8> r; }
struct headers_t { h_t h; }
struct metadata_t { @field_list(1) bit<8> kept; bit<8> lost; }

parser P(packet_in packet, out headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    state start { packet.extract(hdr.h); transition accept; }
}

control MyIngress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    apply {
        sm.egress_spec = 1;
        meta.kept = 5;
        meta.lost = 6;
        hdr.h.a = 0xaa;
        clone_preserving_field_list(CloneType.I2E, 7, 1);
        meta.kept = 9;
    }
}

control MyEgress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    apply { if (sm.instance_type == 1) { hdr.h.r = meta.kept + (meta.lost << 4); } }
}

#define EGRESS MyEgress
#include "skeleton.p4"
