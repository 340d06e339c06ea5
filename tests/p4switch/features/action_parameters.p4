// Directions: in, out and inout bound by the table or the caller, data from the control plane.
#include <core.p4>
#include <v1model.p4>

header h_t { bit<8> a; bit<8> b; bit<8> c; }
struct headers_t { h_t h; }
struct metadata_t { }

parser P(packet_in packet, out headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    state start { packet.extract(hdr.h); transition accept; }
}

control MyIngress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t sm) {
    action sum(in bit<8> x, inout bit<8> y, out bit<8> z, bit<8> data) { z = x + data; y = y + 1; }
    action swap(inout bit<8> x, inout bit<8> y) { bit<8> t = x; x = y; y = t; }
    table t {
        key = { hdr.h.a: exact; }
        actions = { sum(hdr.h.a, hdr.h.b, hdr.h.c); NoAction; }
        default_action = NoAction;
    }
    apply {
        sm.egress_spec = 1;
        if (t.apply().miss) {
            swap(hdr.h.b, hdr.h.c);
            sum(hdr.h.b, hdr.h.b, hdr.h.a, 3);
        }
    }
}

#include "skeleton.p4"
