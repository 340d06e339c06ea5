#include <core.p4>
#include <v1model.p4>

header h_t { bit<8> a; bit<16> b; bit<512> wide; }
struct headers_t { h_t h; h_t[2] stack; }
struct metadata_t { bit<8> x; bit<8> y; bool flag; error problem; }
parser P(packet_in packet, out headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    state start { packet.extract(hdr.h); transition accept; }
}

control MyIngress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    action set(bool flag, bit<8> value) { meta.flag = flag; meta.x = value; }
    table t {
        key = { hdr.h.a : exact; }
        actions = { set; }
        default_action = set(false, 0);
    }
    apply { t.apply(); }
}

#include "skeleton.p4"
