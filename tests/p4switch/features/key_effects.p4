// Keys and bound arguments with side effects: keys are evaluated once, left to right, at each apply; the arguments of an action
// only when it was chosen.
#include <core.p4>
#include <v1model.p4>

header h_t { bit<8> a; bit<8> b; bit<8> c; }
struct headers_t { h_t h; }
struct metadata_t { }

bit<8> next(inout bit<8> x) {
    x = x + 1;
    return x;
}

parser P(packet_in packet, out headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    state start { packet.extract(hdr.h); transition accept; }
}

control MyIngress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    action keep() { }
    action sum(in bit<8> x, in bit<8> y, bit<8> data) { hdr.h.c = x + y + data; }
    table known {
        key = { hdr.h.b: exact; }
        actions = { keep; NoAction; }
    }
    table t {
        key = {
            hdr.h.a: exact @name("before");
            next(hdr.h.a): exact @name("after");
            known.apply().hit: exact @name("known");
        }
        actions = { sum(next(hdr.h.b), next(hdr.h.b)); NoAction; }
        default_action = NoAction;
    }
    apply {
        sm.egress_spec = 1;
        t.apply();
        if (hdr.h.c == 0xff) {
            t.apply();
        }
    }
}

#include "skeleton.p4"
