// Arguments are evaluated from left to right: an inout argument has the value and the place that it had then.
#include <core.p4>
#include <v1model.p4>

header h_t { bit<8> op; bit<8> a; bit<8> b; bit<8> c; }
header e_t { bit<8> v; }
struct headers_t { h_t h; e_t[3] s; }
struct metadata_t { }

bit<8> bump(inout bit<8> x) { x = x + 1; return x; }
bit<8> mix(inout bit<8> x, in bit<8> y) { bit<8> old = x; x = x + 0x10; return old + y; }
bit<8> both(inout bit<8> x, in bit<8> y, out bit<8> z) { z = x + y; x = 0; return y; }
bit<8> list3(in bit<8> x, in bit<8> y, in bit<8> z) { return (x << 4) + (y << 2) + z; }

control Add(inout bit<8> x, in bit<8> y) { apply { x = x + y; } }

parser P(packet_in packet, out headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    state start {
        packet.extract(hdr.h);
        packet.extract(hdr.s.next);
        packet.extract(hdr.s.next);
        packet.extract(hdr.s.next);
        transition accept;
    }
}

control MyIngress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    Add() add;
    action set(inout bit<8> x, in bit<8> y, in bit<8> z) { x = x + y; hdr.h.c = z; }
    apply {
        sm.egress_spec = 1;
        switch (hdr.h.op) {
            1: { hdr.h.c = mix(hdr.h.a, bump(hdr.h.a)); }
            2: { hdr.h.c = both(hdr.s[hdr.h.a].v, bump(hdr.h.a), hdr.h.b); }
            3: { hdr.h.c = list3(hdr.h.a, bump(hdr.h.a), hdr.h.a); }
            4: { set(hdr.h.a, bump(hdr.h.a), hdr.h.a); }
            5: { add.apply(hdr.h.a, bump(hdr.h.a)); }
            6: { hdr.s[bump(hdr.h.a)].v = hdr.h.a; }
            7: { hdr.h.c = hdr.h.a + bump(hdr.h.a) + hdr.h.a; }
        }
    }
}

#include "skeleton.p4"
