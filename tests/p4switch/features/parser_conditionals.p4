// Sub-parsers applied inside conditionals and blocks of a state, with what follows them.
#include <core.p4>
#include <v1model.p4>

header h_t { bit<8> op; bit<8> n; }
header e_t { bit<8> v; }
struct headers_t { h_t h; e_t a; e_t b; e_t c; }
struct metadata_t { bit<8> seen; }

parser One(packet_in packet, out e_t e) {
    state start { packet.extract(e); transition select(e.v) { 0xff: reject; default: accept; } }
}

parser P(packet_in packet, out headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    One() one;
    One() once;
    state start {
        packet.extract(hdr.h);
        bit<8> count = 1;
        if (hdr.h.op == 1) {
            one.apply(packet, hdr.a);
            count = count + hdr.a.v;
            if (hdr.a.v == 2) { count = 0x20; one.apply(packet, hdr.b); } else { count = count + 1; }
        } else if (hdr.h.op == 2) {
            one.apply(packet, hdr.c);
        } else if (hdr.h.op == 3) {
            once.apply(packet, hdr.c);
        }
        {
            count = count + 1;
            if (hdr.h.n == 1) { One.apply(packet, hdr.c); }
        }
        meta.seen = count;
        transition select(count) { 0x70: reject; default: accept; }
    }
}

control MyIngress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    apply {
        sm.egress_spec = 1;
        hdr.h.n = meta.seen;
        if (sm.parser_error != error.NoError) { hdr.h.op = 0xee; }
    }
}

#include "skeleton.p4"
