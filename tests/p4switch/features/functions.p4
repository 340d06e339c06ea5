// Functions with in, out and inout parameters; copies in and out in order.
#include <core.p4>
#include <v1model.p4>

header h_t { bit<8> a; bit<8> b; bit<8> c; }
struct headers_t { h_t h; }
struct metadata_t { }

parser P(packet_in packet, out headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    state start { packet.extract(hdr.h); transition accept; }
}

bit<8> take(inout bit<8> v) { bit<8> old = v; v = 0; return old; }
bit<8> twice(in bit<8> v, out bit<8> double) { double = v + v; if (v > 3) { return double + 1; } return v; }
void step(in bit<8> from, inout bit<8> to) { to = from + 1; }

control MyIngress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    apply {
        sm.egress_spec = 1;
        bit<8> kept = take(hdr.h.a);
        hdr.h.c = twice(kept, hdr.h.b);
        step(hdr.h.a, hdr.h.a);
    }
}

#include "skeleton.p4"
