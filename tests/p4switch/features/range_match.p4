// Ranges are inclusive; left out, any value matches.
#include <core.p4>
#include <v1model.p4>

header h_t { bit<16> a; bit<8> b; }
struct headers_t { h_t h; }
struct metadata_t { }

parser P(packet_in packet, out headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    state start { packet.extract(hdr.h); transition accept; }
}

control MyIngress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    action forward(bit<9> port) { sm.egress_spec = port; }
    action drop() { mark_to_drop(sm); }
    table t {
        key = { hdr.h.a: range; hdr.h.b: range; }
        actions = { forward; drop; }
        default_action = forward(9);
    }
    apply { t.apply(); }
}

#include "skeleton.p4"
