// Keys and bound arguments with side effects: a key's are executed before each lookup, an argument's when its action is.
#include <core.p4>
#include <v1model.p4>

header h_t { bit<8> a; bit<8> b; bit<8> c; bit<8> d; }
header e_t { bit<8> v; }
struct headers_t { h_t h; e_t[2] s; }
struct metadata_t { }

bit<8> bump(inout bit<8> x) { x = x + 1; return x; }

parser P(packet_in packet, out headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    state start { packet.extract(hdr.h); packet.extract(hdr.s.next); packet.extract(hdr.s.next); transition accept; }
}

control MyIngress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    bit<8> local = 0;
    action add(inout bit<8> x, in bit<8> y) { local = 0x40; x = x + y; }
    action put(inout bit<8> x) { x = x + 1; hdr.h.b = 0; }
    table inner {
        key = { hdr.h.d: exact; }
        actions = { NoAction; }
        const entries = { 1: NoAction(); }
    }
    table t {
        key = { hdr.h.a: exact @name("before"); bump(hdr.h.a): exact @name("bumped"); inner.apply().hit: exact @name("hit"); }
        actions = { add(local, bump(hdr.h.b)); put(hdr.s[hdr.h.b].v); NoAction; }
        const entries = {
            (1, 2, true): add(local, bump(hdr.h.b));
            (2, 3, true): put(hdr.s[hdr.h.b].v);
        }
        default_action = NoAction;
    }
    apply {
        sm.egress_spec = 1;
        if (!t.apply().hit) { hdr.h.c = 0xff; }
        if (hdr.h.d == 1) { t.apply(); }
        hdr.h.d = local;
    }
}

#include "skeleton.p4"
