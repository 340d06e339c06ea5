// Validity of a header as a key, which the control plane knows as hdr.h.$valid$.
#include <core.p4>
#include <v1model.p4>

header h_t { bit<8> a; }
header o_t { bit<8> r; }
struct headers_t { o_t o; h_t h; }
struct metadata_t { }

parser P(packet_in packet, out headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    state start { packet.extract(hdr.o); transition select(hdr.o.r) { 1: more; default: accept; } }
    state more { packet.extract(hdr.h); transition accept; }
}

control MyIngress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    action set(bit<8> r) { hdr.o.r = r; }
    table t {
        key = { hdr.o.r : exact; hdr.h.isValid() : exact; }
        actions = { set; NoAction; }
    }
    apply { sm.egress_spec = 1; t.apply(); }
}

#include "skeleton.p4"
