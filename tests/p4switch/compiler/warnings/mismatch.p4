#include <core.p4>
#include <v1model.p4>

header h_t { bit<8> a; bit<16> b; }
struct headers_t { h_t h; h_t i; h_t[2] stack; }
struct metadata_t { bit<8> x; bool flag; }

parser P(packet_in packet, out headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    state start {
        packet.extract(hdr.h);
        transition select(hdr.h.a) { 1: more; default: accept; }
    }
    state more { packet.extract(hdr.i); transition accept; }
}

control MyIngress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    table t {
        key = { hdr.h.a : ternary; 8w3 : exact; }
        actions = { NoAction; }
        default_action = NoAction();
        const entries = { (0x11 &&& 0xf0, 3) : NoAction(); (0x20 &&& 0xf0, 3) : NoAction(); }
    }
    apply {
        hdr.h.a = -1;
        t.apply();
    }
}

#include "skeleton.p4"
