#include <core.p4>
#include <v1model.p4>

header h_t { bit<8> a; bit<16> b; }
struct headers_t { h_t h; h_t i; h_t[2] stack; }
struct metadata_t { bit<8> x; bool flag; }
bit<8> one() {
    return 1;
    return 2;
}

parser P(packet_in packet, out headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    state start {
        packet.extract(hdr.h);
        transition select(hdr.h.a) { 1: more; default: accept; }
    }
    state more { packet.extract(hdr.i); transition accept; }
}

control MyIngress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    action stop() {
        exit;
        hdr.h.a = 1;
    }
    table t { key = { hdr.h.a : exact; } actions = { stop; NoAction; } default_action = NoAction(); }
    apply {
        t.apply();
        if (meta.flag) { return; } else { exit; }
        hdr.h.a = one();
    }
}

#include "skeleton.p4"
