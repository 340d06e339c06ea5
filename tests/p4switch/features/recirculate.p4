// The packet as egress leaves it goes through everything again.
#include <core.p4>
#include <v1model.p4>

header h_t { bit<8> a; bit<8> r; }
struct headers_t { h_t h; }
struct metadata_t { @field_list(1) bit<8> kept; }

parser P(packet_in packet, out headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    state start { packet.extract(hdr.h); transition accept; }
}

control MyIngress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    apply { sm.egress_spec = 1; if (sm.instance_type == 4) { hdr.h.r = meta.kept; } }
}

control MyEgress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    apply {
        if (meta.kept == 0) { meta.kept = 0x44; hdr.h.a = hdr.h.a + 1; recirculate_preserving_field_list(1); }
    }
}

#define EGRESS MyEgress
#include "skeleton.p4"
