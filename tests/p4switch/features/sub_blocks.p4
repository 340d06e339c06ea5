// A parser that applies a parser, a control that applies a control twice, return in the inner one.
#include <core.p4>
#include <v1model.p4>

header h_t { bit<8> a; bit<8> b; }
struct headers_t { h_t x; h_t y; }
struct metadata_t { }

parser Pair(packet_in packet, out h_t h) {
    state start { packet.extract(h); transition accept; }
}

parser P(packet_in packet, out headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    Pair() pair;
    state start { pair.apply(packet, hdr.x); transition select(hdr.x.a) { 0: accept; default: second; } }
    state second { pair.apply(packet, hdr.y); transition accept; }
}

control Bump(inout h_t h, in bit<8> by)(bit<8> limit) {
    apply {
        if (h.b >= limit) { return; }
        h.b = h.b + by;
    }
}

control MyIngress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {

    Bump(0x80) low;
    Bump(0xf0) high;
    apply {
        sm.egress_spec = 1;
        low.apply(hdr.x, 1);
        if (hdr.y.isValid()) { high.apply(hdr.y, hdr.x.b); }
    }
}

#include "skeleton.p4"
