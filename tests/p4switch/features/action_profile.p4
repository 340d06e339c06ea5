// Members of a profile that several entries share; a group of a selector.
#include <core.p4>
#include <v1model.p4>

header h_t { bit<8> a; bit<8> flow; }
struct headers_t { h_t h; }
struct metadata_t { }

parser P(packet_in packet, out headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    state start { packet.extract(hdr.h); transition accept; }
}

control MyIngress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    action_profile(16) profile;
    action_selector(HashAlgorithm.crc16, 16, 16) selector;
    action forward(bit<9> port) { sm.egress_spec = port; }
    table p { key = { hdr.h.a: exact; } actions = { forward; NoAction; } implementation = profile; }
    table s {
        key = { hdr.h.a: exact; hdr.h.flow: selector; }
        actions = { forward; NoAction; }
        implementation = selector;
    }
    apply { sm.egress_spec = 9; p.apply(); if (hdr.h.a > 9) { s.apply(); } }
}

#include "skeleton.p4"
