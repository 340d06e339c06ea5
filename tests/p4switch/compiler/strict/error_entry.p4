#include <core.p4>
#include <v1model.p4>

header h_t { bit<8> a; bit<16> b; bit<512> wide; }
struct headers_t { h_t h; h_t[2] stack; }
struct metadata_t { bit<8> x; bit<8> y; bool flag; error problem; }
parser P(packet_in packet, out headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    state start { packet.extract(hdr.h); transition accept; }
}

control MyIngress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    table t {
        key = { meta.problem : exact; meta.flag : optional; }
        actions = { NoAction; }
        default_action = NoAction();
        const entries = { (error.NoError, _) : NoAction(); }
    }
    table u {
        key = { meta.flag : optional; }
        actions = { NoAction; }
        default_action = NoAction();
        const entries = { true : NoAction(); _ : NoAction(); }
    }
    apply { t.apply(); u.apply(); }
}

#include "skeleton.p4"
