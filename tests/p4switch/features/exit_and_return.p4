// exit ends the whole ingress, from an action too, and out arguments are copied all the same.
#include <core.p4>
#include <v1model.p4>

header h_t { bit<8> a; bit<8> b; bit<8> c; }
struct headers_t { h_t h; }
struct metadata_t { }

parser P(packet_in packet, out headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    state start { packet.extract(hdr.h); transition accept; }
}

control MyIngress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    action stop(inout bit<8> v) { v = 0x55; exit; }
    table t {
        key = { hdr.h.a: exact; }
        actions = { stop(hdr.h.b); NoAction; }
        default_action = NoAction;
    }
    apply {
        sm.egress_spec = 1;
        t.apply();
        hdr.h.c = 1;
        if (hdr.h.a == 2) { stop(hdr.h.b); }
        if (hdr.h.a == 3) { return; }
        if (hdr.h.a == 4) { exit; }
        hdr.h.c = 2;
    }
}

#include "skeleton.p4"
