// The longest prefix wins, whatever the order of insertion.
#include <core.p4>
#include <v1model.p4>

header h_t { bit<32> a; }
struct headers_t { h_t h; }
struct metadata_t { }

parser P(packet_in packet, out headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    state start { packet.extract(hdr.h); transition accept; }
}

control MyIngress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    action forward(bit<9> port) { sm.egress_spec = port; }
    action drop() { mark_to_drop(sm); }
    table t {
        key = { hdr.h.a: lpm; }
        actions = { forward; drop; }
        default_action = forward(9);
    }
    apply { t.apply(); }
}

#include "skeleton.p4"
